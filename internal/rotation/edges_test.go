package rotation_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// TestCut: only a person who said so ends the last live version of a key, and then nothing is put anywhere.
func TestCut(t *testing.T) {
	for _, cut := range []bool{false, true} {
		for _, kind := range []fault.Kind{fault.NotFound, fault.Unavailable} {
			p := plan()
			p.Kind, p.Process, p.Cut = rotation.Emergency, rotation.ProcessEmergency, cut
			d := newDriver(t, p)
			answered := begin
			d.answer = func(e rotation.Effect) (any, error) {
				if e.Verb != rotation.Choose {
					return healthy(e)
				}
				says := kind
				if d.now.After(begin.Add(time.Minute)) { // the provider answers again, and refuses every candidate
					says, answered = fault.NotFound, d.now
				}
				return nil, fault.New(says, "there is no backup")
			}
			d.wait = func(m rotation.Move) bool { return m.Status != rotation.Paused }
			m := d.run()
			made := strings.Join(d.order, " ")
			if !cut {
				if m.Status != rotation.Paused || strings.Contains(made, "deactivate") || m.Note != "there is no backup" {
					t.Errorf("%s, not told to cut: %s %q, made %s", kind, m.Status, m.Note, made)
				}
				continue
			}
			if m.Status != rotation.Done || !strings.Contains(m.Note, "requests fail") || !strings.Contains(m.Hint, "keywright key add prod-primary --spare") {
				t.Errorf("%s, cut: %s %q %q", kind, m.Status, m.Note, m.Hint)
			}
			for _, id := range []string{"switch/deactivate", "switch/await-refused", "record/settle", "record/record"} {
				if !slices.Contains(d.order, id) {
					t.Errorf("%s, cut: %s is missing in %s", kind, id, made)
				}
			}
			if slices.ContainsFunc(d.order, func(id string) bool {
				v := verbOf(id)
				return v == rotation.Put || v == rotation.Reload || v == rotation.Flip
			}) {
				t.Errorf("%s, cut: it changed a place: %s", kind, made)
			}
			if kind == fault.Unavailable && answered.Equal(begin) {
				t.Error("it cut while the provider had not said that nothing is alive")
			}
		}
	}
}

// TestCutWithABackup replaces, as every emergency does: leave to cut is no order to cut.
func TestCutWithABackup(t *testing.T) {
	p := plan()
	p.Kind, p.Process, p.Cut = rotation.Emergency, rotation.ProcessEmergency, true
	d := newDriver(t, p)
	if m := d.run(); m.Status != rotation.Done || !slices.Contains(d.order, "flip") || !slices.Contains(d.order, "switch/a/put") {
		t.Errorf("%s %q: %v", m.Status, m.Note, d.order)
	}
}

// TestHash: an approval is bound to all that a plan says.
func TestHash(t *testing.T) {
	seen := map[string]string{}
	for name, change := range map[string]func(*rotation.Plan){
		"as it is":         func(*rotation.Plan) {},
		"another place":    func(p *rotation.Plan) { p.Places[0].Address = "env-file:/elsewhere" },
		"another config":   func(p *rotation.Plan) { p.Places[0].Config = []byte(`{"path":"/elsewhere"}`) },
		"another wave":     func(p *rotation.Plan) { p.Waves[1].Batches = [][]string{{"b", "c"}} },
		"shorter soak":     func(p *rotation.Plan) { p.Soak = time.Hour },
		"another old key":  func(p *rotation.Plan) { p.Old = "v_other" },
		"without approval": func(p *rotation.Plan) { p.Approvals = 7 },
		"another actor":    func(p *rotation.Plan) { p.UID = 1 },
		"a cut":            func(p *rotation.Plan) { p.Cut = true },
	} {
		p := plan()
		change(&p)
		h := p.Hash()
		if again := p.Hash(); len(h) != 64 || h != again {
			t.Errorf("%s: %q, %q", name, h, again)
		}
		if other, twice := seen[h]; twice {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[h] = name
	}
}

// TestReasons: a person gives one of the runbooks' reasons; undo is what a rollback says by itself.
func TestReasons(t *testing.T) {
	list := rotation.Reasons()
	if len(list) != 7 || slices.Contains(list, rotation.ReasonUndo) || slices.Contains(list, "") || len(slices.Compact(slices.Sorted(slices.Values(list)))) != len(list) {
		t.Errorf("%q", list)
	}
}

// TestHealthWaitAfterABlindReload: where nothing tells whether consumers took the new version up, the next place waits for the health wait.
func TestHealthWaitAfterABlindReload(t *testing.T) {
	p := plan()
	p.Places[0].Can = rotation.Can{Read: true, Reload: true}
	d := newDriver(t, p)
	var reloaded, next time.Time
	d.answer = func(e rotation.Effect) (any, error) {
		switch e.ID {
		case "staging/staging/a/reload":
			reloaded = d.now
		case "deploy/production/b/baseline":
			next = d.now
		}
		return healthy(e)
	}
	if m := d.run(); m.Status != rotation.Done || next.Sub(reloaded) < p.HealthWait {
		t.Errorf("%s: the next wave began %v after the reload", m.Status, next.Sub(reloaded))
	}
}

// TestPeopleAreToldOfAReportThatStaysStale: what ought to come by itself is waited for in silence, and not for ever.
func TestPeopleAreToldOfAReportThatStaysStale(t *testing.T) {
	d := newDriver(t, plan())
	d.answer = func(e rotation.Effect) (any, error) {
		f := goodFacts()
		if e.Verb != rotation.Gather {
			return healthy(e)
		}
		f.Usage.FreshTo = f.Usage.From
		return f, nil
	}
	var first time.Time
	d.wait = func(m rotation.Move) bool {
		if !strings.HasPrefix(m.Note, "evidence is not complete") {
			return true
		}
		if first.IsZero() {
			first = d.now
		}
		return m.Status == rotation.Running
	}
	m := d.run()
	if silent := d.now.Sub(first); m.Status != rotation.Waiting || silent < 2*time.Hour || silent > 4*time.Hour || !strings.Contains(m.Note, "fresh only to") {
		t.Errorf("%s after %v: %q", m.Status, silent, m.Note)
	}
	if strings.Contains(strings.Join(d.order, " "), "deactivate") {
		t.Error("it retired without evidence")
	}
}

// TestFirstVersionHasNoWayBack: where no older version is known, a person changes each place that was touched.
func TestFirstVersionHasNoWayBack(t *testing.T) {
	p := plan()
	p.Old = ""
	d := newDriver(t, p)
	d.answer = func(e rotation.Effect) (any, error) {
		if e.ID == "deploy/production/b/promote" {
			d.signal(rotation.SignalCancel, "op", rotation.SignalData{})
		}
		return healthy(e)
	}
	var asked []string
	d.wait = func(m rotation.Move) bool {
		if m.Status == rotation.Waiting {
			subject := strings.TrimPrefix(m.Hint, "keywright rotation sign r-1 ")
			if !strings.Contains(m.Note, "no older version to put back into "+subject) {
				t.Errorf("asks %q", m.Note)
			}
			asked = append(asked, subject)
			d.signal(rotation.SignalSign, "op", rotation.SignalData{Subject: subject})
		}
		return true
	}
	m := d.run()
	if m.Status != rotation.Cancelled || strings.Join(asked, " ") != "b a" || slices.ContainsFunc(d.order, func(id string) bool { return verbOf(id) == rotation.PutBack }) {
		t.Errorf("%s, asked for %q: %v", m.Status, asked, d.order)
	}
}

// TestWindowsThatNeverOpen are said, not waited for; without windows a scheduled rotation goes at once.
func TestWindowsThatNeverOpen(t *testing.T) {
	p := plan()
	p.Kind = rotation.Scheduled
	p.Windows = []rotation.Window{{From: 60, To: 120}}
	d := newDriver(t, p)
	d.wait = func(m rotation.Move) bool { return m.Status == rotation.Running }
	if m := d.run(); m.Status != rotation.Paused || !strings.Contains(m.Note, "none of them ever opens") || !strings.Contains(m.Hint, "rotation cancel r-1") {
		t.Errorf("%s %q %q", m.Status, m.Note, m.Hint)
	}
}

// TestResumeCountsByItsPlaceInTheJournal: the clock of the one who resumes may be behind the clock of the one who wrote the journal.
func TestResumeCountsByItsPlaceInTheJournal(t *testing.T) {
	d := newDriver(t, plan())
	d.answer = func(e rotation.Effect) (any, error) {
		if e.ID == "retire/round-1/2/watch" {
			return rotation.WatchState{Refused: []string{"b"}}, nil
		}
		return healthy(e)
	}
	stood := 0
	d.wait = func(m rotation.Move) bool {
		if m.Status == rotation.Paused {
			stood++
			now := d.now
			d.now = now.Add(-24 * time.Hour)
			d.signal(rotation.SignalResume, "op", rotation.SignalData{})
			d.now = now
		}
		return stood < 3
	}
	if m := d.run(); m.Status != rotation.Done || stood != 1 {
		t.Errorf("%s after standing %d times: %q", m.Status, stood, m.Note)
	}
}

// TestRefusedConsumerWithoutAdminKey: a person is told even when somebody resumed the rotation before, for another reason; and what was signed for
// until then is asked again, since it turned out wrong.
func TestRefusedConsumerWithoutAdminKey(t *testing.T) {
	p := plan()
	p.Admin = false
	d := newDriver(t, p)
	mended := false
	d.answer = func(e rotation.Effect) (any, error) {
		switch {
		case e.ID == "staging/staging/a/put" && !mended:
			return nil, fault.New(fault.Forbidden, "no right")
		case e.ID == "retire/round-1/2/watch":
			return rotation.WatchState{Refused: []string{"b"}}, nil
		case e.Verb == rotation.Gather:
			f := goodFacts()
			f.Admin = false
			return f, nil
		}
		return healthy(e)
	}
	var stood, asked []string
	d.wait = func(m rotation.Move) bool {
		switch m.Status {
		case rotation.Paused:
			stood, mended = append(stood, m.Note), true
			d.signal(rotation.SignalResume, "op", rotation.SignalData{})
		case rotation.Waiting:
			subject := m.Hint[strings.LastIndex(m.Hint, " ")+1:]
			asked = append(asked, subject)
			d.signal(rotation.SignalSign, "ann", rotation.SignalData{Subject: subject})
		}
		return len(stood) < 5
	}
	m := d.run()
	if m.Status != rotation.Done || len(stood) != 2 || stood[1] != "refused with the old value: b; make it active again in the Console" {
		t.Errorf("%s, stood for %q", m.Status, stood)
	}
	if got := strings.Join(asked, " "); got != "evidence disabled evidence disabled archived" {
		t.Errorf("asked for %s", got)
	}
}
