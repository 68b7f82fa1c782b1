// Package monitor gathers what is known of all keys: from the store alone, which touches no network and is quick, or with a live look at
// the places and the provider. It judges nothing itself: package policy does. It changes no key and no place; a live look
// leaves what was seen in the store. app calls it for keywright status, the daemon and the dashboard.
package monitor

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// Key is a configured key, as far as monitor needs it.
type Key struct {
	Name        apikey.Name
	Environment apikey.Environment
	// Class holds the intervals that apply to this key, with its own overrides filled in; Class.Name is the class's.
	Class        apikey.Class
	Owner        string
	Organization string
	Workspace    string
	Backup       apikey.Name
	// Automatic says that a rotation begins by itself when the key is due.
	Automatic bool
	// Locations are the places whose home this key is. A place that another key only borrows for its tests stands with its home.
	Locations []Place
}

// Place is a configured location.
type Place struct {
	Name string
	Kind string
	// Manual is true where a person makes the change and signs.
	Manual bool
}

// Source is where Collect reads.
type Source struct {
	Store *store.Store
	Keys  []Key
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Admin says that an admin key is configured, Witness that the audit record has a witness outside.
	Admin   bool
	Witness bool

	// Live, when not nil, asks for a live look. Nil touches no network.
	Live *Live
}

// Live says how to look. Only Locations is needed.
type Live struct {
	// Locations are looked at side by side; those that are not listed stay as they were last seen.
	Locations []*location.Location
	// Provider, when not nil, is asked for its list of keys and its clock, as far as it can tell them.
	Provider provider.Provider
	// Ask, when not nil, asks the provider about the value of a version: it is used for the current version of each key.
	Ask func(ctx context.Context, id apikey.VersionID) (provider.Verdict, error)
	// Timeout bounds the whole look; zero means DefaultTimeout. What was not seen by then stands as unreachable.
	Timeout time.Duration
	// Parallel is how many places are looked at once; zero means DefaultParallel.
	Parallel int
	// Progress is called after each place, from one goroutine at a time.
	Progress func(p Progress)
	// Forget leaves what was seen out of the store.
	Forget bool
}

// Defaults of Live.
const (
	DefaultTimeout  = 30 * time.Second
	DefaultParallel = 16
)

// Progress tells of one place that was looked at.
type Progress struct {
	Location string
	Done     int
	Total    int
	// Err is the error of the look, or nil.
	Err error
}

// inventory is what the store knows, read in one view.
type inventory struct {
	versions   []apikey.Version
	desired    map[string]*store.Desired
	seen       map[string]*store.Observation
	signatures map[string]store.Signature // newest by location
	active     map[apikey.Name]rotation.Row
	journals   map[string][]rotation.Entry
	last       map[apikey.Name]store.RotationEnd
	incidents  []store.Incident
}

// Collect gathers the status. Without Live it reads the store alone. Trouble of a place or of the provider stands in the Status; the
// error is about the store, of its kinds, or of kind Canceled. When what a live look saw could not be kept, the Status is
// whole beside the error.
func Collect(ctx context.Context, s Source) (Status, error) {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	inv, err := read(ctx, s.Store)
	if err != nil {
		return Status{}, err
	}
	var seen sight
	if s.Live != nil {
		if seen, err = look(ctx, s, &inv, now); err != nil {
			return Status{}, err
		}
		err = seen.keep(ctx, s)
	}
	c := newCollector(s, inv, seen, now().UTC())
	return c.status(), err
}

func read(ctx context.Context, s *store.Store) (inv inventory, err error) {
	err = s.View(ctx, func(tx *store.Tx) error {
		inv = inventory{
			signatures: map[string]store.Signature{}, active: map[apikey.Name]rotation.Row{}, journals: map[string][]rotation.Entry{}, last: map[apikey.Name]store.RotationEnd{},
		}
		if inv.versions, err = tx.Versions(""); err != nil {
			return err
		}
		if inv.incidents, err = tx.Incidents(true); err != nil {
			return err
		}
		desired, err := tx.Desired("")
		if err != nil {
			return err
		}
		inv.desired = make(map[string]*store.Desired, len(desired))
		for i := range desired {
			inv.desired[desired[i].Location] = &desired[i]
		}
		seen, err := tx.Observations()
		if err != nil {
			return err
		}
		inv.seen = make(map[string]*store.Observation, len(seen))
		for i := range seen {
			inv.seen[seen[i].Location] = &seen[i]
		}
		return inv.rotations(tx)
	})
	return inv, err
}

func (inv *inventory) rotations(tx *store.Tx) error {
	signatures, err := tx.Signatures("")
	if err != nil {
		return err
	}
	for _, g := range slices.Backward(signatures) {
		inv.signatures[g.Location] = g
	}
	active, err := tx.Rotations(store.RotationFilter{Active: true})
	if err != nil {
		return err
	}
	for _, r := range active {
		inv.active[r.Key] = r
		if inv.journals[r.ID], err = tx.Journal(r.ID); err != nil {
			return err
		}
	}
	ends, err := tx.RotationEnds()
	if err != nil {
		return err
	}
	for _, e := range ends {
		inv.last[e.Key] = e
	}
	return nil
}

// holding reads an observation; what cannot be read counts as not seen.
func holding(o *store.Observation) (h location.Holding, ok bool) {
	if len(o.Holding) == 0 || json.Unmarshal(o.Holding, &h) != nil || h.How == "" {
		return location.Holding{}, false
	}
	return h, true
}

func confirmation(o *store.Observation) *Confirmation {
	var c location.Confirmation
	if len(o.Confirmation) == 0 || json.Unmarshal(o.Confirmation, &c) != nil {
		return nil
	}
	return &Confirmation{How: policy.Knowledge(c.How), Running: c.Running, Taken: c.Taken, Old: c.Old, Unknown: c.Unknown}
}

func clean(s string) string { return audit.Clean(s) }
