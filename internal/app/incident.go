package app

import (
	"context"
	"fmt"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/store"
)

// Incidents lists open incidents, or all.
func (a *App) Incidents(ctx context.Context, all bool) (list []store.Incident, err error) {
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		list, err = tx.Incidents(!all)
		return err
	})
	return list, err
}

// before is how far before an incident that no rotation opened its timeline begins.
const before = time.Hour

// Incident gives an incident, by its id or the newest one by the name of its key, and its timeline: the audited events of its rotation, or those of its key since shortly before it was opened, oldest
// first. NotFound when there is none.
func (a *App) Incident(ctx context.Context, name string) (found store.Incident, timeline []event.Event, err error) {
	err = a.Store.View(ctx, func(tx *store.Tx) (err error) {
		timeline = nil
		if found, err = findIncident(tx, name, false); err != nil {
			return err
		}
		for e, err := range tx.Audit() {
			if err != nil {
				return err
			}
			if belongs(e.Event, found) {
				timeline = append(timeline, e.Event)
			}
		}
		return nil
	})
	return found, timeline, err
}

func belongs(e event.Event, i store.Incident) bool {
	if i.Rotation != "" {
		return e.Rotation == i.Rotation
	}
	return e.Key == i.Key && !e.At.Before(i.Opened.Add(-before)) && (i.Closed.IsZero() || !e.At.After(i.Closed))
}

// CloseIncident closes an incident, by its id or the newest open one by the name of its key, with a word on how it ended, and gives its id. Kinds:
// NotFound; Conflict when it is closed.
func (a *App) CloseIncident(ctx context.Context, name, note string) (id string, err error) {
	note = audit.Clean(note)
	err = a.Store.Update(ctx, func(tx *store.Tx) error {
		i, err := findIncident(tx, name, true)
		if err != nil {
			return err
		}
		id = i.ID
		if err := tx.CloseIncident(id, note); err != nil {
			return err
		}
		return tx.Record(event.Event{Type: event.IncidentClosed, Actor: a.Actor, Key: i.Key, Rotation: i.Rotation, Text: note, Fields: map[string]string{"incident": id}})
	})
	return id, err
}

// findIncident finds an incident by its id, or the newest one of a key by the key's name, with open only one that is.
func findIncident(tx *store.Tx, name string, open bool) (store.Incident, error) {
	list, err := tx.Incidents(false) // the newest first
	if err != nil {
		return store.Incident{}, err
	}
	for _, i := range list {
		if i.ID == name || string(i.Key) == name && (!open || i.Closed.IsZero()) {
			return i, nil
		}
	}
	return store.Incident{}, fault.New(fault.NotFound, fmt.Sprintf("find incident %q: there is none", name), fault.Hint("keywright incident list --all"))
}
