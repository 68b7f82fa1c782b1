package audit

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxText is the number of characters that Clean lets through.
const MaxText = 1000

// Removed stands in a cleaned text where something looked like a key.
const Removed = "[removed: looks like a key]"

// maxUncleaned is the number of bytes that Clean looks at.
const maxUncleaned = 64 << 10

// keyShaped finds a key, also one that was broken over lines when it was pasted.
var keyShaped = regexp.MustCompile(`(?i)sk-ant-(?: *\n[ \n]*)?[a-z0-9_-]{8,}(?: *\n[ \n]*[a-z0-9_-]{16,})*`)

// Clean makes text that people wrote, or that came from elsewhere, fit to be kept and shown: it replaces what looks like a key
// by Removed; drops control characters, invisible and direction-changing ones, and bytes that are no UTF-8; turns line ends and
// tabs into blanks; and cuts at MaxText characters, with an ellipsis as the last. Cleaning twice changes nothing.
// The result still has to be escaped for the output it goes to.
func Clean(text string) string { return clean(text, MaxText) }

func clean(text string, most int) string {
	if plain(text) && len(text) <= most {
		return text
	}
	text = text[:min(len(text), maxUncleaned)]
	// Invisible characters go first: they could hide a key from the expression.
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\v' || r == '\f' || r == '\u0085' || r == '\u2028' || r == '\u2029':
			return '\n'
		case r == '\t':
			return ' '
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Cs):
			return -1
		}
		return r
	}, validUTF8(text))
	text = keyShaped.ReplaceAllLiteralString(text, Removed)
	text = strings.TrimSpace(strings.ReplaceAll(text, "\n", " "))
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	cut := 0
	for i := range text {
		if cut++; cut == most {
			return text[:i] + "…"
		}
	}
	return text
}

// validUTF8 drops what is no UTF-8, so that it cannot part a key in two.
func validUTF8(s string) string { return strings.ToValidUTF8(s, "") }

// plain reports that s is short work: ASCII letters, digits and marks without anything that could be part of a key's prefix.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' && (c != ' ' || i == 0 || i == len(s)-1) || c >= 0x7f {
			return false
		}
	}
	return !strings.Contains(strings.ToLower(s), "sk-ant-")
}
