package runner_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/runner"
	"github.com/keywright/keywright/internal/store"
)

// TestSignalReachesWorkUnderWay: a signature counts at once, also while another place of the same wave is in a long call.
func TestSignalReachesWorkUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		plan := w.plan(rotation.Manual)
		plan.Places = append(plan.Places, rotation.Place{Name: "wiki", Kind: "manual", Address: "manual:wiki", Can: rotation.Can{Manual: true}})
		plan.Waves[1].Batches = [][]string{{"b", "wiki"}}
		w.places.Place("b").Delay(memory.Stage, 25*time.Second)
		row := w.begin(plan)
		var staging, signed, put time.Time
		w.fault = func(point string, e rotation.Effect) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			switch {
			case point == "before" && e.ID == "deploy/production/b/stage" && staging.IsZero():
				staging = time.Now()
				go func() {
					<-time.After(3 * time.Second)
					w.mu.Lock()
					signed = time.Now()
					w.mu.Unlock()
					w.signal(row.ID, rotation.SignalSign, rotation.SignalData{Subject: "wiki", UID: 7})
				}()
			case point == "before" && e.ID == "deploy/production/wiki/put" && put.IsZero():
				put = time.Now()
			}
			return nil
		}
		end := w.finish(row.ID, func(row rotation.Row) {
			w.signal(row.ID, rotation.SignalSign, rotation.SignalData{Subject: "evidence"})
		})
		if end.Status != rotation.Done || signed.IsZero() || put.Sub(signed) > time.Second {
			t.Errorf("ended %q (%s); stage began %v, signed %v, written down %v", end.Status, end.Note, staging, signed, put)
		}
		w.check(end)
	}, "a", "b")
}

// TestStopGivesBack: a driver that is told to stop in the middle of a call leaves the rotation to the next one at once, and the call's outcome open.
func TestStopGivesBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		row := w.begin(w.plan(rotation.Manual))
		ctx, cancel := context.WithCancelCause(context.Background())
		w.places.Place("a").Delay(memory.Put, 10*time.Second)
		hit := w.at("before", "staging/staging/a/put", func() {
			go func() {
				<-time.After(time.Second)
				cancel(errors.New("stopping"))
			}()
		})
		_, err := w.runner().Advance(ctx, row.ID)
		if !hit.Load() || !fault.Is(err, fault.Canceled) || !strings.Contains(err.Error(), "stopping") {
			t.Fatalf("stopped with %v", err)
		}
		if now := w.row(row.ID); now.Status != rotation.Running || now.WakeAt.After(time.Now()) {
			t.Errorf("given back as %s, wakes at %v, now %v", now.Status, now.WakeAt, time.Now())
		}
		w.places.Place("a").Delay(memory.Put, 0)
		unsure := false
		w.fault = func(_ string, e rotation.Effect) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			unsure = unsure || e.ID == "staging/staging/a/put" && e.Unsure
			return nil
		}
		// No lease has to run out.
		if _, err := w.runner().Advance(context.Background(), row.ID); err != nil {
			t.Fatalf("the next driver: %v", err)
		}
		if !unsure {
			t.Error("the next driver did not look before it wrote")
		}
		w.check(w.finish(row.ID, nil))
	}, "a", "b")
}

// TestOneWriterPerAddress: two rotations whose places are one and the same write one after the other, and both come to their end.
func TestOneWriterPerAddress(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.add(backup, apikey.Spare)
		first := w.plan(rotation.Manual)
		first.Pairs, first.Backup, first.Soak = nil, "", 10*time.Minute
		second := first
		second.ID, second.Key = "r-2", backup
		second.Old = w.inState(backup, apikey.Current)[0].ID
		second.Places = []rotation.Place{{Name: "z", Address: "memory:a", Kind: "memory", Can: rotation.Can{Read: true}}}
		second.Waves = []rotation.Wave{{Name: "production", Production: true, Batches: [][]string{{"z"}}}}
		w.elsewhere.Place("z").Overwrite(w.vault.values[second.Old])
		w.elsewhere.Place("z").Delay(memory.Put, 7*time.Second)
		w.places.Place("a").Delay(memory.Put, 7*time.Second)
		var writing, wrote atomic.Int32
		w.fault = func(point string, e rotation.Effect) error {
			if e.Verb != rotation.Put || e.Place != "a" && e.Place != "z" {
				return nil
			}
			switch point {
			case "before":
				if writing.Add(1) > 1 {
					t.Errorf("two writers at %s", e.ID)
				}
			case "made":
				writing.Add(-1)
				wrote.Add(1)
			}
			return nil
		}
		ids := []string{w.begin(first).ID, w.begin(second).ID}
		var both sync.WaitGroup
		for _, id := range ids {
			r := w.runner()
			both.Go(func() {
				if err := r.Follow(context.Background(), id, func(rotation.Row) {}); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		for _, id := range ids {
			if row := w.row(id); row.Status != rotation.Done {
				t.Errorf("%s ended %q: %s", id, row.Status, row.Note)
			}
		}
		if wrote.Load() != 2 {
			t.Errorf("%d writes", wrote.Load())
		}
		w.check(w.row(ids[0]))
	}, "a", "b")
}

// TestTroubleWithTheStore: the one who follows is told, and a daemon waits until it is over.
func TestTroubleWithTheStore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var log bytes.Buffer
		var mu sync.Mutex
		w.log = slog.New(slog.NewTextHandler(writer(func(b []byte) { mu.Lock(); log.Write(b); mu.Unlock() }), nil))
		row := w.begin(w.plan(rotation.Manual))
		full := fault.New(fault.Unavailable, "write store: disk is full", fault.Hint("free space"))
		broken := atomic.Bool{}
		broken.Store(true)
		w.hook = func(op string) error {
			if op == store.HookBefore && broken.Load() {
				return full
			}
			return nil
		}
		if err := w.runner().Follow(context.Background(), row.ID, func(rotation.Row) {}); !fault.Is(err, fault.Unavailable) || fault.HintOf(err) != "free space" {
			t.Errorf("follow: %v", err)
		}
		ctx, stop := context.WithCancel(context.Background())
		stopped := make(chan error, 1)
		poller := &runner.Poller{Runner: w.runner()}
		go func() { stopped <- poller.Run(ctx) }()
		<-time.After(10 * time.Second)
		broken.Store(false)
		if err := w.runner().Follow(context.Background(), row.ID, func(rotation.Row) {}); err != nil {
			t.Errorf("follow: %v", err)
		}
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("the poller ended with %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(log.String(), "store not readable") || !strings.Contains(log.String(), "disk is full") {
			t.Errorf("log: %s", log.String())
		}
		w.check(w.row(row.ID))
	}, "a", "b")
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

// TestStoreGoesAway at every effect of a rotation: the driver ends with an error and no more, and the next one finishes what it left.
func TestStoreGoesAway(t *testing.T) {
	for _, kind := range []rotation.Kind{rotation.Manual, rotation.Rollback, rotation.Emergency} {
		for _, at := range crashPoints(t, kind) {
			if at[0] != "before" || passedOver() {
				continue
			}
			t.Run(string(kind)+"/"+at[1], func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					prepare(w, kind)
					row := w.begin(w.plan(kind))
					gone := w.at(at[0], at[1], func() { _ = w.store.Close() })
					r := w.runner()
					for range 600 {
						was := gone.Load()
						next, err := r.Advance(context.Background(), row.ID)
						switch {
						case gone.Load() && !was:
							if err == nil || strings.Contains(err.Error(), "defect") {
								t.Fatalf("without its store it ended with %v", err)
							}
							w.open()
							<-time.After(runner.Lease)
							r = w.runner()
							continue
						case err != nil:
							t.Fatal(err)
						}
						if row = w.row(row.ID); row.Status.Ended() {
							break
						}
						<-time.After(next.Wake.Sub(w.now()))
					}
					if !gone.Load() || row.Status != rotation.Done {
						t.Errorf("hit %v, ended %q: %s", gone.Load(), row.Status, row.Note)
					}
					w.check(row)
				}, "a", "b")
			})
		}
	}
}

// TestAnswerWhileItIsTold: a person who answers while the rotation is being parked is heard at once, not an hour later.
func TestAnswerWhileItIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.setState(apikey.Spare, apikey.Rejected)
		row := w.begin(w.plan(rotation.Manual))
		answered := make(chan struct{})
		w.reader = func(n runner.Notice) {
			if n.Wants && len(w.inState(key, apikey.Rejected)) == 1 {
				w.setState(apikey.Rejected, apikey.Spare)
				w.signal(row.ID, rotation.SignalIntake, rotation.SignalData{})
				close(answered)
			}
		}
		w.wait = answered
		begun := time.Now()
		next, err := w.runner().Advance(context.Background(), row.ID)
		if err != nil || next.Wake.Sub(begun) > time.Minute {
			t.Errorf("it sleeps for %v: %v", next.Wake.Sub(begun), err)
		}
		w.reader, w.wait = nil, nil
		w.check(w.finish(row.ID, nil))
	}, "a", "b")
}

// TestOneWriterPerAddressInOneWave: two places of one rotation that are one and the same are written one after the other, too.
func TestOneWriterPerAddressInOneWave(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		plan := w.plan(rotation.Manual)
		for i := range plan.Places {
			plan.Places[i].Address, plan.Places[i].Can.Stage = "memory:one", false
			w.places.Place(plan.Places[i].Name).Delay(memory.Put, 7*time.Second)
		}
		plan.Waves = []rotation.Wave{{Name: "production", Production: true, Batches: [][]string{{"a", "b", "c"}}}}
		var writing, wrote atomic.Int32
		w.fault = func(point string, e rotation.Effect) error {
			switch {
			case e.Verb != rotation.Put:
			case point == "before" && writing.Add(1) > 1:
				t.Errorf("two writers at %s", e.ID)
			case point == "made":
				writing.Add(-1)
				wrote.Add(1)
			}
			return nil
		}
		row := w.finish(w.begin(plan).ID, nil)
		if row.Status != rotation.Done || wrote.Load() != 3 {
			t.Errorf("ended %q after %d writes: %s", row.Status, wrote.Load(), row.Note)
		}
		w.check(row)
	}, "a", "b", "c")
}

// sleepy is a place whose answer to a look comes after something happened.
type sleepy struct {
	*memory.Driver
	after func()
}

func (d sleepy) Inspect(ctx context.Context) (location.Holding, error) {
	h, err := d.Driver.Inspect(ctx)
	d.after()
	return h, err
}

// TestSleptThroughItsLease: a driver whose host slept finds another one in charge. It acts on nothing any more, wherever in an effect it woke up.
func TestSleptThroughItsLease(t *testing.T) {
	for _, effect := range []string{"staging/staging/a/put", "deploy/production/b/stage", "retire/round-1/deactivate", "archive/archive"} {
		for _, looking := range []bool{false, true} {
			if looking && !strings.HasPrefix(effect, "staging/") && !strings.HasPrefix(effect, "deploy/") {
				continue
			}
			t.Run(effect+map[bool]string{true: "/while it looks"}[looking], func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					row := w.begin(w.plan(rotation.Manual))
					var armed, slept atomic.Bool
					sleep := func() {
						if slept.Swap(true) {
							return
						}
						jump(time.Hour)(w)
						if _, err := w.store.ClaimID(context.Background(), row.ID, "other", runner.Lease); err != nil {
							t.Error(err)
						}
					}
					w.open1 = func(name string) location.Driver {
						return sleepy{w.places.Driver(name), func() {
							if armed.Load() {
								sleep()
							}
						}}
					}
					acts := 0
					w.issuer.trouble = func(op string) error {
						if slept.Load() && strings.HasPrefix(op, "set ") {
							acts++
						}
						return nil
					}
					w.at("before", effect, func() {
						if armed.Store(looking); !looking {
							sleep()
						}
					})
					writes := func() (n int) {
						for _, p := range w.places.Names() {
							n += w.calls(p, memory.Put) + w.calls(p, memory.Stage) + w.calls(p, memory.Promote)
						}
						return n
					}
					r, before := w.runner(), 0
					for !slept.Load() {
						before = writes()
						next, err := r.Advance(context.Background(), row.ID)
						if slept.Load() {
							if !fault.Is(err, fault.Conflict) {
								t.Errorf("it ended with %v", err)
							}
							break
						}
						if err != nil {
							t.Fatal(err)
						}
						<-time.After(next.Wake.Sub(w.now()))
					}
					if n := writes() - before; n > 0 && !strings.HasPrefix(effect, "deploy/") || acts > 0 || w.calls("b", memory.Stage) > 0 && effect == "deploy/production/b/stage" {
						t.Errorf("%d writes to places and %d to the provider", n, acts)
					}
				}, "a", "b")
			})
		}
	}
}
