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

// match finds the entry of the provider's list that belongs to the value.
func (h *hand) match(ctx context.Context) error {
	lister, ok := h.Provider.(provider.Lister)
	if !ok {
		h.check(CheckMatch, Warn, "not available: there is no admin key")
		return nil
	}
	if other, err := h.elsewhere(ctx); err != nil {
		return err
	} else if other != "" {
		h.check(CheckMatch, Warn, fmt.Sprintf("not available: the admin key belongs to another organization, %s", other))
		return nil
	}
	keys, err := lister.List(ctx, "")
	if err != nil {
		return err
	}
	bound, err := h.bound(ctx)
	if err != nil {
		return err
	}
	c := h.candidates(keys, bound)
	k, err := h.choose(ctx, c)
	if err != nil {
		return err
	}
	if k.ID == "" {
		h.check(CheckMatch, Warn, "no entry of the provider's list belongs to it: usage is not available, and it is retired by hand")
		return nil
	}
	h.entry, h.binding = k, apikey.BindingHint
	h.check(CheckMatch, OK, fmt.Sprintf("%s, %q, active", k.ID, k.Name))
	return nil
}

// elsewhere gives the organization of the admin key when it is not that of the value.
func (h *hand) elsewhere(ctx context.Context) (string, error) {
	o, ok := h.Provider.(provider.Organizer)
	if !ok {
		return "", nil
	}
	id, _, err := o.Organization(ctx)
	if err != nil || id == h.verdict.Organization {
		return "", err
	}
	return id, nil
}

// bound gives the versions that have an id, by id, but for the one that is being matched.
func (h *hand) bound(ctx context.Context) (map[string]apikey.Version, error) {
	bound := map[string]apikey.Version{}
	err := h.Store.View(ctx, func(tx *store.Tx) error {
		all, err := tx.Versions("")
		for _, v := range all {
			if v.ProviderID != "" && !v.Digest.Same(h.value.Digest()) {
				bound[v.ProviderID] = v
			}
		}
		return err
	})
	return bound, err
}

// candidates are the entries that may belong to a value.
type candidates struct {
	fits  []provider.Key   // the hint fits
	blind []provider.Key   // there is no hint to compare
	taken []apikey.Version // the hint fits, and the id belongs to another value
}

func (h *hand) candidates(keys []provider.Key, bound map[string]apikey.Version) (c candidates) {
	for _, k := range keys {
		if k.Status != provider.Active || k.Workspace != "" && k.Workspace != h.verdict.Workspace {
			continue
		}
		fits := k.Matches(h.value)
		v, other := bound[k.ID]
		switch {
		case other && fits:
			c.taken = append(c.taken, v)
		case other:
		case fits:
			c.fits = append(c.fits, k)
		case k.Hint.IsZero():
			c.blind = append(c.blind, k)
		}
	}
	return c
}

// choose takes the one entry that fits, or asks. A zero Key means that a person goes on without one.
func (h *hand) choose(ctx context.Context, c candidates) (provider.Key, error) {
	possible := slices.Concat(c.fits, c.blind)
	pick := func(id string) (provider.Key, error) {
		for _, k := range possible {
			if k.ID == id {
				return k, nil
			}
		}
		for _, v := range c.taken {
			if v.ProviderID == id {
				return provider.Key{}, taken(v)
			}
		}
		return provider.Key{}, fault.New(fault.Conflict, fmt.Sprintf("match key: %q is no active entry of the list that fits the value and its workspace", id), fault.Hint("see the key in the Console"))
	}
	switch {
	case h.o.ProviderID != "":
		return pick(h.o.ProviderID)
	case len(c.fits) == 1:
		return c.fits[0], nil
	case h.o.Unmatched:
		return provider.Key{}, nil
	case len(possible) == 0 && len(c.taken) > 0:
		return provider.Key{}, taken(c.taken[0])
	case len(possible) == 0:
		return provider.Key{}, h.agree(ctx, false, Question{Kind: AskUnmatched,
			Text: fmt.Sprintf("No active key of workspace %s in the provider's list fits the value. Go on without an id, so that its usage stays unknown and it is retired by hand?", h.verdict.Workspace)})
	}
	q := Question{Kind: AskChoose, Text: fmt.Sprintf("%d keys of the provider's list may be this one. Which is it?", len(possible))}
	for _, k := range possible {
		q.Choices = append(q.Choices, Choice{ID: k.ID, Text: describe(k)})
	}
	a, err := h.ask(ctx, q)
	if err != nil {
		if fault.Is(err, fault.Findings) {
			err = fault.In(err, fmt.Sprintf("match key: it may be one of %s", ids(possible)))
		}
		return provider.Key{}, err
	}
	if !a.Yes || a.Choice == "" {
		return provider.Key{}, fault.New(fault.Conflict, "match key: none was chosen", fault.Hint("%s goes on without an id", AskUnmatched.Flag()))
	}
	return pick(a.Choice)
}

func describe(k provider.Key) string {
	text := fmt.Sprintf("%q", k.Name)
	if !k.CreatedAt.IsZero() {
		text += ", made " + k.CreatedAt.UTC().Format("2006-01-02 15:04")
	}
	if k.CreatedBy != "" {
		text += " by " + k.CreatedBy
	}
	return text
}

func ids(keys []provider.Key) string {
	var list []string
	for i, k := range keys {
		if i == 5 {
			list = append(list, "…")
			break
		}
		list = append(list, fmt.Sprintf("%s (%q)", k.ID, k.Name))
	}
	return strings.Join(list, ", ")
}

// Match asks the provider again about the versions of the slot that it is expected to accept, finds the ids that are missing, and
// proves those of spares. Each version has its own Result; the error is the first one, and the others go on. Kinds are those of Add.
func (i *Intake) Match(ctx context.Context, slot Slot, o Options) ([]Result, error) {
	var versions []apikey.Version
	err := i.Store.View(ctx, func(tx *store.Tx) (err error) {
		versions, err = tx.Versions(slot.Key)
		return err
	})
	if err != nil {
		return nil, err
	}
	var results []Result
	var first error
	for _, v := range versions {
		if !v.State.Live() {
			continue
		}
		h := i.hand(slot, o)
		r, err := h.end(h.rematch(ctx, v))
		results = append(results, r)
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return results, first
}

func (h *hand) rematch(ctx context.Context, v apikey.Version) (string, error) {
	h.result.Version, h.result.Known = v, true
	value, err := h.Vault.Open(ctx, v.ID)
	if err != nil {
		return CheckSealed, err
	}
	defer value.Destroy()
	h.value, h.adopting, h.accepted = value, v.State != apikey.Spare, true
	if !value.Digest().Same(v.Digest) {
		return CheckSealed, fault.Newf(fault.Corrupt, "open version %s: custody has another value", v.ID)
	}
	name, err := run(ctx, step{CheckLive, h.live}, step{CheckPlace, h.belongs})
	if err != nil {
		return name, err
	}
	if v.Binding == apikey.BindingProved {
		h.binding = v.Binding
	} else if name, err = run(ctx, step{CheckMatch, h.match}, step{CheckPrincipal, h.principal}, step{CheckExpiry, h.lasts}); err != nil {
		return name, err
	}
	if h.binding == apikey.BindingHint && v.State == apikey.Spare {
		if err := h.prove(ctx, v.ID); err != nil {
			return CheckBinding, err
		}
	}
	return CheckSealed, h.update(ctx, v)
}

// prove proves the id of a spare that is in the pool, while no rotation can take it.
func (h *hand) prove(ctx context.Context, id apikey.VersionID) error {
	holder := identifier("intake-")
	take := func(tx *store.Tx) error {
		if v, err := tx.Version(id); err != nil || v.State != apikey.Spare {
			return fault.In(err, "hold spare")
		}
		return tx.ClaimSpare(id, holder)
	}
	if err := h.Store.Update(ctx, take); err != nil {
		return err
	}
	h.holder = holder
	err := h.bind(ctx)
	if crashed(err) {
		return err
	}
	release := h.Store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.ReleaseClaim(holder) })
	if err == nil {
		err = release
	}
	return err
}

// update writes what was learnt about a version that is in the inventory.
func (h *hand) update(ctx context.Context, old apikey.Version) error {
	return h.Store.Update(ctx, func(tx *store.Tx) error {
		v, err := tx.Version(old.ID)
		if err != nil {
			return err
		}
		before := v
		v.Tested = h.now()
		h.identify(&v)
		if err := free(tx, v); err != nil {
			return err
		}
		if err := tx.PutVersion(v); err != nil {
			return err
		}
		if h.pinned {
			if err := tx.PutSlot(h.pins); err != nil {
				return err
			}
		}
		h.result.Version = v
		if before.ProviderID == v.ProviderID && before.Binding == v.Binding {
			return nil
		}
		return tx.Record(event.Event{Type: event.VersionState, Actor: h.o.Actor, Key: v.Key, Version: v.ID, Text: "matched: " + string(v.Binding),
			Fields: map[string]string{"provider_id": v.ProviderID, "binding": string(v.Binding)}})
	})
}

// unused says why the value may be in use somewhere; with an empty why, fresh says up to when that is known. What cannot be known is said too: a value that serves somebody is
// never set inactive for a proof.
func (h *hand) unused(ctx context.Context) (why, fresh string) {
	if l := h.heldBy(ctx); l != "" {
		return l + " holds it", ""
	}
	reporter, ok := h.Provider.(provider.UsageReporter)
	if !ok {
		return "its usage cannot be read", ""
	}
	to := h.now()
	from := to.Add(-lookBack)
	if made := h.entry.CreatedAt.Add(-time.Minute); made.After(from) && made.Before(to) {
		from = made
	}
	u, err := reporter.Usage(ctx, provider.UsageQuery{IDs: []string{h.entry.ID}, From: from, To: to})
	if err != nil {
		return "its usage cannot be read: " + err.Error(), ""
	}
	for _, b := range u.Seen[h.entry.ID] {
		if b.Count > 0 {
			return fmt.Sprintf("%d %s are reported since %s", b.Count, u.Counts, b.From.UTC().Format("2006-01-02 15:04")), ""
		}
	}
	if fresh = "up to now"; !u.FreshTo.IsZero() {
		fresh = "up to " + u.FreshTo.UTC().Format("2006-01-02 15:04")
	}
	return "", fresh
}

// lookBack is how far usage of a key that ought to be unused is looked for.
const lookBack = 7 * 24 * time.Hour

// heldBy names a place of the slot that holds the value. A place that cannot be looked at speaks neither way.
func (h *hand) heldBy(ctx context.Context) string {
	for _, l := range h.slot.Locations {
		if seen, err := l.Inspect(ctx); err == nil && seen.Holds(h.value.Digest()) {
			return l.Name()
		}
	}
	return ""
}
