package rotation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/keywright/keywright/internal/apikey"
)

// Kind is the sort of a rotation. It chooses the process.
type Kind string

// The kinds.
const (
	Scheduled Kind = "scheduled"
	Manual    Kind = "manual"
	Rollback  Kind = "rollback"
	Emergency Kind = "emergency"
)

// Reason says why a rotation was started; free text goes beside it.
type Reason string

// The reasons, from the runbooks.
const (
	ReasonScheduled  Reason = "scheduled"
	ReasonSuspected  Reason = "suspected compromise"
	ReasonCompromise Reason = "compromise"
	ReasonPersonLeft Reason = "person left"
	ReasonLaunch     Reason = "launch"
	ReasonPolicy     Reason = "policy change"
	ReasonDrill      Reason = "drill"
	ReasonUndo       Reason = "undo"
)

// Reasons lists the reasons that a person may give.
func Reasons() []Reason {
	return []Reason{ReasonScheduled, ReasonSuspected, ReasonCompromise, ReasonPersonLeft, ReasonLaunch, ReasonPolicy, ReasonDrill}
}

// Plan is all that was decided before a rotation began. It is stored with the rotation and never changed, so that an edit of the
// configuration cannot redirect a rotation that is under way. It holds references, never values.
type Plan struct {
	ID      string      `json:"id"`
	Key     apikey.Name `json:"key"`
	Kind    Kind        `json:"kind"`
	Reason  Reason      `json:"reason"`
	Note    string      `json:"note,omitempty"`
	Actor   string      `json:"actor"`
	UID     int         `json:"uid"`
	Created time.Time   `json:"created"`
	// Process names the process and its version, such as "ordinary/1". A binary that does not know it parks the rotation.
	Process string `json:"process"`

	Organization string             `json:"organization,omitempty"` // UUID the slot is pinned to
	Workspace    string             `json:"workspace,omitempty"`
	Environment  apikey.Environment `json:"environment"`
	Class        string             `json:"class"`
	ConsoleName  string             `json:"console_name"` // the name a new key should get
	Backup       apikey.Name        `json:"backup,omitempty"`
	// Pairs names the pairs of keys ("a+b", sorted) that this key belongs to, as primary or as backup: their members are never in rotation
	// together.
	Pairs []string `json:"pairs,omitempty"`

	// Old is the current version when the plan was made; empty when nothing was adopted yet. New is known beforehand for a rollback
	// and for an emergency; an ordinary rotation acquires it.
	Old apikey.VersionID `json:"old,omitempty"`
	New apikey.VersionID `json:"new,omitempty"`
	// Lent is true when Old belongs to another key, which lent it in an emergency: it is replaced, put back when the rotation turns, and never
	// retired.
	Lent bool `json:"lent,omitempty"`

	Places []Place `json:"places"`
	Waves  []Wave  `json:"waves"`
	Tests  []Test  `json:"tests,omitempty"`

	// Windows says when a scheduled rotation may begin a wave of production; without any, always.
	Windows []Window `json:"windows,omitempty"`

	Soak       time.Duration `json:"soak"`
	Watch      time.Duration `json:"watch"`
	HealthWait time.Duration `json:"health_wait"`
	Approvals  int           `json:"approvals"`
	Parallel   int           `json:"parallel"`

	// Admin, Usage and Gateway say which sources of evidence exist. What is false here is "not available" in the evidence.
	Admin   bool `json:"admin"`
	Usage   bool `json:"usage"`
	Gateway bool `json:"gateway"`
	// Overtakes names the rotation that this one superseded while it was under way; set when the rotation begins.
	Overtakes string `json:"overtakes,omitempty"`
	// Cut allows an emergency to end the last live version.
	Cut bool `json:"cut,omitempty"`
	// Tell says that channels for people are configured.
	Tell bool `json:"tell"`
}

// Place is a location as it was configured when the plan was made.
type Place struct {
	Name    string          `json:"name"`
	Kind    string          `json:"kind"`
	Address string          `json:"address"`
	Config  json.RawMessage `json:"config,omitempty"` // the location's value-free configuration
	// Can is read from the driver's code.
	Can Can `json:"can"`
	// Patience is how long the place may take to promote a value, and its consumers to use it; zero means as long as others.
	Patience time.Duration `json:"patience,omitzero"`
	// Home is another key whose value belongs in this place; it gets its own back before approval.
	Home apikey.Name `json:"home,omitempty"`
}

// Can is what a place is able to do.
type Can struct {
	Read    bool `json:"read"` // Inspect tells which value is held
	Stage   bool `json:"stage"`
	Reload  bool `json:"reload"`
	Confirm bool `json:"confirm"`
	Probe   bool `json:"probe"`
	Restore bool `json:"restore"`
	Remove  bool `json:"remove"`
	Check   bool `json:"check"`
	Manual  bool `json:"manual"`
}

// Wave is a set of places that change together, in batches.
type Wave struct {
	Name       string        `json:"name"`
	Production bool          `json:"production"`
	Batches    [][]string    `json:"batches"`
	Watch      time.Duration `json:"watch"`
}

// Test is a check that the owner of a key wants made with the new version before anything changes.
type Test struct {
	Name   string          `json:"name"`
	Config json.RawMessage `json:"config"`
}

// Place gives the place with this name; ok is false when the plan has none.
func (p Plan) Place(name string) (place Place, ok bool) {
	for _, x := range p.Places {
		if x.Name == name {
			return x, true
		}
	}
	return Place{}, false
}

// Hash identifies the plan for an approval: the SHA-256 of its JSON form, in hex.
func (p Plan) Hash() string {
	b, err := json.Marshal(p)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
