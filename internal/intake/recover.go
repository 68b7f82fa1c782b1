package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/store"
)

// Recovered is a key that a dead process had set inactive, or was about to.
type Recovered struct {
	Key         apikey.Name        `json:"key"`
	ProviderID  string             `json:"provider_id"`
	Fingerprint apikey.Fingerprint `json:"fingerprint"`
	// Text says what was done, for people.
	Text string `json:"text"`
}

// Recover ends what a process that died in the middle of an intake or of a retirement left behind: keys that were set inactive for a
// proof are set active again, and a retirement is finished or taken back. app calls it at every start, before anything else asks for keys. With nothing
// left behind it reads one row; otherwise it first watches for five seconds whether the owner lives. What could not be ended stays
// written down for the next call. The error joins those of single keys; the others are done.
func (i *Intake) Recover(ctx context.Context) ([]Recovered, error) {
	left, err := i.orphans(ctx)
	if err != nil {
		return nil, err
	}
	var done []Recovered
	var errs []error
	for _, a := range left {
		mine, err := i.takeOver(ctx, a)
		if err == nil && mine.Owner == "" {
			continue
		}
		var text string
		if err == nil {
			text, err = i.endLeft(ctx, mine)
		}
		if err != nil {
			errs = append(errs, fault.In(err, fmt.Sprintf("end the intake of %s that was left behind", a.ProviderID)))
			continue
		}
		i.log().Warn("intake recovered", "key", string(a.Key), "provider_id", a.ProviderID, "did", text)
		done = append(done, Recovered{Key: a.Key, ProviderID: a.ProviderID, Fingerprint: a.Print, Text: text})
	}
	return done, errors.Join(errs...)
}

// orphans gives the acts whose owner shows no life for the length of the lease. It goes by the count of beats, not by clocks.
func (i *Intake) orphans(ctx context.Context) ([]act, error) {
	read := func() (acts []act, err error) {
		err = i.Store.View(ctx, func(tx *store.Tx) (err error) {
			acts, err = readActs(tx)
			return err
		})
		return acts, err
	}
	before, err := read()
	if err != nil || len(before) == 0 {
		return nil, err
	}
	if err := pause(ctx, lease); err != nil {
		return nil, err
	}
	after, err := read()
	if err != nil {
		return nil, err
	}
	silent := func(a act) bool {
		return slices.ContainsFunc(before, func(b act) bool { return b.Owner == a.Owner && b.Beat == a.Beat })
	}
	return slices.DeleteFunc(after, func(a act) bool { return !silent(a) }), nil
}

// takeOver makes this process the owner of an act, unless another one was faster: then the result is zero.
func (i *Intake) takeOver(ctx context.Context, a act) (mine act, err error) {
	owner := identifier("a_")
	err = i.changeActs(ctx, func(_ *store.Tx, acts []act) ([]act, error) {
		mine = act{}
		n := slices.IndexFunc(acts, func(o act) bool { return o.Owner == a.Owner && o.Beat == a.Beat })
		if n >= 0 {
			acts[n].Owner = owner
			mine = acts[n]
		}
		return acts, nil
	})
	return mine, err
}

// endLeft brings the key of an act to a state that the inventory knows.
func (i *Intake) endLeft(ctx context.Context, a act) (string, error) {
	setter, ok := i.Provider.(provider.StatusSetter)
	if !ok {
		return "", fault.New(fault.Unsupported, "set key status: there is no admin key", fault.Hint("set provider.admin_key, or set %s active in the Console", a.ProviderID))
	}
	if a.Kind == retiring {
		return i.endRetiring(ctx, setter, a)
	}
	release := func(tx *store.Tx) error {
		if a.Holder == "" {
			return nil
		}
		return tx.ReleaseClaim(a.Holder)
	}
	var compromised bool
	err := i.Store.View(ctx, func(tx *store.Tx) error {
		v, ok, err := tx.VersionByDigest(a.Digest)
		compromised = ok && v.Compromised
		return err
	})
	if err != nil {
		return "", err
	}
	if compromised {
		text := "left as it is, since the key was found compromised meanwhile"
		return text, i.settle(ctx, a, event.EffectFailed, text, release)
	}
	_, err = setter.SetStatus(ctx, a.ProviderID, provider.Active)
	text := "set active again; the proof was not finished, so hand the key in again if it is not in the inventory"
	switch {
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Conflict):
		text = "the provider no longer takes it back: " + err.Error()
		return text, i.settle(ctx, a, event.EffectFailed, text, release)
	case err != nil:
		return "", err
	}
	return text, i.settle(ctx, a, event.EffectFailed, text, release)
}

// reviveLeft ends what was left behind before a new intake begins, so that handing the same key in again finds it active.
func (h *hand) reviveLeft(ctx context.Context) {
	if _, err := h.Recover(ctx); err != nil {
		h.log().Warn("earlier intake not recovered", "error", err)
	}
}
