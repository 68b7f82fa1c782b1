// Package custody seals the values of versions at rest and opens them again. Each value is encrypted under a data key of its
// own, and the data key under a master, which lives in a file, a passphrase, an age identity or AWS KMS. It never stores,
// logs or sends a value, and knows no SQL: store keeps the sealed bytes, and intake, the runner and the re-wrap command call
// it.
package custody

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// Binding says which row of which store a sealed value belongs to. It is part of the encryption: a sealed value opens under
// the very binding it was sealed with, so rows cannot be swapped, copied to another store or rolled back to an earlier
// generation.
type Binding struct {
	Store      string           // store id
	Key        apikey.Name      // slot
	Version    apikey.VersionID // which of its versions
	Purpose    string           // what the value is for, such as "value"
	Generation int              // counts the values that one row held; 0 or more
}

func (b Binding) check() error {
	if b.Store == "" || b.Key == "" || b.Version == "" || b.Purpose == "" || b.Generation < 0 {
		return fault.New(fault.Invalid, "bind value: store, key, version and purpose must be named, and the generation be 0 or more")
	}
	return nil
}

// encode gives b in one unambiguous way: every text behind its length.
func (b Binding) encode(domain string) []byte {
	var out []byte
	for _, s := range []string{domain, b.Store, string(b.Key), string(b.Version), b.Purpose} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s))) //nolint:gosec // G115: names are short.
		out = append(out, s...)
	}
	return binary.BigEndian.AppendUint64(out, uint64(b.Generation)) //nolint:gosec // G115: check refuses negative ones.
}

// Master encrypts data keys. Implementations are safe for concurrent use and never print their key.
type Master interface {
	// ID names the master, in at most 512 bytes and without anything secret. Two masters share an ID only if they open
	// what the other sealed.
	ID() string
	// Wrap encrypts dataKey and binds it to aad. It keeps neither.
	Wrap(ctx context.Context, dataKey, aad []byte) ([]byte, error)
	// Unwrap undoes Wrap. Bytes that were altered, or wrapped with another aad, give an error of kind Corrupt; the other
	// kinds say that the master could not be asked. The caller overwrites the result.
	Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
}

// Custody seals and opens under one master. It is safe for concurrent use.
type Custody struct {
	master Master
}

// New gives the custody of m.
func New(m Master) *Custody { return &Custody{master: m} }

// MasterID gives the ID of the master that is open.
func (c *Custody) MasterID() string { return c.master.ID() }

const (
	domainWrap  = "keywright/custody/1/data-key"
	domainValue = "keywright/custody/1/value"
)

// Seal encrypts v for the row b names. An empty value or an incomplete binding is Invalid; other kinds come from the master.
func (c *Custody) Seal(ctx context.Context, v secret.Value, b Binding) (secret.Sealed, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	if v.IsZero() {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("seal value of %s: it is empty", b.Key))
	}
	dataKey := make([]byte, chacha20poly1305.KeySize)
	defer clear(dataKey)
	if _, err := rand.Read(dataKey); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "make data key")
	}
	id := c.master.ID()
	wrapped, err := c.master.Wrap(ctx, dataKey, wrapAAD(b, id))
	if err != nil {
		return nil, fault.In(err, fmt.Sprintf("seal value of %s", b.Key))
	}
	header, err := encodeHeader(id, wrapped)
	if err != nil {
		return nil, err
	}
	var nonce [chacha20poly1305.NonceSizeX]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "make nonce")
	}
	sealed := make([]byte, 0, len(header)+len(nonce)+v.Len()+chacha20poly1305.Overhead)
	sealed = append(append(sealed, header...), nonce[:]...)
	aad := append(b.encode(domainValue), header...)
	erasing(func() {
		aead, e := chacha20poly1305.NewX(dataKey)
		if err = e; err != nil {
			return
		}
		v.Reveal(func(plain []byte) { sealed = aead.Seal(sealed, nonce[:], plain, aad) })
	})
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "seal value")
	}
	return sealed, nil
}

// Open decrypts s, which must have been sealed for b. Kinds: Forbidden when another master sealed it (the hint names both),
// Corrupt when the bytes were altered or belong to another row, and those of the master.
func (c *Custody) Open(ctx context.Context, s secret.Sealed, b Binding) (secret.Value, error) {
	if err := b.check(); err != nil {
		return secret.Value{}, err
	}
	e, err := parse(s)
	if err != nil {
		return secret.Value{}, fault.In(err, fmt.Sprintf("open value of %s", b.Key))
	}
	if id := c.master.ID(); e.master != id {
		return secret.Value{}, fault.New(fault.Forbidden, fmt.Sprintf("open value of %s: it was sealed under master %q, and %q is open", b.Key, e.master, id),
			fault.Hint("open the store with master %q, or bring that one back from where you keep it", e.master))
	}
	dataKey, err := c.master.Unwrap(ctx, e.wrapped, wrapAAD(b, e.master))
	if err != nil {
		if fault.Is(err, fault.Corrupt) {
			return secret.Value{}, damaged(b, err)
		}
		return secret.Value{}, fault.In(err, fmt.Sprintf("open value of %s", b.Key))
	}
	defer clear(dataKey)
	if len(dataKey) != chacha20poly1305.KeySize {
		return secret.Value{}, damaged(b, nil)
	}
	plain := make([]byte, 0, len(e.box))
	aad := append(b.encode(domainValue), e.header...)
	erasing(func() {
		aead, e2 := chacha20poly1305.NewX(dataKey)
		if err = e2; err != nil {
			return
		}
		plain, err = aead.Open(plain, e.nonce, e.box, aad)
	})
	if err != nil {
		return secret.Value{}, damaged(b, nil)
	}
	return secret.New(plain), nil
}

func damaged(b Binding, cause error) error {
	message := fmt.Sprintf("open value of %s, version %s: the sealed bytes were altered or belong to another row", b.Key, b.Version)
	hint := fault.Hint("nothing was changed; restore the row from a backup of the store, or hand the value in again")
	if cause == nil {
		return fault.New(fault.Corrupt, message, hint)
	}
	return fault.Wrap(fault.Corrupt, cause, message, hint)
}

// Rewrap gives s sealed under another master, with a fresh data key. The value is in memory alone meanwhile. Bytes that to
// sealed already are checked and come back as they are, so that a re-wrap of many rows can be repeated after a crash.
// Kinds as for Open and Seal.
func (c *Custody) Rewrap(ctx context.Context, s secret.Sealed, b Binding, to Master) (secret.Sealed, error) {
	by, err := SealedBy(s)
	if err != nil {
		return nil, fault.In(err, fmt.Sprintf("re-wrap value of %s", b.Key))
	}
	next := New(to)
	done := by == to.ID()
	from := c
	if done {
		from = next
	}
	v, err := from.Open(ctx, s, b)
	if err != nil {
		return nil, fault.In(err, "re-wrap")
	}
	defer v.Destroy()
	if done {
		return s, nil
	}
	return next.Seal(ctx, v, b)
}

func wrapAAD(b Binding, master string) []byte { return append(b.encode(domainWrap), master...) }
