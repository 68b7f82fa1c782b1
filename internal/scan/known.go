package scan

import (
	"bytes"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/secret"
)

// ShapeOf gives the length of a value and the smallest alphabet that it is made of. It is not ok for a value that holds other characters than
// those of Printable.
func ShapeOf(value []byte) (Shape, bool) {
	for _, a := range []Alphabet{Hexadecimal, Alphanumeric, URLSafe, Base64, Printable} {
		n := 0
		for n < len(value) && a.Has(value[n]) {
			n++
		}
		if n == len(value) && n > 0 {
			return Shape{Length: len(value), Alphabet: a}, true
		}
	}
	return Shape{}, false
}

// Guessable reports whether a value could be guessed back from a hash of it, by the estimate that also decides over the name of a key.
func Guessable(value []byte) bool { return bitsPerByte(value)*float64(len(value)) < strongBits }

// String gives the name of the alphabet, such as "url-safe".
func (a Alphabet) String() string {
	switch a {
	case Alphanumeric:
		return "alphanumeric"
	case URLSafe:
		return "url-safe"
	case Base64:
		return "base64"
	case Hexadecimal:
		return "hexadecimal"
	case Printable:
		return "printable"
	default:
		return "unnamed"
	}
}

// known compares the text to the known values of unfamiliar shape: maximal runs of the alphabet that have the length, and pieces of longer runs
// that stand between marks, as in NAME=VALUE or name-VALUE.
func (f *finder) known(fr *frame) {
	for _, sh := range f.s.shapes {
		for i := 0; i < len(fr.text); {
			if !sh.Alphabet.Has(fr.text[i]) {
				i++
				continue
			}
			n := 1
			for i+n < len(fr.text) && sh.Alphabet.Has(fr.text[i+n]) {
				n++
			}
			for s := i; s+sh.Length <= i+n; s++ {
				e := s + sh.Length
				if (s == i || !alnum(fr.text[s-1])) && (e < i+n && !alnum(fr.text[e]) || e == i+n && (e < len(fr.text) || !fr.cut)) {
					f.compare(fr, s, e)
				}
			}
			i += n
		}
	}
}

func (f *finder) compare(fr *frame, start, end int) {
	if f.holds(fr.text[start:end]) {
		f.report(fr, candidate{start: start, end: end, family: "inventory", kind: "known key", grade: Exact})
	}
}

// holds reports whether a text is a known value.
func (f *finder) holds(text []byte) bool {
	v := secret.New(bytes.Clone(text))
	defer v.Destroy()
	return f.s.o.Known.Holds(v.Digest())
}

// familiar looks whether a candidate of a family is a known value, or the beginning of one that is longer than is usual. A known value is never
// a placeholder, whatever it looks like.
func (f *finder) familiar(fr *frame, c candidate) candidate {
	if f.s.o.Known == nil {
		return c
	}
	end := c.end
	for end < len(fr.text) && end < c.start+longestBody && URLSafe.Has(fr.text[end]) {
		end++
	}
	switch {
	case c.grade == Placeholder && f.holds(fr.text[c.start:c.end]):
		c.grade = Near
	case end > c.end && f.holds(fr.text[c.start:end]):
		c.end, c.grade = end, max(c.grade, Near)
	}
	return c
}

// Known is the inventory of keys as the scanner may ask it. It is safe for concurrent use and must not change while a Searcher uses it.
type Known interface {
	// Shapes gives the shapes of the known values that no family recognises.
	Shapes() []Shape
	// Holds reports whether the digest is that of a known value.
	Holds(apikey.Digest) bool
}

// Shape is what a value of unfamiliar form looks like from outside: its length and the characters it is made of.
type Shape struct {
	Length   int
	Alphabet Alphabet
}
