package custody

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
	"github.com/keywright/keywright/internal/secret"
)

// passphraseHeader is the public file beside the configuration. Without it the passphrase opens nothing.
type passphraseHeader struct {
	Format    string `json:"format"`
	KDF       string `json:"kdf"`
	MemoryKiB uint32 `json:"memory_kib"`
	Passes    uint32 `json:"passes"`
	Lanes     uint8  `json:"lanes"`
	Salt      []byte `json:"salt"` // base64
	ID        string `json:"id"`   // of the master that comes out; tells a wrong passphrase
}

const (
	headerFormat    = "keywright-passphrase/1"
	headerKDF       = "argon2id"
	kdfMemoryKiB    = 64 << 10
	kdfPasses       = 3
	kdfLanes        = 4
	saltSize        = 16
	minPassphrase   = 12
	maxHeader       = 4 << 10
	maxKDFMemoryKiB = 1 << 20
	maxKDFPasses    = 32
)

// check refuses parameters that are weaker than those of this version, or so strong that they would stop the process.
func (h passphraseHeader) check() error {
	if h.Format != headerFormat || h.KDF != headerKDF || h.MemoryKiB < kdfMemoryKiB || h.MemoryKiB > maxKDFMemoryKiB ||
		h.Passes < kdfPasses || h.Passes > maxKDFPasses || h.Lanes == 0 || h.Lanes > 64 || len(h.Salt) < saltSize || len(h.Salt) > 64 {
		return fault.New(fault.Invalid, "open master: the passphrase header is of another format, or its parameters are out of bounds")
	}
	return nil
}

func (h passphraseHeader) derive(passphrase secret.Value) (*local, error) {
	var raw []byte
	passphrase.Reveal(func(p []byte) {
		erasing(func() { raw = argon2.IDKey(p, h.Salt, h.Passes, h.MemoryKiB, h.Lanes, masterSize) })
	})
	return newLocal("passphrase:", raw)
}

func openPassphrase(ctx context.Context, ref secret.Ref, env Env) (Master, error) {
	name := env.Header
	if name == "" {
		name = DefaultHeader
	}
	path := env.path(name)
	if err := keyfile.Outside(path, env.DataDir); err != nil {
		return nil, fault.In(err, "open master")
	}
	passphrase, err := ref.Resolve(ctx, env.ConfigDir)
	if err != nil {
		return nil, fault.In(err, "open master")
	}
	defer passphrase.Destroy()
	if env.FirstRun && !exists(path) {
		if err := makeHeader(path, passphrase); err != nil && !fault.Is(err, fault.Conflict) {
			return nil, err
		}
	}
	raw, err := keyfile.Read(path, keyfile.Public, maxHeader)
	if err != nil {
		return nil, missing(err, path)
	}
	var h passphraseHeader
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("open master: %q is no passphrase header", path), fault.Hint("bring it back from where you keep a copy"))
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("open master: %q holds more than a passphrase header", path), fault.Hint("bring it back from where you keep a copy"))
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	m, err := h.derive(passphrase)
	if err != nil {
		return nil, err
	}
	if m.id != h.ID {
		return nil, fault.New(fault.Forbidden, fmt.Sprintf("open master: the passphrase is not that of %q", path), fault.Hint("check what %s yields", ref))
	}
	return m, nil
}

func makeHeader(path string, passphrase secret.Value) error {
	if passphrase.Len() < minPassphrase {
		return fault.New(fault.Invalid, fmt.Sprintf("make master: the passphrase is shorter than %d characters", minPassphrase), fault.Hint("use six random words, or 16 random characters"))
	}
	h := passphraseHeader{Format: headerFormat, KDF: headerKDF, MemoryKiB: kdfMemoryKiB, Passes: kdfPasses, Lanes: kdfLanes, Salt: make([]byte, saltSize)}
	if _, err := rand.Read(h.Salt); err != nil {
		return fault.Wrap(fault.Unavailable, err, "read random bytes")
	}
	m, err := h.derive(passphrase)
	if err != nil {
		return err
	}
	h.ID = m.id
	raw, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "make passphrase header")
	}
	return keyfile.Create(path, keyfile.Public, append(raw, '\n'))
}
