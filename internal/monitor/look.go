package monitor

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// sight is what a live look saw beside the places.
type sight struct {
	seen     []store.Observation
	alive    map[apikey.Name]policy.Alive // by key, of its current version
	listed   map[string]provider.Status   // by id, as the provider's list says
	unlisted []policy.Unlisted
	skew     time.Duration
}

// looker looks at places and at the provider, side by side.
type looker struct {
	source Source
	inv    *inventory
	now    func() time.Time
	digest map[apikey.VersionID]apikey.Digest

	mu   sync.Mutex
	done int
	out  sight
}

// look looks at everything that Live names, and puts what it saw into the inventory. Canceled when ctx ended.
func look(ctx context.Context, s Source, inv *inventory, now func() time.Time) (sight, error) {
	timeout, parallel := s.Live.Timeout, s.Live.Parallel
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if parallel <= 0 {
		parallel = DefaultParallel
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	l := &looker{source: s, inv: inv, now: now, digest: map[apikey.VersionID]apikey.Digest{}, out: sight{alive: map[apikey.Name]policy.Alive{}}}
	for _, v := range inv.versions {
		l.digest[v.ID] = v.Digest
	}
	jobs := l.jobs()
	slots := make(chan struct{}, parallel)
	var all sync.WaitGroup
	for _, job := range jobs {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			job(bounded)
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return sight{}, fault.Wrap(fault.Canceled, err, "look at places")
	}
	for i := range l.out.seen {
		inv.seen[l.out.seen[i].Location] = &l.out.seen[i]
	}
	return l.out, nil
}

// jobs lists what to ask. After the deadline the rest of them fails at once.
func (l *looker) jobs() []func(context.Context) {
	var jobs []func(context.Context)
	if p := l.source.Live.Provider; p != nil {
		jobs = append(jobs, func(ctx context.Context) { l.list(ctx, p) }, func(ctx context.Context) { l.clock(ctx, p) })
	}
	for _, place := range l.source.Live.Locations {
		jobs = append(jobs, func(ctx context.Context) { l.place(ctx, place) })
	}
	if l.source.Live.Ask != nil {
		for key, id := range l.current() {
			jobs = append(jobs, func(ctx context.Context) { l.ask(ctx, key, id) })
		}
	}
	return jobs
}

// place inspects a place and, where that is possible, its consumers.
func (l *looker) place(ctx context.Context, p *location.Location) {
	o := store.Observation{Location: p.Name()}
	h, err := p.Inspect(ctx)
	if err == nil {
		o.Holding, err = json.Marshal(h)
	}
	if want := l.wanted(p.Name()); err == nil && want.Known() && p.Abilities().Confirms {
		// What the consumers have is asked beside; a place whose consumers do not answer was still seen.
		if c, asked := p.Confirm(ctx, want); asked == nil {
			o.Confirmation, err = json.Marshal(c)
		}
	}
	if err != nil {
		o.Err = rotation.FaultOf(err)
	}
	o.At = l.now().UTC()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.seen = append(l.out.seen, o)
	l.done++
	if f := l.source.Live.Progress; f != nil {
		f(Progress{Location: p.Name(), Done: l.done, Total: len(l.source.Live.Locations), Err: err})
	}
}

func (l *looker) wanted(place string) apikey.Digest {
	if d := l.inv.desired[place]; d != nil {
		return l.digest[d.Version]
	}
	return apikey.Digest{}
}

// list finds keys of the provider that the inventory does not know.
func (l *looker) list(ctx context.Context, p provider.Provider) {
	lister, ok := p.(provider.Lister)
	if !ok {
		return
	}
	keys, err := lister.List(ctx, "")
	if err != nil {
		return // nobody looked, as far as the findings go
	}
	known := map[string]bool{}
	for _, v := range l.inv.versions {
		known[v.ProviderID] = true
	}
	unlisted, listed := []policy.Unlisted{}, make(map[string]provider.Status, len(keys))
	for _, k := range keys {
		listed[k.ID] = k.Status
		if k.Status == provider.Active && !known[k.ID] {
			unlisted = append(unlisted, policy.Unlisted{ID: clean(k.ID), Name: clean(k.Name), Workspace: clean(k.Workspace)})
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.unlisted, l.out.listed = unlisted, listed
}

// clock compares our clock to the provider's, at the middle of the question.
func (l *looker) clock(ctx context.Context, p provider.Provider) {
	c, ok := p.(provider.Clock)
	if !ok {
		return
	}
	before := l.now()
	at, err := c.Clock(ctx)
	if err != nil || at.IsZero() {
		return
	}
	took := l.now().Sub(before)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.skew = before.Add(took / 2).Sub(at)
}

// current gives the current version of each key. A compromised one is not asked about: that it is refused is what an emergency is for.
func (l *looker) current() map[apikey.Name]apikey.VersionID {
	ids := map[apikey.Name]apikey.VersionID{}
	for _, v := range l.inv.versions {
		if v.State == apikey.Current && !v.Compromised {
			ids[v.Key] = v.ID
		}
	}
	return ids
}

func (l *looker) ask(ctx context.Context, key apikey.Name, id apikey.VersionID) {
	v, err := l.source.Live.Ask(ctx, id)
	if err != nil {
		return
	}
	alive := map[provider.Answer]policy.Alive{provider.Live: policy.Live, provider.Dead: policy.Dead, provider.Blocked: policy.Blocked}[v.Answer]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.alive[key] = alive
}

// gone says in words that the provider refuses, or is about to refuse, a current version, and how that is known; it is empty when that is not
// known. The value's own answer counts before the list. An id that was only matched by its hint may be another key's, so that its status counts
// for nothing while the value is accepted.
func (s sight) gone(v apikey.Version) string {
	if v.Compromised {
		return ""
	}
	status := s.listed[v.ProviderID]
	set := v.ProviderID != "" && (status == provider.Inactive || status == provider.Archived || status == provider.Expired)
	alive := s.alive[v.Key]
	switch {
	case alive == policy.Dead && set:
		return "refused by the provider, and " + string(status) + " in its list"
	case alive == policy.Dead:
		return "refused by the provider"
	case set && (alive != policy.Live || v.Binding == apikey.BindingProved):
		return string(status) + " in the provider's list"
	}
	return ""
}

// keep leaves what was seen in the store. An observation that the runner made meanwhile is newer and stays.
func (s sight) keep(ctx context.Context, source Source) error {
	if source.Live.Forget || len(s.seen) == 0 {
		return nil
	}
	return source.Store.Update(ctx, func(tx *store.Tx) error {
		for _, o := range s.seen {
			if err := tx.PutObservation(o); err != nil {
				return err
			}
		}
		return nil
	})
}
