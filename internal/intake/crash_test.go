package intake_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/intake"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/internal/store"
)

var errKilled = errors.New("killed")

// killAt makes an intake that ends after an act, as the process would.
func (w *world) killAt(act string) *intake.Intake {
	i := w.intake()
	i.Fault = func(at string) error {
		if at == act {
			return errKilled
		}
		return nil
	}
	return i
}

var acts = []string{"intended", "set inactive", "refused", "set active", "accepted"}

func TestCrashDuringTheProof(t *testing.T) {
	for _, act := range acts {
		for _, how := range []string{"recover at start", "hand in again"} {
			t.Run(act+", "+how, func(t *testing.T) {
				inBubble(t, simulator.Options{StatusDelay: 2 * time.Second}, func(t *testing.T, w *world) {
					id, v := w.make(simulator.CreateKey{})
					if _, err := w.add(w.killAt(act), v, w.slot(), options()); !errors.Is(err, errKilled) {
						t.Fatalf("not killed: %v", err)
					}
					if n := len(w.versions()); n != 0 {
						t.Fatalf("%d versions stored before the proof was over", n)
					}
					if how == "recover at start" {
						got, err := w.intake().Recover(t.Context())
						if err != nil || len(got) != 1 || got[0].ProviderID != id || got[0].Fingerprint != v.Fingerprint() {
							t.Fatalf("recovered %+v, %v", got, err)
						}
						w.settled()
						if w.status(id) != simulator.StatusActive {
							t.Errorf("left %s", w.status(id))
						}
						if got, err := w.intake().Recover(t.Context()); err != nil || len(got) != 0 {
							t.Errorf("recovered twice: %+v, %v", got, err)
						}
						w.wait(3 * time.Second) // until the status is in force
					}
					r, err := w.add(w.intake(), v, w.slot(), options())
					if fault.Is(err, fault.Unauthenticated) && how == "hand in again" {
						w.wait(3 * time.Second) // active again, and not in force yet
						r, err = w.add(w.intake(), v, w.slot(), options())
					}
					if err != nil || r.Version.Binding != apikey.BindingProved || w.status(id) != simulator.StatusActive {
						t.Errorf("handed in again: %+v, %v, %s", r, err, w.status(id))
					}
					w.settled()
				})
			})
		}
	}
}

// TestTheWayBack makes trouble at each call of the proof. Whatever comes, the key is active in the end, or written down as one that is not.
func TestTheWayBack(t *testing.T) {
	path := "/v1/organizations/api_keys/*"
	for _, c := range []struct {
		name  string
		fault simulator.Fault
		want  fault.Kind // Unknown: the proof succeeds
	}{
		{"reply to inactive lost", simulator.Fault{Method: "POST", Path: path, Kind: simulator.FaultDropAfter, Times: 1}, fault.Unknown},
		{"reply to inactive is an error, applied", simulator.Fault{Method: "POST", Path: path, Kind: simulator.FaultReplyAfter, Status: 500, Times: 1}, fault.Unknown},
		{"reply to inactive is an error, not applied", simulator.Fault{Method: "POST", Path: path, Status: 500, Times: 1}, fault.Indeterminate},
		{"reply to active lost", simulator.Fault{Method: "POST", Path: path, Kind: simulator.FaultDropAfter, Skip: 1, Times: 1}, fault.Unknown},
		{"active not applied, twice", simulator.Fault{Method: "POST", Path: path, Status: 529, Type: "overloaded_error", Skip: 1, Times: 2}, fault.Unknown},
		{"no right to change", simulator.Fault{Method: "POST", Path: path, Status: 403, Type: "permission_error"}, fault.Forbidden},
		{"questions unanswered for a while", simulator.Fault{Path: "/v1/models", Status: 529, Type: "overloaded_error", Skip: 1, Times: 3}, fault.Unknown},
		{"questions never answered", simulator.Fault{Path: "/v1/models", Status: 529, Type: "overloaded_error", Skip: 1}, fault.Unavailable},
		{"never in force", simulator.Fault{}, fault.Conflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := simulator.Options{}
			if c.fault.Path == "" {
				o.StatusDelay = time.Hour
			}
			inBubble(t, o, func(t *testing.T, w *world) {
				id, v := w.make(simulator.CreateKey{})
				if o.StatusDelay == 0 {
					w.sim.Fail(c.fault)
				}
				r, err := w.add(w.intake(), v, w.slot(), options())
				if c.want == fault.Unknown {
					if err != nil || r.Version.Binding != apikey.BindingProved {
						t.Errorf("%+v, %v", r, err)
					}
				} else {
					wantKind(t, err, c.want)
					if len(w.versions()) != 0 {
						t.Error("stored all the same")
					}
				}
				if w.status(id) != simulator.StatusActive {
					t.Errorf("left %s", w.status(id))
				}
				w.settled()
			})
		})
	}
}

func TestCapOnTheWayBack(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		id, v := w.make(simulator.CreateKey{})
		i := w.intake()
		i.Fault = func(act string) error {
			if act == "refused" { // somebody else takes the place
				w.make(simulator.CreateKey{Name: "other"})
				w.sim.SetKeyLimits(1, 0)
			}
			return nil
		}
		_, err := w.add(i, v, w.slot(), options())
		wantKind(t, err, fault.Forbidden)
		if !strings.Contains(err.Error(), "stays inactive") || w.status(id) != simulator.StatusInactive {
			t.Errorf("%v, %s", err, w.status(id))
		}
		if _, err := w.intake().Recover(t.Context()); !fault.Is(err, fault.Forbidden) {
			t.Errorf("recovered under the cap: %v", err)
		}
		w.sim.SetKeyLimits(0, 0)
		if got, err := w.intake().Recover(t.Context()); err != nil || len(got) != 1 || w.status(id) != simulator.StatusActive {
			t.Errorf("recovered %+v, %v, %s", got, err, w.status(id))
		}
		w.settled()
	})
}

func TestInterruptDuringTheProof(t *testing.T) {
	inBubble(t, simulator.Options{StatusDelay: 5 * time.Second}, func(t *testing.T, w *world) {
		id, v := w.make(simulator.CreateKey{})
		ctx, cancel := context.WithCancel(t.Context())
		i := w.intake()
		i.Fault = func(act string) error {
			if act == "set inactive" {
				cancel()
			}
			return nil
		}
		_, err := i.Add(ctx, input(v), w.slot(), options())
		if !fault.Is(err, fault.Canceled) {
			t.Errorf("%v", err)
		}
		if w.status(id) != simulator.StatusActive || len(w.versions()) != 0 {
			t.Errorf("%s, %d versions", w.status(id), len(w.versions()))
		}
		w.settled()
	})
}

// TestRecoverLeavesTheLivingAlone lets a second process start in the middle of a slow proof.
func TestRecoverLeavesTheLivingAlone(t *testing.T) {
	inBubble(t, simulator.Options{StatusDelay: 20 * time.Second}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		done := make(chan error)
		go func() {
			r, err := w.intake().Add(t.Context(), input(v), w.slot(), options())
			if err == nil && r.Version.Binding != apikey.BindingProved {
				err = fmt.Errorf("%+v", r)
			}
			done <- err
		}()
		w.wait(4 * time.Second)
		if got, err := w.intake().Recover(t.Context()); err != nil || len(got) != 0 {
			t.Errorf("took the act of a living process: %+v, %v", got, err)
		}
		if _, err := w.intake().Add(t.Context(), input(v), w.slot(), options()); err == nil {
			t.Error("the same key is in two hands")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.settled()
	})
}

// TestTakenOver takes the act away from a process that was thought dead: it brings the key back and stores nothing.
func TestTakenOver(t *testing.T) {
	inBubble(t, simulator.Options{StatusDelay: 20 * time.Second}, func(t *testing.T, w *world) {
		id, v := w.make(simulator.CreateKey{})
		i := w.intake()
		i.Fault = func(act string) error {
			if act == "set inactive" {
				w.update(func(tx *store.Tx) error { return tx.SetMeta("intake.acts", "[]") })
			}
			return nil
		}
		_, err := w.add(i, v, w.slot(), options())
		if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "another process") || w.status(id) != simulator.StatusActive || len(w.versions()) != 0 {
			t.Errorf("%v, %s, %d versions", err, w.status(id), len(w.versions()))
		}
	})
}

func TestRecoverKnowsBetter(t *testing.T) {
	leave := func(t *testing.T, w *world) (string, secret.Value) {
		t.Helper()
		id, v := w.make(simulator.CreateKey{})
		if _, err := w.add(w.killAt("set inactive"), v, w.slot(), options()); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		return id, v
	}
	t.Run("compromised meanwhile", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
			id, v := leave(t, w)
			w.update(func(tx *store.Tx) error {
				return tx.PutVersion(apikey.Version{ID: "v_0123456789abcdef", Key: key, State: apikey.Rejected, Compromised: true, Digest: v.Digest()})
			})
			if _, err := w.intake().Recover(t.Context()); err != nil || w.status(id) != simulator.StatusInactive {
				t.Errorf("%v, %s", err, w.status(id))
			}
			w.settled()
		})
	})
	t.Run("archived by hand", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
			id, _ := leave(t, w)
			if err := w.sim.SetStatus(id, simulator.StatusArchived); err != nil {
				t.Fatal(err)
			}
			got, err := w.intake().Recover(t.Context())
			if err != nil || len(got) != 1 || !strings.Contains(got[0].Text, "no longer") {
				t.Errorf("%+v, %v", got, err)
			}
			w.settled()
		})
	})
	t.Run("no admin key any more", func(t *testing.T) {
		inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
			leave(t, w)
			i := w.intake()
			i.Provider = w.keys
			if _, err := i.Recover(t.Context()); !fault.Is(err, fault.Unsupported) {
				t.Errorf("%v", err)
			}
			if got, err := w.intake().Recover(t.Context()); err != nil || len(got) != 1 {
				t.Errorf("written down no more: %+v, %v", got, err)
			}
		})
	})
}

// TestCrashDuringMatch checks that a spare that was being proved is free again.
func TestCrashDuringMatch(t *testing.T) {
	for _, act := range acts {
		t.Run(act, func(t *testing.T) {
			inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
				id, v := w.make(simulator.CreateKey{})
				o := options()
				o.SkipBinding = true
				r, err := w.add(w.intake(), v, w.slot(), o)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.killAt(act).Match(t.Context(), w.slot(), options()); !errors.Is(err, errKilled) {
					t.Fatalf("not killed: %v", err)
				}
				claims := func() (n int) {
					_ = w.store.View(t.Context(), func(tx *store.Tx) error {
						c, err := tx.Claims()
						n = len(c)
						return err
					})
					return n
				}
				if claims() != 1 {
					t.Error("a rotation could take it during the proof")
				}
				if _, err := w.intake().Recover(t.Context()); err != nil || claims() != 0 || w.status(id) != simulator.StatusActive {
					t.Errorf("%v, %d claims, %s", err, claims(), w.status(id))
				}
				rs, err := w.intake().Match(t.Context(), w.slot(), options())
				if err != nil || len(rs) != 1 || rs[0].Version.ID != r.Version.ID || rs[0].Version.Binding != apikey.BindingProved || claims() != 0 {
					t.Errorf("%+v, %v", rs, err)
				}
			})
		})
	}
}

var _ provider.StatusSetter = altered{}
