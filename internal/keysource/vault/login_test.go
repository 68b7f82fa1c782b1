package vault_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource/vault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// logged makes a world with a role of AppRole, and gives the way to log in for it.
func logged(t *testing.T) (*imitation, *world, secret.Value, vault.Login) {
	t.Helper()
	s, address := imitate(t)
	w, v := found(t, address), secrettest.Fake(t)
	w.put("app/anthropic", map[string]any{"api_key": v.RevealString()})
	w.do("POST", "sys/auth/approle", map[string]any{"type": "approle"}, nil)
	w.do("POST", "auth/approle/role/app", map[string]any{"token_policies": []string{"read-app"}, "token_ttl": "30m"}, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.roles["approle/app"]
	r.secrets["second-half"] = true
	return s, w, v, vault.Login{Method: vault.AppRole, Role: r.id, SecretID: secret.Ref("file:" + w.file("second-half"))}
}

// say makes the imitation answer a path with a status; 0 gives it its own answers back.
func (s *imitation) say(path string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status[path] = status
}

func TestRenewalThatFails(t *testing.T) {
	s, w, v, login := logged(t)
	r := w.reader(vault.Config{Login: login})
	at := time.Now()
	r.SetClock(func() time.Time { return at })
	w.want(r, v, roleLogin)
	// At two thirds of its time nothing can be had but the old token.
	at = at.Add(20 * time.Minute)
	s.say("auth/token/renew-self", http.StatusInternalServerError)
	s.say("auth/approle/login", http.StatusInternalServerError)
	w.want(r, v, renewal, roleLogin)
	// It has ended.
	at = at.Add(10 * time.Minute)
	w.fails(r, fault.Unavailable, roleLogin)
	s.say("auth/approle/login", 0)
	w.want(r, v, roleLogin)
	// A token that may not be renewed is replaced in time.
	at = at.Add(20 * time.Minute)
	s.say("auth/token/renew-self", http.StatusForbidden)
	w.want(r, v, renewal, roleLogin)
	// So is one that has reached its longest life.
	s.say("auth/token/renew-self", 0)
	s.mu.Lock()
	s.renewal = 600
	s.mu.Unlock()
	at = at.Add(20 * time.Minute)
	w.want(r, v, renewal, roleLogin)
	w.want(r, v)
}

func TestOneLoginForAll(t *testing.T) {
	_, w, v, login := logged(t)
	r := w.reader(vault.Config{Login: login})
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if got, err := r.Read(t.Context()); err != nil || !got.Value.Equal(v) {
				t.Errorf("read: %v", err)
			}
		})
	}
	all.Wait()
	if asked := w.calls(); !slices.Equal(asked, []string{roleLogin}) {
		t.Errorf("it called %q", asked)
	}
}

func TestRefusedLogins(t *testing.T) {
	s, w, _, login := logged(t)
	for status, kind := range map[int]fault.Kind{400: fault.Unauthenticated, 403: fault.Unauthenticated, 404: fault.Unauthenticated, 429: fault.RateLimited, 503: fault.Unavailable, 307: fault.Unavailable} {
		s.say("auth/approle/login", status)
		r := w.reader(vault.Config{Login: login})
		_, err := r.Read(t.Context())
		if !fault.Is(err, kind) || !strings.HasPrefix(err.Error(), "log in to Vault by approle") {
			t.Errorf("%d: %v", status, err)
		}
		for _, word := range []string{"foreign", "second-half", "127.0.0.1:1"} {
			if strings.Contains(err.Error()+fault.HintOf(err), word) {
				t.Errorf("%d: the error shows %q: %v", status, word, err)
			}
		}
	}
	// An answer without a token, as one that wants a second factor is.
	s.say("auth/approle/login", 0)
	s.mu.Lock()
	s.roles["approle/app"].seconds = -1
	s.mu.Unlock()
	w.fails(w.reader(vault.Config{Login: login}), fault.Unsupported, roleLogin)
	for _, l := range []vault.Login{
		{Method: vault.AppRole, Role: login.Role, SecretID: "file:/none"}, {Method: vault.AppRole, Role: "file:/none"}, {Method: vault.Kubernetes, Role: "app", JWT: filepath.Join(t.TempDir(), "none")},
	} {
		w.fails(w.reader(vault.Config{Login: l}), fault.NotFound)
	}
	long := w.file(strings.Repeat("x", 64<<10))
	w.fails(w.reader(vault.Config{Login: vault.Login{Method: vault.JWT, Role: "app", JWT: long}}), fault.Invalid)
}

func TestNamespace(t *testing.T) {
	s, w, v, login := logged(t)
	s.mu.Lock()
	s.namespaces = nil
	s.mu.Unlock()
	w.want(w.reader(vault.Config{Login: login, Namespace: "team/a"}), v, roleLogin)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.namespaces) != 3 || slices.ContainsFunc(s.namespaces, func(n string) bool { return n != "team/a" }) {
		t.Errorf("namespaces of the calls: %q", s.namespaces)
	}
}

func TestLoginConfiguration(t *testing.T) {
	start(t)
	for _, c := range []struct {
		login vault.Login
		token secret.Ref
		ok    bool
	}{
		{login: vault.Login{Method: vault.AppRole, Role: "r", SecretID: "file:s"}, ok: true}, {login: vault.Login{Method: vault.Kubernetes, Role: "r"}, ok: true},
		{login: vault.Login{Method: vault.JWT, Role: "r", JWT: "f", Mount: "a/b"}, ok: true}, {login: vault.Login{Role: "r"}}, {login: vault.Login{Method: "userpass", Role: "r"}},
		{login: vault.Login{Method: vault.AppRole}}, {login: vault.Login{Method: vault.JWT, Role: "r"}}, {login: vault.Login{Method: vault.AppRole, Role: "r", JWT: "f"}},
		{login: vault.Login{Method: vault.Kubernetes, Role: "r", SecretID: "file:s"}}, {login: vault.Login{Method: vault.AppRole, Role: "r"}, token: "file:t"}, {login: vault.Login{Method: vault.AppRole, Role: "r", Mount: "a/../b"}},
	} {
		_, err := vault.New(vault.Config{Path: "a/b", Field: "f", Address: "https://h", Login: c.login, Token: c.token})
		if (err == nil) != c.ok || err != nil && (!fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), "open Vault")) {
			t.Errorf("%+v: %v", c.login, err)
		}
	}
}

// TestServiceAccount logs in with a file that every user of the pod may read, as Kubernetes makes it.
func TestServiceAccount(t *testing.T) {
	_, w, v, _ := logged(t)
	sign := authority(t, w, "kubernetes")
	file := w.file(sign("vault"))
	if err := os.Chmod(file, 0o644); err != nil { // as Kubernetes writes it
		t.Fatal(err)
	}
	w.want(w.reader(vault.Config{Login: vault.Login{Method: vault.Kubernetes, Role: "app", JWT: file}}), v, "POST auth/kubernetes/login")
}
