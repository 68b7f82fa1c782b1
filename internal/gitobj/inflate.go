package gitobj

import (
	"encoding/binary"
	"errors"
	"hash/adler32"
	"math/bits"
)

// The sizes of the decoding tables. A code of up to litBits (distBits) bits is found by one look-up, a longer one by two.
const (
	litBits  = 10
	distBits = 8
	litMax   = 2048 // more than the largest table that 286 codes of up to 15 bits need
	distMax  = 1024
	preBits  = 7

	// slack is the room that must stand behind the output: inflate writes up to two literals, one match and one word too far
	// before it looks.
	slack = 2 + 258 + 16
)

// An entry of a table holds, from the lowest bit: 8 bits length of the code (of a long code: of its rest), 5 bits number of extra bits, 3
// bits of flags, 16 bits of value. A zero entry is a code that nobody defined.
const (
	extraShift = 8
	extraMask  = 31
	flagLit    = 1 << 13
	flagEnd    = 1 << 14
	flagSub    = 1 << 15
	valueShift = 16
)

var (
	errInflate   = errors.New("corrupt compressed data")
	errTooLong   = errors.New("more data than declared")
	errTooShort  = errors.New("less data than declared")
	errTruncated = errors.New("compressed data ends early")
	errChecksum  = errors.New("checksum of the data is wrong")
)

var lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
var lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
var distBase = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
var distExtra = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
var codeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// symbols gives, for each kind of table, the entry of a symbol without the length of its code.
type symbols struct {
	lit  [288]uint32
	dist [32]uint32
	pre  [19]uint32
}

func newSymbols() *symbols {
	s := &symbols{}
	for i := range 256 {
		s.lit[i] = flagLit | uint32(i)<<valueShift
	}
	s.lit[256] = flagEnd
	for i := range lengthBase {
		s.lit[257+i] = uint32(lengthBase[i])<<valueShift | uint32(lengthExtra[i])<<extraShift
	}
	for i := range distBase {
		s.dist[i] = uint32(distBase[i])<<valueShift | uint32(distExtra[i])<<extraShift
	}
	for i := range s.pre {
		s.pre[i] = uint32(i) << valueShift
	}
	return s
}

// inflater decompresses whole buffers whose size is known beforehand. It holds its tables between uses; it is for one goroutine.
type inflater struct {
	symbols *symbols
	lit     [litMax]uint32
	dist    [distMax]uint32
	pre     [1 << preBits]uint32
	lens    [320]uint8
	sorted  [288]uint16
	// fixed holds the tables of blocks with fixed codes once they were needed.
	fixedLit  []uint32
	fixedDist []uint32
}

func newInflater() *inflater { return &inflater{symbols: newSymbols()} }

// zlib inflates the zlib stream at the start of src into dst[:size] and checks its checksum. dst must have room for slack bytes
// behind size. It gives the number of bytes of src that the stream takes. With head set, a stream that is longer than size is cut
// off there without an error, and its checksum is not looked at; taken is then without meaning.
func (z *inflater) zlib(dst []byte, size int, src []byte, head bool) (taken, got int, err error) {
	if len(src) < 2 {
		return 0, 0, errTruncated
	}
	if h := uint(src[0])<<8 | uint(src[1]); src[0]&0x0f != 8 || src[0]>>4 > 7 || h%31 != 0 || src[1]&0x20 != 0 {
		return 0, 0, errInflate
	}
	n, got, err := z.inflate(dst, size, src[2:])
	if head && (err == nil || errors.Is(err, errTooLong) || errors.Is(err, errTruncated) && got >= size) {
		return 0, min(got, size), nil
	}
	if err != nil {
		return 0, got, err
	}
	if got != size {
		return 0, got, errTooShort
	}
	n += 2
	if len(src) < n+4 {
		return 0, got, errTruncated
	}
	if binary.BigEndian.Uint32(src[n:]) != adler32.Checksum(dst[:size]) {
		return 0, got, errChecksum
	}
	return n + 4, got, nil
}

// build makes the decoding table of the code lengths lens. Like zlib it refuses sets of lengths that are over-subscribed, and
// incomplete ones unless they hold at most one code of one bit. It gives the number of bits of the first look-up.
func (z *inflater) build(table []uint32, syms []uint32, lens []uint8, limit int) (int, error) {
	var count [16]uint16
	for _, l := range lens {
		count[l]++
	}
	count[0] = 0
	longest := 15
	for longest > 0 && count[longest] == 0 {
		longest--
	}
	if longest == 0 {
		clear(table[:2])
		return 1, nil
	}
	left := 1
	for l := 1; l <= 15; l++ {
		left = left<<1 - int(count[l])
		if left < 0 {
			return 0, errInflate
		}
	}
	if left > 0 && longest != 1 {
		return 0, errInflate
	}
	var next [16]uint16
	for l := 1; l < 15; l++ {
		next[l+1] = next[l] + count[l]
	}
	for sym, l := range lens {
		if l != 0 {
			z.sorted[next[l]] = uint16(sym)
			next[l]++
		}
	}
	first := min(longest, limit)
	table[0], table[1] = 0, 0
	// Codes are written with their first bit lowest; code counts in that order. The table for codes of l bits, written twice,
	// is the table for codes of l+1 bits.
	code, at, l := uint32(0), 0, 1
	for ; l <= first; l++ {
		if l > 1 {
			copy(table[1<<(l-1):1<<l], table[:1<<(l-1)])
		}
		full := uint32(1)<<l - 1
		for n := count[l]; n > 0; n-- {
			table[code] = syms[z.sorted[at]] | uint32(l)
			at++
			if code == full {
				code = full + 1
				break
			}
			bit := uint32(1) << (bits.Len32(code^full) - 1)
			code = code&(bit-1) | bit
		}
	}
	if longest <= first {
		return first, nil
	}
	end, prefix, start, sub := 1<<first, uint32(1)<<31, 0, 0
	mask := uint32(1)<<first - 1
	for ; l <= longest; l++ {
		full := uint32(1)<<l - 1
		for n := int(count[l]); n > 0; n-- {
			if code&mask != prefix {
				prefix, start, sub = code&mask, end, l-first
				for room := 1<<sub - n; room > 0 && first+sub < longest; {
					sub++
					room = room<<1 - int(count[first+sub])
				}
				end += 1 << sub
				if end > len(table) {
					return 0, errInflate
				}
				table[prefix] = flagSub | uint32(start)<<valueShift | uint32(sub)<<extraShift | uint32(first) //nolint:gosec // small
			}
			entry := syms[z.sorted[at]] | uint32(l-first) //nolint:gosec // small
			at++
			for i := int(code >> first); i < 1<<sub; i += 1 << (l - first) {
				table[start+i] = entry
			}
			if code == full {
				break
			}
			bit := uint32(1) << (bits.Len32(code^full) - 1)
			code = code&(bit-1) | bit
		}
	}
	return first, nil
}

// reader is the state of the input: bits that were read and not used stand in buf, the next one lowest.
type reader struct {
	src []byte
	pos int
	buf uint64
	n   uint
}

// need makes n bits (at most 48) available, or reports that the input ends before.
func (r *reader) need(n uint) bool {
	for r.n < n {
		if r.pos >= len(r.src) {
			return false
		}
		r.buf |= uint64(r.src[r.pos]) << r.n
		r.pos++
		r.n += 8
	}
	return true
}

// fill reads as many bits as there are, up to 56 and more.
func (r *reader) fill() {
	if r.pos+8 <= len(r.src) {
		r.buf |= binary.LittleEndian.Uint64(r.src[r.pos:]) << (r.n & 63)
		r.pos += int((63 - r.n) >> 3)
		r.n |= 56
		return
	}
	for r.n <= 56 && r.pos < len(r.src) {
		r.buf |= uint64(r.src[r.pos]) << r.n
		r.pos++
		r.n += 8
	}
}

func (r *reader) take(n uint) uint32 {
	v := uint32(r.buf & (1<<n - 1)) //nolint:gosec // n is at most 16
	r.buf >>= n
	r.n -= n
	return v
}

// inflate decompresses the deflate stream at the start of src into dst. It gives the bytes of src taken and the bytes made. It stops
// with errTooLong when the stream makes more than size bytes; dst[:size] is good then.
func (z *inflater) inflate(dst []byte, size int, src []byte) (taken, made int, err error) {
	r := reader{src: src}
	for {
		if !r.need(3) {
			return 0, made, errTruncated
		}
		last := r.take(1) == 1
		switch r.take(2) {
		case 0:
			made, err = r.stored(dst, made, size)
		case 1:
			if z.fixedLit == nil {
				z.fixed()
			}
			made, err = decode(&r, dst, made, size, z.fixedLit, 9, z.fixedDist, 5)
		case 2:
			var lb, db int
			if lb, db, err = z.dynamic(&r); err == nil {
				made, err = decode(&r, dst, made, size, z.lit[:], lb, z.dist[:], db)
			}
		default:
			err = errInflate
		}
		if err != nil {
			return 0, made, err
		}
		if last {
			return r.pos - int(r.n>>3), made, nil
		}
	}
}

// stored copies a block that is not compressed.
func (r *reader) stored(dst []byte, made, size int) (int, error) {
	r.take(r.n & 7)
	if !r.need(32) {
		return made, errTruncated
	}
	n, not := r.take(16), r.take(16)
	if n != not^0xffff {
		return made, errInflate
	}
	r.pos -= int(r.n >> 3)
	r.buf, r.n = 0, 0
	have := min(int(n), len(r.src)-r.pos)
	if made+have > size {
		copy(dst[made:size], r.src[r.pos:])
		return size, errTooLong
	}
	copy(dst[made:], r.src[r.pos:r.pos+have])
	r.pos += have
	if have < int(n) {
		return made + have, errTruncated
	}
	return made + have, nil
}

func (z *inflater) fixed() {
	lens := z.lens[:288]
	for i := range lens {
		switch {
		case i < 144:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 8
		}
	}
	z.fixedLit, z.fixedDist = make([]uint32, litMax), make([]uint32, distMax)
	_, _ = z.build(z.fixedLit, z.symbols.lit[:], lens, litBits) // the lengths are complete
	for i := range 32 {
		lens[i] = 5
	}
	_, _ = z.build(z.fixedDist, z.symbols.dist[:], lens[:32], distBits)
}

// dynamic reads the code lengths at the start of a block and makes its tables.
func (z *inflater) dynamic(r *reader) (lb, db int, err error) {
	if !r.need(14) {
		return 0, 0, errTruncated
	}
	nlit, ndist, npre := int(r.take(5))+257, int(r.take(5))+1, int(r.take(4))+4
	if nlit > 286 || ndist > 30 {
		return 0, 0, errInflate
	}
	var pre [19]uint8
	for i := range npre {
		if r.n < 3 && !r.need(3) {
			return 0, 0, errTruncated
		}
		pre[codeOrder[i]] = uint8(r.take(3)) //nolint:gosec // below 8
	}
	pb, err := z.build(z.pre[:], z.symbols.pre[:], pre[:], preBits)
	if err != nil {
		return 0, 0, err
	}
	mask := uint64(1)<<pb - 1
	lens := z.lens[:nlit+ndist]
	for i := 0; i < len(lens); {
		if r.n < 14 {
			r.fill()
		}
		e := z.pre[r.buf&mask]
		if e == 0 {
			return 0, 0, errInflate
		}
		n := uint(e & 0xff)
		if n > r.n {
			return 0, 0, errTruncated
		}
		r.take(n)
		sym := e >> valueShift
		if sym < 16 {
			lens[i] = uint8(sym)
			i++
			continue
		}
		var value uint8
		var extra uint
		repeat := 3
		switch sym {
		case 16:
			if i == 0 {
				return 0, 0, errInflate
			}
			value, extra = lens[i-1], 2
		case 17:
			extra = 3
		default:
			repeat, extra = 11, 7
		}
		if r.n < extra {
			return 0, 0, errTruncated
		}
		repeat += int(r.take(extra))
		if i+repeat > len(lens) {
			return 0, 0, errInflate
		}
		for range repeat {
			lens[i] = value
			i++
		}
	}
	if lens[256] == 0 {
		return 0, 0, errInflate
	}
	if lb, err = z.build(z.lit[:], z.symbols.lit[:], lens[:nlit], litBits); err != nil {
		return 0, 0, err
	}
	db, err = z.build(z.dist[:], z.symbols.dist[:], lens[nlit:], distBits)
	return lb, db, err
}
