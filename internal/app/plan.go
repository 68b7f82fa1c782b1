package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/intake"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// Wish is what a person asks for when a rotation is planned.
type Wish struct {
	Key    apikey.Name
	Kind   rotation.Kind
	Reason rotation.Reason
	Note   string
	// Cut lets an emergency go on without a living backup.
	Cut bool
}

// Plan makes the plan of a rotation from the configuration and the inventory. It asks nothing of the provider or a place, and changes
// nothing. Kinds: NotFound (no such key, nothing to roll back to), Conflict (a rollback to a version that must not come back), Invalid.
func (a *App) Plan(ctx context.Context, w Wish) (rotation.Plan, error) {
	k, err := a.key(w.Key)
	if err != nil {
		return rotation.Plan{}, err
	}
	now := a.now()
	p := rotation.Plan{
		ID: "r-" + now.UTC().Format("2006-01-02") + "-" + string(w.Key), Key: w.Key, Kind: w.Kind, Reason: w.Reason, Note: w.Note, Actor: a.Actor, UID: a.UID, Created: now.UTC(),
		Organization: k.Organization, Workspace: k.Workspace, Environment: k.Environment, Class: k.Class, ConsoleName: apikey.ConsoleName(a.Config.Organization, w.Key, now),
		Backup: k.Backup, Pairs: a.pairs(w.Key), Soak: k.Soak, Watch: k.Watch, HealthWait: k.HealthWait, Approvals: k.Approvals, Parallel: k.Parallel, Windows: windows(k),
		Tell: len(a.Config.Notify) > 0, Cut: w.Cut, Process: rotation.ProcessOrdinary,
	}
	_, p.Admin = a.Provider.(provider.StatusSetter)
	_, p.Usage = a.Provider.(provider.UsageReporter)
	p.Gateway = len(a.gateways()) > 0
	if p.Places, p.Waves, err = a.places(k); err != nil {
		return p, err
	}
	for i, t := range k.Test {
		raw, err := t.Snapshot()
		if err != nil {
			return p, err
		}
		name := cmp.Or(t.Name, fmt.Sprintf("test %d", i+1))
		p.Tests = append(p.Tests, rotation.Test{Name: name, Config: raw})
	}
	if err := a.pinned(ctx, &p); err != nil {
		return p, err
	}
	return a.forKind(ctx, p)
}

func (a *App) key(name apikey.Name) (*config.Key, error) {
	if k, ok := a.Config.Keys[name]; ok {
		return k, nil
	}
	var names []string
	for n := range a.Config.Keys {
		names = append(names, string(n))
	}
	slices.Sort(names)
	return nil, fault.New(fault.NotFound, fmt.Sprintf("find key %q: the configuration has none of this name", name), fault.Hint("keys: %s", strings.Join(names, ", ")))
}

// pairs names the pairs that a key belongs to, as primary or as backup.
func (a *App) pairs(name apikey.Name) []string {
	var pairs []string
	for _, k := range a.Config.Keys {
		if k.Backup == "" || (k.Name != name && k.Backup != name) {
			continue
		}
		pair := []string{string(k.Name), string(k.Backup)}
		slices.Sort(pair)
		pairs = append(pairs, strings.Join(pair, "+"))
	}
	slices.Sort(pairs)
	return slices.Compact(pairs)
}

func (a *App) places(k *config.Key) (places []rotation.Place, waves []rotation.Wave, err error) {
	for _, w := range k.Waves {
		waves = append(waves, rotation.Wave{Name: w.Name, Production: w.Production, Batches: w.Batches(), Watch: w.Watch})
		for _, name := range w.Locations {
			p, err := a.planned(name)
			if err != nil {
				return nil, nil, err
			}
			if home := a.Config.Locations[name].Home; home != k.Name {
				p.Home = home
			}
			places = append(places, p)
		}
	}
	if len(places) == 0 {
		return nil, nil, fault.New(fault.Invalid, fmt.Sprintf("plan rotation of %s: it has no location", k.Name), fault.Hint("add locations to the key in keywright.yaml"))
	}
	return places, waves, nil
}

// planned describes a configured location as a plan holds it.
func (a *App) planned(name string) (rotation.Place, error) {
	l, err := a.Location(name)
	if err != nil {
		return rotation.Place{}, err
	}
	raw, err := a.Config.Snapshot(name)
	if err != nil {
		return rotation.Place{}, err
	}
	can := l.Abilities()
	return rotation.Place{Name: name, Kind: l.Kind(), Address: l.Address(), Config: raw, Patience: l.Patience(), Can: rotation.Can{
		Read: l.Tells(), Stage: can.Stages, Reload: can.Reloads, Confirm: can.Confirms, Probe: can.Probes, Restore: can.Restores, Remove: can.Removes, Check: can.Checks, Manual: can.Manual,
	}}, nil
}

// Location opens a configured location; a second call gives the same.
func (a *App) Location(name string) (*location.Location, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l, ok := a.opened[name]; ok {
		return l, nil
	}
	l, err := a.Config.Place(name, a.env(name))
	if err == nil {
		a.opened[name] = l
	}
	return l, err
}

// openPlanned opens a location from the configuration that a plan holds.
func (a *App) openPlanned(p rotation.Place) (*location.Location, error) {
	id := p.Name + "\x00" + string(p.Config)
	a.mu.Lock()
	defer a.mu.Unlock()
	if l, ok := a.opened[id]; ok {
		return l, nil
	}
	l, err := config.OpenSnapshot(p.Config, a.env(p.Name))
	if err == nil {
		a.opened[id] = l
	}
	return l, err
}

func (a *App) env(name string) location.Env {
	return location.Env{Dir: a.Config.Dir, StateDir: a.stateDir, Name: name, Now: a.now, Signed: a.signed}
}

// signed tells a manual place who vouched for it last.
func (a *App) signed(ctx context.Context, name string) (location.Signature, bool) {
	var last store.Signature
	found := false
	err := a.Store.View(ctx, func(tx *store.Tx) error {
		list, err := tx.Signatures(name)
		for _, s := range list {
			if !found || s.At.After(last.At) {
				last, found = s, true
			}
		}
		return err
	})
	if err != nil {
		a.log.Warn("signatures not read", "location", name, "error", err)
		return location.Signature{}, false
	}
	return location.Signature{Fingerprint: string(last.Fingerprint), By: last.By, At: last.At}, found
}

// configured gives the places of a key as they are configured now.
func (a *App) configured(name apikey.Name) []rotation.Place {
	k, ok := a.Config.Keys[name]
	if !ok {
		return nil
	}
	places, _, err := a.places(k)
	if err != nil {
		a.log.Warn("places not opened", "key", string(name), "error", err)
	}
	return places
}

func (a *App) runTest(ctx context.Context, t rotation.Test, v secret.Value) error {
	return config.RunTest(ctx, t.Config, a.Config.Dir, v)
}

// pinned fills in what a person confirmed at the first intake, where the configuration does not say.
func (a *App) pinned(ctx context.Context, p *rotation.Plan) error {
	pins, err := a.Intake.Pins(ctx, intake.Slot{Key: p.Key, Organization: p.Organization, Workspace: p.Workspace})
	p.Organization, p.Workspace = pins.Organization, pins.Workspace
	return err
}

// forKind fills in the versions and what the kind of rotation changes.
func (a *App) forKind(ctx context.Context, p rotation.Plan) (rotation.Plan, error) {
	var versions []apikey.Version
	err := a.Store.View(ctx, func(tx *store.Tx) (err error) {
		versions, err = tx.Versions(p.Key)
		return err
	})
	if err != nil {
		return p, err
	}
	for _, v := range versions {
		if v.State == apikey.Current {
			p.Old = v.ID
		}
	}
	ordinary := p.Kind == rotation.Scheduled || p.Kind == rotation.Manual
	if p.Old == "" && ordinary {
		if p.Old, err = a.lent(ctx, p.Key); err != nil {
			return p, err
		}
		p.Lent = p.Old != ""
	}
	switch p.Kind {
	case rotation.Emergency:
		// The gateway changes first: behind it no application has to.
		slices.SortStableFunc(p.Places, func(x, y rotation.Place) int { return cmp.Compare(rank(x), rank(y)) })
		p.Process, p.Soak, p.Watch, p.HealthWait, p.Approvals = rotation.ProcessEmergency, 0, 0, 0, 0
	case rotation.Rollback:
		p.Process = rotation.ProcessRollback
		for i := range p.Places {
			if p.Places[i].Kind == gatewayKind {
				p.Places[i].Can.Stage = false // what served before is not tried again: it comes back at once
			}
		}
		back, err := returnTo(p.Key, versions)
		if err != nil {
			return p, err
		}
		p.New = back.ID
	}
	return p, nil
}

// gatewayKind is the kind of a place that is a gateway.
const gatewayKind = "gateway"

// rank orders the places of an emergency.
func rank(p rotation.Place) int {
	if p.Kind == gatewayKind {
		return 0
	}
	return 1
}

// lent gives the version of another key that an emergency put into the places of this one, or nothing.
func (a *App) lent(ctx context.Context, key apikey.Name) (id apikey.VersionID, err error) {
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		desired, err := tx.Desired(key)
		if err != nil {
			return err
		}
		for _, d := range desired {
			v, err := tx.Version(d.Version)
			if err != nil {
				return err
			}
			if v.Key != key {
				id = v.ID
			}
		}
		return nil
	})
	return id, err
}

// returnTo finds the version that a rollback brings back: the newest that was replaced. It is refused when it must not come back.
func returnTo(key apikey.Name, versions []apikey.Version) (apikey.Version, error) {
	var last apikey.Version
	for _, v := range versions {
		was := v.State == apikey.Previous || v.State == apikey.Inactive || v.State == apikey.Archived || v.State == apikey.Expired
		if was && (last.ID == "" || v.Activated.After(last.Activated)) {
			last = v
		}
	}
	refuse := func(why string) (apikey.Version, error) {
		return last, fault.New(fault.Conflict, fmt.Sprintf("roll %s back: %s", key, why), fault.Hint("rotate forward instead: keywright rotate %s", key))
	}
	switch {
	case last.ID == "":
		return last, fault.New(fault.NotFound, fmt.Sprintf("roll %s back: there is no earlier version", key), fault.Hint("a running rotation is undone by: keywright rotation cancel"))
	case last.Compromised:
		return refuse(fmt.Sprintf("the previous version %s is compromised", last.Fingerprint()))
	case last.State == apikey.Archived || last.State == apikey.Expired:
		return refuse(fmt.Sprintf("the previous version %s is %s, and its value is gone", last.Fingerprint(), last.State))
	}
	return last, nil
}
