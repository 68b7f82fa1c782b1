// Package event names the facts that happen to keys, as typed, value-free records. It does no I/O. The runner and intake make
// events; store keeps them, and audit, notify and the screens read them.
package event

import (
	"time"

	"github.com/keywright/keywright/internal/apikey"
)

// Type says what happened. The texts are part of the audit format and never change.
type Type string

// The types. Each act on a key has an intent and a result: the journal links them by Event.Effect.
const (
	VersionAdded       Type = "version.added"
	VersionState       Type = "version.state"
	VersionCompromised Type = "version.compromised"
	VersionForgotten   Type = "version.forgotten"
	ValueAccessed      Type = "value.accessed"
	PlaceSigned        Type = "place.signed"
	ReaderEnrolled     Type = "reader.enrolled"
	ReaderRevoked      Type = "reader.revoked"

	RotationStarted    Type = "rotation.started"
	RotationStep       Type = "rotation.step"
	RotationPaused     Type = "rotation.paused"
	RotationResumed    Type = "rotation.resumed"
	RotationApproved   Type = "rotation.approved"
	RotationSigned     Type = "rotation.signed"
	RotationUndoing    Type = "rotation.undoing"
	RotationEnded      Type = "rotation.ended"
	RotationSuperseded Type = "rotation.superseded"

	EffectIntended Type = "effect.intended"
	EffectDone     Type = "effect.done"
	EffectFailed   Type = "effect.failed"

	IncidentOpened  Type = "incident.opened"
	IncidentClosed  Type = "incident.closed"
	DriftFound      Type = "drift.found"
	CheckpointMade  Type = "audit.checkpoint"
	ProviderChanged Type = "provider.changed"
	MasterChanged   Type = "custody.master-changed"
)

// Event is one fact. Text is for people and is value-free; Fields holds further value-free facts by name. A zero time is
// filled in by the store.
type Event struct {
	At       time.Time         `json:"at"`
	Type     Type              `json:"type"`
	Actor    string            `json:"actor"` // os user, "user@host", or "keywright" for the process itself
	Key      apikey.Name       `json:"key,omitempty"`
	Version  apikey.VersionID  `json:"version,omitempty"`
	Rotation string            `json:"rotation,omitempty"`
	Location string            `json:"location,omitempty"`
	Effect   string            `json:"effect,omitempty"`
	Text     string            `json:"text,omitempty"`
	Fields   map[string]string `json:"fields,omitempty"`
}
