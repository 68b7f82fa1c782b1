package intake

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// look is what a place of the slot was seen to hold.
type look struct {
	place   *location.Location
	holding location.Holding
	err     error
}

func (h *hand) looks(ctx context.Context) []look {
	list := make([]look, len(h.slot.Locations))
	for n, l := range h.slot.Locations {
		list[n].place = l
		list[n].holding, list[n].err = l.Inspect(ctx)
	}
	return list
}

// adopt is the way of a key that is deployed already, top to bottom.
func (h *hand) adopt(ctx context.Context, from Source) (string, error) {
	h.reviveLeft(ctx)
	looks := h.looks(ctx)
	value, err := h.obtain(ctx, from, looks)
	if err != nil {
		return CheckPlaces, err
	}
	defer value.Destroy()
	h.value = value
	if name, err := run(ctx, step{CheckFormat, h.format}, step{CheckKnown, h.known}, step{CheckKnown, h.vacant}); err != nil {
		return name, err
	}
	if h.result.Known {
		return CheckPlaces, h.deployed(ctx, looks, h.result.Version)
	}
	deploy := step{CheckPlaces, func(ctx context.Context) error { return h.deployed(ctx, looks, h.result.Version) }}
	if spare := h.result.Version; spare.ID != "" {
		return run(ctx, step{CheckLive, h.live}, step{CheckPlace, h.belongs},
			step{CheckSealed, func(ctx context.Context) error { return h.promote(ctx, spare.ID) }}, deploy)
	}
	return run(ctx, append(h.accept(), deploy)...)
}

// obtain gets the value from where it is.
func (h *hand) obtain(ctx context.Context, from Source, looks []look) (secret.Value, error) {
	switch {
	case from.Reader != nil:
		return Read(from.Reader)
	case from.Location != nil:
		v, err := from.Location.Read(ctx)
		if err == nil {
			h.from = from.Location.Name()
			h.check(CheckPlaces, OK, "read from "+h.from)
		}
		return v, err
	}
	held := map[apikey.Digest][]string{}
	var source *location.Location
	var blind []string
	for _, l := range looks {
		switch {
		case l.err != nil || !l.holding.Present || !l.holding.Digest.Known() || !l.place.Abilities().Reads:
			blind = append(blind, l.place.Name())
		default:
			held[l.holding.Digest] = append(held[l.holding.Digest], l.place.Name())
			if source == nil {
				source = l.place
			}
		}
	}
	switch {
	case len(held) == 0:
		return secret.Value{}, fault.New(fault.NotFound, fmt.Sprintf("adopt %s: no place yields its value (%s)", h.slot.Key, cmp.Or(strings.Join(blind, ", "), "none is configured")),
			fault.Hint("hand the deployed value in on standard input: keywright key adopt %s", h.slot.Key))
	case len(held) > 1:
		var list []string
		for d, names := range held {
			list = append(list, fmt.Sprintf("%s in %s", d.Fingerprint().Short(), strings.Join(names, ", ")))
		}
		slices.Sort(list)
		return secret.Value{}, fault.New(fault.Conflict, fmt.Sprintf("adopt %s: its places disagree: %s", h.slot.Key, strings.Join(list, "; ")),
			fault.Hint("name the place that is right: keywright key adopt %s --from LOCATION", h.slot.Key))
	}
	v, err := source.Read(ctx)
	if err == nil {
		h.from = source.Name()
		h.check(CheckPlaces, OK, "read from "+h.from)
	}
	return v, err
}

// vacant refuses while another version is current, or a rotation is changing the places.
func (h *hand) vacant(ctx context.Context) error {
	if h.result.Known {
		return nil
	}
	return h.Store.View(ctx, func(tx *store.Tx) error { return vacant(tx, h.slot.Key) })
}

func vacant(tx *store.Tx, key apikey.Name) error {
	versions, err := tx.Versions(key)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if v.State == apikey.Current {
			return fault.New(fault.Conflict, fmt.Sprintf("adopt %s: it has a current version, %s", key, v.Fingerprint().Short()),
				fault.Hint("make the places agree, or name the right one: keywright key adopt %s --from LOCATION", key))
		}
	}
	return nil
}

// promote makes a spare current that was deployed by hand.
func (h *hand) promote(ctx context.Context, id apikey.VersionID) error {
	err := h.Store.Update(ctx, func(tx *store.Tx) error {
		if err := vacant(tx, h.slot.Key); err != nil {
			return err
		}
		v, err := tx.Version(id)
		if err != nil {
			return err
		}
		if v.State != apikey.Spare {
			return fault.New(fault.Conflict, fmt.Sprintf("adopt %s: it became %s meanwhile", v.Fingerprint().Short(), v.State), fault.Hint("keywright rotation list"))
		}
		claims, err := tx.Claims()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(claims, func(c store.SpareClaim) bool { return c.Version == id }) {
			return fault.New(fault.Conflict, fmt.Sprintf("adopt %s: a rotation holds it", v.Fingerprint().Short()), fault.Hint("keywright rotation list"))
		}
		now := h.now()
		v.State, v.Changed, v.Activated, v.Tested, v.Adopted = apikey.Current, now, now, now, true
		if err := tx.PutVersion(v); err != nil {
			return err
		}
		if h.pinned {
			if err := tx.PutSlot(h.pins); err != nil {
				return err
			}
		}
		h.result.Version = v
		return tx.Record(event.Event{Type: event.VersionState, Actor: h.o.Actor, Key: v.Key, Version: v.ID, Text: "spare to current: adopted, since it was deployed by hand"})
	})
	if err == nil {
		h.result.Next = h.next(h.result.Version)
		h.check(CheckSealed, OK, "the spare "+string(id)+" is current now")
	}
	return err
}

// deployed notes that the places of the slot are meant to hold the version, and what they hold. A place that is meant to hold the version of
// another key, or one that is still in play, keeps its mark.
func (h *hand) deployed(ctx context.Context, looks []look, v apikey.Version) error {
	now := h.now()
	err := h.Store.Update(ctx, func(tx *store.Tx) error {
		meant, err := tx.Desired("")
		if err != nil {
			return err
		}
		for _, l := range looks {
			name := l.place.Name()
			taken, err := marked(tx, meant, name, h.slot.Key)
			if err != nil {
				return err
			}
			if !taken {
				if err := tx.SetDesired(store.Desired{Location: name, Key: h.slot.Key, Version: v.ID, At: now}); err != nil {
					return err
				}
			}
			if l.err != nil {
				continue
			}
			holding, err := json.Marshal(l.holding)
			if err != nil {
				return fault.Wrap(fault.Unknown, err, "note what "+name+" holds")
			}
			if err := tx.PutObservation(store.Observation{Location: name, At: now, Holding: holding}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range looks {
		name := l.place.Name()
		switch {
		case l.err != nil:
			h.check(CheckPlaces, Warn, name+" could not be looked at: "+l.err.Error())
		case l.holding.Holds(v.Digest):
			h.check(CheckPlaces, OK, fmt.Sprintf("%s holds it (%s)", name, l.holding.How))
		case !l.holding.Known() && l.holding.How != location.ReadBack:
			h.check(CheckPlaces, Warn, fmt.Sprintf("%s cannot be read back (%s)", name, cmp.Or(l.holding.How, location.Nothing)))
		case !l.holding.Present:
			h.check(CheckPlaces, Warn, name+" holds nothing: drift")
		default:
			h.check(CheckPlaces, Warn, fmt.Sprintf("%s holds another value, %s: drift", name, fingerprintOf(l.holding).Short()))
		}
	}
	return nil
}

// marked reports whether it is decided what the place is meant to hold.
func marked(tx *store.Tx, meant []store.Desired, place string, key apikey.Name) (bool, error) {
	n := slices.IndexFunc(meant, func(d store.Desired) bool { return d.Location == place })
	if n < 0 || meant[n].Key != key {
		return n >= 0, nil
	}
	v, err := tx.Version(meant[n].Version)
	return v.State == apikey.Current || v.State == apikey.Pending || v.State == apikey.Previous, err
}

func fingerprintOf(h location.Holding) apikey.Fingerprint {
	if h.Digest.Known() {
		return h.Digest.Fingerprint()
	}
	return h.Fingerprint
}
