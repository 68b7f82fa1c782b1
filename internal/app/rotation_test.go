package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

func TestARotationWithoutItsWitnessDoesNotBegin(t *testing.T) {
	w := newWorld(t, "state: { witness: elsewhere/witness }\n"+oneKey)
	a := w.open()
	w.deploy(a, "app")
	begin := func(kind rotation.Kind, reason rotation.Reason) error {
		t.Helper()
		p, err := a.Plan(t.Context(), Wish{Key: "app", Kind: kind, Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Begin(t.Context(), p)
		return err
	}
	refused := func() {
		t.Helper()
		for kind, reason := range map[rotation.Kind]rotation.Reason{rotation.Scheduled: rotation.ReasonScheduled, rotation.Manual: rotation.ReasonLaunch} {
			if err := begin(kind, reason); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
	refused()
	w.write("elsewhere", "a file in place of the directory")
	refused()
	if err := os.Remove(filepath.Join(w.dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := begin(rotation.Emergency, rotation.ReasonCompromise); err != nil {
		t.Errorf("an emergency waits for no witness: %v", err)
	}

	w = newWorld(t, "state: { witness: elsewhere/witness }\n"+oneKey)
	a = w.open()
	w.deploy(a, "app")
	if err := os.Mkdir(filepath.Join(w.dir, "elsewhere"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := begin(rotation.Manual, rotation.ReasonLaunch); err != nil {
		t.Error(err)
	}
}
