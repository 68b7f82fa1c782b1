// Package policy says what is wrong with, or wanted by, the keys of an inventory: it turns a snapshot and a time into findings,
// each with a reason and a command. It is pure: no I/O, no clock, no value, and it changes nothing. app makes the snapshot;
// the screens, the daemon and the record show the findings.
package policy

import (
	"time"

	"github.com/keywright/keywright/internal/apikey"
)

// Snapshot is all that is judged, as it was known at one moment.
type Snapshot struct {
	// Keys are the configured keys, and keys that only the inventory knows.
	Keys []Key
	// Incidents are those that are open.
	Incidents []Incident
	// Unlisted are active keys of the provider's list that no version of the inventory has the id of. Nil means that nobody looked.
	Unlisted []Unlisted
	// AdminKey says that an admin key is configured.
	AdminKey bool
	// Witness says that the audit record has a witness outside.
	Witness bool
	// Skew is the local clock minus the provider's; zero when nobody looked.
	Skew time.Duration
}

// Key is one slot with its versions and places.
type Key struct {
	Name        apikey.Name
	Environment apikey.Environment
	// Class holds the intervals that apply to this key, with its own overrides filled in.
	Class apikey.Class
	// Organization and Workspace are what the key is pinned to; empty when it is not.
	Organization string
	Workspace    string
	// Backup is the configured backup; empty means none.
	Backup apikey.Name
	// Automatic says that a rotation begins by itself when the key is due, if there is a spare.
	Automatic bool
	// Alive is what the provider said of the value of the current version. Gone says in words that the provider refuses that version, or is about
	// to, and how that is known; empty when nothing of the kind is known.
	Alive Alive
	Gone  string
	// BackupAlive is what the provider said of the backup's current version.
	BackupAlive Alive
	// Versions are all versions of the key that were not forgotten.
	Versions []apikey.Version
	Places   []Place
	// Rotation is the one under way, or nil.
	Rotation *Rotation
}

// Alive is what is known of the value of a current version.
type Alive string

// The answers of Alive. Only Dead is a finding; Blocked and Unasked never speak against a value.
const (
	Unasked Alive = "" // nobody asked, or the answer said nothing
	Live    Alive = "live"
	Dead    Alive = "dead"
	Blocked Alive = "blocked"
)

// Knowledge says how it is known what a place holds, in the words of the location contract.
type Knowledge string

// The sorts of knowledge, strongest first. The empty one means that nobody looked.
const (
	ReadBack  Knowledge = "read back"
	Label     Knowledge = "label"
	ChangedAt Knowledge = "changed"
	Signed    Knowledge = "signed"
	Nothing   Knowledge = "unverifiable"
)

// Place is a location of a key and the last thing known about it.
type Place struct {
	Name string
	// Wanted is the version that the place is meant to hold; empty when that was never decided. It may be of another key: then it is
	// lent.
	Wanted apikey.VersionID
	// How says how Digest and Fingerprint are known.
	How Knowledge
	// Present is false when the place holds nothing.
	Present     bool
	Digest      apikey.Digest
	Fingerprint apikey.Fingerprint
	// Changed is the place's own time of its last change, or zero.
	Changed time.Time
	// Seen is when somebody looked, or zero.
	Seen time.Time
	// Trouble says why the last look failed; empty when it did not.
	Trouble string
	// Manual is true where a person makes the change and signs. SignedFor and SignedAt are from the last signature.
	Manual    bool
	SignedFor apikey.Fingerprint
	SignedAt  time.Time
}

// Rotation is what a person needs to know of a rotation under way.
type Rotation struct {
	ID string
	// Status is "running", "waiting" or "paused".
	Status string
	// Held is true when evidence or a clock holds it back.
	Held  bool
	Since time.Time
	Note  string
	Hint  string
}

// Incident is an open one.
type Incident struct {
	ID     string
	Key    apikey.Name
	Title  string
	Opened time.Time
}

// Unlisted is a key of the provider's list that the inventory does not know.
type Unlisted struct {
	ID        string
	Name      string
	Workspace string
}

// Severity is how much a finding matters.
type Severity string

// The severities, worst first.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
	Low      Severity = "low"
	Info     Severity = "info"
)

// Severities lists the severities, worst first.
func Severities() []Severity { return []Severity{Critical, High, Medium, Low, Info} }

// Code names a sort of finding. The texts are an interface: scripts filter by them.
type Code string

// The codes.
const (
	CompromisedLive  Code = "compromised-live"
	CurrentGone      Code = "current-gone"
	IncidentOpen     Code = "incident-open"
	Drift            Code = "drift"
	SharedValue      Code = "shared-value"
	Borrowed         Code = "borrowed"
	Overdue          Code = "overdue"
	DueSoon          Code = "due-soon"
	DueNoSpare       Code = "due-no-spare"
	NotAdopted       Code = "not-adopted"
	KeyExpiring      Code = "key-expiring"
	KeyExpired       Code = "key-expired"
	SpareExpiring    Code = "spare-expiring"
	SpareExpired     Code = "spare-expired"
	SpareUntested    Code = "spare-untested"
	NoBackup         Code = "no-backup"
	BackupDead       Code = "backup-dead"
	BackupSameDomain Code = "backup-same-workspace"
	PersonalKey      Code = "personal-key"
	LongPolicy       Code = "long-policy"
	RotationWaiting  Code = "rotation-waiting"
	RotationPaused   Code = "rotation-paused"
	RotationHeld     Code = "rotation-held"
	Unverifiable     Code = "unverifiable"
	Unreachable      Code = "unreachable"
	SignatureOld     Code = "signature-old"
	ClockSkew        Code = "clock-skew"
	UnknownKeys      Code = "unknown-keys"
	NoAdminKey       Code = "no-admin-key"
	NoWitness        Code = "no-witness"
)

// Finding is one thing that is wrong or wanted. Text says what and why, Hint names the command. Key and Location are empty when it is
// about the whole.
type Finding struct {
	Key      apikey.Name `json:"key,omitempty"`
	Location string      `json:"location,omitempty"`
	Code     Code        `json:"code"`
	Severity Severity    `json:"severity"`
	Text     string      `json:"text"`
	Hint     string      `json:"hint,omitempty"`
	// Wants is true when a person must act.
	Wants bool `json:"wants"`
}

// The limits that do not come from a class.
const (
	// Soon is how long before a due date or an expiry it is told.
	Soon = 7 * 24 * time.Hour
	// Patience is how long a key may be overdue whose rotation is to begin by itself, before a person is wanted.
	Patience = 7 * 24 * time.Hour
	// Stale is how old the last test of a spare may grow.
	Stale = 30 * 24 * time.Hour
	// Longest is the longest interval of rotation for a production key.
	Longest = 90 * 24 * time.Hour
	// MaxSkew is how far the local clock may be from the provider's.
	MaxSkew = 5 * time.Minute
)

// Due says when a version has to be replaced: one interval of its class after it became current, or before it expires at the provider
// if that is earlier, with the time for soak and watch to spare. Expires is zero for never. The result is zero when neither a
// date nor an interval is known.
func Due(class apikey.Class, activated, expires time.Time) time.Time {
	var due time.Time
	if !activated.IsZero() && class.RotateEvery > 0 {
		due = activated.Add(class.RotateEvery)
	}
	if !expires.IsZero() {
		if last := expires.Add(-class.Soak - class.Watch); due.IsZero() || last.Before(due) {
			due = last
		}
	}
	return due
}

// Since is when the age of a version begins: it became current, or was made or handed in where that is not known.
func Since(v apikey.Version) time.Time {
	for _, t := range []time.Time{v.Activated, v.Created, v.Added} {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}
