package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
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
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/gateway/queue"
	"github.com/keywright/keywright/internal/secret/secrettest"
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
func (b *bubble) Identify(r *http.Request) (identity.Caller, error) {
	app, ok := strings.CutPrefix(identity.Presented(r.Header), "app:")
	if !ok {
		return identity.Caller{}, identity.ErrNoOpinion
	}
	return identity.Caller{App: app, Proof: "test:" + app}, nil
}

func (b *bubble) Recheck(c identity.Caller) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone[c.Proof] {
		return errors.New("gone")
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
		b.o = Options{Upstream: "https://provider.invalid", Transport: b, Identify: []identity.Identifier{b}, Hosts: []string{"gw"}, StateDir: dir, ReturnStep: 10 * time.Second,
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
	synctest.Wait()
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
