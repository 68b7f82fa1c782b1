package report

import (
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/rotation"
)

func box(t *testing.T, boxes []Box, id string) Box {
	t.Helper()
	for _, b := range boxes {
		if b.ID == id {
			return b
		}
	}
	t.Fatalf("no box %q", id)
	return Box{}
}

func ticks(boxes []Box) string {
	var ids []string
	for _, b := range boxes {
		if b.Done {
			ids = append(ids, b.ID)
		}
	}
	return strings.Join(ids, " ")
}

func TestChecklistOfARotation(t *testing.T) {
	w := newWorld(t, plan()).run()
	boxes := Checklist(w.input())
	if len(boxes) != 10 {
		t.Fatalf("%d boxes", len(boxes))
	}
	// ci was written and cannot be read, is not probed, and nobody signed for it.
	if got := ticks(boxes); got != "created tested revoked documented scheduled notified" {
		t.Errorf("ticked: %s", got)
	}
	for _, b := range boxes {
		if b.Text == "" || b.Evidence == "" || b.Source == "" || b.Done && b.At.IsZero() {
			t.Errorf("%+v", b)
		}
		if !b.Done && !b.Against && !strings.Contains(b.Evidence, "ci") {
			t.Errorf("%s is open for %q", b.ID, b.Evidence)
		}
	}
}

func TestASignatureTicksWhatIsMissing(t *testing.T) {
	w := newWorld(t, plan())
	w.wait = func(m rotation.Move) bool {
		if m.Hint != "" && w.plan.ID != "" && strings.HasSuffix(m.Hint, " wiki") {
			w.signal(rotation.SignalSign, "jane@ops-2", rotation.SignalData{UID: 1001, Subject: "ci", Note: "looked in the settings"})
		}
		return w.helpful(m)
	}
	w.run()
	if b := box(t, Checklist(w.input()), "updated"); !b.Done || b.Signed {
		t.Errorf("with a signature for the place: %+v", b)
	}
	w.signal(rotation.SignalSign, "jane@ops-2", rotation.SignalData{UID: 1001, Subject: "checklist/verified", Note: "tried it"})
	boxes := Checklist(w.input())
	if b := box(t, boxes, "verified"); !b.Done || !b.Signed || !strings.Contains(b.Evidence, "jane@ops-2: tried it") {
		t.Errorf("signed: %+v", b)
	}
	if b := box(t, boxes, "undisturbed"); b.Done {
		t.Errorf("signed for another box: %+v", b)
	}
	w.signal(rotation.SignalSign, "jane@ops-2", rotation.SignalData{UID: 1001, Subject: "checklist"})
	if got := ticks(Checklist(w.input())); len(strings.Fields(got)) != 10 {
		t.Errorf("signed for all, ticked: %s", got)
	}
}

// TestNoSignatureOverridesEvidence signs for everything while facts speak against it.
func TestNoSignatureOverridesEvidence(t *testing.T) {
	failed := false
	w := newWorld(t, plan())
	w.answer = func(e rotation.Effect) (any, error) {
		if e.ID == "deploy/production/aws-prod/probe" && !failed {
			failed = true
			return nil, unavailable("probe http: status 500")
		}
		return w.healthy(e)
	}
	w.run()
	w.signal(rotation.SignalSign, "jane@ops-2", rotation.SignalData{UID: 1001, Subject: "checklist"})
	in := w.input()
	in.Seen[1].Held = in.Versions[rotation.Old].Fingerprint() // aws-prod holds the old value again
	boxes := Checklist(in)
	for _, id := range []string{"updated", "removed", "undisturbed"} {
		if b := box(t, boxes, id); b.Done || !b.Against {
			t.Errorf("%s: %+v", id, b)
		}
	}
}

func TestChecklistOfATurn(t *testing.T) {
	w := newWorld(t, plan())
	w.answer = func(e rotation.Effect) (any, error) {
		if e.ID == "deploy/production/aws-prod/probe" {
			return nil, unavailable("probe http: status 500")
		}
		return w.healthy(e)
	}
	w.run()
	in := w.input()
	in.NextDue = time.Time{}
	if got := ticks(Checklist(in)); got != "created tested documented notified" {
		t.Errorf("ticked: %s", got)
	}
}

func TestChecklistBeforeAnythingHappened(t *testing.T) {
	p := plan()
	p.Tell = false
	in := Input{Row: rotation.Row{ID: p.ID, Key: p.Key, Plan: p, Created: begin}, NextDue: begin.Add(90 * 24 * time.Hour), ScheduledIn: "keywright.ics", Now: begin}
	if got := ticks(Checklist(in)); got != "" {
		t.Errorf("ticked: %s", got)
	}
	for _, b := range Checklist(in) {
		if b.Against {
			t.Errorf("nothing speaks against %s yet: %s", b.ID, b.Evidence)
		}
	}
}

func TestReactivationOpensTheBoxAgain(t *testing.T) {
	w := newWorld(t, plan())
	w.answer = func(e rotation.Effect) (any, error) {
		if e.Verb == rotation.WatchLook {
			return rotation.WatchState{Refused: []string{"aws-prod"}}, nil
		}
		return w.healthy(e)
	}
	w.wait = func(m rotation.Move) bool {
		if m.Status == rotation.Paused {
			return false
		}
		return w.helpful(m)
	}
	w.run()
	in := w.input()
	boxes := Checklist(in)
	if b := box(t, boxes, "revoked"); b.Done || !b.Against {
		t.Errorf("revoked: %+v", b)
	}
	if b := box(t, boxes, "undisturbed"); b.Done || !b.Against {
		t.Errorf("undisturbed: %+v", b)
	}
	issues := RecordOf(in).Issues
	if len(issues) != 1 || !strings.Contains(issues[0].What, "made active again") {
		t.Errorf("issues: %+v", issues)
	}
}

func TestPreflight(t *testing.T) {
	p := plan()
	p.Places[2].Kind = "github-actions"
	in := Input{Row: rotation.Row{ID: p.ID, Key: p.Key, Plan: p, Created: begin}, Now: begin}
	boxes := Preflight(in)
	if got := ticks(boxes); got != "" || len(boxes) != 10 {
		t.Errorf("before anything: %d boxes, ticked %s", len(boxes), got)
	}
	if b := box(t, boxes, "rollback"); !b.Against {
		t.Errorf("rollback without the old value: %+v", b)
	}
	in.Spares, in.InCustody, in.Accepted = 1, true, begin
	in.Versions = map[rotation.Role]apikey.Version{rotation.Old: version("v_old", 0x3f, apikey.Current)}
	w := newWorld(t, p)
	w.wait = func(rotation.Move) bool { return false } // stops at the approval
	in.Journal = w.run().journal
	if got := ticks(Preflight(in)); got != "window staging rollback on-call works console deployment ci stores" {
		t.Errorf("after preflight: %s", got)
	}
	w.signal(rotation.SignalSign, "jane@ops-2", rotation.SignalData{UID: 1001, Subject: "preflight"})
	in.Journal = w.journal
	if b := box(t, Preflight(in), "knowledge"); !b.Done || !b.Signed {
		t.Errorf("knowledge: %+v", b)
	}
}

func TestPreflightNamesWhatFailed(t *testing.T) {
	w := newWorld(t, plan())
	w.answer = func(e rotation.Effect) (any, error) {
		if e.Verb == rotation.CheckPlace && e.Place == "aws-prod" {
			return nil, unavailable("check aws-prod: no right to PutSecretValue")
		}
		return w.healthy(e)
	}
	w.run()
	b := box(t, Preflight(w.input()), "deployment")
	if b.Done || !b.Against || !strings.Contains(b.Evidence, "PutSecretValue") {
		t.Errorf("%+v", b)
	}
}

func TestWhatPassedIsSaidAsFinelyAsItMatters(t *testing.T) {
	for d, want := range map[time.Duration]string{
		3400 * time.Millisecond: "3s", 90 * time.Second: "1m30s", 24*time.Hour + 20*time.Second: "24h0m0s", 25*time.Hour + 40*time.Second: "25h1m0s",
	} {
		if got := passed(d).String(); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
