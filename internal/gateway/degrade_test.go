package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/queue"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// bubble is a gateway inside of a synctest bubble: its upstream is a function, its callers are called by name, and its clock stands still until
// everybody waits.
type bubble struct {
	t *testing.T
	o Options
	g *Gateway

	mu     sync.Mutex
	answer func(r *http.Request, body string) (status int, text string)
	seen   []sent
	events []event.Event
	gone   map[string]bool // proofs that are not believed any more
	domain domain
}

// sent is what the upstream saw of a message.
type sent struct {
	header http.Header
	body   string
}

func (b *bubble) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		all, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body.Close()
		body = string(all)
	}
	b.mu.Lock()
	d, answer := b.domain, b.answer
	if r.Method == http.MethodPost {
		b.seen = append(b.seen, sent{r.Header.Clone(), body})
	}
	b.mu.Unlock()
	status, text := http.StatusOK, `{"data":[]}`
	if answer != nil {
		status, text = answer(r, body)
	}
	h := http.Header{"Content-Type": {"application/json"}, "Request-Id": {"req_1"}, "Anthropic-Organization-Id": {d.organization}, "Anthropic-Workspace-Id": {d.workspace}, "Anthropic-Ratelimit-Requests-Limit": {"4"}}
	return &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: h, Request: r, ContentLength: int64(len(text)), Body: io.NopCloser(strings.NewReader(text))}, nil
}

// Identify believes x-api-key "app:NAME".
func (b *bubble) Identify(r *http.Request) (Caller, error) {
	app, ok := strings.CutPrefix(presented(r.Header), "app:")
	if !ok {
		return Caller{}, ErrNoOpinion
	}
	return Caller{App: app, Proof: "test:" + app}, nil
}

func (b *bubble) Recheck(c Caller) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone[c.Proof] {
		return errNotAgain
	}
	return nil
}

type testMaster []byte

func (m testMaster) Wrap(_ context.Context, key, aad []byte) ([]byte, error) {
	box, err := chacha20poly1305.NewX(m)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(nonce)
	return box.Seal(nonce, nonce, key, aad), nil
}

func (m testMaster) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	box, err := chacha20poly1305.NewX(m)
	if err != nil {
		return nil, err
	}
	return box.Open(nil, wrapped[:chacha20poly1305.NonceSizeX], wrapped[chacha20poly1305.NonceSizeX:], aad)
}

// inBubble runs a test in a bubble. change adjusts the options; dir is the state directory.
func inBubble(t *testing.T, change func(o *Options), test func(b *bubble)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{t: t, gone: map[string]bool{}, domain: domain{"org", "ws"}}
		b.o = Options{Upstream: "https://provider.invalid", Transport: b, Identify: []Identifier{b}, Hosts: []string{"gw"}, StateDir: dir, ReturnStep: 10 * time.Second,
			Rand: func() float64 { return 0.5 },
			Events: func(e event.Event) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.events = append(b.events, e)
			},
			Queue: QueueOptions{Master: func(context.Context, bool) (queue.Master, error) { return testMaster(bytes.Repeat([]byte{7}, 32)), nil }}}
		if change != nil {
			change(&b.o)
		}
		b.start()
		defer func() { b.g.Close() }()
		test(b)
	})
}

func (b *bubble) start() {
	b.t.Helper()
	var err error
	if b.g, err = New(b.o); err != nil {
		b.t.Fatal(err)
	}
	b.swap()
}

// swap puts a fresh key in force, and waits until its domain is known.
func (b *bubble) swap() {
	b.t.Helper()
	if err := b.g.Swap(Set{Keys: []Key{{Name: "k", Value: secrettest.Fake(b.t)}}}); err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
}

func (b *bubble) restart() {
	b.t.Helper()
	b.g.Close()
	b.start()
}

func (b *bubble) answers(f func(r *http.Request, body string) (int, string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

// echo answers a message with its own body.
func echo(_ *http.Request, body string) (int, string) {
	return 200, `{"echo":` + strconv.Quote(body) + `}`
}

func failing(status int) func(*http.Request, string) (int, string) {
	return func(r *http.Request, _ string) (int, string) {
		if r.Method == http.MethodGet {
			return 200, `{"data":[]}`
		}
		return status, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`
	}
}

func (b *bubble) messages() []sent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]sent(nil), b.seen...)
}

func (b *bubble) do(method, path, app, body string, headers ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequest(method, "http://gw"+path, strings.NewReader(body))
	r.RequestURI = path
	r.URL.Host, r.URL.Scheme = "", ""
	r.Header.Set("Anthropic-Version", "2023-06-01")
	if app != "" {
		r.Header.Set("X-Api-Key", "app:"+app)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.g.ServeHTTP(w, r)
	return w
}

func (b *bubble) want(status int, method, path, app, body string, headers ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	w := b.do(method, path, app, body, headers...)
	if w.Code != status {
		b.t.Fatalf("%s %s as %s: %d %s, want %d", method, path, app, w.Code, w.Body, status)
	}
	return w
}

func (b *bubble) public() PublicStatus {
	b.t.Helper()
	var s PublicStatus
	w := b.want(200, "GET", statusPath, "", "")
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bubble) told(t event.Type) (n int) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Type == t {
			n++
		}
	}
	return n
}

func (b *bubble) metrics() string {
	var w bytes.Buffer
	b.g.WriteMetrics(&w)
	return w.String()
}

// through counts of so many sessions those that reach the provider.
func (b *bubble) through(sessions int) map[int]bool {
	b.t.Helper()
	passed := map[int]bool{}
	for i := range sessions {
		w := b.do("POST", "/v1/messages", "a", hello, "X-Claude-Code-Session-Id", strconv.Itoa(i))
		switch {
		case w.Code == 200:
			passed[i] = true
		case w.Code != 529 && w.Code != 503 || w.Header().Get("Retry-After") == "":
			b.t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	return passed
}

// trip makes the provider fail until the breaker opens.
func (b *bubble) trip() {
	b.t.Helper()
	b.answers(failing(529))
	for range 10 {
		b.do("POST", "/v1/messages", "a", hello)
		if b.public().Status == "degraded" {
			return
		}
	}
	b.t.Fatal("the breaker did not open")
}

// TestBreakerDegrades: an open breaker is degraded mode for its model, and the way back lets 10 callers of a hundred through, then 50, then all.
func TestBreakerDegrades(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		t := b.t
		if s := b.public(); s.Status != "ok" || len(s.Degraded) != 0 || s.Queue != "accepting" {
			t.Fatalf("%+v", s)
		}
		b.trip()
		s := b.public()
		if len(s.Degraded) != 1 || s.Degraded[0].Cause != CauseBreaker || s.Degraded[0].Model != "haiku" || s.Degraded[0].Share != 0 {
			t.Fatalf("%+v", s)
		}
		if m := b.metrics(); !strings.Contains(m, `keywright_gateway_degraded{cause="breaker",model="haiku"} 1`) {
			t.Errorf("metrics:\n%s", m)
		}
		w := b.want(529, "POST", "/v1/messages", "a", hello)
		if w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"overloaded_error"`) {
			t.Errorf("%v %s", w.Header(), w.Body)
		}
		b.answers(echo)
		b.want(200, "POST", "/v1/messages", "a", strings.Replace(hello, "haiku", "sonnet", 1)) // another model is not degraded
		time.Sleep(breakerMost)
		b.want(200, "POST", "/v1/messages", "a", hello) // the one that finds out
		if s := b.public(); s.Status != "returning" || s.Degraded[0].Share != 10 {
			t.Fatalf("%+v", s)
		}
		ten := b.through(500)
		time.Sleep(10 * time.Second)
		half := b.through(500)
		if len(ten) < 25 || len(ten) > 80 || len(half) < 200 || len(half) > 300 {
			t.Errorf("%d and %d of 500 were let through", len(ten), len(half))
		}
		for i := range ten {
			if !half[i] {
				t.Errorf("session %d was let through at first, and refused later", i)
			}
		}
		if b.told(Degraded) != 1 || b.told(Restored) != 0 {
			t.Error("told too much or too little")
		}
		time.Sleep(10 * time.Second)
		if all := b.through(50); len(all) != 50 || b.public().Status != "ok" || b.told(Restored) != 1 {
			t.Errorf("%d of 50, %+v", len(all), b.public())
		}
		// On the way back it breaks again.
		b.trip()
		time.Sleep(breakerMost)
		b.answers(echo)
		b.want(200, "POST", "/v1/messages", "a", hello)
		time.Sleep(10 * time.Second)
		b.answers(failing(529))
		for i := 0; i < 2000 && b.public().Status != "degraded"; i++ {
			b.do("POST", "/v1/messages", "a", hello, "X-Claude-Code-Session-Id", strconv.Itoa(i))
		}
		if b.public().Status != "degraded" {
			t.Fatal("it did not break again")
		}
		time.Sleep(time.Minute)
		if b.public().Status != "degraded" {
			t.Error("the former way back went on")
		}
		// Nobody asks any more: it is not called degraded for ever.
		time.Sleep(2*housekeeping + 30*time.Second)
		if s := b.public(); s.Status != "ok" {
			t.Errorf("%+v", s)
		}
	})
}

func TestDeclared(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		t := b.t
		key := secrettest.Fake(t)
		for reason, until := range map[string]time.Time{"": {}, strings.Repeat("x", 201): {}, "late": time.Now().Add(-time.Second)} {
			if err := b.g.Declare(t.Context(), reason, until); !fault.Is(err, fault.Invalid) {
				t.Errorf("%q: %v", reason, err)
			}
		}
		if err := b.g.Restore(t.Context()); !fault.Is(err, fault.NotFound) {
			t.Errorf("%v", err)
		}
		leaky := ""
		key.Reveal(func(v []byte) { leaky = "maintenance " + string(v) })
		if err := b.g.Declare(t.Context(), leaky, time.Time{}); err != nil {
			t.Fatal(err)
		}
		b.answers(echo)
		refused := func() {
			t.Helper()
			w := b.want(503, "POST", "/v1/messages", "a", hello)
			if w.Header().Get("Retry-After") != "30" || !strings.Contains(w.Body.String(), "maintenance") || !strings.Contains(w.Body.String(), `"type":"error"`) {
				t.Errorf("%v %s", w.Header(), w.Body)
			}
			status, _ := json.Marshal(b.public())
			for _, text := range [][]byte{w.Body.Bytes(), status} {
				secrettest.NoLeak(t, "reason", text, key)
			}
			b.want(503, "GET", "/v1/models", "a", "")
		}
		refused()
		b.restart()
		refused()
		if err := b.g.Restore(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := b.public(); s.Status != "returning" || s.Degraded[0].Share != 10 {
			t.Errorf("%+v", s)
		}
		b.restart()
		if s := b.public(); s.Status != "ok" {
			t.Errorf("after a restart: %+v", s)
		}
		// With an end, also over a restart; a second declaration replaces the first.
		if err := errors.Join(b.g.Declare(t.Context(), "first", time.Time{}), b.g.Declare(t.Context(), "second", time.Now().Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
		b.restart()
		if s := b.public(); s.Status != "degraded" || len(s.Degraded) != 1 || s.Degraded[0].Reason != "second" {
			t.Errorf("%+v", s)
		}
		if w := b.want(503, "POST", "/v1/messages", "a", hello); w.Header().Get("Retry-After") != "300" {
			t.Errorf("%v", w.Header())
		}
		time.Sleep(time.Hour + time.Second)
		if s := b.public(); s.Status != "returning" {
			t.Errorf("after its end: %+v", s)
		}
		time.Sleep(20 * time.Second)
		if s := b.public(); s.Status != "ok" {
			t.Errorf("%+v", s)
		}
		b.want(200, "POST", "/v1/messages", "a", hello)
	})
}

// TestNoKeyDegrades: when the provider accepts no key, that is degraded mode until it accepts one.
func TestNoKeyDegrades(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		t := b.t
		b.answers(func(*http.Request, string) (int, string) {
			return 401, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}`
		})
		b.want(503, "POST", "/v1/messages", "a", hello)
		synctest.Wait()
		if s := b.public(); s.Status != "degraded" || s.Degraded[0].Cause != CauseNoKey || s.Ready {
			t.Fatalf("%+v", s)
		}
		b.want(503, "POST", "/v1/messages", "a", hello)
		b.answers(echo)
		b.swap()
		if s := b.public(); s.Status != "ok" || !s.Ready {
			t.Fatalf("%+v", s)
		}
		b.want(200, "POST", "/v1/messages", "a", hello)
		if b.told(Degraded) != 1 || b.told(Restored) != 1 {
			t.Error("told too much or too little")
		}
	})
}

func TestCachedAnswers(t *testing.T) {
	inBubble(t, func(o *Options) {
		o.Apps = map[string]App{"a": {Cache: []string{"messages", "models"}}, "b": {Cache: []string{"messages"}}, "poor": {Cache: []string{"messages"}, TokensPerMinute: 200}}
	}, func(b *bubble) {
		t := b.t
		n := 0
		b.answers(func(_ *http.Request, body string) (int, string) {
			n++
			return 200, fmt.Sprintf(`{"n":%d}`, n)
		})
		first := b.want(200, "POST", "/v1/messages", "a", hello)
		if second := b.want(200, "POST", "/v1/messages", "a", hello); second.Body.String() == first.Body.String() || second.Header().Get("Age") != "" {
			t.Error("the cache answered while nothing was degraded")
		}
		last := b.want(200, "POST", "/v1/messages", "a", hello, "Anthropic-Beta", "x").Body.String()
		newest := b.want(200, "POST", "/v1/messages", "a", hello).Body.String()
		models := b.want(200, "GET", "/v1/models?limit=5", "a", "").Body.String()
		b.want(200, "POST", "/v1/messages/count_tokens", "a", hello)
		b.want(200, "POST", "/v1/messages", "c", hello)
		stream := strings.Replace(hello, `"max_tokens"`, `"stream":true,"max_tokens"`, 1)
		tools := strings.Replace(hello, `"max_tokens"`, `"tools":[],"max_tokens"`, 1)
		b.want(200, "POST", "/v1/messages", "a", stream)
		b.want(200, "POST", "/v1/messages", "a", tools)
		b.want(200, "POST", "/v1/messages", "poor", hello)
		calls := len(b.messages())
		time.Sleep(3 * time.Second)
		if err := b.g.Declare(t.Context(), "maintenance", time.Time{}); err != nil {
			t.Fatal(err)
		}
		w := b.want(200, "POST", "/v1/messages", "a", hello)
		h := w.Header()
		if w.Body.String() != newest || h.Get("Age") != "3" || !strings.HasPrefix(h.Get("Warning"), "110 ") || h.Get("Content-Type") != "application/json" || h.Get("Request-Id") != "req_1" ||
			h.Get("Anthropic-Organization-Id") != "org" || h.Get("Anthropic-Ratelimit-Requests-Limit") != "" {
			t.Errorf("%s, %v", w.Body, h)
		}
		if w := b.want(200, "POST", "/v1/messages", "a", hello, "Anthropic-Beta", "x"); w.Body.String() != last {
			t.Errorf("%s, want %s", w.Body, last)
		}
		if w := b.want(200, "GET", "/v1/models?limit=5", "a", ""); w.Body.String() != models {
			t.Errorf("%s, want %s", w.Body, models)
		}
		for name, r := range map[string][]string{
			"another app":      {"POST", "/v1/messages", "b", hello},
			"no opt-in":        {"POST", "/v1/messages", "c", hello},
			"another route":    {"POST", "/v1/messages/count_tokens", "a", hello},
			"another body":     {"POST", "/v1/messages", "a", hello + " "},
			"another query":    {"GET", "/v1/models?limit=6", "a", ""},
			"another beta":     {"POST", "/v1/messages", "a", hello, "Anthropic-Beta", "y"},
			"a further header": {"POST", "/v1/messages", "a", hello, "Anthropic-Version", "2024-01-01"},
			"a stream":         {"POST", "/v1/messages", "a", stream},
			"tools":            {"POST", "/v1/messages", "a", tools},
		} {
			if w := b.do(r[0], r[1], r[2], r[3], r[4:]...); w.Code != 503 {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
		// It costs nothing: what was reserved is given back.
		for range 10 {
			b.want(200, "POST", "/v1/messages", "poor", hello)
		}
		if len(b.messages()) != calls {
			t.Error("the provider was asked")
		}
		if m := b.metrics(); !strings.Contains(m, "keywright_gateway_cache_hits_total 13\n") {
			t.Errorf("metrics:\n%s", m)
		}
		// An answer of one workspace is none of another's.
		b.mu.Lock()
		b.domain = domain{"org", "other"}
		b.mu.Unlock()
		b.swap()
		b.want(503, "POST", "/v1/messages", "a", hello)
		b.mu.Lock()
		b.domain = domain{"org", "ws"}
		b.mu.Unlock()
		b.swap()
		b.want(200, "POST", "/v1/messages", "a", hello)
		time.Sleep(DefaultCacheTime)
		b.want(503, "POST", "/v1/messages", "a", hello)
	})
}

// TestCacheKeepsWholeAnswersAlone: errors, and answers that broke off or that the caller did not read to their end, are not kept.
func TestCacheKeepsWholeAnswersAlone(t *testing.T) {
	inBubble(t, func(o *Options) { o.Default = App{Cache: []string{"messages"}} }, func(b *bubble) {
		t := b.t
		b.answers(func(*http.Request, string) (int, string) {
			return 400, `{"type":"error","error":{"type":"invalid_request_error"}}`
		})
		b.want(400, "POST", "/v1/messages", "a", hello)
		if n, _ := b.g.cache.Size(); n != 0 {
			t.Error("an error is kept")
		}
		k := &keeping{ReadCloser: io.NopCloser(io.MultiReader(strings.NewReader("half"), broken{errCut})), c: b.g.cache}
		if _, err := io.ReadAll(k); err == nil {
			t.Error("it did not break off")
		}
		if n, _ := b.g.cache.Size(); n != 0 {
			t.Error("half an answer is kept")
		}
	})
}

func TestSteady(t *testing.T) {
	for body, want := range map[string]bool{
		hello: true,
		`{"model":"m","messages":[],"temperature":0}`:                                                         true,
		`{"model":"m","messages":[],"temperature":0.0,"metadata":{"user_id":"u"}}`:                            true,
		`{"model":"m","messages":[],"temperature":1}`:                                                         false,
		`{"model":"m","messages":[],"temperature":null}`:                                                      false,
		`{"model":"m","messages":[],"thinking":{"type":"adaptive"}}`:                                          false,
		`{"model":"m","messages":[],"container":"c"}`:                                                         false,
		`{"model":"m","messages":[],"something_new":1}`:                                                       false,
		`{"model":"m","messages":[{"role":"assistant","content":[{"type":"redacted_thinking","data":"x"}]}]}`: false,
		`{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t"}]}]}`:     false,
		`{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64"}}]}]}`:  true,
		`{"model":"m","messages":[],"tools":[{"name":"n"}]}`:                                                  false,
		`no JSON`: false,
	} {
		if got := steady([]byte(body)); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}

const async = "respond-async"

// leaveWith leaves a request with the gateway, and gives where to ask for its answer.
func (b *bubble) leaveWith(app, body string, headers ...string) string {
	b.t.Helper()
	w := b.want(202, "POST", "/v1/messages", app, body, append([]string{"Prefer", "wait=10, " + async}, headers...)...)
	at := w.Header().Get("Location")
	var q Queued
	if err := json.Unmarshal(w.Body.Bytes(), &q); err != nil || w.Header().Get("Preference-Applied") != async || w.Header().Get("Retry-After") == "" ||
		!strings.HasPrefix(at, queuePath) || q.Location != at || q.Type != "queued_request" || q.State != queue.Waiting {
		b.t.Fatalf("%v %s (%v)", w.Header(), w.Body, err)
	}
	return at
}

func TestQueuedRequest(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		t := b.t
		b.answers(echo)
		at := b.leaveWith("a", hello, "Anthropic-Beta", "x", "Cookie", "c=1", "X-Other", "y", "Traceparent", "00-1", "Anthropic-Workspace-Id", "wrkspc_1")
		synctest.Wait()
		w := b.want(200, "GET", at, "a", "")
		_, text := echo(nil, hello)
		if w.Body.String() != text || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Request-Id") != "req_1" || w.Header().Get("Keywright-Queue") != "done" {
			t.Errorf("%v %s", w.Header(), w.Body)
		}
		b.want(404, "GET", at, "b", "")
		b.want(404, "DELETE", at, "b", "")
		b.want(404, "GET", queuePath+"none", "a", "")
		b.want(401, "GET", at, "", "")
		b.want(405, "POST", at, "a", "")
		b.want(404, "GET", ownPath+"other", "a", "")
		if w := b.do("GET", at, "a", "", "Origin", "https://page.example"); w.Code != 403 {
			t.Errorf("a web page got it: %d", w.Code)
		}
		m := b.messages()
		if len(m) != 1 || m[0].body != hello {
			t.Fatalf("%+v", m)
		}
		for _, name := range []string{"Cookie", "X-Other", "Prefer", "Authorization", "Anthropic-Workspace-Id", "Idempotency-Key"} {
			if m[0].header.Get(name) != "" {
				t.Errorf("%s went out", name)
			}
		}
		if m[0].header.Get("Anthropic-Beta") != "x" || m[0].header.Get("Anthropic-Version") == "" || strings.HasPrefix(m[0].header.Get("X-Api-Key"), "app:") {
			t.Errorf("%v", m[0].header.Get("Anthropic-Beta"))
		}
		b.restart()
		b.want(200, "GET", at, "a", "")
		b.want(204, "DELETE", at, "a", "")
		b.want(404, "GET", at, "a", "")
		// After its time an answer is erased.
		at = b.leaveWith("a", hello)
		time.Sleep(queue.DefaultKeep + 2*housekeeping)
		b.want(404, "GET", at, "a", "")
	})
}

// TestQueueWaitsWhileDegraded: requests are kept while the provider is not to be asked, over a restart too, and go out in their order.
func TestQueueWaitsWhileDegraded(t *testing.T) {
	inBubble(t, func(o *Options) { o.Queue.Parallel = 1 }, func(b *bubble) {
		t := b.t
		b.answers(echo)
		if err := b.g.Declare(t.Context(), "maintenance", time.Time{}); err != nil {
			t.Fatal(err)
		}
		var at []string
		for i := range 3 {
			at = append(at, b.leaveWith("a", strings.Replace(hello, `"hello"`, fmt.Sprintf(`"hello %d"`, i), 1)))
		}
		time.Sleep(time.Minute)
		b.restart()
		time.Sleep(time.Minute)
		if len(b.messages()) != 0 {
			t.Fatal("the provider was asked")
		}
		w := b.want(202, "GET", at[0], "a", "")
		if w.Header().Get("Retry-After") == "" || w.Header().Get("Preference-Applied") != "" {
			t.Errorf("%v", w.Header())
		}
		if m := b.metrics(); !strings.Contains(m, `keywright_gateway_queue_depth{state="waiting"} 3`) {
			t.Errorf("metrics:\n%s", m)
		}
		if err := b.g.Restore(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for i, one := range at {
			b.want(200, "GET", one, "a", "")
			if !strings.Contains(b.messages()[i].body, fmt.Sprintf("hello %d", i)) {
				t.Errorf("%d: %s", i, b.messages()[i].body)
			}
		}
	})
}

// TestQueueTriesAgain: while the provider fails the request waits; errors of the provider are counted, and the last is the answer.
func TestQueueTriesAgain(t *testing.T) {
	inBubble(t, func(o *Options) { o.KeyRetries = -1 }, func(b *bubble) {
		t := b.t
		b.answers(failing(529))
		at := b.leaveWith("a", hello)
		time.Sleep(3 * time.Second)
		b.want(202, "GET", at, "a", "")
		b.answers(echo)
		time.Sleep(queueMost)
		b.want(200, "GET", at, "a", "")
		n := len(b.messages())
		b.answers(func(*http.Request, string) (int, string) {
			return 500, `{"type":"error","error":{"type":"api_error","message":"it fails"}}`
		})
		at = b.leaveWith("a", hello)
		time.Sleep(time.Hour)
		if w := b.want(500, "GET", at, "a", ""); !strings.Contains(w.Body.String(), "it fails") {
			t.Errorf("%s", w.Body)
		}
		if got := len(b.messages()) - n; got != DefaultQueueAttempts {
			t.Errorf("%d attempts", got)
		}
		b.answers(func(*http.Request, string) (int, string) {
			return 400, `{"type":"error","error":{"type":"invalid_request_error","message":"bad"}}`
		})
		at = b.leaveWith("a", hello)
		time.Sleep(time.Second)
		b.want(400, "GET", at, "a", "")
		// No key at all: it waits, and is given up after a day.
		b.answers(func(*http.Request, string) (int, string) {
			return 401, `{"type":"error","error":{"type":"authentication_error"}}`
		})
		at = b.leaveWith("a", hello)
		time.Sleep(23 * time.Hour)
		b.want(202, "GET", at, "a", "")
		time.Sleep(time.Hour + 2*housekeeping)
		b.want(504, "GET", at, "a", "")
	})
}

// TestQueueAsksAgain: what a caller may do is asked again when its turn comes.
func TestQueueAsksAgain(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		t := b.t
		b.answers(echo)
		if err := b.g.Declare(t.Context(), "maintenance", time.Time{}); err != nil {
			t.Fatal(err)
		}
		revoked, model, route, fine := b.leaveWith("revoked", hello), b.leaveWith("model", hello), b.leaveWith("route", hello), b.leaveWith("fine", hello)
		slow := b.leaveWith("slow", hello)
		b.mu.Lock()
		b.gone["test:revoked"] = true
		b.mu.Unlock()
		err := b.g.Configure(Rules{Hosts: b.o.Hosts, Identify: b.o.Identify, Apps: map[string]App{
			"model": {Models: []string{"claude-opus-*"}}, "route": {Routes: []string{"models"}}, "slow": {RequestsPerMinute: 1},
		}})
		if err = errors.Join(err, b.g.Restore(t.Context())); err != nil {
			t.Fatal(err)
		}
		another := b.leaveWith("slow", hello)
		time.Sleep(10 * time.Second)
		b.want(401, "GET", revoked, "revoked", "")
		b.want(403, "GET", model, "model", "")
		b.want(403, "GET", route, "route", "")
		b.want(200, "GET", fine, "fine", "")
		b.want(200, "GET", slow, "slow", "")
		b.want(202, "GET", another, "slow", "") // the guard holds it back
		if len(b.messages()) != 2 {
			t.Errorf("%d requests went out", len(b.messages()))
		}
		time.Sleep(time.Minute)
		b.want(200, "GET", another, "slow", "")
		b.want(403, "POST", "/v1/messages", "model", hello, "Prefer", async)
	})
}

// TestPreferenceThatIsNotApplied: a preference may be left aside, and then the answer does not say that it was met.
func TestPreferenceThatIsNotApplied(t *testing.T) {
	inBubble(t, func(o *Options) { o.Queue.Body = 500; o.Queue.PerApp = 1; o.Queue.Entries = 2; o.Queue.Parallel = -1 }, func(b *bubble) {
		t := b.t
		b.answers(echo)
		for name, r := range map[string][]string{
			"a stream":           {"/v1/messages", strings.Replace(hello, `"max_tokens"`, `"stream":true,"max_tokens"`, 1), async},
			"a large body":       {"/v1/messages", strings.Replace(hello, "hello", strings.Repeat("x", 500), 1), async},
			"another route":      {"/v1/messages/count_tokens", hello, async},
			"another preference": {"/v1/messages", hello, "respond-asynchronously"},
		} {
			if w := b.do("POST", r[0], "a", r[1], "Prefer", r[2]); w.Code != 200 || w.Header().Get("Preference-Applied") != "" {
				t.Errorf("%s: %d %v", name, w.Code, w.Header())
			}
		}
		// Full, for one application and for all.
		b.leaveWith("a", hello)
		if w := b.want(429, "POST", "/v1/messages", "a", hello, "Prefer", async); w.Header().Get("Retry-After") == "" {
			t.Errorf("%v", w.Header())
		}
		b.leaveWith("b", hello)
		if w := b.want(503, "POST", "/v1/messages", "c", hello, "Prefer", async); w.Header().Get("Retry-After") == "" || b.public().Queue != "full" {
			t.Errorf("%v", w.Header())
		}
		b.want(400, "POST", "/v1/messages", "c", hello, "Prefer", async, "Idempotency-Key", strings.Repeat("k", 256))
	})
	inBubble(t, func(o *Options) { o.Queue = QueueOptions{} }, func(b *bubble) {
		t := b.t
		b.answers(echo)
		if w := b.want(200, "POST", "/v1/messages", "a", hello, "Prefer", async); w.Header().Get("Preference-Applied") != "" || b.public().Queue != "off" {
			t.Errorf("%v", w.Header())
		}
		b.want(404, "GET", queuePath+"x", "a", "")
	})
	// Without an identity there is nobody to give the answer to.
	w := start(t, simulator.Options{}, func(o *Options) {
		o.StateDir = t.TempDir()
		o.Queue.Master = func(context.Context, bool) (queue.Master, error) { return testMaster(bytes.Repeat([]byte{7}, 32)), nil }
	})
	k, _ := w.key("k", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	if a := w.want(200, "POST", "/v1/messages", hello, "Prefer", async); a.header.Get("Preference-Applied") != "" {
		t.Errorf("%v", a.header)
	}
}

func TestIdempotencyKey(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		t := b.t
		b.answers(echo)
		one := b.leaveWith("a", hello, "Idempotency-Key", "k")
		for _, other := range []string{b.leaveWith("b", hello, "Idempotency-Key", "k"), b.leaveWith("a", hello+" ", "Idempotency-Key", "k"), b.leaveWith("a", hello)} {
			if other == one {
				t.Error("another request got the same entry")
			}
		}
		synctest.Wait()
		w := b.want(202, "POST", "/v1/messages", "a", hello, "Prefer", async, "Idempotency-Key", "k")
		if w.Header().Get("Location") != one || !strings.Contains(w.Body.String(), `"done"`) || len(b.messages()) != 4 {
			t.Errorf("%v %s, %d", w.Header(), w.Body, len(b.messages()))
		}
	})
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

func TestRecheck(t *testing.T) {
	for name, c := range map[string]struct {
		id   Rechecker
		good Caller
	}{
		"user":        {Peers{Apps: map[int]string{5: "a"}}, Caller{App: "a", Proof: "uid:5"}},
		"certificate": {Certificates{Apps: map[string]string{"n": "a"}}, Caller{App: "a", Proof: "certificate:n"}},
		"oidc":        {&oidcIdentifier{o: OIDC{Issuer: "https://i"}, exact: map[string]string{"s": "a"}}, Caller{App: "a", Proof: "oidc:https://i s"}},
	} {
		if err := c.id.Recheck(c.good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.id.Recheck(Caller{App: "b", Proof: c.good.Proof}); !errors.Is(err, errNotAgain) {
			t.Errorf("%s of another application: %v", name, err)
		}
		if err := c.id.Recheck(Caller{App: "a", Proof: c.good.Proof + "x"}); !errors.Is(err, errNotAgain) && !errors.Is(err, ErrNoOpinion) {
			t.Errorf("%s that is not known: %v", name, err)
		}
		if err := c.id.Recheck(Caller{App: "a", Proof: "token:x"}); !errors.Is(err, ErrNoOpinion) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAdminDegrade asks over the status socket's handler.
func TestAdminDegrade(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		t := b.t
		admin := b.g.Admin()
		ask := func(status int, method, path string) string {
			t.Helper()
			w := httptest.NewRecorder()
			admin.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			if w.Code != status {
				t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
			return w.Body.String()
		}
		ask(422, "POST", "/degrade")
		ask(422, "POST", "/degrade?reason=x&until=soon")
		ask(404, "POST", "/restore")
		if got := ask(200, "POST", "/degrade?reason=maintenance"); !strings.Contains(got, `"degraded"`) {
			t.Error(got)
		}
		at := b.leaveWith("a", hello)
		id := strings.TrimPrefix(at, queuePath)
		for _, text := range []string{ask(200, "GET", "/queue"), ask(200, "GET", "/queue/"+id), ask(200, "GET", "/status")} {
			if strings.Contains(text, "hello") {
				t.Error("a body is shown")
			}
		}
		if got := ask(200, "GET", "/queue"); !strings.Contains(got, id) {
			t.Error(got)
		}
		ask(200, "DELETE", "/queue/"+id)
		ask(404, "DELETE", "/queue/"+id)
		ask(404, "GET", "/queue/"+id)
		ask(200, "POST", "/restore")
	})
}

// TestBlip: a breaker that was open for a moment has no way back.
func TestBlip(t *testing.T) {
	inBubble(t, func(o *Options) { o.ReturnStep = 0 }, func(b *bubble) {
		t := b.t
		b.trip()
		b.answers(echo)
		time.Sleep(breakerFirst)
		b.want(200, "POST", "/v1/messages", "a", hello)
		if s := b.public(); s.Status != "ok" || b.told(Restored) != 1 {
			t.Errorf("%+v", s)
		}
		if err := b.g.Declare(t.Context(), "maintenance", time.Time{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Second)
		if err := b.g.Restore(t.Context()); err != nil {
			t.Fatal(err)
		}
		for share, d := range []time.Duration{10 * time.Second, 10 * time.Second} {
			if s := b.public(); len(s.Degraded) != 1 || s.Degraded[0].Share != []int64{10, 50}[share] {
				t.Errorf("%+v", s)
			}
			time.Sleep(d)
		}
		synctest.Wait()
		if s := b.public(); s.Status != "ok" {
			t.Errorf("%+v", s)
		}
	})
}

// TestQueuedContainer: what the answer to a queued request makes belongs to the application that asked.
func TestQueuedContainer(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		t := b.t
		b.answers(func(r *http.Request, _ string) (int, string) {
			if r.Method == http.MethodGet {
				return 200, `{"data":[]}`
			}
			return 200, `{"id":"msg_1","type":"message","content":[],"container":{"id":"container_01queued","expires_at":"2100-01-01T00:00:00Z"}}`
		})
		at := b.leaveWith("a", strings.Replace(hello, `"max_tokens"`, `"tools":[{"type":"code_execution_20250825","name":"code_execution"}],"max_tokens"`, 1))
		synctest.Wait()
		b.want(200, "GET", at, "a", "")
		named := strings.Replace(hello, `"max_tokens"`, `"container":"container_01queued","max_tokens"`, 1)
		b.want(200, "POST", "/v1/messages", "a", named)
		if w := b.do("POST", "/v1/messages", "b", named); w.Code == 200 {
			t.Error("another application used the container")
		}
		// A queued request that names what is another's gets the refusal as its result.
		if w := b.do("POST", "/v1/messages", "b", named, "Prefer", async); w.Code == 202 {
			t.Error("it was queued")
		}
	})
}
