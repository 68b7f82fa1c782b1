package runner_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/runner"
)

// repeated matches effects that a rotation makes many times alike; one of each is enough for the sweep.
var repeated = regexp.MustCompile(`/([2-9]|\d\d)/(drift|watch)$`)

// crashPoints runs a rotation undisturbed and lists where it can be hit: three points around every effect.
func crashPoints(t *testing.T, kind rotation.Kind) (points [][2]string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		prepare(w, kind)
		seen := map[[2]string]bool{}
		w.fault = func(point string, e rotation.Effect) error {
			at := [2]string{point, e.ID}
			w.mu.Lock()
			defer w.mu.Unlock()
			if !seen[at] && !repeated.MatchString(e.ID) {
				seen[at] = true
				points = append(points, at)
			}
			return nil
		}
		if row := w.finish(w.begin(w.plan(kind)).ID, nil); row.Status != rotation.Done {
			t.Fatalf("undisturbed %s ended %q: %s", kind, row.Status, row.Note)
		}
	})
	return points
}

// prepare brings the world to where a rotation of this kind begins.
func prepare(w *world, kind rotation.Kind) {
	switch kind {
	case rotation.Emergency:
		w.emergent = true
	case rotation.Rollback:
		w.t.Helper()
		plan := w.plan(rotation.Manual)
		row := w.begin(plan)
		w.until(row.ID, func() bool { return len(w.inState(key, apikey.Previous)) == 1 })
	}
}

// TestCrashMatrixEffects hits every effect of every kind of rotation before it is made, after it is made and before it is journalled, and
// after both; a new process then drives the rotation to its end, and the checker looks at the world.
func TestCrashMatrixEffects(t *testing.T) {
	var m matrix
	kinds := []rotation.Kind{rotation.Manual, rotation.Rollback, rotation.Emergency}
	for _, kind := range kinds {
		points := crashPoints(t, kind)
		if len(points) < 20 {
			t.Fatalf("%s: only %d points", kind, len(points))
		}
		for _, at := range points {
			if passedOver() {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s/%s", kind, at[1], at[0]), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, "a", "b")
					prepare(w, kind)
					struck := false
					w.fault = func(point string, e rotation.Effect) error {
						w.mu.Lock()
						defer w.mu.Unlock()
						if struck || point != at[0] || e.ID != at[1] {
							return nil
						}
						struck = true
						return errCrash
					}
					row := w.finish(w.begin(w.plan(kind)).ID, nil)
					if !struck {
						t.Fatal("the point was not reached")
					}
					if row.Status != rotation.Done {
						t.Errorf("ended %q: %s", row.Status, row.Note)
					}
					w.check(row)
					m.hit(at[1], string(kind), row.Status)
				})
			})
		}
	}
	if !t.Failed() && sample == 1 {
		fresh(t, "crashes", m.markdown([]string{"manual", "rollback", "emergency"}))
	}
}

// TestCrashMatrixCommits hits every commit of an ordinary rotation, before and after it.
func TestCrashMatrixCommits(t *testing.T) {
	commits := 0
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		row := w.begin(w.plan(rotation.Manual))
		w.hook = func(op string) error {
			if op == "after" {
				commits++
			}
			return nil
		}
		w.finish(row.ID, nil)
	})
	if commits < 50 {
		t.Fatalf("only %d commits", commits)
	}
	for n := 1; n <= commits; n += 3 {
		for _, op := range []string{"before", "after"} {
			if passedOver() {
				continue
			}
			t.Run(fmt.Sprintf("%d/%s", n, op), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, "a")
					row := w.begin(w.plan(rotation.Manual))
					count, struck := 0, false
					w.hook = func(at string) error {
						if at == "before" {
							count++
						}
						if !struck && count == n && at == op {
							struck = true
							return errCrash
						}
						return nil
					}
					row = w.finish(row.ID, nil)
					w.hook = nil
					if row.Status != rotation.Done {
						t.Errorf("ended %q: %s", row.Status, row.Note)
					}
					w.check(row)
				})
			})
		}
	}
}

// TestCrashMatrixCancels hits every effect up to the flip, and a person cancels before the next driver comes: everything is put back, whatever
// the dead one had in hand.
func TestCrashMatrixCancels(t *testing.T) {
	for _, at := range crashPoints(t, rotation.Manual) {
		if at[1] == "flip" {
			break
		}
		if passedOver() {
			continue
		}
		t.Run(at[1]+"/"+at[0], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "a", "b")
				row := w.begin(w.plan(rotation.Manual))
				struck := false
				w.fault = func(point string, e rotation.Effect) error {
					w.mu.Lock()
					defer w.mu.Unlock()
					if struck || point != at[0] || e.ID != at[1] {
						return nil
					}
					struck = true
					return errCrash
				}
				r := w.runner()
				for !struck {
					next, err := r.Advance(context.Background(), row.ID)
					if err != nil && !errors.Is(err, errCrash) {
						t.Fatal(err)
					}
					if err == nil {
						<-time.After(next.Wake.Sub(w.now()))
					}
				}
				w.signal(row.ID, rotation.SignalCancel, rotation.SignalData{})
				<-time.After(runner.Lease)
				if row = w.finish(row.ID, nil); row.Status != rotation.Cancelled {
					t.Errorf("ended %q: %s", row.Status, row.Note)
				}
				w.check(row)
			})
		})
	}
}
