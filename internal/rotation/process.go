// Package rotation is the process by which a key moves from one version to the next, as a pure function: given the plan and the
// journal, Next says what to do now. Read this file from top to bottom to know the process. It does nothing itself, holds no value
// and takes the time as an argument; runner makes the effects and writes the journal.
package rotation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// Step is a named unit of a rotation, as people see it.
type Step string

// The steps.
const (
	Preflight Step = "preflight"
	Acquiring Step = "acquire"
	Testing   Step = "test"
	Staging   Step = "staging"
	Approval  Step = "approve"
	Deploy    Step = "deploy"
	Observe   Step = "observe"
	Soak      Step = "soak"
	Proving   Step = "evidence"
	Retire    Step = "retire"
	Archiving Step = "archive"
	Recording Step = "record"
	Undo      Step = "undo"
	Switch    Step = "switch"
	Verify    Step = "verify"
)

// The processes, by the name that a plan stores. A change of meaning gets a new version and the old one stays while rotations use it.
const (
	ProcessOrdinary  = "ordinary/1"
	ProcessRollback  = "rollback/1"
	ProcessEmergency = "emergency/1"
)

var processes = map[string]func(*walk){
	ProcessOrdinary:  ordinary,
	ProcessRollback:  goBack,
	ProcessEmergency: emergency,
}

// ordinary is a scheduled or manual rotation. Up to the flip, a cancel, a failed check or a proof that the new version is to blame turns
// it back. The decision to turn back is itself journalled, so that nothing said later can reverse it.
func ordinary(w *walk) {
	forward(w)
	if turned, ok := w.turned(); ok {
		w.turnBack(turned)
	}
}

func forward(w *walk) {
	// 1. Look at everything without writing: a failure here ends the rotation with nothing changed.
	w.step(Preflight)
	w.fork(len(w.plan.Places), func(i int, b *walk) {
		b.must(b.effect(CheckPlace, w.plan.Places[i].Name, ""))
	})
	if w.plan.Backup != "" {
		w.must(w.effect(CheckBackup, string(w.plan.Backup), Old))
	}
	if w.plan.Admin {
		w.must(w.effect(CheckClock, "", ""))
	}
	w.tell("started")

	// 2. Claim a spare, or wait until a person hands one in.
	w.step(Acquiring)
	w.acquire()

	// 3. Prove that the new version works before anything holds it.
	w.step(Testing)
	w.test()

	// 4. Pre-production places first.
	w.step(Staging)
	if len(w.plan.Pairs) > 0 {
		w.do(w.effect(TakePair, "", ""), nil)
	}
	for _, wave := range w.plan.Waves {
		if !wave.Production {
			w.wave(wave)
		}
	}
	w.giveHome()

	// 5. Other people say yes.
	w.step(Approval)
	w.approve()

	// 6. Production, wave by wave, batch by batch.
	w.step(Deploy)
	for _, wave := range w.plan.Waves {
		if wave.Production {
			w.wave(wave)
		}
	}

	// 7. Read every place again, then make the new version the current one.
	w.step(Observe)
	w.do(w.effect(Drift, "", New), nil)
	w.do(w.flip(), nil)
	if len(w.plan.Pairs) > 0 {
		w.do(w.effect(FreePair, "", ""), nil)
	}

	// 8. Both versions work; watch who still uses the old one.
	w.step(Soak)
	w.soak()

	if w.plan.Old != "" && !w.plan.Lent {
		// 9 and 10. Retire on evidence, reversibly; come back by itself when somebody is refused.
		w.retire()

		// 11. No way back from here.
		w.step(Archiving)
		w.archive()
	}

	// 12. Leave a record.
	w.step(Recording)
	w.record("done")
	w.end(Done, "done", "")
}

// goBack is a rollback after the flip: the plan's new version is the previous one, the old version is the one to take out.
func goBack(w *walk) {
	w.oneWay = true
	w.step(Preflight)
	w.fork(len(w.plan.Places), func(i int, b *walk) {
		b.must(b.effect(CheckPlace, w.plan.Places[i].Name, ""))
	})
	if w.plan.Admin {
		w.do(w.effect(Activate, "", New), nil)
	}
	w.do(w.effect(AwaitAccepted, "", New), nil)

	w.step(Deploy)
	for _, wave := range slices.Backward(w.plan.Waves) {
		w.wave(wave)
	}

	w.step(Observe)
	w.do(w.effect(Drift, "", New), nil)
	w.do(w.flip(), nil)
	w.do(w.effect(Settle, "", Old), nil)

	w.step(Recording)
	w.record("rolled back")
	w.end(Done, "the previous version is back everywhere", "")
	w.leave()
}

// emergency replaces a compromised version everywhere at once. It does not wait for windows, approvals, soak or evidence, and it never
// turns back: that would put the leaked value back. What can be tried again is tried without end.
func emergency(w *walk) {
	w.oneWay, w.patient = true, true
	w.step(Preflight)
	alive := true
	w.fork(2, func(i int, b *walk) {
		if i == 0 {
			alive = b.choose()
			return
		}
		b.do(b.effect(Open, "", ""), nil)
		b.tell("emergency")
	})

	w.step(Switch)
	places := w.plan.Places
	w.fork(len(places)+1, func(i int, b *walk) {
		switch {
		case i < len(places) && alive:
			b.replace(places[i])
		case i == len(places) && w.plan.Admin && w.plan.Old != "":
			b.do(b.effect(Deactivate, "", Old), nil)
			b.do(b.effect(AwaitRefused, "", Old), nil)
		}
	})
	if !alive {
		w.cut()
		return
	}

	w.step(Verify)
	w.putAgain()
	w.do(w.effect(Drift, "", New), nil)
	w.do(w.flip(), nil)
	w.do(w.effect(Settle, "", Old), nil)
	if w.plan.Overtakes != "" {
		// A worker of the overtaken rotation may still be in a call: look again when the longest call is over.
		w.until(w.madeAt(w.flip()).Add(lateWrites), "every place has the new version; looking once more for a late write of "+w.plan.Overtakes)
		w.prefix = "late"
		w.putAgain()
		w.do(w.effect(Drift, "", New), nil)
		w.prefix = ""
	}

	w.step(Recording)
	w.record("emergency done")
	w.end(Done, "the compromised version is out of every place", "")
	w.leave()
}

// ---- the steps ----

// choose picks the version that an emergency deploys. It reports false when there is none and the person said to cut all the same.
func (w *walk) choose() bool {
	e := w.effect(Choose, "", New)
	if !w.plan.Cut {
		w.do(e, nil)
		return true
	}
	_, gaveUp := w.attempt(e, nil)
	return gaveUp == nil
}

// cut ends an emergency that had nothing to deploy: the compromised version is inactive, and requests fail until a new one is there.
func (w *walk) cut() {
	w.step(Recording)
	w.do(w.effect(Settle, "", Old), nil)
	w.record("cut")
	w.end(Done, "the compromised version is inactive and nothing replaces it: requests fail", "keywright key add "+string(w.plan.Key)+" --spare, then: keywright rotate "+string(w.plan.Key))
	w.leave()
}

// acquire claims a version. Without a spare it waits for intake.
func (w *walk) acquire() {
	var got Acquired
	made, gaveUp := w.attempt(w.effect(Acquire, "", New), &got)
	if made || gaveUp == nil {
		return
	}
	if fault.ParseKind(gaveUp.Kind) == fault.NotFound {
		w.wait("no spare for "+string(w.plan.Key)+": make one in the Console, named "+w.plan.ConsoleName, "keywright key add "+string(w.plan.Key)+" --spare")
		return
	}
	w.turnFor(w.effect(Acquire, "", New), gaveUp)
}

// test asks the provider and runs the owner's tests. A version that fails is rejected; nothing has been changed.
func (w *walk) test() {
	w.must(w.effect(TestValue, "", New))
	for i, t := range w.plan.Tests {
		e := w.effect(TestRun, t.Name, New)
		e.Arg = fmt.Sprint(i)
		w.must(e)
	}
}

// wave changes the places of a wave batch by batch; inside a batch no place waits for another.
func (w *walk) wave(wave Wave) {
	w.inWindow(wave)
	for _, batch := range wave.Batches {
		w.fork(len(batch), func(i int, b *walk) {
			if p, ok := w.plan.Place(batch[i]); ok {
				b.prefix = wave.Name
				b.change(p)
			}
		})
		w.watchBatch(wave, batch)
	}
}

// inWindow lets a scheduled rotation begin a wave of production only while a window is open. A wave that has begun goes on.
func (w *walk) inWindow(wave Wave) {
	if w.blocked || !wave.Production || w.plan.Kind != Scheduled || len(w.plan.Windows) == 0 || w.waveBegun(wave) {
		return
	}
	switch open := nextOpen(w.plan.Windows, w.now); {
	case open.IsZero():
		w.sleep(w.now.Add(bound), Paused, "wave "+wave.Name+" waits for a window, and none of them ever opens", "cancel with keywright rotation cancel "+w.plan.ID+", mend windows in the policy, and rotate again")
	default:
		w.until(open, "wave "+wave.Name+" waits for its window until "+stamp(open))
	}
}

// change brings the new version into one place, and makes sure that its consumers took it up and work.
func (w *walk) change(p Place) {
	if p.Can.Manual {
		w.signed(p.Name, "a person puts the new value into "+p.Name)
		w.do(w.effect(Put, p.Name, New), nil)
		return
	}
	var before ProbeState
	if p.Can.Probe {
		w.do(w.effect(Baseline, p.Name, ""), &before)
	}
	if p.Can.Stage {
		w.stageAndPromote(p)
	} else {
		w.do(w.effect(Put, p.Name, New), nil)
	}
	if p.Can.Reload {
		w.do(w.effect(Reload, p.Name, New), nil)
		if !p.Can.Confirm && !p.Can.Probe {
			w.after(w.effect(Reload, p.Name, New), w.plan.HealthWait, "health wait after the reload of "+p.Name)
		}
	}
	if p.Can.Confirm {
		if _, gaveUp := w.attempt(w.effect(Confirm, p.Name, New), nil); gaveUp != nil {
			w.judge(p, gaveUp)
		}
	}
	if p.Can.Probe {
		if _, gaveUp := w.attempt(w.effect(Probe, p.Name, New), nil); gaveUp != nil {
			w.probeFailed(p, before, gaveUp)
		}
	}
}

// stageAndPromote writes beside the held value, waits, and puts it in force. When the place changed meanwhile, the new document is taken
// as the base once more; a second change is left to a person.
func (w *walk) stageAndPromote(p Place) {
	stage, promote := w.effect(Stage, p.Name, New), w.effect(Promote, p.Name, New)
	again, promoteAgain := stage, promote
	again.ID += "-2"
	promoteAgain.ID += "-2"
	promote.From, promoteAgain.From = stage.ID, again.ID

	if !w.begun(again) {
		w.do(stage, nil)
		w.after(stage, w.plan.HealthWait, "health wait before the value in "+p.Name+" is promoted")
		made, gaveUp := w.attempt(promote, nil)
		if made || gaveUp == nil {
			return
		}
		if fault.ParseKind(gaveUp.Kind) != fault.Conflict {
			w.trouble(gaveUp)
			return
		}
	}
	w.do(again, nil)
	w.do(promoteAgain, nil)
}

// watchBatch lets a changed batch work for a while, then probes it again.
func (w *walk) watchBatch(wave Wave, batch []string) {
	if w.blocked || wave.Watch == 0 {
		return
	}
	var last time.Time
	for _, name := range batch {
		last = later(last, w.lastChange(wave, name))
	}
	if !w.until(last.Add(wave.Watch), "watching wave "+wave.Name) {
		return
	}
	w.fork(len(batch), func(i int, b *walk) {
		p, _ := w.plan.Place(batch[i])
		if !p.Can.Probe {
			return
		}
		b.prefix = wave.Name
		var before ProbeState
		b.do(b.effect(Baseline, p.Name, ""), &before)
		again := b.effect(Probe, p.Name, New)
		again.ID += "-watch"
		if _, gaveUp := b.attempt(again, nil); gaveUp != nil {
			b.probeFailed(p, before, gaveUp)
		}
	})
}

// probeFailed answers a probe that goes on failing: what worked before the change is proof, anything else is doubt.
func (w *walk) probeFailed(p Place, before ProbeState, f *Fault) {
	if before.Passed && fault.ParseKind(f.Kind) == fault.Unavailable {
		w.turn(Turned{Status: RolledBack, Why: fmt.Sprintf("%s worked before the change and does not now: %s", p.Name, f.Message), Reject: true})
		return
	}
	w.judge(p, f)
}

// judge asks whether the new version is to blame. Proof turns the rotation back; doubt pauses it.
func (w *walk) judge(p Place, f *Fault) {
	var j Judgement
	e := w.effect(Judge, p.Name, New)
	if n := w.rounds(p); n > 0 {
		e.ID += fmt.Sprint("-", n+1) // asked anew after a person resumed
	}
	if !w.do(e, &j) {
		return
	}
	if j.Blame {
		w.turn(Turned{Status: RolledBack, Why: j.Why, Reject: true})
		return
	}
	w.trouble(f)
}

// giveHome puts their own value back into pre-production places that belong to another key.
func (w *walk) giveHome() {
	for _, p := range w.plan.Places {
		if p.Home != "" {
			w.putHome(p)
		}
	}
}

func (w *walk) putHome(p Place) {
	w.do(w.effect(PutHome, p.Name, ""), nil)
	if p.Can.Reload {
		e := w.effect(Reload, p.Name, "")
		e.ID += "-home"
		w.do(e, nil)
	}
}

// approve counts people other than the one who asked, each bound to this very plan. All of them must be unexpired at one moment; from that
// moment on it is approved.
func (w *walk) approve() {
	if w.blocked || w.plan.Approvals == 0 {
		return
	}
	hash, most := w.plan.Hash(), 0
	until := map[int]time.Time{}
	for _, s := range w.h.signals {
		d := s.signal()
		if s.Signal != SignalApprove || d.UID < 0 || d.UID == w.plan.UID || d.PlanHash != hash || expired(d.Until, s.At) {
			continue
		}
		until[d.UID] = d.Until
		yes := 0
		for _, end := range until {
			if !expired(end, s.At) {
				yes++
			}
		}
		if yes >= w.plan.Approvals {
			return
		}
	}
	for _, end := range until {
		if !expired(end, w.now) {
			most++
		}
	}
	w.wait(fmt.Sprintf("waiting for %d more approval(s) by other people", w.plan.Approvals-most), "keywright rotation approve "+w.plan.ID)
}

func expired(until, at time.Time) bool { return !until.IsZero() && !at.Before(until) }

// soak waits while both versions work, and reads the places again from time to time. Drift makes it begin anew once it is mended.
func (w *walk) soak() {
	defer func() { w.prefix = "" }()
	start := w.madeAt(w.flip())
	every := max(time.Hour, w.plan.Soak/24)
	for n := 1; !w.blocked; n++ {
		end, look := start.Add(w.plan.Soak), start.Add(time.Duration(n)*every)
		if !look.Before(end) {
			w.until(end, "soak: both versions work until "+stamp(end))
			return
		}
		if !w.until(look, "soak: both versions work until "+stamp(end)) {
			return
		}
		e := w.effect(Drift, fmt.Sprint(n), New)
		w.do(e, nil)
		if t := w.h.effects[e.ID]; t != nil && t.made && t.conflicts > 0 {
			start, n = t.madeAt, 0
			w.prefix += "again"
		}
	}
}

// retire gathers evidence and sets the old version inactive. A consumer that is refused during the watch brings it back, and the round
// begins again when a person says so; what people signed for until then is asked again.
func (w *walk) retire() {
	defer func() { w.prefix, w.since = "", 0 }()
	for round := 1; ; round++ {
		w.since = w.roundEnd(round - 1)
		w.prefix = ""
		w.step(Proving)
		w.prefix = roundName(round)
		w.prove()

		w.prefix = ""
		w.step(Retire)
		w.prefix = roundName(round)
		undone := w.deactivateAndWatch()
		if w.blocked || undone == "" {
			return
		}
		if !w.resumedSince(w.roundEnd(round)) {
			again := "; it is active again"
			if !w.plan.Admin {
				again = "; make it active again in the Console"
			}
			w.sleep(w.now.Add(bound), Paused, undone+again, "bring the new version there, then: keywright rotation resume "+w.plan.ID)
			return
		}
	}
}

// prove asks for evidence again and again until it allows retiring, or a person signs for what cannot be seen. A heartbeat closes each window; while
// the report is not fresh past it, only the facts are gathered anew.
func (w *walk) prove() {
	outer := w.prefix
	defer func() { w.prefix = outer }()
	for n := 1; !w.blocked; n++ {
		w.prefix = fmt.Sprint(outer, "/", n)
		if w.plan.Admin {
			w.do(w.effect(CheckClock, "", ""), nil) // a window counts by the provider's clock
		}
		if w.plan.Usage {
			// The report counts whole minutes: the first window begins after the last change.
			window := w.madeAt(w.flip()).Add(time.Minute).Truncate(time.Minute)
			w.until(window.Add(min(w.plan.Soak, time.Minute)), "evidence: the usage report counts whole minutes")
			w.do(w.effect(Heartbeat, "", New), nil)
		}
		if w.weigh() {
			return
		}
	}
}

// incomplete is how long evidence may be missing that ought to come by itself, before people are told.
const incomplete = 3 * time.Hour

// weigh gathers facts for one window. It reports whether they allow retiring; false and not blocked asks for a new window.
func (w *walk) weigh() bool {
	var first time.Time
	for n := 1; ; n++ {
		gather := w.effect(Gather, "", Old)
		gather.ID += fmt.Sprint("-", n)
		var facts Facts
		if !w.do(gather, &facts) {
			return false
		}
		if n == 1 {
			first = w.madeAt(gather)
		}
		facts.Signed = w.signedBefore("evidence", gather)
		ruling := Rule(facts)
		if ruling.Verdict == Allowed {
			return true
		}
		if ruling.Verdict == WantsSignature {
			if w.hasSigned("evidence") {
				return false // what was signed for is looked at once more, since time has passed
			}
			w.wait("retiring wants a person's signature: "+ruling.Summary(), "keywright rotation sign "+w.plan.ID+" evidence")
			return false
		}
		again := w.madeAt(gather).Add(clamp(w.plan.Soak/48, time.Second, 15*time.Minute))
		switch {
		case !again.After(w.now) && ruling.Verdict == Holds:
			return false
		case !again.After(w.now):
			continue
		case ruling.Verdict == Holds:
			w.sleep(again, Waiting, "evidence holds: "+ruling.Summary(), "keywright rotation show "+w.plan.ID)
		case w.madeAt(gather).Sub(first) > incomplete:
			w.sleep(again, Waiting, "evidence is not complete: "+ruling.Summary(), "keywright rotation show "+w.plan.ID)
		default:
			w.sleep(again, "", "evidence is not complete: "+ruling.Summary(), "")
		}
		return false
	}
}

// deactivateAndWatch gives the empty string when nobody was refused, or why the old version had to be made active again.
func (w *walk) deactivateAndWatch() (undone string) {
	reactivate, gone := w.effect(Activate, "", Old), w.effect(AwaitRefused, "", Old)
	if w.plan.Admin {
		w.do(w.effect(CheckClock, "", ""), nil)
		w.do(w.effect(Deactivate, "", Old), nil)
	} else {
		w.signed("disabled", "disable (do not delete) the old key in the Console")
	}
	if w.blocked {
		return ""
	}
	wrongID := w.begun(reactivate) && !w.made(gone)
	if !wrongID {
		_, gaveUp := w.attempt(gone, nil)
		wrongID = gaveUp != nil
	}
	if wrongID {
		// The value is still accepted, so the id belonged to something else: give it back at once.
		if w.plan.Admin {
			w.do(reactivate, nil)
		}
		why := "its id was set inactive, and the old value was not refused in time"
		if t := w.h.effects[gone.ID]; t != nil && t.last.Message != "" {
			why += ": " + t.last.Message
		}
		return why
	}
	if w.blocked {
		return ""
	}
	start := w.madeAt(gone)
	every := clamp(w.plan.Watch/24, time.Second, time.Hour)
	for n := 1; ; n++ {
		end, look := start.Add(w.plan.Watch), start.Add(time.Duration(n)*every)
		last := !look.Before(end)
		if last {
			look = end
		}
		var seen WatchState
		if !w.until(look, "watch: inactive, and archived after "+stamp(end)+" if nobody is refused") || !w.do(w.effect(WatchLook, fmt.Sprint(n), Old), &seen) {
			return ""
		}
		if len(seen.Refused) > 0 {
			if w.plan.Admin {
				w.do(reactivate, nil)
				w.do(w.effect(AwaitAccepted, "", Old), nil)
			}
			return "refused with the old value: " + strings.Join(seen.Refused, ", ")
		}
		if last {
			return ""
		}
	}
}

// archive ends the old version for good, in this order: provider, places, custody.
func (w *walk) archive() {
	if w.plan.Admin {
		w.do(w.effect(CheckClock, "", ""), nil)
		w.do(w.effect(Archive, "", Old), nil)
	} else {
		w.signed("archived", "archive the old key in the Console")
	}
	w.fork(len(w.plan.Places), func(i int, b *walk) {
		if p := w.plan.Places[i]; p.Can.Remove {
			b.do(b.effect(PurgePlace, p.Name, Old), nil)
		}
	})
	w.do(w.effect(PurgeValue, "", Old), nil)
}

func (w *walk) record(outcome string) {
	e := w.effect(Record, "", "")
	e.Arg = outcome
	w.do(e, nil)
	w.tell(outcome)
}

// lateWrites is how long a worker that was overtaken may still write: the time-out of one call of a place, and the time until it notices.
const lateWrites = 35 * time.Second

// putAgain writes where something else than the new version is held, and only looks where it is held.
func (w *walk) putAgain() {
	w.fork(len(w.plan.Places), func(i int, b *walk) {
		p := w.plan.Places[i]
		if p.Can.Manual || !p.Can.Read {
			return
		}
		var receipt struct {
			Facts map[string]string `json:"facts"`
		}
		b.do(b.effect(Put, p.Name, New), &receipt)
		if receipt.Facts["already"] == "" && p.Can.Reload {
			b.do(b.effect(Reload, p.Name, New), nil)
		}
	})
}

// replace is change in an emergency: no staging, no waits, no baseline.
func (w *walk) replace(p Place) {
	if p.Can.Manual {
		w.signed(p.Name, "a person puts the new value into "+p.Name)
		w.do(w.effect(Put, p.Name, New), nil)
		return
	}
	w.do(w.effect(Put, p.Name, New), nil)
	if p.Can.Reload {
		w.do(w.effect(Reload, p.Name, New), nil)
	}
	if p.Can.Confirm {
		w.do(w.effect(Confirm, p.Name, New), nil)
	}
}

// turnBack puts the old version back into every place that was touched, newest wave first.
func (w *walk) turnBack(t Turned) {
	w.step(Undo)
	touched := 0
	for _, wave := range slices.Backward(w.plan.Waves) {
		places := w.touched(wave)
		touched += len(places)
		w.fork(len(places), func(i int, b *walk) { b.putBack(places[i]) })
	}
	settle := w.effect(Settle, "", New)
	if t.Reject {
		settle.Arg = "rejected"
	}
	w.do(settle, nil)
	w.record(string(t.Status) + ": " + t.Why)
	if touched == 0 && t.Status == RolledBack {
		t.Status = Failed
	}
	w.end(t.Status, t.Why, t.Hint)
}

func (w *walk) putBack(p Place) {
	if p.Home != "" && !p.Can.Manual {
		w.putHome(p)
		return
	}
	if w.plan.Old == "" {
		w.signed(p.Name, "there is no older version to put back into "+p.Name+": change it by hand")
		return
	}
	if p.Can.Manual {
		w.signed(p.Name+" back", "a person puts the old value back into "+p.Name)
		return
	}
	w.do(w.effect(PutBack, p.Name, Old), nil)
	if p.Can.Reload {
		w.do(w.effect(Reload, p.Name, Old), nil)
	}
	if p.Can.Confirm {
		w.do(w.effect(Confirm, p.Name, Old), nil)
	}
}
