package verify

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

type world struct {
	sim *simulator.Simulator
	v   *Verifier
}

func start(t *testing.T, families ...string) world {
	t.Helper()
	sim := simulator.New(simulator.Options{})
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	if families == nil {
		families = []string{Anthropic}
	}
	v, err := New(Options{Families: families, URLs: map[string]string{Anthropic: srv.URL}, UserAgent: "keywright/test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return world{sim, v}
}

func (w world) key(t *testing.T) (string, scan.Match) {
	t.Helper()
	id, value, err := w.sim.CreateKey(simulator.CreateKey{Name: "k"})
	if err != nil {
		t.Fatal(err)
	}
	return id, match(Anthropic, "API key", value)
}

func match(family string, kind scan.Kind, value string) scan.Match {
	return scan.Match{Family: family, Kind: kind, Grade: scan.Exact, Value: secret.New([]byte(value))}
}

func TestLiveThenDead(t *testing.T) {
	w := start(t)
	id, m := w.key(t)
	if got := w.v.Check(t.Context(), m); got.State != Live || got.At.IsZero() {
		t.Errorf("%+v", got)
	}
	if err := w.sim.SetStatus(id, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	if got := w.v.Check(t.Context(), m); got.State != Live {
		t.Errorf("asked twice about one value: %+v", got)
	}
	if n := len(w.sim.Requests()); n != 1 {
		t.Errorf("%d calls for one value", n)
	}
	again := start(t)
	again.sim, again.v.clients = w.sim, w.v.clients
	if got := again.v.Check(t.Context(), m); got.State != Dead {
		t.Errorf("%+v", got)
	}
	for _, r := range w.sim.Requests() {
		if r.Method != "GET" || r.Path != "/v1/models" || r.UserAgent != "keywright/test" {
			t.Errorf("sent %+v", r)
		}
	}
}

func TestAdminKeysAskForTheOrganization(t *testing.T) {
	w := start(t)
	if got := w.v.Check(t.Context(), match(Anthropic, "admin key", w.sim.AdminKey())); got.State != Live {
		t.Errorf("%+v", got)
	}
	if r := w.sim.Requests(); len(r) != 1 || r[0].Path != "/v1/organizations/me" {
		t.Errorf("%+v", r)
	}
	id, value := w.sim.CreateAdminKey("x")
	w.sim.RevokeAdminKey(id)
	if got := w.v.Check(t.Context(), match(Anthropic, "admin key", value)); got.State != Dead {
		t.Errorf("%+v", got)
	}
}

func TestEverythingButA200AndA401IsUnknown(t *testing.T) {
	for _, e := range simulator.DocumentedErrors() {
		w := start(t)
		_, m := w.key(t)
		w.sim.Fail(e.Fault)
		got := w.v.Check(t.Context(), m)
		want := Unknown
		switch r := w.sim.Requests(); {
		case len(r) == 1 && r[0].Status == 401:
			want = Dead
		case len(r) == 1 && r[0].Status == 200 && got.State == Live:
			want = Live // the fault is about another route
		}
		if got.State != want || got.Reason == "" {
			t.Errorf("%s: %+v, want %s", e.Name, got, want)
		}
	}
	for kind := simulator.FaultReply; kind <= simulator.FaultGarbageBody; kind++ {
		w := start(t)
		_, m := w.key(t)
		w.sim.Fail(simulator.Fault{Kind: kind, Status: 503})
		if got := w.v.Check(t.Context(), m); got.State != Unknown {
			t.Errorf("fault %v: %+v", kind, got)
		}
	}
}

func TestWhatIsNeverSent(t *testing.T) {
	var calls atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer srv.Close()
	v, err := New(Options{Families: []string{Anthropic}, URLs: map[string]string{Anthropic: srv.URL, OpenAI: srv.URL}})
	if err != nil {
		t.Fatal(err)
	}
	value := "x" + rand.Text()
	near := match(Anthropic, "API key", value)
	near.Grade = scan.Near
	none := match(Anthropic, "API key", value)
	none.Value = secret.Value{}
	for _, m := range []scan.Match{
		match(Anthropic, "scoped key", value), match(Anthropic, "OAuth refresh token", value), match(Anthropic, "session key", value), match(Anthropic, "webhook secret", value),
		match(Anthropic, "unfamiliar kind", value), match("other", "API key", value), match(OpenAI, "project key", value), near, none,
	} {
		if got := v.Check(t.Context(), m); got.State != Unknown || !got.At.IsZero() || got.Reason == "" {
			t.Errorf("%s %s: %+v", m.Family, m.Kind, got)
		}
	}
	if calls.Load() != 0 {
		t.Errorf("%d calls were made", calls.Load())
	}
}

func TestHeaders(t *testing.T) {
	var got http.Header
	var path string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, path = r.Header.Clone(), r.URL.String()
		io.WriteString(w, "{}")
	}))
	defer srv.Close()
	v, err := New(Options{Families: []string{Anthropic, OpenAI}, URLs: map[string]string{Anthropic: srv.URL, OpenAI: srv.URL}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		m          scan.Match
		path       string
		header, is string
	}{
		{match(Anthropic, "API key", "a1"), "/v1/models?limit=1", "X-Api-Key", "a1"},
		{match(Anthropic, "OAuth access token", "a2"), "/v1/models?limit=1", "Authorization", "Bearer a2"},
		{match(Anthropic, "OAuth access token", "a3"), "/v1/models?limit=1", "Anthropic-Beta", "oauth-2025-04-20"},
		{match(Anthropic, "admin key", "a4"), "/v1/organizations/me", "Anthropic-Version", anthropicVersion},
		{match(OpenAI, "project key", "a5"), "/v1/models", "Authorization", "Bearer a5"},
		{match(OpenAI, "project key", "a6"), "/v1/models", "Anthropic-Version", ""},
		{match(Anthropic, "API key", "a7"), "/v1/models?limit=1", "Origin", ""},
	} {
		if verdict := v.Check(t.Context(), tc.m); verdict.State != Live || path != tc.path || got.Get(tc.header) != tc.is {
			t.Errorf("%s %s: %+v, %s, %s: %q", tc.m.Family, tc.m.Kind, verdict, path, tc.header, got.Get(tc.header))
		}
	}
}

func TestRedirectsAndProxiesGetNothing(t *testing.T) {
	var stray atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stray.Add(1) }))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	t.Setenv("HTTP_PROXY", other.URL)
	t.Setenv("ALL_PROXY", other.URL)
	v, err := New(Options{Families: []string{Anthropic}, URLs: map[string]string{Anthropic: srv.URL}})
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Check(t.Context(), match(Anthropic, "API key", "a")); got.State != Unknown || stray.Load() != 0 {
		t.Errorf("%+v, %d stray calls", got, stray.Load())
	}
}

func TestVerdictsHoldNothingOfTheReply(t *testing.T) {
	value := secrettest.Fake(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(400)
		json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"type": r.Header.Get("X-Api-Key"), "message": r.Header.Get("X-Api-Key")}})
	}))
	defer srv.Close()
	v, err := New(Options{Families: []string{Anthropic}, URLs: map[string]string{Anthropic: srv.URL}})
	if err != nil {
		t.Fatal(err)
	}
	got := v.Check(t.Context(), scan.Match{Family: Anthropic, Kind: "API key", Grade: scan.Exact, Value: value})
	secrettest.NoLeak(t, "verdict", fmt.Appendf(nil, "%+v", got), value)
	if got.Reason != "the provider answered 400" {
		t.Errorf("%+v", got)
	}
}

// pipes is a network without a clock of its own.
type pipes struct{ conns chan net.Conn }

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestAtMostFiveEachSecondAndTwoHundredInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := pipes{make(chan net.Conn)}
		var at []time.Time
		var mu sync.Mutex
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			at = append(at, time.Now())
			mu.Unlock()
			io.WriteString(w, "{}")
		})}
		go func() { _ = srv.Serve(net) }()
		v, err := New(Options{Families: []string{Anthropic}, URLs: map[string]string{Anthropic: "http://127.0.0.1"}, dial: net.dial})
		if err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		states := make(chan State, 300)
		for i := range 300 {
			wait.Go(func() {
				states <- v.Check(t.Context(), match(Anthropic, "API key", fmt.Sprint("value", i%250))).State
			})
		}
		wait.Wait()
		close(states)
		count := map[State]int{}
		for s := range states {
			count[s]++
		}
		if len(at) != MaxValues || count[Live] < MaxValues || count[Unknown] < 50 {
			t.Errorf("%d calls, %v", len(at), count)
		}
		for i := perSecond; i < len(at); i++ {
			if at[i].Sub(at[i-perSecond]) < time.Second-time.Millisecond {
				t.Errorf("calls %d to %d within %s", i-perSecond, i, at[i].Sub(at[i-perSecond]))
			}
		}
		v.Close()
		close(net.conns)
		srv.Close()
	})
}

func TestInterrupted(t *testing.T) {
	w := start(t)
	_, m := w.key(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := w.v.Check(ctx, m); got.State != Unknown || !strings.Contains(got.Reason, "interrupted") {
		t.Errorf("%+v", got)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Families: []string{"x"}}, {URLs: map[string]string{"x": "https://h"}}, {Families: []string{Anthropic}, URLs: map[string]string{Anthropic: "http://example.org"}},
	} {
		if _, err := New(o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
