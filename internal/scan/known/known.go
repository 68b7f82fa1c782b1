// Package known reads and writes the file that names keys of an unfamiliar shape which a scan shall look for: a fingerprint, a length and an
// alphabet for each, and no value. What has that length and is made of that alphabet is compared by its fingerprint.
//
// It never holds a value, and takes none that could be guessed back from its fingerprint. Called by the command line.
//
// A file is text, in lines:
//
//	keywright-known 1
//	# a remark
//	FINGERPRINT LENGTH ALPHABET NOTE
//
// FINGERPRINT is "kf_" and 16 hex digits. LENGTH is that of the value in bytes. ALPHABET is hexadecimal, alphanumeric, url-safe, base64 or
// printable. NOTE is the rest of the line, and may be missing.
package known

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/scan"
)

// Header is the first line of every file.
const Header = "keywright-known 1"

const (
	// MaxSize is the largest file in bytes.
	MaxSize = 1 << 20
	// Shortest is the length of the shortest value that is taken.
	Shortest = 20
	// Longest is the length of the longest one.
	Longest = 4096
	// mostShapes is how many different shapes are looked for, since each is a pass over everything.
	mostShapes = 16
)

// Set is a set of keys. The zero Set is empty. It is safe for concurrent use once it is read.
type Set struct {
	prints map[apikey.Fingerprint]bool
	shapes []scan.Shape
}

// Holds reports whether the value with this digest is in the set.
func (s *Set) Holds(d apikey.Digest) bool { return s.prints[d.Fingerprint()] }

// Shapes gives the different shapes of the keys.
func (s *Set) Shapes() []scan.Shape { return slices.Clone(s.shapes) }

// Fingerprints gives the keys in order.
func (s *Set) Fingerprints() []apikey.Fingerprint {
	var all []apikey.Fingerprint
	for f := range s.prints {
		all = append(all, f)
	}
	slices.Sort(all)
	return all
}

var fingerprint = regexp.MustCompile(`^kf_[0-9a-f]{16}$`)

// Add reads a file into the set. The error, of kind Invalid, names the first problem with its line, as NAME:LINE, and quotes nothing of the
// file, since people paste values by mistake.
func (s *Set) Add(name string, text []byte) error {
	bad := func(line int, what string) error {
		return fault.New(fault.Invalid, fmt.Sprintf("read known keys: %s:%d: %s", name, line, what),
			fault.Hint("a line is FINGERPRINT LENGTH ALPHABET NOTE; keywright scan known writes one"))
	}
	if len(text) > MaxSize {
		return fault.Newf(fault.Invalid, "read known keys %q: larger than %d bytes", name, MaxSize)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		switch {
		case n == 1 && line != Header:
			return bad(1, "the first line must be "+strconv.Quote(Header))
		case n == 1, strings.TrimSpace(line) == "", line[0] == '#':
			continue
		case !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }):
			return bad(n, "it holds a character that does not print")
		}
		if what := s.line(strings.Fields(line)); what != "" {
			return bad(n, what)
		}
	}
	if n == 0 {
		return bad(1, "the first line must be "+strconv.Quote(Header))
	}
	return nil
}

func (s *Set) line(words []string) (problem string) {
	if len(words) < 3 {
		return "it has fewer than three words"
	}
	if !fingerprint.MatchString(words[0]) {
		return "the first word is no fingerprint (kf_ and 16 hex digits)"
	}
	length, err := strconv.Atoi(words[1])
	if err != nil || length < Shortest || length > Longest {
		return fmt.Sprintf("the second word is no length from %d to %d", Shortest, Longest)
	}
	shape := scan.Shape{Length: length}
	for _, a := range alphabets() {
		if a.String() == words[2] {
			shape.Alphabet = a
		}
	}
	if shape.Alphabet == 0 {
		return "the third word is no alphabet (hexadecimal, alphanumeric, url-safe, base64, printable)"
	}
	if !slices.Contains(s.shapes, shape) {
		if len(s.shapes) == mostShapes {
			return fmt.Sprintf("there are more than %d different lengths and alphabets", mostShapes)
		}
		s.shapes = append(s.shapes, shape)
	}
	if s.prints == nil {
		s.prints = map[apikey.Fingerprint]bool{}
	}
	s.prints[apikey.Fingerprint(words[0])] = true
	return ""
}

func alphabets() []scan.Alphabet {
	return []scan.Alphabet{scan.Hexadecimal, scan.Alphanumeric, scan.URLSafe, scan.Base64, scan.Printable}
}

// Line gives the line for a value, without a note and a line end. The error is Invalid and quotes nothing: a value that is too short or too
// regular for a hash to hide, or that holds blanks or other characters.
func Line(value []byte) (string, error) {
	shape, ok := scan.ShapeOf(value)
	switch {
	case !ok:
		return "", fault.New(fault.Invalid, "name known key: it holds blanks, quotes, brackets or characters that do not print", fault.Hint("give the value alone"))
	case len(value) < Shortest || len(value) > Longest:
		return "", fault.Newf(fault.Invalid, "name known key: %d characters, and a key has %d to %d here", len(value), Shortest, Longest)
	case scan.Guessable(value):
		return "", fault.New(fault.Invalid, "name known key: it is too short or too regular: whoever reads its fingerprint could guess it",
			fault.Hint("look for such a value by other means, and replace it by a random one"))
	}
	return fmt.Sprintf("%s %d %s", apikey.Digest(sha256.Sum256(value)).Fingerprint(), shape.Length, shape.Alphabet), nil
}
