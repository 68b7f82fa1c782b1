package gitobj

import (
	"encoding/binary"
)

// decode decompresses the symbols of one block.
func decode(in *reader, dst []byte, made, size int, lit []uint32, lb int, dist []uint32, db int) (int, error) {
	r := *in
	lit, dist = lit[:litMax:litMax], dist[:distMax:distMax]
	lmask, dmask := uint64(1)<<lb-1, uint64(1)<<db-1
	defer func() { *in = r }()
	for {
		if made > size {
			return size, errTooLong
		}
		if r.pos+8 <= len(r.src) {
			r.buf |= binary.LittleEndian.Uint64(r.src[r.pos:]) << (r.n & 63)
			r.pos += int((63 - r.n) >> 3)
			r.n |= 56
		} else {
			for r.n <= 56 && r.pos < len(r.src) {
				r.buf |= uint64(r.src[r.pos]) << (r.n & 63)
				r.pos++
				r.n += 8
			}
			if r.n < 48 {
				return slow(&r, dst, made, size, lit, lb, dist, db)
			}
		}
		// 48 bits and more are there: a length and its distance, or three literals.
		e := lit[r.buf&lmask&(litMax-1)]
		if e&flagLit != 0 {
			r.buf >>= e & 63
			r.n -= uint(e & 63)
			dst[made] = byte(e >> valueShift) //nolint:gosec // a literal
			made++
			e = lit[r.buf&lmask&(litMax-1)]
			if e&flagLit != 0 {
				r.buf >>= e & 63
				r.n -= uint(e & 63)
				dst[made] = byte(e >> valueShift) //nolint:gosec // a literal
				made++
				continue
			}
			if r.n < 48 {
				continue
			}
		}
		if e&flagSub != 0 {
			r.buf >>= e & 63
			r.n -= uint(e & 63)
			e = lit[(uint64(e>>valueShift)+r.buf&(1<<(e>>extraShift&extraMask)-1))&(litMax-1)]
		}
		r.buf >>= e & 63
		r.n -= uint(e & 63)
		if e&(flagLit|flagEnd) != 0 {
			if e&flagEnd != 0 {
				if made > size {
					return size, errTooLong
				}
				return made, nil
			}
			dst[made] = byte(e >> valueShift) //nolint:gosec // a literal
			made++
			continue
		}
		if e>>valueShift == 0 { // a code that nobody defined, or one that stands for nothing
			return made, errInflate
		}
		x := e >> extraShift & extraMask
		length := int(e>>valueShift) + int(r.buf&(1<<x-1)) //nolint:gosec // at most 258
		r.buf >>= x
		r.n -= uint(x)
		e = dist[r.buf&dmask&(distMax-1)]
		if e&flagSub != 0 {
			r.buf >>= e & 63
			r.n -= uint(e & 63)
			e = dist[(uint64(e>>valueShift)+r.buf&(1<<(e>>extraShift&extraMask)-1))&(distMax-1)]
		}
		r.buf >>= e & 63
		r.n -= uint(e & 63)
		x = e >> extraShift & extraMask
		back := int(e>>valueShift) + int(r.buf&(1<<x-1)) //nolint:gosec // at most 32768
		r.buf >>= x
		r.n -= uint(x)
		if uint(back-1) >= uint(made) { // zero is a code that stands for nothing; made is never negative
			return made, errInflate
		}
		if made+length > size {
			return copyPart(dst, made, size, back, length), errTooLong
		}
		made = match(dst, made, back, length)
	}
}

// match repeats length bytes from back bytes before made. It may write up to 15 bytes too many.
func match(dst []byte, made, back, length int) int {
	end := made + length
	from := made - back
	switch {
	case back >= 8:
		for made < end {
			w := dst[from : from+8 : len(dst)]
			binary.LittleEndian.PutUint64(dst[made:], binary.LittleEndian.Uint64(w))
			made += 8
			from += 8
		}
	case back == 1:
		w := uint64(dst[from]) * 0x0101010101010101
		for made < end {
			binary.LittleEndian.PutUint64(dst[made:], w)
			made += 8
		}
	default:
		for made < end {
			dst[made] = dst[from]
			made++
			from++
		}
	}
	return end
}

// copyPart is match for a repetition that reaches behind size: it stops there.
func copyPart(dst []byte, made, size, back, length int) int {
	for end := min(size, made+length); made < end; made++ {
		dst[made] = dst[made-back]
	}
	return made
}

// slow is decode near the end of the input, one checked symbol at a time.
func slow(r *reader, dst []byte, made, size int, lit []uint32, lb int, dist []uint32, db int) (int, error) {
	symbol := func(table []uint32, width int) (uint32, error) {
		e := table[r.buf&(1<<width-1)]
		if e&flagSub != 0 {
			if uint(e&63) > r.n {
				return 0, errTruncated
			}
			r.take(uint(e & 63))
			e = table[uint64(e>>valueShift)+r.buf&(1<<(e>>extraShift&extraMask)-1)]
		}
		if e == 0 {
			return 0, errInflate
		}
		if uint(e&63) > r.n {
			return 0, errTruncated
		}
		r.take(uint(e & 63))
		return e, nil
	}
	extra := func(e uint32) (int, error) {
		x := uint(e >> extraShift & extraMask)
		if x > r.n {
			return 0, errTruncated
		}
		return int(e>>valueShift) + int(r.take(x)), nil
	}
	for {
		r.fill()
		e, err := symbol(lit, lb)
		if err != nil {
			return made, err
		}
		if e&flagEnd != 0 {
			return made, nil
		}
		if e&flagLit != 0 {
			if made >= size {
				return made, errTooLong
			}
			dst[made] = byte(e >> valueShift) //nolint:gosec // a literal
			made++
			continue
		}
		length, err := extra(e)
		if err != nil {
			return made, err
		}
		r.fill()
		if e, err = symbol(dist, db); err != nil {
			return made, err
		}
		back, err := extra(e)
		if err != nil {
			return made, err
		}
		if length == 0 || back == 0 || back > made {
			return made, errInflate
		}
		if made+length > size {
			return copyPart(dst, made, size, back, length), errTooLong
		}
		made = copyPart(dst, made, size, back, length)
	}
}
