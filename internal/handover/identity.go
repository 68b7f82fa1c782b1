package handover

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"regexp"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
)

// Pin is the SHA-256 of a certificate's public key. Both ends of a release know each other by it, and no authority stands between them.
type Pin [sha256.Size]byte

// PinOf gives the pin of a certificate.
func PinOf(c *x509.Certificate) Pin { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// IsZero reports whether p was never set.
func (p Pin) IsZero() bool { return p == Pin{} }

// MarshalText gives "sha256/" and the digest in base64.
func (p Pin) MarshalText() ([]byte, error) {
	return []byte("sha256/" + base64.RawURLEncoding.EncodeToString(p[:])), nil
}

// UnmarshalText is the inverse of MarshalText. Kind: Invalid.
func (p *Pin) UnmarshalText(b []byte) error {
	text, ok := strings.CutPrefix(string(b), "sha256/")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(raw) != len(p) {
		return fault.New(fault.Invalid, "read pin: want sha256/ and 43 characters")
	}
	copy(p[:], raw)
	return nil
}

// String is MarshalText.
func (p Pin) String() string { b, _ := p.MarshalText(); return string(b) }

// Public is what a daemon knows of an enrolled reader. It holds no secret.
type Public struct {
	Name string `json:"name"`
	Pin  Pin    `json:"pin"`
	To   []byte `json:"to"` // the public X25519 key
}

var readerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Check says whether p can be enrolled. Kind: Invalid.
func (p Public) Check() error {
	if !readerName.MatchString(p.Name) {
		return fault.New(fault.Invalid, "read reader: its name is not 1 to 63 lower-case letters, digits and inner dashes")
	}
	if _, err := ecdh.X25519().NewPublicKey(p.To); err != nil || p.Pin.IsZero() {
		return fault.New(fault.Invalid, "read reader: its keys are not whole", fault.Hint("hand over the whole line that keywright reader new printed"))
	}
	return nil
}

const linePrefix = "kwreader1."

// Line gives p as one line to hand over to the daemon's operator.
func (p Public) Line() string {
	b, _ := json.Marshal(p) // texts and bytes alone
	return linePrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseLine is the inverse of Line. Kind: Invalid.
func ParseLine(s string) (Public, error) {
	var p Public
	text, ok := strings.CutPrefix(strings.TrimSpace(s), linePrefix)
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || json.Unmarshal(raw, &p) != nil {
		return Public{}, fault.New(fault.Invalid, "read reader: it is not the line that keywright reader new printed", fault.Hint("it begins with "+linePrefix))
	}
	return p, p.Check()
}

// Identity makes a program an enrolled reader. It is read from a file of mode 0600.
type Identity struct {
	Name   string
	Daemon Pin // zero until the daemon's operator has said it
	seal   *ecdh.PrivateKey
	tls    *ecdsa.PrivateKey
}

// stored is the form of an identity in its file.
type stored struct {
	Name   string `json:"name"`
	Daemon *Pin   `json:"daemon,omitempty"`
	Seal   []byte `json:"seal"`
	TLS    []byte `json:"tls"`
}

const maxIdentity = 16 << 10

// NewIdentity makes the keys of a reader. Kind: Invalid.
func NewIdentity(name string, daemon Pin) (*Identity, error) {
	if !readerName.MatchString(name) {
		return nil, fault.New(fault.Invalid, "make reader: its name is not 1 to 63 lower-case letters, digits and inner dashes")
	}
	seal, err := NewKey()
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "make key")
	}
	return &Identity{Name: name, Daemon: daemon, seal: seal, tls: key}, nil
}

// Write makes the file of mode 0600; one that is there is left alone. Kinds: Conflict, Forbidden, Unavailable.
func (i *Identity) Write(path string) error {
	key, err := x509.MarshalPKCS8PrivateKey(i.tls)
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "write identity")
	}
	defer clear(key)
	s := stored{Name: i.Name, Seal: i.seal.Bytes(), TLS: key}
	defer clear(s.Seal)
	if !i.Daemon.IsZero() {
		s.Daemon = &i.Daemon
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "write identity")
	}
	defer clear(b)
	return keyfile.Create(path, keyfile.Private, append(b, '\n'))
}

// ReadIdentity reads the file of Write. Kinds: those of keyfile.Read, and Corrupt.
func ReadIdentity(path string) (*Identity, error) {
	b, err := keyfile.Read(path, keyfile.Private, maxIdentity)
	if err != nil {
		return nil, fault.In(err, "read identity")
	}
	defer clear(b)
	var s stored
	damaged := fault.New(fault.Corrupt, "read identity: the file is no identity of a reader", fault.Hint("make a new one: keywright reader new"))
	if json.Unmarshal(b, &s) != nil {
		return nil, damaged
	}
	defer func() { clear(s.Seal); clear(s.TLS) }()
	i := &Identity{Name: s.Name}
	if s.Daemon != nil {
		i.Daemon = *s.Daemon
	}
	if i.seal, err = ecdh.X25519().NewPrivateKey(s.Seal); err != nil {
		return nil, damaged
	}
	key, err := x509.ParsePKCS8PrivateKey(s.TLS)
	if err != nil {
		return nil, damaged
	}
	var ok bool
	if i.tls, ok = key.(*ecdsa.PrivateKey); !ok || !readerName.MatchString(i.Name) {
		return nil, damaged
	}
	return i, nil
}

// Public gives what the daemon must know.
func (i *Identity) Public() (Public, error) {
	c, err := i.certificate()
	if err != nil {
		return Public{}, err
	}
	return Public{Name: i.Name, Pin: PinOf(c.Leaf), To: i.seal.PublicKey().Bytes()}, nil
}

// Key is the private X25519 key.
func (i *Identity) Key() *ecdh.PrivateKey { return i.seal }

// ClientTLS gives the reader's side of a connection: it shows its own certificate and takes the daemon whose pin it has, alone.
func (i *Identity) ClientTLS() (*tls.Config, error) {
	if i.Daemon.IsZero() {
		return nil, fault.New(fault.Invalid, "read identity: it does not say which daemon it trusts", fault.Hint("make it with --daemon and the pin that keywright reader list shows"))
	}
	c, err := i.certificate()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{c},
		InsecureSkipVerify: true, //nolint:gosec // G402: the daemon is known by its pin, which VerifyConnection compares.
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || PinOf(s.PeerCertificates[0]) != i.Daemon {
				return fault.New(fault.Forbidden, "greet daemon: it is another one than the identity names")
			}
			return nil
		},
	}, nil
}

func (i *Identity) certificate() (tls.Certificate, error) { return SelfSigned(i.tls, i.Name) }

// SelfSigned makes a certificate around a key. Its dates say nothing: both ends know each other by pin, and an enrolment has an end of its own.
func SelfSigned(key *ecdsa.PrivateKey, name string) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fault.Wrap(fault.Unknown, err, "make certificate")
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fault.Wrap(fault.Unknown, err, "make certificate")
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
