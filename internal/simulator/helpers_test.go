package simulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/simulator"
)

// clock is a clock that a test moves by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a simulator under a real HTTP server.
type world struct {
	*simulator.Simulator
	t     *testing.T
	url   string
	clock *clock
	admin string
	http  *http.Client
}

func start(t *testing.T, o simulator.Options) *world {
	t.Helper()
	c := newClock()
	if o.Clock == nil {
		o.Clock = c.Now
	}
	s := simulator.New(o)
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return &world{Simulator: s, t: t, url: srv.URL, clock: c, admin: s.AdminKey(), http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true},
	}}
}

func (w *world) key(c simulator.CreateKey) (id, value string) {
	w.t.Helper()
	if c.Name == "" {
		c.Name = "test-key"
	}
	id, value, err := w.CreateKey(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return id, value
}

// answer is a read reply.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// json decodes the body into a map.
func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("status %d: body is not JSON: %v", a.status, err)
	}
	return v
}

// errorOf returns type and code of an error body.
func (a answer) errorOf(t *testing.T) (kind, code string) {
	t.Helper()
	v := a.json(t)
	e, _ := v["error"].(map[string]any)
	kind, _ = e["type"].(string)
	if d, ok := e["details"].(map[string]any); ok {
		code, _ = d["error_code"].(string)
	}
	if v["type"] != "error" || v["request_id"] != a.header.Get("request-id") || a.header.Get("request-id") == "" {
		t.Errorf("error body does not carry the request-id header: %s", a.body)
	}
	return kind, code
}

type option func(*http.Request)

func version(v string) option { return header("anthropic-version", v) }

func header(k, v string) option {
	return func(r *http.Request) {
		if v == "" {
			r.Header.Del(k)
			return
		}
		r.Header.Set(k, v)
	}
}

func (w *world) do(method, path, key, body string, opts ...option) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("anthropic-version", "2026-10-21")
	if key != "" {
		r.Header.Set("x-api-key", key)
	}
	for _, o := range opts {
		o(r)
	}
	resp, err := w.http.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	var buf bytes.Buffer
	_, err = io.Copy(&buf, resp.Body)
	if resp.Header.Get(simulator.Header) != "true" {
		w.t.Errorf("%s %s: reply does not say that it is simulated", method, path)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: buf.Bytes(), err: err}
}

// want fails the test unless the call answers status, and returns the answer.
func (w *world) want(status int, method, path, key, body string, opts ...option) answer {
	w.t.Helper()
	a := w.do(method, path, key, body, opts...)
	if a.err != nil || a.status != status {
		w.t.Fatalf("%s %s: got %d %s (%v), want %d", method, path, a.status, a.body, a.err, status)
	}
	return a
}

const hello = `{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`

func list(t *testing.T, a answer) []map[string]any {
	t.Helper()
	var v struct{ Data []map[string]any }
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatal(err)
	}
	return v.Data
}
