package scan

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// largestWindow bounds the memory that a decompressor may want for its history.
const largestWindow = 128 << 20

// open searches what an archive or compressed data holds. Its errors become gaps.
func (f *finder) open(kind container, r io.Reader, fr *frame) {
	if f.over(fr) {
		return
	}
	f.limit = ""
	switch kind {
	case tarFile:
		f.tar(r, fr)
	case zipFile:
		f.zip(newCounter(r), fr)
	default:
		in := newCounter(r)
		out, done, err := decompressor(kind, in)
		inner := *fr
		inner.form, inner.depth = chain(fr.form, kind.String()), fr.depth+1
		if err != nil {
			f.broken(&inner, err)
			return
		}
		defer done()
		if !fr.doc.fixed {
			inner.doc = &document{inner: fr.doc.inner}
		}
		before := len(f.gaps)
		f.stream(&meter{f: f, in: in, out: out}, &inner)
		if kind == gzipFile && len(f.gaps) == before {
			rest := *fr
			rest.doc = &document{inner: fr.doc.inner, fresh: true, fixed: true, offset: fr.doc.offset, line: fr.doc.line, allowed: fr.doc.allowed}
			f.windows(in, &rest)
		}
	}
}

// gzipParts reads gzip data of one or more parts, and nothing of what stands behind the last.
type gzipParts struct {
	in *counter
	z  *gzip.Reader
}

// Read gives decompressed bytes.
func (g *gzipParts) Read(p []byte) (int, error) {
	n, err := g.z.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if head, _ := g.in.r.Peek(3); containerOf(append(bytes.Clone(head), 0, 0, 0)) != gzipFile {
		return n, io.EOF
	}
	if err := g.z.Reset(g.in); err != nil {
		return n, err
	}
	g.z.Multistream(false)
	return n, nil
}

func (k container) String() string {
	return [...]string{gzipFile: "gzip", zipFile: "zip", tarFile: "tar", bzip2File: "bzip2", xzFile: "xz", zstdFile: "zstd", wideText: "utf-16"}[k]
}

func decompressor(kind container, in *counter) (io.Reader, func(), error) {
	nothing := func() {}
	switch kind {
	case gzipFile:
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, nothing, err
		}
		z.Multistream(false)
		return &gzipParts{in: in, z: z}, nothing, nil
	case bzip2File:
		return bzip2.NewReader(in), nothing, nil
	case xzFile:
		if head, err := in.r.Peek(64); !smallDictionary(head) {
			return nil, nothing, errors.Join(stopError(ReasonDictionary), err)
		}
		z, err := xz.NewReader(in)
		return z, nothing, err
	case zstdFile:
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(largestWindow))
		if err != nil {
			return nil, nothing, err
		}
		return z, z.Close, nil
	default:
		return nil, nothing, stopError(ReasonMethod)
	}
}

// smallDictionary looks at the first block of xz data.
func smallDictionary(head []byte) bool {
	const filters = 14
	for i := filters; i+2 < len(head) && i < filters+40; i++ {
		if head[i] == 0x21 && head[i+1] == 1 {
			bits := head[i+2]
			return bits <= 30 // 128 MiB
		}
	}
	return true
}

// member gives the frame of a member of an archive.
func (fr *frame) member(form, name string) *frame {
	inner := name
	switch {
	case name == "":
		inner = fr.doc.inner
	case fr.doc.inner != "":
		inner = fr.doc.inner + "!/" + name
	}
	d := &document{inner: inner}
	if fr.doc.fixed {
		*d = *fr.doc
		d.inner = inner
	}
	return &frame{doc: d, form: chain(fr.form, form), depth: fr.depth + 1}
}

// name searches the name and other short texts of a member.
func (f *finder) name(fr *frame, texts ...string) {
	for _, t := range texts {
		if t != "" {
			w := *fr
			w.text = []byte(t)
			d := *fr.doc
			d.lines, d.fixed, d.offset = newLineCounter(w.text), true, 0
			w.doc = &d
			f.text(&w)
		}
	}
}

func (f *finder) tar(r io.Reader, fr *frame) {
	in := newCounter(r)
	t := tar.NewReader(in)
	for members := 0; ; members++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			f.broken(fr.member("tar", ""), err)
			break
		}
		if members >= f.s.o.Limits.Members {
			f.gap(fr, 0, ReasonMembers)
			return
		}
		m := fr.member("tar", h.Name)
		texts := []string{h.Name, h.Linkname, h.Uname, h.Gname}
		for k, v := range h.PAXRecords {
			texts = append(texts, k, v)
		}
		f.name(m, texts...)
		if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeCont || h.Typeflag == tar.TypeGNUSparse {
			f.stream(t, m)
		}
		if f.over(fr) {
			return
		}
	}
	// Whatever stands behind the end of the archive is no member, and may be looked at all the same.
	rest := fr.member("tar", "")
	rest.doc.fresh = true
	f.windows(in, rest)
}

// The signatures and sizes of records in a zip file.
const (
	zipLocal      = 0x04034b50
	zipDescriptor = 0x08074b50
	zipLocalSize  = 30
)

// zip reads the members of a zip file one after the other, as they stand in it, and never its directory: so it needs no way back, and finds
// members that the directory does not list.
func (f *finder) zip(in *counter, fr *frame) {
	for members := 0; ; members++ {
		sig, err := in.r.Peek(4)
		if err != nil || binary.LittleEndian.Uint32(sig) != zipLocal {
			break
		}
		if members >= f.s.o.Limits.Members {
			f.gap(fr, 0, ReasonMembers)
			return
		}
		if !f.zipMember(in, fr) || f.over(fr) {
			break
		}
	}
	// The directory, comments, and what could not be read as a member.
	rest := fr.member("zip", "")
	rest.doc.fresh = true
	f.windows(in, rest)
}

// zipMember reads one member and reports whether another may follow.
func (f *finder) zipMember(in *counter, fr *frame) bool {
	var head [zipLocalSize]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		f.broken(fr.member("zip", ""), err)
		return false
	}
	le := binary.LittleEndian
	flags, method := le.Uint16(head[6:]), le.Uint16(head[8:])
	size, full := int64(le.Uint32(head[18:])), int64(le.Uint32(head[22:]))
	texts := make([]byte, int(le.Uint16(head[26:]))+int(le.Uint16(head[28:])))
	if _, err := io.ReadFull(in, texts); err != nil {
		f.broken(fr.member("zip", ""), err)
		return false
	}
	name, extra := texts[:le.Uint16(head[26:])], texts[le.Uint16(head[26:]):]
	wide := size == 0xffffffff || full == 0xffffffff
	if wide {
		size = zip64Size(extra, full == 0xffffffff, size)
	}
	m := fr.member("zip", string(name))
	f.name(m, string(name))
	streamed := flags&8 != 0 && size == 0
	start := in.n
	switch {
	case flags&1 != 0:
		f.gap(m, 0, ReasonEncrypted)
		if streamed {
			return f.resync(in)
		}
	case streamed && method == 0:
		data := &untilDescriptor{in: in}
		f.stream(data, m)
		_, err := io.Copy(io.Discard, data)
		return err == nil && skipDescriptor(in)
	case streamed && method != 8:
		f.gap(m, 0, ReasonLength)
		return f.resync(in)
	case streamed:
		out := flate.NewReader(in)
		f.stream(&meter{f: f, in: in, out: out, from: start}, m)
		_, err := io.Copy(io.Discard, &meter{f: f, in: in, out: out, from: start})
		_ = out.Close()
		if err != nil {
			f.broken(m, err)
			return f.resync(in)
		}
		return skipDescriptor(in)
	default:
		limited := &io.LimitedReader{R: in, N: size}
		f.zipData(method, newCounter(limited), m)
		_, err := io.Copy(io.Discard, limited)
		if err == nil && limited.N > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			f.broken(m, err)
			return false
		}
		if flags&8 != 0 {
			return skipDescriptor(in)
		}
		return true
	}
	_, err := io.CopyN(io.Discard, in, size)
	return err == nil
}

// zipData searches the data of a member whose length is known.
func (f *finder) zipData(method uint16, in *counter, m *frame) {
	var out io.Reader
	done := func() {}
	var err error
	switch method {
	case 0:
		f.stream(in, m)
		return
	case 8:
		z := flate.NewReader(in)
		out, done = z, func() { _ = z.Close() }
	case 12:
		out, done, err = decompressor(bzip2File, in)
	case 93:
		out, done, err = decompressor(zstdFile, in)
	case 95:
		out, done, err = decompressor(xzFile, in)
	default:
		err = stopError(ReasonMethod)
	}
	if err != nil {
		f.broken(m, err)
		return
	}
	defer done()
	f.stream(&meter{f: f, in: in, out: out}, m)
}

// untilDescriptor reads stored data of unknown length up to the record that gives this very length.
type untilDescriptor struct {
	in   *counter
	gave uint32
}

// Read gives the data, and io.EOF before the record.
func (u *untilDescriptor) Read(p []byte) (int, error) {
	const record = 16
	head, err := u.in.r.Peek(min(len(p)+record, 32<<10))
	if len(head) < record {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	give := len(head) - record + 1
	for at := 0; at < give; {
		i := bytes.Index(head[at:give+3], []byte("PK\x07\x08"))
		if i < 0 {
			break
		}
		at += i
		if binary.LittleEndian.Uint32(head[at+8:]) == u.gave+uint32(at) { //nolint:gosec // lengths are compared modulo 2^32, as they are stored
			give = at
			break
		}
		at++
	}
	if give == 0 {
		return 0, io.EOF
	}
	n, err := u.in.Read(p[:min(give, len(p))])
	u.gave += uint32(n) //nolint:gosec // as above
	return n, err
}

// zip64Size finds the compressed size in the extra fields of a member.
func zip64Size(extra []byte, hasFull bool, size int64) int64 {
	for len(extra) >= 4 {
		id, n := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		extra = extra[4:]
		if n > len(extra) {
			return size
		}
		at := 0
		if hasFull {
			at = 8
		}
		if id == 1 && size == 0xffffffff && n >= at+8 {
			return int64(binary.LittleEndian.Uint64(extra[at:]) & (1<<62 - 1))
		}
		extra = extra[n:]
	}
	return size
}

// skipDescriptor passes over the record behind a member whose sizes were not known in front: with its signature or without, with sizes of 32
// or 64 bits.
func skipDescriptor(in *counter) bool {
	head, _ := in.r.Peek(32)
	skip := 0
	if len(head) >= 4 && binary.LittleEndian.Uint32(head) == zipDescriptor {
		skip = 4
	}
	for _, n := range []int{12, 20} {
		if at := skip + n; len(head) >= at+2 && head[at] == 'P' && head[at+1] == 'K' {
			_, err := io.CopyN(io.Discard, in, int64(at))
			return err == nil
		}
	}
	return false
}

// resync looks for the next member behind data that cannot be read, and reports whether there is one.
func (f *finder) resync(in *counter) bool {
	for f.ctx.Err() == nil {
		head, err := in.r.Peek(4)
		if err != nil {
			return false
		}
		if sig := binary.LittleEndian.Uint32(head); sig == zipLocal || sig == 0x02014b50 {
			return sig == zipLocal
		}
		if _, err := in.ReadByte(); err != nil {
			return false
		}
	}
	return false
}
