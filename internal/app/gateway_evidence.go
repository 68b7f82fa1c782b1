package app

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway"
	place "github.com/keywright/keywright/internal/location/gateway"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// gateways gives the directory of every gateway that the configuration names, by a name for people: its own section, and places of the kind gateway.
func (a *App) gateways() map[string]string {
	named, seen := map[string]string{}, map[string]bool{}
	if g := a.Config.Gateway; g != nil {
		named["gateway"], seen[g.StateDir] = g.StateDir, true
	}
	for _, name := range slices.Sorted(maps.Keys(a.Config.Locations)) {
		if c, ok := a.Config.Locations[name].Fields.(*place.Config); ok && !seen[c.StateDir] {
			named[name], seen[c.StateDir] = c.StateDir, true
		}
	}
	return named
}

// askGateway bounds a question to a gateway on this host.
const askGateway = 5 * time.Second

// gatewayFact asks every gateway about a value since a time: which ones may still use it, and what they saw. One that does not answer, or whose record
// begins later, is silent: unknown, never none.
func (a *App) gatewayFact(ctx context.Context, d apikey.Digest, since time.Time) (f rotation.GatewayFact, uses []string) {
	list := a.gateways()
	f.Configured = len(list) > 0
	for _, name := range slices.Sorted(maps.Keys(list)) {
		ctx, cancel := context.WithTimeout(ctx, askGateway)
		record, err := gateway.NewClient(list[name]).Record(ctx)
		cancel()
		switch {
		case err != nil:
			f.Silent = append(f.Silent, name)
			continue
		case record.Since.After(since):
			f.Silent = append(f.Silent, fmt.Sprintf("%s before %s, when its record begins", name, record.Since.UTC().Format(time.DateTime)+"Z"))
		}
		for _, v := range record.InUse {
			if v.Digest == d {
				uses = append(uses, fmt.Sprintf("%s (%s)", name, v.Key))
			}
		}
		for _, v := range record.Left {
			if v.Digest != d {
				continue
			}
			last := v.Drained
			if last.IsZero() {
				last = record.Now // a request on it is under way
			}
			if last.After(since) {
				f.Seen++
			}
			if last.After(f.Last) {
				f.Last = last
			}
		}
	}
	return f, uses
}

// heedEvery is how often the daemon fetches what gateways tell.
const heedEvery = 2 * time.Second

// gatewayEvents are the events of a gateway that the audit log takes. What comes and goes with every burst of requests is for its metrics alone.
var gatewayEvents = []event.Type{
	gateway.KeysSwapped, gateway.KeyDrained, gateway.KeyRevoked, gateway.KeyHealthy, gateway.KeyDenied, gateway.SourceFailed, gateway.SourceExpired, gateway.CanaryShare, gateway.CanaryStopped,
	gateway.Degraded, gateway.Restored,
}

// heed takes the events of every gateway into the audit log, once each.
func (a *App) heed(ctx context.Context) error {
	var failed error
	for name, dir := range a.gateways() {
		c := gateway.NewClient(dir)
		bounded, cancel := context.WithTimeout(ctx, askGateway)
		events, err := a.heedOne(bounded, name, dir, c)
		cancel()
		a.tellDegraded(ctx, name, events)
		if err != nil && !fault.Is(err, fault.Unavailable) && failed == nil { // one that does not run tells nothing
			failed = fault.In(err, "heed gateway "+name)
		}
	}
	return failed
}

// heedOne gives the events that it has taken.
func (a *App) heedOne(ctx context.Context, name, dir string, c *gateway.Client) ([]event.Event, error) {
	cursor := "gateway events " + filepath.Clean(dir)
	var from string
	err := a.Store.View(ctx, func(tx *store.Tx) (err error) {
		from, _, err = tx.Meta(cursor)
		return err
	})
	if err != nil {
		return nil, err
	}
	told, err := c.Told(ctx, from)
	if err != nil || told.Next == from {
		return nil, err
	}
	mine := false
	err = a.Store.Update(ctx, func(tx *store.Tx) error {
		mine = false
		if now, _, err := tx.Meta(cursor); err != nil || now != from {
			return err // another process was quicker
		}
		mine = true
		for _, e := range told.Events {
			if err := a.take(tx, name, e); err != nil {
				return err
			}
		}
		if told.Lost > 0 {
			a.log.Warn("events of a gateway were lost before they were fetched", "gateway", name, "events", told.Lost)
		}
		return tx.SetMeta(cursor, told.Next)
	})
	if err != nil || !mine {
		return nil, err
	}
	return told.Events, nil
}

// denyCompromised tells every gateway which values are compromised and in use nowhere any more, so that none comes back by a source.
func (a *App) denyCompromised(ctx context.Context) error {
	var list []apikey.Digest
	err := a.Store.View(ctx, func(tx *store.Tx) (err error) {
		list, err = compromised(tx)
		return err
	})
	if err != nil || len(list) == 0 {
		return err
	}
	for _, dir := range a.gateways() {
		ctx, cancel := context.WithTimeout(ctx, askGateway)
		failed := gateway.NewClient(dir).Deny(ctx, list...)
		cancel()
		if failed != nil && !fault.Is(failed, fault.Unavailable) {
			err = failed
		}
	}
	return err
}

// take records one event of a gateway, for the rotation of its key that is under way.
func (a *App) take(tx *store.Tx, name string, e event.Event) error {
	if !slices.Contains(gatewayEvents, e.Type) || strings.ContainsFunc(e.Text, func(r rune) bool { return r < ' ' }) {
		return nil
	}
	e.Actor, e.Location = "keywright", name
	if e.Key != "" {
		row, running, err := tx.ActiveRotation(e.Key)
		if err != nil {
			return err
		}
		if running {
			e.Rotation = row.ID
		}
	}
	return tx.Record(e)
}

// compromised lists the values that are compromised, and neither current nor wanted in a place any more.
func compromised(tx *store.Tx) ([]apikey.Digest, error) {
	versions, err := tx.Versions("")
	if err != nil {
		return nil, err
	}
	desired, err := tx.Desired("")
	if err != nil {
		return nil, err
	}
	var list []apikey.Digest
	for _, v := range versions {
		wanted := slices.ContainsFunc(desired, func(d store.Desired) bool { return d.Version == v.ID })
		if v.Compromised && v.State != apikey.Current && v.State != apikey.Pending && !wanted {
			list = append(list, v.Digest)
		}
	}
	return list, nil
}
