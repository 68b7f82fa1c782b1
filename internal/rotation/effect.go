package rotation

import (
	"encoding/json"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// Verb names one sort of thing that a rotation does to the world. The runner has one function for each.
type Verb string

// The verbs. Each says what its result data is; "repeat" says what a second run after a crash does.
const (
	// CheckPlace looks at credentials, permissions and drift of a place without writing. Repeat: looks again.
	CheckPlace Verb = "check" // → PlaceState
	// CheckBackup asks whether the backup key is alive. Repeat: asks again.
	CheckBackup Verb = "check-backup"
	// CheckClock compares our clock to the provider's.
	CheckClock Verb = "check-clock"
	// Tell notifies people. Repeat: may tell twice.
	Tell Verb = "tell"
	// Acquire claims a spare, or finds that there is none (NotFound: a person is wanted). The claim is made
	// with the entry in the journal. Repeat: looks again.
	Acquire Verb = "acquire" // → Acquired
	// TestValue asks the provider about the new version: models, count, message. Repeat: asks again.
	TestValue Verb = "test-value"
	// TestRun runs one of the owner's tests with the new version. Repeat: runs again.
	TestRun Verb = "test-run"
	// TakePair takes the lock that keeps a key and its backup from being in rotation together. Repeat: finds it held.
	TakePair Verb = "take-pair"
	// FreePair gives that lock back.
	FreePair Verb = "free-pair"
	// Baseline makes the probes of a place before it is changed, to know what worked. It never fails for a failing probe.
	Baseline Verb = "baseline" // → ProbeState
	// Stage writes the version beside the held one. Repeat: compare-and-set tells.
	Stage Verb = "stage" // → receipt
	// Promote puts the staged version in force.
	Promote Verb = "promote" // → receipt
	// Put writes the version into a place. Repeat: inspects first.
	Put Verb = "put" // → receipt
	// PutHome writes their own key's value back into a pre-production place that was lent for the test.
	PutHome Verb = "put-home"
	// PutBack takes back what was staged and makes the place hold the old version again, by label where the place can.
	PutBack Verb = "put-back" // → receipt
	// Turn writes down that the rotation turns back. → Turned
	Turn Verb = "turn"
	// Reload makes the consumers take it up. Repeat: the change id keeps a restart single where the place can tell.
	Reload Verb = "reload"
	// Confirm asks the running consumers which version they have; Unavailable while some have the old one.
	Confirm Verb = "confirm" // → confirmation
	// Probe checks that the consumers work; Unavailable while they do not.
	Probe Verb = "probe"
	// Judge finds out whether the new version is to blame: it asks about the new and the old version, twice, 10 s apart.
	Judge Verb = "judge" // → Judgement
	// Flip makes the new version current and the old one previous, in one transaction. It refuses while a place is on neither.
	Flip Verb = "flip"
	// Drift reads every place again; Conflict names the stragglers.
	Drift Verb = "drift"
	// Heartbeat sends the smallest message with the new version, so that the usage report can show that it is alive.
	Heartbeat Verb = "heartbeat"
	// Gather collects the evidence for retiring.
	Gather Verb = "gather" // → Facts
	// Deactivate sets the old version inactive at the provider. Repeat: sets again.
	Deactivate Verb = "deactivate"
	// AwaitRefused asks until the old value is refused; Unavailable while it is accepted.
	AwaitRefused Verb = "await-refused"
	// Activate sets a version active again. Repeat: sets again.
	Activate Verb = "activate"
	// AwaitAccepted asks until the value is accepted.
	AwaitAccepted Verb = "await-accepted"
	// WatchLook reads the watch signals after a deactivation.
	WatchLook Verb = "watch" // → WatchState
	// Archive sets the old version archived at the provider. Not undone.
	Archive Verb = "archive"
	// PurgePlace removes copies of the old value that a place keeps beside the current one.
	PurgePlace Verb = "purge-place"
	// PurgeValue removes the old value from custody.
	PurgeValue Verb = "purge-value"
	// Record writes the rotation log, the calendar and the audit checkpoint.
	Record Verb = "record"
	// Settle writes the final states of the versions when a rotation is undone or ends, and frees locks and claims.
	Settle Verb = "settle"
	// Choose picks the version that an emergency deploys.
	Choose Verb = "choose" // → Acquired
	// Open opens an incident.
	Open Verb = "open-incident"
)

// Role says which of a rotation's versions an effect is about.
type Role string

// The roles.
const (
	New Role = "new"
	Old Role = "old"
)

// Effect is one thing to do. Its ID is stable for the life of the rotation and says what it is about; the same ID is never used for two
// different things.
type Effect struct {
	ID    string `json:"id"`
	Verb  Verb   `json:"verb"`
	Place string `json:"place,omitempty"`
	Role  Role   `json:"role,omitempty"`
	// From names the effect whose receipt this one continues.
	From string `json:"from,omitempty"`
	// Arg is a further word: the name of a test, the text to tell.
	Arg string `json:"arg,omitempty"`
	// First is when it was first intended, or zero.
	First time.Time `json:"first,omitzero"`
	// Unsure is true when an earlier run may have applied it: look before acting.
	Unsure bool `json:"unsure,omitempty"`
}

// Results of effects, as they stand in the journal.
type (
	// Acquired names the version that a rotation will deploy.
	Acquired struct {
		Version     string `json:"version"`
		Fingerprint string `json:"fingerprint"`
		Lent        bool   `json:"lent,omitempty"`
		How         string `json:"how,omitempty"` // one phrase for people
	}
	// ProbeState is what the probes of a place said before the change.
	ProbeState struct {
		Passed bool   `json:"passed"`
		Note   string `json:"note,omitempty"`
	}
	// Turned is the decision to undo.
	Turned struct {
		Status Status `json:"status"` // how the rotation will end
		Why    string `json:"why"`
		Hint   string `json:"hint,omitempty"`
		Reject bool   `json:"reject,omitempty"` // the new version is to blame and never used again
	}
	// Judgement says whether the new version is to blame for a failure.
	Judgement struct {
		Blame bool   `json:"blame"` // proved dead or forbidden while the old one works
		Why   string `json:"why"`
	}
	// WatchState is what the watch after a deactivation saw.
	WatchState struct {
		Refused []string `json:"refused,omitempty"` // consumers that were refused with the old value
	}
)

// delays is the retry table. A failed effect is tried again after these delays, the last one repeated until the limit of its verb is
// over, or the patience that its place asks for; then the rotation pauses and says so.
var delays = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute}

// look is the longest time between two looks at consumers, which take up a value within seconds or minutes: the next wave waits for them.
const look = 10 * time.Second

// limits says how long an effect may go on failing, counted from its first failure after the start or the last resume. Verbs that wait
// for the world (consumers, propagation) have longer ones; a verb that is not listed has fallbackLimit.
var limits = map[Verb]time.Duration{
	Confirm:       10 * time.Minute,
	Probe:         5 * time.Minute,
	AwaitRefused:  15 * time.Minute, // propagation is undocumented: ask, with a deadline
	AwaitAccepted: 15 * time.Minute,
	TakePair:      7 * 24 * time.Hour,
	PurgePlace:    7 * 24 * time.Hour,
	PurgeValue:    7 * 24 * time.Hour,
	Archive:       7 * 24 * time.Hour,
	Record:        7 * 24 * time.Hour,
	Tell:          30 * time.Second,
	Drift:         2 * time.Minute,
	Gather:        time.Hour,
	CheckPlace:    time.Minute,
	TestRun:       0, // an owner's test decides at once
}

const fallbackLimit = 10 * time.Minute

// hopeless lists the kinds that no repetition heals.
func hopeless(k fault.Kind) bool {
	switch k {
	case fault.Invalid, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Conflict, fault.Unsupported, fault.Corrupt:
		return true
	}
	return false
}

// tries is what the journal knows about one effect.
type tries struct {
	made     bool
	data     json.RawMessage
	madeAt   time.Time
	madePos  int // in the journal
	lastPos  int
	intended time.Time // first intent ever
	open     bool      // the last intent has no outcome
	failures int       // since the last resume
	rounds   int       // resumes that found it failed
	since    time.Time // first of the failures
	last     Fault
	lastAt   time.Time
	// conflicts counts the failures by a foreign change, since the start.
	conflicts int
	unsure    bool // some run may have applied it
}

// retry says when a failed effect is tried again; ok is false when it is exhausted.
func (t tries) retry(v Verb, patience time.Duration, patient bool) (at time.Time, ok bool) {
	kind := fault.ParseKind(t.last.Kind)
	if hopeless(kind) {
		return time.Time{}, false
	}
	limit, listed := limits[v]
	if !listed {
		limit = fallbackLimit
	}
	if v == Confirm || v == Promote {
		limit = max(limit, patience)
	}
	d := delays[min(t.failures, len(delays))-1]
	if v == Confirm || v == Probe {
		d = min(d, look)
	}
	d = max(d, t.last.RetryAfter)
	if at = t.lastAt.Add(d); !patient && at.Sub(t.since) > limit {
		return time.Time{}, false
	}
	return at, true
}
