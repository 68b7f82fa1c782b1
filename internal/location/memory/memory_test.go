package memory_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

var kinds = map[int]fault.Kind{401: fault.Unauthenticated, 403: fault.Forbidden, 404: fault.NotFound, 409: fault.Conflict, 429: fault.RateLimited, 500: fault.Unavailable}

func harness(how location.Knowledge) locationtest.Harness {
	var n atomic.Int64
	return locationtest.Harness{
		How: how, CAS: true, ReloadsOnce: true, RetryAfter: true,
		Faults: append(locationtest.StatusFaults(), locationtest.Interruptions()...),
		New: func(testing.TB) *locationtest.Place {
			s := memory.NewServer(nil)
			name := fmt.Sprintf("place-%d", n.Add(1))
			p := s.Place(name)
			p.SetKnowledge(how)
			return &locationtest.Place{
				Driver: s.Driver(name),
				Again:  func() location.Driver { return s.Driver(name) },
				Held: func(testing.TB) ([]byte, bool) {
					v := p.Held()
					return []byte(v.RevealString()), !v.IsZero()
				},
				Overwrite:    func(_ testing.TB, v secret.Value) { p.Overwrite(v) },
				Neighbours:   func(testing.TB) []byte { return p.Neighbours() },
				Disturb:      func(testing.TB) { p.Disturb([]byte("OTHER=2\n")) },
				StageForeign: func(_ testing.TB, v secret.Value) { p.StageForeign(v) },
				Copies: func(testing.TB) [][]byte {
					var all [][]byte
					for _, v := range p.Copies() {
						all = append(all, []byte(v.RevealString()))
					}
					return all
				},
				Reloads: func(testing.TB) int { return p.Reloads() },
				Break: func(_ testing.TB, f locationtest.Fault) {
					p.Break(memory.Fault{OnWrite: f.OnWrite, Kind: kinds[f.Status], Cut: f.Cut, Hang: f.Hang, Garbage: f.Garbage, RetryAfter: locationtest.RetryAfterSeconds * time.Second})
				},
			}
		},
	}
}

func TestConformance(t *testing.T) { locationtest.Run(t, harness(location.ReadBack)) }

func TestConformanceWithLabels(t *testing.T) { locationtest.Run(t, harness(location.Label)) }

func TestConformanceOfAPlaceThatTellsTimes(t *testing.T) {
	locationtest.Run(t, harness(location.ChangedAt))
}

func TestConformanceOfAPlaceThatTellsNothing(t *testing.T) {
	h := harness(location.Nothing)
	h.CAS = false
	locationtest.Run(t, h)
}

func TestDelayRunsOnTheClockOfTheTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer(nil)
		s.Place("slow").Delay(memory.Put, 50*time.Millisecond)
		start := time.Now()
		if _, err := s.Driver("slow").Put(t.Context(), secrettest.Fake(t), location.Expect{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 50*time.Millisecond {
			t.Errorf("a put took %v", took)
		}
	})
}

func TestFaultsHitWhatTheyName(t *testing.T) {
	s := memory.NewServer(nil)
	p, d := s.Place("a"), s.Driver("a")
	p.Break(memory.Fault{Method: memory.Probe, Kind: fault.Forbidden, Times: 2})
	if _, err := d.Inspect(t.Context()); err != nil {
		t.Fatalf("Inspect met the fault of Probe: %v", err)
	}
	for i, want := range []fault.Kind{fault.Forbidden, fault.Forbidden, fault.Unknown} {
		if got := fault.KindOf(d.Probe(t.Context())); got != want {
			t.Errorf("probe %d: %v, want %v", i, got, want)
		}
	}
	if calls := p.Calls(); len(calls) != 4 || calls[1].Err != fault.Forbidden || !calls[1].Failed || calls[3].Failed {
		t.Errorf("calls: %+v", calls)
	}
}
