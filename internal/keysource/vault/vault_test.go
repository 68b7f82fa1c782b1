package vault_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/keysource/vault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// server answers as the published interface of Vault describes it: a store of version 2 at secret/ and one of version 1 at old/kv/.
type server struct {
	mu     sync.Mutex
	two    map[string][]map[string]any // versions by path; nil is a deleted one
	one    map[string]map[string]any
	token  string
	status int // of every answer, when set
	asked  []string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.URL.Path)
	fail := func(status int) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"errors":["foreign text that must not be shown"]}`))
	}
	answer := func(data any) { _ = json.NewEncoder(w).Encode(map[string]any{"request_id": "x", "data": data}) }
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch {
	case s.status != 0:
		if s.status == http.StatusTemporaryRedirect {
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
		}
		fail(s.status)
	case r.Header.Get("X-Vault-Token") != s.token || r.Header.Get("X-Vault-Request") != "true" || r.Method != http.MethodGet:
		fail(http.StatusForbidden)
	case strings.HasPrefix(path, "sys/internal/ui/mounts/secret/"):
		answer(map[string]any{"path": "secret/", "type": "kv", "options": map[string]string{"version": "2"}})
	case strings.HasPrefix(path, "sys/internal/ui/mounts/old/kv/"):
		answer(map[string]any{"path": "old/kv/", "type": "kv", "options": nil})
	case strings.HasPrefix(path, "sys/internal/ui/mounts/transit/"):
		answer(map[string]any{"path": "transit/", "type": "transit"})
	case strings.HasPrefix(path, "secret/data/"):
		list := s.two[strings.TrimPrefix(path, "secret/data/")]
		if len(list) == 0 || list[len(list)-1] == nil {
			fail(http.StatusNotFound)
			return
		}
		answer(map[string]any{"data": list[len(list)-1], "metadata": map[string]any{"version": len(list), "created_time": time.Unix(int64(1_700_000_000+len(list)), 0).UTC()}})
	case s.one[path] != nil:
		answer(s.one[path])
	default:
		fail(http.StatusNotFound)
	}
}

func start(t *testing.T) (*server, *httptest.Server, secret.Ref) {
	t.Helper()
	for _, name := range []string{"VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "VAULT_CACERT"} {
		t.Setenv(name, "")
	}
	s := &server{two: map[string][]map[string]any{}, one: map[string]map[string]any{}, token: "root-token"}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(s.token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, h, secret.Ref("file:" + path)
}

func open(t *testing.T, c vault.Config) *vault.Reader {
	t.Helper()
	r, err := vault.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestBothVersions(t *testing.T) {
	s, h, token := start(t)
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	s.two["app/anthropic"] = []map[string]any{{"api_key": a.RevealString(), "other": 1}}
	s.one["old/kv/app"] = map[string]any{"key": a.RevealString()}
	two := open(t, vault.Config{Path: "secret/app/anthropic", Field: "api_key", Address: h.URL, Token: token, Every: time.Millisecond})
	one := open(t, vault.Config{Path: "/old/kv/app/", Field: "key", Address: h.URL + "/", Token: token})
	first, err := two.Read(t.Context())
	if err != nil || !first.Value.Equal(a) || first.Generation == 0 {
		t.Fatalf("version 2: %v", err)
	}
	if got, err := one.Read(t.Context()); err != nil || !got.Value.Equal(a) || got.Generation != 0 {
		t.Fatalf("version 1: %v", err)
	}
	s.mu.Lock()
	s.two["app/anthropic"] = append(s.two["app/anthropic"], map[string]any{"api_key": b.RevealString()})
	s.asked = nil
	s.mu.Unlock()
	if err := two.Wait(t.Context(), first.Mark); err != nil {
		t.Fatal(err)
	}
	next, err := two.Read(t.Context())
	if err != nil || !next.Value.Equal(b) || next.Generation <= first.Generation || len(s.asked) != 1 {
		t.Errorf("a new version: %v, asked %q", err, s.asked)
	}
	s.mu.Lock()
	s.two["app/anthropic"] = append(s.two["app/anthropic"], nil)
	s.mu.Unlock()
	if _, err := two.Read(t.Context()); !fault.Is(err, fault.NotFound) || fault.HintOf(err) == "" {
		t.Errorf("deleted: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s, h, token := start(t)
	v := secrettest.Fake(t)
	s.two["a"] = []map[string]any{{"key": v.RevealString(), "number": 1, "empty": ""}}
	for name, c := range map[string]struct {
		path, field string
		kind        fault.Kind
	}{
		"no such path": {"secret/b", "key", fault.NotFound}, "no such field": {"secret/a", "nope", fault.NotFound}, "a number": {"secret/a", "number", fault.Invalid},
		"empty": {"secret/a", "empty", fault.NotFound}, "no key-value store": {"transit/a", "key", fault.Invalid}, "no such mount": {"none/a", "key", fault.NotFound},
	} {
		_, err := open(t, vault.Config{Path: c.path, Field: c.field, Address: h.URL, Token: token}).Read(t.Context())
		if !fault.Is(err, c.kind) || strings.Contains(err.Error(), "foreign") {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := open(t, vault.Config{Path: "secret/a", Field: "key", Address: h.URL, Token: token})
	for status, kind := range map[int]fault.Kind{403: fault.Forbidden, 429: fault.RateLimited, 500: fault.Unavailable, 503: fault.Unavailable, 473: fault.Unavailable, 307: fault.Unavailable, 400: fault.Invalid} {
		s.mu.Lock()
		s.status = status
		s.mu.Unlock()
		_, err := r.Read(t.Context())
		if !fault.Is(err, kind) || strings.Contains(err.Error()+fault.HintOf(err), "foreign") {
			t.Errorf("%s: %v", strconv.Itoa(status), err)
		}
	}
	s.mu.Lock()
	s.status, s.token = 0, "renewed"
	s.mu.Unlock()
	if _, err := r.Read(t.Context()); !fault.Is(err, fault.Forbidden) {
		t.Errorf("an old token: %v", err)
	}
	// A token that an agent writes anew is taken up.
	if err := os.WriteFile(strings.TrimPrefix(string(token), "file:"), []byte("renewed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(t.Context()); err != nil {
		t.Error(err)
	}
	h.Close()
	if _, err := r.Read(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("nobody answers: %v", err)
	}
}

func TestConfiguration(t *testing.T) {
	start(t)
	for _, c := range []vault.Config{
		{Path: "a/b", Field: "f"}, {Path: "a/b", Field: "f", Address: "http://vault.example:8200"}, {Path: "a/b", Field: "f", Address: "https://u:p@h"}, {Path: "a", Field: "f", Address: "https://h"},
		{Path: "a/b", Address: "https://h"}, {Path: "a/../b", Field: "f", Address: "https://h"}, {Path: "a/b", Field: "f", Address: "ftp://h"},
	} {
		if _, err := vault.New(c); !fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), "open Vault") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	t.Setenv("VAULT_ADDR", "https://vault.example:8200")
	if _, err := vault.New(vault.Config{Path: "a/b", Field: "f"}); err != nil {
		t.Error(err)
	}
	var _ keysource.Reader = (*vault.Reader)(nil)
}
