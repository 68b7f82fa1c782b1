package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

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

// TestConfigureDegraded: how degraded mode serves may change while the gateway runs.
func TestConfigureDegraded(t *testing.T) {
	apps := map[string]App{"a": {Cache: []string{"messages"}}}
	inBubble(t, func(o *Options) { o.Apps, o.CacheTime = apps, time.Minute }, func(b *bubble) {
		t := b.t
		configure := func(bytes int64, keep, step time.Duration) {
			t.Helper()
			if err := b.g.Configure(Rules{Hosts: b.o.Hosts, Identify: b.o.Identify, Apps: apps, CacheBytes: bytes, CacheTime: keep, ReturnStep: step}); err != nil {
				t.Fatal(err)
			}
		}
		b.answers(echo)
		b.want(200, "POST", "/v1/messages", "a", hello)
		if err := b.g.Declare(t.Context(), "maintenance", time.Time{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Second)
		b.want(200, "POST", "/v1/messages", "a", hello)
		time.Sleep(15 * time.Second)
		b.want(503, "POST", "/v1/messages", "a", hello)
		if err := b.g.Restore(t.Context()); err != nil {
			t.Fatal(err)
		}
		configure(0, 0, 90*time.Second) // too late for this way back
		time.Sleep(21 * time.Second)
		synctest.Wait()
		if s := b.public(); s.Status != "ok" {
			t.Fatalf("%+v", s)
		}
		b.want(200, "POST", "/v1/messages", "a", hello)
		if err := b.g.Declare(t.Context(), "maintenance", time.Time{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		b.want(200, "POST", "/v1/messages", "a", hello) // ten minutes, since nothing else is said
		configure(1, 0, 90*time.Second)
		b.want(503, "POST", "/v1/messages", "a", hello)
		if err := b.g.Restore(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, share := range []int64{10, 50} {
			if s := b.public(); len(s.Degraded) != 1 || s.Degraded[0].Share != share {
				t.Errorf("share %d: %+v", share, s)
			}
			time.Sleep(90 * time.Second)
			synctest.Wait()
		}
		if s := b.public(); s.Status != "ok" {
			t.Errorf("%+v", s)
		}
		for _, r := range []Rules{{CacheBytes: -1}, {CacheTime: -1}, {ReturnStep: -1}} {
			r.Identify = b.o.Identify
			if err := b.g.Configure(r); !fault.Is(err, fault.Invalid) {
				t.Errorf("%+v: %v", r, err)
			}
		}
	})
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
