package report

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

var update = flag.Bool("update", false, "write the golden files anew")

var begin = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// world plays the runner against the real process, so that the journal is of the form that the runner writes.
type world struct {
	t       *testing.T
	plan    rotation.Plan
	journal []rotation.Entry
	now     time.Time
	answer  func(e rotation.Effect) (any, error)
	wait    func(m rotation.Move) bool
	status  rotation.Status
	note    string
}

func version(id string, first byte, state apikey.State) apikey.Version {
	return apikey.Version{
		ID: apikey.VersionID(id), Key: "prod-primary", State: state, Digest: apikey.Digest{first, 0xaa, 0xbb, 0xcc}, ProviderID: "apikey_01" + id[2:], Binding: apikey.BindingProved,
		CreatedBy: "ops@zensupport.example", Created: begin.Add(-72 * time.Hour), Added: begin.Add(-70 * time.Hour), Changed: begin.Add(48 * time.Hour),
	}
}

func plan() rotation.Plan {
	full := rotation.Can{Read: true, Reload: true, Confirm: true, Probe: true, Check: true}
	staged := full
	staged.Stage, staged.Remove = true, true
	return rotation.Plan{
		ID: "r-2026-11-21-prod-primary", Key: "prod-primary", Kind: rotation.Manual, Process: rotation.ProcessOrdinary, UID: 1000, Actor: "john@ops-1",
		Reason: rotation.ReasonScheduled, Note: "quarterly", Created: begin, Old: "v_old", Backup: "prod-secondary", Admin: true, Usage: true, Tell: true, Approvals: 1,
		Places: []rotation.Place{
			{Name: "staging-env", Kind: "env-file", Can: full}, {Name: "aws-prod", Kind: "aws-secrets-manager", Can: staged},
			{Name: "ci", Kind: "exec", Can: rotation.Can{}}, {Name: "wiki", Kind: "manual", Can: rotation.Can{Manual: true}},
		},
		Waves: []rotation.Wave{
			{Name: "staging", Batches: [][]string{{"staging-env"}}},
			{Name: "production", Production: true, Batches: [][]string{{"aws-prod"}, {"ci", "wiki"}}},
		},
		Tests: []rotation.Test{{Name: "diagnose"}}, Soak: 24 * time.Hour, Watch: 24 * time.Hour, HealthWait: 30 * time.Second,
	}
}

func newWorld(t *testing.T, p rotation.Plan) *world {
	w := &world{t: t, plan: p, now: begin}
	w.answer = w.healthy
	w.wait = w.helpful
	return w
}

func (w *world) healthy(e rotation.Effect) (any, error) {
	switch e.Verb {
	case rotation.Acquire, rotation.Choose:
		return rotation.Acquired{Version: "v_new", Fingerprint: "kf_new"}, nil
	case rotation.Baseline:
		return rotation.ProbeState{Passed: true}, nil
	case rotation.Turn:
		return json.RawMessage(e.Arg), nil
	case rotation.Confirm:
		return map[string]any{"how": "read back", "running": 3, "taken": 3}, nil
	case rotation.Gather:
		return w.facts(), nil
	}
	return struct{}{}, nil
}

func (w *world) facts() rotation.Facts {
	return rotation.Facts{
		At: w.now, SoakOver: true, SoakUntil: w.now, Admin: true,
		Usage: rotation.UsageFact{Available: true, Source: "analytics", From: begin, To: w.now, FreshTo: w.now.Add(time.Hour), Alive: true, New: 100},
		Places: []rotation.PlaceFact{
			{Name: "staging-env", How: "read back", Known: true, HoldsNew: true}, {Name: "aws-prod", How: "read back", Known: true, HoldsNew: true},
			{Name: "ci", How: "changed", Changed: begin.Add(time.Minute), Signal: true}, {Name: "wiki", How: "signed", Signed: true, By: "jane@ops-2"},
		},
	}
}

// helpful gives every approval and signature that is waited for, and resumes what is paused.
func (w *world) helpful(m rotation.Move) bool {
	switch {
	case m.Status == rotation.Paused:
		w.signal(rotation.SignalResume, "jane@ops-2", rotation.SignalData{UID: 1001})
	case m.Status == rotation.Waiting && m.Hint == "keywright rotation approve "+w.plan.ID:
		w.signal(rotation.SignalApprove, "jane@ops-2", rotation.SignalData{UID: 1001, PlanHash: w.plan.Hash(), Note: "go"})
	case m.Status == rotation.Waiting:
		if subject, ok := strings.CutPrefix(m.Hint, "keywright rotation sign "+w.plan.ID+" "); ok {
			w.signal(rotation.SignalSign, "jane@ops-2", rotation.SignalData{UID: 1001, Subject: subject, Note: "changed in the vault"})
		}
	}
	return true
}

func (w *world) append(e rotation.Entry) {
	e.Seq, e.At = int64(len(w.journal)+1), w.now
	w.journal = append(w.journal, e)
}

func (w *world) signal(s rotation.Signal, actor string, d rotation.SignalData) {
	b, err := json.Marshal(d)
	if err != nil {
		w.t.Fatal(err)
	}
	w.now = w.now.Add(time.Second)
	w.append(rotation.Entry{Type: rotation.Signalled, Signal: s, Actor: actor, Data: b})
}

// run drives the rotation to its end, or until wait or a stop of the effect says so.
func (w *world) run() *world {
	w.t.Helper()
	for range 3000 {
		m := rotation.Next(w.plan, w.journal, w.now)
		w.status, w.note = m.Status, m.Note
		if m.Status.Ended() {
			return w
		}
		for _, e := range m.Do {
			w.append(rotation.Entry{Type: rotation.Intended, Effect: e.ID})
		}
		for _, e := range m.Do {
			w.now = w.now.Add(100 * time.Millisecond)
			data, err := w.answer(e)
			if err != nil {
				w.append(rotation.Entry{Type: rotation.Missed, Effect: e.ID, Fault: rotation.FaultOf(err)})
				continue
			}
			b, err := json.Marshal(data)
			if err != nil {
				w.t.Fatal(err)
			}
			w.append(rotation.Entry{Type: rotation.Made, Effect: e.ID, Data: b})
		}
		if len(m.Do) > 0 {
			continue
		}
		if !w.wait(m) {
			return w
		}
		if next := w.now.Add(time.Millisecond); m.Until.After(next) {
			w.now = m.Until
		} else {
			w.now = next
		}
	}
	w.t.Fatalf("no end: %s", w.note)
	return w
}

// input gives what app would.
func (w *world) input() Input {
	in := Input{
		Row:     rotation.Row{ID: w.plan.ID, Key: w.plan.Key, Kind: w.plan.Kind, Status: w.status, Plan: w.plan, Created: begin},
		Journal: w.journal, Owner: "platform@zensupport.example", Now: w.now,
		Versions: map[rotation.Role]apikey.Version{rotation.Old: version("v_old", 0x3f, apikey.Archived), rotation.New: version("v_new", 0xb7, apikey.Current)},
		NextDue:  begin.Add(90 * 24 * time.Hour), ScheduledIn: "keywright.ics",
	}
	if w.status.Ended() {
		in.Row.Ended = w.now
	}
	holding := func(first byte) json.RawMessage {
		b, err := json.Marshal(map[string]any{"Present": true, "How": "read back", "Digest": apikey.Digest{first, 0xaa, 0xbb, 0xcc}})
		if err != nil {
			w.t.Fatal(err)
		}
		return b
	}
	in.Seen = []Seen{
		SeenAt("staging-env", w.now, holding(0xb7), nil), SeenAt("aws-prod", w.now, holding(0xb7), nil),
		SeenAt("ci", w.now, json.RawMessage(`{"Present":true,"How":"changed","ChangedAt":"2026-11-21T12:01:00Z"}`), nil),
	}
	return in
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); go test -update writes it anew:\n%s", name, diff)
	}
}

func unavailable(message string) error { return fault.New(fault.Unavailable, message) }
