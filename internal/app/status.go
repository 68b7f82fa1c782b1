package app

import (
	"cmp"
	"context"
	"slices"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/manual"
	"github.com/keywright/keywright/internal/monitor"
	"github.com/keywright/keywright/internal/provider"
)

// Status says how the keys stand, from the store alone; with live, places and provider are asked, live is told of each, and what is wrong is
// written down and told once.
func (a *App) Status(ctx context.Context, live func(monitor.Progress)) (monitor.Status, error) {
	_, admin := a.Provider.(provider.StatusSetter)
	s := monitor.Source{Store: a.Store, Now: a.now, Admin: admin, Witness: a.Config.State.Witness != ""}
	homes, keys := a.homes(), a.keys()
	s.Keys = make([]monitor.Key, 0, len(keys))
	for _, k := range keys {
		s.Keys = append(s.Keys, monitor.Key{
			Name: k.Name, Environment: k.Environment, Class: a.class(k), Owner: k.Owner, Organization: k.Organization, Workspace: k.Workspace, Backup: k.Backup, Automatic: k.Automatic,
			Locations: homes[k.Name],
		})
	}
	if live != nil {
		l := &monitor.Live{Provider: a.Provider, Progress: live, Ask: a.ask}
		for name := range a.Config.Locations {
			place, err := a.Location(name)
			if err != nil {
				return monitor.Status{}, err
			}
			l.Locations = append(l.Locations, place)
		}
		slices.SortFunc(l.Locations, func(x, y *location.Location) int { return cmp.Compare(x.Name(), y.Name()) })
		s.Live = l
	}
	status, err := monitor.Collect(ctx, s)
	if err != nil || live == nil {
		return status, err
	}
	return status, a.afterLook(ctx, status)
}

// keys gives the configured keys by name.
func (a *App) keys() []*config.Key {
	list := make([]*config.Key, 0, len(a.Config.Keys))
	for _, k := range a.Config.Keys {
		list = append(list, k)
	}
	slices.SortFunc(list, func(x, y *config.Key) int { return cmp.Compare(x.Name, y.Name) })
	return list
}

// homes gives the places of each key: those in its waves, unless they belong to another key.
func (a *App) homes() map[apikey.Name][]monitor.Place {
	homes := make(map[apikey.Name][]monitor.Place, len(a.Config.Keys))
	for _, k := range a.keys() {
		for _, w := range k.Waves {
			for _, name := range w.Locations {
				l, ok := a.Config.Locations[name]
				if !ok {
					continue
				}
				owner := k.Name
				if l.Home != "" {
					owner = l.Home
				}
				place := monitor.Place{Name: name, Kind: l.Kind, Manual: l.Kind == manual.Kind().Name}
				if !slices.Contains(homes[owner], place) {
					homes[owner] = append(homes[owner], place)
				}
			}
		}
	}
	return homes
}

// ask asks the provider about the value of a version.
func (a *App) ask(ctx context.Context, id apikey.VersionID) (verdict provider.Verdict, err error) {
	v, err := a.vault.Open(ctx, id)
	if err != nil {
		return verdict, err
	}
	defer v.Destroy()
	return a.Provider.Inspect(ctx, v)
}
