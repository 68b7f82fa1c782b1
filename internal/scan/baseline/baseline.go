// Package baseline reads and writes the file that names the keys a scan leaves alone: fingerprints with a reason, an author and an expiry. An
// entry belongs to a key and not to a place, so it survives moves, rebases and squashes, and another key on the same line still shows.
//
// It never holds a value, refuses a file that holds one, and decides nothing about whose baseline may count: its caller scan/run does.
//
// A baseline is text, in lines:
//
//	keywright-baseline 1
//	# a remark
//	FINGERPRINT EXPIRY AUTHOR REASON
//
// FINGERPRINT is "kf_…" or "kl_…" with 16 hex digits. EXPIRY is the last day on which the entry counts, as YYYY-MM-DD in UTC, or "never".
// AUTHOR is one word, such as an address. REASON is the rest of the line and must not be empty.
package baseline

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/scan"
)

// Header is the first line of every baseline.
const Header = "keywright-baseline 1"

// MaxSize is the largest baseline in bytes.
const MaxSize = 8 << 20

// Entry is one key that is left alone.
type Entry struct {
	ID scan.ID
	// Expires is the last day, at 00:00 UTC; zero means never.
	Expires time.Time
	Author  string
	Reason  string
	// Line is where it stands, from 1; 0 for an entry that was not read.
	Line int
}

// Baseline is a set of entries, each key once. The zero Baseline is empty.
type Baseline struct {
	entries map[scan.ID]Entry
}

var fingerprint = regexp.MustCompile(`^k[fl]_[0-9a-f]{16}$`)

// Parse reads a baseline. Every problem is named with its line, as NAME:LINE; the error is of kind Invalid, names the first and says how
// many more there are. Nothing that stands in the file is quoted, since people paste values by mistake.
func Parse(name string, text []byte) (*Baseline, error) {
	p := &parser{name: name, b: &Baseline{entries: map[scan.ID]Entry{}}}
	switch {
	case len(text) > MaxSize:
		return nil, fault.Newf(fault.Invalid, "read baseline %q: larger than %d bytes", name, MaxSize)
	case !utf8.Valid(text):
		p.bad(1+bytes.Count(text[:validPrefix(text)], []byte("\n")), "it holds bytes that are no UTF-8")
		return nil, p.err()
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		p.line(n, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
	}
	if !p.headed {
		p.bad(1, "the first line must be "+strconv.Quote(Header))
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return p.b, nil
}

func validPrefix(b []byte) int {
	i := 0
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return i
}

type parser struct {
	name   string
	b      *Baseline
	headed bool
	first  string
	more   int
}

func (p *parser) bad(line int, what string) {
	if p.first == "" {
		p.first = fmt.Sprintf("%s:%d: %s", p.name, line, what)
	} else {
		p.more++
	}
}

func (p *parser) err() error {
	switch {
	case p.first == "":
		return nil
	case p.more > 0:
		return fault.New(fault.Invalid, fmt.Sprintf("read baseline: %s (and %d more problems)", p.first, p.more), fault.Hint("a line is FINGERPRINT EXPIRY AUTHOR REASON; see docs/scan.md"))
	default:
		return fault.New(fault.Invalid, "read baseline: "+p.first, fault.Hint("a line is FINGERPRINT EXPIRY AUTHOR REASON; see docs/scan.md"))
	}
}

func (p *parser) line(n int, line string) {
	if n == 1 {
		p.headed = line == Header
		return
	}
	if strings.TrimSpace(line) == "" || line[0] == '#' {
		return
	}
	if i := strings.IndexFunc(line, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }); i >= 0 {
		p.bad(n, "it holds a character that does not print")
		return
	}
	e, what := parseEntry(line)
	if what != "" {
		p.bad(n, what)
		return
	}
	if old, ok := p.b.entries[e.ID]; ok {
		p.bad(n, fmt.Sprintf("the key is named before, in line %d", old.Line))
		return
	}
	e.Line = n
	p.b.entries[e.ID] = e
}

func parseEntry(line string) (Entry, string) {
	word := func() string {
		w, rest, _ := strings.Cut(strings.TrimLeft(line, " \t"), " ")
		if i := strings.IndexByte(w, '\t'); i >= 0 {
			w, rest = w[:i], w[i+1:]+" "+rest
		}
		line = rest
		return w
	}
	id, expiry, author := word(), word(), word()
	reason := strings.Trim(line, " \t")
	e := Entry{ID: scan.ID(id), Author: author, Reason: reason}
	switch {
	case !fingerprint.MatchString(id):
		return e, "the first word is no fingerprint (kf_ or kl_ and 16 hex digits)"
	case expiry == "":
		return e, "the expiry is missing (YYYY-MM-DD, or never)"
	case author == "":
		return e, "the author is missing"
	case reason == "":
		return e, "the reason is missing"
	}
	if expiry != "never" {
		t, err := time.Parse(time.DateOnly, expiry)
		if err != nil {
			return e, "the expiry is no day (YYYY-MM-DD, or never)"
		}
		e.Expires = t
	}
	return e, ""
}

// Len gives the number of entries.
func (b *Baseline) Len() int { return len(b.entries) }

// Has reports whether a key is named, expired or not.
func (b *Baseline) Has(id scan.ID) bool {
	_, ok := b.entries[id]
	return ok
}

// Ignores gives the entry that covers a key at a time, and false when there is none or it has expired.
func (b *Baseline) Ignores(id scan.ID, now time.Time) (Entry, bool) {
	e, ok := b.entries[id]
	if !ok || e.Expired(now) {
		return Entry{}, false
	}
	return e, true
}

// Expired reports whether the last day of an entry is over.
func (e Entry) Expired(now time.Time) bool {
	return !e.Expires.IsZero() && !now.Before(e.Expires.AddDate(0, 0, 1))
}

// Entries gives the entries by fingerprint.
func (b *Baseline) Entries() []Entry {
	all := make([]Entry, 0, len(b.entries))
	for _, e := range b.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(x, y Entry) int { return strings.Compare(string(x.ID), string(y.ID)) })
	return all
}

// Add puts an entry in the place of the one for the same key. The error is of kind Invalid, and names the field that does not fit a line.
func (b *Baseline) Add(e Entry) error {
	expiry := "never"
	if !e.Expires.IsZero() {
		expiry = e.Expires.UTC().Format(time.DateOnly)
	}
	line := strings.Join([]string{string(e.ID), expiry, e.Author, e.Reason}, " ")
	got, what := parseEntry(line)
	switch {
	case what != "":
	case strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }):
		what = "it holds a character that does not print"
	case got.Author != e.Author:
		what = "the author must be one word"
	case got.Reason != e.Reason:
		what = "the reason begins or ends with a blank"
	}
	if what != "" {
		return fault.New(fault.Invalid, "add to baseline: "+what)
	}
	got.Line = 0
	if b.entries == nil {
		b.entries = map[scan.ID]Entry{}
	}
	b.entries[e.ID] = got
	return nil
}

// Format writes the baseline, sorted by fingerprint. Parse reads it back. Remarks of a file that was read are not kept.
func (b *Baseline) Format() []byte {
	var out bytes.Buffer
	out.WriteString(Header + "\n")
	for _, e := range b.Entries() {
		expiry := "never"
		if !e.Expires.IsZero() {
			expiry = e.Expires.Format(time.DateOnly)
		}
		fmt.Fprintf(&out, "%s %s %s %s\n", e.ID, expiry, e.Author, e.Reason)
	}
	return out.Bytes()
}
