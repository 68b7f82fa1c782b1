package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

const hello = `{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`

const helloStream = `{"model":"claude-haiku-5-5","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hello"}]}`

// world is a gateway in front of the provider's imitation, both over loopback.
type world struct {
	t      *testing.T
	sim    *simulator.Simulator
	g      *Gateway
	url    string
	client *http.Client
	log    *buffer
	access *buffer

	mu     sync.Mutex
	events []event.Event
	values []secret.Value
}

// buffer is written from several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}

func start(t *testing.T, so simulator.Options, change func(o *Options)) *world {
	t.Helper()
	w := &world{t: t, sim: simulator.New(so), log: &buffer{}, access: &buffer{}}
	up := httptest.NewServer(w.sim.Handler())
	t.Cleanup(up.Close)
	o := Options{Upstream: up.URL, Open: true, Log: slog.New(slog.NewJSONHandler(w.log, nil)), Access: w.access, Events: w.event}
	if change != nil {
		change(&o)
	}
	w.serve(o)
	return w
}

func (w *world) serve(o Options) {
	w.t.Helper()
	g, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, l, nil, 5*time.Second) }()
	w.g, w.url = g, "http://"+l.Addr().String()
	tr := &http.Transport{MaxIdleConnsPerHost: 128}
	w.client = &http.Client{Transport: tr}
	w.t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("serve: %v", err)
		}
		g.Close()
		for where, data := range map[string][]byte{"log": w.log.Bytes(), "access log": w.access.Bytes()} {
			secrettest.NoLeak(w.t, where, data, w.values...)
		}
		var m bytes.Buffer
		g.WriteMetrics(&m)
		secrettest.NoLeak(w.t, "metrics", m.Bytes(), w.values...)
		s, _ := json.Marshal(g.Status())
		secrettest.NoLeak(w.t, "status", s, w.values...)
		w.mu.Lock()
		defer w.mu.Unlock()
		e, _ := json.Marshal(w.events)
		secrettest.NoLeak(w.t, "events", e, w.values...)
	})
}

func (w *world) event(e event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// key makes a key at the provider.
func (w *world) key(name string, c simulator.CreateKey) (Key, string) {
	w.t.Helper()
	c.Name = name
	id, value, err := w.sim.CreateKey(c)
	if err != nil {
		w.t.Fatal(err)
	}
	v := secret.New([]byte(value))
	w.values = append(w.values, v)
	return Key{Name: apikey.Name(name), Value: v}, id
}

func (w *world) swap(s Set) {
	w.t.Helper()
	if err := w.g.Swap(s); err != nil {
		w.t.Fatal(err)
	}
}

// until waits for a condition that other goroutines bring about.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// probed waits until every key's domain is known.
func (w *world) probed() {
	w.t.Helper()
	w.until("probes", func() bool {
		for _, e := range w.g.set.Load().entries {
			if e.domain.Load() == nil {
				return false
			}
		}
		return true
	})
}

func (w *world) phase(name string) string {
	for _, k := range w.g.Status().Keys {
		if string(k.Key) == name {
			return k.State
		}
	}
	return ""
}

func (w *world) has(t event.Type) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Type == t {
			return true
		}
	}
	return false
}

type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func (a answer) errorType() string {
	var b struct {
		Type  string
		Error struct{ Type string }
	}
	if json.Unmarshal([]byte(a.body), &b) != nil || b.Type != "error" {
		return ""
	}
	return b.Error.Type
}

func (w *world) do(method, path, body string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("anthropic-version", "2023-06-01")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	res, err := w.client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	secrettest.NoLeak(w.t, "answer", b, w.values...)
	return answer{res.StatusCode, res.Header, string(b), err}
}

func (w *world) want(status int, method, path, body string, headers ...string) answer {
	w.t.Helper()
	a := w.do(method, path, body, headers...)
	if a.err != nil || a.status != status {
		w.t.Fatalf("%s %s: %d %s (%v), want %d", method, path, a.status, a.body, a.err, status)
	}
	return a
}

// calls counts what the provider saw of a key on a path.
func (w *world) calls(id, path string) int {
	n := 0
	for _, r := range w.sim.Requests() {
		if r.KeyID == id && r.Path == path {
			n++
		}
	}
	return n
}

// upstream is start with an upstream of the test's own; keys come from the provider's imitation, which is not called.
func upstream(t *testing.T, serve http.HandlerFunc, change func(o *Options)) *world {
	t.Helper()
	up := httptest.NewServer(serve)
	t.Cleanup(up.Close)
	return start(t, simulator.Options{}, func(o *Options) {
		o.Upstream = up.URL
		if change != nil {
			change(o)
		}
	})
}
