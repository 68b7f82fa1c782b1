package scan

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

const (
	window  = 1 << 20
	overlap = 64 << 10
)

// stream searches what r gives, to its end: as an archive, or as text in windows that overlap.
func (f *finder) stream(r io.Reader, fr *frame) {
	head := make([]byte, HeadSize)
	n, err := io.ReadFull(r, head)
	head = head[:n]
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		f.broken(fr, err)
	}
	if n == 0 {
		return
	}
	kind := containerOf(head)
	whole := io.MultiReader(bytes.NewReader(head), r)
	if kind != noContainer && kind != wideText {
		if fr.depth >= f.s.o.Limits.Depth {
			f.gap(fr, 0, ReasonDepth)
			return
		}
		f.open(kind, whole, fr)
		return
	}
	f.windows(whole, fr)
}

// windows searches what r gives as text.
func (f *finder) windows(r io.Reader, fr *frame) {
	size := window
	buf := f.take()
	defer func() { f.give(buf) }()
	base := int64(0)
	first := true
	for {
		n, err := fill(r, buf[len(buf):size])
		buf = buf[:len(buf)+n]
		if first {
			fr.doc.lines, first = newLineCounter(buf), false
		} else {
			fr.doc.lines.text = buf
		}
		last := err != nil
		if last && !errors.Is(err, io.EOF) {
			f.broken(fr, err)
		}
		w := *fr
		w.text, w.base, w.cut = buf, base, !last
		more := f.text(&w)
		switch {
		case last, f.over(fr):
			return
		case more && size < f.s.o.Limits.Member:
			// Compressed data in base64 goes on: look at more at once.
			size *= 2
			if cap(buf) < size {
				buf = append(make([]byte, 0, size), buf...)
			}
			continue
		case more:
			f.gap(&w, len(buf)-1, ReasonRun)
		}
		base += int64(len(buf) - overlap)
		fr.doc.lines.slide(base)
		kept := copy(buf, buf[len(buf)-overlap:])
		buf, size = buf[:kept], window
	}
}

// text searches a text, and once more as UTF-16 where its start says so.
func (f *finder) text(fr *frame) (more bool) {
	if len(f.s.shapes) > 0 || f.s.needle.any(fr.text) {
		more = f.scan(fr)
	}
	if fr.base == 0 {
		fr.doc.wide = containerOf(fr.text) == wideText
		fr.doc.big = fr.doc.wide && fr.text[0] == 0xfe
	}
	if !fr.doc.wide {
		return more
	}
	low := 0
	if fr.doc.big {
		low = 1
	}
	narrow := make([]byte, len(fr.text)/2)
	for i := range narrow {
		narrow[i] = fr.text[2*i+low]
		if fr.text[2*i+1-low] != 0 || narrow[i] >= 0x80 {
			narrow[i] = 0xff
		}
	}
	if len(f.s.shapes) == 0 && !f.s.needle.any(narrow) {
		return more
	}
	pos := make([]int32, len(narrow))
	for i := range pos {
		pos[i] = int32(2 * i)
	}
	return f.scan(&frame{text: narrow, pos: pos, parent: fr, doc: fr.doc, form: chain(fr.form, formNames[formUTF16]), depth: fr.depth, cut: fr.cut}) || more
}

// broken records why a reader ended early.
func (f *finder) broken(fr *frame, err error) {
	var stop stopError
	switch {
	case errors.As(err, &stop):
		f.gap(fr, 0, string(stop))
	case f.limit != "":
		f.gap(fr, 0, f.limit) // the damage is our own doing
	case f.ctx.Err() != nil:
		f.gap(fr, 0, ReasonStopped)
	case fr.depth > 0:
		f.gap(fr, 0, ReasonDamaged)
	default:
		f.gap(fr, 0, ReasonUnreadable)
	}
}

// take and give lend a buffer of the size of a window.
func (f *finder) take() []byte {
	if n := len(f.spare); n > 0 {
		b := f.spare[n-1]
		f.spare = f.spare[:n-1]
		return b[:0]
	}
	return make([]byte, 0, window)
}

func (f *finder) give(b []byte) {
	if cap(b) == window {
		f.spare = append(f.spare, b)
	}
}

// fill reads until p is full. It gives the reader's error, io.EOF at the end.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = r.Read(p[n:])
		n += k
	}
	return n, err
}

// stopError is why a limit ended a decompression.
type stopError string

func (e stopError) Error() string { return string(e) }

// meter counts what a decompressor took and bounds what it gives.
type meter struct {
	f    *finder
	in   *counter
	out  io.Reader
	gave int64     // bytes so far
	from int64     // where the input starts
	stop stopError // the limit that was reached, for good
}

// ratioFrom is the output from which on its ratio to the input is looked at.
const ratioFrom = 16 << 20

// Read gives decompressed bytes, or a stopError at a limit.
func (m *meter) Read(p []byte) (int, error) {
	if m.stop != "" {
		return 0, m.stop
	}
	n, err := m.out.Read(p)
	m.gave += int64(n)
	m.f.output -= int64(n)
	switch {
	case m.f.ctx.Err() != nil:
		m.stop = ReasonStopped
	case m.f.output <= 0:
		m.stop = ReasonOutput
	case m.gave > ratioFrom && m.gave > (m.in.n-m.from)*int64(m.f.s.o.Limits.Ratio):
		m.stop = ReasonRatio
	case m.f.s.o.now().After(m.f.end):
		m.stop = ReasonTime
	default:
		return n, err
	}
	m.f.limit = string(m.stop)
	return n, m.stop
}

// counter is a buffered reader that counts what was taken from it, byte by byte where a decompressor wants that.
type counter struct {
	r *bufio.Reader
	n int64
}

func newCounter(r io.Reader) *counter { return &counter{r: bufio.NewReaderSize(r, 64<<10)} }

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

var (
	_ io.ByteReader = (*counter)(nil)
	_ io.Reader     = (*meter)(nil)
	_ io.Reader     = (*base64Reader)(nil)
)
