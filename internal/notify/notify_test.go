package notify

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// fake is a channel that answers with the next of its errors, then takes everything.
type fake struct {
	name string
	mu   sync.Mutex
	errs []error
	got  []Notice
	ids  []string
	at   []time.Time
	wait bool // until ctx ends
}

var _ Channel = (*fake)(nil)

func (f *fake) Name() string { return f.name }

func (f *fake) Send(ctx context.Context, id string, n Notice) error {
	if f.wait {
		<-ctx.Done()
		return fault.In(ctx.Err(), "send")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got, f.ids, f.at = append(f.got, n), append(f.ids, id), append(f.at, time.Now())
	if len(f.errs) == 0 {
		return nil
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return err
}

func notice(kind, what string) Notice {
	return Notice{At: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Key: "prod-primary", Rotation: "r-1", Kind: kind, What: what}
}

func outcomes(results []Result) string {
	var s []string
	for _, r := range results {
		s = append(s, string(r.Outcome))
	}
	return strings.Join(s, " ")
}

func TestTheSameIsToldOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fake{name: "a"}
		r := &Router{Routes: []Route{{Channel: c}}}
		tell := func(n Notice, want string) {
			t.Helper()
			got, err := r.Tell(t.Context(), n)
			if err != nil || outcomes(got) != want {
				t.Errorf("%q: %s, %v", n.What, outcomes(got), err)
			}
		}
		tell(notice("manual", "started"), "delivered")
		tell(notice("manual", "started"), "repeated")
		tell(notice("manual", "done"), "delivered")
		other := notice("manual", "started")
		other.Key = "staging"
		tell(other, "delivered")
		later := notice("manual", "started")
		later.Rotation = "r-2"
		tell(later, "delivered")
		time.Sleep(Window - time.Second)
		tell(notice("manual", "started"), "repeated")
		time.Sleep(time.Second)
		tell(notice("manual", "started"), "delivered")
		if len(c.got) != 5 {
			t.Errorf("%d sent", len(c.got))
		}
	})
}

func TestEmergenciesAreNeverSuppressedNorFiltered(t *testing.T) {
	c := &fake{name: "a"}
	r := &Router{Routes: []Route{{Channel: c, Wants: true, Keys: []apikey.Name{"other"}}}}
	for _, kind := range []string{KindEmergency, KindEmergency, KindIncident, KindIncident, "manual"} {
		if _, err := r.Tell(t.Context(), notice(kind, "emergency")); err != nil {
			t.Error(err)
		}
	}
	if len(c.got) != 4 {
		t.Errorf("%d sent, want 4", len(c.got))
	}
}

func TestRoutes(t *testing.T) {
	all, wants, mine := &fake{name: "all"}, &fake{name: "wants"}, &fake{name: "mine"}
	r := &Router{Routes: []Route{{Channel: all}, {Channel: wants, Wants: true}, {Channel: mine, Keys: []apikey.Name{"staging"}}}}
	n := notice("manual", "waits")
	n.Wants = true
	for _, n := range []Notice{notice("manual", "started"), n, {Key: "staging", What: "started"}, {Kind: KindStatus, What: "about no key"}} {
		if _, err := r.Tell(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
	if len(all.got) != 4 || len(wants.got) != 1 || len(mine.got) != 2 {
		t.Errorf("all %d, wants %d, mine %d", len(all.got), len(wants.got), len(mine.got))
	}
	if all.got[3].At.IsZero() {
		t.Error("a zero time was sent")
	}
}

func TestRetry(t *testing.T) {
	unavailable := fault.New(fault.Unavailable, "no answer")
	for name, c := range map[string]struct {
		errs  []error
		tries int
		kind  fault.Kind // 0: delivered
		took  time.Duration
	}{
		"heals":             {[]error{unavailable, unavailable}, 3, 0, 5 * time.Second},
		"does not heal":     {[]error{unavailable, unavailable, unavailable}, 3, fault.Unavailable, 5 * time.Second},
		"asks for patience": {[]error{fault.New(fault.RateLimited, "later", fault.RetryAfter(7*time.Second))}, 2, 0, 7 * time.Second},
		"asks for too much": {[]error{fault.New(fault.RateLimited, "later", fault.RetryAfter(time.Hour))}, 2, 0, 10 * time.Second},
		"is refused":        {[]error{fault.New(fault.Unauthenticated, "401"), nil}, 1, fault.Unauthenticated, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ch := &fake{name: "a", errs: c.errs}
				var recorded []Result
				r := &Router{Routes: []Route{{Channel: ch}}, Record: func(_ context.Context, res Result) { recorded = append(recorded, res) }}
				began := time.Now()
				results, err := r.Tell(t.Context(), notice("manual", "started"))
				if took := time.Since(began); took != c.took || results[0].Tries != c.tries {
					t.Errorf("%d tries in %v", results[0].Tries, took)
				}
				if c.kind == 0 && err != nil || c.kind != 0 && !fault.Is(err, c.kind) {
					t.Errorf("error %v", err)
				}
				if len(recorded) != 1 || recorded[0].Tries != c.tries || (recorded[0].Outcome == Failed) != (err != nil) {
					t.Errorf("recorded %+v", recorded)
				}
				if slices.IndexFunc(ch.ids, func(id string) bool { return id != ch.ids[0] || id == "" }) >= 0 {
					t.Errorf("ids of one delivery: %v", ch.ids)
				}
			})
		})
	}
}

func TestTellingAgainReachesOnlyWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := &fake{name: "hook"}, &fake{name: "hook", errs: []error{fault.New(fault.Forbidden, "403")}}
		r := &Router{Routes: []Route{{Channel: good}, {Channel: bad}}}
		_, err := r.Tell(t.Context(), notice("manual", "started"))
		if !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "tell hook (2)") {
			t.Errorf("first: %v", err)
		}
		got, err := r.Tell(t.Context(), notice("manual", "started"))
		if err != nil || outcomes(got) != "repeated delivered" || len(good.got) != 1 {
			t.Errorf("again: %s, %v", outcomes(got), err)
		}
	})
}

func TestTellEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, failing := &fake{name: "slow", wait: true}, &fake{name: "failing", errs: []error{fault.New(fault.Unavailable, "no"), fault.New(fault.Unavailable, "no")}}
		r := &Router{Routes: []Route{{Channel: slow}, {Channel: failing}}}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		began := time.Now()
		results, err := r.Tell(ctx, notice("manual", "started"))
		if err == nil || time.Since(began) != 1500*time.Millisecond || outcomes(results) != "failed failed" { //nolint:dupword // Two channels, two outcomes.
			t.Errorf("%s after %v: %v", outcomes(results), time.Since(began), err)
		}
	})
}

type panicking struct{}

func (panicking) Name() string                               { return "p" }
func (panicking) Send(context.Context, string, Notice) error { panic("boom") }

type forgetful struct{}

func (forgetful) Last(context.Context, string) (time.Time, error) {
	return time.Now(), fault.New(fault.Unavailable, "no store")
}
func (forgetful) Keep(context.Context, string, Result) error {
	return fault.New(fault.Unavailable, "no store")
}

func TestDefectsHoldNothingUp(t *testing.T) {
	c := &fake{name: "a"}
	r := &Router{Routes: []Route{{Channel: panicking{}}, {Channel: c}}, Memory: forgetful{}}
	for range 2 {
		results, err := r.Tell(t.Context(), notice("manual", "started"))
		if !fault.Is(err, fault.Corrupt) || outcomes(results) != "failed delivered" {
			t.Errorf("%s, %v", outcomes(results), err)
		}
	}
	if len(c.got) != 2 {
		t.Errorf("a memory that fails suppressed a notice: %d sent", len(c.got))
	}
}

func TestBodyIsCleanAndComplete(t *testing.T) {
	var key string
	secrettest.Fake(t).Reveal(func(b []byte) { key = string(b) })
	n := notice("manual", "found "+key+"\x1b[2J\nin a file")
	n.Hint = key
	b, err := n.Body()
	if err != nil || strings.Contains(string(b), key) || strings.Contains(string(b), `\u001b`) {
		t.Errorf("body %v", err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"at", "key", "rotation", "kind", "what", "wants", "hint"} {
		if _, ok := m[name]; !ok {
			t.Errorf("no %q", name)
		}
	}
	if len(m) != 7 || m["at"] != "2026-11-21T12:00:00Z" {
		t.Errorf("%v", m)
	}
}
