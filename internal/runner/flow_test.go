package runner_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/runner"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// bubble runs a test in a world of its own, with fake time.
func bubble(t *testing.T, test func(t *testing.T, w *world), places ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, places...)) })
}

// TestLentVersion: without a spare an emergency borrows the backup's current version, which stays the backup's.
func TestLentVersion(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.setState(apikey.Spare, apikey.Rejected)
		w.emergent = true
		plan := w.plan(rotation.Emergency)
		row := w.finish(w.begin(plan).ID, nil)
		if row.Status != rotation.Done {
			t.Fatalf("ended %q: %s", row.Status, row.Note)
		}
		lent := w.inState(backup, apikey.Current)
		if len(lent) != 1 || lent[0].Key != backup || len(w.inState(key, apikey.Current)) != 0 {
			t.Fatalf("the backup's versions: %+v", lent)
		}
		for _, name := range w.places.Names() {
			if w.places.Place(name).Held().Digest() != lent[0].Digest {
				t.Errorf("%s does not hold the lent version", name)
			}
		}
		old := w.inState(key, apikey.Inactive)
		if len(old) != 1 || !old[0].Compromised || !w.issuer.accepts(lent[0].Digest) {
			t.Errorf("inactive: %+v", old)
		}
	}, "a", "b")
}

// TestEmergencyWithoutCandidate changes nothing, says what is wanted, and goes on when a key is handed in.
func TestEmergencyWithoutCandidate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.setState(apikey.Spare, apikey.Rejected)
		byHandKey(w, backup, provider.Inactive)
		stood := 0
		row := w.finish(w.begin(w.plan(rotation.Emergency)).ID, func(row rotation.Row) {
			stood++
			if row.Status != rotation.Paused || !strings.Contains(row.Hint, "keywright key add prod-primary --spare") {
				t.Errorf("%s: %q %q", row.Status, row.Note, row.Hint)
			}
			for _, p := range w.stranded() {
				t.Error(p)
			}
			byHandKey(w, backup, provider.Active)
			w.emergent = true
			w.add(key, apikey.Spare)
			w.signal(row.ID, rotation.SignalIntake, rotation.SignalData{})
		})
		if row.Status != rotation.Done || stood != 1 {
			t.Errorf("ended %q after standing %d times: %s", row.Status, stood, row.Note)
		}
		w.check(row)
		if !slices.ContainsFunc(w.notices, func(n runner.Notice) bool { return n.Wants && n.Hint != "" }) {
			t.Error("nobody was told")
		}
	}, "a", "b")
}

func byHandKey(w *world, k apikey.Name, to provider.Status) {
	for _, v := range w.inState(k, apikey.Current) {
		w.issuer.mu.Lock()
		w.issuer.keys[v.Digest].status = to
		w.issuer.mu.Unlock()
	}
}

// slow is a place whose writes take their time and do not care that their caller is gone.
type slow struct {
	*memory.Driver
	late func(secret.Value) bool
	take time.Duration
}

func (s slow) Put(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	if !s.late(v) {
		return s.Driver.Put(ctx, v, expect)
	}
	var kept secret.Value
	v.Reveal(func(b []byte) { kept = secret.New(slices.Clone(b)) })
	time.Sleep(s.take)
	return s.Driver.Put(context.WithoutCancel(ctx), kept, location.Expect{})
}

// TestEmergencyOvertakes a rotation in the middle of a wave, whose worker is in a write that it cannot take back: the late write is put
// right, and the worker is refused.
func TestEmergencyOvertakes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.add(key, apikey.Spare)
		writing, wrote := false, time.Time{}
		plan := w.plan(rotation.Manual)
		old := w.inState(key, apikey.Current)[0]
		var first apikey.Digest
		w.open1 = func(name string) location.Driver {
			return slow{Driver: w.places.Driver(name), take: 20 * time.Second, late: func(v secret.Value) bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				if name != "a" || writing {
					return false
				}
				writing, first = true, v.Digest()
				wrote = time.Now().Add(20 * time.Second)
				return true
			}}
		}
		w.begin(plan)
		done := make(chan error, 1)
		go func() {
			_, err := w.runner().Advance(context.Background(), "r-1")
			done <- err
		}()
		time.Sleep(5 * time.Second)
		w.mu.Lock()
		began, blamed, late := writing, first, wrote
		w.mu.Unlock()
		if !began {
			t.Fatal("the wave did not begin")
		}
		// What is being written is blamed as well: the emergency must take another version.
		w.emergent = true
		w.issuer.mu.Lock()
		w.issuer.keys[blamed].status = provider.Inactive
		w.issuer.mu.Unlock()
		emergency := w.plan(rotation.Emergency)
		emergency.ID = "r-2"
		row := w.finish(w.begin(emergency).ID, nil)
		if err := <-done; !fault.Is(err, fault.Conflict) {
			t.Errorf("the overtaken worker ended with %v", err)
		}
		if got := w.row("r-1"); got.Status != rotation.Superseded || !strings.Contains(got.Note, "emergency") {
			t.Errorf("overtaken: %s %q", got.Status, got.Note)
		}
		if row.Status != rotation.Done || row.Plan.Overtakes != "r-1" || row.Ended.Before(late) {
			t.Errorf("ended %q at %v, late write at %v, overtook %q: %s", row.Status, row.Ended, late, row.Plan.Overtakes, row.Note)
		}
		w.setState(apikey.Pending, apikey.Rejected) // the version in between, which a person looks at
		w.check(row)
		if held := w.places.Place("a").Held().Digest(); held == blamed || held == old.Digest {
			t.Error("the late write stands")
		}
	}, "a", "b")
}

// stuck is a driver that does not stop when its time is over, and looks at the value only then.
type stuck struct {
	*memory.Driver
	lengths chan int
}

func (s stuck) Put(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	time.Sleep(location.DefaultTimeout + time.Minute)
	s.lengths <- v.Len()
	return s.Driver.Put(context.WithoutCancel(ctx), v, expect)
}

// TestDriverLeftBehind still has the value, so that its late write does not leave a place with nothing.
func TestDriverLeftBehind(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		lengths := make(chan int, 10)
		row := w.begin(w.plan(rotation.Manual))
		w.open1 = func(name string) location.Driver { return stuck{w.places.Driver(name), lengths} }
		r := w.runner()
		if _, err := r.Advance(context.Background(), row.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if n := <-lengths; n == 0 {
			t.Error("the value was gone when the driver came to it")
		}
		w.open1 = nil
		if row = w.finish(row.ID, func(row rotation.Row) { w.signal(row.ID, rotation.SignalResume, rotation.SignalData{}) }); row.Status != rotation.Done {
			t.Errorf("ended %q: %s", row.Status, row.Note)
		}
		w.check(row)
	}, "a", "b")
}

// TestApprovalFlow: the requester does not count, others do.
func TestApprovalFlow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		plan := w.plan(rotation.Manual)
		plan.Approvals = 1
		row := w.begin(plan)
		approvals := []int{plan.UID, 2000}
		end := w.finish(row.ID, func(now rotation.Row) {
			if now.Status != rotation.Waiting || !strings.Contains(now.Hint, "rotation approve") {
				t.Errorf("%s: %q %q", now.Status, now.Note, now.Hint)
			}
			for _, d := range w.places.Place("b").Consumers() {
				if d != w.inState(key, apikey.Current)[0].Digest {
					t.Error("production was changed before approval")
				}
			}
			uid := approvals[0]
			approvals = approvals[1:]
			w.signal(now.ID, rotation.SignalApprove, rotation.SignalData{UID: uid, PlanHash: row.Plan.Hash(), Until: w.now().Add(time.Hour)})
		})
		if end.Status != rotation.Done || len(approvals) != 0 {
			t.Errorf("ended %q with %d approvals to go", end.Status, len(approvals))
		}
		w.check(end)
	}, "a", "b")
}

// TestManualPlaceFlow: a person changes the place and signs; the evidence says signed, and never more.
func TestManualPlaceFlow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		plan := w.plan(rotation.Manual)
		plan.Places = append(plan.Places, rotation.Place{Name: "wiki", Kind: "manual", Address: "manual:wiki", Can: rotation.Can{Manual: true}})
		plan.Waves[1].Batches = append(plan.Waves[1].Batches, []string{"wiki"})
		var asked []string
		row := w.finish(w.begin(plan).ID, func(row rotation.Row) {
			subject := row.Hint[strings.LastIndex(row.Hint, " ")+1:]
			asked = append(asked, subject)
			w.signal(row.ID, rotation.SignalSign, rotation.SignalData{Subject: subject, UID: 7})
		})
		if row.Status != rotation.Done || strings.Join(asked, " ") != "wiki" {
			t.Errorf("ended %q, asked for %v: %s", row.Status, asked, row.Note)
		}
		w.check(row)
		w.update(func(tx *store.Tx) error {
			list, err := tx.Signatures("wiki")
			if len(list) != 1 || list[0].UID != 7 || list[0].Rotation != row.ID {
				t.Errorf("signatures: %+v", list)
			}
			if err != nil {
				return err
			}
			journal, err := tx.Journal(row.ID)
			facts, _ := rotation.LastFacts(journal)
			if !slices.ContainsFunc(rotation.Rule(facts).Findings, func(f rotation.Finding) bool {
				return f.Mark == rotation.For && f.Text == "wiki was signed for by person"
			}) {
				t.Errorf("evidence: %+v", rotation.Rule(facts).Findings)
			}
			return err
		})
	}, "a", "b")
}

// TestWithoutAdminKey: a person retires, and nothing is asked of the Admin API.
func TestWithoutAdminKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		plan := w.plan(rotation.Manual)
		plan.Admin, plan.Usage = false, false
		w.issuer.trouble = func(op string) error {
			if strings.HasPrefix(op, "set ") || op == "usage" {
				return fault.New(fault.Forbidden, "no admin key")
			}
			return nil
		}
		var asked []string
		row := w.finish(w.begin(plan).ID, func(row rotation.Row) {
			subject := row.Hint[strings.LastIndex(row.Hint, " ")+1:]
			asked = append(asked, subject)
			if subject == "disabled" {
				byHand(apikey.Previous, provider.Inactive)(w)
			}
			w.signal(row.ID, rotation.SignalSign, rotation.SignalData{Subject: subject, UID: 7})
		})
		if row.Status != rotation.Done || strings.Join(asked, " ") != "evidence disabled archived" {
			t.Errorf("ended %q, asked for %v: %s", row.Status, asked, row.Note)
		}
		w.issuer.trouble = nil
		w.check(row)
	}, "a", "b")
}

// TestWriteOnlyPlace: what cannot be read back is decided by the watch where a signal exists, and signed for where none does.
func TestWriteOnlyPlace(t *testing.T) {
	for _, how := range []location.Knowledge{location.Label, location.ChangedAt, location.Nothing} {
		for _, watched := range []bool{true, false} {
			t.Run(string(how)+"/"+map[bool]string{true: "watched", false: "blind"}[watched], func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					w.places.Place("b").SetKnowledge(how)
					plan := w.plan(rotation.Manual)
					for i := range plan.Places {
						if plan.Places[i].Name == "b" {
							plan.Places[i].Can = rotation.Can{Reload: true, Confirm: watched, Probe: watched, Read: how == location.Label}
						}
					}
					signed := 0
					row := w.finish(w.begin(plan).ID, func(row rotation.Row) {
						signed++
						if !strings.Contains(row.Note, "b cannot be read back") {
							t.Errorf("%s: %q", row.Status, row.Note)
						}
						w.signal(row.ID, rotation.SignalSign, rotation.SignalData{Subject: "evidence", UID: 7})
					})
					want := 0
					if how != location.Label && !watched {
						want = 1
					}
					if row.Status != rotation.Done || signed != want {
						t.Errorf("ended %q, signed %d times, want %d: %s", row.Status, signed, want, row.Note)
					}
					w.check(row)
				}, "a", "b")
			})
		}
	}
}

// TestSignals of ended and unknown rotations are refused, and a signal reaches a rotation that is under way.
func TestSignals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.runner()
		if err := r.Signal(context.Background(), "r-9", rotation.SignalWake, "op", rotation.SignalData{}); !fault.Is(err, fault.NotFound) {
			t.Errorf("unknown: %v", err)
		}
		row := w.begin(w.plan(rotation.Manual))
		if err := r.Signal(context.Background(), row.ID, rotation.SignalSign, "op", rotation.SignalData{Subject: "a"}); !fault.Is(err, fault.Conflict) {
			t.Errorf("signed for a place before there was a version: %v", err)
		}
		hit := false
		w.fault = func(point string, e rotation.Effect) error {
			if !hit && point == "made" && e.Verb == rotation.TestRun {
				hit = true
				w.signal(row.ID, rotation.SignalCancel, rotation.SignalData{})
			}
			return nil
		}
		row = w.finish(row.ID, nil)
		if row.Status != rotation.Cancelled {
			t.Errorf("ended %q", row.Status)
		}
		w.check(row)
		if err := r.Signal(context.Background(), row.ID, rotation.SignalResume, "op", rotation.SignalData{}); !fault.Is(err, fault.Conflict) {
			t.Errorf("ended: %v", err)
		}
		if len(w.inState(key, apikey.Spare)) != 1 {
			t.Error("the spare was lost by the cancelling")
		}
	}, "a", "b")
}

// TestPollerAndFollow: a poller drives what is due, a follower sees it, and both stop when they are told.
func TestPollerAndFollow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		plan := w.plan(rotation.Manual)
		plan.Soak, plan.Watch = time.Minute, time.Minute
		row := w.begin(plan)
		ctx, cancel := context.WithCancelCause(context.Background())
		stopped := make(chan error, 1)
		poller := &runner.Poller{Runner: w.runner()}
		go func() { stopped <- poller.Run(ctx) }()
		short, end := context.WithTimeout(context.Background(), 10*time.Second)
		defer end()
		looks := 0
		if err := w.runner().Follow(short, row.ID, func(rotation.Row) { looks++ }); !fault.Is(err, fault.Canceled) || looks < 1 {
			t.Errorf("follow: %v after %d looks", err, looks)
		}
		if err := w.runner().Follow(context.Background(), row.ID, func(rotation.Row) {}); err != nil {
			t.Errorf("follow: %v", err)
		}
		cancel(errors.New("stopping"))
		if err := <-stopped; err != nil {
			t.Errorf("poller: %v", err)
		}
		w.check(w.row(row.ID))
		if err := w.runner().Follow(context.Background(), "r-9", nil); !fault.Is(err, fault.NotFound) {
			t.Errorf("follow nothing: %v", err)
		}
	}, "a", "b")
}
