package scan

import (
	"io"
	"strconv"
)

// The decoders turn the neighbourhood of an anchor into text. back and ahead bound that neighbourhood in bytes of the source.
const (
	back  = 1 << 10
	ahead = 8 << 10
)

// view is decoded text: pos gives, for every byte of text, the offset in the source where its encoding starts. whole reports that the text ends
// where the encoding ended, not where the neighbourhood did.
type view struct {
	text  []byte
	pos   []int32
	whole bool
}

func (v *view) put(c byte, at int) {
	v.text = append(v.text, c)
	v.pos = append(v.pos, int32(at)) // sources are cut to neighbourhoods, or to Limits.Member
}

func (v *view) clear() { v.text, v.pos = v.text[:0], v.pos[:0] }

// flatten copies the characters that keep accepts from the neighbourhood of at and passes over joints. Another character ends the text behind
// at, and before at lets it start anew. hit is the index of at in the text.
func flatten(b []byte, at, most int, j joints, keep func(byte) bool) (v view, hit int) {
	hit = -1
	i, end := max(0, at-back), min(len(b), at+most)
	for i < end {
		if i == at {
			hit = len(v.text)
		}
		if keep(b[i]) {
			v.put(b[i], i)
			i++
			continue
		}
		if n := joint(b[i:], j); n > 0 {
			if i < at && i+n > at {
				n = at - i
			}
			i += n
			continue
		}
		if i > at {
			v.whole = true
			break
		}
		v.clear()
		i++
	}
	v.whole = v.whole || i >= len(b)
	return v, hit
}

// flattenText copies the neighbourhood of at without joints, up to the end of the value that goes through at. hit is the index of at in the text.
func flattenText(b []byte, at, most int, j joints) (v view, hit int) {
	const before = 256
	hit = -1
	i, end := max(0, at-before), min(len(b), at+longestJoint+4*most)
	v.text, v.pos = make([]byte, 0, before+most), make([]int32, 0, before+most)
	for i < end {
		if i == at {
			hit = len(v.text)
		}
		if n := joint(b[i:], j); n > 0 && (i >= at || i+n <= at) {
			i += n
			continue
		}
		v.put(b[i], i)
		i++
		if hit >= 0 && (len(v.text) > hit+most || !base64Digit(b[i-1]) && b[i-1] != '=') {
			v.whole = true // of longer values only the start is looked at
			return v, hit
		}
	}
	v.whole = end == len(b)
	return v, hit
}

// base64Reader decodes the run of base64 at the start of a text.
type base64Reader struct {
	text []byte
	i    int
	left []byte
	out  [3]byte
	done bool
}

// Read gives decoded bytes, and io.EOF at the end of the run.
func (r *base64Reader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(r.left) == 0 && !r.group() {
			break
		}
		k := copy(p[n:], r.left)
		r.left = r.left[k:]
		n += k
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// group decodes the next four characters, or the last two or three.
func (r *base64Reader) group() bool {
	var w uint32
	have := 0
	for have < 4 && !r.done {
		switch {
		case r.i >= len(r.text):
			r.done = true
		case base64Digit(r.text[r.i]):
			w = w<<6 | sextet(r.text[r.i])
			have++
			r.i++
		default:
			n := joint(r.text[r.i:], literals|breaks)
			r.i += n
			r.done = n == 0
		}
	}
	if have < 2 {
		return false
	}
	w <<= 6 * (4 - have)
	r.out = [3]byte{byte(w >> 16), byte(w >> 8), byte(w)}
	r.left = r.out[:have-1]
	return true
}

func base64Digit(c byte) bool {
	return alnum(c) || c == '+' || c == '/' || c == '-' || c == '_'
}

func sextet(c byte) uint32 {
	switch {
	case c >= 'A' && c <= 'Z':
		return uint32(c - 'A')
	case c >= 'a' && c <= 'z':
		return uint32(c-'a') + 26
	case c >= '0' && c <= '9':
		return uint32(c-'0') + 52
	case c == '+' || c == '-':
		return 62
	default:
		return 63
	}
}

// base64View decodes the run of base64 around at, whose character there is the phase-th of its group.
func base64View(b []byte, at, most, phase int) view {
	// A hyphen or a line end may separate: both are tried by the caller's second look, since joints with literals are rarer.
	raw, hit := flatten(b, at, most, literals|breaks, base64Digit)
	if hit < 0 {
		return view{}
	}
	start := ((hit-phase)%4 + 4) % 4
	out := view{text: make([]byte, 0, len(raw.text)*3/4+3), pos: make([]int32, 0, len(raw.text)*3/4+3), whole: raw.whole}
	i := start
	for ; i+4 <= len(raw.text); i += 4 {
		w := sextet(raw.text[i])<<18 | sextet(raw.text[i+1])<<12 | sextet(raw.text[i+2])<<6 | sextet(raw.text[i+3])
		out.text = append(out.text, byte(w>>16), byte(w>>8), byte(w))
		out.pos = append(out.pos, raw.pos[i], raw.pos[i+1], raw.pos[i+2])
	}
	if rest := len(raw.text) - i; rest >= 2 {
		w := sextet(raw.text[i])<<18 | sextet(raw.text[i+1])<<12
		out.put(byte(w>>16), int(raw.pos[i]))
		if rest == 3 {
			w |= sextet(raw.text[i+2]) << 6
			out.put(byte(w>>8), int(raw.pos[i+1]))
		}
	}
	return out
}

// hexView decodes the run of hex digits around at, where a byte starts.
func hexView(b []byte, at int) view {
	raw, hit := flatten(b, at, ahead, literals|breaks, func(c byte) bool { return unhex(c) < 16 })
	out := view{whole: raw.whole}
	for i := hit & 1; hit >= 0 && i+2 <= len(raw.text); i += 2 {
		out.put(unhex(raw.text[i])<<4|unhex(raw.text[i+1]), int(raw.pos[i]))
	}
	return out
}

// numbersView decodes a list of numbers from at on: hex pairs or decimals, with 0x or without, and separators between.
func numbersView(b []byte, at int) view {
	var out view
	end := min(len(b), at+ahead)
	b = b[:end]
	hexadecimal := at+2 < len(b) && (b[at+1] == 'x' || unhex(b[at]) < 16 && unhex(b[at+1]) < 16 && !digit(b[at+2]))
	for i := at; i < end; {
		start, v, n := i, 0, 0
		if i+2 < end && b[i] == '0' && (b[i+1] == 'x' || b[i+1] == 'X') {
			i += 2
		}
		for ; i < end && n < 3; n++ {
			d := int(unhex(b[i]))
			if hexadecimal && (d > 15 || n == 2) || !hexadecimal && d > 9 {
				break
			}
			if v *= 16; !hexadecimal {
				v = v / 16 * 10
			}
			v += d
			i++
		}
		if n == 0 || v > 255 {
			out.whole = true
			return out
		}
		out.put(byte(v), start)
		gap := i
		for i < end && i < gap+64 && (b[i] == ' ' || b[i] == ',' || b[i] == ':' || b[i] == '-' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
			i++
		}
		if i == gap {
			out.whole = true
			return out
		}
	}
	out.whole = end == len(b)
	return out
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// wideView decodes the run of 16-bit characters below 128 around at, where one starts.
func wideView(b []byte, at int) view {
	wide := func(i int) bool { return b[i] != 0 && b[i] < 0x80 && b[i+1] == 0 }
	i := at
	for i >= 2 && i > at-back && wide(i-2) {
		i -= 2
	}
	var out view
	for ; i+1 < len(b) && i < at+ahead; i += 2 {
		if !wide(i) {
			out.whole = true
			return out
		}
		out.put(b[i], i)
	}
	if i+1 == len(b) && b[i] != 0 && b[i] < 0x80 {
		out.put(b[i], i)
	}
	out.whole = i+1 >= len(b)
	return out
}

// escapeView decodes the escapes of one form in the neighbourhood of at and leaves the rest as it is. Where the anchor has no escape, the view
// is empty.
func escapeView(b []byte, at int, f form) view {
	escaped := false
	for i := max(0, at-8); i < min(len(b), at+24) && !escaped; i++ {
		_, n := escape(b[i:], f)
		escaped = n > 0
	}
	if !escaped {
		return view{}
	}
	i, end := max(0, at-back), min(len(b), at+ahead)
	out := view{text: make([]byte, 0, end-i), pos: make([]int32, 0, end-i)}
	for i < end {
		c, n := escape(b[i:end], f)
		if n == 0 {
			c, n = b[i], 1
		}
		out.put(c, i)
		i += n
	}
	out.whole = end == len(b)
	return out
}

// escape decodes one escaped character at the start of b and gives its length, or 0.
func escape(b []byte, f form) (byte, int) {
	switch f {
	case formPercent:
		if c, ok := pair(b, 1); ok && b[0] == '%' {
			return c, 3
		}
	case formQuoted:
		if c, ok := pair(b, 1); ok && b[0] == '=' {
			return c, 3
		}
	case formEntity:
		return entity(b)
	case formBackslash:
		i := skipSlashes(b, 0)
		if i == 0 || i >= len(b) {
			return 0, 0
		}
		switch {
		case b[i] == 'u' && i+1 < len(b) && b[i+1] == '{':
			for k := i + 2; k < len(b) && k < i+9; k++ {
				if b[k] == '}' {
					return number(b[i+2:k], 16, k+1)
				}
			}
		case b[i] == 'u' && i+5 <= len(b):
			return number(b[i+1:i+5], 16, i+5)
		case b[i] == 'x' && i+3 <= len(b):
			return number(b[i+1:i+3], 16, i+3)
		case b[i] >= '0' && b[i] <= '3' && i+3 <= len(b):
			return number(b[i:i+3], 8, i+3)
		}
	}
	return 0, 0
}

func pair(b []byte, i int) (byte, bool) {
	if len(b) < i+2 || unhex(b[i]) > 15 || unhex(b[i+1]) > 15 {
		return 0, false
	}
	return unhex(b[i])<<4 | unhex(b[i+1]), true
}

// number parses a number below 128 and gives it with the length n of the whole escape.
func number(b []byte, base, n int) (byte, int) {
	v, err := strconv.ParseUint(string(b), base, 32)
	if err != nil || v > 127 {
		return 0, 0
	}
	return byte(v), n
}

func entity(b []byte) (byte, int) {
	if len(b) < 4 || b[0] != '&' || b[1] != '#' {
		return 0, 0
	}
	start, base := 2, 10
	if b[2] == 'x' || b[2] == 'X' {
		start, base = 3, 16
	}
	for i := start; i < len(b) && i < 10; i++ {
		if b[i] == ';' {
			return number(b[start:i], base, i+1)
		}
	}
	return 0, 0
}
