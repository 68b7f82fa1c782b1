package queue

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/ledger"
)

// Master wraps the queue's own key. custody.Master is one. Its key must not lie where the ledger lies.
type Master interface {
	Wrap(ctx context.Context, dataKey, aad []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
}

const (
	metaKey    = "queue.key"
	keyDomain  = "keywright gateway queue 1\n"
	forRequest = "request"
	forAnswer  = "answer"
)

// seal encrypts what the queue keeps: XChaCha20-Poly1305 under a key of the queue's own, bound to the ledger, the entry and its application,
// so that rows cannot be swapped.
type seal struct {
	ledger string
	aead   cipher.AEAD
	mac    []byte // for idempotency keys and hashes of bodies, which an attacker could otherwise guess
}

// Made reports whether the ledger has a queue's key already: then a missing master must not be made anew.
func Made(ctx context.Context, l *ledger.Ledger) (bool, error) {
	b, err := l.Meta(ctx, metaKey)
	return len(b) > 0, err
}

// openSeal unwraps the queue's key, or makes it.
func openSeal(ctx context.Context, l *ledger.Ledger, m Master) (*seal, error) {
	aad := []byte(keyDomain + l.ID())
	wrapped, err := l.Meta(ctx, metaKey)
	if err != nil {
		return nil, err
	}
	var key []byte
	if len(wrapped) == 0 {
		key = make([]byte, 32)
		rand.Read(key)
		if wrapped, err = m.Wrap(ctx, key, aad); err == nil {
			err = l.SetMeta(ctx, metaKey, wrapped)
		}
	} else {
		key, err = m.Unwrap(ctx, wrapped, aad)
	}
	defer func() { clear(key) }()
	if err != nil {
		return nil, fault.In(err, "open key of queue", fault.Hint("the queue opens with the master that it was made under; when that is lost, keywright gateway queue erase gives up what waits"))
	}
	box, err := hkdf.Key(sha256.New, key, nil, keyDomain+"seal", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "derive key of queue")
	}
	defer clear(box)
	s := &seal{ledger: l.ID()}
	if s.mac, err = hkdf.Key(sha256.New, key, nil, keyDomain+"once", 32); err == nil {
		s.aead, err = chacha20poly1305.NewX(box)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "derive key of queue")
	}
	return s, nil
}

func (s *seal) bind(id, app, purpose string) []byte {
	out := make([]byte, 0, 128)
	for _, part := range []string{s.ledger, id, app, purpose} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part))) //nolint:gosec // They are short.
		out = append(out, part...)
	}
	return out
}

// close seals head, as JSON, and body.
func (s *seal) close(id, app, purpose string, head any, body []byte) ([]byte, error) {
	h, err := json.Marshal(head)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "write entry of queue")
	}
	plain := make([]byte, 0, 4+len(h)+len(body))
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(h))) //nolint:gosec // Headers are bounded.
	plain = append(append(plain, h...), body...)
	out := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	rand.Read(out)
	return s.aead.Seal(out, out, plain, s.bind(id, app, purpose)), nil
}

// open undoes close. Errors are of kind Corrupt.
func (s *seal) open(id, app, purpose string, sealed []byte, head any) (body []byte, err error) {
	corrupt := fault.New(fault.Corrupt, "open entry of queue: it was altered or belongs elsewhere")
	if len(sealed) < chacha20poly1305.NonceSizeX {
		return nil, corrupt
	}
	plain, err := s.aead.Open(nil, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], s.bind(id, app, purpose))
	if err != nil || len(plain) < 4 {
		return nil, corrupt
	}
	n := int64(binary.BigEndian.Uint32(plain))
	if int64(len(plain)) < 4+n || json.Unmarshal(plain[4:4+n], head) != nil {
		return nil, corrupt
	}
	return plain[4+n:], nil
}

// once gives the name of a request that may stand in the queue a single time: its application's key and its content.
func (s *seal) once(app, key string, r Request) []byte {
	h := hmac.New(sha256.New, s.mac)
	for _, part := range []string{app, key, r.Path, r.Query, r.Header.Get("Anthropic-Version"), r.Header.Get("Anthropic-Beta")} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(part))) //nolint:gosec // They are short. A hash does not fail.
		h.Write([]byte(part))
	}
	h.Write(r.Body)
	return h.Sum(nil)
}
