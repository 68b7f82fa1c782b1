package custody

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
	"github.com/keywright/keywright/internal/secret"
)

// masterSize is the number of bytes in a master file.
const masterSize = 32

// local is a master whose 32 bytes are in this process: from a file, from systemd, or derived from a passphrase. The key that
// wraps and the ID are derived from them apart from each other.
type local struct {
	id  string
	key secret.Value
}

var _ Master = (*local)(nil)

// newLocal derives a master and overwrites raw.
func newLocal(prefix string, raw []byte) (*local, error) {
	defer clear(raw)
	var id, key []byte
	var err error
	erasing(func() {
		if id, err = hkdf.Key(sha256.New, raw, nil, "keywright/custody/1/master-id", 8); err == nil {
			key, err = hkdf.Key(sha256.New, raw, nil, "keywright/custody/1/master-wrap", chacha20poly1305.KeySize)
		}
	})
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "derive master")
	}
	return &local{id: prefix + hex.EncodeToString(id), key: secret.New(key)}, nil
}

// ID implements Master.
func (m *local) ID() string { return m.id }

// Wrap implements Master: a nonce of 24 bytes and the data key under XChaCha20-Poly1305.
func (m *local) Wrap(_ context.Context, dataKey, aad []byte) ([]byte, error) {
	out := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(dataKey)+chacha20poly1305.Overhead)
	_, err := rand.Read(out)
	if err == nil {
		erasing(func() {
			m.key.Reveal(func(k []byte) {
				aead, e := chacha20poly1305.NewX(k)
				if err = e; err == nil {
					out = aead.Seal(out, out, dataKey, aad)
				}
			})
		})
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "wrap data key")
	}
	return out, nil
}

// Unwrap implements Master.
func (m *local) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	if len(wrapped) < chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead {
		return nil, fault.New(fault.Corrupt, "unwrap data key: it was cut short")
	}
	var out []byte
	var err error
	nonce, box := wrapped[:chacha20poly1305.NonceSizeX], wrapped[chacha20poly1305.NonceSizeX:]
	plain := make([]byte, 0, len(box))
	erasing(func() {
		m.key.Reveal(func(k []byte) {
			aead, e := chacha20poly1305.NewX(k)
			if err = e; err == nil {
				out, err = aead.Open(plain, nonce, box, aad)
			}
		})
	})
	if err != nil {
		return nil, fault.New(fault.Corrupt, "unwrap data key: it was altered or belongs elsewhere")
	}
	return out, nil
}

func readRaw(path string, most fs.FileMode, env Env) (Master, error) {
	if err := keyfile.Outside(path, env.DataDir); err != nil {
		return nil, fault.In(err, "open master")
	}
	raw, err := keyfile.Read(path, most, masterSize)
	if err != nil {
		if fault.Is(err, fault.Invalid) {
			return nil, wrongLength(path, "something else or more")
		}
		return nil, missing(err, path)
	}
	defer clear(raw)
	if len(raw) != masterSize {
		return nil, wrongLength(path, fmt.Sprintf("%d bytes", len(raw)))
	}
	if [masterSize]byte(raw) == [masterSize]byte{} {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("open master: %q holds nothing but zeroes", path), fault.Hint("bring it back from where you keep a copy"))
	}
	return newLocal("file:", raw)
}

func makeRaw(path string) error {
	raw := make([]byte, masterSize)
	defer clear(raw)
	if _, err := rand.Read(raw); err != nil {
		return fault.Wrap(fault.Unavailable, err, "read random bytes")
	}
	return keyfile.Create(path, keyfile.Private, raw)
}
