package runner

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// Begin stores a rotation that is ready to be advanced. A rollback or an emergency overtakes a running rotation of the key: the other ends
// as superseded, without compensation. An emergency marks the old version as compromised in the same transaction. The id in plan is
// completed with a number when it is taken. Kinds: Conflict when the key is already in rotation.
func (r *Runner) Begin(ctx context.Context, plan rotation.Plan) (rotation.Row, error) {
	var row rotation.Row
	err := r.Store.Update(ctx, func(tx *store.Tx) error {
		overtaken, err := r.overtake(tx, plan)
		if err != nil {
			return err
		}
		id, err := freeID(tx, plan.ID)
		if err != nil {
			return err
		}
		plan := plan
		plan.ID, plan.Overtakes = id, overtaken
		row = rotation.Row{ID: id, Key: plan.Key, Kind: plan.Kind, Status: rotation.Running, Plan: plan, Created: r.Now(), Updated: r.Now(), WakeAt: r.Now()}
		if err := tx.CreateRotation(row); err != nil {
			return err
		}
		if plan.Kind == rotation.Emergency && plan.Old != "" {
			if err := markCompromised(tx, plan); err != nil {
				return err
			}
		}
		return tx.Record(event.Event{Type: event.RotationStarted, Actor: plan.Actor, Key: plan.Key, Rotation: id, Version: plan.Old,
			Text: strings.TrimSpace(fmt.Sprintf("%s: %s %s", plan.Kind, plan.Reason, plan.Note)), Fields: map[string]string{"plan": plan.Hash()}})
	})
	return row, err
}

// overtake ends the rotation of the key that is under way, if any, and gives its id.
func (r *Runner) overtake(tx *store.Tx, plan rotation.Plan) (id string, err error) {
	active, running, err := tx.ActiveRotation(plan.Key)
	if err != nil || !running {
		return "", err
	}
	if plan.Kind != rotation.Emergency && plan.Kind != rotation.Rollback {
		return "", fault.New(fault.Conflict, fmt.Sprintf("begin rotation of %s: %s is not over", plan.Key, active.ID), fault.Hint("keywright rotation follow %s", active.ID))
	}
	if err := tx.Supersede(active.ID, fmt.Sprintf("overtaken by %s", plan.Kind)); err != nil {
		return "", err
	}
	if err := r.returnSpare(tx, active); err != nil {
		return "", err
	}
	if err := release(tx, active.ID); err != nil {
		return "", err
	}
	return active.ID, tx.Record(event.Event{Type: event.RotationSuperseded, Actor: plan.Actor, Key: plan.Key, Rotation: active.ID, Text: fmt.Sprintf("overtaken by %s", plan.Kind)})
}

// returnSpare makes the claimed version of an overtaken rotation a spare again, unless a place may have got it.
func (r *Runner) returnSpare(tx *store.Tx, row rotation.Row) error {
	id, ok, err := tx.Claim(row.ID)
	if err != nil || !ok {
		return err
	}
	v, err := tx.Version(id)
	if err != nil || v.State != apikey.Pending {
		return err
	}
	wanted, err := tx.Desired("")
	if err != nil || slices.ContainsFunc(wanted, func(d store.Desired) bool { return d.Version == id }) {
		return err
	}
	v.State, v.Changed = apikey.Spare, r.Now()
	return tx.PutVersion(v)
}

func markCompromised(tx *store.Tx, plan rotation.Plan) error {
	v, err := tx.Version(plan.Old)
	if err != nil {
		return err
	}
	v.Compromised = true
	if err := tx.PutVersion(v); err != nil {
		return err
	}
	return tx.Record(event.Event{Type: event.VersionCompromised, Actor: plan.Actor, Key: plan.Key, Version: v.ID, Rotation: plan.ID, Text: plan.Note})
}

func freeID(tx *store.Tx, base string) (string, error) {
	for n := 1; ; n++ {
		id := base
		if n > 1 {
			id = fmt.Sprintf("%s-%d", base, n)
		}
		_, err := tx.Rotation(id)
		if fault.Is(err, fault.NotFound) {
			return id, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// Signal says something to a rotation: it is journalled and wakes the rotation. Kinds: NotFound; Conflict when the rotation has ended.
func (r *Runner) Signal(ctx context.Context, id string, s rotation.Signal, actor string, d rotation.SignalData) error {
	data, err := json.Marshal(d)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "signal rotation")
	}
	types := map[rotation.Signal]event.Type{
		rotation.SignalApprove: event.RotationApproved, rotation.SignalPause: event.RotationPaused, rotation.SignalResume: event.RotationResumed,
		rotation.SignalCancel: event.RotationUndoing, rotation.SignalSign: event.RotationSigned,
	}
	return r.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := tx.Rotation(id)
		if err != nil {
			return err
		}
		if row.Status.Ended() {
			return fault.Newf(fault.Conflict, "signal rotation %s: it ended as %q", id, row.Status)
		}
		if err := tx.Signal(id, rotation.Entry{Type: rotation.Signalled, Signal: s, Actor: actor, Data: data}); err != nil {
			return err
		}
		if s == rotation.SignalSign {
			if err := signPlace(tx, row, actor, d); err != nil {
				return err
			}
		}
		if t, ok := types[s]; ok {
			return tx.Record(event.Event{Type: t, Actor: actor, Key: row.Key, Rotation: id, Location: d.Subject, Text: d.Note})
		}
		return nil
	})
}

// signPlace keeps a signature for a place beside the rotation, so that the place's own Inspect can tell who vouched for it.
func signPlace(tx *store.Tx, row rotation.Row, actor string, d rotation.SignalData) error {
	if _, isPlace := row.Plan.Place(d.Subject); !isPlace {
		return nil
	}
	want := row.Plan.New
	if claimed, ok, err := tx.Claim(row.ID); err != nil {
		return err
	} else if ok {
		want = claimed
	}
	if want == "" {
		return fault.Newf(fault.Conflict, "sign for %s: the rotation has no new version yet", d.Subject)
	}
	v, err := tx.Version(want)
	if err != nil {
		return err
	}
	return tx.Sign(store.Signature{Location: d.Subject, Fingerprint: v.Fingerprint(), By: actor, UID: d.UID, Note: d.Note, Rotation: row.ID})
}

// random gives 16 hex digits.
func random() string {
	b := make([]byte, 8)
	rand.Read(b)
	return fmt.Sprintf("%x", b)
}
