package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/store"
)

// Versions lists the versions of a key, or of all keys when it is empty, in the order in which they were added.
func (a *App) Versions(ctx context.Context, key apikey.Name) (list []apikey.Version, err error) {
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		list, err = tx.Versions(key)
		return err
	})
	return list, err
}

// FindVersions finds the versions that a name means: all of a key, or those whose fingerprint, provider id or own id begins with it. NotFound
// when there is none.
func (a *App) FindVersions(ctx context.Context, name string) ([]apikey.Version, error) {
	all, err := a.Versions(ctx, "")
	if err != nil {
		return nil, err
	}
	name = strings.TrimSuffix(name, "…")
	found := slices.DeleteFunc(all, func(v apikey.Version) bool {
		byID := len(name) > 3 && (strings.HasPrefix(string(v.Fingerprint()), name) || strings.HasPrefix(v.ProviderID, name) || strings.HasPrefix(string(v.ID), name))
		return string(v.Key) != name && !byID
	})
	if len(found) == 0 {
		return nil, fault.New(fault.NotFound, fmt.Sprintf("find %q: no key and no version is called so", name), fault.Hint("keywright key list"))
	}
	return found, nil
}

// Filled reports whether a key has a current version, or one that another key lent it.
func (a *App) Filled(ctx context.Context, key apikey.Name) (bool, error) {
	versions, err := a.Versions(ctx, key)
	if err != nil || slices.ContainsFunc(versions, func(v apikey.Version) bool { return v.State == apikey.Current }) {
		return err == nil, err
	}
	id, err := a.lent(ctx, key)
	return id != "", err
}

// SignPlace writes down that a person vouches for a place that keywright cannot see: it holds the version that it is meant to hold. NotFound when
// nothing was ever decided for the place.
func (a *App) SignPlace(ctx context.Context, key apikey.Name, place, note string) (apikey.Fingerprint, error) {
	var fp apikey.Fingerprint
	err := a.Store.Update(ctx, func(tx *store.Tx) error {
		desired, err := tx.Desired(key)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(desired, func(d store.Desired) bool { return d.Location == place })
		if i < 0 {
			return fault.New(fault.NotFound, fmt.Sprintf("sign for %q: it was never decided what it holds for key %s", place, key), fault.Hint("keywright key adopt %s", key))
		}
		v, err := tx.Version(desired[i].Version)
		if err != nil {
			return err
		}
		fp = v.Fingerprint()
		if err := tx.Sign(store.Signature{Location: place, Fingerprint: fp, By: a.Actor, UID: a.UID, Note: note}); err != nil {
			return err
		}
		return tx.Record(event.Event{Type: event.PlaceSigned, Actor: a.Actor, Key: key, Version: v.ID, Location: place, Text: note})
	})
	return fp, err
}
