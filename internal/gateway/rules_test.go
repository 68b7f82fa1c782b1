package gateway

import (
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/simulator"
)

// TestConfigure: rules change while requests are served, what was used stays used, and rules that cannot be change nothing.
func TestConfigure(t *testing.T) {
	w := start(t, simulator.Options{}, func(o *Options) { o.Apps = map[string]App{OpenApp: {RequestsPerMinute: 3}} })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	for range 3 {
		w.want(200, "GET", "/v1/models", "")
	}
	w.want(429, "GET", "/v1/models", "")
	w.want(404, "POST", "/v1/complete", "{}")
	w.want(403, "GET", "/v1/models", "", "Origin", "https://page.example")

	if err := w.g.Configure(Rules{Allow: []string{"POST /v1/organizations/x"}}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a forbidden route: %v", err)
	}
	w.want(429, "GET", "/v1/models", "")
	// Other rules of the same application: what it used of its minute is not given back.
	if err := w.g.Configure(Rules{Apps: map[string]App{OpenApp: {RequestsPerMinute: 3, Routes: []string{"models", "allowed"}}}, Allow: []string{"POST /v1/complete"}}); err != nil {
		t.Fatal(err)
	}
	w.want(429, "GET", "/v1/models", "")
	w.want(403, "POST", "/v1/messages", hello)

	if err := w.g.Configure(Rules{Default: App{Routes: []string{"models"}}, Origins: []string{"https://page.example"}}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		w.want(200, "GET", "/v1/models", "", "Origin", "https://page.example")
	}
	w.want(403, "POST", "/v1/messages", hello)

	// A gateway that serves nobody without an identity keeps its last way in.
	o := Options{Upstream: "http://127.0.0.1:1", Identify: []identity.Identifier{identity.Peers{}}}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Configure(Rules{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("rules by which nobody could call: %v", err)
	}
}
