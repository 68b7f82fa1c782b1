// Package scan finds keys in bytes. A Searcher looks for the anchors of all families in all forms in one pass (Anchored), and decodes and
// matches one whole object outward from its anchors (Find): plain text, UTF-16, base64, hex, escapes, split literals, compressed data and
// archives. Every match is graded exact, near or placeholder.
//
// It reads what it is given and nothing else: it opens no file, runs no program, executes nothing of what it scans, and never shows a value:
// a Match carries a fingerprint, and the value only where the caller asked for it. Package scan/tree walks work trees and files with it,
// package scan/history walks git objects.
package scan

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/secret"
)

// Kind is the sort of a key in words, such as "API key". Together with Family it is unique.
type Kind string

// Grade says how sure a match is.
type Grade uint8

// The grades, weakest first.
const (
	// Placeholder is a stand-in from documentation, an example or a template. It is counted, not reported, and has no ID and no Digest.
	Placeholder Grade = iota + 1
	// Near has the prefix of a family and an unfamiliar kind, length or ending.
	Near
	// Exact has the shape that keys of the kind have.
	Exact
)

// String gives "placeholder", "near" or "exact".
func (g Grade) String() string {
	switch g {
	case Placeholder:
		return "placeholder"
	case Near:
		return "near"
	case Exact:
		return "exact"
	default:
		return "ungraded"
	}
}

// MarshalText gives String.
func (g Grade) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// ID names a key in reports: the fingerprint "kf_…" of its value, or, for a value of less than 128 bits of estimated entropy, "kl_" and 16
// hex digits of an HMAC under the key of this store, which cannot be guessed back without that key.
type ID string

// Match is one place in one object that holds a key. It holds no text of the object.
type Match struct {
	Family string
	Kind   Kind
	Grade  Grade
	// ID is empty for a placeholder.
	ID ID
	// Digest is known only where ID is a fingerprint.
	Digest apikey.Digest
	// Offset counts bytes to the key's first byte, encoded as it is, in the object, in the member named by Inner, or in what a
	// compressed object holds. For data decompressed from within a text it is the offset of that data's encoding.
	Offset int64
	// Line counts from 1 and is the line of Offset; 0 in binary objects and where it is not known.
	Line int
	// Form is the chain of decodings that led to the key, outermost first, joined by ">", such as "base64>gzip"; empty for plain text.
	Form string
	// Inner is the path within an archive, with "!/" between nested ones; empty elsewhere. It is foreign text and must be masked and
	// escaped before it is shown.
	Inner string
	// Size is the number of bytes of the value.
	Size int
	// Prefix is the known start of the value, which holds no secret character.
	Prefix string
	// Value is set only where Options.Keep asked for it. The receiver destroys it.
	Value secret.Value
	// Allowed reports that the line of Offset, in a text, holds the mark "keywright:allow". Whether it counts is the caller's to say.
	Allowed bool
}

// Gap is a part of an object that was not searched, and why.
type Gap struct {
	Offset int64
	Form   string
	Inner  string
	Reason string // one of the Reason constants, no foreign words
}

// Options says what a Searcher looks for. The zero Options search for the built-in families.
type Options struct {
	// Families replaces the built-in ones when it is not nil.
	Families []Family
	// Keep sets Match.Value, for callers that verify keys.
	Keep bool
	// StoreKey is the key of the HMAC for values of low entropy. Zero gives a key that lives as long as the Searcher.
	StoreKey secret.Value
	// Known finds keys of unfamiliar shape by their digest. Nil finds none.
	Known Known
	// Limits bounds decoding. Zero fields take their defaults.
	Limits Limits
	// Now is the clock of Limits.Time. Nil gives time.Now.
	Now func() time.Time
}

// Searcher finds keys. It is immutable and safe for concurrent use.
type Searcher struct {
	o      Options
	needle *needles
	store  secret.Value
	shapes []Shape
}

func (o *Options) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

// New builds a Searcher.
func New(o Options) *Searcher {
	if o.Families == nil {
		o.Families = Families()
	}
	o.Limits = o.Limits.withDefaults()
	s := &Searcher{o: o, needle: newNeedles(o.Families), store: o.StoreKey}
	if s.store.IsZero() {
		s.store = freshKey()
	}
	if o.Known != nil {
		s.shapes = o.Known.Shapes()
	}
	return s
}

// Margin is the number of bytes of the longest anchor. A window of an object that overlaps its neighbour by Margin()-1 bytes misses none.
func (s *Searcher) Margin() int { return s.needle.longest }

// Anchored reports whether a whole object may hold a key: it holds an anchor in some form, or starts as an archive. It may be true for an
// object without keys, never false for one with a key that Find would find. With known keys of unfamiliar shape it is always true.
func (s *Searcher) Anchored(b []byte) bool {
	return len(s.shapes) > 0 || s.needle.any(b) || Magic(b)
}

// AnchoredPart is Anchored for a window from the middle of an object: it looks for no archive.
func (s *Searcher) AnchoredPart(b []byte) bool {
	return len(s.shapes) > 0 || s.needle.any(b)
}

// Find decodes and matches one whole object and yields its keys in no particular order, each distinct (place, key) once. It gives the parts it
// could not search; none means that the object was searched whole. When ctx ends it stops early with a gap that says so. yield is called
// from the calling goroutine. b is not changed or kept.
func (s *Searcher) Find(ctx context.Context, b []byte, yield func(Match)) []Gap {
	f := newFinder(ctx, s, yield)
	f.object(b)
	return f.gaps
}

// Stream is Find for what does not fit into memory: files of any size, pipes, members of archives. It reads r to its end and holds a few
// windows of it. A gap with ReasonUnreadable stands for an error of r.
func (s *Searcher) Stream(ctx context.Context, r io.Reader, yield func(Match)) []Gap {
	f := newFinder(ctx, s, yield)
	in := &source{r: r}
	fr := &frame{doc: &document{}}
	f.stream(in, fr)
	if in.err != nil && ctx.Err() == nil {
		f.gap(fr, 0, ReasonUnreadable) // also where an archive took it for its own end
	}
	return f.gaps
}

// source remembers why a reader ended early, whatever was made of that by what reads from it.
type source struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
