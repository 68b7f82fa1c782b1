package app

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/monitor"
	"github.com/keywright/keywright/internal/notify"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/report"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

const oneKey = `
keys:
  app: { class: development, owner: dev@acme.example, locations: [app-env], soak: 1h, watch: 1h, health_wait: 0s }
locations:
  app-env: { kind: env-file, path: app.env, variable: ANTHROPIC_API_KEY }
`

func wants(s monitor.Status, code policy.Code) bool {
	for _, f := range s.Wants {
		if f.Code == code {
			return true
		}
	}
	return false
}

func TestAVersionThatOthersEndedOpensOneIncident(t *testing.T) {
	w := newWorld(t, oneKey)
	a := w.open()
	id := w.deploy(a, "app")
	if s := look(t, a); wants(s, policy.CurrentGone) || len(incidents(t, a)) != 0 {
		t.Fatalf("nothing has happened yet: %+v", s.Wants)
	}
	w.set(id, "inactive")
	w.silence(true)
	if s := look(t, a); !wants(s, policy.CurrentGone) {
		t.Errorf("wants %+v", s.Wants)
	}
	list := incidents(t, a)
	if len(list) != 1 || list[0].ID != "inc-2026-11-23-app" || !strings.Contains(list[0].Title, "refused by the provider, and inactive in its list") {
		t.Fatalf("incidents %+v", list)
	}
	w.silence(false)
	b := w.open() // the next process tells what this one could not, and then nobody does again
	for _, x := range []*App{b, b, a} {
		look(t, x)
	}
	if got := w.heard(`"kind":"incident"`); len(got) != 1 || !strings.Contains(got[0], "keywright incident show inc-2026-11-23-app") {
		t.Errorf("told %q", got)
	}
	if n := len(recorded(t, a, event.IncidentOpened)); n != 1 || len(incidents(t, a)) != 1 {
		t.Errorf("%d recorded, incidents %+v", n, incidents(t, a))
	}
	if s, err := a.Status(t.Context(), nil); err != nil || !wants(s, policy.IncidentOpen) {
		t.Errorf("without a look: %+v, %v", s.Wants, err)
	}
	if rows, err := a.Rotations(t.Context(), store.RotationFilter{}); err != nil || len(rows) != 0 {
		t.Errorf("a rotation was begun: %+v, %v", rows, err)
	}
	if _, events, err := a.Incident(t.Context(), list[0].ID); err != nil || len(events) == 0 || events[len(events)-1].Type != event.IncidentOpened {
		t.Errorf("timeline %+v, %v", events, err)
	}

	// It comes back, and goes once more: that is another incident.
	w.set(id, "active")
	if id, err := a.CloseIncident(t.Context(), "app", "a mistake"); err != nil || id != list[0].ID {
		t.Fatal(err)
	}
	look(t, a)
	w.set(id, "inactive")
	look(t, a)
	if list := incidents(t, a); len(list) != 2 || list[0].ID != "inc-2026-11-23-app-2" || len(w.heard(`"kind":"incident"`)) != 2 {
		t.Errorf("incidents %+v, told %q", list, w.heard("incident"))
	}
}

func TestAnEmergencyIsNoOutage(t *testing.T) {
	w := newWorld(t, oneKey)
	a := w.open()
	id := w.deploy(a, "app")
	err := a.Store.Update(t.Context(), func(tx *store.Tx) error {
		versions, err := tx.Versions("app")
		if err != nil {
			return err
		}
		versions[0].Compromised = true
		return tx.PutVersion(versions[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	w.set(id, "inactive")
	look(t, a)
	if list := incidents(t, a); len(list) != 0 {
		t.Errorf("incidents %+v", list)
	}
}

func TestDriftIsRecordedOnceForEachChange(t *testing.T) {
	w := newWorld(t, oneKey)
	a := w.open()
	_, before := w.make("app")
	w.deploy(a, "app")
	own := read(t, filepath.Join(w.dir, "app.env"))
	change := func(text string, events, told int) {
		t.Helper()
		w.write("app.env", text)
		for _, x := range []*App{a, w.open()} {
			w.pass(time.Second)
			look(t, x)
		}
		if got := recorded(t, a, event.DriftFound); len(got) != events {
			t.Errorf("%d events: %+v", len(got), got)
		}
		if got := w.heard("drift: app-env"); len(got) != told {
			t.Errorf("told %q", got)
		}
	}
	change(own, 0, 0)
	change("ANTHROPIC_API_KEY="+before+"\n", 1, 1)
	if e := recorded(t, a, event.DriftFound)[0]; e.Key != "app" || e.Location != "app-env" || !strings.HasPrefix(e.Fields["held"], "kf_") || e.Fields["held"] == e.Fields["wanted"] {
		t.Errorf("%+v", e)
	}
	change("OTHER=1\n", 2, 2)
	change(own, 2, 2)
	w.pass(2 * notify.Window)
	change("ANTHROPIC_API_KEY="+before+"\n", 3, 3)
}

// TestWhatWasToldIsKept has a second process tell the same: it is held back, and the record says who was told.
func TestWhatWasToldIsKept(t *testing.T) {
	w := newWorld(t, oneKey)
	a := w.open()
	w.deploy(a, "app")
	p, err := a.Plan(t.Context(), Wish{Key: "app", Kind: rotation.Manual, Reason: rotation.ReasonDrill})
	if err != nil {
		t.Fatal(err)
	}
	row, err := a.Begin(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	n := notify.Notice{Key: "app", Rotation: row.ID, Kind: "manual", What: "started"}
	for _, x := range []*App{a, w.open()} {
		if err := x.tell(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
	if got := w.heard("started"); len(got) != 1 {
		t.Errorf("told %q", got)
	}
	in, err := a.Record(t.Context(), row.ID)
	if err != nil || len(in.Told) != 1 || in.Told[0].What != "started" || in.Told[0].Channel == "" {
		t.Errorf("%+v, %v", in.Told, err)
	}
	if text := report.LogEntry(in); !strings.Contains(text, "**Told:**") {
		t.Errorf("the log does not say it:\n%s", text)
	}
	w.pass(notify.Window)
	if err := w.open().tell(t.Context(), n); err != nil || len(w.heard("started")) != 2 {
		t.Errorf("an hour later: %q, %v", w.heard("started"), err)
	}
}
