package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/secret"
)

// TokenPrefix starts every gateway token. MaxTokenLife bounds its life.
const (
	TokenPrefix  = "kwt_"
	MaxTokenLife = 24 * time.Hour
)

const (
	signingFile  = "gateway-signing.key"
	revokedFile  = "gateway-revoked"
	signedDomain = "keywright gateway token v1\n"
	clockSkew    = 30 * time.Second
)

// Claims is what a gateway token says. It is readable by everybody who holds the token.
type Claims struct {
	Issuer   string   `json:"iss"` // the gateway's id
	Audience string   `json:"aud"` // the same
	App      string   `json:"app"`
	Routes   []string `json:"routes,omitempty"`
	Models   []string `json:"models,omitempty"`
	Issued   int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	ID       string   `json:"jti"`
}

// Signer issues and revokes gateway tokens. Its key lies in the gateway's state directory, mode 0600, so that only the gateway's own user
// can. Every token is recorded beside it before it is given out.
type Signer struct {
	dir  string
	seed secret.Value
	id   string
}

// OpenSigner reads the signing key in dir, and makes one when there is none. Kinds: Forbidden, when others may read the file, and those of
// the file system.
func OpenSigner(dir string) (*Signer, error) {
	path := filepath.Join(dir, signingFile)
	ref := secret.Ref("file:" + path)
	v, err := ref.Resolve(context.Background(), "/")
	if fault.Is(err, fault.NotFound) {
		if err := makeSeed(dir, path); err != nil {
			return nil, err
		}
		v, err = ref.Resolve(context.Background(), "/")
	}
	if err != nil {
		return nil, fault.In(err, "read signing key")
	}
	s := &Signer{dir: dir, seed: v}
	pub, err := s.public()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(pub)
	s.id = "gw_" + hex.EncodeToString(sum[:8])
	return s, nil
}

func makeSeed(dir, path string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(fault.Forbidden, err, "make state directory")
	}
	f, err := os.CreateTemp(dir, "."+signingFile+"-*") // 0600
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "make signing key")
	}
	defer os.Remove(f.Name())
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	text := []byte(hex.EncodeToString(seed))
	clear(seed)
	_, err = f.Write(text)
	clear(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fault.Wrap(fault.Unavailable, err, "write signing key")
	}
	// Link does not replace: of two processes that start together, one wins.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fault.Wrap(fault.Unavailable, err, "write signing key")
	}
	return nil
}

func (s *Signer) with(use func(ed25519.PrivateKey)) error {
	ok := false
	s.seed.Reveal(func(b []byte) {
		seed := make([]byte, ed25519.SeedSize)
		n, err := hex.Decode(seed, b)
		if ok = err == nil && n == len(seed); ok {
			key := ed25519.NewKeyFromSeed(seed)
			use(key)
			clear(key)
		}
		clear(seed)
	})
	if !ok {
		return fault.New(fault.Corrupt, "read signing key: it is damaged", fault.Hint("remove it and restart the gateway; every token must be issued anew"))
	}
	return nil
}

func (s *Signer) public() (pub ed25519.PublicKey, err error) {
	err = s.with(func(k ed25519.PrivateKey) { pub = append(pub, k[ed25519.SeedSize:]...) })
	return pub, err
}

// ID is the gateway's id: "gw_" and 16 hex digits of its public key's SHA-256.
func (s *Signer) ID() string { return s.id }

// Issue makes a token for an application, and records it first. routes and models narrow it; empty lists do not. A life of more than
// MaxTokenLife is Invalid.
func (s *Signer) Issue(app string, life time.Duration, routes, models []string) (secret.Value, Claims, error) {
	if app == "" || len(app) > 64 || !object.PlainID(app) {
		return secret.Value{}, Claims{}, fault.New(fault.Invalid, "issue token: the application needs a name of letters, digits, - and _")
	}
	if life <= 0 || life > MaxTokenLife {
		return secret.Value{}, Claims{}, fault.New(fault.Invalid, fmt.Sprintf("issue token: its life must be at most %s", MaxTokenLife))
	}
	now := time.Now()
	c := Claims{Issuer: s.id, Audience: s.id, App: app, Routes: routes, Models: models, Issued: now.Unix(), Expires: now.Add(life).Unix(), ID: rand.Text()}
	payload, err := json.Marshal(c)
	if err != nil {
		return secret.Value{}, Claims{}, fault.Wrap(fault.Unknown, err, "issue token")
	}
	var sig []byte
	if err := s.with(func(k ed25519.PrivateKey) { sig = ed25519.Sign(k, append([]byte(signedDomain), payload...)) }); err != nil {
		return secret.Value{}, Claims{}, err
	}
	if err := s.record(c); err != nil {
		return secret.Value{}, Claims{}, err
	}
	b64 := base64.RawURLEncoding
	return secret.New([]byte(TokenPrefix + b64.EncodeToString(payload) + "." + b64.EncodeToString(sig))), c, nil
}

// Tokens identifies callers by gateway tokens.
type Tokens struct {
	id      string
	public  ed25519.PublicKey
	revoked string

	known   sync.Map // SHA-256 of a token -> *verified
	size    atomic.Int64
	looked  atomic.Int64 // when the list was last looked at, unix nanoseconds
	mu      sync.Mutex
	state   os.FileInfo
	list    atomic.Pointer[map[string]bool]
	started time.Time
}

var (
	_ Identifier = (*Tokens)(nil)
	_ Rechecker  = (*Tokens)(nil)
)

type verified struct {
	caller  Caller
	id      string
	expires int64
}

// Tokens gives the Identifier for the tokens of this signer.
func (s *Signer) Tokens() (*Tokens, error) {
	pub, err := s.public()
	if err != nil {
		return nil, err
	}
	t := &Tokens{id: s.id, public: pub, revoked: filepath.Join(s.dir, revokedFile), started: time.Now()}
	t.list.Store(&map[string]bool{})
	t.reload()
	return t, nil
}

// maxKnown bounds the tokens whose verdict is kept.
const maxKnown = 10_000

// revocationLook is how often the list of revoked tokens is looked at.
const revocationLook = 500 * time.Millisecond

var errToken = errors.New("the gateway token is not valid")

// Identify knows what starts with TokenPrefix. A verdict is kept until the token expires, and dropped within a second after its revocation.
func (t *Tokens) Identify(r *http.Request) (Caller, error) {
	token := Presented(r.Header)
	if !strings.HasPrefix(token, TokenPrefix) {
		return Caller{}, ErrNoOpinion
	}
	now := time.Now()
	if last := t.looked.Load(); now.UnixNano()-last > int64(revocationLook) && t.looked.CompareAndSwap(last, now.UnixNano()) {
		t.reload()
	}
	var room [512]byte // a token of usual length is not copied to the heap
	sum := sha256.Sum256(append(room[:0], token...))
	var v *verified
	if got, ok := t.known.Load(sum); ok {
		v = got.(*verified)
	} else {
		c, err := t.verify(token, now)
		if err != nil {
			return Caller{}, err
		}
		v = &verified{caller: Caller{App: c.App, Routes: c.Routes, Models: c.Models, Proof: proofToken + c.ID}, id: c.ID, expires: c.Expires}
		if t.size.Add(1) > maxKnown {
			t.known.Clear()
			t.size.Store(1)
		}
		t.known.Store(sum, v)
	}
	if now.Unix() >= v.expires || (*t.list.Load())[v.id] {
		t.known.Delete(sum)
		return Caller{}, errToken
	}
	return v.caller, nil
}

// Recheck looks whether the token was revoked, be it that it has expired since.
func (t *Tokens) Recheck(c Caller) error {
	id, ok := strings.CutPrefix(c.Proof, proofToken)
	if !ok {
		return ErrNoOpinion
	}
	revoked, err := readRevoked(t.revoked, time.Time{})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Forbidden, err, "read revoked tokens")
	}
	if revoked[id] {
		return errNotAgain
	}
	return nil
}

func (t *Tokens) verify(token string, now time.Time) (Claims, error) {
	var c Claims
	payload, sig, ok := strings.Cut(token[len(TokenPrefix):], ".")
	if !ok || len(token) > 8<<10 {
		return c, errToken
	}
	b64 := base64.RawURLEncoding.Strict()
	body, err1 := b64.DecodeString(payload)
	mark, err2 := b64.DecodeString(sig)
	if err1 != nil || err2 != nil || !ed25519.Verify(t.public, append([]byte(signedDomain), body...), mark) {
		return c, errToken
	}
	if json.Unmarshal(body, &c) != nil || c.Issuer != t.id || c.Audience != t.id || c.App == "" || c.ID == "" ||
		c.Expires-c.Issued > int64(MaxTokenLife/time.Second) || time.Unix(c.Issued, 0).After(now.Add(clockSkew)) || now.Unix() >= c.Expires {
		return c, errToken
	}
	return c, nil
}

// reload reads the list of revoked tokens when its file has changed. A list that cannot be read stays as it was.
func (t *Tokens) reload() {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(t.revoked)
	if err != nil || t.state != nil && info.Size() == t.state.Size() && info.ModTime().Equal(t.state.ModTime()) && os.SameFile(info, t.state) {
		return
	}
	if list, err := readRevoked(t.revoked, time.Now()); err == nil {
		t.state = info
		t.list.Store(&list)
	}
}
