package monitor

import (
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/rotation"
)

// Status is what is known of all keys at one moment. Its JSON form is the output of keywright status --json: fields are added, never
// changed or removed.
type Status struct {
	At time.Time `json:"at"`
	// Live is true when the places were looked at now; otherwise everything is as it was last seen.
	Live bool `json:"live"`
	// Wants are the findings for which a person must act, the most important first.
	Wants []policy.Finding `json:"wants"`
	// Findings are all findings, those that want a person first.
	Findings  []policy.Finding `json:"findings"`
	Keys      []KeyStatus      `json:"keys"`      // in the order of Source.Keys, then those that the inventory alone knows
	Locations []PlaceStatus    `json:"locations"` // by key in that order, then by name
	Incidents []Incident       `json:"incidents"` // the open ones, newest first
}

// KeyStatus is one key.
type KeyStatus struct {
	Name        apikey.Name        `json:"name"`
	Class       string             `json:"class,omitempty"`
	Environment apikey.Environment `json:"environment,omitempty"`
	Risk        string             `json:"risk,omitempty"`
	Owner       string             `json:"owner,omitempty"`
	Backup      apikey.Name        `json:"backup,omitempty"`
	// Alive is what the provider said of the current version's value; empty when nobody asked. Gone says in words that the provider refuses it, or
	// is about to, by nobody's act here.
	Alive policy.Alive `json:"alive,omitempty"`
	Gone  string       `json:"gone,omitempty"`
	// BackupAlive is what the provider said of the backup; empty when nobody asked.
	BackupAlive policy.Alive `json:"backup_alive,omitempty"`
	// Configured is false for a key that the inventory alone knows.
	Configured bool `json:"configured"`

	// The current version; all empty when there is none.
	Version     apikey.VersionID   `json:"version,omitempty"`
	Fingerprint apikey.Fingerprint `json:"fingerprint,omitempty"`
	ProviderID  string             `json:"provider_id,omitempty"`
	State       apikey.State       `json:"state,omitempty"`
	Binding     apikey.Binding     `json:"binding,omitempty"`
	Compromised bool               `json:"compromised,omitempty"`
	Activated   time.Time          `json:"activated,omitzero"`
	// Since is when the age of the version begins, and AgeDays the whole days since then.
	Since   time.Time `json:"since,omitzero"`
	AgeDays int       `json:"age_days"`
	Expires time.Time `json:"expires,omitzero"`
	// Due is when it has to be replaced, or zero when that is not known; DueDays the whole days until then, negative when it is overdue.
	Due     time.Time `json:"due,omitzero"`
	DueDays int       `json:"due_days,omitempty"`

	Places Places `json:"places"`
	// Spares counts the versions that a rotation could take.
	Spares int `json:"spares"`
	// LastRotation is the newest one that has ended; Rotation the one under way.
	LastRotation *LastRotation `json:"last_rotation,omitempty"`
	Rotation     *Rotation     `json:"rotation,omitempty"`
	// Findings are those about this key and its places.
	Findings []policy.Finding `json:"findings,omitempty"`
}

// Places counts the places of a key.
type Places struct {
	Total  int `json:"total"`
	InSync int `json:"in_sync"`
	// How divides the places in sync by how that is known.
	How How `json:"how"`
}

// How counts places by how it is known what they hold.
type How struct {
	ReadBack     int `json:"read_back"`
	Label        int `json:"label"`
	Changed      int `json:"changed"`
	Signed       int `json:"signed"`
	Unverifiable int `json:"unverifiable"`
}

// LastRotation is a rotation that has ended.
type LastRotation struct {
	ID      string          `json:"id"`
	Kind    rotation.Kind   `json:"kind"`
	Status  rotation.Status `json:"status"`
	Created time.Time       `json:"created"`
	Ended   time.Time       `json:"ended"`
}

// Rotation is one under way.
type Rotation struct {
	ID     string          `json:"id"`
	Kind   rotation.Kind   `json:"kind"`
	Status rotation.Status `json:"status"`
	Step   rotation.Step   `json:"step,omitempty"`
	// Moved of Total places hold the new version and are meant to.
	Moved int `json:"moved"`
	Total int `json:"total"`
	// New is the version that is deployed, once it is decided.
	New apikey.Fingerprint `json:"new,omitempty"`
	// Until is when something happens next; zero when a person or another process has to speak first.
	Until   time.Time `json:"until,omitzero"`
	Created time.Time `json:"created"`
	Note    string    `json:"note,omitempty"`
	Hint    string    `json:"hint,omitempty"`
}

// Sync says whether a place holds what it is meant to hold.
type Sync string

// The answers of Sync.
const (
	// InSync: it is known to hold it; or it was written, nothing speaks against it, and How says that it cannot be read back.
	InSync Sync = "in sync"
	// Differs: it is known to hold something else, or nothing.
	Differs Sync = "differs"
	// Undecided: it was never decided what it is meant to hold, before an adoption.
	Undecided Sync = "undecided"
	// NotKnown: nobody looked, the last look failed, or a person has not signed.
	NotKnown Sync = "not known"
)

// PlaceStatus is one location and the last thing known about it.
type PlaceStatus struct {
	Name string      `json:"name"`
	Kind string      `json:"kind,omitempty"`
	Key  apikey.Name `json:"key"`
	// Desired and Held are what it is meant to hold and what it was seen to hold; empty when not known.
	Desired apikey.Fingerprint `json:"desired,omitempty"`
	Held    apikey.Fingerprint `json:"held,omitempty"`
	Sync    Sync               `json:"sync"`
	InSync  bool               `json:"in_sync"` // Sync is "in sync"
	How     policy.Knowledge   `json:"how,omitempty"`
	// SeenAt is when somebody looked, ChangedAt the place's own time of its last change.
	SeenAt    time.Time `json:"seen_at,omitzero"`
	ChangedAt time.Time `json:"changed_at,omitzero"`
	// SignedBy is who vouched for it, where a person does.
	SignedBy string `json:"signed_by,omitempty"`
	// Confirmation is what the running consumers have; nil when nobody asked.
	Confirmation *Confirmation `json:"confirmation,omitempty"`
	Error        string        `json:"error,omitempty"`
	Hint         string        `json:"error_hint,omitempty"`
}

// Confirmation counts the running consumers of a place.
type Confirmation struct {
	How     policy.Knowledge `json:"how"`
	Running int              `json:"running"`
	Taken   int              `json:"taken"`
	Old     int              `json:"old"`
	Unknown int              `json:"unknown"`
}

// Incident is an open one.
type Incident struct {
	ID       string      `json:"id"`
	Key      apikey.Name `json:"key,omitempty"`
	Rotation string      `json:"rotation,omitempty"`
	Title    string      `json:"title"`
	Status   string      `json:"status,omitempty"`
	Opened   time.Time   `json:"opened"`
}
