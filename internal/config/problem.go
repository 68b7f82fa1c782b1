package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/keywright/keywright/internal/fault"
)

// Problem is one thing that is wrong in one place of a file. Line and Column count from 1; they are 0 where the file as a whole is
// meant. Neither text holds a value.
type Problem struct {
	File         string
	Line, Column int
	Message      string
	// Hint says what is allowed there, or what was probably meant. It may be empty.
	Hint string
}

// Error gives FILE:LINE:COLUMN: MESSAGE (HINT).
func (p Problem) Error() string {
	s := p.position() + p.Message
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

func (p Problem) position() string {
	if p.Line == 0 {
		return p.File + ": "
	}
	return fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
}

// Warning is a Problem with which Keywright can work.
type Warning struct{ Problem }

// Errors is what Load gives when there are problems: all of them, ordered by file and line. It is of kind Invalid.
type Errors struct {
	Problems []*Problem
	// More is the number of problems beyond the listed ones.
	More int
}

// Error gives one line per problem and a last one with their number.
func (e *Errors) Error() string {
	var b strings.Builder
	for _, p := range e.Problems {
		b.WriteString(p.Error())
		b.WriteByte('\n')
	}
	return b.String() + e.Count()
}

// Count gives the number of problems in words.
func (e *Errors) Count() string {
	n := len(e.Problems) + e.More
	if n == 1 {
		return "1 error"
	}
	return fmt.Sprintf("%d errors", n)
}

// Unwrap gives the kind first, then the problems.
func (e *Errors) Unwrap() []error {
	out := []error{fault.New(fault.Invalid, "read configuration")}
	for _, p := range e.Problems {
		out = append(out, p)
	}
	return out
}

var (
	// keyLike finds a key of this or a similar provider, or the better part of one.
	keyLike = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)sk-[a-z0-9_-]{20,}`) })
	// word finds runs long enough to be a value of some sort.
	word = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[A-Za-z0-9+/_=-]{20,}`) })
)

// keyIn is FindStringIndex of keyLike, for the many lines that hold nothing of the sort.
func keyIn(line string) []int {
	for rest := line; ; {
		i := strings.IndexByte(rest, '-')
		if i < 0 {
			return nil
		}
		if i >= 2 && strings.EqualFold(rest[i-2:i], "sk") {
			return keyLike().FindStringIndex(line)
		}
		rest = rest[i+1:]
	}
}

// mayBeValue reports whether s should not be shown, since people paste values in the wrong places.
func mayBeValue(s string) bool {
	if len(s) < 20 {
		return false
	}
	if keyIn(s) != nil {
		return true
	}
	for _, w := range word().FindAllString(s, -1) {
		if strings.ContainsFunc(w, unicode.IsDigit) && strings.ContainsFunc(w, unicode.IsLetter) && strings.Count(w, "-")+strings.Count(w, "_")+strings.Count(w, "/") < len(w)/8 {
			return true
		}
	}
	return false
}

// quote gives s for a message: in quotation marks, without control characters, or described if it may be a value.
func quote(s string) string {
	switch {
	case len(s) > 80:
		return "a text of " + fmt.Sprint(len(s)) + " bytes"
	case mayBeValue(s):
		return "a text that is not shown"
	}
	return strconv.Quote(s)
}

// nearest gives the one of names that s was probably meant to be, or "".
func nearest(s string, names []string) string {
	best, at := "", 0
	limit := max(1, len(s)/3)
	for _, n := range names {
		d := distance(strings.ToLower(s), strings.ToLower(n))
		if d <= limit && (best == "" || d < at) {
			best, at = n, d
		}
	}
	return best
}

// distance is the number of inserted, left out, changed or swapped characters between a and b. Long texts are far apart.
func distance(a, b string) int {
	const far = 1 << 20
	if len(a) > 64 || len(b) > 64 {
		return far
	}
	before, last, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(last[j]+1, next[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, last, next = last, next, before
	}
	return last[len(b)]
}

// meant gives the hint for a name that is none of names: the nearest one, or all.
func meant(s string, names []string, what string) string {
	if n := nearest(s, names); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	if len(names) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(names))
	if len(sorted) > 30 {
		sorted = append(sorted[:30:30], "…")
	}
	return what + strings.Join(sorted, ", ")
}
