package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/scan/report"
)

// inventory is what the configuration's store knows about keys. What it holds was taken in by a check of its form, which asks for the prefix of
// the family, so that the families recognise each and none has an unfamiliar shape.
type inventory struct {
	known map[apikey.Digest]report.Known
	// made says when each version was made, and ids what the provider calls it.
	made map[apikey.Digest]time.Time
	ids  map[apikey.Digest]string
	// usage is nil where the provider cannot be asked for usage, which takes an admin key.
	usage provider.UsageReporter
	// cost is nil where the provider cannot be asked for the cost of a key.
	cost provider.CostReporter
	now  func() time.Time
}

// scanInventory reads what is known about keys.
func (c *console) scanInventory(ctx context.Context) (*inventory, error) {
	a, err := c.app(ctx)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	versions, err := a.Versions(ctx, "")
	if err != nil {
		return nil, fault.In(err, "read inventory")
	}
	i := &inventory{known: map[apikey.Digest]report.Known{}, made: map[apikey.Digest]time.Time{}, ids: map[apikey.Digest]string{}, now: a.Now}
	i.usage, _ = a.Provider.(provider.UsageReporter)
	i.cost, _ = a.Provider.(provider.CostReporter)
	for _, v := range versions {
		k := report.Known{Key: v.Key, Version: v.ID, State: v.State, Compromised: v.Compromised}
		if !v.State.Live() {
			k.Retired = v.Changed.UTC()
		}
		if v.Digest.Known() {
			i.known[v.Digest], i.made[v.Digest], i.ids[v.Digest] = k, v.Created, v.ProviderID
		}
	}
	return i, nil
}

const (
	// usageSpan is the longest time that one question may cover, and usageSpans how many are asked of one key.
	usageSpan  = 31 * 24 * time.Hour
	usageSpans = 3
	// mostUsage is about how many keys of one report the provider is asked.
	mostUsage = 20
)

// usage adds what the provider reports about each found key of the inventory since the key was exposed. What cannot be known is said in the
// report; the error is that of a context alone.
func (s *scanning) usage(ctx context.Context, r *report.Report) error {
	if s.known == nil || s.known.usage == nil {
		return nil
	}
	asked := 0
	for i := range r.Keys {
		k := &r.Keys[i]
		from := k.Exposed()
		if k.Known == nil || from.IsZero() {
			continue
		}
		u := s.known.window(k, from)
		k.Usage = u
		switch id := s.known.ids[k.Digest]; {
		case !u.From.Before(u.To):
			u.Why = "the exposure began after the key had ended"
		case id == "":
			u.Why = "the inventory does not say which of the provider's keys it is"
		case asked == mostUsage:
			u.Why = fmt.Sprintf("not asked: one scan asks about %d keys at most", mostUsage)
		default:
			asked++
			if err := s.known.ask(ctx, u, id); err != nil {
				*u = report.Usage{From: u.From, To: u.To, Cut: u.Cut, Why: err.Error()}
			} else if s.known.cost != nil {
				s.known.charge(ctx, u, id)
			}
			if ctx.Err() != nil {
				return fault.New(fault.Canceled, "scan: interrupted, nothing was written")
			}
		}
	}
	return nil
}

// window gives the time to ask about: from the exposure, or from when the key was made, until it was retired, or now.
func (i *inventory) window(k *report.Key, from time.Time) *report.Usage {
	if made := i.made[k.Digest]; made.After(from) {
		from = made
	}
	to := i.now()
	if at := k.Known.Retired; !at.IsZero() && at.Before(to) {
		to = at
	}
	u := &report.Usage{From: from.UTC(), To: to.UTC()}
	// A report has whole minutes, and a span that begins within one takes up one more.
	if earliest := to.Add(time.Minute - usageSpans*usageSpan); from.Before(earliest) {
		u.From, u.Cut = earliest.UTC(), true
	}
	return u
}

// ask fills u with the provider's answers. It is as fresh as the least fresh of them, and of unknown freshness when one does not say.
func (i *inventory) ask(ctx context.Context, u *report.Usage, id string) error {
	undated := false
	for _, q := range questions(u, id) {
		got, err := i.usage.Usage(ctx, q)
		if err != nil {
			return err
		}
		if u.Counts != "" && u.Counts != got.Counts {
			return fault.New(fault.Unavailable, "the provider counted requests in one part of the time and tokens in another")
		}
		u.Counts, u.Source = got.Counts, got.Source
		for _, b := range got.Seen[id] {
			u.Add(b.Model, b.Count, b.From, b.To)
		}
		undated = undated || got.FreshTo.IsZero()
		if u.FreshTo.IsZero() || got.FreshTo.Before(u.FreshTo) {
			u.FreshTo = got.FreshTo
		}
	}
	if undated {
		u.FreshTo = time.Time{}
	}
	return nil
}

// charge adds to u what the usage cost, or why that is not known.
func (i *inventory) charge(ctx context.Context, u *report.Usage, id string) {
	asked := *u
	asked.Models = slices.Clone(u.Models)
	asked.Cost = &report.Cost{}
	undated := false
	for _, q := range questions(u, id) {
		got, err := i.cost.Cost(ctx, q)
		if err != nil {
			u.Cost = &report.Cost{Why: err.Error()}
			return
		}
		for _, s := range got.Spent[id] {
			asked.Charge(s.Model, report.Dollars(s.Amount), report.Dollars(s.List))
		}
		undated = undated || got.FreshTo.IsZero()
		if asked.Cost.FreshTo.IsZero() || got.FreshTo.Before(asked.Cost.FreshTo) {
			asked.Cost.FreshTo = got.FreshTo
		}
	}
	if undated {
		asked.Cost.FreshTo = time.Time{}
	}
	*u = asked
}

// questions parts the window of u into spans that the provider answers.
func questions(u *report.Usage, id string) []provider.UsageQuery {
	var all []provider.UsageQuery
	end := u.To.Add(time.Minute - 1).Truncate(time.Minute)
	for at := u.From.Truncate(time.Minute); at.Before(end); at = at.Add(usageSpan) {
		to := at.Add(usageSpan)
		if to.After(end) {
			to = end
		}
		all = append(all, provider.UsageQuery{IDs: []string{id}, From: at, To: to})
	}
	return all
}
