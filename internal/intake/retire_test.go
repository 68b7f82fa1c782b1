package intake_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/intake"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/internal/store"
)

func (w *world) retire(i *intake.Intake, id apikey.VersionID, slot intake.Slot, o intake.Options) (intake.Result, error) {
	w.t.Helper()
	r, err := i.Retire(w.t.Context(), id, slot, o)
	w.keep(r)
	w.keepErr(err)
	return r, err
}

func TestRetire(t *testing.T) {
	for _, s := range []apikey.State{apikey.Spare, apikey.Previous, apikey.Rejected} {
		t.Run(string(s), func(t *testing.T) {
			inBubble(t, simulator.Options{StatusDelay: 3 * time.Second}, func(t *testing.T, w *world) {
				id, v := w.make(simulator.CreateKey{})
				x := w.mustAdd(v)
				w.become(x.ID, func(v *apikey.Version) { v.State = s })
				r, err := w.retire(w.intake(), x.ID, w.slot(), options())
				if err != nil || r.Version.State != apikey.Inactive || w.status(id) != simulator.StatusInactive || w.versions()[0].State != apikey.Inactive {
					t.Fatalf("%+v, %v, %s", r, err, w.status(id))
				}
				w.settled()
				n := w.changes()
				if r, err = w.retire(w.intake(), x.ID, w.slot(), options()); err != nil || r.Version.State != apikey.Inactive || w.changes() != n {
					t.Errorf("again: %+v, %v", r, err)
				}
				var types []event.Type
				for _, e := range w.entries()[3:] {
					types = append(types, e.Event.Type)
				}
				if want := []event.Type{event.EffectIntended, event.VersionState, event.EffectDone}; !slices.Equal(types, want) {
					t.Errorf("recorded %v, want %v", types, want)
				}
			})
		})
	}
}

func TestRetireRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(w *world, x apikey.Version, v secret.Value, slot *intake.Slot)
		want  fault.Kind
	}{
		{"current", func(w *world, x apikey.Version, _ secret.Value, _ *intake.Slot) {
			w.become(x.ID, func(v *apikey.Version) { v.State = apikey.Current })
		}, fault.Conflict},
		{"pending", func(w *world, x apikey.Version, _ secret.Value, _ *intake.Slot) {
			w.become(x.ID, func(v *apikey.Version) { v.State = apikey.Pending })
		}, fault.Conflict},
		{"archived", func(w *world, x apikey.Version, _ secret.Value, _ *intake.Slot) {
			w.become(x.ID, func(v *apikey.Version) { v.State = apikey.Archived })
		}, fault.Conflict},
		{"wanted by a place", func(w *world, x apikey.Version, _ secret.Value, _ *intake.Slot) {
			w.update(func(tx *store.Tx) error {
				return tx.SetDesired(store.Desired{Location: "env", Key: "other", Version: x.ID})
			})
		}, fault.Conflict},
		{"claimed", func(w *world, x apikey.Version, _ secret.Value, _ *intake.Slot) {
			w.update(func(tx *store.Tx) error { return tx.ClaimSpare(x.ID, "r-1") })
		}, fault.Conflict},
		{"old of a rotation", func(w *world, x apikey.Version, _ secret.Value, _ *intake.Slot) {
			w.update(func(tx *store.Tx) error {
				return tx.CreateRotation(rotation.Row{ID: "r-1", Key: key, Kind: rotation.Manual, Status: rotation.Running, Plan: rotation.Plan{Key: key, Old: x.ID}})
			})
		}, fault.Conflict},
		{"held by a place", func(w *world, _ apikey.Version, v secret.Value, slot *intake.Slot) {
			slot.Locations = []*location.Location{w.place("env", v)}
		}, fault.Conflict},
		{"in use", func(w *world, x apikey.Version, _ secret.Value, _ *intake.Slot) {
			w.sim.AddUsage(simulator.Usage{At: w.sim.Now().Add(-time.Minute), KeyID: x.ProviderID, Requests: 1, InputTokens: 1})
		}, fault.Findings},
		{"usage unknown", func(w *world, _ apikey.Version, _ secret.Value, _ *intake.Slot) {
			w.sim.Fail(simulator.Fault{Path: "/v1/organizations/analytics/*", Status: 500})
		}, fault.Findings},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
				id, v := w.make(simulator.CreateKey{})
				x := w.mustAdd(v)
				w.wait(10 * time.Minute)
				slot, n := w.slot(), w.changes()
				c.setup(w, x, v, &slot)
				_, err := w.retire(w.intake(), x.ID, slot, options())
				wantKind(t, err, c.want)
				if w.changes() != n || w.status(id) != simulator.StatusActive {
					t.Error("something was changed")
				}
				if c.want == fault.Findings {
					o := options()
					o.Confirm = func(_ context.Context, q intake.Question) (intake.Answer, error) {
						return intake.Answer{Yes: q.Kind == intake.AskUse}, nil
					}
					if _, err := w.retire(w.intake(), x.ID, slot, o); err != nil {
						t.Errorf("after a yes: %v", err)
					}
				}
			})
		})
	}
}

func TestRetireNothing(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		if _, err := w.intake().Retire(t.Context(), "v_none", w.slot(), options()); !fault.Is(err, fault.NotFound) {
			t.Errorf("%v", err)
		}
		if _, err := w.intake().Forget(t.Context(), "v_none", options()); !fault.Is(err, fault.NotFound) {
			t.Errorf("%v", err)
		}
	})
}

func TestRetireByHand(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		id, v := w.make(simulator.CreateKey{})
		x := w.mustAdd(v)
		i := w.intake()
		i.Provider = w.keys
		_, err := w.retire(i, x.ID, w.slot(), options())
		wantKind(t, err, fault.Unsupported)
		if hint := fault.HintOf(err); !strings.Contains(hint, "disable") || !strings.Contains(hint, "never delete") {
			t.Errorf("hint: %s", hint)
		}
		if err := w.sim.SetStatus(id, simulator.StatusInactive); err != nil {
			t.Fatal(err)
		}
		if r, err := w.retire(i, x.ID, w.slot(), options()); err != nil || r.Version.State != apikey.Inactive {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestRetireTheWrongID retires by an id that is another key's: that one works again afterwards.
func TestRetireTheWrongID(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		other, _ := w.make(simulator.CreateKey{Name: "other"})
		x := w.mustAdd(v)
		w.become(x.ID, func(v *apikey.Version) { v.State, v.ProviderID, v.Binding = apikey.Previous, other, apikey.BindingHint })
		_, err := w.retire(w.intake(), x.ID, w.slot(), options())
		wantKind(t, err, fault.Conflict)
		if w.status(other) != simulator.StatusActive || w.versions()[0].State != apikey.Previous {
			t.Errorf("%s, %s", w.status(other), w.versions()[0].State)
		}
		w.settled()
	})
}

func TestRetireNeverRevivesTheCompromised(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		id, v := w.make(simulator.CreateKey{})
		x := w.mustAdd(v)
		w.become(x.ID, func(v *apikey.Version) { v.State, v.Compromised = apikey.Previous, true })
		w.sim.Fail(simulator.Fault{Path: "/v1/models", Status: 529, Type: "overloaded_error", Skip: 1})
		_, err := w.retire(w.intake(), x.ID, w.slot(), options())
		wantKind(t, err, fault.Unavailable)
		if w.status(id) != simulator.StatusInactive {
			t.Errorf("it is %s", w.status(id))
		}
		w.sim.ClearFaults()
		if r, err := w.retire(w.intake(), x.ID, w.slot(), options()); err != nil || r.Version.State != apikey.Inactive {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestCrashDuringRetire(t *testing.T) {
	for _, act := range []string{"intended", "set inactive", "refused"} {
		t.Run(act, func(t *testing.T) {
			inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
				id, v := w.make(simulator.CreateKey{})
				x := w.mustAdd(v)
				if _, err := w.retire(w.killAt(act), x.ID, w.slot(), options()); !errors.Is(err, errKilled) {
					t.Fatalf("not killed: %v", err)
				}
				got, err := w.intake().Recover(t.Context())
				if err != nil || len(got) != 1 {
					t.Fatalf("%+v, %v", got, err)
				}
				w.settled()
				state := w.versions()[0].State
				if act == "intended" && (state != apikey.Spare || w.status(id) != simulator.StatusActive) || act != "intended" && (state != apikey.Inactive || w.status(id) != simulator.StatusInactive) {
					t.Errorf("%s, and %s at the provider", state, w.status(id))
				}
			})
		})
	}
	t.Run("wanted again meanwhile", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
			id, v := w.make(simulator.CreateKey{})
			x := w.mustAdd(v)
			if _, err := w.retire(w.killAt("refused"), x.ID, w.slot(), options()); !errors.Is(err, errKilled) {
				t.Fatalf("not killed: %v", err)
			}
			w.become(x.ID, func(v *apikey.Version) { v.State = apikey.Current })
			if _, err := w.intake().Recover(t.Context()); err != nil || w.status(id) != simulator.StatusActive || w.versions()[0].State != apikey.Current {
				t.Errorf("%v, %s", err, w.status(id))
			}
			w.settled()
		})
	})
}

func TestForget(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		x := w.mustAdd(v)
		for _, s := range []apikey.State{apikey.Current, apikey.Pending, apikey.Previous, apikey.Inactive} {
			w.become(x.ID, func(v *apikey.Version) { v.State, v.Activated = s, v.Added })
			_, err := w.intake().Forget(t.Context(), x.ID, options())
			wantKind(t, err, fault.Conflict)
		}
		w.become(x.ID, func(v *apikey.Version) { v.State, v.Activated = apikey.Spare, time.Time{} })
		w.update(func(tx *store.Tx) error {
			return tx.SetDesired(store.Desired{Location: "env", Key: key, Version: x.ID})
		})
		_, err := w.intake().Forget(t.Context(), x.ID, options())
		wantKind(t, err, fault.Conflict)
		w.update(func(tx *store.Tx) error { return tx.DropDesired("env") })

		r, err := w.intake().Forget(t.Context(), x.ID, options())
		if err != nil || outcome(r, intake.CheckForgotten) != intake.Warn {
			t.Fatalf("%+v, %v", r, err)
		}
		if _, err := w.vault.Open(t.Context(), x.ID); !fault.Is(err, fault.NotFound) || len(w.versions()) != 0 {
			t.Errorf("still there: %v", err)
		}
		entries := w.entries()
		if last := entries[len(entries)-1].Event; last.Type != event.VersionForgotten || last.Version != x.ID || last.Actor != actor {
			t.Errorf("recorded %+v", last)
		}
		// It may be handed in again.
		if r, err := w.add(w.intake(), v, w.slot(), options()); err != nil || r.Version.ID == x.ID {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
