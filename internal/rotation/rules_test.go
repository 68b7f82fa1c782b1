package rotation_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// times notes when each effect was made.
func times(d *driver) map[string]time.Time {
	at := map[string]time.Time{}
	answer := d.answer
	d.answer = func(e rotation.Effect) (any, error) {
		data, err := answer(e)
		if err == nil {
			at[e.ID] = d.now
		}
		return data, err
	}
	return at
}

// TestRollbackTopToBottom: the version that comes back is made active and accepted before a place gets it, the newest wave goes first, and the
// version that was taken out is settled.
func TestRollbackTopToBottom(t *testing.T) {
	p := plan()
	p.Kind, p.Process, p.New = rotation.Rollback, rotation.ProcessRollback, "v_previous"
	d := newDriver(t, p)
	if m := d.run(); m.Status != rotation.Done {
		t.Fatalf("ended %q: %s", m.Status, m.Note)
	}
	want := `preflight/a/check preflight/b/check preflight/c/check preflight/activate preflight/await-accepted
deploy/production/b/baseline deploy/production/b/stage deploy/production/b/promote deploy/production/b/reload deploy/production/b/confirm deploy/production/b/probe
deploy/production/b/probe-watch deploy/production/c/put
staging/staging/a/baseline staging/staging/a/put staging/staging/a/reload staging/staging/a/confirm staging/staging/a/probe
observe/drift flip observe/settle record/record record/tell`
	want = strings.ReplaceAll(strings.ReplaceAll(want, "staging/staging/", "deploy/staging/"), "\n", " ")
	if got := strings.Join(d.order, " "); got != want {
		t.Errorf("order:\n%s\nwant:\n%s", got, want)
	}
}

// TestEmergencyLooksAgainBeforeTheFlip writes where something else came in meanwhile, and leaves alone what cannot be read.
func TestEmergencyLooksAgainBeforeTheFlip(t *testing.T) {
	p := plan()
	p.Kind, p.Process = rotation.Emergency, rotation.ProcessEmergency
	d := newDriver(t, p)
	if m := d.run(); m.Status != rotation.Done {
		t.Fatalf("ended %q: %s", m.Status, m.Note)
	}
	again, flip := slices.Index(d.order, "verify/a/put"), slices.Index(d.order, "flip")
	if again < 0 || again > flip || slices.Contains(d.order, "verify/c/put") {
		t.Errorf("order: %v", d.order)
	}
}

// TestLentVersionRetiresNothing: the old version stays what it is while the new one is borrowed.
func TestLentVersionRetiresNothing(t *testing.T) {
	p := plan()
	p.Lent = true
	d := newDriver(t, p)
	if m := d.run(); m.Status != rotation.Done {
		t.Fatalf("ended %q: %s", m.Status, m.Note)
	}
	for _, id := range d.order {
		if strings.HasPrefix(id, "retire/") || strings.HasPrefix(id, "archive/") {
			t.Errorf("it made %s", id)
		}
	}
}

// TestHealthWaitBeforePromotion: what lies beside the held value lies there for the health wait before it is put in force.
func TestHealthWaitBeforePromotion(t *testing.T) {
	d := newDriver(t, plan())
	at := times(d)
	m := d.run()
	if waited := at["deploy/production/b/promote"].Sub(at["deploy/production/b/stage"]); m.Status != rotation.Done || waited < d.plan.HealthWait {
		t.Errorf("ended %q, promoted after %v", m.Status, waited)
	}
}

// TestWatchEndsWhenItIsOver: the last look is at the end of the watch, not at the next round hour.
func TestWatchEndsWhenItIsOver(t *testing.T) {
	p := plan()
	p.Watch = 26*time.Hour + 30*time.Minute
	d := newDriver(t, p)
	at := times(d)
	m := d.run()
	if took := at["archive/archive"].Sub(at["retire/round-1/await-refused"]); m.Status != rotation.Done || took < p.Watch || took > p.Watch+time.Minute {
		t.Errorf("ended %q, archived after %v, want %v", m.Status, took, p.Watch)
	}
}

// TestRefusedConsumerIsAcceptedAgain: after the old version was brought back, it is asked for until the provider accepts it.
func TestRefusedConsumerIsAcceptedAgain(t *testing.T) {
	d := newDriver(t, plan())
	d.answer = func(e rotation.Effect) (any, error) {
		if e.Verb == rotation.WatchLook {
			return rotation.WatchState{Refused: []string{"b"}}, nil
		}
		return healthy(e)
	}
	d.wait = func(m rotation.Move) bool { return m.Status != rotation.Paused }
	m := d.run()
	if tail := d.order[max(0, len(d.order)-2):]; m.Status != rotation.Paused || !slices.Equal(tail, []string{"retire/round-1/activate", "retire/round-1/await-accepted"}) {
		t.Errorf("stands %q (%s) after %v", m.Status, m.Note, tail)
	}
}

// TestProbeProvesOrLeavesDoubt: a probe that fails turns the rotation back only where it worked before and says that the consumer does not work.
func TestProbeProvesOrLeavesDoubt(t *testing.T) {
	for name, c := range map[string]struct {
		passed bool
		kind   fault.Kind
		proof  bool
	}{
		"worked before":               {passed: true, kind: fault.Unavailable, proof: true},
		"did not work before":         {kind: fault.Unavailable},
		"the probe itself is refused": {passed: true, kind: fault.Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, plan())
			settled := ""
			d.answer = func(e rotation.Effect) (any, error) {
				switch {
				case e.Verb == rotation.Baseline:
					return rotation.ProbeState{Passed: c.passed}, nil
				case e.ID == "deploy/production/b/probe":
					return nil, fault.New(c.kind, "probe b")
				case e.Verb == rotation.Settle:
					settled = e.Arg
				}
				return healthy(e)
			}
			d.wait = func(m rotation.Move) bool { return m.Status != rotation.Paused }
			m := d.run()
			judged := slices.ContainsFunc(d.order, func(id string) bool { return verbOf(id) == rotation.Judge })
			if c.proof && (m.Status != rotation.RolledBack || settled != "rejected" || judged) {
				t.Errorf("stands %q, the new version is settled %q, judged %v", m.Status, settled, judged)
			}
			if !c.proof && (m.Status != rotation.Paused || !judged) {
				t.Errorf("stands %q: %s, judged %v", m.Status, m.Note, judged)
			}
		})
	}
}

// TestNewestFactsCount, and a signature for something else is none for the evidence.
func TestNewestFactsCount(t *testing.T) {
	gathered := func(n string, seen int64) rotation.Entry {
		data, err := json.Marshal(rotation.Facts{Usage: rotation.UsageFact{Seen: seen}})
		if err != nil {
			t.Fatal(err)
		}
		return rotation.Entry{Type: rotation.Made, Effect: "evidence/round-1/1/gather-" + n, Data: data}
	}
	journal := []rotation.Entry{gathered("1", 7), gathered("2", 0), {Type: rotation.Signalled, Signal: rotation.SignalSign, Data: []byte(`{"subject":"a"}`)}}
	f, ok := rotation.LastFacts(journal)
	if !ok || f.Usage.Seen != 0 || f.Signed {
		t.Errorf("facts: %+v %v", f, ok)
	}
}

// TestSummaryAsksOnlyForWhatAPersonMustSign: what the watch decides is not on the list.
func TestSummaryAsksOnlyForWhatAPersonMustSign(t *testing.T) {
	f := goodFacts()
	f.Places = []rotation.PlaceFact{{Name: "watched", Signal: true}, {Name: "blind"}}
	r := rotation.Rule(f)
	if s := r.Summary(); r.Verdict != rotation.WantsSignature || !strings.Contains(s, "blind") || strings.Contains(s, "watched") {
		t.Errorf("%s: %q", r.Verdict, s)
	}
}

// TestPatience: a place that takes long to promote a value, or whose consumers do, is waited for as long as it asks, and no longer.
func TestPatience(t *testing.T) {
	for _, c := range []struct {
		name     string
		effect   string
		patience time.Duration
		takes    time.Duration
		want     rotation.Status
	}{
		{"as long as others", "deploy/production/b/promote", 0, 30 * time.Minute, rotation.Paused},
		{"as long as it asks", "deploy/production/b/promote", time.Hour, 30 * time.Minute, rotation.Done},
		{"longer than it asks", "deploy/production/b/promote", time.Hour, 2 * time.Hour, rotation.Paused},
		{"its consumers", "deploy/production/b/confirm", time.Hour, 30 * time.Minute, rotation.Done},
		{"its probe has its own limit", "deploy/production/b/probe", time.Hour, 30 * time.Minute, rotation.RolledBack},
	} {
		p := plan()
		p.Places[1].Patience = c.patience
		d := newDriver(t, p)
		var first time.Time
		d.answer = func(e rotation.Effect) (any, error) {
			if e.ID == c.effect {
				if first.IsZero() {
					first = d.now
				}
				if d.now.Sub(first) < c.takes {
					return nil, fault.New(fault.Unavailable, "one step after the other", fault.RetryAfter(5*time.Minute))
				}
			}
			return healthy(e)
		}
		d.wait = func(m rotation.Move) bool { return m.Status != rotation.Paused }
		if m := d.run(); m.Status != c.want {
			t.Errorf("%s: %q: %s", c.name, m.Status, m.Note)
		}
	}
}
