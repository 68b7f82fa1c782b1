package gitobj

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // it is what git names objects by
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/keywright/keywright/internal/fault"
)

// bundle is what stands before the pack of a bundle.
type bundle struct {
	format Format
	refs   []Ref
	needs  []OID
	filter bool
}

// openBundle opens a bundle file, of version 2 or 3. Its pack has no index: one is made in memory.
func openBundle(path string, o Options, problems *Problems) (*Repo, error) {
	data, err := mapFile(path)
	if err != nil {
		return nil, fault.In(err, "open bundle")
	}
	var b *bundle
	var body []byte
	if err := guard(func() (err error) {
		b, body, err = parseBundle(data)
		return err
	}); err != nil {
		_ = mapped(data).Close()
		return nil, fault.In(err, "open bundle")
	}
	r := &Repo{bundle: b, Bare: true, Partial: b.filter}
	r.Store = openStore(b.format, nil, o.Limits, nil, problems)
	idx, err := r.indexPack(filepath.Base(path), body)
	if err != nil {
		_ = mapped(data).Close()
		return nil, err
	}
	p, err := newPack(filepath.Base(path), body, idx, b.format)
	if err != nil {
		_ = mapped(data).Close()
		return nil, err
	}
	p.maps = [][]byte{data}
	r.addPack(p)
	r.resolve()
	if len(b.needs) > 0 {
		// What the receiver is said to have is not here; commits end there as in a shallow clone.
		r.Shallow, r.Partial = b.needs, true
	}
	return r, nil
}

// IsBundle reports whether a file that begins with head is a bundle.
func IsBundle(head []byte) bool {
	return bytes.HasPrefix(head, []byte("# v2 git bundle\n")) || bytes.HasPrefix(head, []byte("# v3 git bundle\n"))
}

func parseBundle(data []byte) (*bundle, []byte, error) {
	if !IsBundle(data) {
		return nil, nil, fault.New(fault.NotFound, "neither a repository nor a bundle")
	}
	bad := fault.New(fault.Corrupt, "corrupt header")
	b := &bundle{}
	rest := data[len("# v2 git bundle\n"):]
	for {
		line, next, ok := bytes.Cut(rest, []byte{'\n'})
		if !ok {
			return nil, nil, bad
		}
		rest = next
		if len(line) == 0 {
			return b, rest, nil
		}
		text := string(line)
		switch text[0] {
		case '@':
			name, value, _ := strings.Cut(text[1:], "=")
			switch {
			case name == "object-format" && value == "sha256":
				b.format = SHA256
			case name == "object-format" && value == "sha1":
			case name == "filter":
				b.filter = true
			default:
				return nil, nil, fault.New(fault.Unsupported, "it needs a capability that is not known")
			}
		case '-':
			hex, _, _ := strings.Cut(text[1:], " ")
			o, ok := ParseOID(hex)
			if !ok {
				return nil, nil, bad
			}
			b.needs = append(b.needs, o)
		default:
			hex, name, _ := strings.Cut(text, " ")
			o, ok := ParseOID(hex)
			if !ok || name == "" {
				return nil, nil, bad
			}
			b.refs = append(b.refs, Ref{Name: name, OID: o})
		}
	}
}

func (f Format) hash() hash.Hash {
	if f == SHA256 {
		return sha256.New()
	}
	return sha1.New() //nolint:gosec // see the import
}

// indexPack makes the index of a pack: it inflates every entry to find where the next begins, then names the objects. An entry whose
// base is missing gets a name that no object has.
func (r *Repo) indexPack(name string, data []byte) ([]byte, error) {
	var offsets []uint64
	err := guard(func() error {
		if len(data) < 12 || string(data[:4]) != "PACK" {
			return errPack
		}
		var err error
		offsets, err = r.entries(name, data)
		return err
	})
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "read bundle")
	}
	names := make([]OID, len(offsets))
	width := r.Format.Size()
	for known := -1; ; {
		idx := makeIndex(names, offsets, width)
		p, err := newPack(name, data, idx, r.Format)
		if err != nil {
			return nil, err
		}
		now := 0
		for i := range names {
			if !names[i].IsZero() {
				now++
			}
		}
		if now == known || now == len(names) && now > 0 && known >= 0 {
			return idx, nil
		}
		known = now
		// A store of its own, so that what has no name yet is no problem yet.
		s := &Store{Format: r.Format, Problems: &Problems{}, limits: r.limits}
		s.open.New = r.open.New
		s.addPack(p)
		for _, t := range []Type{Blob, Tree, Commit, Tag} {
			err := s.Walk(context.Background(), t, Walk{Workers: 1, Visitor: func(int) func(*Object) error {
				return func(o *Object) error {
					h := s.Format.hash()
					h.Write([]byte(t.String() + " " + strconv.FormatInt(o.Size, 10) + "\x00"))
					if err := o.copyTo(h); err != nil {
						return err
					}
					names[o.rank] = MakeOID(h.Sum(nil))
					return nil
				}
			}})
			if err != nil {
				return nil, err
			}
		}
	}
}

// copyTo writes the data to w.
func (o *Object) copyTo(w io.Writer) error {
	if !o.Large() {
		data, err := o.Data()
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	}
	in, err := o.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(w, in)
	return err
}

// entries finds the offset of every entry. What follows one that is corrupt cannot be found.
func (r *Repo) entries(name string, data []byte) ([]uint64, error) {
	n := int(binary.BigEndian.Uint32(data[8:]))
	width := r.Format.Size()
	var offsets []uint64
	z := newInflater()
	var buf []byte
	for at := 12; len(offsets) < n; {
		if len(data)-at < width+2 {
			r.Problems.Add(ProblemPack, name, errTruncated.Error())
			break
		}
		b := data[at : len(data)-width]
		size, skip := entrySize(b), 1
		for skip < len(b) && b[skip-1]&0x80 != 0 {
			skip++
		}
		switch b[0] >> 4 & 7 {
		case ofsDelta:
			for skip++; skip < len(b) && b[skip-1]&0x80 != 0; skip++ {
			}
		case refDelta:
			skip += width
		}
		if skip >= len(b) || !plausible(size, len(b)) || size > math.MaxInt32 {
			r.Problems.Add(ProblemPack, name, errPack.Error())
			break
		}
		if cap(buf) < int(size)+slack {
			buf = make([]byte, int(size)+slack)
		}
		taken, _, err := z.zlib(buf[:cap(buf)], int(size), b[skip:], false)
		if err != nil {
			r.Problems.Add(ProblemPack, name, reason(err))
			break
		}
		offsets = append(offsets, uint64(at))
		at += skip + taken
		if cap(buf) > bulky {
			buf = nil
		}
	}
	return offsets, nil
}

// makeIndex makes an index of version 2. Entries without a name get their place as a name. The checksums are left empty: nothing
// here looks at them.
func makeIndex(names []OID, offsets []uint64, width int) []byte {
	order := make([]int, len(names))
	raw := make([][]byte, len(names))
	for i := range names {
		order[i] = i
		raw[i] = names[i].sum[:width]
		if names[i].IsZero() {
			raw[i] = make([]byte, width)
			binary.BigEndian.PutUint64(raw[i][width-8:], uint64(i)+1)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(bytes.Compare(raw[a], raw[b]), cmp.Compare(a, b)) })
	b := append([]byte("\xfftOc"), 0, 0, 0, 2)
	at := 0
	for first := range 256 {
		for at < len(order) && int(raw[order[at]][0]) <= first {
			at++
		}
		b = binary.BigEndian.AppendUint32(b, uint32(at))
	}
	for _, i := range order {
		b = append(b, raw[i]...)
	}
	b = append(b, make([]byte, 4*len(order))...)
	var large []uint64
	for _, i := range order {
		if offsets[i] < 1<<31 {
			b = binary.BigEndian.AppendUint32(b, uint32(offsets[i]))
			continue
		}
		b = binary.BigEndian.AppendUint32(b, 1<<31|uint32(len(large))) //nolint:gosec // as above
		large = append(large, offsets[i])
	}
	for _, o := range large {
		b = binary.BigEndian.AppendUint64(b, o)
	}
	return append(b, make([]byte, 2*width)...)
}
