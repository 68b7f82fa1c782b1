package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// An act is what sets a key inactive outside a rotation. It is written down before, so that a process that dies in between leaves no key
// inactive that nobody knows of: see Recover.
type act struct {
	Owner string `json:"owner"` // of the process that makes it
	// Beat counts up every second while the owner lives.
	Beat       int64              `json:"beat"`
	At         time.Time          `json:"at"`
	Kind       string             `json:"kind"` // proving or retiring
	Key        apikey.Name        `json:"key"`
	ProviderID string             `json:"provider_id"`
	Digest     apikey.Digest      `json:"digest"`
	Version    apikey.VersionID   `json:"version,omitempty"` // of retiring
	Holder     string             `json:"holder,omitempty"`  // the claim on a spare that is being proved
	Actor      string             `json:"actor,omitempty"`
	Print      apikey.Fingerprint `json:"fingerprint"`
}

const (
	proving  = "prove id"
	retiring = "retire"
)

// The acts after which Intake.Fault is called.
const (
	actIntended = "intended"
	actInactive = "set inactive"
	actRefused  = "refused"
	actActive   = "set active"
	actAccepted = "accepted"
)

// metaActs is where the acts under way are kept: a JSON list.
const metaActs = "intake.acts"

// beatEvery is how often the owner of an act shows that it lives; an act whose owner was silent for lease is taken over.
const (
	beatEvery = time.Second
	lease     = 5 * time.Second
)

func readActs(tx *store.Tx) (acts []act, err error) {
	text, _, err := tx.Meta(metaActs)
	if err != nil || text == "" {
		return nil, err
	}
	if json.Unmarshal([]byte(text), &acts) != nil {
		return nil, fault.New(fault.Corrupt, "read acts of intake: the list is damaged")
	}
	return acts, nil
}

// changeActs lets f change the list of acts. f may run again.
func (i *Intake) changeActs(ctx context.Context, f func(tx *store.Tx, acts []act) ([]act, error)) error {
	return i.Store.Update(ctx, func(tx *store.Tx) error {
		acts, err := readActs(tx)
		if err != nil {
			return err
		}
		if acts, err = f(tx, acts); err != nil {
			return err
		}
		b, err := json.Marshal(acts)
		if err != nil {
			return fault.Wrap(fault.Unknown, err, "write acts of intake")
		}
		return tx.SetMeta(metaActs, string(b))
	})
}

func (a act) event(t event.Type, text string) event.Event {
	return event.Event{Type: t, Actor: a.Actor, Key: a.Key, Version: a.Version, Effect: "intake/" + a.Owner, Text: a.Kind + ": " + text,
		Fields: map[string]string{"provider_id": a.ProviderID, "fingerprint": string(a.Print)}}
}

var errTaken = fault.New(fault.Conflict, "another process went on with it", fault.Hint("hand the key in again"))

// begin writes the act down and keeps showing that its owner lives, until stop. The context ends when another process took the act over.
func (i *Intake) begin(ctx context.Context, a act) (alive context.Context, stop func(), err error) {
	err = i.changeActs(ctx, func(tx *store.Tx, acts []act) ([]act, error) {
		for _, o := range acts {
			if o.ProviderID == a.ProviderID || o.Digest.Same(a.Digest) {
				return nil, fault.New(fault.Conflict, fmt.Sprintf("%s: another intake has %s in hand", a.Kind, a.ProviderID), fault.Hint("wait for it to end, then try again"))
			}
		}
		return append(acts, a), tx.Record(a.event(event.EffectIntended, "set "+a.ProviderID+" inactive"))
	})
	if err != nil {
		return nil, nil, err
	}
	alive, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(alive, beatEvery) == nil {
			if err := i.beat(alive, a.Owner); fault.Is(err, fault.Conflict) {
				cancel(errTaken)
			}
		}
	}()
	return alive, func() { cancel(nil); <-done }, nil
}

func (i *Intake) beat(ctx context.Context, owner string) error {
	return i.changeActs(ctx, func(_ *store.Tx, acts []act) ([]act, error) {
		n := slices.IndexFunc(acts, func(a act) bool { return a.Owner == owner })
		if n < 0 {
			return nil, fault.Wrap(fault.Conflict, errTaken, "go on with intake")
		}
		acts[n].Beat++
		acts[n].At = i.now()
		return acts, nil
	})
}

// settle ends an act that its owner still has: more is done in the same transaction.
func (i *Intake) settle(ctx context.Context, a act, t event.Type, text string, more func(*store.Tx) error) error {
	return i.changeActs(ctx, func(tx *store.Tx, acts []act) ([]act, error) {
		n := slices.IndexFunc(acts, func(o act) bool { return o.Owner == a.Owner })
		if n < 0 {
			return nil, fault.Wrap(fault.Conflict, errTaken, a.Kind)
		}
		if more != nil {
			if err := more(tx); err != nil {
				return nil, err
			}
		}
		return slices.Delete(acts, n, n+1), tx.Record(a.event(t, text))
	})
}

// abandon settles an act that changed nothing. What cannot be settled now is left to Recover, which finds the key active.
func (i *Intake) abandon(ctx context.Context, a act, why error) {
	if err := i.settle(context.WithoutCancel(ctx), a, event.EffectFailed, why.Error(), nil); err != nil {
		i.log().Error("intake not settled", "key", string(a.Key), "provider_id", a.ProviderID, "error", err)
	}
}

// errCrashed marks what Intake.Fault asked for.
var errCrashed = errors.New("the process ended")

func crashed(err error) bool { return errors.Is(err, errCrashed) }

func (i *Intake) point(act string) error {
	if i.Fault == nil {
		return nil
	}
	if err := i.Fault(act); err != nil {
		return fmt.Errorf("%w: %w", errCrashed, err)
	}
	return nil
}

// bind proves that the id and the value belong together: with the key inactive the value is refused, with the key active accepted again.
// It is left out for a value that is, or may be, in use.
func (h *hand) bind(ctx context.Context) error {
	if h.entry.ID == "" {
		return nil
	}
	setter, ok := h.Provider.(provider.StatusSetter)
	var skipped, fresh string
	switch {
	case !ok:
		skipped = "there is no admin key that can set it inactive"
	case h.adopting:
		skipped = "it is in use"
	case h.o.SkipBinding:
		skipped = "not wanted"
	default:
		skipped, fresh = h.unused(ctx)
	}
	if skipped != "" {
		h.check(CheckBinding, Warn, "hint only, not proved: "+skipped)
		return nil
	}
	h.check(CheckUnused, OK, "no usage is reported "+fresh+", and no readable place of the key holds it")
	a := act{Owner: identifier("a_"), At: h.now(), Kind: proving, Key: h.slot.Key, ProviderID: h.entry.ID, Digest: h.value.Digest(), Print: h.value.Fingerprint(), Actor: h.o.Actor, Holder: h.holder}
	if err := h.test(ctx, setter, a); err != nil {
		return err
	}
	h.binding = apikey.BindingProved
	h.check(CheckBinding, OK, "proved: refused while inactive, accepted again since")
	return nil
}

// test makes the proof. Whatever happens after the key may have been set inactive, it is set active again; where that fails the act stays
// written down for Recover.
func (h *hand) test(ctx context.Context, setter provider.StatusSetter, a act) error {
	alive, stop, err := h.begin(ctx, a)
	if err != nil {
		return err
	}
	defer stop()
	if err := h.point(actIntended); err != nil {
		return err
	}
	h.check(CheckBinding, Doing, "setting "+a.ProviderID+" inactive")
	_, err = setter.SetStatus(alive, a.ProviderID, provider.Inactive)
	if perr := h.point(actInactive); perr != nil {
		return perr
	}
	if err != nil && !maybeApplied(err) {
		stop()
		h.abandon(ctx, a, err)
		return err
	}
	if err == nil || fault.Is(err, fault.Indeterminate) {
		h.check(CheckBinding, Doing, "waiting until the value is refused")
		err = h.refusedAfter(alive, err, h.value, a.ProviderID)
		if perr := h.point(actRefused); perr != nil {
			return perr
		}
	}
	// From here on the way is back, and neither a person's impatience nor another process stops it.
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*h.patience())
	defer cancel()
	h.check(CheckBinding, Doing, "setting "+a.ProviderID+" active again")
	if rerr := h.restore(back, setter, a.ProviderID); rerr != nil {
		if crashed(rerr) {
			return rerr
		}
		text := fmt.Sprintf("%s stays inactive", a.ProviderID)
		h.log().Error("key left inactive", "key", string(a.Key), "provider_id", a.ProviderID, "error", rerr)
		return fault.In(rerr, text, fault.Hint("keywright resume sets it active again as soon as the provider allows it"))
	}
	accepted := h.awaitAccepted(back, h.value, a.ProviderID)
	if perr := h.point(actAccepted); perr != nil {
		return perr
	}
	t, text := event.EffectDone, "refused while inactive, active again"
	if err == nil {
		err = accepted
	}
	if err != nil {
		t, text = event.EffectFailed, "active again: "+err.Error()
	}
	stop()
	if serr := h.settle(back, a, t, text, nil); err == nil {
		err = serr
	}
	if err != nil && fault.HintOf(err) == "" {
		err = fault.In(err, "prove id", fault.Hint("the key is active as before; hand it in again later"))
	}
	return err
}

// maybeApplied reports whether a change of status that ended with err may be in force. A server that answers with an error of its own may have
// applied it before.
func maybeApplied(err error) bool {
	switch fault.KindOf(err) {
	case fault.Forbidden, fault.NotFound, fault.Invalid, fault.Unauthenticated, fault.RateLimited, fault.Unsupported:
		return false
	}
	return true
}

// restore sets a key active, again and again while the provider cannot be reached.
func (i *Intake) restore(ctx context.Context, setter provider.StatusSetter, id string) error {
	err := i.poll(ctx, func() (bool, error) {
		_, err := setter.SetStatus(ctx, id, provider.Active)
		switch fault.KindOf(err) {
		case fault.Unavailable, fault.Indeterminate, fault.RateLimited:
			return false, err
		}
		return true, err
	})
	if err != nil {
		return fault.In(err, "set key active again")
	}
	return i.point(actActive)
}

// refusedAfter waits until the value is refused. set is the error of setting the id inactive: where it is not known whether that was applied,
// a value that is still accepted says nothing about the id.
func (i *Intake) refusedAfter(ctx context.Context, set error, v secret.Value, id string) error {
	err := i.awaitRefused(ctx, v, id)
	if set != nil && fault.Is(err, fault.Conflict) {
		return set
	}
	return err
}

// awaitRefused asks until the value is refused. A value that is accepted to the end belongs to another id.
func (i *Intake) awaitRefused(ctx context.Context, v secret.Value, id string) error {
	var last provider.Verdict
	err := i.poll(ctx, func() (done bool, err error) {
		last, err = i.Provider.Inspect(ctx, v)
		return last.Answer == provider.Dead || err != nil, err
	})
	switch {
	case err != nil:
		return err
	case last.Answer == provider.Dead:
		return nil
	case last.Answer == provider.Live:
		return fault.New(fault.Conflict, fmt.Sprintf("wait until the value is refused: it is accepted while %s is inactive, so that is the id of another key", id),
			fault.Hint("find the id of this key in the Console and name it: %s", AskChoose.Flag()))
	}
	return fault.New(fault.Unavailable, fmt.Sprintf("wait until the value is refused: the provider says %s (%s)", last.Answer, last.Reason), fault.Hint("try again later"))
}

// awaitAccepted asks until the value is accepted. A blocked value is accepted: the provider knows whose it is.
func (i *Intake) awaitAccepted(ctx context.Context, v secret.Value, id string) error {
	var last provider.Verdict
	err := i.poll(ctx, func() (done bool, err error) {
		last, err = i.Provider.Inspect(ctx, v)
		return last.Answer == provider.Live || last.Answer == provider.Blocked || err != nil, err
	})
	switch {
	case err != nil:
		return err
	case last.Answer == provider.Live || last.Answer == provider.Blocked:
		return nil
	}
	return fault.New(fault.Unavailable, fmt.Sprintf("wait until the value is accepted again: the provider says %s (%s)", last.Answer, last.Reason),
		fault.Hint("see whether %s is active in the Console", id))
}

// poll calls ask until it is done, with growing pauses, for as long as Patience lasts; after that it gives the last error.
func (i *Intake) poll(ctx context.Context, ask func() (done bool, err error)) error {
	const first, most = 250 * time.Millisecond, 5 * time.Second
	var waited time.Duration
	for wait := first; ; wait = min(2*wait, most) {
		done, err := ask()
		if ctx.Err() != nil {
			return fault.In(context.Cause(ctx), "wait for the provider")
		}
		if done || waited >= i.patience() {
			return err
		}
		wait = min(wait, i.patience()-waited)
		if err := pause(ctx, wait); err != nil {
			return err
		}
		waited += wait
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fault.In(context.Cause(ctx), "wait for the provider")
	}
}
