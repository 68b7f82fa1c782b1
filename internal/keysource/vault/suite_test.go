package vault_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/keysource/vault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// world is a Vault that was just made, seen by its administrator, with a proxy in front that notes what readers ask for.
type world struct {
	t          *testing.T
	direct     string // the server's own address
	front      string // that of the proxy
	root, open string // the first token, and the key that unseals

	mu    sync.Mutex
	asked []string
}

// found prepares a server that is neither initialised nor unsealed: two stores of keys, a policy for readers, and two ways to log in.
func found(t *testing.T, address string) *world {
	t.Helper()
	for _, name := range []string{"VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "VAULT_CACERT"} {
		t.Setenv(name, "")
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, direct: address}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.asked = append(w.asked, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v1/"))
		w.mu.Unlock()
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(front.Close)
	w.front = front.URL
	var made struct {
		Keys []string `json:"keys_base64"`
		Root string   `json:"root_token"`
	}
	w.do("PUT", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1}, &made)
	if len(made.Keys) != 1 || made.Root == "" {
		t.Fatal("the server was initialised before")
	}
	w.root, w.open = made.Root, made.Keys[0]
	w.do("PUT", "sys/unseal", map[string]any{"key": w.open}, nil)
	w.do("POST", "sys/mounts/kv2", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}, nil)
	w.do("POST", "sys/mounts/team/one", map[string]any{"type": "kv", "options": map[string]string{"version": "1"}}, nil)
	w.do("PUT", "sys/policies/acl/read-app", map[string]any{"policy": `path "kv2/data/app/*" { capabilities = ["read"] }` + "\n" + `path "team/one/app" { capabilities = ["read"] }`}, nil)
	return w
}

// ask makes a call as the administrator and gives the status.
func (w *world) ask(method, path string, body, into any) int {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.direct+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Request", "true")
	req.Header.Set("X-Vault-Token", w.root)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if into != nil && res.StatusCode < 300 {
		if err := json.Unmarshal(raw, into); err != nil {
			w.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return res.StatusCode
}

// do makes a call that must succeed.
func (w *world) do(method, path string, body, into any) {
	w.t.Helper()
	if status := w.ask(method, path, body, into); status >= 300 {
		w.t.Fatalf("%s %s: %d", method, path, status)
	}
}

// put writes version 2 of the store; a version is made by each.
func (w *world) put(path string, data map[string]any) {
	w.t.Helper()
	var status int
	for range 200 { // A store of version 2 that was just mounted says for a moment that it is being upgraded.
		if status = w.ask("POST", "kv2/data/"+path, map[string]any{"data": data}, nil); status != http.StatusBadRequest {
			break
		}
	}
	if status >= 300 {
		w.t.Fatalf("put %s: %d", path, status)
	}
}

// issue makes a token for readers, in a file.
func (w *world) issue() (token string, ref secret.Ref) {
	w.t.Helper()
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	w.do("POST", "auth/token/create", map[string]any{"policies": []string{"read-app"}, "ttl": "1h"}, &made)
	return made.Auth.Token, secret.Ref("file:" + w.file(made.Auth.Token))
}

func (w *world) file(text string) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "word")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// calls gives what was asked for since the last time, without the reads of secrets.
func (w *world) calls() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := slices.DeleteFunc(w.asked, func(s string) bool { return strings.HasPrefix(s, "GET ") })
	w.asked = nil
	return slices.Clip(got)
}

// want reads, and compares the value and the calls that were needed besides.
func (w *world) want(r *vault.Reader, v secret.Value, calls ...string) keysource.Reading {
	w.t.Helper()
	w.calls()
	got, err := r.Read(w.t.Context())
	if err != nil || !got.Value.Equal(v) {
		w.t.Fatalf("read %s: %v", got.Value, err)
	}
	if asked := w.calls(); !slices.Equal(asked, calls) {
		w.t.Fatalf("it called %q, want %q", asked, calls)
	}
	return got
}

// fails reads, and compares the kind of the error.
func (w *world) fails(r *vault.Reader, kind fault.Kind, calls ...string) {
	w.t.Helper()
	w.calls()
	got, err := r.Read(w.t.Context())
	if !fault.Is(err, kind) || !got.Value.IsZero() {
		w.t.Fatalf("want kind %v, got %s, %v", kind, got.Value, err)
	}
	if asked := w.calls(); !slices.Equal(asked, calls) {
		w.t.Fatalf("it called %q, want %q", asked, calls)
	}
	for _, word := range []string{w.root, w.open} {
		if strings.Contains(err.Error()+fault.HintOf(err), word) {
			w.t.Error("the error shows a word of Vault's")
		}
	}
}

// reader makes a reader of a secret, through the proxy.
func (w *world) reader(c vault.Config) *vault.Reader {
	w.t.Helper()
	if c.Path == "" {
		c.Path, c.Field = "kv2/app/anthropic", "api_key"
	}
	c.Address = w.front
	return open(w.t, c)
}

const (
	roleLogin = "POST auth/approle/login"
	renewal   = "POST auth/token/renew-self"
)

// suite is what a reader relies on, of a Vault that is neither initialised nor unsealed.
func suite(t *testing.T, address string) {
	w := found(t, address)
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	w.put("app/anthropic", map[string]any{"api_key": a.RevealString(), "other": 1})
	w.put("private/anthropic", map[string]any{"api_key": b.RevealString()})
	w.do("POST", "team/one/app", map[string]any{"key": b.RevealString()}, nil)
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			w.t = t
			test(t)
		})
	}

	run("both versions of the store, and new versions", func(t *testing.T) {
		_, ref := w.issue()
		two := w.reader(vault.Config{Token: ref})
		first := w.want(two, a)
		one := w.reader(vault.Config{Path: "team/one/app", Field: "key", Token: ref})
		if got := w.want(one, b); got.Generation != 0 {
			t.Error("version 1 has no generation")
		}
		w.put("app/anthropic", map[string]any{"api_key": b.RevealString()})
		if next := w.want(two, b); next.Generation <= first.Generation || first.Generation == 0 {
			t.Errorf("generation %d after %d", next.Generation, first.Generation)
		}
		w.do("DELETE", "kv2/data/app/anthropic", nil, nil)
		w.fails(two, fault.NotFound)
		w.put("app/anthropic", map[string]any{"api_key": a.RevealString()})
		w.want(two, a)
	})
	run("what is not there or not allowed", func(t *testing.T) {
		_, ref := w.issue()
		for path, kind := range map[string]fault.Kind{"kv2/app/none": fault.NotFound, "kv2/private/anthropic": fault.Forbidden, "none/app": fault.Forbidden} {
			r := w.reader(vault.Config{Path: path, Field: "api_key", Token: ref})
			w.fails(r, kind)
		}
		r := w.reader(vault.Config{Token: secret.Ref("file:" + w.file("hvs.none"))})
		w.fails(r, fault.Forbidden)
	})
	run("a token that is revoked, and one that an agent writes", func(t *testing.T) {
		token, ref := w.issue()
		r := w.reader(vault.Config{Token: ref})
		w.want(r, a)
		w.do("POST", "auth/token/revoke", map[string]any{"token": token}, nil)
		w.fails(r, fault.Forbidden)
		other, _ := w.issue()
		if err := os.WriteFile(strings.TrimPrefix(string(ref), "file:"), []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
		w.want(r, a)
	})
	run("sealed and unsealed", func(t *testing.T) {
		_, ref := w.issue()
		r := w.reader(vault.Config{Token: ref})
		w.want(r, a)
		w.do("PUT", "sys/seal", nil, nil)
		w.fails(r, fault.Unavailable)
		w.do("PUT", "sys/unseal", map[string]any{"key": w.open}, nil)
		var err error
		for range 2000 { // An unsealed server is up a moment later.
			if _, err = r.Read(t.Context()); !fault.Is(err, fault.Unavailable) {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		w.want(r, a)
	})
	run("AppRole", func(t *testing.T) { appRole(t, w, a) })
	run("JWT", func(t *testing.T) { byJWT(t, w, a) })
}

func appRole(t *testing.T, w *world, v secret.Value) {
	w.do("POST", "sys/auth/approle", map[string]any{"type": "approle"}, nil)
	w.do("POST", "auth/approle/role/app", map[string]any{"token_policies": []string{"read-app"}, "token_ttl": "30m", "token_max_ttl": "60m"}, nil)
	var role struct {
		Data struct {
			ID string `json:"role_id"`
		} `json:"data"`
	}
	w.do("GET", "auth/approle/role/app/role-id", nil, &role)
	type id struct {
		Data struct {
			ID string `json:"secret_id"`
		} `json:"data"`
	}
	var first, second id
	w.do("POST", "auth/approle/role/app/secret-id", map[string]any{}, &first)
	w.do("POST", "auth/approle/role/app/secret-id", map[string]any{}, &second)
	file := w.file(first.Data.ID)
	r := w.reader(vault.Config{Login: vault.Login{Method: vault.AppRole, Role: role.Data.ID, SecretID: secret.Ref("file:" + file)}})
	at := time.Now()
	r.SetClock(func() time.Time { return at })

	w.want(r, v, roleLogin)
	w.want(r, v)
	// Two thirds of its time have passed.
	at = at.Add(20 * time.Minute)
	w.want(r, v, renewal)
	w.want(r, v)
	// It has ended, as far as the reader knows.
	at = at.Add(31 * time.Minute)
	w.want(r, v, roleLogin)
	// Revoked in the middle.
	w.do("PUT", "sys/leases/revoke-prefix/auth/approle/login", nil, nil)
	w.want(r, v, roleLogin)
	// A secret id that has ended, and the one that replaces it in the file.
	w.do("POST", "auth/approle/role/app/secret-id/destroy", map[string]any{"secret_id": first.Data.ID}, nil)
	w.want(r, v)
	w.do("PUT", "sys/leases/revoke-prefix/auth/approle/login", nil, nil)
	w.fails(r, fault.Unauthenticated, roleLogin)
	w.fails(r, fault.Unauthenticated, roleLogin)
	if err := os.WriteFile(file, []byte(second.Data.ID), 0o600); err != nil {
		t.Fatal(err)
	}
	w.want(r, v, roleLogin)
	// After Close it starts anew.
	r.Close()
	w.want(r, v, roleLogin)

	// A role without the right: one login, and another no sooner than a minute later.
	w.do("POST", "auth/approle/role/bare", map[string]any{"token_ttl": "30m", "bind_secret_id": "false", "token_bound_cidrs": []string{"127.0.0.0/8"}, "secret_id_bound_cidrs": []string{"127.0.0.0/8"}}, nil)
	w.do("GET", "auth/approle/role/bare/role-id", nil, &role)
	r = w.reader(vault.Config{Login: vault.Login{Method: vault.AppRole, Role: "file:" + w.file(role.Data.ID)}})
	r.SetClock(func() time.Time { return at })
	w.fails(r, fault.Forbidden, roleLogin)
	w.fails(r, fault.Forbidden)
	w.do("POST", "auth/approle/role/bare", map[string]any{"token_policies": []string{"read-app"}, "token_ttl": "30m", "bind_secret_id": "false", "secret_id_bound_cidrs": []string{"127.0.0.0/8"}}, nil)
	at = at.Add(time.Minute)
	w.want(r, v, roleLogin)
	// Unknown roles and mounts.
	for _, l := range []vault.Login{{Method: vault.AppRole, Role: "none"}, {Method: vault.AppRole, Role: role.Data.ID, Mount: "none"}} {
		r = w.reader(vault.Config{Login: l})
		mount := "approle"
		if l.Mount != "" {
			mount = l.Mount
		}
		w.fails(r, fault.Unauthenticated, "POST auth/"+mount+"/login")
	}
}

// authority enables a login by JWT at a mount, with a role of the audience "vault", and gives what signs JWTs for it.
func authority(t *testing.T, w *world, mount string) (sign func(audience string) string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	w.do("POST", "sys/auth/"+mount, map[string]any{"type": "jwt"}, nil)
	w.do("POST", "auth/"+mount+"/config", map[string]any{"jwt_validation_pubkeys": []string{string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}}, nil)
	w.do("POST", "auth/"+mount+"/role/app", map[string]any{"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "token_policies": []string{"read-app"}, "token_ttl": "30m"}, nil)
	return func(audience string) string {
		claims := jwt.Claims{Subject: "app", Audience: jwt.Audience{audience}, NotBefore: jwt.NewNumericDate(time.Now().Add(-time.Minute)), Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))}
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

func byJWT(t *testing.T, w *world, v secret.Value) {
	sign := authority(t, w, "ci/jwt")
	file := w.file(sign("elsewhere"))
	r := w.reader(vault.Config{Login: vault.Login{Method: vault.JWT, Mount: "/ci/jwt/", Role: "app", JWT: file}})
	w.fails(r, fault.Unauthenticated, "POST auth/ci/jwt/login")
	if err := os.WriteFile(file, []byte(sign("vault")), 0o600); err != nil {
		t.Fatal(err)
	}
	w.want(r, v, "POST auth/ci/jwt/login")
	w.want(r, v)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	w.want(r, v)
	r.Close()
	w.fails(r, fault.NotFound)
}
