package intake_test

import (
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/intake"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/internal/store"
)

func (w *world) adopt(from intake.Source, slot intake.Slot) (intake.Result, error) {
	w.t.Helper()
	r, err := w.intake().Adopt(w.t.Context(), from, slot, options())
	w.keep(r)
	w.keepErr(err)
	return r, err
}

func (w *world) desired() map[string]apikey.VersionID {
	w.t.Helper()
	meant := map[string]apikey.VersionID{}
	err := w.store.View(w.t.Context(), func(tx *store.Tx) error {
		list, err := tx.Desired("")
		for _, d := range list {
			meant[d.Location] = d.Version
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return meant
}

func TestAdopt(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		id, v := w.make(simulator.CreateKey{Name: "made by hand", Principal: simulator.Principal{Kind: simulator.PrincipalUser}})
		_, foreign := w.make(simulator.CreateKey{Name: "other"})
		slot := w.slot()
		a, b := w.place("a", v), w.place("b", v)
		slot.Locations = []*location.Location{a, b}
		r, err := w.adopt(intake.Source{}, slot)
		if err != nil {
			t.Fatalf("%v (%s)", err, fault.HintOf(err))
		}
		x := r.Version
		if x.State != apikey.Current || !x.Adopted || x.ProviderID != id || x.Binding != apikey.BindingHint || !x.Activated.Equal(x.Created) || w.changes() != 0 {
			t.Errorf("%+v, %d changes", x, w.changes())
		}
		if outcome(r, intake.CheckPrincipal) != intake.Warn || outcome(r, intake.CheckName) != intake.Warn {
			t.Errorf("checks: %+v", r.Checks)
		}
		if got := w.desired(); got["a"] != x.ID || got["b"] != x.ID {
			t.Errorf("meant to hold: %v", got)
		}
		var seen []store.Observation
		_ = w.store.View(t.Context(), func(tx *store.Tx) (err error) {
			seen, err = tx.Observations()
			return err
		})
		if len(seen) != 2 || !strings.Contains(string(seen[0].Holding), "read back") {
			t.Errorf("observed %+v", seen)
		}
		if r, err = w.adopt(intake.Source{Location: a}, slot); err != nil || !r.Known || len(w.versions()) != 1 {
			t.Errorf("again: %+v, %v", r, err)
		}
		// Another value does not take its place.
		_, err = w.adopt(intake.Source{Reader: input(foreign)}, slot)
		wantKind(t, err, fault.Conflict)
	})
}

func TestAdoptWhereFromAndDrift(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		_, stale := w.make(simulator.CreateKey{Name: "stale"})
		slot := w.slot()
		_, err := w.adopt(intake.Source{}, slot)
		wantKind(t, err, fault.NotFound)

		a, b := w.place("a", v), w.place("b", stale)
		c := w.place("c", v)
		w.places.Place("c").SetKnowledge(location.ChangedAt)
		slot.Locations = []*location.Location{a, b, c, w.place("d", secret.Value{})}
		_, err = w.adopt(intake.Source{}, slot)
		wantKind(t, err, fault.Conflict)
		if !strings.Contains(err.Error(), " in a") || !strings.Contains(err.Error(), " in b") || !strings.Contains(fault.HintOf(err), "--from") {
			t.Errorf("%v (%s)", err, fault.HintOf(err))
		}
		r, err := w.adopt(intake.Source{Location: a}, slot)
		if err != nil {
			t.Fatal(err)
		}
		says := text(r, intake.CheckPlaces)
		for _, want := range []string{"a holds it (read back)", "b holds another value", "c cannot be read back (changed)", "d holds nothing"} {
			if !strings.Contains(says, want) {
				t.Errorf("not said: %s\n%s", want, says)
			}
		}
		if len(w.desired()) != 4 {
			t.Errorf("meant to hold: %v", w.desired())
		}
	})
}

func TestAdoptASpareThatWasDeployedByHand(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		x := w.mustAdd(v)
		slot := w.slot()
		slot.Locations = []*location.Location{w.place("a", v)}
		w.update(func(tx *store.Tx) error { return tx.ClaimSpare(x.ID, "r-1") })
		_, err := w.adopt(intake.Source{}, slot)
		wantKind(t, err, fault.Conflict)
		w.update(func(tx *store.Tx) error { return tx.ReleaseClaim("r-1") })
		r, err := w.adopt(intake.Source{}, slot)
		if err != nil || r.Version.ID != x.ID || r.Version.State != apikey.Current || w.versions()[0].State != apikey.Current || w.desired()["a"] != x.ID {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestAdoptKeepsMarks leaves alone what was decided about a place for another key.
func TestAdoptKeepsMarks(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		_, other := w.make(simulator.CreateKey{Name: "other"})
		slot := w.slot()
		slot.Key = "other"
		r, err := w.add(w.intake(), other, slot, options())
		if err != nil {
			t.Fatal(err)
		}
		_, dead := w.make(simulator.CreateKey{Name: "dead"})
		old := w.become(w.mustAdd(dead).ID, func(v *apikey.Version) { v.State = apikey.Rejected })
		w.update(func(tx *store.Tx) error {
			if err := tx.SetDesired(store.Desired{Location: "a", Key: "other", Version: r.Version.ID}); err != nil {
				return err
			}
			return tx.SetDesired(store.Desired{Location: "b", Key: key, Version: old.ID})
		})
		_, v := w.make(simulator.CreateKey{})
		slot = w.slot()
		slot.Locations = []*location.Location{w.place("a", v), w.place("b", v)}
		got, err := w.adopt(intake.Source{}, slot)
		if err != nil || w.desired()["a"] != r.Version.ID || w.desired()["b"] != got.Version.ID {
			t.Errorf("%v, %v", w.desired(), err)
		}
	})
}

func TestAdoptRefusesASharedValue(t *testing.T) {
	inBubble(t, simulator.Options{}, func(t *testing.T, w *world) {
		_, v := w.make(simulator.CreateKey{})
		w.mustAdd(v)
		slot := w.slot()
		slot.Key, slot.Environment = "staging", apikey.Staging
		slot.Locations = []*location.Location{w.place("a", v)}
		_, err := w.adopt(intake.Source{}, slot)
		wantKind(t, err, fault.Conflict)
		if len(w.desired()) != 0 {
			t.Errorf("%v", w.desired())
		}
	})
}
