package intake

import (
	"cmp"
	"context"
	"fmt"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/store"
)

// keep seals the value and writes the version, in one transaction with the record.
func (h *hand) keep(ctx context.Context) error {
	v := h.version()
	sealed, generation, err := h.Vault.Seal(ctx, v.ID, v.Key, h.value)
	if err != nil {
		return err
	}
	err = h.Store.Update(ctx, func(tx *store.Tx) error {
		if err := free(tx, v); err != nil {
			return err
		}
		if err := tx.PutVersion(v); err != nil {
			return err
		}
		if err := tx.PutSealed(v.ID, sealed, generation); err != nil {
			return err
		}
		if h.pinned {
			if err := tx.PutSlot(h.pins); err != nil {
				return err
			}
		}
		return tx.Record(h.added(v))
	})
	if err != nil {
		return err
	}
	h.result.Version = v
	h.result.Next = h.next(v)
	h.check(CheckSealed, OK, "sealed as version "+string(v.ID))
	return nil
}

func (h *hand) next(v apikey.Version) string {
	switch {
	case v.State == apikey.Current:
		return "keywright plan " + string(v.Key)
	case h.o.Spare:
		return ""
	}
	return "keywright rotate " + string(v.Key)
}

func (h *hand) version() apikey.Version {
	now := h.now()
	v := apikey.Version{
		ID: apikey.VersionID(identifier("v_")), Key: h.slot.Key, State: apikey.Spare, Digest: h.value.Digest(), Binding: h.binding, Environment: h.slot.Environment,
		Organization: h.verdict.Organization, Workspace: h.verdict.Workspace, Purpose: cmp.Or(h.o.Purpose, h.slot.Purpose), CreatedBy: h.o.Actor, Adopted: h.adopting,
		Created: h.o.Created, Added: now, Tested: now, Changed: now,
	}
	h.identify(&v)
	if h.adopting {
		v.State, v.Activated = apikey.Current, v.Created
		if v.Activated.IsZero() {
			v.Activated = now
		}
	}
	return v
}

// identify writes what the provider's list says into the version.
func (h *hand) identify(v *apikey.Version) {
	if h.entry.ID == "" {
		return
	}
	v.ProviderID, v.ProviderName, v.Principal, v.Expires, v.Binding = h.entry.ID, h.entry.Name, h.entry.Principal, h.entry.ExpiresAt, h.binding
	if !h.entry.CreatedAt.IsZero() {
		v.Created = h.entry.CreatedAt
	}
}

// free refuses an id of the provider's that another version has: its value is another one.
func free(tx *store.Tx, v apikey.Version) error {
	if v.ProviderID == "" {
		return nil
	}
	all, err := tx.Versions("")
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.ProviderID == v.ProviderID && o.ID != v.ID {
			return taken(o)
		}
	}
	return nil
}

func taken(o apikey.Version) error {
	return fault.New(fault.Conflict, fmt.Sprintf("match key: %s belongs to version %s of key %s, which has another value", o.ProviderID, o.ID, o.Key), fault.Hint("keywright key show %s", o.Key))
}

func (h *hand) added(v apikey.Version) event.Event {
	fields := map[string]string{"fingerprint": string(v.Fingerprint()), "state": string(v.State), "environment": string(v.Environment), "organization": v.Organization, "workspace": v.Workspace}
	for name, text := range map[string]string{"provider_id": v.ProviderID, "binding": string(v.Binding), "principal": v.Principal, "read_from": h.from} {
		if text != "" {
			fields[name] = text
		}
	}
	if h.pinned {
		fields["pinned"] = "yes"
		if h.pins.ProviderURL != "" {
			fields["provider_url"] = h.pins.ProviderURL
		}
	}
	text := "handed in"
	if v.Adopted {
		text = "adopted"
	}
	return event.Event{Type: event.VersionAdded, Actor: h.o.Actor, Key: v.Key, Version: v.ID, Text: text, Fields: fields}
}

// tell wakes a rotation of the key that has no new version yet. The version is in the inventory by then, so trouble is no error.
func (h *hand) tell(ctx context.Context) error {
	var id string
	err := h.Store.View(ctx, func(tx *store.Tx) error {
		id = ""
		row, ok, err := tx.ActiveRotation(h.slot.Key)
		if err != nil || !ok {
			return err
		}
		if _, has, err := tx.Claim(row.ID); err != nil || has || row.Plan.New != "" {
			return err
		}
		id = row.ID
		return nil
	})
	if err == nil && id != "" && h.Signal != nil {
		if err = h.Signal(ctx, id, h.o.Actor); err == nil {
			h.result.Rotation, h.result.Next = id, "keywright rotation follow "+id
			h.check(CheckRotation, OK, "rotation "+id+" was told")
		}
	}
	if err != nil {
		h.check(CheckRotation, Warn, "the rotation was not told: "+err.Error())
	}
	return nil
}
