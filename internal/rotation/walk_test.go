package rotation_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// TestRetryTable drives every verb of an ordinary rotation through every kind of failure that does not end, and looks how often and for how
// long it is tried, and what then happens.
func TestRetryTable(t *testing.T) {
	limits := map[rotation.Verb]time.Duration{
		rotation.Confirm: 10 * time.Minute, rotation.Probe: 5 * time.Minute, rotation.AwaitRefused: 15 * time.Minute, rotation.TakePair: 7 * 24 * time.Hour,
		rotation.PurgePlace: 7 * 24 * time.Hour, rotation.PurgeValue: 7 * 24 * time.Hour, rotation.Archive: 7 * 24 * time.Hour, rotation.Record: 7 * 24 * time.Hour,
		rotation.Tell: 30 * time.Second, rotation.Drift: 2 * time.Minute, rotation.Gather: time.Hour, rotation.CheckPlace: time.Minute, rotation.TestRun: 0,
	}
	hopeless := []fault.Kind{fault.Invalid, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Conflict, fault.Unsupported, fault.Corrupt}
	healing := []fault.Kind{fault.RateLimited, fault.Unavailable, fault.Indeterminate, fault.Unknown, fault.Canceled}
	full := newDriver(t, plan())
	full.run()
	verbs := map[rotation.Verb]string{}
	for _, id := range full.order {
		v := verbOf(id)
		if _, seen := verbs[v]; !seen {
			verbs[v] = id
		}
	}
	if len(verbs) < 20 {
		t.Fatalf("only %d verbs: %v", len(verbs), verbs)
	}
	for v, id := range verbs {
		for _, kind := range append(hopeless, healing...) {
			t.Run(fmt.Sprintf("%s/%s", v, kind), func(t *testing.T) {
				long := limits[v] > time.Hour // its tries are looked at twice a day
				tries, first, last, delays := attempts(t, id, kind, long)
				if slices.Contains(hopeless, kind) {
					if tries != 1 {
						t.Errorf("tried %d times", tries)
					}
					return
				}
				limit, listed := limits[v]
				if !listed {
					limit = 10 * time.Minute
				}
				if v == rotation.TestRun && tries != 1 || v != rotation.TestRun && tries < 2 {
					t.Errorf("tried %d times", tries)
				}
				slack := 5 * time.Minute
				if long {
					slack, delays = 13*time.Hour, nil
				}
				if last.Sub(first) > limit+slack || !long && last.Sub(first) > limit || limit > 0 && last.Sub(first)+slack < limit {
					t.Errorf("tried for %v, limit %v", last.Sub(first), limit)
				}
				want := []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute}
				if v == rotation.Confirm || v == rotation.Probe {
					want = want[:4] // consumers are looked at every ten seconds
				}
				for i, d := range delays {
					if w := want[min(i, len(want)-1)]; d < w || d > w+2*time.Second {
						t.Errorf("try %d came after %v, want %v", i+2, d, w)
					}
				}
			})
		}
	}
}

func verbOf(id string) rotation.Verb {
	v := id[strings.LastIndex(id, "/")+1:]
	for _, suffix := range []string{"-watch", "-1", "-2", "-home", "-old"} {
		v = strings.TrimSuffix(v, suffix)
	}
	return rotation.Verb(v)
}

// attempts fails one effect for ever and gives the times of its tries before the process gave it up.
func attempts(t *testing.T, id string, kind fault.Kind, long bool) (tries int, first, last time.Time, delays []time.Duration) {
	t.Helper()
	p := plan()
	p.Soak, p.Watch = 2*time.Hour, time.Minute
	d := newDriver(t, p)
	d.answer = func(e rotation.Effect) (any, error) {
		if e.ID != id {
			return healthy(e)
		}
		if tries++; tries == 1 {
			first = d.now
		} else {
			delays = append(delays, d.now.Sub(last))
		}
		last = d.now
		return nil, fault.New(kind, "refused")
	}
	d.wait = func(m rotation.Move) bool {
		if long && tries > 0 {
			d.now = d.now.Add(12 * time.Hour)
		}
		return m.Status == rotation.Running
	}
	m := d.run()
	if verb := verbOf(id); verb != rotation.Tell && m.Status != rotation.Done && (m.Note == "" || m.Hint == "") {
		t.Errorf("it ended without words: %s %q %q", m.Status, m.Note, m.Hint)
	}
	return tries, first, last, delays
}

func TestRetryAfterOfThePlaceIsKept(t *testing.T) {
	d := newDriver(t, plan())
	var at []time.Time
	d.answer = func(e rotation.Effect) (any, error) {
		if e.Verb == rotation.Promote && len(at) < 2 {
			at = append(at, d.now)
			return nil, fault.New(fault.RateLimited, "slow down", fault.RetryAfter(90*time.Second))
		}
		return healthy(e)
	}
	if m := d.run(); m.Status != rotation.Done || at[1].Sub(at[0]) < 90*time.Second {
		t.Errorf("%s: %v", m.Status, at)
	}
}

// TestEmergencyIsPatient: what can heal is tried without end.
func TestEmergencyIsPatient(t *testing.T) {
	p := plan()
	p.Kind, p.Process = rotation.Emergency, rotation.ProcessEmergency
	d := newDriver(t, p)
	d.answer = func(e rotation.Effect) (any, error) {
		if e.Verb == rotation.Put && d.now.Before(begin.Add(48*time.Hour)) {
			return nil, fault.New(fault.Unavailable, "down")
		}
		return healthy(e)
	}
	if m := d.run(); m.Status != rotation.Done || d.now.Before(begin.Add(48*time.Hour)) {
		t.Errorf("%s after %v", m.Status, d.now.Sub(begin))
	}
}

func TestUnknownProcessParks(t *testing.T) {
	for _, name := range []string{"", "ordinary/2", "mystery/1"} {
		p := plan()
		p.Process = name
		m := rotation.Next(p, nil, begin)
		if m.Status != rotation.Paused || len(m.Do) > 0 || m.Hint == "" || !m.Until.After(begin) || !strings.Contains(m.Note, fmt.Sprintf("%q", name)) {
			t.Errorf("%q: %+v", name, m)
		}
	}
}

func TestIntakeWaits(t *testing.T) {
	p := plan()
	p.ConsoleName = "acme-prod-primary-20261122"
	d := newDriver(t, p)
	spare := false
	d.answer = func(e rotation.Effect) (any, error) {
		if e.Verb == rotation.Acquire && !spare {
			return nil, fault.New(fault.NotFound, "there is no spare")
		}
		return healthy(e)
	}
	waits := 0
	d.wait = func(m rotation.Move) bool {
		if m.Status == rotation.Waiting {
			if waits++; !strings.Contains(m.Note, p.ConsoleName) || !strings.Contains(m.Hint, "keywright key add prod-primary") {
				t.Errorf("%q %q", m.Note, m.Hint)
			}
			switch waits {
			case 2:
				d.signal(rotation.SignalIntake, "op", rotation.SignalData{}) // a spare of another key: nothing yet
			case 3:
				spare = true
				d.signal(rotation.SignalIntake, "op", rotation.SignalData{})
			}
		}
		return waits < 6
	}
	if m := d.run(); m.Status != rotation.Done || waits != 3 {
		t.Errorf("%s after %d waits", m.Status, waits)
	}
}

// approval is one yes: by whom, when after the beginning, until when, for which plan.
type approval struct {
	uid   int
	after time.Duration
	until time.Duration // 0: no end
	other bool          // bound to another plan
}

func TestApprovals(t *testing.T) {
	const requester = 1000
	for _, c := range []struct {
		name string
		need int
		yes  []approval
		want bool
	}{
		{"none wanted", 0, nil, true},
		{"nobody", 1, nil, false},
		{"one other", 1, []approval{{uid: 7}}, true},
		{"the requester", 1, []approval{{uid: requester}}, false},
		{"for another plan", 1, []approval{{uid: 7, other: true}}, false},
		{"unreadable", 1, []approval{{uid: -1}}, false},
		{"expired before it was given", 1, []approval{{uid: 7, after: time.Hour, until: time.Minute}}, false},
		{"expires later", 1, []approval{{uid: 7, until: time.Hour}}, true},
		{"two of two", 2, []approval{{uid: 7}, {uid: 8, after: time.Hour}}, true},
		{"one person twice", 2, []approval{{uid: 7}, {uid: 7, after: time.Hour}}, false},
		{"the first expired before the second came", 2, []approval{{uid: 7, until: time.Hour}, {uid: 8, after: 2 * time.Hour}}, false},
		{"given again after it expired", 2, []approval{{uid: 7, until: time.Hour}, {uid: 8, after: 2 * time.Hour}, {uid: 7, after: 3 * time.Hour}}, true},
		{"two of three and the requester", 3, []approval{{uid: 7}, {uid: 8}, {uid: requester}}, false},
		{"three of three", 3, []approval{{uid: 7}, {uid: 8}, {uid: 9}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan()
			p.Approvals, p.UID = c.need, requester
			d := newDriver(t, p)
			next := 0
			d.wait = func(m rotation.Move) bool {
				if m.Status != rotation.Waiting {
					return true
				}
				if !strings.Contains(m.Hint, "keywright rotation approve r-1") {
					t.Errorf("hint %q", m.Hint)
				}
				if next == len(c.yes) {
					return false
				}
				a := c.yes[next]
				next++
				if later := begin.Add(a.after); later.After(d.now) {
					d.now = later
				}
				data := rotation.SignalData{UID: a.uid, PlanHash: p.Hash()}
				if a.until > 0 {
					data.Until = begin.Add(a.until)
				}
				if a.other {
					q := p
					q.Soak++
					data.PlanHash = q.Hash()
				}
				d.signal(rotation.SignalApprove, "somebody", data)
				return true
			}
			m := d.run()
			deployed := strings.Contains(strings.Join(d.order, " "), "deploy/")
			if deployed != c.want || (m.Status == rotation.Done) != c.want {
				t.Errorf("deployed %v, %s: %q", deployed, m.Status, m.Note)
			}
		})
	}
}

// TestApprovalStands: once given, it does not lapse while production is under way.
func TestApprovalStands(t *testing.T) {
	p := plan()
	p.Approvals = 1
	d := newDriver(t, p)
	d.wait = func(m rotation.Move) bool {
		if m.Status == rotation.Waiting {
			d.signal(rotation.SignalApprove, "ann", rotation.SignalData{UID: 7, PlanHash: p.Hash(), Until: d.now.Add(time.Second)})
		}
		return true
	}
	if m := d.run(); m.Status != rotation.Done {
		t.Errorf("%s: %s", m.Status, m.Note)
	}
}

// TestEvidenceSignatureIsForFreshFacts: a signature that comes late does not make old facts good.
func TestEvidenceSignatureIsForFreshFacts(t *testing.T) {
	d := newDriver(t, plan())
	used, gathers := int64(0), 0
	d.answer = func(e rotation.Effect) (any, error) {
		if e.Verb != rotation.Gather {
			return healthy(e)
		}
		gathers++
		f := goodFacts()
		f.Admin, f.Usage.Seen = false, used
		return f, nil
	}
	waits := 0
	d.wait = func(m rotation.Move) bool {
		if m.Status != rotation.Waiting {
			return true
		}
		if waits++; waits == 1 {
			if !strings.Contains(m.Hint, "rotation sign r-1 evidence") {
				t.Errorf("hint %q", m.Hint)
			}
			used = 1 // somebody uses the old version while a person makes up their mind
			d.now = d.now.Add(time.Hour)
			d.signal(rotation.SignalSign, "ann", rotation.SignalData{Subject: "evidence"})
			return true
		}
		if !strings.Contains(m.Note, "was used") {
			t.Errorf("waits for %q", m.Note)
		}
		if waits == 4 {
			used = 0
		}
		return waits < 10
	}
	m := d.run()
	if m.Status != rotation.Done || waits != 4 || gathers < 3 {
		t.Errorf("%s after %d waits and %d looks", m.Status, waits, gathers)
	}
}

// TestEvidenceHoldsUntilItIsGood: a fact against holds without end, says so, and lets go by itself.
func TestEvidenceHoldsUntilItIsGood(t *testing.T) {
	d := newDriver(t, plan())
	n := 0
	d.answer = func(e rotation.Effect) (any, error) {
		f := goodFacts()
		if e.Verb != rotation.Gather {
			return healthy(e)
		}
		switch n++; {
		case n <= 3:
			f.Elsewhere = []string{"billing"}
		case n <= 5:
			f.Usage.FreshTo = f.Usage.From
		}
		return f, nil
	}
	var notes []string
	d.wait = func(m rotation.Move) bool {
		if strings.Contains(m.Note, "evidence") {
			notes = append(notes, string(m.Status)+" "+m.Note+" "+m.Hint)
		}
		return true
	}
	m := d.run()
	if m.Status != rotation.Done || n != 6 {
		t.Errorf("%s after %d looks", m.Status, n)
	}
	beats := 0
	for _, id := range d.order {
		if strings.HasSuffix(id, "heartbeat") {
			beats++
		}
	}
	// A fact against needs a new window, with a heartbeat of its own; a report that is not fresh is only read again.
	if beats != 4 {
		t.Errorf("%d heartbeats", beats)
	}
	if len(notes) != 5 || !strings.HasPrefix(notes[0], "waiting evidence holds: still wanted by billing") || !strings.HasPrefix(notes[4], "running evidence is not complete") {
		t.Errorf("notes: %q", notes)
	}
}

// TestSoakBeginsAnewAfterDrift, and does not for a place that was only out of reach for a moment.
func TestSoakBeginsAnewAfterDrift(t *testing.T) {
	for kind, want := range map[fault.Kind]time.Duration{fault.Conflict: 35 * time.Hour, fault.Unavailable: 24 * time.Hour} {
		d := newDriver(t, plan())
		failed := false
		var flip, evidence time.Time
		d.answer = func(e rotation.Effect) (any, error) {
			switch {
			case e.Verb == rotation.Flip:
				flip = d.now
			case e.Verb == rotation.Gather && evidence.IsZero():
				evidence = d.now
			case e.ID == "soak/10/drift" && !failed:
				failed = true
				return nil, fault.New(kind, "b does not hold it")
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
		if took := evidence.Sub(flip); m.Status != rotation.Done || took < want || took > want+time.Hour {
			t.Errorf("%s: %s, soaked for %v, want %v", kind, m.Status, took, want)
		}
	}
}

// TestValueThatIsNotRefusedComesBack: the id was wrong, so it is given back at once.
func TestValueThatIsNotRefusedComesBack(t *testing.T) {
	d := newDriver(t, plan())
	d.answer = func(e rotation.Effect) (any, error) {
		if e.ID == "retire/round-1/await-refused" {
			return nil, fault.New(fault.Unavailable, "the provider says live")
		}
		return healthy(e)
	}
	paused := ""
	d.wait = func(m rotation.Move) bool {
		if m.Status == rotation.Paused {
			paused = m.Note
			d.signal(rotation.SignalResume, "op", rotation.SignalData{})
		}
		return true
	}
	m := d.run()
	all := strings.Join(d.order, " ")
	if m.Status != rotation.Done || !strings.Contains(paused, "the provider says live") || !strings.Contains(all, "retire/round-1/activate retire/round-2") && !strings.Contains(all, "retire/round-1/activate evidence/round-2") {
		t.Errorf("%s, paused for %q:\n%s", m.Status, paused, all)
	}
}

// TestWithoutAdminAPersonRetires: no admin key means a signature, a person who disables the key, and one who archives it.
func TestWithoutAdminAPersonRetires(t *testing.T) {
	p := plan()
	p.Admin = false
	d := newDriver(t, p)
	d.answer = func(e rotation.Effect) (any, error) {
		if e.Verb == rotation.Gather {
			f := goodFacts()
			f.Admin = false
			return f, nil
		}
		return healthy(e)
	}
	var asked []string
	d.wait = func(m rotation.Move) bool {
		if m.Status == rotation.Waiting {
			subject := m.Hint[strings.LastIndex(m.Hint, " ")+1:]
			asked = append(asked, subject)
			if subject == "disabled" && !strings.Contains(m.Note, "disable (do not delete)") {
				t.Errorf("asks %q", m.Note)
			}
			d.signal(rotation.SignalSign, "ann", rotation.SignalData{Subject: subject})
		}
		return true
	}
	m := d.run()
	if m.Status != rotation.Done || strings.Join(asked, " ") != "evidence disabled archived" {
		t.Errorf("%s, asked for %v", m.Status, asked)
	}
	for _, id := range d.order {
		if v := verbOf(id); v == rotation.Deactivate || v == rotation.Activate || v == rotation.Archive || v == rotation.CheckClock {
			t.Errorf("made %s without an admin key", id)
		}
	}
}

// TestManualPlaceWaitsForItsSignature on the way forward and on the way back.
func TestManualPlaceWaitsForItsSignature(t *testing.T) {
	p := plan()
	p.Places[2].Can.Manual = true
	for _, cancel := range []bool{false, true} {
		d := newDriver(t, p)
		var asked []string
		d.wait = func(m rotation.Move) bool {
			if m.Status == rotation.Waiting {
				subject := strings.TrimPrefix(m.Hint, "keywright rotation sign r-1 ")
				asked = append(asked, subject)
				d.signal(rotation.SignalSign, "ann", rotation.SignalData{Subject: subject})
				if cancel && len(asked) == 1 {
					d.signal(rotation.SignalCancel, "op", rotation.SignalData{})
				}
			}
			return true
		}
		m := d.run()
		if cancel && (m.Status != rotation.Cancelled || strings.Join(asked, ",") != "c,c back") || !cancel && (m.Status != rotation.Done || strings.Join(asked, ",") != "c") {
			t.Errorf("cancel %v: %s, asked %q", cancel, m.Status, asked)
		}
	}
}

// TestLentPlaceGetsItsOwnValueBack before approval, and on the way back.
func TestLentPlaceGetsItsOwnValueBack(t *testing.T) {
	p := plan()
	p.Places[0].Home = "staging"
	d := newDriver(t, p)
	d.run()
	all := strings.Join(d.order, " ")
	if !strings.Contains(all, "staging/staging/a/probe staging/a/put-home staging/a/reload-home deploy/") {
		t.Errorf("order:\n%s", all)
	}
	d = newDriver(t, p)
	d.answer = func(e rotation.Effect) (any, error) {
		if e.ID == "staging/staging/a/reload" {
			d.signal(rotation.SignalCancel, "op", rotation.SignalData{})
		}
		return healthy(e)
	}
	m := d.run()
	all = strings.Join(d.order, " ")
	if m.Status != rotation.Cancelled || !strings.Contains(all, "undo/a/put-home undo/a/reload-home") || strings.Contains(all, "put-back") {
		t.Errorf("%s:\n%s", m.Status, all)
	}
}

// TestDoubtIsJudgedAnew: after a resume the question who is to blame is asked again.
func TestDoubtIsJudgedAnew(t *testing.T) {
	d := newDriver(t, plan())
	dead := false
	d.answer = func(e rotation.Effect) (any, error) {
		switch {
		case e.ID == "staging/staging/a/confirm":
			return nil, fault.New(fault.Forbidden, "may not look")
		case e.Verb == rotation.Judge:
			return rotation.Judgement{Blame: dead, Why: "asked"}, nil
		}
		return healthy(e)
	}
	d.wait = func(m rotation.Move) bool {
		if m.Status == rotation.Paused {
			dead = true
			d.signal(rotation.SignalResume, "op", rotation.SignalData{})
		}
		return true
	}
	m := d.run()
	if m.Status != rotation.RolledBack || !strings.Contains(strings.Join(d.order, " "), "judge staging/staging/a/judge-2 turn") {
		t.Errorf("%s: %q\n%s", m.Status, m.Note, strings.Join(d.order, " "))
	}
}

// TestInterruptedDecisionStands: the process stops between the intent and the result of turning back.
func TestInterruptedDecisionStands(t *testing.T) {
	d := newDriver(t, plan())
	d.answer = func(e rotation.Effect) (any, error) {
		if e.Verb == rotation.TestValue {
			return nil, fault.New(fault.Unauthenticated, "refused")
		}
		return healthy(e)
	}
	for range 100 {
		m := rotation.Next(d.plan, d.journal, d.now)
		for _, e := range m.Do {
			d.append(rotation.Entry{Type: rotation.Intended, Effect: e.ID})
			if e.Verb == rotation.Turn {
				again := rotation.Next(d.plan, d.journal, d.now)
				if len(again.Do) != 1 || again.Do[0].Verb != rotation.Turn || !json.Valid([]byte(again.Do[0].Arg)) || !again.Do[0].Unsure {
					t.Fatalf("after the intent: %+v", again.Do)
				}
				if m := d.run(); m.Status != rotation.Failed || !strings.Contains(m.Note, "refused") {
					t.Errorf("%s: %s", m.Status, m.Note)
				}
				return
			}
			data, err := d.answer(e)
			if err != nil {
				d.append(rotation.Entry{Type: rotation.Missed, Effect: e.ID, Fault: rotation.FaultOf(err)})
				continue
			}
			b, _ := json.Marshal(data)
			d.append(rotation.Entry{Type: rotation.Made, Effect: e.ID, Data: b})
		}
		d.now = later(d.now, m.Until)
	}
	t.Fatal("it never turned")
}

// TestCancelAtEveryPoint: before the flip everything that was touched is put back; after it nothing changes.
func TestCancelAtEveryPoint(t *testing.T) {
	for _, process := range []string{rotation.ProcessOrdinary, rotation.ProcessRollback, rotation.ProcessEmergency} {
		p := plan()
		p.Process = process
		p.Places[2].Can.Read = true
		p.Soak, p.Watch = time.Hour, time.Hour
		full := newDriver(t, p)
		full.run()
		for n, at := range full.order {
			for _, when := range []string{"before", "after"} {
				d := newDriver(t, p)
				d.answer = func(e rotation.Effect) (any, error) {
					if e.ID == at && when == "before" {
						d.signal(rotation.SignalCancel, "op", rotation.SignalData{})
					}
					data, err := healthy(e)
					if e.ID == at && when == "after" {
						d.signal(rotation.SignalCancel, "op", rotation.SignalData{})
					}
					return data, err
				}
				m := d.run()
				written, back, flipped := map[string]bool{}, map[string]bool{}, false
				for _, id := range d.order {
					parts := strings.Split(id, "/")
					switch verbOf(id) {
					case rotation.Put, rotation.Stage:
						written[parts[len(parts)-2]] = true
					case rotation.PutBack:
						back[parts[len(parts)-2]] = true
					case rotation.Flip:
						flipped = true
					}
				}
				switch {
				case process != rotation.ProcessOrdinary && n >= 1 && !strings.HasPrefix(at, "preflight/") && m.Status != rotation.Done:
					t.Errorf("%s cancelled %s %s: %s", process, when, at, m.Status)
				case flipped && (m.Status != rotation.Done || len(back) > 0):
					t.Errorf("cancelled %s %s: %s, put back %v", when, at, m.Status, back)
				case !flipped && m.Status != rotation.Cancelled:
					t.Errorf("cancelled %s %s: %s", when, at, m.Status)
				case !flipped && process == rotation.ProcessOrdinary && fmt.Sprint(written) != fmt.Sprint(back):
					t.Errorf("cancelled %s %s: written %v, put back %v", when, at, written, back)
				}
			}
		}
	}
}

// TestOneWayProcessesPause where an ordinary one would turn back.
func TestOneWayProcessesPause(t *testing.T) {
	for _, process := range []string{rotation.ProcessRollback, rotation.ProcessEmergency} {
		p := plan()
		p.Process = process
		full := newDriver(t, p)
		full.run()
		for _, at := range full.order {
			d := newDriver(t, p)
			failing, mended := true, false
			d.answer = func(e rotation.Effect) (any, error) {
				if e.ID == at && failing {
					return nil, fault.New(fault.Forbidden, "refused")
				}
				if e.Verb == rotation.Judge {
					return rotation.Judgement{Blame: true, Why: "blamed"}, nil
				}
				return healthy(e)
			}
			d.wait = func(m rotation.Move) bool {
				if m.Status == rotation.Paused && !mended {
					if m.Note == "" || m.Hint == "" {
						t.Errorf("%s, %s: %q %q", process, at, m.Note, m.Hint)
					}
					failing, mended = false, true
					d.signal(rotation.SignalResume, "op", rotation.SignalData{})
				}
				return true
			}
			m := d.run()
			if m.Status != rotation.Done || !mended && verbOf(at) != rotation.Tell {
				t.Errorf("%s, %s: %s, mended %v", process, at, m.Status, mended)
			}
			if slices.ContainsFunc(d.order, func(id string) bool { return verbOf(id) == rotation.PutBack || verbOf(id) == rotation.Turn }) {
				t.Errorf("%s turned back at %s", process, at)
			}
		}
	}
}

// TestPausedByHand stops the way forward, and never an emergency.
func TestPausedByHand(t *testing.T) {
	p := plan()
	d := newDriver(t, p)
	d.signal(rotation.SignalPause, "op", rotation.SignalData{})
	m := rotation.Next(p, d.journal, begin)
	if m.Status != rotation.Paused || len(m.Do) > 0 || !strings.Contains(m.Hint, "resume r-1") {
		t.Errorf("%+v", m)
	}
	d.signal(rotation.SignalResume, "op", rotation.SignalData{})
	if m = rotation.Next(p, d.journal, begin); len(m.Do) == 0 {
		t.Errorf("after resume: %+v", m)
	}
	p.Process = rotation.ProcessEmergency
	d.signal(rotation.SignalPause, "op", rotation.SignalData{})
	if m = rotation.Next(p, d.journal, begin); len(m.Do) == 0 {
		t.Errorf("an emergency was paused: %+v", m)
	}
}

// TestEmergencyLooksAgainAfterOvertaking: what an overtaken worker wrote late is put right.
func TestEmergencyLooksAgainAfterOvertaking(t *testing.T) {
	p := plan()
	p.Process, p.Overtakes = rotation.ProcessEmergency, "r-0"
	d := newDriver(t, p)
	var flip, late time.Time
	d.answer = func(e rotation.Effect) (any, error) {
		switch {
		case e.Verb == rotation.Flip:
			flip = d.now
		case e.ID == "verify/late/a/put":
			late = d.now
			return map[string]any{"facts": map[string]string{}}, nil
		case e.Verb == rotation.Put:
			return map[string]any{"facts": map[string]string{"already": "held"}}, nil
		}
		return healthy(e)
	}
	m := d.run()
	all := strings.Join(d.order, " ")
	if m.Status != rotation.Done || late.Sub(flip) < 35*time.Second || !strings.Contains(all, "verify/late/a/reload") || strings.Contains(all, "verify/late/b/reload") || !strings.Contains(all, "verify/late/drift") {
		t.Errorf("%s, late after %v:\n%s", m.Status, late.Sub(flip), all)
	}
}
