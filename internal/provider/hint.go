package provider

import (
	"fmt"
	"strings"
)

// Hint is what the provider shows of a value: its first and last characters. It is for matching alone and cannot be printed, compared with
// == or marshalled. The zero Hint fits nothing. It is safe for concurrent use.
type Hint struct {
	// The text is reached through a function, since fmt prints unexported fields without asking them, and cannot look into a closure.
	text func() string
}

// NewHint takes a hint of the form PREFIX…SUFFIX, with three dots or an ellipsis between; a hint of another form fits nothing. An empty text
// gives the zero Hint.
func NewHint(text string) Hint {
	if text == "" {
		return Hint{}
	}
	return Hint{text: func() string { return text }}
}

// IsZero reports whether there is no hint.
func (h Hint) IsZero() bool { return h.text == nil }

// fits compares the hint to a value. Both ends must be non-empty and together shorter than the value.
func (h Hint) fits(value string) bool {
	if h.IsZero() {
		return false
	}
	head, tail, ok := strings.Cut(h.text(), "...")
	if !ok {
		head, tail, ok = strings.Cut(h.text(), "…")
	}
	return ok && head != "" && tail != "" && len(head)+len(tail) < len(value) &&
		strings.HasPrefix(value, head) && strings.HasSuffix(value, tail)
}

// String says whether there is a hint.
func (h Hint) String() string {
	if h.IsZero() {
		return "no hint"
	}
	return "a hint"
}

// Format prints String, whatever the verb.
func (h Hint) Format(f fmt.State, _ rune) { fmt.Fprint(f, h.String()) }

// MarshalText gives String.
func (h Hint) MarshalText() ([]byte, error) { return []byte(h.String()), nil }
