package runner_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// at calls do once, at a point around an effect.
func (w *world) at(point, effect string, do func()) (reached *atomic.Bool) {
	reached = new(atomic.Bool)
	w.fault = func(p string, e rotation.Effect) error {
		if p == point && e.ID == effect && !reached.Swap(true) {
			do()
		}
		return nil
	}
	return reached
}

// calls counts the calls of a method that a place has seen.
func (w *world) calls(place string, m memory.Method) (n int) {
	for _, c := range w.places.Place(place).Calls() {
		if c.Method == m {
			n++
		}
	}
	return n
}

// say answers for single keys in place of the issuer; nil leaves its own answer.
func (w *world) say(verdict func(id string) *provider.Verdict) {
	w.issuer.mu.Lock()
	defer w.issuer.mu.Unlock()
	w.issuer.verdict = verdict
}

var (
	live    = provider.Verdict{Answer: provider.Live, Status: 200, Organization: "org", Workspace: "ws"}
	dead    = provider.Verdict{Answer: provider.Dead, Status: 401, Reason: "authentication_error"}
	barred  = provider.Verdict{Answer: provider.Blocked, Status: 403, Reason: "permission_error"}
	limited = provider.Verdict{Answer: provider.Blocked, Status: 429, Reason: "rate_limit_error"}
	silent  = provider.Verdict{Answer: provider.Unknown, Status: 529, Reason: "overloaded_error"}
)

func (w *world) version(id apikey.VersionID) (v apikey.Version) {
	w.t.Helper()
	err := w.store.View(context.Background(), func(tx *store.Tx) (err error) {
		v, err = tx.Version(id)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// TestPlainProvider: a provider that can only be asked about a value is enough, when a person does the rest; what a plan wants of it beyond that is
// refused with a hint.
func TestPlainProvider(t *testing.T) {
	plain := func(w *world) {
		w.provider = struct{ provider.Provider }{w.issuer}
		w.mute = true
	}
	bubble(t, func(t *testing.T, w *world) {
		plain(w)
		plan := w.plan(rotation.Manual)
		plan.Admin, plan.Usage = false, false
		row := w.finish(w.begin(plan).ID, func(row rotation.Row) {
			subject := row.Hint[strings.LastIndex(row.Hint, " ")+1:]
			if subject == "disabled" {
				byHand(apikey.Previous, provider.Inactive)(w)
			}
			w.signal(row.ID, rotation.SignalSign, rotation.SignalData{Subject: subject, UID: 7})
		})
		if row.Status != rotation.Done {
			t.Errorf("ended %q: %s", row.Status, row.Note)
		}
		w.check(row)
	}, "a", "b")
	for _, c := range []struct {
		name         string
		admin, usage bool
		says, hint   string
	}{
		{"usage", false, true, "the provider has no messages", "rotation resume r-1"},
		{"admin", true, false, "there is no admin key", "set provider.admin_key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				plain(w)
				plan := w.plan(rotation.Manual)
				plan.Admin, plan.Usage = c.admin, c.usage
				w.begin(plan)
				w.until(plan.ID, func() bool {
					row := w.row(plan.ID)
					if row.Status == rotation.Waiting {
						w.signal(row.ID, rotation.SignalSign, rotation.SignalData{Subject: "evidence"})
					}
					return row.Status == rotation.Paused
				})
				row := w.row(plan.ID)
				if !strings.Contains(row.Note, c.says) || !strings.Contains(row.Hint, c.hint) {
					t.Errorf("%q %q", row.Note, row.Hint)
				}
				for _, p := range w.stranded() {
					t.Error(p)
				}
			}, "a", "b")
		})
	}
}

// TestUnknownID: a version whose id at the provider is not known is never set inactive by guessing.
func TestUnknownID(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		old := w.inState(key, apikey.Current)[0]
		old.ProviderID = ""
		w.update(func(tx *store.Tx) error { return tx.PutVersion(old) })
		plan := w.plan(rotation.Manual)
		w.begin(plan)
		w.until(plan.ID, func() bool {
			row := w.row(plan.ID)
			if row.Status == rotation.Waiting {
				w.signal(row.ID, rotation.SignalSign, rotation.SignalData{Subject: "evidence"})
			}
			return row.Status == rotation.Paused
		})
		if row := w.row(plan.ID); !strings.Contains(row.Note, "is not known") || !strings.Contains(row.Hint, "keywright key match prod-primary") || !w.issuer.accepts(old.Digest) {
			t.Errorf("%q %q", row.Note, row.Hint)
		}
	}, "a")
}

// TestLostReplyOfAWriteOnlyPlace: where the place tells when it was changed, a write whose reply was lost is not made twice; where it tells
// nothing, it is repeated.
func TestLostReplyOfAWriteOnlyPlace(t *testing.T) {
	for how, puts := range map[location.Knowledge]int{location.ChangedAt: 1, location.Nothing: 2} {
		t.Run(string(how), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.places.Place("a").SetKnowledge(how)
				w.places.Place("a").Break(memory.Fault{Method: memory.Put, Cut: true, Times: 1})
				w.places.Place("a").Delay(memory.Put, time.Second)
				plan := w.plan(rotation.Manual)
				plan.Places[0].Can.Read = false
				row := w.finish(w.begin(plan).ID, nil)
				if n := w.calls("a", memory.Put); row.Status != rotation.Done || n != puts {
					t.Errorf("ended %q, written %d times, want %d: %s", row.Status, n, puts, row.Note)
				}
				w.check(row)
			}, "a", "b")
		})
	}
}

// TestSpareTakenMeanwhile: who claims a spare is decided in one transaction. The one who comes second takes the next spare, or waits for one.
func TestSpareTakenMeanwhile(t *testing.T) {
	for _, another := range []bool{true, false} {
		t.Run(fmt.Sprintf("another is there %v", another), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				taken := w.inState(key, apikey.Spare)[0]
				next := taken
				if another {
					next = w.add(key, apikey.Spare)
				}
				hit := w.at("made", "acquire/acquire", func() {
					w.update(func(tx *store.Tx) error { return tx.ClaimSpare(taken.ID, "intake-1") })
				})
				stood := 0
				row := w.finish(w.begin(w.plan(rotation.Manual)).ID, func(row rotation.Row) {
					stood++
					if row.Status != rotation.Waiting || !strings.Contains(row.Note, "no spare for prod-primary") || row.Hint == "" {
						t.Errorf("%s: %q %q", row.Status, row.Note, row.Hint)
					}
					if v := w.version(taken.ID); v.State != apikey.Spare {
						t.Errorf("the spare of another is %s", v.State)
					}
					w.update(func(tx *store.Tx) error { return tx.ReleaseClaim("intake-1") })
					w.signal(row.ID, rotation.SignalResume, rotation.SignalData{})
				})
				if !hit.Load() || row.Status != rotation.Done || (stood == 0) != another {
					t.Errorf("hit %v, stood %d times, ended %q: %q", hit.Load(), stood, row.Status, row.Note)
				}
				if v := w.version(next.ID); v.State != apikey.Current {
					t.Errorf("the spare that was left is %s", v.State)
				}
				w.update(func(tx *store.Tx) error { return tx.ReleaseClaim("intake-1") })
				w.check(row)
			}, "a", "b")
		})
	}
}

// TestEmergencyPassesOverWhatIsClaimed: a spare that somebody else holds does not stop an emergency while there is another.
func TestEmergencyPassesOverWhatIsClaimed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.emergent = true
		taken := w.inState(key, apikey.Spare)[0]
		next := w.add(key, apikey.Spare)
		w.update(func(tx *store.Tx) error { return tx.ClaimSpare(taken.ID, "intake-1") })
		row := w.finish(w.begin(w.plan(rotation.Emergency)).ID, func(row rotation.Row) {
			t.Fatalf("%s: %s", row.Status, row.Note)
		})
		if v := w.version(next.ID); row.Status != rotation.Done || v.State != apikey.Current {
			t.Errorf("ended %q, the free spare is %s: %s", row.Status, v.State, row.Note)
		}
		w.update(func(tx *store.Tx) error { return tx.ReleaseClaim("intake-1") })
		w.check(row)
	}, "a", "b")
}

// broken is a driver with a defect.
type broken struct {
	*memory.Driver
	on *atomic.Bool
}

func (b broken) Put(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	if b.on.Load() {
		panic("index out of range with a value in it")
	}
	return b.Driver.Put(ctx, v, expect)
}

// TestDefectOfADriver stops one effect, not the process, and what it said on its way down is not repeated.
func TestDefectOfADriver(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var on atomic.Bool
		on.Store(true)
		w.open1 = func(name string) location.Driver { return broken{w.places.Driver(name), &on} }
		stood := 0
		row := w.finish(w.begin(w.plan(rotation.Manual)).ID, func(row rotation.Row) {
			stood++
			if row.Status != rotation.Paused || row.Hint == "" || strings.Contains(row.Note, "with a value in it") {
				t.Errorf("%s: %q %q", row.Status, row.Note, row.Hint)
			}
			on.Store(false)
			w.signal(row.ID, rotation.SignalResume, rotation.SignalData{})
		})
		if row.Status != rotation.Done || stood != 1 {
			t.Errorf("stood %d times, ended %q: %s", stood, row.Status, row.Note)
		}
		w.check(row)
	}, "a", "b")
}

// lacking is a place for which several rights are missing.
type lacking struct{ *memory.Driver }

func (lacking) Check(context.Context) []error {
	return []error{fault.New(fault.Forbidden, "read it", fault.Hint("grant read")), fault.New(fault.Forbidden, "write it")}
}

// TestRightsMissing: preflight counts them and says what to do about the first.
func TestRightsMissing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.open1 = func(name string) location.Driver { return lacking{w.places.Driver(name)} }
		row := w.finish(w.begin(w.plan(rotation.Manual)).ID, nil)
		if row.Status != rotation.Failed || !strings.Contains(row.Note, "2 rights missing, the first") || row.Hint != "grant read" || w.calls("a", memory.Put) > 0 {
			t.Errorf("ended %q: %q %q", row.Status, row.Note, row.Hint)
		}
		w.check(row)
	}, "a", "b")
}

// TestWrongSlot: a new version that belongs to another organization or workspace is rejected before anything holds it.
func TestWrongSlot(t *testing.T) {
	for name, change := range map[string]func(*provider.Verdict){
		"organization": func(v *provider.Verdict) { v.Organization = "another" }, "workspace": func(v *provider.Verdict) { v.Workspace = "another" },
		"no organization": func(v *provider.Verdict) { v.Organization = "" },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				spare := w.inState(key, apikey.Spare)[0]
				w.say(func(id string) *provider.Verdict {
					if id != spare.ProviderID {
						return nil
					}
					v := live
					change(&v)
					return &v
				})
				row := w.finish(w.begin(w.plan(rotation.Manual)).ID, nil)
				if row.Status != rotation.Failed || !strings.Contains(row.Note, "is pinned to") || row.Hint == "" || w.calls("a", memory.Put)+w.calls("b", memory.Stage) > 0 {
					t.Errorf("ended %q: %q %q", row.Status, row.Note, row.Hint)
				}
				if v := w.version(spare.ID); v.State != apikey.Rejected {
					t.Errorf("the spare is %s", v.State)
				}
				w.check(row)
			}, "a", "b")
		})
	}
}

// TestSpareOutlivesTheRotation: one that expires before the old version could be archived is passed over.
func TestSpareOutlivesTheRotation(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		short := w.inState(key, apikey.Spare)[0]
		short.Expires = time.Now().Add(time.Hour)
		w.update(func(tx *store.Tx) error { return tx.PutVersion(short) })
		lasting := w.add(key, apikey.Spare)
		row := w.finish(w.begin(w.plan(rotation.Manual)).ID, nil)
		if now := w.inState(key, apikey.Current); row.Status != rotation.Done || len(now) != 1 || now[0].ID != lasting.ID {
			t.Errorf("ended %q with %+v", row.Status, now)
		}
		w.check(row)
	}, "a", "b")
}

// TestHomeKeyWithoutAVersion: a lent place whose own key has no version is not left with the wrong one in silence.
func TestHomeKeyWithoutAVersion(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		home := w.add(staging, apikey.Current)
		w.places.Place("a").Overwrite(w.vault.values[home.ID])
		plan := w.plan(rotation.Manual)
		plan.Places[0].Home = staging
		hit := w.at("before", "staging/staging/a/reload", func() {
			home.State = apikey.Previous
			w.update(func(tx *store.Tx) error { return tx.PutVersion(home) })
		})
		w.begin(plan)
		w.until(plan.ID, func() bool { return w.row(plan.ID).Status == rotation.Paused })
		if row := w.row(plan.ID); !hit.Load() || !strings.Contains(row.Note, "staging has no current version") || row.Hint != "keywright key adopt staging" {
			t.Errorf("%q %q", row.Note, row.Hint)
		}
		if slices.Contains(w.places.Place("b").Consumers(), w.places.Place("a").Held().Digest()) {
			t.Error("production was changed")
		}
	}, "a", "b")
}

// tardy is a place whose consumers take the new version up one after the other.
type tardy struct {
	*memory.Driver
	all time.Time
}

func (d tardy) Confirm(ctx context.Context, want apikey.Digest) (location.Confirmation, error) {
	c, err := d.Driver.Confirm(ctx, want)
	if err == nil && time.Now().Before(d.all) && c.Taken > 0 {
		c.Taken, c.Old = c.Taken-1, c.Old+1
	}
	return c, err
}

// TestTardyConsumers: the next wave waits for the last consumer, looks every few seconds, and says who is missing when it takes too long.
func TestTardyConsumers(t *testing.T) {
	for _, c := range []struct {
		take time.Duration
		want rotation.Status
	}{{5 * time.Minute, rotation.Running}, {time.Hour, rotation.Paused}} {
		bubble(t, func(t *testing.T, w *world) {
			all := time.Now().Add(c.take)
			w.open1 = func(name string) location.Driver { return tardy{w.places.Driver(name), all} }
			var production time.Time
			w.at("before", "deploy/production/b/stage", func() { production = time.Now() })
			stood := rotation.Running
			row := w.finish(w.begin(w.plan(rotation.Manual)).ID, func(row rotation.Row) {
				stood = row.Status
				if !strings.Contains(row.Note, "confirm a: 2 of 3 running consumers have kf_") || row.Hint == "" {
					t.Errorf("%q %q", row.Note, row.Hint)
				}
				<-time.After(time.Until(all))
				w.signal(row.ID, rotation.SignalResume, rotation.SignalData{})
			})
			if row.Status != rotation.Done || stood != c.want || production.Before(all) || production.Sub(all) > time.Minute && c.want == rotation.Running {
				t.Errorf("stood %q, ended %q, production after %v: %s", stood, row.Status, production.Sub(all), row.Note)
			}
			w.check(row)
		}, "a", "b")
	}
}

// TestDefectOfATest: what panics outside of a place stops one effect as well.
func TestDefectOfATest(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.testing = func() { panic("a value") }
		row := w.finish(w.begin(w.plan(rotation.Manual)).ID, nil)
		if row.Status != rotation.Failed || !strings.Contains(row.Note, "a defect stopped it") || strings.Contains(row.Note, "a value") {
			t.Errorf("ended %q: %q", row.Status, row.Note)
		}
		w.check(row)
	}, "a", "b")
}

// TestWithoutSoak: a rotation that does not soak looks all the same at a window of the usage report that begins after the last change.
func TestWithoutSoak(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		plan := w.plan(rotation.Manual)
		plan.Soak, plan.Waves[1].Watch = 0, 0
		row := w.finish(w.begin(plan).ID, nil)
		if row.Status != rotation.Done {
			t.Errorf("ended %q: %s", row.Status, row.Note)
		}
		var changed time.Time
		w.update(func(tx *store.Tx) error {
			journal, err := tx.Journal(row.ID)
			for _, e := range journal {
				if e.Type == rotation.Made && strings.HasPrefix(e.Effect, "deploy/") {
					changed = e.At
				}
			}
			if u, _ := rotation.LastFacts(journal); u.Usage.From.Before(changed) || !u.Usage.From.Before(u.Usage.To) || u.Usage.To.After(u.Usage.FreshTo) {
				t.Errorf("changed %v, looked from %v to %v, fresh to %v", changed, u.Usage.From, u.Usage.To, u.Usage.FreshTo)
			}
			return err
		})
		w.check(row)
	}, "a", "b")
}
