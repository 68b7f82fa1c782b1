package keyring_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/anthropics/anthropic-sdk-go"
	o1 "github.com/anthropics/anthropic-sdk-go/option"
	v2 "github.com/anthropics/anthropic-sdk-go/v2"
	o2 "github.com/anthropics/anthropic-sdk-go/v2/option"

	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/keyring"
)

// source is a source that a test steers.
type source struct {
	mu     sync.Mutex
	values []string
	err    error
	calls  atomic.Int64
	hold   chan struct{}
}

func (s *source) set(err error, values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.values = err, values
}

func (s *source) Fetch(ctx context.Context) (keyring.Fetched, error) {
	s.calls.Add(1)
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return keyring.Fetched{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var f keyring.Fetched
	for _, v := range s.values {
		f.Values = append(f.Values, keyring.NewValue(v))
	}
	return f, s.err
}

func ring(t testing.TB, s keyring.Source, o ...keyring.Option) *keyring.Ring {
	t.Helper()
	r, err := keyring.New(s, o...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func value(t *testing.T, r *keyring.Ring) string {
	t.Helper()
	v, err := r.Value(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v.Reveal()
}

func TestOneFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{values: []string{"a"}, hold: make(chan struct{})}
		r := ring(t, s)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if got := value(t, r); got != "a" {
					t.Error(got)
				}
			})
		}
		synctest.Wait()
		close(s.hold)
		wg.Wait()
		if s.calls.Load() != 1 {
			t.Errorf("%d fetches", s.calls.Load())
		}
		r.Close()
	})
}

// TestRefreshAhead: readers never wait while a usable value is there, and get the new one when it came.
func TestRefreshAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{values: []string{"a"}}
		r := ring(t, s)
		value(t, r)
		s.set(nil, "b")
		s.mu.Lock()
		s.hold = make(chan struct{})
		s.mu.Unlock()
		time.Sleep(48*time.Minute + time.Second)
		synctest.Wait()
		before := time.Now()
		if got := value(t, r); got != "a" || s.calls.Load() != 2 || !time.Now().Equal(before) {
			t.Errorf("%s after %d fetches", got, s.calls.Load())
		}
		close(s.hold)
		synctest.Wait()
		if got := value(t, r); got != "b" {
			t.Error(got)
		}
		r.Close()
	})
}

func TestStaleIfError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{values: []string{"a"}}
		r := ring(t, s, keyring.WithStaleLimit(2*time.Hour))
		value(t, r)
		broken := errors.New("the source is down")
		s.set(broken)
		time.Sleep(2*time.Hour + 59*time.Minute)
		if got := value(t, r); got != "a" {
			t.Error(got)
		}
		if n := s.calls.Load(); n < 100 || n > 200 {
			t.Errorf("%d fetches in 3 h", n)
		}
		time.Sleep(2 * time.Minute)
		if _, err := r.Value(t.Context()); !errors.Is(err, broken) {
			t.Errorf("beyond the limit: %v", err)
		}
		s.set(nil, "b")
		if got := value(t, r); got != "b" {
			t.Error(got)
		}
		r.Close()
	})
}

func TestInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{values: []string{"a"}}
		r := ring(t, s)
		v, _ := r.Value(t.Context())
		s.set(nil, "b")
		r.Invalidate(v)
		if got := value(t, r); got != "a" || s.calls.Load() != 1 {
			t.Error("read anew within a second")
		}
		time.Sleep(2 * time.Second)
		r.Invalidate(v)
		r.Invalidate(v)
		if got := value(t, r); got != "b" || s.calls.Load() != 2 {
			t.Errorf("%s after %d fetches", got, s.calls.Load())
		}
		time.Sleep(2 * time.Second)
		r.Invalidate(v) // no longer in use
		if value(t, r); s.calls.Load() != 2 {
			t.Error("an old value made the source be read")
		}
		// Refused, and the source is down: what there is stays.
		b, _ := r.Value(t.Context())
		s.set(errors.New("down"))
		r.Invalidate(b)
		if got := value(t, r); got != "b" {
			t.Error(got)
		}
		r.Close()
	})
}

func TestFirstFails(t *testing.T) {
	s := &source{err: errors.New("down")}
	r := ring(t, s)
	if _, err := r.Value(t.Context()); err == nil {
		t.Error("no error")
	}
	s.set(nil)
	if _, err := r.Value(t.Context()); !errors.Is(err, keyring.ErrNoValue) {
		t.Errorf("an empty source: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.mu.Lock()
	s.hold = make(chan struct{})
	s.mu.Unlock()
	if _, err := r.Value(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	close(s.hold)
	r.Close()
	r.Close()
	if _, err := r.Value(t.Context()); err == nil {
		t.Error("a closed ring without a value gives one")
	}
}

func TestValueStaysHidden(t *testing.T) {
	fake := secrettest.Fake(t)
	v := keyring.NewValue(fake.RevealString())
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v, "in", struct{ V keyring.Value }{v})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, verb+" "+verb+"\n", v, struct{ V *keyring.Value }{&v})
		fmt.Fprintf(&log, verb+"\n", []keyring.Value{v})
	}
	if _, err := json.Marshal(v); err == nil {
		t.Error("it was marshalled")
	}
	secrettest.NoLeak(t, "text", []byte(log.String()), fake)
	if !strings.Contains(log.String(), string(fake.Fingerprint())) || v.Fingerprint() != string(fake.Fingerprint()) {
		t.Error("the fingerprint is not Keywright's")
	}
	if (keyring.Value{}).Equal(keyring.Value{}) || (keyring.Value{}).String() != "[no value]" || (keyring.Value{}).Reveal() != "" {
		t.Error("the empty value")
	}
}

func TestSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b := write("a", "one\n", 0o600), write("b", "two\r\n", 0o600)
	got, err := keyring.File(a, b, filepath.Join(dir, "missing")).Fetch(t.Context())
	if err != nil || len(got.Values) != 2 || got.Values[0].Reveal() != "one" || got.Values[1].Reveal() != "two" {
		t.Errorf("%v %v", got, err)
	}
	for _, p := range []string{write("open", "x", 0o644), write("empty", "", 0o600), write("lines", "x\ny", 0o600), dir, filepath.Join(dir, "missing"), write("big", strings.Repeat("x", 20<<10), 0o600)} {
		if _, err := keyring.File(p).Fetch(t.Context()); err == nil {
			t.Errorf("%s was read", p)
		}
	}
	t.Setenv("KEYRING_TEST", "env-value")
	if _, err := keyring.New(keyring.Env("KEYRING_TEST")); err == nil {
		t.Error("the environment without WithDevelopment")
	}
	if got := value(t, ring(t, keyring.Env("KEYRING_TEST"), keyring.WithDevelopment("KEYRING_TEST"))); got != "env-value" {
		t.Error(got)
	}
	down := &source{err: errors.New("down")}
	if got := value(t, ring(t, down, keyring.WithDevelopment("KEYRING_TEST"))); got != "env-value" {
		t.Error(got)
	}
	for _, bad := range []string{"http://gateway.example", "https://u@h", "gateway", "https://h?x"} {
		if _, err := keyring.Gateway(bad, keyring.File(a)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	if _, err := keyring.New(nil); err == nil {
		t.Error("no source")
	}
}

const hello = `{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`

func post(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	r, _ := http.NewRequest("POST", url+"/v1/messages", strings.NewReader(hello))
	r.Header.Set("anthropic-version", "2023-06-01")
	r.Header.Set("Authorization", "Bearer placeholder")
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// TestRotationUnderTheLibrary: the key changes at the source and dies at the provider, and the program sees nothing.
func TestRotationUnderTheLibrary(t *testing.T) {
	sim := simulator.New(simulator.Options{})
	srv := httptest.NewServer(sim.Handler())
	defer srv.Close()
	idA, a, _ := sim.CreateKey(simulator.CreateKey{Name: "a"})
	_, b, _ := sim.CreateKey(simulator.CreateKey{Name: "b"})
	idC, c, _ := sim.CreateKey(simulator.CreateKey{Name: "c"})
	s := &source{values: []string{a, c}}
	r := ring(t, s, keyring.WithHosts(strings.TrimPrefix(srv.URL, "http://")))
	client := r.Client()
	if status, body := post(t, client, srv.URL); status != 200 {
		t.Fatal(status, body)
	}
	_ = sim.SetStatus(idA, simulator.StatusInactive)
	// The source still gives the dead one: the backup serves.
	if status, body := post(t, client, srv.URL); status != 200 {
		t.Fatal(status, body)
	}
	s.set(nil, b)
	_ = sim.SetStatus(idC, simulator.StatusInactive)
	deadline := time.Now().Add(10 * time.Second)
	for { // within a second after the last fetch the source is left alone
		status, body := post(t, client, srv.URL)
		if status == 200 {
			break
		}
		if status != 401 || time.Now().After(deadline) {
			t.Fatal(status, body)
		}
	}
	if v, _ := r.Value(t.Context()); v.Reveal() != b {
		t.Error("the new value is not in use")
	}
	sim.Fail(simulator.Fault{Path: "/v1/messages", Status: 429, RetryAfter: 7 * time.Second})
	calls := len(sim.Requests())
	if status, body := post(t, client, srv.URL); status != 429 || !strings.Contains(body, "rate_limit_error") || len(sim.Requests()) != calls+1 {
		t.Error(status, body)
	}
	sim.ClearFaults()
	// Another host gets nothing.
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a value went to another host") }))
	defer other.Close()
	req, _ := http.NewRequest("GET", strings.Replace(other.URL, "127.0.0.1", "127.0.0.2", 1), nil)
	if res, err := client.Do(req); err == nil {
		res.Body.Close()
		t.Error("a request to another host was sent")
	}
	req, _ = http.NewRequest("GET", "http://api.anthropic.com/v1/models", nil)
	if res, err := client.Do(req); err == nil {
		res.Body.Close()
		t.Error("plain http was sent")
	}
}

func TestGatewaySource(t *testing.T) {
	var path, key, auth string
	gw := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, key, auth = r.URL.Path, r.Header.Get("X-Api-Key"), r.Header.Get("Authorization")
	}))
	defer gw.Close()
	s, err := keyring.Gateway(gw.URL+"/p/", &source{values: []string{"kwt_token"}})
	if err != nil {
		t.Fatal(err)
	}
	post(t, ring(t, s).Client(), "https://api.anthropic.com")
	if path != "/p/v1/messages" || key != "kwt_token" || auth != "" {
		t.Error(path, auth)
	}
}

// TestOfficialSDKs plugs the ring into both majors.
func TestOfficialSDKs(t *testing.T) {
	sim := simulator.New(simulator.Options{})
	srv := httptest.NewServer(sim.Handler())
	defer srv.Close()
	idA, a, _ := sim.CreateKey(simulator.CreateKey{Name: "a"})
	_, b, _ := sim.CreateKey(simulator.CreateKey{Name: "b"})
	r := ring(t, &source{values: []string{a, b}}, keyring.WithHosts(strings.TrimPrefix(srv.URL, "http://")))
	one := v1.NewClient(o1.WithHTTPClient(r.Client()), o1.WithAPIKey("keyring"), o1.WithBaseURL(srv.URL), o1.WithMaxRetries(0))
	two := v2.NewClient(o2.WithoutEnvironmentDefaults(), o2.WithHTTPClient(r.Client()), o2.WithAPIKey("keyring"), o2.WithBaseURL(srv.URL), o2.WithMaxRetries(0))
	for _, dead := range []bool{false, true} {
		if dead {
			_ = sim.SetStatus(idA, simulator.StatusInactive)
		}
		if _, err := one.Models.List(t.Context(), v1.ModelListParams{}); err != nil {
			t.Errorf("v1, first key dead %v: %v", dead, err)
		}
		if _, err := two.Models.List(t.Context(), v2.ModelListParams{}); err != nil {
			t.Errorf("v2, first key dead %v: %v", dead, err)
		}
		if _, err := one.Messages.New(t.Context(), v1.MessageNewParams{Model: "claude-haiku-5-5", MaxTokens: 64, Messages: []v1.MessageParam{v1.NewUserMessage(v1.NewTextBlock("hi"))}}); err != nil {
			t.Errorf("v1 message, first key dead %v: %v", dead, err)
		}
	}
}

func TestCachedValueDoesNotAllocate(t *testing.T) {
	r := ring(t, &source{values: []string{"a"}})
	ctx := t.Context()
	value(t, r)
	if n := testing.AllocsPerRun(1000, func() { _, _ = r.Value(ctx) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkValue(b *testing.B) {
	r := ring(b, &source{values: []string{"a"}})
	ctx := b.Context()
	if _, err := r.Value(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if v, err := r.Value(ctx); err != nil || v.IsZero() {
				b.Fatal(err)
			}
		}
	})
}
