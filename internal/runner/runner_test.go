package runner_test

import (
	"testing"
	"testing/synctest"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/rotation"
)

func TestOrdinaryRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c")
		row := w.finish(w.begin(w.plan(rotation.Manual)).ID, nil)
		if row.Status != rotation.Done {
			t.Fatalf("ended %q: %s", row.Status, row.Note)
		}
		w.check(row)
		if n := len(w.inState(key, apikey.Archived)); n != 1 {
			t.Errorf("%d archived versions", n)
		}
	})
}

func TestEmergencyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c")
		w.emergent = true
		row := w.finish(w.begin(w.plan(rotation.Emergency)).ID, nil)
		if row.Status != rotation.Done {
			t.Fatalf("ended %q: %s", row.Status, row.Note)
		}
		w.check(row)
		if old := w.inState(key, apikey.Inactive); len(old) != 1 || !old[0].Compromised {
			t.Errorf("inactive versions: %+v", old)
		}
	})
}
