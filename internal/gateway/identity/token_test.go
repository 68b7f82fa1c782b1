package identity

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

func TestSigner(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Issue("x", 25*time.Hour, nil, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a life of 25 h: %v", err)
	}
	if _, _, err := s.Issue("a b", time.Hour, nil, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a name with a blank: %v", err)
	}
	// The same key is read again, and a file that others may read is refused.
	again, err := OpenSigner(dir)
	if err != nil || again.ID() != s.ID() {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(filepath.Join(dir, signingFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSigner(dir); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a readable signing key: %v", err)
	}
}

func TestTokenClaims(t *testing.T) {
	s, err := OpenSigner(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ids, _ := s.Tokens()
	now := time.Now()
	sign := func(c Claims) string {
		payload, _ := json.Marshal(c)
		var sig []byte
		_ = s.with(func(k ed25519.PrivateKey) { sig = ed25519.Sign(k, append([]byte(signedDomain), payload...)) })
		return TokenPrefix + base64.RawURLEncoding.EncodeToString(payload) + "." + base64.RawURLEncoding.EncodeToString(sig)
	}
	good := Claims{Issuer: s.id, Audience: s.id, App: "a", Issued: now.Unix(), Expires: now.Add(time.Minute).Unix(), ID: "1"}
	if _, err := ids.verify(sign(good), now); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Claims){
		"another issuer": func(c *Claims) { c.Issuer = "gw_x" }, "another audience": func(c *Claims) { c.Audience = "gw_x" }, "expired": func(c *Claims) { c.Expires = now.Unix() },
		"too long": func(c *Claims) { c.Expires = now.Add(25 * time.Hour).Unix() }, "from the future": func(c *Claims) { c.Issued = now.Add(time.Hour).Unix(); c.Expires = c.Issued + 60 },
		"no id": func(c *Claims) { c.ID = "" }, "no application": func(c *Claims) { c.App = "" },
	} {
		c := good
		change(&c)
		if _, err := ids.verify(sign(c), now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestRevokedTokenIsKnownAfterItsTime: a token that has expired while its request waited still counts; one that was revoked does not, be it
// that it has expired since.
func TestRevokedTokenIsKnownAfterItsTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := OpenSigner(dir)
		if err != nil {
			t.Fatal(err)
		}
		tokens, err := s.Tokens()
		if err != nil {
			t.Fatal(err)
		}
		identify := func() Caller {
			v, _, err := s.Issue("a", time.Hour, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/", nil)
			v.Reveal(func(b []byte) { r.Header.Set("X-Api-Key", string(b)) })
			c, err := tokens.Identify(r)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		expired, revoked := identify(), identify()
		if err := s.Revoke(strings.TrimPrefix(revoked.Proof, proofToken)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if err := tokens.Recheck(expired); err != nil {
			t.Errorf("%v", err)
		}
		if err := tokens.Recheck(revoked); err == nil {
			t.Error("a revoked token counts")
		}
		if err := tokens.Recheck(Caller{App: "a", Proof: "uid:1"}); !errors.Is(err, ErrNoOpinion) {
			t.Errorf("%v", err)
		}
	})
}
