package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/gateway/queue"
	"github.com/keywright/keywright/internal/simulator"
)

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
	inBubble(t, func(o *Options) { o.KeyRetries, o.Queue.Wait = -1, 2*time.Hour }, func(b *bubble) {
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
		// No key at all: it waits, and is given up at last.
		b.answers(func(*http.Request, string) (int, string) {
			return 401, `{"type":"error","error":{"type":"authentication_error"}}`
		})
		at = b.leaveWith("a", hello)
		time.Sleep(time.Hour)
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
