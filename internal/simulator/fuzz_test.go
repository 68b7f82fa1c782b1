package simulator_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/simulator"
)

// FuzzRequests sends arbitrary bodies and queries: every reply is a JSON reply
// of the provider's kind, never a panic or a 500.
func FuzzRequests(f *testing.F) {
	for _, seed := range []struct{ method, path, query, body string }{
		{"POST", "messages", "", hello},
		{"POST", "messages", "beta=true", `{"model":"claude-haiku-5-5","max_tokens":1,"stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"x","citations":null}]}]}`},
		{"POST", "messages/count_tokens", "", `{"messages":[null]}`},
		{"POST", "messages/batches", "", `{"requests":[{"custom_id":"a","params":null}]}`},
		{"GET", "models", "limit=1&after_id=x&lifecycle[]=retired", ""},
		{"GET", "organizations/api_keys", "status=%zz", ""},
		{"POST", "organizations/workspaces", "", `{"name":"\u0000","tags":{"":""}}`},
		{"GET", "organizations/analytics/usage", "starting_at=2026-11-01T00:00:00Z&group_by[]=actor&page=cGFnZToxMg", ""},
		{"GET", "organizations/usage_report/messages", "starting_at=0001-01-01T00:00:00Z&bucket_width=1m&page=cGFnZTo5OTk5OTk5OTk5OTk5", ""},
		{"GET", "compliance/activities", "created_at.gt=x", ""},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.body)
	}
	c := newClock()
	s := simulator.New(simulator.Options{Clock: c.Now})
	admin := s.AdminKey()
	_, value, err := s.CreateKey(simulator.CreateKey{Name: "fuzz"})
	if err != nil {
		f.Fatal(err)
	}
	h := s.Handler()
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		if method != "GET" && method != "POST" && method != "DELETE" || strings.Contains(path, "..") {
			t.Skip()
		}
		key := value
		if strings.HasPrefix(path, "organizations") || strings.HasPrefix(path, "compliance") {
			key = admin
		}
		r := httptest.NewRequest(method, "/v1/x", strings.NewReader(body))
		r.URL.Path, r.URL.RawQuery = "/v1/"+path, query
		r.Header.Set("x-api-key", key)
		r.Header.Set("anthropic-version", simulator.Version20261021)
		r.Header.Set("anthropic-beta", "analytics-usage-cost-2026-08-24")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 || w.Code == http.StatusUnauthorized {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
}

// FuzzOpen reads arbitrary state files: an error or a working simulator.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"format":1,"keys":[{"id":"a","sha256":"00"}]}`))
	f.Add([]byte(`{"format":1,"keys":[null],"workspaces":[null],"users":[null],"admin_keys":[null]}`))
	f.Add([]byte(`{"format":1,"organization":"o","default_workspace":"w","workspaces":[{"id":"w"}],"keys":[{"id":"k","workspace":"gone"}]}`))
	f.Add([]byte(`{"format":1,"organization":"o","default_workspace":"w","workspaces":[{"id":"w"}],"usage":[{"second":9223372036854775807}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := simulator.Open(path, simulator.Options{})
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/console", nil))
		if w.Code != http.StatusOK {
			t.Errorf("console answers %d", w.Code)
		}
		s.Keys()
	})
}
