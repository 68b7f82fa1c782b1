// Package handover is what both ends of a released value agree on: the request and the reply of POST /v1/release, the seal around the value, and
// the file that makes a program an enrolled reader. It opens no connection and decides nobody's rights. The daemon's package release answers
// with it, and package keysource/daemon asks with it.
package handover

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// Path is the resource; it takes POST alone.
const Path = "/v1/release"

// MaxBody bounds a request and a reply, in bytes.
const MaxBody = 64 << 10

// MaxWait bounds how long a daemon keeps a request open that waits for a change.
const MaxWait = 25 * time.Second

// Request asks for the value of a key.
type Request struct {
	Key apikey.Name `json:"key"`
	// Have is the generation that the reader has; the reply then comes when there is a larger one. Zero asks for the value at once.
	Have uint64 `json:"have,omitempty"`
	// Wait is how many seconds the daemon may wait for a larger generation than Have; at most MaxWait.
	Wait int `json:"wait,omitempty"`
	// To is the public X25519 key to which the value is sealed, for a reader on the daemon's own socket. An enrolled reader's is the one of its
	// enrolment, whatever stands here.
	To []byte `json:"to,omitempty"`
}

// Reply is the daemon's answer. Without Sealed nothing has changed since Have.
type Reply struct {
	Key         apikey.Name        `json:"key"`
	Generation  uint64             `json:"generation"`
	Fingerprint apikey.Fingerprint `json:"fingerprint,omitempty"`
	// Sealed is the value under HPKE (RFC 9180, base mode): X25519, HKDF-SHA256, AES-256-GCM; the encapsulated key stands in front.
	Sealed []byte `json:"sealed,omitempty"`
	// Denied lists the values of the key that are compromised, by their SHA-256.
	Denied []apikey.Digest `json:"denied,omitempty"`
}

// Binding says which release a sealed value belongs to; it opens under the same alone.
type Binding struct {
	Reader     string // the name that the daemon knows the reader by
	Key        apikey.Name
	Generation uint64
}

// info gives b in one unambiguous way: every text behind its length.
func (b Binding) info() []byte {
	out := []byte("release of keywright, form 1")
	for _, s := range []string{b.Reader, string(b.Key)} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s))) //nolint:gosec // names are short
		out = append(out, s...)
	}
	return binary.BigEndian.AppendUint64(out, b.Generation)
}

// Local is the reader's name in the binding for a program on the daemon's own socket.
const Local = "socket"

// NewKey makes an X25519 key.
func NewKey() (*ecdh.PrivateKey, error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	return k, fault.Wrap(fault.Unknown, err, "make X25519 key")
}

// Seal encrypts a value to a reader's public X25519 key. Kind: Invalid.
func Seal(to []byte, b Binding, v secret.Value) ([]byte, error) {
	public, err := ecdh.X25519().NewPublicKey(to)
	if err != nil {
		return nil, fault.New(fault.Invalid, "seal value: the reader's key is no X25519 key")
	}
	key, err := hpke.NewDHKEMPublicKey(public)
	if err != nil {
		return nil, fault.New(fault.Invalid, "seal value: the reader's key is no X25519 key")
	}
	var sealed []byte
	v.Reveal(func(plain []byte) { sealed, err = hpke.Seal(key, hpke.HKDFSHA256(), hpke.AES256GCM(), b.info(), plain) })
	if err != nil {
		return nil, fault.New(fault.Invalid, "seal value: the reader's key cannot be used")
	}
	return sealed, nil
}

// Open is the inverse of Seal. Kind: Corrupt.
func Open(private *ecdh.PrivateKey, b Binding, sealed []byte) (secret.Value, error) {
	key, err := hpke.NewDHKEMPrivateKey(private)
	if err != nil {
		return secret.Value{}, fault.New(fault.Corrupt, "open released value: the reader's key cannot be used")
	}
	plain, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), b.info(), sealed)
	if err != nil {
		return secret.Value{}, fault.New(fault.Corrupt, "open released value: it was sealed for another reader, key or generation")
	}
	return secret.New(plain), nil
}
