package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/gateway/ledger"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/simulator"
)

func TestServes(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	k, id := w.key("primary", simulator.CreateKey{})
	if a := w.do("POST", "/v1/messages", hello); a.status != 503 || a.header.Get("Retry-After") == "" || a.errorType() != "api_error" {
		t.Errorf("without a key: %d %s", a.status, a.body)
	}
	w.swap(Set{Keys: []Key{k}})
	a := w.want(200, "POST", "/v1/messages", hello)
	if !strings.Contains(a.body, "simulated reply") || a.header.Get("request-id") == "" {
		t.Errorf("answer: %s", a.body)
	}
	w.want(200, "POST", "/v1/messages?beta=true", hello)
	w.want(200, "POST", "/v1/messages/count_tokens", hello)
	w.want(200, "GET", "/v1/models?limit=2", "")
	w.want(200, "GET", "/v1/models/claude-haiku-5-5", "")
	a = w.want(200, "POST", "/v1/messages", helloStream)
	if !strings.HasSuffix(strings.TrimSpace(a.body), `{"type":"message_stop"}`) || !strings.Contains(a.body, "event: ping") {
		t.Errorf("stream: %s", a.body)
	}
	if got := w.calls(id, "/v1/messages"); got != 3 {
		t.Errorf("%d messages reached the provider, want 3", got)
	}
	// The provider's own refusals pass unchanged.
	a = w.want(404, "POST", "/v1/messages", `{"model":"none","max_tokens":1,"messages":[{"role":"user","content":"x"}]}`)
	if a.errorType() != "not_found_error" || a.header.Get("x-should-retry") != "" {
		t.Errorf("%s %v", a.body, a.header)
	}
	if a := w.want(200, "GET", "/healthz", ""); a.body != "ok\n" {
		t.Error(a.body)
	}
	w.want(200, "GET", "/readyz", "")
}

func TestFailoverOnDeadKey(t *testing.T) {
	w := start(t, simulator.Options{}, func(o *Options) { o.ProbeEvery = time.Hour })
	a, idA := w.key("primary", simulator.CreateKey{})
	b, idB := w.key("backup", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{a, b}})
	w.probed()
	if err := w.sim.SetStatus(idA, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	w.sim.ForgetRequests()
	for range 1000 {
		w.want(200, "POST", "/v1/messages", hello)
	}
	w.until("the primary is revoked", func() bool { return w.phase("primary") == "revoked" })
	if n := w.calls(idA, "/v1/messages") + w.calls(idA, "/v1/models"); n > 3 {
		t.Errorf("%d calls on the dead primary, want at most 3", n)
	}
	if n := w.calls(idB, "/v1/messages"); n != 1000 {
		t.Errorf("%d messages on the backup", n)
	}
	// It comes back by itself when the provider accepts it again.
	if err := w.sim.SetStatus(idA, simulator.StatusActive); err != nil {
		t.Fatal(err)
	}
	w.g.Reactivated(a.Value.Fingerprint())
	w.until("the primary is healthy", func() bool { return w.phase("primary") == "healthy" })
	w.until("all of it is told", func() bool { return w.has(KeySuspect) && w.has(KeyRevoked) && w.has(KeyHealthy) })
}

// TestClientRefusalConvictsNobody has the provider refuse one request while it accepts the key: the key stays.
func TestClientRefusalConvictsNobody(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	a, idA := w.key("primary", simulator.CreateKey{})
	b, _ := w.key("backup", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{a, b}})
	w.probed()
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", KeyID: idA, Times: 1, Status: 401})
	w.want(200, "POST", "/v1/messages", hello)
	w.until("the primary is healthy again", func() bool { return w.has(KeyHealthy) })
	if w.has(KeyRevoked) || w.phase("primary") != "healthy" {
		t.Error("a key was revoked that the provider accepts")
	}
}

func TestNoKeyLeftIsNever401(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	a, id := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{a}})
	w.probed()
	if err := w.sim.SetStatus(id, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r := w.want(503, "POST", "/v1/messages", hello)
		if r.header.Get("Retry-After") == "" || r.errorType() != "api_error" {
			t.Errorf("%s %v", r.body, r.header)
		}
	}
}

// TestLimitsAndDomains: a limit moves requests only where that helps and is permitted.
func TestLimitsAndDomains(t *testing.T) {
	for _, c := range []struct {
		name   string
		other  bool // the backup is of another workspace
		group  Group
		fault  simulator.Fault
		status int
		backup int // messages on the backup
	}{
		{"burst, same workspace", false, Group{OnLimits: true}, simulator.Fault{Status: 429, RetryAfter: 9 * time.Second}, 429, 0},
		{"burst, other workspace, not permitted", true, Group{On401: true}, simulator.Fault{Status: 429, RetryAfter: 9 * time.Second}, 429, 0},
		{"burst, other workspace", true, Group{OnLimits: true}, simulator.Fault{Status: 429, RetryAfter: 9 * time.Second}, 200, 1},
		{"organization cap, other workspace", true, Group{OnLimits: true}, simulator.Fault{Status: 429, ErrorCode: "enforced_spend_limit_reached"}, 429, 0},
		{"hold", true, Group{OnLimits: true}, simulator.Fault{Status: 400, ErrorCode: "organization_on_hold"}, 400, 0},
		{"customer limit", true, Group{OnLimits: true}, simulator.Fault{Status: 400, Message: "You have reached your specified workspace API usage limits."}, 200, 1},
		{"cmek", true, Group{OnLimits: true}, simulator.Fault{Status: 503, ErrorCode: "cmek_key_unreachable"}, 200, 1},
		{"forbidden, same workspace", false, Group{}, simulator.Fault{Status: 403}, 200, 1},
		{"forbidden, other workspace, not permitted", true, Group{On401: true}, simulator.Fault{Status: 403}, 403, 0},
		{"forbidden, other workspace", true, Group{On403: true}, simulator.Fault{Status: 403}, 200, 1},
		{"dead, other workspace, not permitted", true, Group{OnLimits: true}, simulator.Fault{Status: 401}, 503, 0},
		{"dead, other workspace", true, Group{On401: true}, simulator.Fault{Status: 401}, 200, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := start(t, simulator.Options{}, nil)
			a, idA := w.key("primary", simulator.CreateKey{})
			workspace := ""
			if c.other {
				workspace = w.sim.AddWorkspace("other").ID
			}
			b, idB := w.key("backup", simulator.CreateKey{Workspace: workspace})
			a.Group, b.Group = "g", "g"
			w.swap(Set{Keys: []Key{a, b}, Groups: map[string]Group{"g": c.group}})
			w.probed()
			c.fault.Path, c.fault.KeyID = "/v1/messages", idA
			w.sim.Fail(c.fault)
			r := w.want(c.status, "POST", "/v1/messages", hello)
			if got := w.calls(idB, "/v1/messages"); got != c.backup {
				t.Errorf("%d messages on the backup, want %d", got, c.backup)
			}
			if c.status == 429 && c.fault.RetryAfter > 0 {
				if r.header.Get("retry-after") != "9" {
					t.Errorf("retry-after %q", r.header.Get("retry-after"))
				}
				// While it cools, the provider is left alone, and the caller is told how long.
				again := w.want(429, "POST", "/v1/messages", hello)
				if again.header.Get("retry-after") == "" || again.errorType() != "rate_limit_error" || w.calls(idA, "/v1/messages") != 1 {
					t.Errorf("while cooling: %v, %d calls", again.header, w.calls(idA, "/v1/messages"))
				}
				// Another class of model has a limit of its own.
				w.sim.ClearFaults()
				w.want(200, "POST", "/v1/messages", strings.Replace(hello, "haiku-5-5", "sonnet-5-5", 1))
			}
		})
	}
}

// TestStickyBodies: what belongs to a workspace does not leave it.
func TestStickyBodies(t *testing.T) {
	for _, c := range []struct {
		name, body string
		group      Group
		status     int
	}{
		{"plain", hello, Group{On401: true}, 200},
		{"file", `{"model":"claude-haiku-5-5","max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"file_1"}}]}]}`, Group{On401: true}, 503},
		{"file, escaped", `{"model":"claude-haiku-5-5","max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file\u005fid":"file_1"}}]}]}`, Group{On401: true}, 503},
		{"container, dead key", `{"model":"claude-haiku-5-5","max_tokens":9,"container":"c","messages":[{"role":"user","content":"x"}]}`, Group{On401: true, AllowBreak: true}, 404}, // the other workspace does not know it
	} {
		t.Run(c.name, func(t *testing.T) {
			w := start(t, simulator.Options{}, nil)
			a, idA := w.key("primary", simulator.CreateKey{})
			b, idB := w.key("backup", simulator.CreateKey{Workspace: w.sim.AddWorkspace("other").ID})
			a.Group, b.Group = "g", "g"
			w.swap(Set{Keys: []Key{a, b}, Groups: map[string]Group{"g": c.group}})
			w.probed()
			at := w.g.set.Load().entries[0].where()
			for id, kind := range map[string]string{"file_1": object.File, "c": object.Container} {
				o := ledger.Object{ID: id, Kind: kind, App: OpenApp, Organization: at.organization, Workspace: at.workspace}
				if err := w.g.owners.Own(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			w.sim.Fail(simulator.Fault{Path: "/v1/messages", KeyID: idA, Status: 401})
			w.want(c.status, "POST", "/v1/messages", c.body)
			if left := w.calls(idB, "/v1/messages") > 0; left != (c.status != 503) {
				t.Errorf("the request left its workspace: %v", left)
			}
		})
	}
}

// TestRetryInPlace: trouble of the upstream is nobody's key.
func TestRetryInPlace(t *testing.T) {
	w := start(t, simulator.Options{}, func(o *Options) { o.Rand = func() float64 { return 0 } })
	a, idA := w.key("primary", simulator.CreateKey{})
	b, idB := w.key("backup", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{a, b}})
	w.probed()
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", Times: 2, Status: 529})
	w.want(200, "POST", "/v1/messages", hello)
	if w.calls(idA, "/v1/messages") != 3 || w.calls(idB, "/v1/messages") != 0 || w.phase("primary") != "healthy" {
		t.Errorf("calls: %d and %d", w.calls(idA, "/v1/messages"), w.calls(idB, "/v1/messages"))
	}
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", Times: 3, Status: 500})
	r := w.want(500, "POST", "/v1/messages", hello)
	if r.header.Get("x-should-retry") != "false" {
		t.Error("an answer that was repeated does not say x-should-retry: false")
	}
	w.sim.ClearFaults()
	w.sim.ForgetRequests()
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", Times: 1, Status: 500, Headers: map[string]string{"x-should-retry": "false"}})
	w.want(500, "POST", "/v1/messages", hello)
	if w.calls(idA, "/v1/messages") != 1 {
		t.Error("repeated although the provider asked not to")
	}
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", Times: 1, Kind: simulator.FaultDropBefore})
	w.want(200, "POST", "/v1/messages", hello)
}

// TestBreakerOpensAndCloses: many failures of the upstream keep requests from it for a while; then one tries.
func TestBreakerOpensAndCloses(t *testing.T) {
	w := start(t, simulator.Options{}, func(o *Options) { o.KeyRetries = -1 })
	a, idA := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{a}})
	w.probed()
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", Status: 529})
	for range breakerFails {
		w.want(529, "POST", "/v1/messages", hello)
	}
	w.sim.ClearFaults()
	r := w.want(529, "POST", "/v1/messages", hello)
	if r.header.Get("retry-after") == "" || r.errorType() != "overloaded_error" || w.calls(idA, "/v1/messages") != breakerFails {
		t.Errorf("%v %s, %d calls", r.header, r.body, w.calls(idA, "/v1/messages"))
	}
	if len(w.g.Status().Breakers) != 1 {
		t.Error("status shows no breaker")
	}
	b := w.g.breaker.of("claude-haiku-5-5")
	b.mu.Lock()
	b.open = time.Now().Add(-time.Millisecond)
	b.mu.Unlock()
	w.want(200, "POST", "/v1/messages", hello)
	w.want(200, "POST", "/v1/messages", hello)
	if len(w.g.Status().Breakers) != 0 {
		t.Error("the breaker did not close")
	}
}

// TestHeaders: what goes out and what comes back.
func TestHeaders(t *testing.T) {
	var got *http.Request
	up := func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/messages" {
			got = r
		}
		rw.Header().Set("Set-Cookie", "a=b")
		rw.Header().Set("Request-Id", "req_01x")
		rw.Header().Set("Content-Type", "application/json")
		_, _ = rw.Write([]byte(`{"usage":{"input_tokens":3,"output_tokens":4}}`))
	}
	w := upstream(t, up, nil)
	k, _ := w.key("primary", simulator.CreateKey{})
	k.Workspace = "wrkspc_1"
	w.swap(Set{Keys: []Key{k}})
	a := w.want(200, "POST", "/v1/messages?beta=true", hello, "x-api-key", "mine", "Authorization", "Bearer mine", "Cookie", "c=d", "X-Forwarded-For", "1.2.3.4",
		"Forwarded", "for=1.2.3.4", "Proxy-Authorization", "Basic eA==", "anthropic-workspace-id", "wrkspc_evil", "anthropic-beta", "a,b", "X-Stainless-Lang", "go",
		"Connection", "x-hop", "X-Hop", "1", "Accept-Encoding", "gzip", "Traceparent", traceParent, "Tracestate", "a=b", "Baggage", "c=d", "B3", "0", "X-B3-Traceid", "1")
	for _, name := range []string{"Authorization", "Cookie", "X-Forwarded-For", "Forwarded", "Proxy-Authorization", "X-Hop", "Accept-Encoding", "Via", "Traceparent", "Tracestate", "Baggage",
		"B3", "X-B3-Traceid"} {
		if v := got.Header.Get(name); v != "" {
			t.Errorf("%s went out: %q", name, v)
		}
	}
	if got.Header.Get("X-Api-Key") != k.Value.RevealString() || len(got.Header["X-Api-Key"]) != 1 {
		t.Error("the key did not go out exactly once")
	}
	for name, want := range map[string]string{"Anthropic-Workspace-Id": "wrkspc_1", "Anthropic-Beta": "a,b", "X-Stainless-Lang": "go", "Anthropic-Version": "2023-06-01"} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if got.URL.RawQuery != "beta=true" {
		t.Errorf("query %q", got.URL.RawQuery)
	}
	if a.header.Get("Set-Cookie") != "" || a.header.Get("Request-Id") != "req_01x" {
		t.Errorf("answer: %v", a.header)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Location", "http://127.0.0.1:1/")
		rw.WriteHeader(http.StatusTemporaryRedirect)
	}, nil)
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	if a := w.want(502, "POST", "/v1/messages", hello); a.header.Get("Location") != "" {
		t.Error("the address went to the caller")
	}
}
