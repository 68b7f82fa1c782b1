package rotation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// Move is what comes next in a rotation. Exactly one of these is the case: Do is not empty; Status is final; or nothing can be done
// before Until, or before a signal when Status is Waiting or Paused.
type Move struct {
	// Do are effects that may be made now, side by side.
	Do []Effect
	// Undoing is true when Do belongs to the way back. A runner starts such effects only when none of the way forward is in flight.
	Undoing bool
	// Status is the status to park or end with.
	Status Status
	// Until is when to look again; never zero unless the status is final or Do is not empty.
	Until time.Time
	// Note and Hint tell people why nothing happens, or how it ended.
	Note string
	Hint string
	// Steps is the progress, for screens.
	Steps []Progress
}

// Progress is one step as the screens show it.
type Progress struct {
	Step  Step      `json:"step"`
	State string    `json:"state"` // "todo", "active", "done", "skipped"
	From  time.Time `json:"from,omitzero"`
	To    time.Time `json:"to,omitzero"`
	// Lines are the step's effects, in the order of the process.
	Lines []Line `json:"lines,omitempty"`
}

// Line is one effect as the screens show it.
type Line struct {
	Effect Effect          `json:"effect"`
	State  string          `json:"state"` // "next", "running", "retry", "failed", "done"
	At     time.Time       `json:"at,omitzero"`
	Took   time.Duration   `json:"took,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
	Fault  *Fault          `json:"fault,omitempty"`
}

// bound is the longest that a rotation sleeps without looking.
const bound = time.Hour

// Next says what comes next, from the plan and the journal alone. It is the whole process, run again from the top each time: what the
// journal has is passed over, and the first thing that it lacks is the answer. It never changes its mind about what is done.
func Next(plan Plan, journal []Entry, now time.Time) Move {
	process, known := processes[plan.Process]
	if !known {
		return Move{Status: Paused, Until: now.Add(bound), Note: fmt.Sprintf("this version of keywright does not know the process %q", plan.Process),
			Hint: "install the version that started the rotation, or a newer one"}
	}
	h := fold(journal)
	w := &walk{plan: plan, h: h, now: now, steps: &[]Progress{}, out: &outcome{}}
	process(w)
	return w.move()
}

// history is the journal, folded.
type history struct {
	effects map[string]*tries
	signals []spoken
	// paused is true after a pause signal without a later resume.
	paused    bool
	cancelled *Entry
}

// spoken is a signal with its position in the journal. What came first is told by positions: the times of a journal are those of several
// processes, whose clocks may differ or be set.
type spoken struct {
	Entry
	pos int
}

func fold(journal []Entry) *history {
	h := &history{effects: make(map[string]*tries)}
	for i := range journal {
		e := &journal[i]
		if e.Type == Signalled {
			h.signals = append(h.signals, spoken{*e, i})
			switch e.Signal {
			case SignalPause:
				h.paused = true
			case SignalCancel:
				if h.cancelled == nil {
					h.cancelled = e
				}
			case SignalIntake, SignalSign, SignalResume:
				h.paused = h.paused && e.Signal != SignalResume
				for _, t := range h.effects {
					if t.failures > 0 {
						t.rounds++
					}
					t.failures = 0
				}
			}
			continue
		}
		t := h.effects[e.Effect]
		if t == nil {
			t = &tries{}
			h.effects[e.Effect] = t
		}
		t.lastPos = i
		switch e.Type {
		case Intended:
			if t.intended.IsZero() {
				t.intended = e.At
			}
			if t.open {
				t.unsure = true // a crash lay between
			}
			t.open = true
		case Made:
			t.made, t.open, t.data, t.madeAt, t.madePos = true, false, e.Data, e.At, i
		case Missed:
			t.open = false
			if t.failures == 0 {
				t.since = e.At
			}
			t.failures++
			t.last, t.lastAt = Fault{Kind: fault.Unknown.String(), Message: "the journal does not say why"}, e.At
			if e.Fault != nil {
				t.last = *e.Fault
			}
			switch fault.ParseKind(t.last.Kind) {
			case fault.Indeterminate, fault.Unknown, fault.Canceled:
				t.unsure = true
			case fault.Conflict:
				t.conflicts++
			}
		}
	}
	return h
}

// walk goes through a process. Its methods do nothing once something is missing, so that a process reads as if every step succeeded; fork
// is the only way to have several things missing at once.
type walk struct {
	plan Plan
	h    *history
	now  time.Time

	blocked bool // this branch has something missing
	steps   *[]Progress
	out     *outcome
	prefix  string
	undoing bool
	since   int  // signatures before this position of the journal do not count: what they vouched for turned out wrong
	patient bool // nothing that can heal is ever given up
	oneWay  bool // there is no way back: what would turn it pauses it
}

// outcome collects what the branches lack.
type outcome struct {
	do      []Effect
	undoing bool
	until   time.Time
	status  Status // of what waits: "" means a timer
	note    string
	hint    string
	turn    *Turned
	end     *Move
}

// step begins a step; it reports whether the walk has come so far.
func (w *walk) step(s Step) bool {
	if w.blocked {
		if w.prefix == "" {
			*w.steps = append(*w.steps, Progress{Step: s, State: "todo"})
		}
		return false
	}
	w.closeStep()
	*w.steps = append(*w.steps, Progress{Step: s, State: "active"})
	return true
}

func (w *walk) closeStep() {
	if n := len(*w.steps); n > 0 && (*w.steps)[n-1].State == "active" {
		p := &(*w.steps)[n-1]
		p.State = "done"
		if len(p.Lines) == 0 && p.Step != Soak {
			p.State = "skipped"
		}
	}
}

// id makes the identifier of an effect from the current step, the verb and what it is about.
func (w *walk) id(v Verb, about string) string {
	step := Step("start")
	if n := len(*w.steps); n > 0 {
		for i := n - 1; i >= 0; i-- {
			if (*w.steps)[i].State != "todo" {
				step = (*w.steps)[i].Step
				break
			}
		}
	}
	id := string(step) + "/"
	if w.prefix != "" {
		id += w.prefix + "/"
	}
	if about != "" {
		id += about + "/"
	}
	return id + string(v)
}

// do makes sure of one effect. It reports whether the effect is made, and if so fills into (a pointer, or nil) from its result.
func (w *walk) do(e Effect, into any) bool {
	made, _ := w.try(e, into)
	if !made {
		w.blocked = true
	}
	return made
}

// attempt is do for an effect whose failure the process itself answers: it reports made, or given up with the last fault. While neither is
// the case the branch is blocked.
func (w *walk) attempt(e Effect, into any) (made bool, gaveUp *Fault) {
	if w.blocked {
		return false, nil
	}
	made, exhausted := w.look(e, into)
	switch {
	case made:
		return true, nil
	case exhausted != nil:
		return false, exhausted
	default:
		w.blocked = true
		return false, nil
	}
}

func (w *walk) try(e Effect, into any) (bool, *Fault) {
	if w.blocked {
		return false, nil
	}
	made, exhausted := w.look(e, into)
	if exhausted != nil {
		w.trouble(exhausted)
	}
	return made, exhausted
}

// look asks the journal about an effect and asks for it when it is due.
func (w *walk) look(e Effect, into any) (made bool, exhausted *Fault) {
	t := w.h.effects[e.ID]
	if t == nil {
		t = &tries{}
	}
	e.First, e.Unsure = t.intended, t.unsure || t.open
	line := Line{Effect: e, State: "next", At: t.intended}
	defer func() { w.note(line) }()
	switch {
	case t.made:
		line.State, line.At, line.Data = "done", t.madeAt, t.data
		line.Took = t.madeAt.Sub(t.intended)
		if into != nil {
			if err := json.Unmarshal(t.data, into); err != nil {
				return false, &Fault{Kind: fault.Corrupt.String(), Message: "read journal of " + e.ID + ": " + err.Error()}
			}
		}
		return true, nil
	case t.failures > 0 && !t.open:
		place, _ := w.plan.Place(e.Place)
		at, again := t.retry(e.Verb, place.Patience, w.patient)
		last := t.last
		line.Fault, line.At = &last, t.lastAt
		if !again {
			line.State = "failed"
			return false, &last
		}
		line.State = "retry"
		if at.After(w.now) {
			w.sleep(at, "", fmt.Sprintf("%s; again at %s", t.last.Message, at.UTC().Format(time.TimeOnly)), cmp.Or(t.last.Hint, "keywright rotation show "+w.plan.ID))
			return false, nil
		}
	case t.open:
		line.State = "running"
	}
	w.out.do = append(w.out.do, e)
	w.out.undoing = w.undoing
	return false, nil
}

func (w *walk) note(l Line) {
	for i := len(*w.steps) - 1; i >= 0; i-- {
		p := &(*w.steps)[i]
		if p.State != "active" {
			continue
		}
		p.Lines = append(p.Lines, l)
		if p.From.IsZero() && !l.Effect.First.IsZero() {
			p.From = l.Effect.First
		}
		if l.State == "done" && l.At.After(p.To) {
			p.To = l.At
		}
		return
	}
}

// trouble pauses the rotation for a person, unless the branch is on a part of the way where another answer was given.
func (w *walk) trouble(f *Fault) {
	w.sleep(w.now.Add(bound), Paused, f.Message, f.Hint)
}

// sleep notes that this branch waits. A paused branch outranks a waiting one, which outranks a timer; among equals the earliest time wins.
func (w *walk) sleep(until time.Time, s Status, note, hint string) {
	w.blocked = true
	o := w.out
	rank := map[Status]int{"": 0, Running: 0, Waiting: 1, Paused: 2}
	if o.until.IsZero() || until.Before(o.until) {
		o.until = until
	}
	if o.note == "" || rank[s] > rank[o.status] {
		o.status, o.note, o.hint = s, note, hint
	}
}

// after waits until d has passed since the effect was made.
func (w *walk) after(e Effect, d time.Duration, note string) bool {
	if w.blocked {
		return false
	}
	t := w.h.effects[e.ID]
	if t == nil || !t.made {
		w.blocked = true
		return false
	}
	return w.until(t.madeAt.Add(d), note)
}

// until waits for a time.
func (w *walk) until(at time.Time, note string) bool {
	if !w.blocked && at.After(w.now) {
		w.sleep(at, "", note, "")
	}
	return !w.blocked
}

// madeAt gives the time when an effect was made, or zero.
func (w *walk) madeAt(e Effect) time.Time {
	if t := w.h.effects[e.ID]; t != nil && t.made {
		return t.madeAt
	}
	return time.Time{}
}

func (w *walk) made(e Effect) bool { return !w.madeAt(e).IsZero() }

// wait parks until a person speaks.
func (w *walk) wait(note, hint string) {
	if !w.blocked {
		w.sleep(w.now.Add(bound), Waiting, note, hint)
	}
}

// fork runs n branches that do not wait for each other, and joins them: the walk goes on when all have come through.
func (w *walk) fork(n int, branch func(i int, b *walk)) {
	if w.blocked {
		return
	}
	start := *w
	for i := range n {
		b := start
		branch(i, &b)
		if b.blocked {
			w.blocked = true
		}
	}
}

// end finishes the rotation.
func (w *walk) end(s Status, note, hint string) {
	if w.blocked {
		return
	}
	w.closeStep()
	w.blocked = true
	w.out.end = &Move{Status: s, Note: note, Hint: hint}
}

func (w *walk) move() Move {
	o := w.out
	var m Move
	switch {
	case o.end != nil:
		m = *o.end
	case len(o.do) > 0 && (!w.h.paused || o.undoing || w.patient):
		m = Move{Do: o.do, Undoing: o.undoing, Status: Running, Note: o.note, Hint: o.hint}
	case w.h.paused:
		m = Move{Status: Paused, Until: w.now.Add(bound), Note: "paused by hand", Hint: "keywright rotation resume " + w.plan.ID}
	default:
		m = Move{Status: o.status, Until: o.until, Note: o.note, Hint: o.hint}
		if m.Status == "" {
			m.Status = Running
		}
		if m.Until.IsZero() || m.Until.After(w.now.Add(bound)) {
			m.Until = w.now.Add(bound)
		}
	}
	if m.Hint == "" {
		m.Hint = map[Status]string{
			Paused: "mend it, then: keywright rotation resume " + w.plan.ID, Waiting: "keywright rotation show " + w.plan.ID,
			Failed: "keywright rotation show " + w.plan.ID, RolledBack: "keywright rotation show " + w.plan.ID,
		}[m.Status]
	}
	m.Steps = *w.steps
	return m
}

// effect makes an effect of the current step. The place, or what else it is about, goes into its ID.
func (w *walk) effect(v Verb, about string, r Role) Effect {
	e := Effect{ID: w.id(v, about), Verb: v, Role: r}
	if _, isPlace := w.plan.Place(about); isPlace {
		e.Place = about
	}
	if r == Old && (v == Reload || v == Confirm) {
		e.ID += "-old"
	}
	return e
}

// flip is the one effect whose ID does not depend on the step, since other steps ask for it.
func (w *walk) flip() Effect { return Effect{ID: string(Flip), Verb: Flip, Role: New} }

// must is do for an effect whose failure ends the rotation while nothing is changed.
func (w *walk) must(e Effect) {
	if _, gaveUp := w.attempt(e, nil); gaveUp != nil {
		w.turnFor(e, gaveUp)
	}
}

// turnFor turns back because of a fault. The new version is rejected when the fault speaks against it.
func (w *walk) turnFor(e Effect, f *Fault) {
	against := e.Role == New && e.Verb != Acquire && hopeless(fault.ParseKind(f.Kind)) || e.Verb == TestRun
	w.turn(Turned{Status: Failed, Why: f.Message, Hint: f.Hint, Reject: against})
}

// turn stops this branch and asks for the way back.
func (w *walk) turn(t Turned) {
	if w.oneWay {
		w.sleep(w.now.Add(bound), Paused, t.Why, t.Hint)
		return
	}
	w.blocked = true
	if w.out.turn == nil {
		w.out.turn = &t
	}
}

// turned reports whether the rotation turns back, once that is written down. It asks for the writing when it is time; from then on the walk is
// on the way back.
func (w *walk) turned() (Turned, bool) {
	decide := Effect{ID: string(Turn), Verb: Turn}
	why := w.out.turn
	if c := w.h.cancelled; c != nil && !w.made(w.flip()) {
		why = &Turned{Status: Cancelled, Why: "cancelled by " + c.Actor}
	}
	if why == nil && !w.begun(decide) {
		return Turned{}, false
	}
	if why == nil { // it was decided, and the process stopped before it was written down why
		why = &Turned{Status: RolledBack, Why: "the rotation was turned back, and stopped before it wrote down why"}
	}
	text, err := json.Marshal(why)
	if err != nil {
		return Turned{}, false
	}
	decide.Arg = string(text)
	w.closeBranches()
	*w.out = outcome{}
	w.blocked, w.undoing, w.prefix = false, true, ""
	var t Turned
	if !w.do(decide, &t) {
		return Turned{}, false
	}
	if !t.Status.Ended() {
		t.Status = RolledBack
	}
	return t, true
}

// leave ends a one-way process that was cancelled before it touched a place.
func (w *walk) leave() {
	if w.h.cancelled == nil || w.out.end != nil {
		return
	}
	for id := range w.h.effects {
		if !strings.HasPrefix(id, string(Preflight)+"/") {
			return
		}
	}
	w.closeBranches()
	w.out.end = &Move{Status: Cancelled, Note: "cancelled by " + w.h.cancelled.Actor}
}

// closeBranches marks the steps that will not be reached any more.
func (w *walk) closeBranches() {
	kept := (*w.steps)[:0]
	for _, p := range *w.steps {
		if p.State == "active" {
			p.State = "stopped"
		}
		if p.State != "todo" {
			kept = append(kept, p)
		}
	}
	*w.steps = kept
}

// tell notifies people. A channel that fails holds nothing up for longer than its own tries.
func (w *walk) tell(text string) {
	if w.plan.Tell {
		e := w.effect(Tell, "", "")
		e.Arg = text
		w.attempt(e, nil)
	}
}

// signed waits until a person has signed for a subject since the rotation began.
func (w *walk) signed(subject, ask string) {
	if !w.blocked && !w.hasSigned(subject) {
		w.wait(ask, "keywright rotation sign "+w.plan.ID+" "+subject)
	}
}

func (w *walk) hasSigned(subject string) bool {
	for _, s := range w.h.signals {
		if s.Signal == SignalSign && s.signal().Subject == subject && s.pos >= w.since {
			return true
		}
	}
	return false
}

// signedBefore reports whether a person had signed for a subject before an effect was made.
func (w *walk) signedBefore(subject string, e Effect) bool {
	t := w.h.effects[e.ID]
	for _, s := range w.h.signals {
		if s.Signal == SignalSign && s.signal().Subject == subject && s.pos >= w.since && t != nil && t.made && s.pos < t.madePos {
			return true
		}
	}
	return false
}

// rounds counts how often a person resumed after the confirm or the probe of a place had failed.
func (w *walk) rounds(p Place) (n int) {
	for _, e := range []Effect{w.effect(Confirm, p.Name, New), w.effect(Probe, p.Name, New)} {
		for _, id := range []string{e.ID, e.ID + "-watch"} {
			if t := w.h.effects[id]; t != nil {
				n += t.rounds
			}
		}
	}
	return n
}

// resumedSince reports whether a person resumed the rotation after the journal's entry at a position.
func (w *walk) resumedSince(pos int) bool {
	for _, s := range w.h.signals {
		if s.Signal == SignalResume && s.pos >= pos {
			return true
		}
	}
	return false
}

// roundEnd gives the position after the last entry about a round of retiring, or zero when there is none.
func (w *walk) roundEnd(round int) (pos int) {
	for id, t := range w.h.effects {
		if strings.HasPrefix(id, string(Retire)+"/"+roundName(round)+"/") {
			pos = max(pos, t.lastPos+1)
		}
	}
	return pos
}

// begun reports whether an effect was ever intended.
func (w *walk) begun(e Effect) bool {
	t := w.h.effects[e.ID]
	return t != nil && !t.intended.IsZero()
}

// changes are the verbs by which a wave changes a place, with the suffixes of second tries.
var changes = []string{string(Stage), string(Stage) + "-2", string(Promote), string(Promote) + "-2", string(Put), string(Reload), string(Confirm), string(Probe)}

func (w *walk) changeID(wave Wave, place, verb string) string {
	step := Staging
	if wave.Production {
		step = Deploy
	}
	return string(step) + "/" + wave.Name + "/" + place + "/" + verb
}

// waveBegun reports whether anything of a wave was ever intended.
func (w *walk) waveBegun(wave Wave) bool {
	for _, batch := range wave.Batches {
		for _, name := range batch {
			if w.begun(Effect{ID: w.changeID(wave, name, string(Baseline))}) {
				return true
			}
		}
	}
	return len(w.touched(wave)) > 0
}

// lastChange gives the time of the last effect by which a wave changed a place.
func (w *walk) lastChange(wave Wave, place string) time.Time {
	var last time.Time
	for _, verb := range changes {
		last = later(last, w.madeAt(Effect{ID: w.changeID(wave, place, verb)}))
	}
	return last
}

// touched gives the places of a wave that a write was ever intended for.
func (w *walk) touched(wave Wave) []Place {
	var touched []Place
	for _, batch := range wave.Batches {
		for _, name := range batch {
			p, _ := w.plan.Place(name)
			wrote := p.Can.Manual && w.hasSigned(name)
			for _, verb := range changes {
				wrote = wrote || w.begun(Effect{ID: w.changeID(wave, name, verb)})
			}
			if wrote {
				touched = append(touched, p)
			}
		}
	}
	return touched
}

// signal decodes the content of a signal; a signal without content gives the zero SignalData.
func (e Entry) signal() SignalData {
	var d SignalData
	if len(e.Data) > 0 && json.Unmarshal(e.Data, &d) != nil {
		return SignalData{UID: -1}
	}
	return d
}

func roundName(n int) string { return fmt.Sprintf("round-%d", n) }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func clamp(d, low, high time.Duration) time.Duration { return min(max(d, low), high) }
