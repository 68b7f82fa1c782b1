package intake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/store"
)

// Retire sets a spare, previous or rejected version inactive at the provider, outside a rotation, and waits until its value is
// refused. It refuses while the version is current, pending or wanted anywhere, held by a place of the slot, part of a rotation, or in use. When
// the value is still accepted at the end, the id is another key's: it is set active again at once. Retiring again what is inactive
// is no error. Without an admin key a person disables the key in the Console first, and Retire sees that the value is refused.
//
// Kinds: NotFound; Conflict (still wanted, used, or the wrong id); Unsupported (no admin key, and the value is accepted); Findings (a
// question, and nobody to ask); and those of the store, the vault and the provider.
func (i *Intake) Retire(ctx context.Context, id apikey.VersionID, slot Slot, o Options) (Result, error) {
	h := i.hand(slot, o)
	h.reviveLeft(ctx)
	return h.end(h.retire(ctx, id))
}

func (h *hand) retire(ctx context.Context, id apikey.VersionID) (string, error) {
	v, err := h.retirable(ctx, id)
	h.result.Version, h.result.Known = v, true
	if err != nil {
		return CheckKnown, err
	}
	if v.State == apikey.Inactive {
		h.check(CheckRetired, OK, "it is inactive already")
		return "", nil
	}
	value, err := h.Vault.Open(ctx, v.ID)
	if err != nil {
		return CheckSealed, err
	}
	defer value.Destroy()
	h.value, h.entry = value, provider.Key{ID: v.ProviderID, CreatedAt: v.Created}
	if l := h.heldBy(ctx); l != "" {
		return CheckPlaces, fault.New(fault.Conflict, fmt.Sprintf("retire %s: %s holds it", v.Fingerprint().Short(), l), fault.Hint("rotate the key first: keywright rotate %s", v.Key))
	}
	h.check(CheckPlaces, OK, "no place of the key that can be read holds it")
	verdict, err := h.Provider.Inspect(ctx, value)
	if err != nil {
		return CheckLive, err
	}
	if verdict.Answer == provider.Dead {
		h.check(CheckRetired, OK, "the provider refuses the value already")
		return CheckRetired, h.retired(ctx, v, nil)
	}
	setter, ok := h.Provider.(provider.StatusSetter)
	if !ok || v.ProviderID == "" {
		return CheckRetired, h.byHand(v)
	}
	if err := h.idle(ctx, v); err != nil {
		return CheckUnused, err
	}
	return CheckRetired, h.takeOut(ctx, setter, v)
}

func (h *hand) byHand(v apikey.Version) error {
	name := v.ProviderName
	if name == "" {
		name = "the key that was handed in " + v.Added.UTC().Format(time.DateOnly)
	}
	return fault.New(fault.Unsupported, fmt.Sprintf("retire %s: Keywright cannot set it inactive, and the provider accepts it", v.Fingerprint().Short()),
		fault.Hint("disable %s in the Console (never delete it), then again: keywright key retire %s", name, v.ID))
}

// retirable reads the version and refuses what is still wanted, asked by the whole digest.
func (h *hand) retirable(ctx context.Context, id apikey.VersionID) (v apikey.Version, err error) {
	err = h.Store.View(ctx, func(tx *store.Tx) (err error) {
		if v, err = tx.Version(id); err != nil {
			return err
		}
		return unwanted(tx, v)
	})
	return v, err
}

func unwanted(tx *store.Tx, v apikey.Version) error {
	refuse := func(why, hint string) error {
		return fault.New(fault.Conflict, fmt.Sprintf("retire %s: %s", v.Fingerprint().Short(), why), fault.Hint("%s", hint))
	}
	switch v.State {
	case apikey.Spare, apikey.Previous, apikey.Rejected, apikey.Inactive:
	case apikey.Current, apikey.Pending:
		return refuse("it is the "+string(v.State)+" version of "+string(v.Key), "keywright rotate "+string(v.Key)+" replaces it first")
	default:
		return refuse("it is "+string(v.State)+" already", "keywright key show "+string(v.Key))
	}
	desired, err := tx.Desired("")
	if err != nil {
		return err
	}
	for _, d := range desired {
		if d.Version == v.ID {
			return refuse("it is what "+d.Location+" is meant to hold", "keywright rotate "+string(d.Key)+" replaces it first")
		}
	}
	claims, err := tx.Claims()
	if err != nil {
		return err
	}
	for _, c := range claims {
		if c.Version == v.ID {
			return refuse(c.Rotation+" holds it", "keywright rotation list")
		}
	}
	active, err := tx.Rotations(store.RotationFilter{Active: true})
	if err != nil {
		return err
	}
	for _, r := range active {
		if r.Plan.Old == v.ID || r.Plan.New == v.ID || r.Plan.Backup == v.Key && v.State == apikey.Previous {
			return refuse("rotation "+r.ID+" needs it", "keywright rotation show "+r.ID)
		}
	}
	return nil
}

// idle refuses a version whose usage is reported, and asks where usage cannot be known.
func (h *hand) idle(ctx context.Context, v apikey.Version) error {
	reporter, ok := h.Provider.(provider.UsageReporter)
	doubt := "cannot be read"
	if ok {
		to := h.now()
		u, err := reporter.Usage(ctx, provider.UsageQuery{IDs: []string{v.ProviderID}, From: to.Add(-24 * time.Hour), To: to})
		var last time.Time
		for _, b := range u.Seen[v.ProviderID] {
			if b.Count > 0 && b.To.After(last) {
				last = b.To
			}
		}
		switch {
		case err != nil:
			doubt = "cannot be read: " + err.Error()
		case last.IsZero():
			h.check(CheckUnused, OK, "no usage is reported for the last 24 hours")
			return nil
		default:
			doubt = "is reported up to " + last.UTC().Format("2006-01-02 15:04")
		}
	}
	err := h.agree(ctx, h.o.AcceptUse, Question{Kind: AskUse, Text: fmt.Sprintf("The usage of %s %s. Retire it all the same?", v.Fingerprint().Short(), doubt)})
	if err == nil {
		h.check(CheckUnused, Warn, "its usage "+doubt+"; retired all the same")
	}
	return err
}

// takeOut sets the version inactive and waits until the value is refused.
func (h *hand) takeOut(ctx context.Context, setter provider.StatusSetter, v apikey.Version) error {
	a := act{Owner: identifier("a_"), At: h.now(), Kind: retiring, Key: v.Key, ProviderID: v.ProviderID, Digest: v.Digest, Version: v.ID, Print: v.Fingerprint(), Actor: h.o.Actor}
	alive, stop, err := h.begin(ctx, a)
	if err != nil {
		return err
	}
	defer stop()
	// Look again: a rotation may have taken it meanwhile.
	if _, err := h.retirable(ctx, v.ID); err != nil {
		stop()
		h.abandon(ctx, a, err)
		return err
	}
	if err := h.point(actIntended); err != nil {
		return err
	}
	h.check(CheckRetired, Doing, "setting "+v.ProviderID+" inactive")
	_, err = setter.SetStatus(alive, v.ProviderID, provider.Inactive)
	sent := err == nil || maybeApplied(err)
	if perr := h.point(actInactive); perr != nil {
		return perr
	}
	if err == nil || fault.Is(err, fault.Indeterminate) {
		h.check(CheckRetired, Doing, "waiting until the value is refused")
		err = h.refusedAfter(alive, err, h.value, v.ProviderID)
		if perr := h.point(actRefused); perr != nil {
			return perr
		}
	}
	stop()
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*h.patience())
	defer cancel()
	if err == nil {
		h.check(CheckRetired, OK, "inactive, and the value is refused; it can be set active again in the Console")
		return h.retired(back, v, &a)
	}
	return h.undo(back, setter, v, a, sent, err)
}

// undo takes a retirement back that did not come to its end. A compromised version stays out where its id is proved; where it is not, the
// key that was set inactive may be somebody else's.
func (h *hand) undo(ctx context.Context, setter provider.StatusSetter, v apikey.Version, a act, sent bool, cause error) error {
	text := cause.Error()
	if sent && !(v.Compromised && v.Binding == apikey.BindingProved) {
		if err := h.restore(ctx, setter, v.ProviderID); err != nil {
			if crashed(err) {
				return err
			}
			return fault.In(cause, fmt.Sprintf("%s stays inactive", v.ProviderID), fault.Hint("keywright resume settles it as soon as the provider allows it"))
		}
		text += "; active again"
	}
	if err := h.settle(ctx, a, event.EffectFailed, text, nil); err != nil {
		h.log().Error("retirement not settled", "version", string(v.ID), "error", err)
	}
	return cause
}

// retired writes the state down, together with the end of the act when there is one.
func (h *hand) retired(ctx context.Context, v apikey.Version, a *act) error {
	write := func(tx *store.Tx) error {
		now, err := tx.Version(v.ID)
		if err != nil {
			return err
		}
		from := now.State
		now.State, now.Changed = apikey.Inactive, h.now()
		h.result.Version = now
		if err := tx.PutVersion(now); err != nil || from == now.State {
			return err
		}
		return tx.Record(event.Event{Type: event.VersionState, Actor: h.o.Actor, Key: v.Key, Version: v.ID, Text: string(from) + " to " + string(now.State)})
	}
	if a == nil {
		return h.Store.Update(ctx, write)
	}
	return h.settle(ctx, *a, event.EffectDone, "inactive, and the value is refused", write)
}

// endRetiring finishes a retirement whose value is refused, and takes any other back.
func (i *Intake) endRetiring(ctx context.Context, setter provider.StatusSetter, a act) (string, error) {
	h := i.hand(Slot{Key: a.Key}, Options{Actor: a.Actor})
	var v apikey.Version
	err := i.Store.View(ctx, func(tx *store.Tx) (err error) {
		v, err = tx.Version(a.Version)
		return err
	})
	if err != nil {
		return "", err
	}
	value, err := i.Vault.Open(ctx, v.ID)
	if err != nil {
		return "", err
	}
	defer value.Destroy()
	verdict, err := i.Provider.Inspect(ctx, value)
	if err != nil {
		return "", err
	}
	switch {
	case verdict.Answer == provider.Dead && v.State.Live() || verdict.Answer == provider.Dead && v.State == apikey.Rejected:
		if err := i.wanted(ctx, v); err == nil {
			return "retired: the provider refuses the value", h.retired(ctx, v, &a)
		}
	case verdict.Answer == provider.Unknown:
		return "", fault.New(fault.Unavailable, "ask about the value: "+verdict.Reason)
	}
	text := "left as it is"
	if !v.Compromised && v.State != apikey.Inactive && v.State != apikey.Archived {
		if _, err := setter.SetStatus(ctx, a.ProviderID, provider.Active); err != nil {
			return "", err
		}
		text = "set active again: the retirement was not finished"
	}
	return text, i.settle(ctx, a, event.EffectFailed, text, nil)
}

// wanted gives an error while the version must stay active.
func (i *Intake) wanted(ctx context.Context, v apikey.Version) error {
	return i.Store.View(ctx, func(tx *store.Tx) error { return unwanted(tx, v) })
}

// Forget drops the sealed value of a spare (also a retired one), rejected, expired or archived version and leaves the version out of the inventory; the record of
// events keeps it. The key at the provider is not touched: the Result warns when its value is still accepted. Kinds: NotFound, Conflict.
func (i *Intake) Forget(ctx context.Context, id apikey.VersionID, o Options) (Result, error) {
	h := i.hand(Slot{}, o)
	return h.end(CheckForgotten, h.forget(ctx, id))
}

func (h *hand) forget(ctx context.Context, id apikey.VersionID) error {
	var v apikey.Version
	if err := h.Store.View(ctx, func(tx *store.Tx) (err error) {
		v, err = tx.Version(id)
		return err
	}); err != nil {
		return err
	}
	h.result.Version, h.result.Known = v, true
	answer := h.lastAnswer(ctx, v)
	err := h.Store.Update(ctx, func(tx *store.Tx) (err error) {
		if v, err = tx.Version(id); err != nil {
			return err
		}
		forgettable := []apikey.State{apikey.Spare, apikey.Rejected, apikey.Expired, apikey.Archived}
		retiredSpare := v.State == apikey.Inactive && v.Activated.IsZero() && !v.Compromised
		if !slices.Contains(forgettable, v.State) && !retiredSpare {
			return fault.New(fault.Conflict, fmt.Sprintf("forget %s: it is %s, and its value may be needed", v.Fingerprint().Short(), v.State), fault.Hint("a version that was in use can be forgotten once a rotation has archived it"))
		}
		if err := forgotten(tx, v); err != nil {
			return err
		}
		if err := tx.Forget(id); err != nil {
			return err
		}
		return tx.Record(event.Event{Type: event.VersionForgotten, Actor: h.o.Actor, Key: v.Key, Version: id, Text: "it was " + string(v.State),
			Fields: map[string]string{"fingerprint": string(v.Fingerprint())}})
	})
	if err != nil {
		return err
	}
	if answer == provider.Live || answer == provider.Blocked {
		h.check(CheckForgotten, Warn, strings.TrimSpace("forgotten; the provider still accepts it: set it inactive in the Console "+v.ProviderName))
		return nil
	}
	h.check(CheckForgotten, OK, "forgotten")
	return nil
}

// forgotten refuses a version that a place is meant to hold.
func forgotten(tx *store.Tx, v apikey.Version) error {
	desired, err := tx.Desired("")
	if err != nil {
		return err
	}
	for _, d := range desired {
		if d.Version == v.ID {
			return fault.New(fault.Conflict, fmt.Sprintf("forget %s: %s is meant to hold it", v.Fingerprint().Short(), d.Location), fault.Hint("rotate the key first: keywright rotate %s", d.Key))
		}
	}
	return nil
}

// lastAnswer asks the provider about a version, as far as that is possible. Nothing depends on it but a warning.
func (h *hand) lastAnswer(ctx context.Context, v apikey.Version) provider.Answer {
	if v.State == apikey.Archived || v.State == apikey.Expired {
		return provider.Dead
	}
	value, err := h.Vault.Open(ctx, v.ID)
	if err != nil {
		return provider.Unknown
	}
	defer value.Destroy()
	verdict, err := h.Provider.Inspect(ctx, value)
	if err != nil {
		return provider.Unknown
	}
	return verdict.Answer
}
