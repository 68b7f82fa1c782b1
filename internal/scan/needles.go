package scan

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// A needle is an anchor in one form, as a sequence of atoms: each atom lists the bytes that may stand there, and the empty atom takes any.
type needle struct {
	atoms  []string
	form   form
	family int
	phase  int // of base64: the place of the needle's first character in its group of four
}

// needles is the filter: it samples the four bytes at every multiple of four and asks a bit table whether any needle holds these four bytes
// at any of four neighbouring offsets, so that every needle in the text is sampled once. What passes is compared in full.
type needles struct {
	all     []needle
	longest int
	bits    [filterBits / 64]uint64
	buckets [bucketCount][]gram
	have    map[string]bool // while it is built
}

type gram struct {
	word   uint32
	needle int16
	offset int8
}

const (
	filterBits  = 1 << 18
	filterShift = 32 - 18
	bucketCount = 1 << 10
	filterPrime = 0x95E04B05 // of some hundred odd numbers the one whose collisions are rarest in source and prose
)

// any reports whether b holds a needle.
func (n *needles) any(b []byte) bool {
	for i := n.next(b, 0); i < len(b); i = n.next(b, i) {
		end := min(i+stride, len(b))
		for ; i < end; i += 4 {
			if n.maybe(b, i) && n.check(b, i, nil) {
				return true
			}
		}
	}
	return false
}

// walk calls hit for every needle in b, in order of position within four bytes, until hit gives false.
func (n *needles) walk(b []byte, hit func(at int, nd *needle) bool) {
	for i := n.next(b, 0); i < len(b); i = n.next(b, i) {
		end := min(i+stride, len(b))
		for ; i < end; i += 4 {
			if n.maybe(b, i) && n.check(b, i, hit) {
				return
			}
		}
	}
}

// stride is how many bytes next looks at together.
const stride = 32

// next gives the first multiple of stride from i on, itself a multiple of stride, where one of the sampled words may belong to a needle. The
// rest of b that is shorter than stride always may. It gives len(b) or more where nothing is left.
func (n *needles) next(b []byte, i int) int {
	bits := &n.bits
	for ; i+stride <= len(b); i += stride {
		p := (*[stride]byte)(b[i:])
		w0, w1 := binary.LittleEndian.Uint64(p[0:]), binary.LittleEndian.Uint64(p[8:])
		w2, w3 := binary.LittleEndian.Uint64(p[16:]), binary.LittleEndian.Uint64(p[24:])
		h0, h1 := uint32(w0)*filterPrime>>filterShift, uint32(w0>>32)*filterPrime>>filterShift
		h2, h3 := uint32(w1)*filterPrime>>filterShift, uint32(w1>>32)*filterPrime>>filterShift
		h4, h5 := uint32(w2)*filterPrime>>filterShift, uint32(w2>>32)*filterPrime>>filterShift
		h6, h7 := uint32(w3)*filterPrime>>filterShift, uint32(w3>>32)*filterPrime>>filterShift
		if bits[h0>>6]&(1<<(h0&63)) != 0 || bits[h1>>6]&(1<<(h1&63)) != 0 || bits[h2>>6]&(1<<(h2&63)) != 0 || bits[h3>>6]&(1<<(h3&63)) != 0 ||
			bits[h4>>6]&(1<<(h4&63)) != 0 || bits[h5>>6]&(1<<(h5&63)) != 0 || bits[h6>>6]&(1<<(h6&63)) != 0 || bits[h7>>6]&(1<<(h7&63)) != 0 {
			return i
		}
	}
	return i
}

// maybe asks the bit table about the word at.
func (n *needles) maybe(b []byte, at int) bool {
	if at+4 > len(b) {
		return false
	}
	h := binary.LittleEndian.Uint32(b[at:]) * filterPrime >> filterShift
	return n.bits[h>>6]&(1<<(h&63)) != 0
}

// check compares the needles that the word at may belong to and reports whether the search is over: at the first needle without hit, or
// when hit gives false.
func (n *needles) check(b []byte, at int, hit func(int, *needle) bool) bool {
	w := binary.LittleEndian.Uint32(b[at:])
	for _, g := range n.buckets[w*filterPrime>>(32-10)] {
		if g.word != w {
			continue
		}
		nd := &n.all[g.needle]
		start := at - int(g.offset)
		if start >= 0 && start+len(nd.atoms) <= len(b) && nd.is(b[start:]) && (hit == nil || !hit(start, nd)) {
			return true
		}
	}
	return false
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
	name := fmt.Sprint(nd.atoms, nd.form, nd.family, nd.phase)
	if n.have[name] {
		return
	}
	n.have[name] = true
	id := int16(len(n.all))
	n.all = append(n.all, nd)
	n.longest = max(n.longest, len(nd.atoms))
	best, cost := 0, 1<<30
	for first := -1; first+3+4 <= len(nd.atoms); first++ {
		c := 0
		for o := first; o < first+4; o++ {
			c += nd.ways(o) + 8*nd.frequent(o)
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

// frequent counts the characters at offset o that are frequent where numbers are listed.
func (nd *needle) frequent(o int) int {
	c := 0
	for i := o; i < o+4; i++ {
		if a := nd.atom(i); a == " " || a == "," || a == "0" || a == "x" {
			c++
		}
	}
	return c * c
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
