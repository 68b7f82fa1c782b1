package app

import (
	"context"
	"fmt"

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

// Incident gives an incident and its timeline: the audited events of its rotation, oldest first. NotFound when there is none.
func (a *App) Incident(ctx context.Context, id string) (found store.Incident, timeline []event.Event, err error) {
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		timeline = nil
		list, err := tx.Incidents(false)
		if err != nil {
			return err
		}
		for _, i := range list {
			if i.ID == id {
				found = i
			}
		}
		if found.ID == "" {
			return fault.New(fault.NotFound, fmt.Sprintf("find incident %q: there is none", id), fault.Hint("keywright incident list --all"))
		}
		for e, err := range tx.Audit() {
			if err != nil {
				return err
			}
			if e.Event.Rotation == found.Rotation {
				timeline = append(timeline, e.Event)
			}
		}
		return nil
	})
	return found, timeline, err
}

// CloseIncident closes an incident with a word on how it ended. NotFound when there is none.
func (a *App) CloseIncident(ctx context.Context, id, note string) error {
	return a.Store.Update(ctx, func(tx *store.Tx) error { return tx.CloseIncident(id, audit.Clean(note)) })
}
