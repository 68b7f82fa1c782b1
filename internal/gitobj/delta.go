package gitobj

import (
	"errors"
	"math"
)

var errDelta = errors.New("corrupt delta")

// deltaSize reads one of the two sizes at the start of a delta.
func deltaSize(d []byte) (size int64, rest []byte, err error) {
	for i, shift := 0, 0; i < len(d) && shift < 63; i, shift = i+1, shift+7 {
		size |= int64(d[i]&0x7f) << shift
		if d[i] < 0x80 {
			return size, d[i+1:], nil
		}
	}
	return 0, nil, errDelta
}

// deltaHeader reads the size of the base, that of the result, and gives the instructions.
func deltaHeader(d []byte) (base, result int64, ops []byte, err error) {
	if base, ops, err = deltaSize(d); err == nil {
		result, ops, err = deltaSize(ops)
	}
	return base, result, ops, err
}

// deltaOp reads the instruction at the start of ops, which is not empty: a copy of n bytes from offset off of the base, or, with off
// negative, n new bytes, which are in lit.
func deltaOp(ops []byte) (off, n int, lit, rest []byte, err error) {
	c := ops[0]
	if c&0x80 == 0 {
		n = int(c)
		if n == 0 || n >= len(ops) {
			return 0, 0, nil, nil, errDelta
		}
		return -1, n, ops[1 : 1+n], ops[1+n:], nil
	}
	at := 1
	if len(ops) >= 8 { // enough for the longest instruction, so that only the slice's own bounds are checked
		if c&0x01 != 0 {
			off = int(ops[at])
			at++
		}
		if c&0x02 != 0 {
			off |= int(ops[at]) << 8
			at++
		}
		if c&0x04 != 0 {
			off |= int(ops[at]) << 16
			at++
		}
		if c&0x08 != 0 {
			off |= int(ops[at]) << 24
			at++
		}
		if c&0x10 != 0 {
			n = int(ops[at])
			at++
		}
		if c&0x20 != 0 {
			n |= int(ops[at]) << 8
			at++
		}
		if c&0x40 != 0 {
			n |= int(ops[at]) << 16
			at++
		}
	} else {
		for bit := range 7 {
			if c>>bit&1 == 0 {
				continue
			}
			if at >= len(ops) {
				return 0, 0, nil, nil, errDelta
			}
			if bit < 4 {
				off |= int(ops[at]) << (8 * bit)
			} else {
				n |= int(ops[at]) << (8 * (bit - 4))
			}
			at++
		}
	}
	if n == 0 {
		n = 0x10000
	}
	return off, n, nil, ops[at:], nil
}

// applyDelta writes the result of ops over base into dst, which has the size of the result.
func applyDelta(dst, base, ops []byte) error {
	at := 0
	for len(ops) > 0 {
		off, n, lit, rest, err := deltaOp(ops)
		if err != nil {
			return err
		}
		ops = rest
		if n > len(dst)-at {
			return errDelta
		}
		if off < 0 {
			copy(dst[at:at+n], lit)
		} else {
			if off > len(base) || n > len(base)-off {
				return errDelta
			}
			copy(dst[at:at+n], base[off:off+n])
		}
		at += n
	}
	if at != len(dst) {
		return errDelta
	}
	return nil
}

// deltaWindows appends to dst every byte of the result that can be part of a string of up to margin+1 bytes that is not already in
// base: what the delta inserts, and margin bytes on either side of each place where two parts meet. Parts that do not touch in the
// result may touch in dst. It also checks the delta as applyDelta does.
func deltaWindows(dst, base, ops []byte, size int64, margin int) ([]byte, error) {
	at := int64(0)
	last := -1 // where the copy before ended in the base; -1 when what is before is not a copy
	tail := 0  // how much of the copy before was not appended yet
	head := 0  // how much of its start is still to be appended
	for first := true; len(ops) > 0; first = false {
		off, n, lit, rest, err := deltaOp(ops)
		if err != nil {
			return dst, err
		}
		ops = rest
		at += int64(n)
		if off < 0 {
			if last >= 0 {
				dst = append(dst, base[last-min(tail, margin):last]...)
			}
			dst = append(dst, lit...)
			last = -1
			continue
		}
		if off > len(base) || n > len(base)-off {
			return dst, errDelta
		}
		if last != off { // else the same stretch of the base goes on
			if last >= 0 {
				dst = append(dst, base[last-min(tail, margin):last]...)
			}
			head, tail = margin, 0
			if first {
				head = 0
			}
		}
		k := min(n, head)
		dst = append(dst, base[off:off+k]...)
		head -= k
		tail += n - k
		last = off + n
	}
	if at != size {
		return dst, errDelta
	}
	return dst, nil
}

// deltaHead appends up to n bytes from the start of the result to dst.
func deltaHead(dst, base, ops []byte, n int) ([]byte, error) {
	for end := len(dst) + n; len(ops) > 0 && len(dst) < end; {
		off, m, lit, rest, err := deltaOp(ops)
		if err != nil {
			return dst, err
		}
		ops = rest
		if off >= 0 {
			if off > len(base) || m > len(base)-off {
				return dst, errDelta
			}
			lit = base[off : off+m]
		}
		dst = append(dst, lit[:min(m, end-len(dst))]...)
	}
	return dst, nil
}

// plausible reports whether size bytes can come out of n compressed ones: deflate makes at most 1032 from each.
func plausible(size int64, n int) bool {
	return size >= 0 && size <= math.MaxInt32*1024 && size <= int64(n)*1040+64
}
