package scan

import (
	"encoding/binary"
	"strings"
)

// A needle is an anchor in one form, as a sequence of atoms: each atom lists the bytes that may stand there, and the empty atom takes any.
type needle struct {
	atoms  []string
	form   form
	family int
	// back counts the bytes of the decoded anchor before the needle's first byte, for forms where the anchor's edges are not whole.
	phase int
}

// needles is the filter: it samples the four bytes at every multiple of four and asks a bit table whether any needle holds these four bytes
// at any of four neighbouring offsets, so that every needle in the text is sampled once. What passes is compared in full.
type needles struct {
	all     []needle
	longest int
	bits    [filterBits / 64]uint64
	buckets [bucketCount][]gram
}

type gram struct {
	word   uint32
	needle int16
	offset int8
}

const (
	filterBits  = 1 << 17
	filterShift = 32 - 17
	bucketCount = 1 << 10
	filterPrime = 0x9E3779B1
)

func (n *needles) any(b []byte) bool {
	found := false
	n.walk(b, func(int, *needle) bool { found = true; return false })
	return found
}

// walk calls hit for every needle in b, in order of position within four bytes, until hit gives false.
func (n *needles) walk(b []byte, hit func(at int, nd *needle) bool) {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		h := uint32(w) * filterPrime >> filterShift
		k := uint32(w>>32) * filterPrime >> filterShift
		if (n.bits[h>>6]>>(h&63)|n.bits[k>>6]>>(k&63))&1 != 0 {
			if !n.check(b, i, hit) || !n.check(b, i+4, hit) {
				return
			}
		}
	}
	if i+4 <= len(b) {
		n.check(b, i, hit)
	}
}

func (n *needles) check(b []byte, at int, hit func(int, *needle) bool) bool {
	w := binary.LittleEndian.Uint32(b[at:])
	for _, g := range n.buckets[w*filterPrime>>(32-10)] {
		if g.word != w {
			continue
		}
		nd := &n.all[g.needle]
		start := at - int(g.offset)
		if start >= 0 && start+len(nd.atoms) <= len(b) && nd.is(b[start:]) && !hit(start, nd) {
			return false
		}
	}
	return true
}

func (nd *needle) is(b []byte) bool {
	for i, a := range nd.atoms {
		if a != "" && strings.IndexByte(a, b[i]) < 0 {
			return false
		}
	}
	return true
}

// add puts a needle into the filter. It needs four neighbouring offsets whose four bytes are nearly determined; offsets from -1 on may be
// used, since what is before a needle may be anything.
func (n *needles) add(nd needle) {
	id := int16(len(n.all))
	n.all = append(n.all, nd)
	n.longest = max(n.longest, len(nd.atoms))
	best, cost := 0, 1<<30
	for first := -1; first+3+4 <= len(nd.atoms)+1; first++ {
		c := 0
		for o := first; o < first+4; o++ {
			c += nd.ways(o)
		}
		if c < cost {
			best, cost = first, c
		}
	}
	for o := best; o < best+4; o++ {
		n.expand(nd, id, o, 0, 0)
	}
}

func (nd *needle) atom(i int) string {
	if i < 0 || i >= len(nd.atoms) {
		return ""
	}
	return nd.atoms[i]
}

// ways is the number of four-byte words that fit at offset o.
func (nd *needle) ways(o int) int {
	w := 1
	for i := o; i < o+4; i++ {
		if a := nd.atom(i); a == "" {
			w *= 256
		} else {
			w *= len(a)
		}
	}
	return w
}

func (n *needles) expand(nd needle, id int16, o, i int, w uint32) {
	if i == 4 {
		h := w * filterPrime >> filterShift
		n.bits[h>>6] |= 1 << (h & 63)
		k := w * filterPrime >> (32 - 10)
		n.buckets[k] = append(n.buckets[k], gram{word: w, needle: id, offset: int8(o)})
		return
	}
	a := nd.atom(o + i)
	if a == "" {
		for c := range 256 {
			n.expand(nd, id, o, i+1, w|uint32(c)<<(8*i))
		}
		return
	}
	for j := range len(a) {
		n.expand(nd, id, o, i+1, w|uint32(a[j])<<(8*i))
	}
}
