package app

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

const behindGateway = `keys:
  one: { class: development, owner: dev@acme.example, locations: [behind], soak: 1h }
  two: { class: production-primary, owner: dev@acme.example, locations: [two-env], soak: 1h }
locations:
  behind: { kind: gateway, key: one }
  two-env: { kind: env-file, path: two.env, variable: ANTHROPIC_API_KEY }
gateway:
  listen: unix:gw.sock
  keys: [ { key: one, source: "file:one.key" } ]
  apps: { web: { requests_per_minute: 10 } }
`

// runs begins with the configured gateway, and ends it with the test or when stop is called.
func (w *world) runs(a *App) (stop func()) {
	w.t.Helper()
	o, err := ConfiguredGateway(w.t.Context(), a.Config, a.log)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	o.Ready = func(net.Addr, gateway.Status) { close(ready) }
	go func() { ended <- RunGateway(ctx, o) }()
	select {
	case <-ready:
	case err := <-ended:
		w.t.Fatal(err)
	}
	over := false
	stop = func() {
		if over {
			return
		}
		over = true
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("gateway: %v", err)
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// adopt makes a value the current version of a key and writes it where the gateway reads it.
func (w *world) adopt(a *App, key apikey.Name) secret.Value {
	w.t.Helper()
	_, value := w.make(key)
	w.write(string(key)+".key", value)
	return secret.New([]byte(value))
}

// TestGatewayEvidence: a gateway is asked about a value; one that is silent is unknown, and what was used is told with its time.
func TestGatewayEvidence(t *testing.T) {
	w := newWorld(t, behindGateway)
	before := time.Now()
	a := w.open()
	old := w.adopt(a, "one")
	ctx := t.Context()
	if f, uses := a.gatewayFact(ctx, old.Digest(), before); !f.Configured || !slices.Equal(f.Silent, []string{"gateway"}) || len(uses) > 0 {
		t.Errorf("no gateway runs: %+v %v", f, uses)
	}
	stop := w.runs(a)
	f, uses := a.gatewayFact(ctx, old.Digest(), before)
	if len(f.Silent) != 1 || !strings.Contains(f.Silent[0], "its record begins") || !slices.Equal(uses, []string{"gateway (one)"}) {
		t.Errorf("its record begins within the window: %+v %v", f, uses)
	}
	begun := time.Now()
	if f, _ := a.gatewayFact(ctx, old.Digest(), begun); len(f.Silent) > 0 {
		t.Errorf("its record begins before the window: %+v", f)
	}
	// Another value is put in force; the former one is used no more.
	_, text := w.make("one")
	fresh := secret.New([]byte(text))
	place, err := a.Location("behind")
	if err != nil {
		t.Fatal(err)
	}
	h, err := place.Inspect(ctx)
	if err != nil || !h.Holds(old.Digest()) {
		t.Fatalf("%+v %v", h, err)
	}
	client := gateway.NewClient(a.Config.Gateway.StateDir)
	if _, err := client.Put(ctx, "one", fresh, gateway.PlaceExpect{Checked: true, Revision: h.Revision}); err != nil {
		t.Fatal(err)
	}
	f, uses = a.gatewayFact(ctx, old.Digest(), begun)
	if f.Seen != 1 || f.Last.Before(begun) || len(uses) > 0 || len(f.Silent) > 0 {
		t.Errorf("it left within the window: %+v %v", f, uses)
	}
	if f, _ := a.gatewayFact(ctx, old.Digest(), time.Now()); f.Seen != 0 || f.Last.IsZero() {
		t.Errorf("it left before the window: %+v", f)
	}
	// The record outlives the gateway.
	stop()
	w.runs(a)
	if f, uses := a.gatewayFact(ctx, old.Digest(), begun); f.Seen != 1 || len(uses) > 0 || len(f.Silent) > 0 {
		t.Errorf("after a restart: %+v %v", f, uses)
	}
	// What it told is in the audit log, once.
	for range 2 {
		if err := a.heed(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if list := recorded(t, a, gateway.KeysSwapped); len(list) != 1 || list[0].Key != "one" || list[0].Location != "gateway" {
		t.Errorf("swaps: %+v", list)
	}
}

// TestGatewayRefusesTheCompromised: what leaked is refused by gateways when it is wanted nowhere any more, and not before.
func TestGatewayRefusesTheCompromised(t *testing.T) {
	w := newWorld(t, behindGateway)
	a := w.open()
	w.adopt(a, "one")
	w.runs(a)
	w.deploy(a, "two")
	var leaked apikey.Version
	mark := func(state apikey.State) {
		err := a.Store.Update(t.Context(), func(tx *store.Tx) error {
			versions, err := tx.Versions("two")
			if err != nil {
				return err
			}
			leaked = versions[0]
			leaked.State, leaked.Compromised = state, true
			if state != apikey.Current {
				if err := tx.DropDesired("two-env"); err != nil {
					return err
				}
			}
			return tx.PutVersion(leaked)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.denyCompromised(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	value := secret.New([]byte(strings.TrimSpace(strings.TrimPrefix(read(t, filepath.Join(w.dir, "two.env")), "ANTHROPIC_API_KEY="))))
	put := func() error {
		_, err := gateway.NewClient(a.Config.Gateway.StateDir).Put(t.Context(), "one", value, gateway.PlaceExpect{})
		return err
	}
	mark(apikey.Current)
	if err := put(); err != nil {
		t.Errorf("while it is all there is: %v", err)
	}
	mark(apikey.Previous)
	if err := put(); !fault.Is(err, fault.Forbidden) {
		t.Errorf("when nobody wants it: %v", err)
	}
}

// TestPlansOfTheGateway: it is first in an emergency, a rollback does not try what served before, and the plan says that gateways are asked.
func TestPlansOfTheGateway(t *testing.T) {
	w := newWorld(t, strings.Replace(behindGateway, "locations: [behind]", "locations: [one-env, behind]", 1)+"")
	w.text = strings.Replace(w.text, "  two-env:", "  one-env: { kind: env-file, path: one.env, variable: ANTHROPIC_API_KEY }\n  two-env:", 1)
	a := w.open()
	w.deploy(a, "one")
	w.spare(a, "one")
	for kind, stages := range map[rotation.Kind]bool{rotation.Manual: true, rotation.Emergency: true} {
		p, err := a.Plan(t.Context(), Wish{Key: "one", Kind: kind})
		if err != nil || !p.Gateway {
			t.Fatalf("%s: %+v %v", kind, p, err)
		}
		at := slices.IndexFunc(p.Places, func(x rotation.Place) bool { return x.Name == "behind" })
		if place := p.Places[at]; place.Can.Stage != stages || !place.Can.Read || !place.Can.Confirm || place.Patience == 0 || (at == 0) != (kind == rotation.Emergency) {
			t.Errorf("%s: place %d: %+v", kind, at, place)
		}
	}
}

// TestGatewayReloads: a section that cannot be used changes nothing; one that can is in force for the next request.
func TestGatewayReloads(t *testing.T) {
	w := newWorld(t, behindGateway)
	a := w.open()
	w.adopt(a, "one")
	o, err := ConfiguredGateway(t.Context(), a.Config, a.log)
	if err != nil {
		t.Fatal(err)
	}
	r := &gatewayRun{GatewayOptions: o}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if r.tokens, err = r.believed(); err != nil {
		t.Fatal(err)
	}
	rules := r.rules(o)
	if r.g, err = gateway.New(gateway.Options{Upstream: o.Upstream, StateDir: o.StateDir, Identify: rules.Identify}); err != nil {
		t.Fatal(err)
	}
	defer r.g.Close()
	if err := r.follow(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	next := o
	r.Again = func(context.Context) (GatewayOptions, error) { return next, nil }
	for name, change := range map[string]func(){
		"nobody could call":  func() { next.Tokens = false },
		"a bad route":        func() { next.Rules.Allow = []string{"POST /v1/organizations/x"} },
		"a key without file": func() { next.Source.Keys = []gateway.SourceKey{{Name: "one", Ref: "file:/nonexistent"}} },
	} {
		next = o
		change()
		if err := r.again(t.Context()); err == nil {
			t.Errorf("%s: it was taken up", name)
		}
		if keys := r.g.Status().Keys; len(keys) != 1 || keys[0].State == "" || !r.Tokens {
			t.Errorf("%s: %+v", name, keys)
		}
	}
	w.write("other.key", strings.TrimSpace(read(t, filepath.Join(w.dir, "one.key"))))
	next = o
	next.Source.Keys = []gateway.SourceKey{{Name: "one", Ref: "file:other.key"}}
	next.Rules.ReturnStep = time.Hour
	if err := r.again(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.Source.Keys[0].Ref; got != "file:other.key" {
		t.Errorf("the source is %s", got)
	}
	if err := errors.Join(r.g.Declare(t.Context(), "maintenance", time.Time{}), r.g.Restore(t.Context())); err != nil {
		t.Fatal(err)
	}
	if list := r.g.Status().Degraded; len(list) != 1 || time.Until(list[0].Until) < 50*time.Minute {
		t.Errorf("the way back: %+v", list)
	}
}
