package gitobj

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"sync"
)

var errIndex = errors.New("corrupt pack index")

// packIndex reads a pack index of version 1 or 2 in place. Its methods check nothing: openIndex did.
type packIndex struct {
	n      int
	width  int    // bytes of a name
	fanout []byte // 256 numbers of 4 bytes
	names  []byte // from the first name on
	stride int    // bytes from a name to the next
	small  []byte // offsets of 4 bytes; nil in version 1, where they stand before the names
	large  []byte // offsets of 8 bytes

	// once guards starts, which the first look for a name fills.
	once sync.Once
	// starts gives, for the first bits of a name, how many names are below all that begin so; it has one entry more than there are beginnings.
	starts []uint32
	shift  uint // what is left of 8 bytes behind these bits
}

// openIndex checks the shape of an index: table sizes, the fan-out's order. It does not look at each name.
func openIndex(b []byte, f Format) (*packIndex, error) {
	x := &packIndex{width: f.Size()}
	two := len(b) >= 8 && string(b[:4]) == "\xfftOc"
	if two {
		if binary.BigEndian.Uint32(b[4:]) != 2 {
			return nil, errors.New("pack index of an unknown version")
		}
		b = b[8:]
	}
	if len(b) < 1024 {
		return nil, errIndex
	}
	x.fanout, b = b[:1024], b[1024:]
	before := uint32(0)
	for i := range 256 {
		v := binary.BigEndian.Uint32(x.fanout[4*i:])
		if v < before {
			return nil, errIndex
		}
		before = v
	}
	x.n = int(before)
	n, trailer := int64(before), int64(2*x.width)
	if !two {
		x.stride = x.width + 4
		if int64(len(b)) != n*int64(x.stride)+trailer {
			return nil, errIndex
		}
		x.names = b
		return x, nil
	}
	x.stride = x.width
	fixed := n * int64(x.width+8)
	if int64(len(b)) < fixed+trailer || (int64(len(b))-fixed-trailer)%8 != 0 {
		return nil, errIndex
	}
	x.names = b[:n*int64(x.width)]
	b = b[n*int64(x.width+4):]
	x.small = b[:n*4]
	x.large = b[n*4 : int64(len(b))-trailer]
	return x, nil
}

// name gives the raw name at position i.
func (x *packIndex) name(i int) []byte {
	if x.small == nil {
		return x.names[i*x.stride+4:][:x.width]
	}
	return x.names[i*x.width:][:x.width]
}

// offset gives where in the pack the object at position i begins; negative when the index is corrupt there.
func (x *packIndex) offset(i int) int64 {
	if x.small == nil {
		return int64(binary.BigEndian.Uint32(x.names[i*x.stride:]))
	}
	v := binary.BigEndian.Uint32(x.small[4*i:])
	if v < 1<<31 {
		return int64(v)
	}
	at := int(v&(1<<31-1)) * 8
	if at+8 > len(x.large) {
		return -1
	}
	return int64(binary.BigEndian.Uint64(x.large[at:])) //nolint:gosec // a negative one is corrupt, as documented
}

// perStart is how many names share a beginning, about.
const perStart = 4

// begin fills starts. A name takes two looks at memory then, one there and one at the name; the fan-out of the file would take a search through
// thousands of names, and the look-ups of a long history do not find them in the processor's cache.
func (x *packIndex) begin() {
	wide := min(max(bits.Len(uint(x.n/perStart)), 1), 22)
	x.shift = uint(64 - wide)
	x.starts = make([]uint32, 1<<wide+1)
	at := uint64(0)
	for i := range x.n {
		for k := x.key(i) >> x.shift; at <= k; at++ { // names that are out of order are found only by chance
			x.starts[at] = uint32(i)
		}
	}
	for ; at < uint64(len(x.starts)); at++ {
		x.starts[at] = uint32(x.n) //nolint:gosec // as above
	}
}

// find gives the position of a raw name, or -1.
func (x *packIndex) find(name []byte) int {
	x.once.Do(x.begin)
	key := binary.BigEndian.Uint64(name)
	part := x.starts[key>>x.shift:]
	lo, hi := int(part[0]), int(part[1])
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		at := x.key(mid)
		switch {
		case at < key:
			lo = mid + 1
		case at > key:
			hi = mid
		default:
			switch c := bytes.Compare(x.name(mid), name); {
			case c == 0:
				return mid
			case c < 0:
				lo = mid + 1
			default:
				hi = mid
			}
		}
	}
	return -1
}

// key gives the first 8 bytes of the name at position i.
func (x *packIndex) key(i int) uint64 { return binary.BigEndian.Uint64(x.name(i)) }
