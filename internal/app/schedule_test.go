package app

import (
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

const day = 24 * time.Hour

const automatic = `
classes:
  app: { environment: development, rotate_every: 90d, soak: 1h, watch: 1h, health_wait: 0s, automatic: true }
keys:
  one: { class: app, owner: dev@acme.example, locations: [one-env] }
  two: { class: app, owner: dev@acme.example, locations: [two-env] }
locations:
  one-env: { kind: env-file, path: one.env, variable: ANTHROPIC_API_KEY }
  two-env: { kind: env-file, path: two.env, variable: ANTHROPIC_API_KEY }
`

// schedule expects a rotation of the key, or with an empty one why those that are due wait.
func schedule(t *testing.T, a *App, key apikey.Name, why ...string) rotation.Row {
	t.Helper()
	row, ok, waits, err := a.Schedule(t.Context())
	if err != nil || ok != (key != "") || row.Key != key {
		t.Fatalf("begun %v: %q, %v, %v", ok, row.Key, waits, err)
	}
	if len(waits) != len(why) {
		t.Fatalf("waits: %v", waits)
	}
	for i, w := range waits {
		if !strings.Contains(string(w.Key)+": "+w.Why, why[i]) {
			t.Errorf("waits: %v, want %q", w, why[i])
		}
	}
	return row
}

// end ends a rotation as it might.
func end(t *testing.T, a *App, row rotation.Row, status rotation.Status) {
	t.Helper()
	if err := a.Store.Update(t.Context(), func(tx *store.Tx) error { return tx.SetStatus(row.ID, 0, store.SetStatus{Status: status}) }); err != nil {
		t.Fatal(err)
	}
}

func TestScheduleBeginsWhatIsDue(t *testing.T) {
	w := newWorld(t, automatic)
	a := w.open()
	w.deploy(a, "two")
	w.pass(day)
	w.deploy(a, "one")
	w.spare(a, "two")
	w.spare(a, "one")
	schedule(t, a, "")
	w.pass(90*day - day - time.Second)
	schedule(t, a, "")
	w.pass(time.Second)
	row := schedule(t, a, "two") // the one that is due, in its first moment
	p := row.Plan
	if row.Kind != rotation.Scheduled || p.Reason != rotation.ReasonScheduled || p.Actor != Daemon || p.Note != "due since 2027-02-21" {
		t.Errorf("%+v", p)
	}
	if got := recorded(t, a, event.RotationStarted); len(got) != 1 || got[0].Actor != Daemon || got[0].Rotation != row.ID {
		t.Errorf("recorded %+v", got)
	}
	schedule(t, a, "", "two: rotation "+row.ID+" is not over")

	// One at a time: the other is due too, and waits until the first has put its version everywhere.
	w.pass(2 * day)
	schedule(t, a, "", "two: rotation", "one: rotation "+row.ID+" has not put its version everywhere yet")
	if err := a.drive(t, row.ID); err != nil {
		t.Fatal(err)
	}
	v, err := a.Rotation(t.Context(), row.ID)
	if err != nil || !rotation.Flipped(v.Journal) || v.Row.Status != rotation.Running {
		t.Fatalf("%s: %s (%s), %v", row.ID, v.Row.Status, v.Row.Note, err)
	}
	schedule(t, a, "one")
}

// drive advances a rotation as far as it goes now.
func (a *App) drive(t *testing.T, id string) error {
	t.Helper()
	_, err := a.Runner.Advance(t.Context(), id)
	return err
}

func TestScheduleHoldsBack(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		setup func(w *world, a *App)
		why   string
	}{
		"without a spare": {automatic, func(*world, *App) {}, "one: it has no spare"},
		"with a spare that somebody ended": {automatic, func(w *world, a *App) {
			w.set(w.spare(a, "one"), "inactive")
		}, "one: the provider says of its spare kf_"},
		"with a spare that ends too early": {automatic, func(w *world, a *App) {
			w.spare(a, "one")
			change(w.t, a, apikey.Spare, func(v *apikey.Version) { v.Expires = w.now().Add(2 * time.Hour) })
		}, "one: it has no spare"},
		"with a spare that was compromised": {automatic, func(w *world, a *App) {
			w.spare(a, "one")
			change(w.t, a, apikey.Spare, func(v *apikey.Version) { v.Compromised = true })
		}, "one: it has no spare"},
		"outside of its window": {strings.Replace(automatic, "automatic: true", "automatic: true, windows: ['Tue 09:00-16:00 Europe/Berlin']", 1), func(w *world, a *App) {
			w.spare(a, "one")
		}, "one: its window opens 2027-02-23 08:00Z"},
		"where a person changes a place": {strings.Replace(strings.Replace(automatic, "[one-env]", "[one-env, wiki]", 1), "locations:\n  one-env", "locations:\n  wiki: { kind: manual, place: the team vault, person: jane }\n  one-env", 1),
			func(w *world, a *App) { w.spare(a, "one") }, "one: wiki is changed by a person"},
		"while an incident is open": {automatic, func(w *world, a *App) {
			w.spare(a, "one")
			w.update(a, func(tx *store.Tx) error { return tx.OpenIncident(store.Incident{ID: "inc-1", Key: "one"}) })
		}, "one: incident inc-1 is open"},
		"while its version is compromised": {automatic, func(w *world, a *App) {
			w.spare(a, "one")
			change(w.t, a, apikey.Current, func(v *apikey.Version) { v.Compromised = true })
		}, "one: its version is compromised"},
		"while an emergency runs": {automatic, func(w *world, a *App) {
			w.spare(a, "one")
			w.deploy(a, "two")
			w.begin(a, "two", rotation.Emergency)
		}, "one: emergency r-"},
		"while its pair is in rotation": {strings.Replace(automatic, "locations: [one-env]", "locations: [one-env], backup: two", 1), func(w *world, a *App) {
			w.spare(a, "one")
			w.deploy(a, "two")
			w.begin(a, "two", rotation.Manual)
		}, "one: rotation r-2027-02-21-two of its pair is not over"},
		"after one that turned back": {automatic, func(w *world, a *App) {
			w.spare(a, "one")
			end(w.t, a, w.begin(a, "one", rotation.Scheduled), rotation.RolledBack)
		}, "turned back or was stopped: a person begins the next one"},
		"after a rollback": {automatic, func(w *world, a *App) {
			w.spare(a, "one")
			end(w.t, a, w.begin(a, "one", rotation.Rollback), rotation.Done)
		}, "a person begins the next one"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.text)
			a := w.open()
			w.deploy(a, "one")
			w.pass(90 * day) // a Sunday
			c.setup(w, a)
			schedule(t, a, "", c.why)
			if rows, err := a.Rotations(t.Context(), store.RotationFilter{Active: true, Key: "one"}); err != nil || len(rows) != 0 {
				t.Errorf("%+v, %v", rows, err)
			}
		})
	}
}

func TestScheduleGoesOn(t *testing.T) {
	t.Run("in its window", func(t *testing.T) {
		w := newWorld(t, strings.Replace(automatic, "automatic: true", "automatic: true, windows: ['Tue 09:00-16:00 Europe/Berlin']", 1))
		a := w.open()
		w.deploy(a, "one")
		w.spare(a, "one")
		w.pass(90*day + 2*day - time.Hour - time.Second) // Tuesday 07:59:59 UTC
		schedule(t, a, "", "one: its window opens")
		w.pass(time.Second)
		if row := schedule(t, a, "one"); len(row.Plan.Windows) != 1 || row.Plan.Windows[0].Zone != "Europe/Berlin" || row.Plan.Windows[0].From != 9*60 {
			t.Errorf("windows %+v", row.Plan.Windows)
		}
	})
	t.Run("after one that failed, later", func(t *testing.T) {
		w := newWorld(t, automatic)
		a := w.open()
		w.deploy(a, "one")
		w.spare(a, "one")
		w.pass(90 * day)
		end(t, a, schedule(t, a, "one"), rotation.Failed)
		schedule(t, a, "", "one: rotation r-2027-02-21-one failed, and it is tried again after 2027-02-21 15:00Z")
		w.pass(retryFailed)
		schedule(t, a, "one")
	})
	t.Run("not where the policy does not say so", func(t *testing.T) {
		w := newWorld(t, strings.Replace(automatic, ", automatic: true", "", 1))
		a := w.open()
		w.deploy(a, "one")
		w.spare(a, "one")
		w.pass(100 * day)
		schedule(t, a, "")
	})
	t.Run("in one process", func(t *testing.T) {
		w := newWorld(t, automatic)
		a, b := w.open(), w.open()
		w.deploy(a, "one")
		w.pass(90 * day)
		schedule(t, a, "", "no spare") // a is the one now
		w.spare(a, "one")
		schedule(t, b, "")
		w.pass(scheduleLease) // a died
		schedule(t, b, "one")
	})
}

// change edits the one version of key one in a state.
func change(t *testing.T, a *App, state apikey.State, edit func(*apikey.Version)) {
	t.Helper()
	err := a.Store.Update(t.Context(), func(tx *store.Tx) error {
		versions, err := tx.Versions("one")
		if err != nil {
			return err
		}
		for _, v := range versions {
			if v.State == state {
				edit(&v)
				return tx.PutVersion(v)
			}
		}
		t.Fatalf("no version is %s", state)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) update(a *App, fn func(*store.Tx) error) {
	w.t.Helper()
	if err := a.Store.Update(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// begin begins a rotation as a person would.
func (w *world) begin(a *App, key apikey.Name, kind rotation.Kind) rotation.Row {
	w.t.Helper()
	if kind == rotation.Rollback {
		w.update(a, func(tx *store.Tx) error {
			return tx.PutVersion(apikey.Version{ID: "v_before", Key: key, State: apikey.Previous, Digest: apikey.Digest{1}, Environment: apikey.Development, Added: w.now()})
		})
	}
	p, err := a.Plan(w.t.Context(), Wish{Key: key, Kind: kind, Reason: rotation.ReasonDrill})
	if err != nil {
		w.t.Fatal(err)
	}
	row, err := a.Begin(w.t.Context(), p)
	if err != nil {
		w.t.Fatal(err)
	}
	return row
}
