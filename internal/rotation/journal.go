package rotation

import (
	"encoding/json"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
)

// Status is where a rotation stands as a whole. It decides who may wake it.
type Status string

// The statuses of a rotation.
const (
	// Running: a driver advances it now or when its wake time has come. Entered at the start and by a resume; a crash leaves it here.
	Running Status = "running"
	// Waiting: nothing happens before a person or another process sends a signal (intake, approval, signature). It still wakes at
	// its bound to look again.
	Waiting Status = "waiting"
	// Paused: trouble that Keywright does not decide by itself. Left by resume, cancel or rollback.
	Paused Status = "paused"
	// Done: ended as planned.
	Done Status = "done"
	// Failed: ended before anything was changed.
	Failed Status = "failed"
	// RolledBack: ended by putting the old version back everywhere.
	RolledBack Status = "rolled back"
	// Cancelled: ended by a person before the flip, with everything put back.
	Cancelled Status = "cancelled"
	// Superseded: ended by an emergency or a rollback of the same key, without compensation.
	Superseded Status = "superseded"
)

// Ended reports whether the status is final.
func (s Status) Ended() bool {
	switch s {
	case Done, Failed, RolledBack, Cancelled, Superseded:
		return true
	}
	return false
}

// Row is a rotation as the store keeps it. Everything that decides sleeping and waking is on this one row.
type Row struct {
	ID      string      `json:"id"`
	Key     apikey.Name `json:"key"`
	Kind    Kind        `json:"kind"`
	Status  Status      `json:"status"`
	Plan    Plan        `json:"plan"`
	Created time.Time   `json:"created"`
	Updated time.Time   `json:"updated"`
	Ended   time.Time   `json:"ended,omitzero"`
	// Note says why it is waiting, paused or ended: one line, and a hint.
	Note string `json:"note,omitempty"`
	Hint string `json:"hint,omitempty"`
	// WakeAt is when a driver looks at it next; a parked row never has a zero WakeAt unless it ended.
	WakeAt time.Time `json:"wake_at,omitzero"`
	// Signals counts the signals ever sent; parking is compare-and-set on it.
	Signals int64 `json:"signals"`
	// Fence is raised by every claim and by every overtaking; a write with an older fence is refused.
	Fence      int64     `json:"fence"`
	LeaseOwner string    `json:"lease_owner,omitempty"`
	LeaseUntil time.Time `json:"lease_until,omitzero"`
}

// EntryType says what a journal entry records.
type EntryType string

// The types of journal entries. The texts are stored and never change.
const (
	Intended  EntryType = "intended" // an effect is about to be made
	Made      EntryType = "done"     // it was made; Data is its value-free result
	Missed    EntryType = "failed"   // it was not made, or not for certain: Fault says which
	Signalled EntryType = "signal"   // a person or another process spoke
)

// Entry is one line of a rotation's journal. Entries are numbered from 1 within a rotation and never changed.
type Entry struct {
	Seq    int64     `json:"seq"`
	At     time.Time `json:"at"`
	Type   EntryType `json:"type"`
	Effect string    `json:"effect,omitempty"` // Effect.ID
	Fence  int64     `json:"fence"`
	// Data is the result of a made effect, or the content of a signal. Never a value.
	Data json.RawMessage `json:"data,omitempty"`
	// Fault describes a missed effect.
	Fault *Fault `json:"fault,omitempty"`
	// Signal and Actor are set on signals.
	Signal Signal `json:"signal,omitempty"`
	Actor  string `json:"actor,omitempty"`
}

// Fault is an error as the journal keeps it.
type Fault struct {
	Kind       string        `json:"kind"`
	Message    string        `json:"message"`
	Hint       string        `json:"hint,omitempty"`
	RetryAfter time.Duration `json:"retry_after,omitempty"`
}

// FaultOf turns an error into its journal form.
func FaultOf(err error) *Fault {
	return &Fault{Kind: fault.KindOf(err).String(), Message: err.Error(), Hint: fault.HintOf(err), RetryAfter: fault.RetryAfterOf(err)}
}

// Err is the inverse of FaultOf.
func (f *Fault) Err() error {
	return fault.New(fault.ParseKind(f.Kind), f.Message, fault.Hint("%s", f.Hint), fault.RetryAfter(f.RetryAfter))
}

// Signal is something said to a rotation from outside.
type Signal string

// The signals. Data of a signal is a SignalData.
const (
	SignalIntake  Signal = "intake"  // a spare was added: look again
	SignalApprove Signal = "approve" // one more yes
	SignalPause   Signal = "pause"
	SignalResume  Signal = "resume" // ends a pause and gives every exhausted effect new tries
	SignalCancel  Signal = "cancel"
	SignalSign    Signal = "sign" // a person vouches for something that Keywright cannot see
	SignalWake    Signal = "wake" // look again, no more
)

// SignalData is the content of a signal.
type SignalData struct {
	// Subject is what is signed: a location's name, "evidence", "disabled", "archived" or "checklist".
	Subject string `json:"subject,omitempty"`
	// PlanHash binds an approval to what was approved.
	PlanHash string `json:"plan_hash,omitempty"`
	// Until is when an approval expires.
	Until time.Time `json:"until,omitzero"`
	// UID is the operating-system user that spoke.
	UID  int    `json:"uid"`
	Note string `json:"note,omitempty"`
}

// Chosen gives the version that a rotation deploys, as far as it is decided: what it acquired or chose, or what its plan names.
func Chosen(p Plan, journal []Entry) apikey.VersionID {
	for i := len(journal) - 1; i >= 0; i-- {
		e := journal[i]
		if e.Type != Made || (e.Effect != string(Acquiring)+"/"+string(Acquire) && e.Effect != string(Preflight)+"/"+string(Choose)) {
			continue
		}
		var got Acquired
		if json.Unmarshal(e.Data, &got) == nil {
			return apikey.VersionID(got.Version)
		}
	}
	return p.New
}

// Flipped reports whether the new version has become the current one.
func Flipped(journal []Entry) bool {
	for _, e := range journal {
		if e.Type == Made && e.Effect == string(Flip) {
			return true
		}
	}
	return false
}
