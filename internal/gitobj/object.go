package gitobj

import (
	"compress/zlib"
	"errors"
	"io"
)

// Object is an object that Walk shows. It and all that its methods return are good only during the visit.
type Object struct {
	// Number is the object's number in the store.
	Number int
	Type   Type
	// Size is the number of bytes of its data.
	Size int64
	// Base is the object that this one is stored as a difference from, which was visited before by the same visitor, or nil
	// when it is stored whole.
	Base *Object
	// Dup is set when the object is also there under a lower number. Such a one is visited only if others are built on it.
	Dup bool
	// Flag is the visitor's own: it may set it, and read that of Base.
	Flag bool
	// Own is the visitor's own, too. In a new object it holds what the visitor left in an earlier one that is not needed any more,
	// or nil.
	Own any
	// Leaf is set when nothing is built on this object.
	Leaf bool

	w     *walker
	data  []byte
	ops   []byte // the delta's instructions, when there is a Base
	large bool
	pack  *pack
	rank  int32
	loose *loose
	pipe  io.Reader
}

// Large reports that the object is not held in memory: Open must be used in place of Data.
func (o *Object) Large() bool { return o.large }

// Data gives the object's bytes, which must not be changed.
func (o *Object) Data() ([]byte, error) {
	if o.data != nil || o.ops == nil {
		return o.data, nil
	}
	base, err := o.Base.Data()
	if err != nil {
		return nil, err
	}
	buf, err := o.w.get(int(o.Size))
	if err != nil {
		return nil, err
	}
	buf = buf[:o.Size]
	if err := applyDelta(buf, base, o.ops); err != nil {
		o.w.put(buf)
		return nil, err
	}
	o.data = buf
	return buf, nil
}

// Windows appends to dst what of the object can hold a string of up to margin+1 bytes that Base does not hold: the bytes that are
// new and margin bytes on either side of each seam. Parts that are apart in the object may touch in dst. Base must not be nil.
func (o *Object) Windows(dst []byte, margin int) ([]byte, error) {
	base, err := o.Base.Data()
	if err != nil {
		return dst, err
	}
	return deltaWindows(dst, base, o.ops, o.Size, margin)
}

// Head appends the first n bytes of the object, or all if there are fewer, to dst. It does not work on a large object.
func (o *Object) Head(dst []byte, n int) ([]byte, error) {
	if o.data != nil || o.ops == nil {
		return append(dst, o.data[:min(n, len(o.data))]...), nil
	}
	base, err := o.Base.Data()
	if err != nil {
		return dst, err
	}
	return deltaHead(dst, base, o.ops, n)
}

// Stretch is a part of an object: where it begins there, where it begins in Base, or -1 when it is new, and its bytes.
type Stretch struct {
	At, From int
	Data     []byte
}

// Stretches appends the parts of the object, in order and without a gap, to dst. Base must not be nil.
func (o *Object) Stretches(dst []Stretch) ([]Stretch, error) {
	base, err := o.Base.Data()
	if err != nil {
		return dst, err
	}
	at := 0
	for ops := o.ops; len(ops) > 0; {
		off, n, lit, rest, err := deltaOp(ops)
		if err != nil {
			return dst, err
		}
		if off >= 0 {
			if off > len(base) || n > len(base)-off {
				return dst, errDelta
			}
			lit = base[off : off+n]
		}
		dst = append(dst, Stretch{at, off, lit})
		ops = rest
		at += n
	}
	if int64(at) != o.Size {
		return dst, errDelta
	}
	return dst, nil
}

// Open gives a reader of the bytes of a large object. It may be called once.
func (o *Object) Open() (io.ReadCloser, error) {
	if o.pipe != nil {
		return io.NopCloser(o.pipe), nil
	}
	if o.loose != nil {
		f, err := openLoose(o.w.z, o.loose, int(o.rank))
		if err != nil {
			return nil, err
		}
		r := &stream{src: f.data, closer: f}
		if err := r.start(); err != nil {
			f.Close()
			return nil, err
		}
		if _, err := io.CopyN(io.Discard, r, int64(f.skip)); err != nil {
			f.Close()
			return nil, err
		}
		return r, nil
	}
	r := &stream{src: o.pack.entry(int(o.rank))[o.pack.heads[o.rank].skip:]}
	return r, r.start()
}

// stream reads a zlib stream that lies in a mapped file.
type stream struct {
	src    []byte
	in     io.Reader
	closer io.Closer
}

func (s *stream) start() error {
	return guard(func() (err error) {
		s.in, err = zlib.NewReader(&byteReader{b: s.src})
		return err
	})
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (n int, err error) {
	fail := guard(func() error {
		n, err = s.in.Read(p)
		return nil
	})
	if fail != nil {
		return 0, fail
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = errInflate
	}
	return n, err
}

// Close implements io.Closer.
func (s *stream) Close() error {
	if s.closer != nil {
		return s.closer.Close()
	}
	return nil
}

// byteReader reads from a slice; the decompressor needs single bytes.
type byteReader struct {
	b []byte
}

// Read implements io.Reader.
func (r *byteReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// ReadByte implements io.ByteReader.
func (r *byteReader) ReadByte() (byte, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c, nil
}
