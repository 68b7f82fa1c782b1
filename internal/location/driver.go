// Package location is the contract with the places that hold a copy of a key's value, and the one concrete type that the rest
// of Keywright uses for them. It knows no place itself and decides nothing about keys. Drivers live in the folders below
// it; runner calls Location.
package location

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/secret"
)

// Knowledge says how it is known what a place holds. Screens never claim more than it says.
type Knowledge string

// The sorts of knowledge, strongest first.
const (
	ReadBack  Knowledge = "read back"    // the value itself was read and hashed
	Label     Knowledge = "label"        // a fingerprint written beside the value was read
	ChangedAt Knowledge = "changed"      // only the time of the last change is known
	Signed    Knowledge = "signed"       // a person said so, with name and date
	Nothing   Knowledge = "unverifiable" // the place tells nothing
)

// Holding is what a place holds now. A place that does not exist yet has Present false and no error.
type Holding struct {
	Present bool
	How     Knowledge
	// Digest is known when How is ReadBack; with Label, only the fingerprint need be.
	Digest      apikey.Digest
	Fingerprint apikey.Fingerprint
	// ChangedAt is the place's own time of the last change, or zero.
	ChangedAt time.Time
	// Revision is an opaque mark of this exact state, for compare-and-set; empty where the place has none. It changes with
	// every change of the place and never contains a value.
	Revision string
	// Pending is what is staged beside the held value and not yet in force, or nil.
	Pending *Pending
	// Facts are further value-free facts for people, such as a version id.
	Facts map[string]string
}

// Holds reports whether the place is known to hold the value with this digest.
func (h Holding) Holds(d apikey.Digest) bool {
	if !h.Present || !d.Known() {
		return false
	}
	if h.Digest.Known() {
		return h.Digest == d
	}
	return h.Fingerprint != "" && h.Fingerprint == d.Fingerprint()
}

// Known reports whether it is known which value the place holds.
func (h Holding) Known() bool { return h.Digest.Known() || h.Fingerprint != "" }

// Pending is a staged value.
type Pending struct {
	Digest   apikey.Digest
	Revision string
	// Ours is true when Keywright staged it (its mark is on it).
	Ours bool
}

// Expect is the state that a caller saw before it decided to write. A driver MUST refuse with Conflict, writing nothing, when the
// place is in another state. The zero Expect accepts any state; only an emergency uses it.
type Expect struct {
	// Checked is false in the zero Expect.
	Checked bool
	// Absent expects that the place holds nothing.
	Absent bool
	// Revision, when not empty, must equal the place's revision.
	Revision string
	// Digest, when known, must be what the place holds, as far as the place can be read.
	Digest apikey.Digest
	// Fingerprint, when not empty, must be that of what the place holds, for places where no more than a label is read.
	Fingerprint apikey.Fingerprint
}

// ExpectHolding gives the Expect that accepts exactly h, as far as h tells. A place that tells nothing gives the zero Expect.
func ExpectHolding(h Holding) Expect {
	if h.How == Nothing && h.Revision == "" {
		return Expect{}
	}
	fp := h.Fingerprint
	if h.Digest.Known() {
		fp = h.Digest.Fingerprint()
	}
	return Expect{Checked: true, Absent: !h.Present, Revision: h.Revision, Digest: h.Digest, Fingerprint: fp}
}

// Matches reports whether the place in state h is in the state that e expects. What h does not tell is not held against it.
func (e Expect) Matches(h Holding) bool {
	switch {
	case !e.Checked:
		return true
	case e.Absent || !h.Present:
		return e.Absent && !h.Present
	case e.Revision != "" && h.Revision != e.Revision:
		return false
	case e.Digest.Known() && h.Known():
		return h.Holds(e.Digest)
	case e.Fingerprint != "" && h.Fingerprint != "":
		return h.Fingerprint == e.Fingerprint
	case e.Fingerprint != "" && h.Digest.Known():
		return h.Digest.Fingerprint() == e.Fingerprint
	}
	return true
}

// Receipt is the value-free proof of a write, kept in the journal.
type Receipt struct {
	// Revision is the place's revision after the write.
	Revision string `json:"revision,omitempty"`
	// Replaced is the revision before it.
	Replaced string `json:"replaced,omitempty"`
	// At is the place's own time of the write when it tells one, otherwise zero.
	At time.Time `json:"at,omitzero"`
	// Facts are value-free details, such as a version id, that Promote, Restore and Remove may need.
	Facts map[string]string `json:"facts,omitempty"`
}

// Driver is what every place can do. Methods may be called from several goroutines. Every error has a kind of package
// fault. A driver does not retry, does not log, and never puts a value or a foreign reply body into an error.
//
// A change whose error carries the end of a context is taken for Indeterminate, since it may have been sent. A driver that knows that
// nothing was sent says Canceled or Unavailable, without the context's error as the cause.
type Driver interface {
	// Inspect reads what the place holds and changes nothing.
	Inspect(ctx context.Context) (Holding, error)
	// Put makes the place hold v and leaves all else in it byte-identical. Putting what is already held succeeds. When the
	// reply to a sent change is lost the error is Indeterminate.
	Put(ctx context.Context, v secret.Value, expect Expect) (Receipt, error)
}

// The abilities below are found by assertion. Only some places have them; a driver never has a method that says it cannot.

// Reader gives out the held value, for adoption and for a check that a backup is alive. NotFound when nothing is held.
type Reader interface {
	Read(ctx context.Context) (secret.Value, error)
}

// Stager writes v beside the held value without putting it in force. The same rules as for Put hold.
type Stager interface {
	Stage(ctx context.Context, v secret.Value, expect Expect) (Receipt, error)
}

// Promoter puts a staged value in force. Conflict when the place changed since Stage. Promoting twice succeeds. A driver that
// stages MUST also promote.
type Promoter interface {
	Promote(ctx context.Context, staged Receipt) (Receipt, error)
}

// Unstager takes back what Stage wrote and was never promoted. Only our own mark is removed; nothing to remove is success.
type Unstager interface {
	Unstage(ctx context.Context, staged Receipt) error
}

// Reloader makes the consumers take up what the place holds. id names the logical change: the same id twice MUST NOT
// restart twice where the place allows to know. It returns when the reload was accepted, not when it is finished.
type Reloader interface {
	Reload(ctx context.Context, id string) error
}

// Confirmer asks the running consumers which value they have.
type Confirmer interface {
	Confirm(ctx context.Context, want apikey.Digest) (Confirmation, error)
}

// Confirmation is what the running consumers have. All counts are of consumers (pods, containers, processes).
type Confirmation struct {
	How     Knowledge         `json:"how"`
	Running int               `json:"running"`
	Taken   int               `json:"taken"` // have the wanted value
	Old     int               `json:"old"`   // have another value
	Unknown int               `json:"unknown"`
	Facts   map[string]string `json:"facts,omitempty"`
}

// Complete reports whether every running consumer has the wanted value.
func (c Confirmation) Complete() bool { return c.Running > 0 && c.Taken == c.Running }

// Prober checks that a consumer works. A nil error means that it does; Unavailable means that it does not (yet); other kinds mean
// that the probe itself could not be made.
type Prober interface {
	Probe(ctx context.Context) error
}

// Restorer goes back to the state before a receipt in a cheaper way than a Put of the old value, such as a move of a label. Conflict
// when the place changed since; the caller then puts.
type Restorer interface {
	Restore(ctx context.Context, promoted Receipt) (Receipt, error)
}

// Remover erases copies of the value with this digest that the place keeps beside the held one (older versions, labels, backups). It
// never touches what Keywright did not write. Nothing to remove is success.
type Remover interface {
	Remove(ctx context.Context, old apikey.Digest) error
}

// Checker looks, without writing, whether the credentials and permissions for every method of the driver are there. It gives one
// error per missing right.
type Checker interface {
	Check(ctx context.Context) []error
}

// Addresser gives the normalised address of the place, so that two locations in one file or one secret exclude each other's writes.
// Two keys in one place have the same address.
type Addresser interface {
	Address() string
}

// Discreet is a place that says which value it holds, and gives no value out. Its Inspect MUST know as much as a Reader's.
type Discreet interface {
	Discreet()
}

// Patient is a place that may take long to put a value in force, or whose consumers may take long to use it: Promote and Confirm may go on being
// Unavailable for that time. It is of the configuration alone, and positive.
type Patient interface {
	Patience() time.Duration
}

// Instructor is a place that a person changes. Instructions are shown; the person signs.
type Instructor interface {
	Instructions(fp apikey.Fingerprint) string
}
