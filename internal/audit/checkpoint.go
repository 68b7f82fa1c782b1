package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
)

// Checkpoint is the signed statement that the record of Store had the entry Seq with that Hash at that time. It fixes every
// entry up to Seq.
type Checkpoint struct {
	Store     string    `json:"store"`
	Seq       int64     `json:"seq"`
	Hash      Hash      `json:"hash"`
	At        time.Time `json:"at"`
	KeyID     string    `json:"key"`
	Signature []byte    `json:"signature"` // Ed25519, 64 bytes
}

const (
	domainCheckpoint = "keywright-audit-checkpoint-1\n"
	maxKeyFile       = 4 << 10
	pemPrivate       = "PRIVATE KEY"
	pemPublic        = "PUBLIC KEY"
)

// Line gives the canonical JSON of c, without a line end.
func (c Checkpoint) Line() []byte { return c.append(nil, true) }

func (c Checkpoint) append(b []byte, signed bool) []byte {
	b = append(b, `{"at":`...)
	b = appendString(b, formatTime(c.At))
	b = appendMember(b, "hash", c.Hash.String())
	b = appendMember(b, "key", c.KeyID)
	b = fmt.Appendf(b, `,"seq":%d`, c.Seq)
	if signed {
		b = appendMember(b, "signature", base64.StdEncoding.EncodeToString(c.Signature))
	}
	b = appendMember(b, "store", c.Store)
	return append(b, '}')
}

// Verify reports whether public signed c.
func (c Checkpoint) Verify(public ed25519.PublicKey) bool {
	return len(public) == ed25519.PublicKeySize && ed25519.Verify(public, c.append([]byte(domainCheckpoint), false), c.Signature)
}

// ParseCheckpoint reads what Line gave. It checks the form and not the signature. The error is of kind Corrupt.
func ParseCheckpoint(line []byte) (Checkpoint, error) {
	var c Checkpoint
	if err := decode(line, &c); err != nil {
		return Checkpoint{}, fault.In(err, "read checkpoint")
	}
	if !bytes.Equal(c.Line(), line) {
		return Checkpoint{}, fault.New(fault.Corrupt, "read checkpoint: not in canonical form")
	}
	return c, nil
}

// KeyID names a public key: "ck_" and the first 16 hex digits of its SHA-256.
func KeyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return "ck_" + hex.EncodeToString(sum[:8])
}

// Signer signs checkpoints and exports. It is safe for concurrent use and does not print its key.
type Signer struct {
	public ed25519.PublicKey
	sign   func(message []byte) []byte // a function, since printing looks into fields
}

// OpenSigner reads the Ed25519 key in path: PKCS #8 in PEM, mode 0600, outside dataDir, so that a backup of the data cannot
// sign. On the first run a missing one is made. Kinds as for keyfile.Read and keyfile.Create.
func OpenSigner(path, dataDir string, firstRun bool) (*Signer, error) {
	if err := keyfile.Outside(path, dataDir); err != nil {
		return nil, fault.In(err, "open checkpoint key")
	}
	raw, err := keyfile.Read(path, keyfile.Private, maxKeyFile)
	if firstRun && fault.Is(err, fault.NotFound) {
		if err := makeSigner(path); err != nil && !fault.Is(err, fault.Conflict) {
			return nil, fault.In(err, "make checkpoint key")
		}
		raw, err = keyfile.Read(path, keyfile.Private, maxKeyFile)
	}
	if err != nil {
		return nil, fault.In(err, "open checkpoint key")
	}
	defer clear(raw)
	bad := func() (*Signer, error) {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("open checkpoint key: %q holds no Ed25519 key in PEM", path),
			fault.Hint("bring it back from where you keep a copy; a new one in another place starts a new line of checkpoints"))
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != pemPrivate || len(bytes.TrimSpace(rest)) != 0 {
		return bad()
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return bad()
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return bad()
	}
	return newSigner(private), nil
}

func newSigner(private ed25519.PrivateKey) *Signer {
	return &Signer{
		public: private.Public().(ed25519.PublicKey), //nolint:forcetypeassert // Ed25519 keys have Ed25519 keys.
		sign:   func(message []byte) []byte { return ed25519.Sign(private, message) },
	}
}

func makeSigner(path string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "read random bytes")
	}
	defer clear(private)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "encode key")
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der})
	defer clear(text)
	return keyfile.Create(path, keyfile.Private, text)
}

// KeyID names the signer's key.
func (s *Signer) KeyID() string { return KeyID(s.public) }

// Public gives the public key, which verifies what s signs.
func (s *Signer) Public() ed25519.PublicKey { return bytes.Clone(s.public) }

// Sign makes the checkpoint of head, the latest entry of its store, at the given time. Invalid: the zero Entry.
func (s *Signer) Sign(head Entry, at time.Time) (Checkpoint, error) {
	if head.Seq <= 0 || head.Store == "" {
		return Checkpoint{}, fault.New(fault.Invalid, "sign checkpoint: there is no entry yet")
	}
	c := Checkpoint{Store: head.Store, Seq: head.Seq, Hash: head.Hash, At: at.UTC().Truncate(time.Microsecond), KeyID: s.KeyID()}
	c.Signature = s.sign(c.append([]byte(domainCheckpoint), false))
	return c, nil
}

// PublicPEM gives public keys in the form that ParsePublicKeys and other programs read (PKIX in PEM).
func PublicPEM(keys ...ed25519.PublicKey) ([]byte, error) {
	var out []byte
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "encode public key")
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der})...)
	}
	return out, nil
}

// ParsePublicKeys reads one or more Ed25519 public keys in PEM. Anything else, also around them, is Invalid.
func ParsePublicKeys(text []byte) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			break
		}
		if block, rest = pem.Decode(rest); block == nil || block.Type != pemPublic {
			break
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			break
		}
		k, ok := parsed.(ed25519.PublicKey)
		if !ok {
			break
		}
		keys = append(keys, k)
		if len(bytes.TrimSpace(rest)) == 0 {
			return keys, nil
		}
	}
	return nil, fault.New(fault.Invalid, "read public keys: not a list of Ed25519 keys in PEM", fault.Hint("each stands between -----BEGIN PUBLIC KEY----- and -----END PUBLIC KEY-----"))
}
