package app

import (
	"context"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/intake"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/rotation"
)

// Slot describes a configured key to intake, with its places opened.
func (a *App) Slot(name apikey.Name) (intake.Slot, error) {
	k, err := a.key(name)
	if err != nil {
		return intake.Slot{}, err
	}
	slot := intake.Slot{Key: name, Environment: k.Environment, Class: a.class(k), House: a.Config.Organization, Organization: k.Organization, Workspace: k.Workspace, Purpose: k.Purpose}
	for _, w := range k.Waves {
		for _, place := range w.Locations {
			l, err := a.Location(place)
			if err != nil {
				return slot, err
			}
			if home := a.Config.Locations[place].Home; home == "" || home == name {
				slot.Locations = append(slot.Locations, l)
			}
		}
	}
	return slot, nil
}

// Readable gives the locations of a key whose value can be read out, in the order of its waves.
func Readable(slot intake.Slot) []*location.Location {
	var list []*location.Location
	for _, l := range slot.Locations {
		if l.Abilities().Reads {
			list = append(list, l)
		}
	}
	return list
}

// spareAdded wakes a rotation that waits for intake.
func (a *App) spareAdded(ctx context.Context, id, actor string) error {
	return a.Runner.Signal(ctx, id, rotation.SignalIntake, actor, rotation.SignalData{UID: a.UID})
}
