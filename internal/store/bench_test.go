package store

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/rotation"
)

// BenchmarkStep is what the engine asks of the store for one effect: an intent, and a result with its audit entry, each an
// Update under the fence.
func BenchmarkStep(b *testing.B) { benchmarkStep(b, file) }

func benchmarkStep(b *testing.B, place func(testing.TB) string) {
	s := open(b, place(b), Options{})
	create(b, s, row("r-1", "k", time.Now()))
	r, err := s.ClaimID(b.Context(), "r-1", "a", MaxLease)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		update(b, s, func(tx *Tx) error {
			return tx.Append("r-1", r.Fence, rotation.Entry{Type: rotation.Intended, Effect: "put/a"})
		})
		update(b, s, func(tx *Tx) error {
			if err := tx.Append("r-1", r.Fence, rotation.Entry{Type: rotation.Made, Effect: "put/a", Data: json.RawMessage(`{"read":true}`)}); err != nil {
				return err
			}
			return tx.Record(event.Event{Type: event.EffectDone, Key: "k", Rotation: "r-1", Effect: "put/a"})
		})
	}
}

// BenchmarkClaim takes one due row of a thousand rotations that sleep, and parks it.
func BenchmarkClaim(b *testing.B) {
	s := open(b, file(b), Options{})
	fill(b, s, 1000, false)
	create(b, s, row("r-due", "due", time.Now()))
	for b.Loop() {
		r, ok, err := s.Claim(b.Context(), "a", MaxLease)
		if err != nil || !ok {
			b.Fatal(ok, err)
		}
		if _, err := s.Park(b.Context(), r.ID, r.Fence, r.Signals, Parking{Status: rotation.Waiting, WakeAt: time.Now()}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdleClaim is a poll of a store in which a thousand rotations sleep and none is due.
func BenchmarkIdleClaim(b *testing.B) {
	s := open(b, file(b), Options{})
	fill(b, s, 1000, false)
	for b.Loop() {
		if _, ok, err := s.Claim(b.Context(), "a", MaxLease); ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkFence is one look of a driver at the rotation it works on.
func BenchmarkFence(b *testing.B) {
	s := open(b, file(b), Options{})
	create(b, s, row("r-1", "k", time.Now()))
	for b.Loop() {
		if _, _, _, err := s.Fence(b.Context(), "r-1"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStatus opens a store of a thousand keys, with two versions each, and reads what a status screen shows.
func BenchmarkStatus(b *testing.B) {
	path := file(b)
	fill(b, open(b, path, Options{}), 1000, true)
	for b.Loop() {
		s, err := Open(b.Context(), path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		view(b, s, func(tx *Tx) error {
			versions, err := tx.Versions("")
			if err != nil || len(versions) != 2000 {
				b.Fatal(len(versions), err)
			}
			desired, err := tx.Desired("")
			if err != nil || len(desired) != 1000 {
				b.Fatal(len(desired), err)
			}
			seen, err := tx.Observations()
			if err != nil || len(seen) != 1000 {
				b.Fatal(len(seen), err)
			}
			_, err = tx.Rotations(RotationFilter{Active: true})
			return err
		})
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// fill adds n keys, each with a sleeping rotation, or with two versions and a location.
func fill(b *testing.B, s *Store, n int, inventory bool) {
	b.Helper()
	update(b, s, func(tx *Tx) error {
		for i := range n {
			key := fmt.Sprintf("key-%d", i)
			if !inventory {
				r := row(fmt.Sprintf("r-%d", i), apikey.Name(key), time.Now())
				r.WakeAt = time.Now().Add(24 * time.Hour)
				if err := tx.CreateRotation(r); err != nil {
					return err
				}
				continue
			}
			for _, state := range []apikey.State{apikey.Current, apikey.Previous} {
				id := fmt.Sprintf("v_%s_%d", state, i)
				if err := tx.PutVersion(version(id, apikey.Name(key), state, id)); err != nil {
					return err
				}
			}
			current := apikey.VersionID(fmt.Sprintf("v_current_%d", i))
			if err := tx.SetDesired(Desired{Location: key, Key: apikey.Name(key), Version: current}); err != nil {
				return err
			}
			if err := tx.PutObservation(Observation{Location: key, Holding: json.RawMessage(`{"how":"read back","digest":"00"}`)}); err != nil {
				return err
			}
		}
		return nil
	})
}
