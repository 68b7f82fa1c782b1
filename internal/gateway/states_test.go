package gateway

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/internal/verdict"
)

// still is a gateway whose upstream is never reached, for the states alone; inside of a bubble.
func still(t *testing.T, names ...string) *Gateway {
	t.Helper()
	g, err := New(Options{Upstream: "https://provider.invalid", Open: true, Rand: func() float64 { return 0.5 }, Transport: refusing{}})
	if err != nil {
		t.Fatal(err)
	}
	var keys []Key
	for _, n := range names {
		keys = append(keys, Key{Name: "k", Group: n, Value: secrettest.Fake(t)})
	}
	if err := g.Swap(Set{Keys: keys}); err != nil {
		t.Fatal(err)
	}
	return g
}

type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errCut }

func asking(class string) *exchange {
	return &exchange{class: class, app: &appState{name: "a"}, breaker: &breaker{}}
}

// TestCooledScopeEndsWithOneProbe: at its end one request tries the scope out while others wait, and its result decides.
func TestCooledScopeEndsWithOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := still(t, "")
		defer g.Close()
		d := domain{"org", "ws"}
		e := g.set.Load().entries[0]
		e.domain.Store(&d)
		g.scopes.cool(g, verdict.WorkspaceModel, d, "haiku", time.Now().Add(5*time.Second), "burst")
		if c := g.pick(asking("haiku")); c.entry != nil || !c.limited || c.until != time.Now().Add(5*time.Second) {
			t.Fatalf("%+v", c)
		}
		if c := g.pick(asking("sonnet")); c.entry == nil {
			t.Error("another class of model is kept away")
		}
		time.Sleep(5 * time.Second)
		first, second := asking("haiku"), asking("haiku")
		if c := g.pick(first); c.entry == nil || !first.trying {
			t.Fatalf("nobody tries: %+v", c)
		}
		if c := g.pick(second); c.entry != nil || !c.limited {
			t.Error("a second request tries too")
		}
		// The first hangs up: the next one tries.
		g.scopes.giveBack(first)
		if c := g.pick(second); c.entry == nil {
			t.Error("nobody tries any more")
		}
		// It meets the limit again.
		g.scopes.cool(g, verdict.WorkspaceModel, d, "haiku", time.Now().Add(7*time.Second), "burst")
		second.trying = false
		time.Sleep(6 * time.Second)
		if c := g.pick(asking("haiku")); c.entry != nil {
			t.Error("let through while cooling")
		}
		time.Sleep(time.Second)
		third := asking("haiku")
		g.pick(third)
		g.scopes.passed(g, third)
		for range 10 {
			if c := g.pick(asking("haiku")); c.entry == nil {
				t.Error("still kept away after a good answer")
			}
		}
		if g.scopes.n.Load() != 0 {
			t.Error("the scope was not forgotten")
		}
	})
}

// TestUnknownDomainIsTheSameAsAll: before its domain is known, a key counts as sharing every limit.
func TestUnknownDomainIsTheSameAsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := still(t, "g", "g")
		defer g.Close()
		es := g.set.Load().entries
		es[0].domain.Store(&domain{"org", "one"})
		g.scopes.cool(g, verdict.Workspace, es[0].where(), "haiku", time.Now().Add(time.Minute), "customer-limit")
		if c := g.pick(asking("haiku")); c.entry != nil {
			t.Error("a key of unknown domain was tried for a limit")
		}
		es[1].domain.Store(&domain{"org", "two"})
		if c := g.pick(asking("haiku")); c.entry != nil {
			t.Error("the group does not permit it")
		}
		g.set.Load().groups = map[string]Group{"g": {OnLimits: true}}
		if c := g.pick(asking("haiku")); c.entry != es[1] {
			t.Error("the key of another workspace was not taken")
		}
		g.scopes.cool(g, verdict.Organization, es[0].where(), "haiku", time.Now().Add(time.Minute), "billing")
		if c := g.pick(asking("haiku")); c.entry != nil {
			t.Error("an organization's limit was escaped within it")
		}
	})
}

// TestSlowStart: a key that recovered gets a growing share, and all of it where it is alone.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := still(t, "", "")
		defer g.Close()
		es := g.set.Load().entries
		g.become(es[0].keyState, Healthy, Suspect, "dead")
		if c := g.pick(asking("haiku")); c.entry != es[1] {
			t.Error("a suspect key was used while another exists")
		}
		g.become(es[0].keyState, Suspect, Healthy, "probe")
		if c := g.pick(asking("haiku")); c.entry != es[1] {
			t.Error("the whole load came back at once")
		}
		time.Sleep(slowStart * 6 / 10) // the drawn number is 0.5
		if c := g.pick(asking("haiku")); c.entry != es[0] {
			t.Error("nothing came back")
		}
		g.become(es[1].keyState, Healthy, Suspect, "dead")
		g.become(es[1].keyState, Suspect, Revoked, "probe")
		g.become(es[0].keyState, Healthy, Suspect, "dead")
		if c := g.pick(asking("haiku")); c.entry != es[0] {
			t.Error("the last key, though suspect, was not tried")
		}
		g.become(es[0].keyState, Suspect, Revoked, "probe")
		if c := g.pick(asking("haiku")); c.entry != nil || c.limited {
			t.Errorf("a revoked key was chosen: %+v", c)
		}
	})
}

// TestBreakerRules: direct failures count at once; those that a request may cause count only when several applications see them.
func TestBreakerRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := still(t, "")
		defer g.Close()
		now := func(status int) verdict.Outcome {
			return verdict.Judge(verdict.Answer{Status: status, Shaped: true}, time.Now())
		}
		app := func(name string) *exchange {
			g.app(name)
			return &exchange{app: &appState{name: name}}
		}
		b := &breaker{model: "claude-haiku-5-5"}
		for range 100 {
			b.failure(g, app("one"), now(500))
			b.failure(g, app("two"), now(504))
		}
		if !b.blocked(app("one"), time.Now()).IsZero() {
			t.Error("two applications cut off all others")
		}
		b.failure(g, app("three"), now(500))
		if b.blocked(app("one"), time.Now()).IsZero() {
			t.Error("three applications see it, and the breaker is closed")
		}
		time.Sleep(breakerFirst)
		trial := app("one")
		if !b.blocked(trial, time.Now()).IsZero() || b.blocked(app("two"), time.Now()).IsZero() {
			t.Error("not exactly one request tries")
		}
		b.failure(g, trial, now(529))
		if got := time.Until(b.blocked(app("one"), time.Now())); got != 2*breakerFirst {
			t.Errorf("open for %v after a failed trial", got)
		}
		time.Sleep(2 * breakerFirst)
		trial = app("one")
		b.blocked(trial, time.Now())
		b.success(g, trial)
		if !b.blocked(app("two"), time.Now()).IsZero() || b.state.Load() != 0 {
			t.Error("a good trial did not close it")
		}
		// A few failures among many good answers are no outage.
		b.failure(g, app("one"), now(529))
		for range 100 {
			b.success(g, app("one"))
		}
		for range 10 {
			b.failure(g, app("one"), now(529))
		}
		if !b.blocked(app("one"), time.Now()).IsZero() {
			t.Error("opened by a tenth of failures")
		}
	})
}

// TestRevokedComesBack: the gateway's own probe, every ProbeEvery, ends the state.
func TestRevokedComesBack(t *testing.T) {
	w := start(t, simulator.Options{}, func(o *Options) { o.ProbeEvery = 20 * time.Millisecond })
	k, id := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	w.probed()
	if err := w.sim.SetStatus(id, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	w.do("POST", "/v1/messages", hello)
	w.until("it is revoked", func() bool { return w.phase("primary") == "revoked" })
	w.want(503, "GET", "/readyz", "")
	if err := w.sim.SetStatus(id, simulator.StatusActive); err != nil {
		t.Fatal(err)
	}
	w.until("it is healthy", func() bool { return w.phase("primary") == "healthy" })
	w.want(200, "POST", "/v1/messages", hello)
}

// TestDeadKeyUnderConcurrency: of requests that begin after the first refusal none meets the dead key.
func TestDeadKeyUnderConcurrency(t *testing.T) {
	w := start(t, simulator.Options{}, func(o *Options) { o.ProbeEvery = time.Hour })
	a, idA := w.key("primary", simulator.CreateKey{})
	b, _ := w.key("backup", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{a, b}})
	w.probed()
	if err := w.sim.SetStatus(idA, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	w.want(200, "POST", "/v1/messages", hello) // meets the first 401
	w.sim.ForgetRequests()
	var failed atomic.Int64
	done := make(chan struct{})
	for range 32 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 30 {
				if a := w.do("POST", "/v1/messages", hello); a.status != 200 {
					failed.Add(1)
				}
			}
		}()
	}
	for range 32 {
		<-done
	}
	if n := w.calls(idA, "/v1/messages") + w.calls(idA, "/v1/models"); n > 3 || failed.Load() != 0 {
		t.Errorf("%d calls on the dead key, %d failed", n, failed.Load())
	}
}
