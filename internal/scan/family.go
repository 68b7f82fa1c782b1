package scan

import "strings"

// Family is a provider's set of key kinds. A third family is a file with a function that gives one, and a line in Families.
type Family struct {
	Name string
	// Prefix starts every key of the family and is selective on its own; unknown kinds behind it are near. Empty where the family has
	// no such prefix.
	Prefix string
	Shapes []KindShape
}

// KindShape is how the keys of one kind look: Prefix, then a body.
type KindShape struct {
	Kind   Kind
	Prefix string
	// Alphabet is the body's.
	Alphabet Alphabet
	// Lengths are the body lengths that keys have been seen with, longest first. None means that any length from Min on is exact.
	Lengths []int
	// Min is the smallest body that is no placeholder.
	Min int
	// Tail ends the body of a key with one of the Lengths. Empty asks for none.
	Tail string
	// Inside stands somewhere in the body of a usual key. Empty asks for none.
	Inside string
	// Anchors are texts of at least six bytes, of which every key of the kind holds one. Nil gives Prefix, and its last seven bytes.
	Anchors []string
}

// Alphabet is a set of bytes that values are made of.
type Alphabet uint8

// The alphabets.
const (
	Alphanumeric Alphabet = iota + 1 // A–Z a–z 0–9
	URLSafe                          // Alphanumeric and - _
	Base64                           // Alphanumeric and + / =
	Hexadecimal                      // 0–9 a–f A–F
	Printable                        // ASCII from ! to ~ without quotes, comma, semicolon and brackets
)

// Has reports whether c belongs to the alphabet.
func (a Alphabet) Has(c byte) bool {
	switch a {
	case Alphanumeric:
		return alnum(c)
	case URLSafe:
		return alnum(c) || c == '-' || c == '_'
	case Base64:
		return alnum(c) || c == '+' || c == '/' || c == '='
	case Hexadecimal:
		return unhex(c) < 16
	case Printable:
		return c > ' ' && c < 0x7f && !strings.ContainsRune("\"'`,;<>()[]{}", rune(c))
	default:
		return false
	}
}

// Families gives the built-in families: a fresh slice.
func Families() []Family { return []Family{Anthropic(), OpenAI()} }

// anchors gives the texts that betray a key of the family, each once.
func (f Family) anchors() []string {
	var all []string
	add := func(s string) {
		for _, have := range all {
			if have == s {
				return
			}
		}
		all = append(all, s)
	}
	if f.Prefix != "" {
		add(f.Prefix)
	}
	for _, k := range f.Shapes {
		for _, a := range k.Anchors {
			add(a)
		}
		if k.Anchors != nil {
			continue
		}
		if f.Prefix == "" {
			add(k.Prefix)
		}
		// A key that is split or wrapped within its first anchor still shows the end of its prefix.
		if n := len(k.Prefix); n > 7 {
			add(k.Prefix[n-7:])
		}
	}
	return all
}

func alnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// unhex gives the value of a hex digit, or 255.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	default:
		return 255
	}
}
