package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/api"
	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// View is a rotation as the screens show it.
type View struct {
	Row     rotation.Row     `json:"rotation"`
	Journal []rotation.Entry `json:"journal"`
	Move    rotation.Move    `json:"move"`
	// At is when it was looked at.
	At time.Time `json:"at"`
	// Versions are the two versions, as far as they are known, by role.
	Versions map[rotation.Role]apikey.Version `json:"versions"`
}

// Rotation reads a rotation with its journal, and says where it stands. NotFound when there is none.
func (a *App) Rotation(ctx context.Context, id string) (View, error) {
	v := View{At: a.Now(), Versions: map[rotation.Role]apikey.Version{}}
	err := a.Store.View(ctx, func(tx *store.Tx) (err error) {
		if v.Row, err = tx.Rotation(id); err != nil {
			return err
		}
		if v.Journal, err = tx.Journal(id); err != nil {
			return err
		}
		for role, version := range map[rotation.Role]apikey.VersionID{rotation.Old: v.Row.Plan.Old, rotation.New: rotation.Chosen(v.Row.Plan, v.Journal)} {
			if version == "" {
				continue
			}
			if v.Versions[role], err = tx.Version(version); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return v, err
	}
	v.Move = rotation.Next(v.Row.Plan, v.Journal, a.now())
	return v, nil
}

// Rotations lists rotations, newest first.
func (a *App) Rotations(ctx context.Context, f store.RotationFilter) (rows []rotation.Row, err error) {
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		rows, err = tx.Rotations(f)
		return err
	})
	return rows, err
}

// FindRotation finds a rotation by its id, or the newest one of a key by the key's name; with neither it takes the only one that has not ended.
func (a *App) FindRotation(ctx context.Context, name string) (string, error) {
	if strings.HasPrefix(name, "r-") {
		_, err := a.Rotation(ctx, name)
		return name, err
	}
	rows, err := a.Rotations(ctx, store.RotationFilter{Key: apikey.Name(name), Active: name == "", Limit: 2})
	switch {
	case err != nil:
		return "", err
	case len(rows) == 0:
		return "", fault.New(fault.NotFound, fmt.Sprintf("find rotation %q: there is none", name), fault.Hint("keywright rotation list"))
	case name == "" && len(rows) > 1:
		return "", fault.New(fault.Invalid, "find rotation: several are running", fault.Hint("name one: keywright rotation list"))
	}
	return rows[0].ID, nil
}

// Signal says something to a rotation in the name of this user.
func (a *App) Signal(ctx context.Context, id string, s rotation.Signal, d rotation.SignalData) error {
	return a.SignalAs(ctx, api.Person{UID: a.UID, Name: a.Actor}, id, s, d)
}

// SignalAs says something to a rotation in the name of a user of this host. An approval is bound to the plan as it stands, lasts for a week, and
// is refused to the one who asked for the rotation.
func (a *App) SignalAs(ctx context.Context, who api.Person, id string, s rotation.Signal, d rotation.SignalData) error {
	v, err := a.Rotation(ctx, id)
	if err != nil {
		return err
	}
	if err := allowed(v, s, d); err != nil {
		return err
	}
	d.UID = who.UID
	if s == rotation.SignalApprove {
		if who.UID == v.Row.Plan.UID {
			return fault.New(fault.Forbidden, "approve rotation "+id+": you asked for it yourself", fault.Hint("another user of this host approves: keywright rotation approve %s --socket PATH", id))
		}
		d.PlanHash, d.Until = v.Row.Plan.Hash(), a.now().Add(7*24*time.Hour)
	}
	return a.Runner.Signal(ctx, id, s, who.Name, d)
}

// allowed refuses signals that would be ignored, with the reason.
func allowed(v View, s rotation.Signal, d rotation.SignalData) error {
	id := v.Row.ID
	switch {
	case v.Row.Status.Ended():
		return fault.New(fault.Conflict, fmt.Sprintf("rotation %s ended as %q", id, v.Row.Status), fault.Hint("keywright rotation show %s", id))
	case s == rotation.SignalCancel && rotation.Flipped(v.Journal):
		return fault.New(fault.Conflict, fmt.Sprintf("cancel rotation %s: the new version is current already", id), fault.Hint("keywright rollback %s", v.Row.Key))
	case s == rotation.SignalApprove && v.Row.Plan.Approvals == 0:
		return fault.New(fault.Conflict, fmt.Sprintf("approve rotation %s: its plan wants no approval", id))
	case s == rotation.SignalSign && d.Subject == "":
		return fault.New(fault.Invalid, "sign: say what for: a location, evidence, disabled or archived")
	}
	return nil
}

// Begin stores a rotation that is ready to be followed. What an intake left half done is put right first. An emergency is refused as the second
// one of a key within an hour, unless it overtakes nothing that worked. An ordinary rotation is refused while its checkpoints would find no witness.
// Kinds: Conflict, Forbidden, Invalid.
func (a *App) Begin(ctx context.Context, plan rotation.Plan) (rotation.Row, error) {
	switch plan.Kind {
	case rotation.Emergency:
		if err := a.onceAnHour(ctx, plan); err != nil {
			return rotation.Row{}, err
		}
	case rotation.Scheduled, rotation.Manual: // what puts an earlier version back, or a leaked one out of use, waits for no witness
		if err := a.witnessed(); err != nil {
			return rotation.Row{}, fault.In(err, fmt.Sprintf("begin rotation of %s", plan.Key))
		}
	}
	if plan.Approvals > 0 && a.approvers() < plan.Approvals {
		return rotation.Row{}, fault.New(fault.Invalid, fmt.Sprintf("begin rotation of %s: its policy wants %d approvals, and the configuration names %d approvers", plan.Key, plan.Approvals, a.approvers()),
			fault.Hint("add contacts with the role approver, or lower approvals"))
	}
	return a.Runner.Begin(ctx, plan)
}

// Idle refuses, as Conflict, a key that is in rotation.
func (a *App) Idle(ctx context.Context, key apikey.Name) error {
	rows, err := a.Rotations(ctx, store.RotationFilter{Key: key, Active: true, Limit: 1})
	if err != nil || len(rows) == 0 {
		return err
	}
	return fault.New(fault.Conflict, fmt.Sprintf("begin rotation of %s: %s is not over", key, rows[0].ID), fault.Hint("keywright rotation follow %s", rows[0].ID))
}

// onceAnHour keeps an emergency from being used as a lever: the next one of a key within an hour wants another person.
func (a *App) onceAnHour(ctx context.Context, plan rotation.Plan) error {
	rows, err := a.Rotations(ctx, store.RotationFilter{Key: plan.Key})
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Kind == rotation.Emergency && r.Plan.UID == plan.UID && a.now().Sub(r.Created) < time.Hour {
			return fault.New(fault.Forbidden, fmt.Sprintf("begin emergency for %s: you began %s less than an hour ago", plan.Key, r.ID),
				fault.Hint("follow that one: keywright rotation follow %s; another one wants a second person", r.ID))
		}
	}
	return nil
}

func (a *App) approvers() int {
	n := 0
	for _, c := range a.Config.Contacts {
		if c.Role == "approver" {
			n++
		}
	}
	return n
}

// Resume advances every rotation that is due, as far as each goes now, and gives all that have not ended and those that just did.
func (a *App) Resume(ctx context.Context) ([]rotation.Row, error) {
	active, err := a.Rotations(ctx, store.RotationFilter{Active: true})
	if err != nil {
		return nil, err
	}
	for _, r := range active {
		if r.WakeAt.After(a.now()) {
			continue
		}
		if err := a.takeUp(ctx, r); err != nil {
			return nil, err
		}
	}
	var rows []rotation.Row
	for _, r := range active {
		v, err := a.Rotation(ctx, r.ID)
		if err != nil {
			return nil, err
		}
		rows = append(rows, v.Row)
	}
	return rows, nil
}

// takeUp advances a rotation that is due. One that another process holds is waited for as long as the lease of a dead process lasts; a process that
// renews its lease is left to its work.
func (a *App) takeUp(ctx context.Context, r rotation.Row) error {
	for {
		_, err := a.Runner.Advance(ctx, r.ID)
		if !fault.Is(err, fault.Conflict) {
			return err
		}
		v, err := a.Rotation(ctx, r.ID)
		if err != nil || v.Row.Status.Ended() || v.Row.LeaseUntil.After(r.LeaseUntil) && !r.LeaseUntil.IsZero() {
			return err
		}
		r.LeaseUntil = v.Row.LeaseUntil
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Canceled, context.Cause(ctx), "resume")
		case <-time.After(max(100*time.Millisecond, min(time.Second, v.Row.LeaseUntil.Sub(a.now())))):
		}
	}
}
