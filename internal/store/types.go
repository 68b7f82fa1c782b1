package store

import (
	"encoding/json"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/rotation"
)

// Slot pins where a key belongs at the provider, confirmed by a person.
type Slot struct {
	Key          apikey.Name `json:"key"`
	Organization string      `json:"organization,omitempty"` // UUID
	Workspace    string      `json:"workspace,omitempty"`    // wrkspc_…
	ProviderURL  string      `json:"provider_url,omitempty"`
	Pinned       time.Time   `json:"pinned,omitzero"`
	PinnedBy     string      `json:"pinned_by,omitempty"`
}

// Desired says which version a location is meant to hold, and since when. A location has one.
type Desired struct {
	Location string           `json:"location"`
	Key      apikey.Name      `json:"key"`
	Version  apikey.VersionID `json:"version"`
	Rotation string           `json:"rotation,omitempty"` // that meant it; empty for an adoption
	At       time.Time        `json:"at"`
}

// Observation is the last thing known about a location. Holding and Confirmation are value-free JSON of the location contract,
// nil when nothing is known of it; Err is set when the look failed.
type Observation struct {
	Location     string          `json:"location"`
	At           time.Time       `json:"at"`
	Holding      json.RawMessage `json:"holding,omitempty"`
	Err          *rotation.Fault `json:"error,omitempty"`
	Confirmation json.RawMessage `json:"confirmation,omitempty"`
}

// Signature is a person's word that a location holds the version with this fingerprint, where Keywright cannot see it.
type Signature struct {
	Location    string             `json:"location"`
	Fingerprint apikey.Fingerprint `json:"fingerprint"`
	By          string             `json:"by"`
	UID         int                `json:"uid"`
	At          time.Time          `json:"at"`
	Note        string             `json:"note,omitempty"`
	Rotation    string             `json:"rotation,omitempty"`
}

// SpareClaim is the exclusive hold of a rotation on a version.
type SpareClaim struct {
	Version  apikey.VersionID `json:"version"`
	Rotation string           `json:"rotation"`
	At       time.Time        `json:"at"`
}

// Lock is an exclusive hold on a name, such as the normalised address of a place or a pair of keys. Holder is a rotation's id.
type Lock struct {
	Name   string    `json:"name"`
	Holder string    `json:"holder"`
	At     time.Time `json:"at"`
}

// SetStatus is a change of a rotation's standing. An ended Status ends the rotation and its lease.
type SetStatus struct {
	Status rotation.Status
	Note   string
	Hint   string
}

// Parking is how a driver leaves a rotation. WakeAt must be set unless Status has ended.
type Parking struct {
	Status rotation.Status
	Note   string
	Hint   string
	WakeAt time.Time
}

// RotationFilter selects rotations. The zero filter selects all.
type RotationFilter struct {
	Key    apikey.Name // "" means of every key
	Active bool        // only those that have not ended
	Limit  int         // at most so many; 0 means all
}

// Incident is what was opened for an exposed or failing key.
type Incident struct {
	ID       string      `json:"id"`
	Key      apikey.Name `json:"key"`
	Rotation string      `json:"rotation,omitempty"`
	Opened   time.Time   `json:"opened"`
	Closed   time.Time   `json:"closed,omitzero"`
	Title    string      `json:"title"`
	Status   string      `json:"status"` // free text for people, such as "open" or "contained"
}
