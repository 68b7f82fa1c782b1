package custody

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
)

// ageMaster wraps to the recipient of an age identity. age has no associated data, so its SHA-256 goes behind the data key
// and is compared.
type ageMaster struct {
	id        string
	recipient age.Recipient
	identity  func() age.Identity // a function, since printing looks into fields
}

var _ Master = (*ageMaster)(nil)

const maxIdentityFile = 64 << 10

func openAge(path string, env Env) (Master, error) {
	if err := keyfile.Outside(path, env.DataDir); err != nil {
		return nil, fault.In(err, "open master")
	}
	raw, err := keyfile.Read(path, keyfile.Private, maxIdentityFile)
	if err != nil {
		return nil, missing(err, path)
	}
	defer clear(raw)
	identities, err := age.ParseIdentities(bytes.NewReader(raw))
	if err != nil || len(identities) != 1 {
		// The cause is left out: it stems from a file of key material.
		return nil, fault.New(fault.Invalid, fmt.Sprintf("open master: %q does not hold exactly one age identity", path),
			fault.Hint("make one with age-keygen; identities that ask for a passphrase and SSH keys cannot be used"))
	}
	var public string
	m := &ageMaster{identity: func() age.Identity { return identities[0] }}
	switch i := identities[0].(type) {
	case *age.X25519Identity:
		m.recipient, public = i.Recipient(), i.Recipient().String()
	case *age.HybridIdentity:
		m.recipient, public = i.Recipient(), i.Recipient().String()
	default:
		return nil, fault.New(fault.Unsupported, fmt.Sprintf("open master: the age identity in %q is of an unfamiliar sort", path))
	}
	sum := sha256.Sum256([]byte(public))
	m.id = "age:" + hex.EncodeToString(sum[:8])
	return m, nil
}

// ID implements Master: "age:" and the start of the recipient's SHA-256.
func (m *ageMaster) ID() string { return m.id }

// Wrap implements Master: an age file.
func (m *ageMaster) Wrap(_ context.Context, dataKey, aad []byte) ([]byte, error) {
	sum := sha256.Sum256(aad)
	plain := append(append(make([]byte, 0, len(dataKey)+len(sum)), dataKey...), sum[:]...)
	defer clear(plain)
	var out bytes.Buffer
	var err error
	erasing(func() {
		var w io.WriteCloser
		if w, err = age.Encrypt(&out, m.recipient); err != nil {
			return
		}
		if _, err = w.Write(plain); err == nil {
			err = w.Close()
		}
	})
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "wrap data key")
	}
	return out.Bytes(), nil
}

// Unwrap implements Master.
func (m *ageMaster) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	plain := make([]byte, maxAgePlain+1)
	defer clear(plain)
	n := 0
	var err error
	erasing(func() {
		var r io.Reader
		if r, err = age.Decrypt(bytes.NewReader(wrapped), m.identity()); err == nil {
			n, err = io.ReadFull(r, plain)
		}
	})
	sum := sha256.Sum256(aad)
	// A data key is shorter than the buffer, so that a whole file ends before it is full.
	if !errors.Is(err, io.ErrUnexpectedEOF) || n <= len(sum) || subtle.ConstantTimeCompare(plain[n-len(sum):n], sum[:]) != 1 {
		return nil, fault.New(fault.Corrupt, "unwrap data key: it was altered or belongs elsewhere")
	}
	return bytes.Clone(plain[:n-len(sum)]), nil
}

// maxAgePlain is the length of a data key and the SHA-256 of its binding.
const maxAgePlain = 64
