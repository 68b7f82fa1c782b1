package rotation_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// weather draws what happens to a rotation: answers, failures, signals and lost results in any order.
type weather struct {
	*rapid.T
	plan     rotation.Plan
	journal  []rotation.Entry
	now      time.Time
	made     map[string]int
	order    []rotation.Effect
	turned   string // what was written down when it turned
	finished rotation.Status
}

func (w *weather) append(e rotation.Entry) {
	e.Seq, e.At = int64(len(w.journal)+1), w.now
	w.journal = append(w.journal, e)
}

func (w *weather) signal() {
	s := rapid.SampledFrom([]rotation.Signal{
		rotation.SignalIntake, rotation.SignalApprove, rotation.SignalPause, rotation.SignalResume, rotation.SignalCancel, rotation.SignalSign, rotation.SignalWake, "unheard of",
	}).Draw(w.T, "signal")
	data := rotation.SignalData{UID: rapid.IntRange(1000, 1003).Draw(w.T, "uid"), PlanHash: w.plan.Hash(),
		Subject: rapid.SampledFrom([]string{"evidence", "disabled", "archived", "c", "c back", "elsewhere"}).Draw(w.T, "subject")}
	b, err := json.Marshal(data)
	if err != nil {
		w.Fatal(err)
	}
	w.append(rotation.Entry{Type: rotation.Signalled, Signal: s, Actor: "somebody", Data: b})
}

func (w *weather) result(e rotation.Effect) any {
	switch e.Verb {
	case rotation.Baseline:
		return rotation.ProbeState{Passed: rapid.Bool().Draw(w.T, "worked")}
	case rotation.Judge:
		return rotation.Judgement{Blame: rapid.Bool().Draw(w.T, "blame"), Why: "asked"}
	case rotation.WatchLook:
		if rapid.IntRange(0, 9).Draw(w.T, "refused") == 0 {
			return rotation.WatchState{Refused: []string{"b"}}
		}
		return rotation.WatchState{}
	case rotation.Gather:
		f := goodFacts()
		f.Admin = w.plan.Admin
		switch rapid.IntRange(0, 5).Draw(w.T, "facts") {
		case 0:
			f.Usage.Seen = 1
		case 1:
			f.Usage.Alive = false
		case 2:
			f.Usage = rotation.UsageFact{}
		}
		return f
	}
	data, _ := healthy(e)
	return data
}

// make lets one effect end in some way, and checks what must never be.
func (w *weather) make(e rotation.Effect) {
	w.append(rotation.Entry{Type: rotation.Intended, Effect: e.ID})
	w.never(e)
	w.now = w.now.Add(time.Duration(rapid.IntRange(1, 2000).Draw(w.T, "ms")) * time.Millisecond)
	switch fate := rapid.IntRange(0, 19).Draw(w.T, "fate"); {
	case fate == 0:
		return // the process stopped: an open intent
	case fate <= 3:
		kind := rapid.SampledFrom([]fault.Kind{fault.Unavailable, fault.Indeterminate, fault.Conflict, fault.Forbidden, fault.NotFound, fault.RateLimited, fault.Unauthenticated}).Draw(w.T, "kind")
		w.append(rotation.Entry{Type: rotation.Missed, Effect: e.ID, Fault: rotation.FaultOf(fault.New(kind, "it failed"))})
		return
	}
	b, err := json.Marshal(w.result(e))
	if err != nil {
		w.Fatal(err)
	}
	w.append(rotation.Entry{Type: rotation.Made, Effect: e.ID, Data: b})
	w.order = append(w.order, e)
	if w.made[e.ID]++; w.made[e.ID] > 1 {
		w.Fatalf("%s was made twice", e.ID)
	}
	if e.Verb == rotation.Turn {
		w.turned = string(b)
	}
}

func (w *weather) did(v rotation.Verb) bool {
	return slices.ContainsFunc(w.order, func(e rotation.Effect) bool { return e.Verb == v })
}

// never holds what no order of events may lead to.
func (w *weather) never(e rotation.Effect) {
	forward := w.turned == ""
	switch e.Verb {
	case rotation.Flip:
		if !forward || w.did(rotation.Flip) {
			w.Fatalf("flip after %q, flipped before: %v", w.turned, w.did(rotation.Flip))
		}
	case rotation.Deactivate, rotation.Archive, rotation.PurgeValue, rotation.PurgePlace:
		if w.plan.Process == rotation.ProcessEmergency && e.Verb == rotation.Deactivate {
			return
		}
		if !forward || !w.did(rotation.Flip) {
			w.Fatalf("%s before the flip or after turning", e.ID)
		}
		if e.Verb != rotation.Deactivate && w.plan.Admin && !w.did(rotation.AwaitRefused) {
			w.Fatalf("%s before the value was refused", e.ID)
		}
	case rotation.Put, rotation.Stage, rotation.Promote:
		if !forward {
			w.Fatalf("%s after the decision to turn back", e.ID)
		}
	case rotation.PutBack, rotation.Turn:
		if w.plan.Process != rotation.ProcessOrdinary || w.did(rotation.Flip) || e.Verb == rotation.PutBack && forward {
			w.Fatalf("%s after the flip, without a decision, or in a process with one way", e.ID)
		}
	case rotation.TestValue:
		if !w.did(rotation.Acquire) {
			w.Fatalf("%s before anything was acquired", e.ID)
		}
	}
}

// check asks twice, with the journal as it is and as JSON: the answer depends on nothing else.
func (w *weather) check(m rotation.Move) {
	b, err := json.Marshal(w.journal)
	if err != nil {
		w.Fatal(err)
	}
	var copied []rotation.Entry
	if err := json.Unmarshal(b, &copied); err != nil {
		w.Fatal(err)
	}
	again := rotation.Next(w.plan, copied, w.now)
	x, _ := json.Marshal(m)
	y, _ := json.Marshal(again)
	if string(x) != string(y) {
		w.Fatalf("two answers:\n%s\n%s", x, y)
	}
	switch {
	case m.Status.Ended():
		if len(m.Do) > 0 {
			w.Fatalf("it ended with something to do: %+v", m)
		}
	case len(m.Do) == 0:
		if m.Until.IsZero() || m.Until.After(w.now.Add(time.Hour)) || m.Status == "" || m.Status != rotation.Running && (m.Note == "" || m.Hint == "") {
			w.Fatalf("parked without a bound or without words: %s %v %q %q", m.Status, m.Until, m.Note, m.Hint)
		}
	}
	if w.turned != "" {
		for _, e := range m.Do {
			if !strings.HasPrefix(e.ID, string(rotation.Undo)+"/") {
				w.Fatalf("%s after the decision to turn back", e.ID)
			}
		}
	}
}

// TestWeather: whatever answers come in whatever order, the process neither flips twice, retires before the flip, writes forward after it was
// turned, nor forgets a decision; it always has something to do, a bound to its sleep, or an end.
func TestWeather(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := plan()
		p.Process = rapid.SampledFrom([]string{rotation.ProcessOrdinary, rotation.ProcessOrdinary, rotation.ProcessRollback, rotation.ProcessEmergency}).Draw(rt, "process")
		p.Admin, p.Usage = rapid.Bool().Draw(rt, "admin"), rapid.Bool().Draw(rt, "usage")
		p.Approvals, p.Soak, p.Watch = rapid.IntRange(0, 2).Draw(rt, "approvals"), 3*time.Hour, time.Minute
		p.Places[2].Can.Manual = rapid.Bool().Draw(rt, "manual")
		if rapid.Bool().Draw(rt, "lent") {
			p.Places[0].Home = "other"
		}
		if rapid.Bool().Draw(rt, "first") {
			p.Old = ""
		}
		w := &weather{T: rt, plan: p, now: begin, made: map[string]int{}}
		for range rapid.IntRange(10, 150).Draw(rt, "moves") {
			m := rotation.Next(w.plan, w.journal, w.now)
			w.check(m)
			if m.Status.Ended() {
				w.finished = m.Status
				break
			}
			if rapid.IntRange(0, 7).Draw(rt, "speaks") == 0 {
				w.signal()
				continue
			}
			if len(m.Do) == 0 {
				w.now = later(w.now, m.Until)
				continue
			}
			for _, e := range m.Do {
				w.make(e)
			}
		}
		if w.finished != "" {
			m := rotation.Next(w.plan, w.journal, w.now.Add(1000*time.Hour))
			if m.Status != w.finished {
				rt.Fatalf("it ended %q and later %q", w.finished, m.Status)
			}
		}
	})
}

// FuzzJournal reads journals that nobody wrote: Next answers whatever they say, and does not panic.
func FuzzJournal(f *testing.F) {
	d := &driver{plan: plan(), now: begin, answer: healthy, wait: func(rotation.Move) bool { return true }}
	for range 60 {
		m := rotation.Next(d.plan, d.journal, d.now)
		for _, e := range m.Do {
			d.append(rotation.Entry{Type: rotation.Intended, Effect: e.ID})
			data, _ := healthy(e)
			b, err := json.Marshal(data)
			if err != nil {
				f.Fatal(err)
			}
			d.append(rotation.Entry{Type: rotation.Made, Effect: e.ID, Data: b})
		}
		d.now = later(d.now, m.Until)
	}
	good, err := json.Marshal(d.journal)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "ordinary/1")
	f.Add([]byte(`[{"type":"failed","effect":"preflight/a/check"}]`), "ordinary/1")
	f.Add([]byte(`[{"type":"intended","effect":"turn"},{"type":"done","effect":"turn","data":{}}]`), "ordinary/1")
	f.Add([]byte(`[{"type":"done","effect":"turn","data":{"status":"running"}}]`), "ordinary/1")
	f.Add([]byte(`[{"type":"signal","signal":"approve","data":[1]},{"type":"nonsense","effect":""}]`), "ordinary/1")
	f.Add([]byte(`[{"type":"done","effect":"preflight/choose","data":7},{"type":"failed","effect":"switch/a/put","fault":{"kind":"?","retry_after":-1}}]`), "emergency/1")
	f.Add([]byte(`[{"type":"done","effect":"flip"},{"type":"signal","signal":"cancel"}]`), "rollback/1")
	f.Fuzz(func(t *testing.T, raw []byte, process string) {
		var journal []rotation.Entry
		if json.Unmarshal(raw, &journal) != nil || len(journal) > 2000 {
			return
		}
		p := plan()
		p.Process = process
		p.Approvals = len(raw) % 3
		m := rotation.Next(p, journal, begin.Add(100*time.Hour))
		if !m.Status.Ended() && len(m.Do) == 0 && (m.Until.IsZero() || m.Status == "") {
			t.Errorf("neither an end, nor something to do, nor a bound: %+v", m)
		}
		for _, e := range journal {
			if e.Fault != nil && e.Fault.Err() == nil {
				t.Error("a fault without an error")
			}
		}
		rotation.LastFacts(journal)
		rotation.Chosen(p, journal)
	})
}
