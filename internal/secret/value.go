// Package secret holds the only type for the bytes of a key, references to where such bytes can be read, and the check of
// their format. It never logs, stores or sends anything. Packages that need no value do not import it (internal/arch).
package secret

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"github.com/keywright/keywright/internal/apikey"
)

// Value is the secret bytes of a key's version. It cannot be printed, compared with == or marshalled: every such
// attempt shows the fingerprint or fails. The bytes come out by Reveal alone. The zero Value is empty. Copies share the bytes
// and their end: after Destroy on one, all are empty. Values are safe for concurrent use.
type Value struct {
	_ [0]func() // forbids ==
	// The box is reached through a function, since fmt and reflection walk through pointers of unexported fields
	// and cannot look into a closure.
	open func() *box
}

type box struct {
	mu     sync.RWMutex
	b      []byte
	digest apikey.Digest
}

// New makes a Value of a copy of b and overwrites b with zeroes. An empty b gives the zero Value.
func New(b []byte) Value {
	if len(b) == 0 {
		return Value{}
	}
	x := &box{b: bytes.Clone(b), digest: sha256.Sum256(b)}
	clear(b)
	runtime.AddCleanup(x, func(p []byte) { clear(p) }, x.b)
	return Value{open: func() *box { return x }}
}

// IsZero reports whether v holds nothing, or was destroyed.
func (v Value) IsZero() bool { return v.Len() == 0 }

// Len gives the number of bytes.
func (v Value) Len() int {
	n := 0
	v.Reveal(func(b []byte) { n = len(b) })
	return n
}

// Reveal lends the bytes to use for the length of the call. The caller must not keep or change them, and must not call
// Reveal, Len, IsZero or Destroy of the same value meanwhile: with a Destroy waiting that would stop for ever. It is meant for the
// wire and for the place that must hold the value; every call outside the packages listed in internal/arch fails its test.
func (v Value) Reveal(use func(b []byte)) {
	if v.open == nil {
		use(nil)
		return
	}
	x := v.open()
	x.mu.RLock()
	defer x.mu.RUnlock()
	use(x.b)
}

// RevealString gives the bytes as a string, for interfaces that take nothing else, such as HTTP headers. A string cannot be
// overwritten afterwards.
func (v Value) RevealString() string {
	var s string
	v.Reveal(func(b []byte) { s = string(b) })
	return s
}

// Digest gives the SHA-256 of the value, or the zero Digest of an empty one. It outlives Destroy.
func (v Value) Digest() apikey.Digest {
	if v.open == nil {
		return apikey.Digest{}
	}
	return v.open().digest
}

// Fingerprint gives the short form of the digest that is safe to show.
func (v Value) Fingerprint() apikey.Fingerprint { return v.Digest().Fingerprint() }

// Equal reports, in constant time, whether both hold the same bytes, by their SHA-256. Two empty values are not equal.
func (v Value) Equal(w Value) bool {
	if v.IsZero() || w.IsZero() {
		return false
	}
	a, b := v.Digest(), w.Digest()
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Clone gives a Value with bytes of its own, which outlive Destroy of v.
func (v Value) Clone() Value {
	var c Value
	v.Reveal(func(b []byte) { c = New(bytes.Clone(b)) })
	return c
}

// Destroy overwrites the bytes with zeroes. Copies that Go or an earlier RevealString made are out of its reach.
func (v Value) Destroy() {
	if v.open == nil {
		return
	}
	x := v.open()
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.b)
	x.b = nil
}

// Format prints "[value kf_…]" whatever the verb.
func (v Value) Format(f fmt.State, _ rune) { fmt.Fprint(f, v.String()) }

// String gives "[value kf_…]", or "[no value]".
func (v Value) String() string {
	if fp := v.Fingerprint(); fp != "" {
		return "[value " + string(fp) + "]"
	}
	return "[no value]"
}

// GoString is String.
func (v Value) GoString() string { return v.String() }

// LogValue is String, for log/slog.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }

var errMarshal = errors.New("secret: a value cannot be marshalled")

// MarshalJSON always fails.
func (v Value) MarshalJSON() ([]byte, error) { return nil, errMarshal }

// MarshalText always fails.
func (v Value) MarshalText() ([]byte, error) { return nil, errMarshal }

// MarshalBinary always fails.
func (v Value) MarshalBinary() ([]byte, error) { return nil, errMarshal }

// GobEncode always fails.
func (v Value) GobEncode() ([]byte, error) { return nil, errMarshal }

// MarshalYAML always fails.
func (v Value) MarshalYAML() ([]byte, error) { return nil, errMarshal }

// Sealed is an encrypted value as custody stores it. Only custody can open it; it is safe at rest.
type Sealed []byte

var (
	_ fmt.Formatter  = Value{}
	_ slog.LogValuer = Value{}
)

// HMAC gives the HMAC-SHA256 of a message under the value as the key (RFC 2104). The value does not leave.
func (v Value) HMAC(message []byte) []byte {
	var sum []byte
	v.Reveal(func(b []byte) {
		mac := hmac.New(sha256.New, b)
		mac.Write(message)
		sum = mac.Sum(nil)
	})
	return sum
}
