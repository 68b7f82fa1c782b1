package report

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/scan"
)

// Text is foreign text that is fit to be shown: it holds no key and no control, invisible or direction-changing character. Only a Masker makes
// one, so that no rendering can show a text that was not masked. Each rendering still escapes it for its own syntax. The zero Text is
// empty.
type Text struct{ s string }

// String gives the text.
func (t Text) String() string { return t.s }

// IsZero reports whether there is no text.
func (t Text) IsZero() bool { return t.s == "" }

// MarshalText gives String.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.s), nil }

const (
	// mostRead is how many bytes of a foreign text are looked at, and mostShown how many are kept.
	mostRead  = 64 << 10
	mostShown = 4 << 10
)

// Masker turns foreign text into Text. It is safe for concurrent use.
type Masker struct{ search *scan.Searcher }

// NewMasker makes a Masker that masks what s finds.
func NewMasker(s *scan.Searcher) *Masker { return &Masker{search: s} }

// Text masks every key in a text as "[kf_…]" and every placeholder as "[placeholder]", and writes bytes that are no UTF-8 and characters that
// do not print as escapes. A longer text is cut, with an ellipsis at its end.
func (m *Masker) Text(foreign string) Text {
	long := len(foreign) > mostRead
	masked := m.Hide(foreign[:min(len(foreign), mostRead)])
	shown := printable(masked)
	if long || len(shown) > mostShown {
		cut := min(len(shown), mostShown)
		for cut > 0 && cut < len(shown) && !utf8.RuneStart(shown[cut]) {
			cut--
		}
		shown = shown[:cut] + "…"
	}
	return Text{s: shown}
}

// Hide masks every key in a text as Text does, and leaves all other characters as they are. What it gave it leaves alone.
func (m *Masker) Hide(foreign string) string {
	masked, found := m.mask(foreign)
	// Characters that do not show could part a key in two.
	if bare := strip(foreign); bare != foreign {
		if m, hidden := m.mask(bare); hidden {
			masked, found = m, true
		}
	}
	if found {
		if _, left := m.mask(masked); left {
			masked = "[hidden: holds a key]"
		}
	}
	return masked
}

// Find calls found when bytes hold a key. Placeholders count.
func (m *Masker) Find(ctx context.Context, b []byte, found func()) {
	m.search.Find(ctx, b, func(f scan.Match) {
		if !f.Value.IsZero() {
			f.Value.Destroy()
		}
		found()
	})
}

type span struct {
	from, to int
	name     string
}

// mask replaces what the detectors find, and reports whether there was anything.
func (m *Masker) mask(s string) (string, bool) {
	b := []byte(s)
	var spans []span
	m.search.Find(context.Background(), b, func(f scan.Match) {
		if !f.Value.IsZero() {
			f.Value.Destroy()
		}
		sp := span{from: int(f.Offset), to: int(f.Offset) + f.Size, name: string(f.ID)}
		if f.Form != "" || sp.to > len(b) {
			sp.to = len(b) // how far an encoded key reaches is not known
		}
		if f.Inner != "" {
			sp.from = 0 // the offset is within the archive
		}
		if f.Grade == scan.Placeholder || sp.name == "" {
			sp.name = scan.Placeholder.String()
		}
		spans = append(spans, sp)
	})
	if len(spans) == 0 {
		return s, false
	}
	slices.SortFunc(spans, func(a, b span) int {
		if a.from != b.from {
			return a.from - b.from
		}
		return b.to - a.to
	})
	var out strings.Builder
	at := 0
	for i, sp := range spans {
		if i > 0 && sp.from < at { // within the one before
			at = max(at, sp.to)
			continue
		}
		out.Write(b[at:max(at, sp.from)])
		out.WriteString("[" + sp.name + "]")
		at = sp.to
	}
	out.Write(b[min(at, len(b)):])
	return out.String(), true
}

// strip drops what printable would escape.
func strip(s string) string {
	return strings.Map(func(r rune) rune {
		if r != utf8.RuneError && unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}

// printable writes an escape for each byte that is no UTF-8 and each character that does not print.
func printable(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f
	}
	if plain {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\U%08x`, r)
		}
		i += n
	}
	return out.String()
}
