// Package keysource says how the value of a key is read from a place outside the program that uses it, and how such a place is named: by a
// reference such as vault:secret/anthropic#api_key. It never writes to a place, keeps no value, and decides nothing about keys. Each sort of
// place is a package below this one; package all opens them by reference. The gateway and the public package keyring read with it.
package keysource

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// Reading is what a place holds. The caller may keep the value, and destroys it when it is of no use any more.
type Reading struct {
	Value secret.Value
	// Mark names the state of the place that was read, for Wait. It holds no value and is compared, never shown.
	Mark string
	// Generation grows each time the place is given another value; zero where the place does not count.
	Generation uint64
	// Denied lists values that the place knows to be compromised.
	Denied []apikey.Digest
}

// Reader reads one value. Its methods may be called from several goroutines. Its errors are of package fault and hold no value.
type Reader interface {
	// Read gives what the place holds now. It is bounded by ctx alone.
	Read(ctx context.Context) (Reading, error)
	// Wait returns nil when the place may hold something else than it did at mark, and an error when it cannot tell any longer, or when ctx
	// has ended. It may return early; the caller reads then. An empty mark is that of a place that was never read.
	Wait(ctx context.Context, mark string) error
}

// Unsettled is the ability of a Reader whose place may be read while it is being written: a change counts when two reads Settle apart agree.
type Unsettled interface {
	Settle() time.Duration
}

// Poll is the Wait of a place that tells nothing: it returns nil after every.
func Poll(ctx context.Context, every time.Duration) error {
	t := time.NewTimer(every)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fault.In(context.Cause(ctx), "wait for a change")
	}
}

// DefaultEvery is the pause between two looks at a file.
const DefaultEvery = 250 * time.Millisecond

// File reads a file of mode 0600 that holds the value alone. A relative path starts at dir. Every is the pause between two looks while it
// waits; zero means DefaultEvery.
func File(path, dir string, every time.Duration) Reader {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if every <= 0 {
		every = DefaultEvery
	}
	return file{path, every}
}

type file struct {
	path  string
	every time.Duration
}

var (
	_ Reader    = file{}
	_ Unsettled = file{}
)

// Settle is the pause between the two equal reads that a change needs: a file that is still being written differs.
func (file) Settle() time.Duration { return 100 * time.Millisecond }

// Read implements Reader. The mark is taken first, so that a change during the read is found by Wait.
func (f file) Read(ctx context.Context) (Reading, error) {
	mark := f.mark()
	v, err := secret.Ref("file:"+f.path).Resolve(ctx, "")
	return Reading{Value: v, Mark: mark}, err
}

// Wait implements Reader.
func (f file) Wait(ctx context.Context, mark string) error {
	for {
		if err := Poll(ctx, f.every); err != nil {
			return err
		}
		if f.mark() != mark {
			return nil
		}
	}
}

// mark is what changes with a file, links followed.
func (f file) mark() string {
	info, err := os.Stat(f.path)
	if err != nil {
		return "none"
	}
	return stamp(info)
}

// Env reads a variable of the environment, which never changes.
func Env(variable string) Reader { return env(variable) }

type env string

var _ Reader = env("")

// Read implements Reader.
func (e env) Read(ctx context.Context) (Reading, error) {
	v, err := secret.Ref("env:"+string(e)).Resolve(ctx, "")
	return Reading{Value: v, Mark: "once"}, err
}

// Wait implements Reader.
func (env) Wait(ctx context.Context, _ string) error {
	<-ctx.Done()
	return fault.In(context.Cause(ctx), "wait for a change")
}

// Member takes a field out of text: the text itself when field is empty, else the text member of that name of the JSON object that it is.
// One trailing line end is dropped. It overwrites text. Kinds: Invalid, NotFound.
func Member(text []byte, field string) (secret.Value, error) {
	defer clear(text)
	if field != "" {
		inner, err := member(text, field)
		if err != nil {
			return secret.Value{}, err
		}
		defer clear(inner)
		text = inner
	}
	return Whole(text)
}

// Whole makes the value that text is, without one trailing line end. It overwrites text. Kinds: Invalid, NotFound.
func Whole(text []byte) (secret.Value, error) {
	defer clear(text)
	end := len(text)
	if end > 0 && text[end-1] == '\n' {
		end--
	}
	if end > 0 && text[end-1] == '\r' {
		end--
	}
	switch {
	case end == 0:
		return secret.Value{}, fault.New(fault.NotFound, "it is empty")
	case end > MaxValue:
		return secret.Value{}, fault.New(fault.Invalid, "it is longer than any key")
	}
	return secret.New(text[:end]), nil
}

// MaxValue bounds a value, in bytes.
const MaxValue = 16 << 10

// quoted reports whether a word may stand in an error: a name of ours, never what may be a value.
func quoted(s string) bool {
	return len(s) <= 512 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
