// Package apikey says who a key is: its name, class, versions and their states, and the fingerprint of a value.
// It never holds a value, does no I/O and imports nothing of Keywright; every other package speaks in its types.
package apikey

import (
	"encoding/hex"
	"fmt"
	"time"
)

// Name is the name that people chose for a key, such as "prod-primary": the slot, not a version of it.
type Name string

// Valid reports whether n is 1 to 63 lower-case letters, digits and inner dashes.
func (n Name) Valid() bool {
	if len(n) == 0 || len(n) > 63 || n[0] == '-' || n[len(n)-1] == '-' {
		return false
	}
	for i := range len(n) {
		if c := n[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Environment is where a key's value may be used. The same value in two environments is refused at intake.
type Environment string

// The environments of the built-in classes. Own classes may name others.
const (
	Production  Environment = "production"
	Staging     Environment = "staging"
	Development Environment = "development"
)

// Class is a declared sort of key and the defaults that come with it.
type Class struct {
	Name        string
	Environment Environment
	Risk        string // critical, high, medium or low; shown, never acted on
	RotateEvery time.Duration
	Soak        time.Duration // both versions work and usage is watched
	Watch       time.Duration // between inactive and archived
	HealthWait  time.Duration // between staging a value and promoting it, and after a reload
	Approvals   int           // other people who must say yes before production waves
}

const day = 24 * time.Hour

// Classes gives the four classes of the runbooks with their defaults: a fresh slice, ordered by risk.
func Classes() []Class {
	c := func(name string, env Environment, risk string, days int) Class {
		return Class{Name: name, Environment: env, Risk: risk, RotateEvery: time.Duration(days) * day, Soak: day, Watch: day, HealthWait: 30 * time.Second}
	}
	return []Class{
		c("production-primary", Production, "critical", 90),
		c("production-secondary", Production, "critical", 90),
		c("staging", Staging, "high", 180),
		c("development", Development, "medium", 365),
	}
}

// Digest is the SHA-256 of a value. Equality before a write or a retire is asked of the whole digest. The zero
// Digest means "not known" and equals nothing.
type Digest [32]byte

// Known reports whether d is the digest of some value.
func (d Digest) Known() bool { return d != Digest{} }

// Same reports whether both digests are known and equal.
func (d Digest) Same(e Digest) bool { return d.Known() && d == e }

// Fingerprint gives the short form of d that is safe to show, log and compare by eye: "kf_" and 16 hex digits.
// The zero Digest gives the empty Fingerprint.
func (d Digest) Fingerprint() Fingerprint {
	if !d.Known() {
		return ""
	}
	return Fingerprint("kf_" + hex.EncodeToString(d[:8]))
}

// MarshalText gives 64 hex digits, or nothing for the zero Digest.
func (d Digest) MarshalText() ([]byte, error) {
	if !d.Known() {
		return nil, nil
	}
	return []byte(hex.EncodeToString(d[:])), nil
}

// UnmarshalText reads what MarshalText wrote.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	var e Digest
	if len(b) != 64 {
		return fmt.Errorf("parse digest: %d characters, want 64", len(b))
	}
	if _, err := hex.Decode(e[:], b); err != nil {
		return fmt.Errorf("parse digest: %w", err)
	}
	*d = e
	return nil
}

// Fingerprint is "kf_" and the first 16 hex digits of a value's SHA-256. The empty Fingerprint means "not known".
type Fingerprint string

// Short gives the form for tables: "kf_" and four digits, then an ellipsis.
func (f Fingerprint) Short() string {
	if len(f) < 7 {
		return string(f)
	}
	return string(f[:7]) + "…"
}

// State is where a version stands in its life. See docs/concepts.md for the drawing.
type State string

// The states of a version.
const (
	// Spare: handed in and tested, waiting to be used. Entered by intake and by a rollback of an unblamed new
	// version. Left when a rotation claims it, by expiry or by hand.
	Spare State = "spare"
	// Pending: claimed by a rotation that is putting it into places. Left by the flip to Current, or back to
	// Spare or Rejected when the rotation is undone.
	Pending State = "pending"
	// Current: the version that fills the slot. Exactly one per key, or none before adoption.
	Current State = "current"
	// Previous: replaced by a flip, still accepted by the provider. Left by retiring, or back to Current.
	Previous State = "previous"
	// Inactive: set inactive at the provider and its value refused. Left by archiving or reactivating.
	Inactive State = "inactive"
	// Archived: terminal. The provider will not take it back; the value is gone from custody.
	Archived State = "archived"
	// Rejected: failed a test or was blamed for a rollback. Never used again.
	Rejected State = "rejected"
	// Expired: ended by the provider's clock. Never used again.
	Expired State = "expired"
)

// Live reports whether the provider is expected to accept the value of a version in this state.
func (s State) Live() bool {
	return s == Spare || s == Pending || s == Current || s == Previous
}

// Binding says how sure Keywright is that a provider id and a value belong together.
type Binding string

// The bindings, weakest first.
const (
	BindingNone   Binding = ""          // no admin key: the id is not known
	BindingHint   Binding = "hint only" // exactly one entry of the Admin list matched
	BindingProved Binding = "proved"    // setting the id inactive made the value refused, and active accepted again
)

// VersionID is Keywright's own identifier of a version: "v_" and 16 hex digits, unique in a store.
type VersionID string

// Version is one actual key of the provider that fills, filled or may fill a slot. It holds no value.
// Zero times mean "not known", except Expires, where zero means "never".
type Version struct {
	ID           VersionID   `json:"id"`
	Key          Name        `json:"key"`
	State        State       `json:"state"`
	Compromised  bool        `json:"compromised,omitempty"`
	Digest       Digest      `json:"digest"`
	ProviderID   string      `json:"provider_id,omitempty"`   // apikey_…
	ProviderName string      `json:"provider_name,omitempty"` // the name a person gave it in the Console
	Binding      Binding     `json:"binding,omitempty"`
	Environment  Environment `json:"environment"`
	Organization string      `json:"organization,omitempty"` // UUID
	Workspace    string      `json:"workspace,omitempty"`    // wrkspc_…
	Principal    string      `json:"principal,omitempty"`    // user, service_account or "" (an ownerless workspace key)
	Purpose      string      `json:"purpose,omitempty"`
	CreatedBy    string      `json:"created_by,omitempty"` // who handed it in
	Adopted      bool        `json:"adopted,omitempty"`    // was already deployed when Keywright first saw it
	Created      time.Time   `json:"created,omitzero"`     // at the provider
	Added        time.Time   `json:"added,omitzero"`       // to the inventory
	Tested       time.Time   `json:"tested,omitzero"`      // last accepted by the provider
	Activated    time.Time   `json:"activated,omitzero"`   // became current
	Expires      time.Time   `json:"expires,omitzero"`
	Changed      time.Time   `json:"changed,omitzero"` // last change of State
}

// Fingerprint gives the short form of the version's digest.
func (v Version) Fingerprint() Fingerprint { return v.Digest.Fingerprint() }

// ConsoleName gives the name that a new key should get in the Console: organization-key-YYYYMMDD.
func ConsoleName(organization string, key Name, day time.Time) string {
	return fmt.Sprintf("%s-%s-%s", organization, key, day.UTC().Format("20060102"))
}
