package monitor

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// thousand fills a store with a thousand keys: two versions, two places and an ended rotation each, and a rotation under way for ten.
func thousand(b *testing.B) (path string, keys []Key) {
	b.Helper()
	dir, err := filepath.EvalSymlinks(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	path = filepath.Join(dir, "k.db")
	s, err := store.Open(b.Context(), path, store.Options{Now: clock})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	class := apikey.Classes()[0]
	update(b, s, func(tx *store.Tx) error {
		keys = nil
		for i := range 1000 {
			name := apikey.Name(fmt.Sprintf("key-%d", i))
			k := Key{Name: name, Environment: class.Environment, Class: class, Owner: "platform"}
			current := version(fmt.Sprintf("v_c%d", i), name, apikey.Current, 0)
			current.Digest = apikey.Digest{1, byte(i), byte(i >> 8)}
			previous := version(fmt.Sprintf("v_p%d", i), name, apikey.Previous, 0)
			previous.Digest = apikey.Digest{2, byte(i), byte(i >> 8)}
			for _, v := range []apikey.Version{current, previous} {
				if err := tx.PutVersion(v); err != nil {
					return err
				}
			}
			plan := rotation.Plan{ID: fmt.Sprintf("r-%d", i), Key: name, Process: rotation.ProcessOrdinary, Old: previous.ID}
			for _, place := range []string{fmt.Sprintf("a-%d", i), fmt.Sprintf("b-%d", i)} {
				k.Locations = append(k.Locations, Place{Name: place, Kind: "env-file"})
				plan.Places = append(plan.Places, rotation.Place{Name: place, Kind: "env-file", Address: "env-file:/etc/" + place, Config: json.RawMessage(`{"path":"/etc/app.env","variable":"ANTHROPIC_API_KEY"}`)})
				if err := tx.SetDesired(store.Desired{Location: place, Key: name, Version: current.ID, Rotation: plan.ID}); err != nil {
					return err
				}
				h, err := json.Marshal(location.Holding{Present: true, How: location.ReadBack, Digest: current.Digest, ChangedAt: now, Revision: "sha256:0123456789abcdef"})
				if err != nil {
					return err
				}
				if err := tx.PutObservation(store.Observation{Location: place, Holding: h}); err != nil {
					return err
				}
			}
			if err := rotated(tx, plan, i); err != nil {
				return err
			}
			keys = append(keys, k)
		}
		return nil
	})
	return path, keys
}

func rotated(tx *store.Tx, plan rotation.Plan, i int) error {
	if err := tx.CreateRotation(rotation.Row{ID: plan.ID, Key: plan.Key, Kind: rotation.Manual, Status: rotation.Running, Plan: plan}); err != nil {
		return err
	}
	if i%100 != 0 {
		return tx.SetStatus(plan.ID, 0, store.SetStatus{Status: rotation.Done})
	}
	for j := range 60 {
		if err := tx.Append(plan.ID, 0, rotation.Entry{Type: rotation.Made, Effect: fmt.Sprintf("soak/%d/drift", j), Data: json.RawMessage(`{}`)}); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkCollect gathers the status of a thousand keys, without and with the opening of the store. The bar for the whole command is 60 ms.
func BenchmarkCollect(b *testing.B) {
	path, keys := thousand(b)
	source := Source{Keys: keys, Now: clock}
	check := func(s Status) {
		if len(s.Keys) != 1000 || s.Keys[7].Places.InSync != 2 || s.Keys[7].LastRotation == nil || s.Keys[100].Rotation == nil {
			b.Fatalf("%+v", s.Keys[7])
		}
	}
	b.Run("open", func(b *testing.B) {
		defer processor(b)()
		s, err := store.Open(b.Context(), path, store.Options{Now: clock})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		source.Store = s
		for b.Loop() {
			check(collect(b, source))
		}
	})
	b.Run("cold", func(b *testing.B) {
		defer processor(b)()
		for b.Loop() {
			s, err := store.Open(b.Context(), path, store.Options{Now: clock})
			if err != nil {
				b.Fatal(err)
			}
			source.Store = s
			check(collect(b, source))
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// processor reports the processor time of an operation, which other work of the machine does not disturb.
func processor(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64((used()-before)/time.Duration(b.N))/1e6, "cpu-ms/op") }
}
