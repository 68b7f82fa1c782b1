package gitobj

import (
	"encoding/hex"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/keywright/keywright/internal/fault"
)

// Read gives type and data of the object with number n; the caller owns the data. Kinds: NotFound, Corrupt, Unsupported (too large).
func (s *Store) Read(n int) (Type, []byte, error) {
	z, _ := s.open.Get().(*inflater) // it holds nothing else
	defer s.open.Put(z)
	var t Type
	var data []byte
	err := guard(func() (err error) {
		t, data, err = s.read(z, n, 0)
		return err
	})
	if err != nil {
		kind := fault.Corrupt
		switch {
		case errors.Is(err, errMissing):
			kind = fault.NotFound
		case errors.Is(err, errLimit):
			kind = fault.Unsupported
		}
		return 0, nil, fault.Wrap(kind, errors.New(reason(err)), "read object")
	}
	return t, data, nil
}

// read is Read within guard. Deltas over bases in other packs nest.
func (s *Store) read(z *inflater, n, depth int) (Type, []byte, error) {
	if n < 0 || n >= s.n {
		return 0, nil, errMissing
	}
	if depth > 1000 {
		return 0, nil, errCyclic
	}
	p, l, i := s.packOf(n)
	if l != nil {
		return s.readLoose(z, l, i)
	}
	c, err := s.chain(p, i, depth)
	if err != nil {
		return 0, nil, err
	}
	var data []byte
	if c.outside >= 0 {
		if _, data, err = s.read(z, c.outside, depth+1); err != nil {
			return 0, nil, err
		}
	}
	for k, off := range slices.Backward(c.offsets) {
		body, err := p.inflateAt(z, off, c.heads[k], s.limits.Object)
		if err != nil {
			return 0, nil, err
		}
		if c.outside < 0 && k == len(c.offsets)-1 {
			data = body
			continue
		}
		if data, err = s.patched(nil, data, body); err != nil {
			return 0, nil, err
		}
	}
	return c.typ, data, nil
}

// chain is the way from an entry to its root: the entry first. outside is the number of a base in another pack, or -1.
type chain struct {
	typ     Type
	offsets []uint64
	heads   []entryHead
	outside int
}

// maxChain is longer than any chain that git makes.
const maxChain = 1 << 16

// chain follows the bases of the object at position i of p's index.
func (s *Store) chain(p *pack, i, depth int) (chain, error) {
	c := chain{outside: -1}
	if depth > 1000 {
		return c, errCyclic
	}
	off := uint64(p.index.offset(i)) //nolint:gosec // a negative one is out of bounds
	for {
		h, ok := p.headAt(off)
		if !ok {
			return c, errPack
		}
		c.offsets, c.heads = append(c.offsets, off), append(c.heads, h)
		switch {
		case len(c.offsets) > maxChain:
			return c, errCyclic
		case h.stored == ofsDelta:
			off = h.base
			continue
		case h.stored != refDelta:
			c.typ = Type(h.stored)
			return c, nil
		}
		if k := p.index.find(h.name); k >= 0 {
			off = uint64(p.index.offset(k)) //nolint:gosec // as above
			continue
		}
		if c.outside = s.lookup(h.name); c.outside < 0 {
			return c, errNoBase
		}
		q, l, at := s.packOf(c.outside)
		if l != nil {
			c.typ = s.TypeOf(c.outside)
			return c, nil
		}
		next, err := s.chain(q, at, depth+1)
		c.typ = next.typ
		return c, err
	}
}

// patched applies a delta to base into buf, grown as needed.
func (s *Store) patched(buf, base, delta []byte) ([]byte, error) {
	from, to, ops, err := deltaHeader(delta)
	if err != nil || from != int64(len(base)) {
		return nil, errDelta
	}
	if to > s.limits.Object {
		return nil, errLimit
	}
	// An instruction of at most 8 bytes gives at most 16 MiB.
	if to > int64(len(ops))<<24 {
		return nil, errDelta
	}
	if int64(cap(buf)) < to {
		buf = make([]byte, to)
	}
	buf = buf[:to]
	return buf, applyDelta(buf, base, ops)
}

// looseFile is an open loose object whose header was read.
type looseFile struct {
	io.Closer
	typ  Type
	size int64
	data []byte // the file
	skip int    // bytes of the header
}

// openLoose maps a loose object and reads its header.
func openLoose(z *inflater, l *loose, i int) (*looseFile, error) {
	name := hex.EncodeToString(l.name(i))
	data, err := mapFile(filepath.Join(l.dir, name[:2], name[2:]))
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			return nil, errMissing
		}
		return nil, err
	}
	f := &looseFile{Closer: mapped(data), data: data}
	err = guard(func() error {
		const enough = 64
		var head [enough + slack]byte
		_, got, err := z.zlib(head[:], enough, data, true)
		if err != nil && got == 0 {
			return err
		}
		text := string(head[:got])
		end := strings.IndexByte(text, 0)
		if end < 0 {
			return errLoose
		}
		word, number, _ := strings.Cut(text[:end], " ")
		f.typ = ParseType(word)
		f.size, err = strconv.ParseInt(number, 10, 64)
		if f.typ == 0 || err != nil || f.size < 0 || !plausible(f.size, len(data)) {
			return errLoose
		}
		f.skip = end + 1
		return nil
	})
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// mapped is a mapped file to be closed.
type mapped []byte

// Close implements io.Closer.
func (m mapped) Close() error {
	if m == nil {
		return nil
	}
	return syscall.Munmap(m)
}

func (s *Store) readLoose(z *inflater, l *loose, i int) (Type, []byte, error) {
	f, err := openLoose(z, l, i)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	if f.size > s.limits.Object {
		return 0, nil, errLimit
	}
	buf := make([]byte, f.skip+int(f.size)+slack)
	if _, _, err = z.zlib(buf, f.skip+int(f.size), f.data, false); err != nil {
		return 0, nil, err
	}
	return f.typ, buf[f.skip : f.skip+int(f.size)], nil
}
