package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/keywright/keywright/internal/fault"
)

func TestOIDC(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwks := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	}))
	defer jwks.Close()
	id, err := NewOIDC(OIDC{Issuer: "https://issuer", Audience: "keywright", JWKS: jwks.URL, Apps: map[string]string{"system:serviceaccount:prod:*": "prod", "system:serviceaccount:prod:batch": "batch"}})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(with any, alg jose.SignatureAlgorithm, claims map[string]any) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: with}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
		if err != nil {
			t.Fatal(err)
		}
		payload, _ := json.Marshal(claims)
		o, err := s.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := o.CompactSerialize()
		return text
	}
	claims := func(change ...any) map[string]any {
		c := map[string]any{"iss": "https://issuer", "aud": "keywright", "sub": "system:serviceaccount:prod:web", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
		for i := 0; i < len(change); i += 2 {
			c[change[i].(string)] = change[i+1]
		}
		return c
	}
	ask := func(token string) (Caller, error) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		return id.Identify(r)
	}
	if c, err := ask(sign(key, jose.RS256, claims())); err != nil || c.App != "prod" {
		t.Errorf("%v %v", c, err)
	}
	if c, err := ask(sign(key, jose.RS256, claims("sub", "system:serviceaccount:prod:batch"))); err != nil || c.App != "batch" {
		t.Errorf("%v %v", c, err)
	}
	other, _ := rsa.GenerateKey(rand.Reader, 2048)
	for name, token := range map[string]string{
		"another issuer": sign(key, jose.RS256, claims("iss", "https://evil")), "another audience": sign(key, jose.RS256, claims("aud", "x")),
		"expired": sign(key, jose.RS256, claims("exp", time.Now().Add(-time.Hour).Unix())), "another key": sign(other, jose.RS256, claims()),
		"another subject": sign(key, jose.RS256, claims("sub", "system:serviceaccount:dev:web")), "a symmetric algorithm": sign([]byte(strings.Repeat("k", 32)), jose.HS256, claims()),
		"an algorithm that is not listed": sign(key, jose.RS512, claims()),
	} {
		if _, err := ask(token); err == nil || errors.Is(err, ErrNoOpinion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ask("kwt_x.y"); !errors.Is(err, ErrNoOpinion) {
		t.Errorf("a gateway token: %v", err)
	}
	for _, bad := range []OIDC{{}, {Issuer: "i", Audience: "a", JWKS: "http://example.com", Apps: map[string]string{"a": "b"}}, {Issuer: "i", Audience: "a", JWKS: jwks.URL, Apps: map[string]string{"a": "b"}, Algorithms: []string{"HS256"}}} {
		if _, err := NewOIDC(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
