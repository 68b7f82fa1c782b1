package main

import (
	"path/filepath"
	"testing"

	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/monitor"
	"github.com/keywright/keywright/internal/store"
)

// What is measured is what it is said to be: a file that is read without a problem, and a store that holds every key.
func TestPrepare(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	env, err := scene{configured: 2, stored: 3}.prepare(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c, warnings, err := config.Load(t.Context(), []string{filepath.Join(env.home, "keywright.yaml")}, config.Options{})
	if err != nil || len(warnings) > 0 || len(c.Keys) != 2 || len(c.Locations) != 2 {
		t.Fatalf("%v %v %v", c, warnings, err)
	}
	s, err := store.Open(t.Context(), filepath.Join(c.State.Dir, "keywright.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	status, err := monitor.Collect(t.Context(), monitor.Source{Store: s})
	if err != nil || len(status.Keys) != 3 {
		t.Fatalf("%d keys: %v", len(status.Keys), err)
	}
	for _, k := range status.Keys {
		if k.Fingerprint == "" || k.LastRotation == nil || k.Places.InSync != 1 {
			t.Errorf("%+v", k)
		}
	}
}
