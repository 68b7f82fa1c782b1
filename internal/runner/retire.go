package runner

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// heartbeat sends the smallest message with the new version.
func (s *saga) heartbeat(ctx context.Context) (any, func(*store.Tx) error, error) {
	t, ok := s.Provider.(provider.Tester)
	if !ok {
		return nil, nil, fault.New(fault.Unsupported, "send heartbeat: the provider has no messages")
	}
	var verdict provider.Verdict
	err := s.withValue(ctx, s.versionID(rotation.New), func(v secret.Value) (err error) {
		if verdict, err = t.Message(ctx, v); err != nil {
			return err
		}
		return verdict.Need("send heartbeat")
	})
	return verdict, nil, err
}

// gather collects the facts of invariant I2.
func (s *saga) gather(ctx context.Context) (any, func(*store.Tx) error, error) {
	old, err := s.version(ctx, rotation.Old)
	if err != nil {
		return nil, nil, err
	}
	fresh, err := s.version(ctx, rotation.New)
	if err != nil {
		return nil, nil, err
	}
	flipped := s.made(func(id string) bool { return id == string(rotation.Flip) })
	f := rotation.Facts{At: s.Now(), Admin: s.row.Plan.Admin && old.ProviderID != "", SoakUntil: flipped.Add(s.row.Plan.Soak)}
	f.SoakOver = !f.At.Before(f.SoakUntil)
	if f.Elsewhere, f.Added, err = s.elsewhere(ctx, old); err != nil {
		return nil, nil, err
	}
	f.Places = s.placeFacts(ctx, old, fresh)
	f.Usage = s.usageFact(ctx, old, fresh)
	if s.Gateways != nil {
		var uses []string
		f.Gateway, uses = s.Gateways(ctx, old.Digest, s.windowStart(f.At))
		f.Elsewhere = append(f.Elsewhere, uses...)
	}
	// What was configured when the rotation began, and is not any more, says nothing.
	if s.row.Plan.Gateway && !f.Gateway.Configured {
		f.Gateway = rotation.GatewayFact{Configured: true, Silent: []string{"the gateway that the plan names"}}
	}
	return f, func(tx *store.Tx) error { return nil }, nil
}

// elsewhere asks, by digest, where the old version is still wanted, and which configured places the rotation did not verify.
func (s *saga) elsewhere(ctx context.Context, old apikey.Version) (where, added []string, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		where = nil
		if v, ok, err := tx.VersionByDigest(old.Digest); err != nil {
			return err
		} else if ok && (v.State == apikey.Current || v.State == apikey.Pending) {
			where = append(where, fmt.Sprintf("key %s (%s)", v.Key, v.State))
		}
		desired, err := tx.Desired("")
		if err != nil {
			return err
		}
		for _, d := range desired {
			if d.Version == old.ID {
				where = append(where, d.Location)
			}
		}
		// The other key of a pair may need this version while it is moving itself.
		locks, err := tx.Locks()
		for _, l := range locks {
			pair, isPair := strings.CutPrefix(l.Name, "pair:")
			if isPair && l.Holder != s.row.ID && slices.Contains(s.row.Plan.Pairs, pair) {
				where = append(where, "rotation "+l.Holder+" of the pair "+pair)
			}
		}
		return err
	})
	if s.Places != nil {
		for _, p := range s.Places(s.row.Key) {
			if _, planned := s.row.Plan.Place(p.Name); !planned {
				added = append(added, p.Name)
			}
		}
	}
	return where, added, err
}

func (s *saga) placeFacts(ctx context.Context, old, fresh apikey.Version) []rotation.PlaceFact {
	facts := make([]rotation.PlaceFact, len(s.row.Plan.Places))
	each(ctx, len(facts), max(1, s.row.Plan.Parallel), func(i int) {
		p := s.row.Plan.Places[i]
		f := rotation.PlaceFact{Name: p.Name, Signal: p.Can.Probe || p.Can.Confirm}
		if _, l, err := s.place(p.Name); err != nil {
			f.Trouble = err.Error()
		} else if h, err := l.Inspect(ctx); err != nil {
			f.Trouble = err.Error()
		} else {
			f.How, f.Known, f.Changed = string(h.How), h.Known() && h.How != location.Signed, h.ChangedAt
			f.HoldsOld = h.Holds(old.Digest)
			f.HoldsNew = h.Holds(fresh.Digest) || p.Home != "" && !f.HoldsOld
			if h.How == location.Signed {
				f.Signed, f.By = f.HoldsNew, h.Facts["signed by"]
			}
		}
		facts[i] = f
	})
	return facts
}

// usageFact reads the usage report for the window that begins with the first full minute after the last change, or a soak (24 h at
// most) ago, and ends with the heartbeat.
func (s *saga) usageFact(ctx context.Context, old, fresh apikey.Version) rotation.UsageFact {
	reporter, ok := s.Provider.(provider.UsageReporter)
	beat := s.made(func(id string) bool { return strings.HasSuffix(id, "/"+string(rotation.Heartbeat)) })
	if !ok || !s.row.Plan.Usage || old.ProviderID == "" || fresh.ProviderID == "" || beat.IsZero() {
		return rotation.UsageFact{}
	}
	u := rotation.UsageFact{Available: true, From: nextMinute(s.windowStart(beat)), To: beat, Source: "usage report"}
	if !u.From.Before(u.To) {
		return u
	}
	got, err := reporter.Usage(ctx, provider.UsageQuery{IDs: []string{old.ProviderID, fresh.ProviderID}, From: u.From, To: beat.Truncate(time.Minute).Add(time.Minute)})
	if err != nil {
		u.Trouble = err.Error()
		return u
	}
	u.Source = got.Source
	for _, b := range got.Seen[old.ProviderID] {
		u.Seen += b.Count
		if b.Count > 0 && b.To.After(u.Last) {
			u.Last = b.To
		}
		if b.Count > 0 && len(u.Suspects) < 5 {
			u.Suspects = append(u.Suspects, strings.TrimSpace(fmt.Sprintf("%d %s %s %s", b.Count, got.Counts, b.From.UTC().Format(time.TimeOnly), b.Model)))
		}
	}
	minute := beat.Truncate(time.Minute)
	for _, b := range got.Seen[fresh.ProviderID] {
		u.New += b.Count
		u.Alive = u.Alive || b.Count > 0 && b.To.After(minute)
	}
	// A report that does not say how fresh it is counts as fresh up to the newest bucket that shows our heartbeat.
	if u.FreshTo = got.FreshTo; u.FreshTo.IsZero() && u.Alive {
		u.FreshTo = u.To
	}
	return u
}

// windowStart gives the time from which the old version must be unused: that of the last change, or a soak before the end, a day at most.
func (s *saga) windowStart(end time.Time) time.Time {
	changed := s.made(func(id string) bool {
		return strings.HasPrefix(id, string(rotation.Deploy)+"/") || strings.HasPrefix(id, string(rotation.Staging)+"/")
	})
	if start := end.Add(-max(min(window, s.row.Plan.Soak), time.Minute)); start.After(changed) {
		return start
	}
	return changed
}

// window is the longest time that usage is looked back at.
const window = 24 * time.Hour

func nextMinute(t time.Time) time.Time {
	if m := t.Truncate(time.Minute); m.Before(t) {
		return m.Add(time.Minute)
	}
	return t
}

// deactivate sets the old version inactive, after a last look that its successor is accepted.
func (s *saga) deactivate(ctx context.Context) (any, func(*store.Tx) error, error) {
	if !s.row.Plan.Cut {
		verdict, err := s.ask(ctx, s.versionID(rotation.New))
		if err != nil {
			return nil, nil, err
		}
		if err := verdict.Need("look at the new version before the old one is set inactive"); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, s.setStatus(ctx, rotation.Old, provider.Inactive)
}

func (s *saga) setStatus(ctx context.Context, r rotation.Role, to provider.Status) error {
	setter, ok := s.Provider.(provider.StatusSetter)
	if !ok {
		return fault.New(fault.Unsupported, "set key status: there is no admin key", fault.Hint("set provider.admin_key, or do it in the Console"))
	}
	v, err := s.version(ctx, r)
	if err != nil {
		return err
	}
	if v.ProviderID == "" {
		return fault.New(fault.NotFound, fmt.Sprintf("set key status: the id of %s at the provider is not known", v.Fingerprint()), fault.Hint("keywright key match %s", v.Key))
	}
	if v.State == apikey.Archived {
		return fault.Newf(fault.Conflict, "set key status: %s is archived", v.Fingerprint())
	}
	if err := s.ours(ctx); err != nil {
		return err
	}
	_, err = setter.SetStatus(ctx, v.ProviderID, to)
	if to != provider.Active && (fault.Is(err, fault.Conflict) || fault.Is(err, fault.NotFound)) {
		// A person may have archived or deleted it: what counts is that the value is refused.
		if verdict, look := s.ask(ctx, v.ID); look == nil && verdict.Answer == provider.Dead {
			return nil
		}
	}
	return err
}

// awaitRefused asks until the value itself is refused: a status field proves nothing.
func (s *saga) awaitRefused(ctx context.Context, e rotation.Effect) (any, func(*store.Tx) error, error) {
	id := s.versionID(e.Role)
	verdict, err := s.ask(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if verdict.Answer != provider.Dead {
		return nil, nil, fault.New(fault.Unavailable, fmt.Sprintf("wait until the value is refused: the provider says %s (%s)", verdict.Answer, verdict.Reason))
	}
	return verdict, func(tx *store.Tx) error { return s.setState(tx, id, apikey.Inactive) }, nil
}

func (s *saga) awaitAccepted(ctx context.Context, e rotation.Effect) (any, func(*store.Tx) error, error) {
	id := s.versionID(e.Role)
	verdict, err := s.ask(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if verdict.Answer == provider.Dead || verdict.Answer == provider.Unknown {
		return nil, nil, fault.New(fault.Unavailable, fmt.Sprintf("wait until the value is accepted: the provider says %s (%s)", verdict.Answer, verdict.Reason),
			fault.Hint("see whether the key is active in the Console"))
	}
	return verdict, func(tx *store.Tx) error {
		v, err := tx.Version(id)
		if err != nil || v.State != apikey.Inactive {
			return err
		}
		return s.setState(tx, id, apikey.Previous)
	}, nil
}

// watchLook asks the consumers whether one of them is refused with the old value. Our own calls never count.
func (s *saga) watchLook(ctx context.Context) (any, func(*store.Tx) error, error) {
	fresh, err := s.version(ctx, rotation.New)
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	var w rotation.WatchState
	each(ctx, len(s.row.Plan.Places), max(1, s.row.Plan.Parallel), func(i int) {
		p := s.row.Plan.Places[i]
		why := s.refusedAt(ctx, p, fresh)
		if why == "" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		w.Refused = append(w.Refused, p.Name+" ("+why+")")
	})
	if s.Gateways != nil {
		old, err := s.version(ctx, rotation.Old)
		if err != nil {
			return nil, nil, err
		}
		gone := s.made(func(id string) bool { return strings.HasSuffix(id, "/"+string(rotation.AwaitRefused)) })
		seen, uses := s.Gateways(ctx, old.Digest, gone)
		for _, name := range uses {
			w.Refused = append(w.Refused, name+" (it uses the old version)")
		}
		if seen.Seen > 0 && len(uses) == 0 {
			w.Refused = append(w.Refused, "a request through the gateway")
		}
	}
	slices.Sort(w.Refused)
	return w, nil, ctx.Err()
}

func (s *saga) refusedAt(ctx context.Context, p rotation.Place, fresh apikey.Version) string {
	_, l, err := s.place(p.Name)
	if err != nil {
		return ""
	}
	if p.Can.Confirm && p.Home == "" { // consumers of a lent place have their own key's value
		if c, err := l.Confirm(ctx, fresh.Digest); err == nil && c.Old > 0 {
			return fmt.Sprintf("%d of %d consumers have another value", c.Old, c.Running)
		}
	}
	if p.Can.Probe && fault.Is(l.Probe(ctx), fault.Unavailable) {
		return "its probe fails"
	}
	return ""
}

func (s *saga) archived(tx *store.Tx) error { return s.setState(tx, s.row.Plan.Old, apikey.Archived) }

// purgeValue ends custody of the old value. Where a person archived it, the state follows here.
func (s *saga) purgeValue(tx *store.Tx) error {
	if err := s.setState(tx, s.row.Plan.Old, apikey.Archived); err != nil {
		return err
	}
	return tx.DropSealed(s.row.Plan.Old)
}

func (s *saga) record(ctx context.Context, e rotation.Effect) error {
	if s.Report == nil {
		return nil
	}
	return s.Report(ctx, s.row, e.Arg)
}

// each runs f for 0 to n-1, at most parallel at once, and waits. It starts no more once ctx has ended.
func each(ctx context.Context, n, parallel int, f func(i int)) {
	var all sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	all.Wait()
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fault.Wrap(fault.Canceled, context.Cause(ctx), "pause")
	case <-t.C:
		return nil
	}
}
