package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	gw "github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"no key": {}, "a bad name": {Key: "A B"}, "no shares": {Key: "a", Canary: &Canary{Watch: time.Minute}}, "all": {Key: "a", Canary: &Canary{Shares: []int{50, 100}, Watch: time.Minute}},
		"shrinking": {Key: "a", Canary: &Canary{Shares: []int{50, 10}, Watch: time.Minute}}, "twice": {Key: "a", Canary: &Canary{Shares: []int{10, 10}, Watch: time.Minute}},
		"none": {Key: "a", Canary: &Canary{Shares: []int{0, 10}, Watch: time.Minute}}, "no time": {Key: "a", Canary: &Canary{Shares: []int{10}}},
		"two days": {Key: "a", Canary: &Canary{Shares: []int{10}, Watch: 48 * time.Hour}},
	} {
		if _, err := New(c, location.Env{}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d, err := New(Config{Key: "a"}, location.Env{StateDir: "/state"})
	if err != nil || d.Address() != "/state/gateway#a" {
		t.Errorf("%v %v", d, err)
	}
	if _, err := d.Inspect(t.Context()); !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" {
		t.Errorf("a gateway that does not run: %v", err)
	}
	slow, err := New(Config{Key: "a", Canary: &Canary{Shares: []int{10, 50}, Watch: time.Hour}}, location.Env{StateDir: "/state"})
	if err != nil || slow.Patience() <= d.Patience()+2*time.Hour {
		t.Errorf("patience %v, with a canary %v", d.Patience(), slow.Patience())
	}
}

// staged stages a fresh value beside another one.
func staged(t *testing.T, d *Driver) (old, fresh secret.Value, r location.Receipt) {
	t.Helper()
	old, fresh = secrettest.Fake(t), secrettest.Fake(t)
	if _, err := d.Put(t.Context(), old, location.Expect{}); err != nil {
		t.Fatal(err)
	}
	h, err := d.Inspect(t.Context())
	if err == nil {
		r, err = d.Stage(t.Context(), fresh, location.ExpectHolding(h))
	}
	if err != nil {
		t.Fatal(err)
	}
	return old, fresh, r
}

// TestCanary: promoting gives growing shares to the staged value, step by step, and all of it when the last step is over.
func TestCanary(t *testing.T) {
	p := startPeer(t, provider(t, nil))
	d := open(t, p.dir, &Canary{Shares: []int{10, 50}, Watch: time.Millisecond})
	old, fresh, r := staged(t, d)
	var steps []string
	for range 20 {
		promoted, err := d.Promote(t.Context(), r)
		if err == nil {
			if steps = append(steps, "all"); !strings.Contains(promoted.Facts["canary"], "failed: 0 of 0 with it") {
				t.Errorf("the receipt says nothing of the canary: %v", promoted.Facts)
			}
			break
		}
		if !fault.Is(err, fault.Unavailable) || fault.RetryAfterOf(err) <= 0 {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(err.Error(), "canary: ")
		share, _, _ := strings.Cut(rest, "%")
		if len(steps) == 0 || steps[len(steps)-1] != share {
			steps = append(steps, share)
		}
		c, err := d.Confirm(t.Context(), fresh.Digest())
		if err != nil || c.Complete() {
			t.Errorf("confirmed while %s%% use it: %+v %v", share, c, err)
		}
		if h, err := d.Inspect(t.Context()); err != nil || !h.Holds(old.Digest()) || h.Pending == nil || !h.Pending.Digest.Same(fresh.Digest()) {
			t.Errorf("at %s%%: %+v %v", share, h, err)
		}
	}
	if got := strings.Join(steps, " "); got != "10 50 all" {
		t.Errorf("steps: %s", got)
	}
	if c, err := d.Confirm(t.Context(), fresh.Digest()); err != nil || !c.Complete() || c.Facts["left"] != string(old.Fingerprint()) || c.Facts["last request ended"] == "" {
		t.Errorf("confirm: %+v %v", c, err)
	}
}

// TestCanaryWaits: a step lasts its time, however often it is asked.
func TestCanaryWaits(t *testing.T) {
	p := startPeer(t, provider(t, nil))
	d := open(t, p.dir, &Canary{Shares: []int{10, 50}, Watch: time.Hour})
	old, _, r := staged(t, d)
	for range 3 {
		_, err := d.Promote(t.Context(), r)
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "canary: 10%") || fault.RetryAfterOf(err) < 50*time.Minute {
			t.Fatalf("%v, again after %v", err, fault.RetryAfterOf(err))
		}
	}
	// Turning back ends it.
	if err := d.Unstage(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if c, err := d.Confirm(t.Context(), old.Digest()); err != nil || !c.Complete() {
		t.Errorf("after turning back: %+v %v", c, err)
	}
	if s := p.g.Status(); s.Canary != nil {
		t.Errorf("the canary goes on: %+v", s.Canary)
	}
}

// TestCanaryStops: a new value that fails more often is given up by the gateway, every session is back, and who asks again tries again.
func TestCanaryStops(t *testing.T) {
	var refused atomic.Pointer[string]
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if key := refused.Load(); r.URL.Path == "/v1/messages" && key != nil && r.Header.Get("X-Api-Key") == *key {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"type":"error","error":{"type":"permission_error","message":"no"}}`))
			return
		}
		_, _ = w.Write([]byte(`{"data":[]}`))
	}))
	t.Cleanup(upstream.Close)
	p := startPeer(t, upstream.URL)
	d := open(t, p.dir, &Canary{Shares: []int{50}, Watch: time.Hour})
	old, fresh, r := staged(t, d)
	text := fresh.RevealString()
	refused.Store(&text)
	if _, err := d.Promote(t.Context(), r); !fault.Is(err, fault.Unavailable) {
		t.Fatal(err)
	}
	for i := 0; i < 5000 && !stopped(p.g); i++ {
		send(t, p.g, i)
	}
	_, err := d.Promote(t.Context(), r)
	if !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "fails more often") || !strings.Contains(err.Error(), string(old.Fingerprint())) {
		t.Fatalf("after it stopped: %v", err)
	}
	if h, err := d.Inspect(t.Context()); err != nil || !h.Holds(old.Digest()) {
		t.Errorf("held: %+v %v", h, err)
	}
	if _, err := d.Promote(t.Context(), r); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "0 of 0 with it") {
		t.Errorf("asked again: %v", err)
	}
}

func stopped(g *gw.Gateway) bool {
	c := g.Status().Canary
	return c != nil && c.Stopped
}

// send makes a request of a session of its own, as an application of our own user.
func send(t *testing.T, g *gw.Gateway, session int) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"model": "claude-haiku-5-5", "max_tokens": 1, "messages": []any{map[string]string{"role": "user", "content": strconv.Itoa(session)}}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/v1/messages", strings.NewReader(string(body)))
	r.Host = "app.test"
	g.ServeHTTP(httptest.NewRecorder(), r)
}
