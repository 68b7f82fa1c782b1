package runner_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
)

// TestJudge: a consumer that cannot be confirmed turns the rotation back only on proof against the new version, twice, 10 s apart, while the
// old one is accepted. Everything else is doubt, and a person decides.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name       string
		fresh, old []provider.Verdict // the answers one after the other; the last one stays
		want       rotation.Status
		why        string
	}{
		{"refused twice, old accepted", []provider.Verdict{dead}, []provider.Verdict{live}, rotation.RolledBack, "twice, while the old one is accepted"},
		{"forbidden twice, old accepted", []provider.Verdict{barred}, []provider.Verdict{live}, rotation.RolledBack, "twice, while the old one is accepted"},
		{"refused once", []provider.Verdict{dead, live}, []provider.Verdict{live}, rotation.Paused, "confirm b"},
		{"old one refused as well", []provider.Verdict{dead}, []provider.Verdict{dead}, rotation.Paused, "confirm b"},
		{"old one refused the second time", []provider.Verdict{dead}, []provider.Verdict{live, dead}, rotation.Paused, "confirm b"},
		{"old one not known", []provider.Verdict{dead}, []provider.Verdict{silent}, rotation.Paused, "confirm b"},
		{"limited", []provider.Verdict{limited}, []provider.Verdict{live}, rotation.Paused, "confirm b"},
		{"overloaded", []provider.Verdict{silent}, []provider.Verdict{live}, rotation.Paused, "confirm b"},
		{"accepted", []provider.Verdict{live}, []provider.Verdict{live}, rotation.Paused, "confirm b"},
	} {
		if passedOver() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				fresh, old := w.inState(key, apikey.Spare)[0], w.inState(key, apikey.Current)[0]
				next := func(list *[]provider.Verdict) *provider.Verdict {
					v := (*list)[0]
					if len(*list) > 1 {
						*list = (*list)[1:]
					}
					return &v
				}
				var asked []time.Time
				judged := w.at("before", "deploy/production/b/judge", func() {
					w.places.Place("b").Mend()
					w.say(func(id string) *provider.Verdict {
						switch id {
						case fresh.ProviderID:
							asked = append(asked, time.Now())
							return next(&c.fresh)
						case old.ProviderID:
							return next(&c.old)
						}
						return nil
					})
				})
				w.places.Place("b").Break(memory.Fault{Method: memory.Confirm, Kind: fault.Forbidden, Times: 1 << 30})
				stood := rotation.Status("")
				row := w.finish(w.begin(w.plan(rotation.Manual)).ID, func(row rotation.Row) {
					stood = row.Status
					if !strings.Contains(row.Note, c.why) || row.Hint == "" {
						t.Errorf("%s: %q %q", row.Status, row.Note, row.Hint)
					}
					w.say(nil)
					w.signal(row.ID, rotation.SignalResume, rotation.SignalData{})
				})
				if !judged.Load() {
					t.Fatal("it was not judged")
				}
				if c.want == rotation.Paused {
					if stood != rotation.Paused || row.Status != rotation.Done {
						t.Errorf("stood %q, ended %q: %s", stood, row.Status, row.Note)
					}
					w.check(row)
					return
				}
				if row.Status != c.want || !strings.Contains(row.Note, c.why) || stood != "" {
					t.Errorf("stood %q, ended %q: %s", stood, row.Status, row.Note)
				}
				if len(asked) < 2 || asked[1].Sub(asked[0]) < 10*time.Second {
					t.Errorf("asked at %v", asked)
				}
				if v := w.inState(key, apikey.Rejected); len(v) != 1 || v[0].ID != fresh.ID {
					t.Errorf("rejected: %+v", v)
				}
				w.say(nil)
				w.check(row)
			}, "a", "b")
		})
	}
}

// TestWayBackOfAStagedPlace: what was only staged is withdrawn; a promoted label goes back while it is still ours; and what somebody changed
// since is kept, with the old value put into it.
func TestWayBackOfAStagedPlace(t *testing.T) {
	for _, c := range []struct {
		name                    string
		when                    string
		change                  func(w *world)
		cannot                  bool
		unstaged, restored, put int
	}{
		{name: "staged", when: "deploy/production/b/stage", unstaged: 1},
		{name: "promoted", when: "deploy/production/b/promote", unstaged: 1, restored: 1},
		{name: "promoted and changed since", when: "deploy/production/b/reload", unstaged: 1, restored: 1, put: 1,
			change: func(w *world) { w.places.Place("b").Disturb([]byte("OTHER=1\n")) }},
		{name: "promoted where labels do not move back", when: "deploy/production/b/promote", cannot: true, unstaged: 1, put: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				plan := w.plan(rotation.Manual)
				for i := range plan.Places {
					plan.Places[i].Can.Restore = plan.Places[i].Can.Restore && !c.cannot
				}
				hit := w.at("made", c.when, func() {
					if c.change != nil {
						c.change(w)
					}
					w.signal(plan.ID, rotation.SignalCancel, rotation.SignalData{})
				})
				row := w.finish(w.begin(plan).ID, nil)
				if !hit.Load() || row.Status != rotation.Cancelled {
					t.Fatalf("hit %v, ended %q: %s", hit.Load(), row.Status, row.Note)
				}
				if u, r, p := w.calls("b", memory.Unstage), w.calls("b", memory.Restore), w.calls("b", memory.Put); u != c.unstaged || r != c.restored || p != c.put {
					t.Errorf("unstaged %d, restored %d, put %d; want %d, %d, %d", u, r, p, c.unstaged, c.restored, c.put)
				}
				if h, err := w.places.Driver("b").Inspect(context.Background()); err != nil || h.Pending != nil {
					t.Errorf("left staged: %+v, %v", h.Pending, err)
				}
				w.check(row)
			}, "a", "b")
		})
	}
}

// TestWatchByProbe: where consumers cannot be asked what they run with, their failing probe brings the old version back.
func TestWatchByProbe(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		plan := w.plan(rotation.Manual)
		for i := range plan.Places {
			plan.Places[i].Can.Confirm = false
		}
		hit := w.at("before", "retire/round-1/1/watch", func() { comeBack("b")(w) })
		stood := 0
		row := w.finish(w.begin(plan).ID, func(row rotation.Row) {
			stood++
			if !strings.Contains(row.Note, "refused with the old value: b (its probe fails)") {
				t.Errorf("%s: %q", row.Status, row.Note)
			}
			for _, p := range w.stranded() {
				t.Error(p)
			}
			if len(w.inState(key, apikey.Previous)) != 1 {
				t.Error("the version that came back is not the previous one")
			}
			if err := w.places.Driver("b").Reload(context.Background(), "by hand"); err != nil {
				t.Error(err)
			}
			w.signal(row.ID, rotation.SignalResume, rotation.SignalData{})
		})
		if !hit.Load() || stood != 1 || row.Status != rotation.Done {
			t.Errorf("hit %v, stood %d times, ended %q: %s", hit.Load(), stood, row.Status, row.Note)
		}
		w.check(row)
	}, "a", "b")
}

// TestRollbackDuringTheWatch: a version that is inactive already is made active and seen accepted before any place gets it.
func TestRollbackDuringTheWatch(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := w.plan(rotation.Manual)
		first.Watch = time.Hour
		old := w.inState(key, apikey.Current)[0]
		w.until(w.begin(first).ID, func() bool { return len(w.inState(key, apikey.Inactive)) == 1 })
		back := w.plan(rotation.Rollback)
		back.ID, back.New = "r-2", old.ID
		accepted := false
		w.fault = func(point string, e rotation.Effect) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if point == "before" && (e.Verb == rotation.Put || e.Verb == rotation.Stage) && !accepted {
				t.Errorf("%s before the version was accepted", e.ID)
			}
			if point == "after" && e.Verb == rotation.AwaitAccepted {
				accepted = w.issuer.accepts(old.Digest)
			}
			return nil
		}
		// The provider takes its time to accept it again.
		slowly := time.Now().Add(20 * time.Second)
		w.say(func(id string) *provider.Verdict {
			if id == old.ProviderID && time.Now().Before(slowly) {
				return &dead
			}
			return nil
		})
		row := w.finish(w.begin(back).ID, nil)
		if row.Status != rotation.Done || row.Ended.Before(slowly) {
			t.Errorf("ended %q at %v: %s", row.Status, row.Ended, row.Note)
		}
		if now := w.inState(key, apikey.Current); len(now) != 1 || now[0].ID != old.ID {
			t.Errorf("current: %+v", now)
		}
		w.check(row)
	}, "a", "b")
}

// TestRollbackToAnArchivedVersion stands still before it touched anything, and can be left.
func TestRollbackToAnArchivedVersion(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := w.finish(w.begin(w.plan(rotation.Manual)).ID, nil)
		held := w.places.Place("a").Held().Digest()
		plan := w.plan(rotation.Rollback)
		plan.ID, plan.New = "r-2", w.inState(key, apikey.Archived)[0].ID
		row := w.finish(w.begin(plan).ID, func(row rotation.Row) {
			if row.Status != rotation.Paused || !strings.Contains(row.Note, "is archived") || row.Hint == "" {
				t.Errorf("%s: %q %q", row.Status, row.Note, row.Hint)
			}
			w.signal(row.ID, rotation.SignalCancel, rotation.SignalData{})
		})
		if row.Status != rotation.Cancelled || w.places.Place("a").Held().Digest() != held {
			t.Errorf("ended %q: %s", row.Status, row.Note)
		}
		w.check(first)
	}, "a", "b")
}
