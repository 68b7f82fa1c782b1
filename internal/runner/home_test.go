package runner_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

const staging apikey.Name = "staging"

// lend makes a world in which the pre-production place "a" belongs to the key staging, and a plan that borrows it for the test.
func lend(t *testing.T) (w *world, p rotation.Plan, home apikey.Version) {
	t.Helper()
	w = newWorld(t, "a", "b")
	home = w.add(staging, apikey.Current)
	w.places.Place("a").Overwrite(w.vault.values[home.ID])
	if err := w.places.Driver("a").Reload(context.Background(), "home"); err != nil {
		t.Fatal(err)
	}
	err := w.store.Update(context.Background(), func(tx *store.Tx) error {
		return tx.SetDesired(store.Desired{Location: "a", Key: staging, Version: home.ID})
	})
	if err != nil {
		t.Fatal(err)
	}
	p = w.plan(rotation.Manual)
	p.Places[0].Home = staging
	return w, p, home
}

func (w *world) desired(place string) (found store.Desired) {
	w.t.Helper()
	err := w.store.View(context.Background(), func(tx *store.Tx) error {
		list, err := tx.Desired("")
		for _, d := range list {
			if d.Location == place {
				found = d
			}
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// atHome checks that the lent place holds, runs and is meant to hold the current version of its own key.
func (w *world) atHome(home apikey.Version) {
	w.t.Helper()
	if d := w.desired("a"); d.Key != staging || d.Version != home.ID {
		w.t.Errorf("a is meant to hold %q of %q, want %q of %q", d.Version, d.Key, home.ID, staging)
	}
	if held := w.places.Place("a").Held().Digest(); held != home.Digest {
		w.t.Errorf("a holds %s, want %s", held.Fingerprint(), home.Fingerprint())
	}
	consumers := w.places.Place("a").Consumers()
	if len(consumers) == 0 {
		w.t.Error("a has no consumers")
	}
	for _, d := range consumers {
		if d != home.Digest {
			w.t.Errorf("a consumer of a runs with %s, want %s", d.Fingerprint(), home.Fingerprint())
		}
	}
}

// TestLentPlaceComesHome: a pre-production place of another key is meant to hold the new version for the test alone, and its own key's again
// before production is touched.
func TestLentPlaceComesHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, plan, home := lend(t)
		fresh := w.inState(key, apikey.Spare)[0]
		var tested, touched atomic.Int32
		w.fault = func(_ string, e rotation.Effect) error {
			switch {
			case e.Verb == rotation.Probe && e.Place == "a" && e.ID == "staging/staging/a/probe":
				tested.Add(1)
				if d := w.desired("a"); d.Key != key || d.Version != fresh.ID {
					t.Errorf("during the test a is meant to hold %q of %q, want %q of %q", d.Version, d.Key, fresh.ID, key)
				}
			case e.Place == "b" && (e.Verb == rotation.Stage || e.Verb == rotation.Put || e.Verb == rotation.Promote):
				touched.Add(1)
				w.atHome(home)
			}
			return nil
		}
		row := w.finish(w.begin(plan).ID, nil)
		if row.Status != rotation.Done {
			t.Fatalf("ended %q: %s", row.Status, row.Note)
		}
		if tested.Load() == 0 || touched.Load() == 0 {
			t.Errorf("looked %d times during the test and %d times before production", tested.Load(), touched.Load())
		}
		w.atHome(home)
		if d := w.desired("b"); d.Key != key || d.Version != fresh.ID {
			t.Errorf("b is meant to hold %q of %q, want %q of %q", d.Version, d.Key, fresh.ID, key)
		}
	})
}

// TestLentPlaceComesHomeOnTheWayBack: a rotation that is cancelled while it borrows leaves the place as its own key wants it.
func TestLentPlaceComesHomeOnTheWayBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, plan, home := lend(t)
		var cancelled atomic.Bool
		w.fault = func(_ string, e rotation.Effect) error {
			if e.ID == "staging/staging/a/reload" && !cancelled.Swap(true) {
				w.signal(plan.ID, rotation.SignalCancel, rotation.SignalData{})
			}
			return nil
		}
		row := w.finish(w.begin(plan).ID, nil)
		if row.Status != rotation.Cancelled {
			t.Fatalf("ended %q: %s", row.Status, row.Note)
		}
		w.atHome(home)
	})
}
