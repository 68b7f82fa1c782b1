package runner

import (
	"context"
	"fmt"
	"strings"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// desire gives what a place is meant to hold once the effect is made; ok is false for effects that do not change that.
func (s *saga) desire(tx *store.Tx, e rotation.Effect) (d store.Desired, ok bool, err error) {
	d = store.Desired{Location: e.Place, Key: s.row.Key, Rotation: s.row.ID, At: s.Now()}
	switch e.Verb {
	case rotation.Put, rotation.Promote:
		d.Version = s.versionID(rotation.New)
	case rotation.PutBack:
		d.Version = s.versionID(rotation.Old)
	case rotation.PutHome:
		p, _ := s.row.Plan.Place(e.Place)
		d.Key = p.Home
		versions, err := tx.Versions(p.Home)
		if err != nil {
			return d, false, err
		}
		for _, v := range versions {
			if v.State == apikey.Current {
				d.Version = v.ID
			}
		}
	}
	return d, d.Version != "", nil
}

// change makes an effect that writes to a place. The caller holds the lock on the place's address.
func (s *saga) change(ctx context.Context, e rotation.Effect) (any, func(*store.Tx) error, error) {
	p, l, err := s.place(e.Place)
	if err != nil {
		return nil, nil, err
	}
	var r location.Receipt
	var h location.Holding
	switch e.Verb {
	case rotation.Stage:
		r, h, err = s.stage(ctx, p, l)
	case rotation.Promote:
		r, h, err = s.promote(ctx, l, e)
	case rotation.Put:
		r, h, err = s.put(ctx, p, l, e, s.versionID(rotation.New))
	case rotation.PutHome:
		var id apikey.VersionID
		if id, err = s.currentOf(ctx, p.Home); err == nil {
			r, h, err = s.put(ctx, p, l, e, id)
		}
	case rotation.PutBack:
		r, h, err = s.putBack(ctx, p, l, e)
	case rotation.PurgePlace:
		return nil, nil, s.purgePlace(ctx, l)
	}
	if err != nil {
		return nil, nil, err
	}
	return r, func(tx *store.Tx) error { return observe(tx, p.Name, h, nil) }, nil
}

// look inspects a place before a write and says what to expect of it. Drift is a Conflict.
func (s *saga) look(ctx context.Context, p rotation.Place, l *location.Location) (location.Holding, location.Expect, error) {
	h, err := l.Inspect(ctx)
	if err != nil {
		return h, location.Expect{}, err
	}
	if s.row.Kind == rotation.Emergency {
		return h, location.Expect{}, nil
	}
	return h, location.ExpectHolding(h), s.expected(ctx, p, h)
}

func (s *saga) put(ctx context.Context, p rotation.Place, l *location.Location, e rotation.Effect, id apikey.VersionID) (r location.Receipt, h location.Holding, err error) {
	h, expect, err := s.look(ctx, p, l)
	if err != nil {
		return r, h, err
	}
	err = s.withValue(ctx, id, func(v secret.Value) error {
		if h.Holds(v.Digest()) {
			r = location.Receipt{Revision: h.Revision, Facts: map[string]string{"already": "held"}}
			return nil
		}
		// A place that cannot be read: its change after our own intent is our write, whose reply was lost.
		if e.Unsure && !h.Known() && !e.First.IsZero() && h.ChangedAt.After(e.First) {
			r = location.Receipt{Revision: h.Revision, At: h.ChangedAt, Facts: map[string]string{"already": "changed after the intent"}}
			return nil
		}
		if err := s.ours(ctx); err != nil { // looking may have taken long
			return err
		}
		r, h, err = l.Put(ctx, v, expect)
		return err
	})
	return r, h, err
}

func (s *saga) stage(ctx context.Context, p rotation.Place, l *location.Location) (r location.Receipt, h location.Holding, err error) {
	_, expect, err := s.look(ctx, p, l)
	if err != nil {
		return r, h, err
	}
	err = s.withValue(ctx, s.versionID(rotation.New), func(v secret.Value) error {
		if err := s.ours(ctx); err != nil {
			return err
		}
		r, h, err = l.Stage(ctx, v, expect)
		return err
	})
	return r, h, err
}

func (s *saga) promote(ctx context.Context, l *location.Location, e rotation.Effect) (r location.Receipt, h location.Holding, err error) {
	staged, err := s.receipt(e.From)
	if err != nil {
		return r, h, err
	}
	v, err := s.version(ctx, rotation.New)
	if err != nil {
		return r, h, err
	}
	return l.Promote(ctx, staged, v.Digest)
}

// putBack makes a place hold the old version again: what was only staged is taken back, a promoted label is moved back while it is still ours,
// and otherwise the old value is put into the current document.
func (s *saga) putBack(ctx context.Context, p rotation.Place, l *location.Location, e rotation.Effect) (r location.Receipt, h location.Holding, err error) {
	old, err := s.version(ctx, rotation.Old)
	if err != nil {
		return r, h, err
	}
	if p.Can.Stage {
		if r, h, done, err := s.withdraw(ctx, p, l, old); done || err != nil {
			return r, h, err
		}
	}
	return s.put(ctx, p, l, e, old.ID)
}

func (s *saga) withdraw(ctx context.Context, p rotation.Place, l *location.Location, old apikey.Version) (r location.Receipt, h location.Holding, done bool, err error) {
	h, err = l.Inspect(ctx)
	if err != nil {
		return r, h, false, err
	}
	if staged, ok := s.lastReceipt(p.Name, rotation.Stage); ok && l.Abilities().Unstages {
		if err := l.Unstage(ctx, staged); err != nil {
			return r, h, false, err
		}
	}
	if h.Holds(old.Digest) {
		return location.Receipt{Revision: h.Revision, Facts: map[string]string{"already": "held"}}, h, true, nil
	}
	promoted, ok := s.lastReceipt(p.Name, rotation.Promote)
	if !ok || !p.Can.Restore {
		return r, h, false, nil
	}
	r, h, err = l.Restore(ctx, promoted, old.Digest)
	if fault.Is(err, fault.Conflict) {
		return r, h, false, nil // the place moved on: put instead
	}
	return r, h, err == nil, err
}

// lastReceipt finds the newest receipt of a verb for a place in this rotation.
func (s *saga) lastReceipt(place string, v rotation.Verb) (location.Receipt, bool) {
	journal := s.entries()
	for i := len(journal) - 1; i >= 0; i-- {
		e := journal[i]
		if e.Type == rotation.Made && isEffect(e.Effect, place, v) {
			r, err := s.receipt(e.Effect)
			return r, err == nil
		}
	}
	return location.Receipt{}, false
}

func (s *saga) purgePlace(ctx context.Context, l *location.Location) error {
	old, err := s.version(ctx, rotation.Old)
	if err != nil {
		return err
	}
	return l.Remove(ctx, old.Digest)
}

// drift reads every place again. Every place that can be read must hold the new version, or its home key's.
func (s *saga) drift(ctx context.Context) (any, func(*store.Tx) error, error) {
	v, err := s.version(ctx, rotation.New)
	if err != nil {
		return nil, nil, err
	}
	seen := make([]location.Holding, len(s.row.Plan.Places))
	errs := make([]error, len(seen))
	each(ctx, len(seen), max(1, s.row.Plan.Parallel), func(i int) {
		p := s.row.Plan.Places[i]
		_, l, err := s.place(p.Name)
		if err == nil {
			seen[i], err = l.Inspect(ctx)
		}
		errs[i] = err
	})
	var stragglers []string
	for i, p := range s.row.Plan.Places {
		switch h := seen[i]; {
		case errs[i] != nil:
			return nil, nil, errs[i]
		case p.Home == "" && h.Known() && !h.Holds(v.Digest):
			stragglers = append(stragglers, p.Name)
		}
	}
	if len(stragglers) > 0 {
		return nil, nil, fault.New(fault.Conflict, fmt.Sprintf("read places again: %v do not hold %s", stragglers, v.Fingerprint()),
			fault.Hint("somebody changed them; put them right, then: keywright rotation resume %s", s.row.ID))
	}
	return map[string]int{"places": len(seen)}, func(tx *store.Tx) error {
		for i, p := range s.row.Plan.Places {
			if err := observe(tx, p.Name, seen[i], nil); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// isEffect reports whether an effect ID is about this place and verb, whatever step and try it belongs to.
func isEffect(id, place string, v rotation.Verb) bool {
	rest, ok := strings.CutSuffix(strings.TrimSuffix(id, "-2"), "/"+string(v))
	return ok && (strings.HasSuffix(rest, "/"+place))
}
