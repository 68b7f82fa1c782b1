package rotation_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

var begin = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// driver plays the runner against the pure process: it makes every effect that is asked for, as answer says, and lets time pass.
type driver struct {
	t       *testing.T
	plan    rotation.Plan
	journal []rotation.Entry
	now     time.Time
	order   []string
	// answer gives the result of an effect; nil means an empty success.
	answer func(e rotation.Effect) (any, error)
	// wait is told about every sleep; it may add signals. It returns false to stop.
	wait func(m rotation.Move) bool
}

func newDriver(t *testing.T, plan rotation.Plan) *driver {
	return &driver{t: t, plan: plan, now: begin, answer: healthy, wait: func(rotation.Move) bool { return true }}
}

// healthy answers as a world in which all goes well.
func healthy(e rotation.Effect) (any, error) {
	switch e.Verb {
	case rotation.Acquire, rotation.Choose:
		return rotation.Acquired{Version: "v_new", Fingerprint: "kf_new"}, nil
	case rotation.Baseline:
		return rotation.ProbeState{Passed: true}, nil
	case rotation.Turn:
		return json.RawMessage(e.Arg), nil
	case rotation.Gather:
		return goodFacts(), nil
	}
	return struct{}{}, nil
}

func goodFacts() rotation.Facts {
	return rotation.Facts{At: begin, SoakOver: true, Admin: true,
		Usage:  rotation.UsageFact{Available: true, Source: "analytics", From: begin, To: begin.Add(time.Hour), FreshTo: begin.Add(2 * time.Hour), Alive: true},
		Places: []rotation.PlaceFact{{Name: "a", How: "read back", Known: true, HoldsNew: true}},
	}
}

func (d *driver) append(e rotation.Entry) {
	e.Seq, e.At = int64(len(d.journal)+1), d.now
	d.journal = append(d.journal, e)
}

func (d *driver) signal(s rotation.Signal, actor string, data rotation.SignalData) {
	b, err := json.Marshal(data)
	if err != nil {
		d.t.Fatal(err)
	}
	d.append(rotation.Entry{Type: rotation.Signalled, Signal: s, Actor: actor, Data: b})
}

// run drives the rotation to its end, or until wait says stop.
func (d *driver) run() rotation.Move {
	d.t.Helper()
	for range 5000 {
		m := rotation.Next(d.plan, d.journal, d.now)
		switch {
		case m.Status.Ended():
			return m
		case len(m.Do) > 0:
			for _, e := range m.Do {
				d.append(rotation.Entry{Type: rotation.Intended, Effect: e.ID})
			}
			for _, e := range m.Do {
				d.now = d.now.Add(100 * time.Millisecond)
				data, err := d.answer(e)
				if err != nil {
					d.append(rotation.Entry{Type: rotation.Missed, Effect: e.ID, Fault: rotation.FaultOf(err)})
					continue
				}
				b, err := json.Marshal(data)
				if err != nil {
					d.t.Fatal(err)
				}
				d.order = append(d.order, e.ID)
				d.append(rotation.Entry{Type: rotation.Made, Effect: e.ID, Data: b})
			}
		default:
			if m.Until.IsZero() || m.Until.After(d.now.Add(time.Hour+time.Second)) {
				d.t.Fatalf("parked without a bound: %+v", m)
			}
			if !d.wait(m) {
				return m
			}
			d.now = later(d.now.Add(time.Millisecond), m.Until)
		}
	}
	d.t.Fatalf("no end after 5000 moves; last effects %v", d.order[max(0, len(d.order)-5):])
	return rotation.Move{}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func plan() rotation.Plan {
	can := rotation.Can{Read: true, Reload: true, Confirm: true, Probe: true, Check: true}
	staged := can
	staged.Stage, staged.Remove = true, true
	return rotation.Plan{
		ID: "r-1", Key: "prod-primary", Kind: rotation.Manual, Process: rotation.ProcessOrdinary, UID: 1000,
		Old: "v_old", Backup: "prod-secondary", Pairs: []string{"prod-primary+prod-secondary"}, Admin: true, Usage: true, Tell: true,
		Places: []rotation.Place{{Name: "a", Can: can}, {Name: "b", Can: staged}, {Name: "c", Can: rotation.Can{}}},
		Waves: []rotation.Wave{
			{Name: "staging", Batches: [][]string{{"a"}}},
			{Name: "production", Production: true, Batches: [][]string{{"b"}, {"c"}}, Watch: time.Minute},
		},
		Tests: []rotation.Test{{Name: "diagnose"}},
		Soak:  24 * time.Hour, Watch: 24 * time.Hour, HealthWait: 30 * time.Second,
	}
}

func TestOrdinaryTopToBottom(t *testing.T) {
	d := newDriver(t, plan())
	m := d.run()
	if m.Status != rotation.Done {
		t.Fatalf("ended %q: %s", m.Status, m.Note)
	}
	var short []string
	for _, id := range d.order {
		if !strings.Contains(id, "soak/") && !strings.Contains(id, "/watch") {
			short = append(short, id)
		}
	}
	want := `preflight/a/check preflight/b/check preflight/c/check preflight/prod-secondary/check-backup preflight/check-clock preflight/tell
acquire/acquire test/test-value test/diagnose/test-run
staging/take-pair staging/staging/a/baseline staging/staging/a/put staging/staging/a/reload staging/staging/a/confirm staging/staging/a/probe
deploy/production/b/baseline deploy/production/b/stage deploy/production/b/promote deploy/production/b/reload deploy/production/b/confirm deploy/production/b/probe
deploy/production/b/probe-watch deploy/production/c/put
observe/drift flip observe/free-pair
evidence/round-1/1/check-clock evidence/round-1/1/heartbeat evidence/round-1/1/gather-1
retire/round-1/check-clock retire/round-1/deactivate retire/round-1/await-refused
archive/check-clock archive/archive archive/b/purge-place archive/purge-value
record/record record/tell`
	if got := strings.Join(short, " "); got != strings.ReplaceAll(want, "\n", " ") {
		t.Errorf("order:\n%s", strings.Join(short, "\n"))
	}
	if took := d.now.Sub(begin); took < 48*time.Hour || took > 50*time.Hour {
		t.Errorf("took %v", took)
	}
}

func TestCancelBeforeTheFlipPutsEverythingBack(t *testing.T) {
	d := newDriver(t, plan())
	d.answer = func(e rotation.Effect) (any, error) {
		if e.ID == "deploy/production/b/promote" {
			d.signal(rotation.SignalCancel, "op", rotation.SignalData{UID: 1000})
		}
		return healthy(e)
	}
	m := d.run()
	got := strings.Join(d.order[len(d.order)-11:], " ")
	want := "deploy/production/b/promote turn undo/b/put-back undo/b/reload-old undo/b/confirm-old undo/a/put-back undo/a/reload-old undo/a/confirm-old undo/settle undo/record undo/tell"
	if m.Status != rotation.Cancelled || got != want {
		t.Errorf("ended %q (%s):\n%s", m.Status, m.Note, got)
	}
}

func TestProofTurnsBackAndStaysTurned(t *testing.T) {
	d := newDriver(t, plan())
	d.answer = func(e rotation.Effect) (any, error) {
		switch {
		case e.ID == "deploy/production/b/probe":
			return nil, fault.New(fault.Unavailable, "probe http: status 500")
		case e.ID == "undo/a/put-back" && len(d.order) > 0 && !strings.Contains(fmt.Sprint(d.journal), "resume"):
			return nil, fault.New(fault.Forbidden, "write a: no right")
		}
		return healthy(e)
	}
	d.wait = func(m rotation.Move) bool {
		if m.Status == rotation.Paused {
			d.signal(rotation.SignalResume, "op", rotation.SignalData{})
		}
		return true
	}
	m := d.run()
	if m.Status != rotation.RolledBack {
		t.Fatalf("ended %q: %s", m.Status, m.Note)
	}
	if strings.Contains(strings.Join(d.order, " "), "flip") {
		t.Error("flipped after the decision to turn back")
	}
}

func TestFailedTestChangesNothing(t *testing.T) {
	d := newDriver(t, plan())
	d.answer = func(e rotation.Effect) (any, error) {
		if e.Verb == rotation.TestValue {
			return nil, fault.New(fault.Unauthenticated, "the provider refuses the new value")
		}
		return healthy(e)
	}
	m := d.run()
	if m.Status != rotation.Failed {
		t.Fatalf("ended %q: %s", m.Status, m.Note)
	}
	for _, id := range d.order {
		if strings.Contains(id, "put") || strings.Contains(id, "stage") {
			t.Errorf("wrote: %s", id)
		}
	}
}

func TestRefusedConsumerBringsTheOldVersionBack(t *testing.T) {
	d := newDriver(t, plan())
	d.answer = func(e rotation.Effect) (any, error) {
		if e.ID == "retire/round-1/2/watch" {
			return rotation.WatchState{Refused: []string{"b"}}, nil
		}
		return healthy(e)
	}
	paused := 0
	d.wait = func(m rotation.Move) bool {
		if m.Status == rotation.Paused {
			paused++
			d.signal(rotation.SignalResume, "op", rotation.SignalData{})
		}
		return true
	}
	m := d.run()
	all := strings.Join(d.order, " ")
	if m.Status != rotation.Done || paused != 1 || !strings.Contains(all, "retire/round-1/activate") || !strings.Contains(all, "retire/round-2/deactivate") {
		t.Errorf("ended %q, paused %d times:\n%s", m.Status, paused, all)
	}
}

func TestEmergencyDoesAllAtOnce(t *testing.T) {
	p := plan()
	p.Kind, p.Process, p.Soak = rotation.Emergency, rotation.ProcessEmergency, 0
	d := newDriver(t, p)
	m := d.run()
	if m.Status != rotation.Done || d.now.Sub(begin) > 10*time.Second {
		t.Errorf("ended %q after %v:\n%s", m.Status, d.now.Sub(begin), strings.Join(d.order, "\n"))
	}
	d2 := newDriver(t, p)
	for _, e := range rotation.Next(p, nil, begin).Do {
		d2.append(rotation.Entry{Type: rotation.Intended, Effect: e.ID})
		d2.append(rotation.Entry{Type: rotation.Made, Effect: e.ID, Data: []byte("{}")})
	}
	d2.append(rotation.Entry{Type: rotation.Intended, Effect: "preflight/tell"})
	d2.append(rotation.Entry{Type: rotation.Made, Effect: "preflight/tell", Data: []byte("{}")})
	if n := len(rotation.Next(p, d2.journal, begin).Do); n != len(p.Places)+1 {
		t.Errorf("%d effects side by side, want %d", n, len(p.Places)+1)
	}
}
