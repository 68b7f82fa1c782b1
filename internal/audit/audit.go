// Package audit is the chained record of what happened to keys: each entry holds the SHA-256 of the one before it, signed
// checkpoints fix the chain at points in time, and a verifier finds what was changed afterwards. docs/audit-format.md
// describes every byte. The package never holds a value, and keeps no log of its own: store writes entries in its own
// transactions, and the CLI, intake and the runner call the rest.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
)

// Hash is a SHA-256.
type Hash [32]byte

// String gives 64 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText is String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(b []byte) error {
	var out Hash
	if len(b) != 2*len(out) {
		return fault.Newf(fault.Invalid, "read hash: %d characters, want %d", len(b), 2*len(out))
	}
	if _, err := hex.Decode(out[:], b); err != nil {
		return fault.New(fault.Invalid, "read hash: a character that is no hex digit")
	}
	*h = out
	return nil
}

// Entry is one line of the record. Entries of one store are numbered from 1 without a gap. Store keeps Line, and reads it back
// with ParseEntry: no other encoding keeps the bytes that were hashed.
type Entry struct {
	Store string      `json:"store"`
	Seq   int64       `json:"seq"`
	At    time.Time   `json:"-"` // Event.At: when it happened. Times may step back; the order is that of Seq
	Event event.Event `json:"event"`
	Prev  Hash        `json:"prev"` // Hash of the entry before, or Genesis
	Hash  Hash        `json:"hash"`
}

const (
	domainEntry   = "keywright-audit-1\n"
	domainGenesis = "keywright-audit-genesis-1\n"
	maxSeq        = 1<<53 - 1 // the largest number that every JSON reader keeps
	maxLine       = 1 << 20
	maxName       = 300
)

// Genesis gives the Prev of the first entry of a store. It binds the whole chain to the store's id.
func Genesis(storeID string) Hash { return sha256.Sum256([]byte(domainGenesis + storeID)) }

// Link gives the entry for e behind prev; the zero Entry as prev begins the record of the store. It is pure. Every text of e
// passes Clean on its way in, the time is cut to microseconds in UTC, and Fields is copied, so that Entry.Event may differ
// from e. Invalid: no store id, no type, a time outside the years 1970 to 9999, or prev of another store.
func Link(prev Entry, e event.Event, storeID string) (Entry, error) {
	switch {
	case storeID == "":
		return Entry{}, fault.New(fault.Invalid, "link audit entry: no store id")
	case prev.Seq != 0 && prev.Store != storeID:
		return Entry{}, fault.Newf(fault.Invalid, "link audit entry: the entry before is of store %q, not %q", prev.Store, storeID)
	case prev.Seq < 0 || prev.Seq >= maxSeq:
		return Entry{}, fault.Newf(fault.Invalid, "link audit entry: nothing can follow number %d", prev.Seq)
	}
	e, err := normal(e)
	if err != nil {
		return Entry{}, fault.In(err, "link audit entry")
	}
	out := Entry{Store: storeID, Seq: prev.Seq + 1, At: e.At, Event: e, Prev: prev.Hash}
	if prev.Seq == 0 {
		out.Prev = Genesis(storeID)
	}
	out.Hash = out.Sum()
	return out, nil
}

// normal gives e as it stands in the record.
func normal(e event.Event) (event.Event, error) {
	e.At = e.At.UTC().Truncate(time.Microsecond)
	if y := e.At.Year(); y < 1970 || y > 9999 {
		return e, fault.New(fault.Invalid, "the time is not set, or outside the years 1970 to 9999")
	}
	name := func(s string) string { return clean(s, maxName) }
	e.Type = event.Type(name(string(e.Type)))
	if e.Type == "" {
		return e, fault.New(fault.Invalid, "no type")
	}
	e.Actor, e.Rotation, e.Location, e.Effect = name(e.Actor), name(e.Rotation), name(e.Location), name(e.Effect)
	e.Key, e.Version = apikey.Name(name(string(e.Key))), apikey.VersionID(name(string(e.Version)))
	e.Text = Clean(e.Text)
	if len(e.Fields) > 0 {
		fields := make(map[string]string, len(e.Fields))
		for _, n := range sortedKeys(e.Fields) {
			fields[name(n)] = Clean(e.Fields[n])
		}
		e.Fields = fields
	} else {
		e.Fields = nil
	}
	return e, nil
}

// Sum computes what Hash must be.
func (e Entry) Sum() Hash { return sha256.Sum256(e.append([]byte(domainEntry), false)) }

// Line gives the canonical JSON of e, without a line end.
func (e Entry) Line() []byte { return e.append(nil, true) }

func (e Entry) append(b []byte, withHash bool) []byte {
	b = append(b, `{"event":`...)
	b = appendEvent(b, e.Event)
	if withHash {
		b = appendMember(b, "hash", e.Hash.String())
	}
	b = appendMember(b, "prev", e.Prev.String())
	b = append(b, `,"seq":`...)
	b = fmt.Appendf(b, "%d", e.Seq)
	b = appendMember(b, "store", e.Store)
	return append(b, '}')
}

// ParseEntry reads what Line gave. It checks the form and not the hash. The error, of kind Corrupt, says that the bytes are
// not those of Line, even when they mean the same.
func ParseEntry(line []byte) (Entry, error) {
	var e Entry
	if err := decode(line, &e); err != nil {
		return Entry{}, fault.In(err, "read audit entry")
	}
	e.At = e.Event.At
	if !bytes.Equal(e.Line(), line) {
		return Entry{}, fault.New(fault.Corrupt, "read audit entry: not in canonical form")
	}
	return e, nil
}

// decode reads one JSON object and nothing else. Causes are left out, since they quote.
func decode(line []byte, into any) error {
	if len(line) > maxLine {
		return fault.Newf(fault.Corrupt, "a line of more than %d bytes", maxLine)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fault.New(fault.Corrupt, "not of the expected form", fault.Hint("it was damaged, or written by a later version of Keywright"))
	}
	if _, err := d.Token(); err != io.EOF {
		return fault.New(fault.Corrupt, "more than one object in a line")
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
