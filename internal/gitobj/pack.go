package gitobj

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/keywright/keywright/internal/fault"
)

var (
	errPack    = errors.New("corrupt pack")
	errNoBase  = errors.New("the base of a delta is missing")
	errCyclic  = errors.New("the bases of a delta lead nowhere")
	errLimit   = errors.New("larger than the limit")
	errMissing = errors.New("object is missing")
)

// pack is one mapped pack with its index, and what its entries' headers say. An entry is named by its rank: its place in the order of
// offsets.
type pack struct {
	name  string // file name without its ending
	id    string // name and checksum
	done  bool
	data  []byte
	index *packIndex
	maps  [][]byte
	// start is the number of the pack's first object in the store.
	start  int
	format Format
	// once guards what follows, which parse fills when the pack is walked for the first time.
	once sync.Once
	// offsets holds the offset of each entry in order; at holds its position in the index, rank the inverse.
	offsets []uint64
	at      []uint32
	rank    []uint32
	// heads holds, for each entry, its type (of a delta: of its root once it is known; zero if never) and how it is stored.
	heads []head
	// child and sibling hold the tree of deltas: first child of an entry, and next child of the same base; -1 is none.
	child, sibling []int32
	// end is where the last entry ends.
	end uint64
	// promisor is set for a pack whose objects may name objects that only the remote has.
	promisor bool
}

// head is what is kept of an entry's header.
type head struct {
	base   int32 // rank of the base; wholeBase, or one of the other negative numbers
	typ    Type
	stored uint8 // Type of the entry as stored, ofsDelta or refDelta
	skip   uint8 // bytes from the offset to the compressed data
	dup    bool  // the object is also in the store under a lower number
}

// What stands in base when there is none in the pack.
const (
	wholeBase   = -1
	outsideBase = -2 // named by a name that another pack or a loose object holds
	brokenBase  = -3
)

// newPack checks that the pack can be used at all.
func newPack(name string, data, idx []byte, f Format) (*pack, error) {
	p := &pack{name: name, data: data, format: f}
	err := guard(func() (err error) {
		if p.index, err = openIndex(idx, f); err != nil {
			return err
		}
		if len(data) < 12 || string(data[:4]) != "PACK" {
			return errPack
		}
		if v := binary.BigEndian.Uint32(data[4:]); v != 2 && v != 3 {
			return errors.New("pack of an unknown version")
		}
		if p.index.n > math.MaxInt32 {
			return errPack
		}
		p.end = uint64(max(12, len(data)-f.Size()))
		p.id = name + ":" + hex.EncodeToString(data[p.end:])
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "read pack")
	}
	return p, nil
}

// ready reads the headers of all entries, if that was not done.
func (p *pack) ready() (err error) {
	p.once.Do(func() {
		err = guard(func() error {
			p.parse()
			return nil
		})
	})
	return err
}

func (p *pack) parse() {
	p.sort()
	n := p.index.n
	p.heads = make([]head, n)
	p.child, p.sibling = make([]int32, n), make([]int32, n)
	for i := range n {
		p.child[i] = -1
	}
	for i := range n {
		p.heads[i] = p.header(i)
	}
	// Children in the order of offsets: the last is linked first.
	for i := n - 1; i >= 0; i-- {
		if b := p.heads[i].base; b >= 0 {
			p.sibling[i] = p.child[b]
			p.child[b] = int32(i) //nolint:gosec // at most MaxInt32, see above
		} else {
			p.sibling[i] = -1
		}
	}
	for i := range n {
		if p.heads[i].base == wholeBase {
			p.spread(int32(i), p.heads[i].typ)
		}
	}
}

// spread writes the type of a root into all that is built on it.
func (p *pack) spread(root int32, t Type) {
	p.heads[root].typ = t
	for i := p.child[root]; i >= 0; {
		p.heads[i].typ = t
		if p.child[i] >= 0 {
			i = p.child[i]
			continue
		}
		for i >= 0 && p.sibling[i] < 0 {
			if i = p.heads[i].base; i == root {
				return
			}
		}
		i = p.sibling[i]
	}
}

// sort fills offsets, at and rank: a radix sort, since a comparison of a million offsets shows.
func (p *pack) sort() {
	n := p.index.n
	p.offsets, p.at, p.rank = make([]uint64, n), make([]uint32, n), make([]uint32, n)
	all := make([]uint64, n)
	high := uint64(0)
	for i := range n {
		o := uint64(p.index.offset(i)) //nolint:gosec // a negative one sorts last and is out of bounds
		all[i], p.at[i] = o, uint32(i)
		high = max(high, o)
	}
	other := make([]uint32, n)
	for shift := 0; shift < 64 && high>>shift != 0; shift += 16 {
		var count [1<<16 + 1]uint32
		for _, o := range all {
			count[(o>>shift&0xffff)+1]++
		}
		for i := range 1 << 16 {
			count[i+1] += count[i]
		}
		for _, i := range p.at {
			d := all[i] >> shift & 0xffff
			other[count[d]] = i
			count[d]++
		}
		p.at, other = other, p.at
	}
	for r, i := range p.at {
		p.offsets[r], p.rank[i] = all[i], uint32(r)
	}
}

// entryHead is the header of an entry.
type entryHead struct {
	stored uint8
	skip   int
	base   uint64 // offset of the base of an ofsDelta
	name   []byte // name of the base of a refDelta
}

// parseHead reads the header of the entry that begins at offset off with b.
func parseHead(b []byte, off uint64, width int) (h entryHead, ok bool) {
	if len(b) < 2 {
		return h, false
	}
	if len(b) > 80 {
		b = b[:80]
	}
	h.stored = b[0] >> 4 & 7
	at := 1
	for c := b[0]; c&0x80 != 0; at++ {
		if at >= len(b) || at > 10 {
			return h, false
		}
		c = b[at]
	}
	switch h.stored {
	case uint8(Commit), uint8(Tree), uint8(Blob), uint8(Tag):
	case ofsDelta:
		if at >= len(b) {
			return h, false
		}
		c := b[at]
		at++
		back := uint64(c & 0x7f)
		for c&0x80 != 0 {
			if at >= len(b) || back > 1<<56 {
				return h, false
			}
			c = b[at]
			at++
			back = (back+1)<<7 | uint64(c&0x7f)
		}
		if back == 0 || back > off {
			return h, false
		}
		h.base = off - back
	case refDelta:
		if at+width > len(b) {
			return h, false
		}
		h.name = b[at : at+width]
		at += width
	default:
		return h, false
	}
	h.skip = at
	return h, true
}

// header reads the header of the entry at rank i.
func (p *pack) header(i int) head {
	e, ok := parseHead(p.entry(i), p.offsets[i], p.format.Size())
	if !ok {
		return head{base: brokenBase}
	}
	h := head{base: wholeBase, stored: e.stored, skip: uint8(e.skip)} //nolint:gosec // at most 80
	switch e.stored {
	case ofsDelta:
		h.base = p.findOffset(e.base, i)
	case refDelta:
		h.base = outsideBase
		if k := p.index.find(e.name); k >= 0 {
			h.base = int32(p.rank[k]) //nolint:gosec // at most MaxInt32
			if int(h.base) == i {
				return head{base: brokenBase}
			}
		}
	default:
		h.typ = Type(e.stored)
	}
	return h
}

// findOffset gives the rank of the entry that begins at off, below rank i, or brokenBase. Bases are mostly near.
func (p *pack) findOffset(off uint64, i int) int32 {
	lo, step := i-1, 1
	for lo > 0 && p.offsets[lo] > off {
		i = lo
		lo -= step
		step *= 4
	}
	lo = max(lo, 0)
	k, ok := slices.BinarySearch(p.offsets[lo:i], off)
	if !ok {
		return brokenBase
	}
	return int32(lo + k) //nolint:gosec // at most MaxInt32
}

// entry gives the bytes from the start of the entry at rank i to the start of the next one. It is empty when the entry lies
// outside the pack.
func (p *pack) entry(i int) []byte {
	from, to := p.offsets[i], p.end
	// Two names for one offset must not make an empty entry.
	if rest := p.offsets[i+1:]; len(rest) > 0 && rest[0] > from {
		to = min(to, rest[0])
	} else if j := sort.Search(len(rest), func(j int) bool { return rest[j] > from }); j < len(rest) {
		to = min(to, rest[j])
	}
	if from < 12 || from >= to || from >= uint64(len(p.data)) {
		return nil
	}
	return p.data[from:to]
}

// size gives the declared size of the entry's data, as stored: of a delta, that of its instructions.
func entrySize(b []byte) int64 {
	size, shift := int64(b[0]&0x0f), 4
	for i := 0; b[i]&0x80 != 0 && i+1 < len(b) && shift < 60; shift += 7 {
		i++
		size |= int64(b[i]&0x7f) << shift
	}
	return size
}

// inflateEntry inflates the entry at rank i into buf, grown as needed. It is called within guard.
func (p *pack) inflateEntry(z *inflater, buf []byte, i int, limit int64) (data, grown []byte, err error) {
	b := p.entry(i)
	h := p.heads[i]
	if len(b) <= int(h.skip) || h.base == brokenBase {
		return nil, buf, errPack
	}
	size := entrySize(b)
	if size > limit {
		return nil, buf, errLimit
	}
	if b = b[h.skip:]; !plausible(size, len(b)) {
		return nil, buf, errPack
	}
	if need := int(size) + slack; cap(buf) < need {
		buf = make([]byte, need+need/4)
	}
	buf = buf[:cap(buf)]
	_, got, err := z.zlib(buf, int(size), b, false)
	return buf[:got], buf, err
}

// inflateAt inflates the entry that begins at off and has the header h.
func (p *pack) inflateAt(z *inflater, off uint64, h entryHead, limit int64) ([]byte, error) {
	b := p.data[off:p.end]
	size := entrySize(b)
	if size > limit {
		return nil, errLimit
	}
	if b = b[h.skip:]; !plausible(size, len(b)) {
		return nil, errPack
	}
	buf := make([]byte, int(size)+slack)
	_, got, err := z.zlib(buf, int(size), b, false)
	return buf[:got], err
}

// headAt reads the header of the entry that begins at off.
func (p *pack) headAt(off uint64) (entryHead, bool) {
	if off < 12 || off >= p.end || p.end > uint64(len(p.data)) {
		return entryHead{}, false
	}
	return parseHead(p.data[off:p.end], off, p.format.Size())
}

// baseName gives the name of the base of a delta whose base is not in the pack.
func (p *pack) baseName(i int) OID {
	b := p.entry(i)
	if len(b) < int(p.heads[i].skip) {
		return OID{}
	}
	b = b[:p.heads[i].skip]
	return MakeOID(b[len(b)-p.index.width:])
}

// number gives the number in the store of the object with the raw name, or -1.
func (p *pack) number(name []byte) int {
	i := p.index.find(name)
	if i < 0 {
		return -1
	}
	return p.start + i
}

// loose is the set of loose objects of one object directory: their names in order, and their types once known.
type loose struct {
	dir   string
	start int
	width int
	names []byte
	types []atomic.Uint32 // of Type
	dup   []bool
}

func (l *loose) len() int { return len(l.types) }

func (l *loose) typeAt(i int) Type { return Type(l.types[i].Load()) } //nolint:gosec // a Type was stored

func (l *loose) name(i int) []byte { return l.names[i*l.width:][:l.width] }

func (l *loose) number(name []byte) int {
	i := sort.Search(l.len(), func(i int) bool { return bytes.Compare(l.name(i), name) >= 0 })
	if i < l.len() && bytes.Equal(l.name(i), name) {
		return l.start + i
	}
	return -1
}
