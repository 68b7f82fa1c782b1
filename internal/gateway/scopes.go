package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/verdict"
)

// cooled is a scope that nobody uses until a time; then one request goes through as a probe.
type cooled struct {
	kind   verdict.Scope
	domain domain
	class  string
	until  time.Time
	row    string
	trial  *exchange // the request that tries it out, or nil
}

func (c *cooled) covers(d domain, class string) bool {
	switch c.kind {
	case verdict.Organization:
		return like(c.domain.organization, d.organization)
	case verdict.Workspace:
		return c.domain.same(d)
	case verdict.WorkspaceModel:
		return c.domain.same(d) && c.class == class
	default:
		return false
	}
}

// scopes are the limits in force. There are few, so a list does.
type scopes struct {
	n    atomic.Int32 // len(list), so that the usual request takes no lock
	mu   sync.Mutex
	list []*cooled
}

// retrial is how long others wait while one request tries a scope out.
const retrial = time.Second

// blocked gives the time until which the scopes of a key keep a request away, or the zero time.
func (s *scopes) blocked(d domain, class string, now time.Time) (time.Time, string) {
	if s.n.Load() == 0 {
		return time.Time{}, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var until time.Time
	row := ""
	for _, c := range s.list {
		if !c.covers(d, class) {
			continue
		}
		at := c.until
		if !now.Before(at) {
			if c.trial == nil {
				continue
			}
			at = now.Add(retrial)
		}
		if at.After(until) {
			until, row = at, c.row
		}
	}
	return until, row
}

// take makes x the request that tries out every scope of the key whose time is over.
func (s *scopes) take(d domain, x *exchange, now time.Time) {
	if s.n.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.list {
		if c.covers(d, x.class) && c.trial == nil && !now.Before(c.until) {
			c.trial = x
			x.trying = true
		}
	}
}

// giveBack ends the trials of x without a result: the next request may try.
func (s *scopes) giveBack(x *exchange) {
	if !x.trying {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.list {
		if c.trial == x {
			c.trial = nil
		}
	}
	x.trying = false
}

// passed frees the scopes that x tried out.
func (s *scopes) passed(g *Gateway, x *exchange) {
	if !x.trying {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.list[:0]
	for _, c := range s.list {
		if c.trial != x {
			kept = append(kept, c)
			continue
		}
		g.tell(event.Event{Type: ScopeFreed, Fields: map[string]string{"scope": c.kind.String(), "row": c.row}})
	}
	clear(s.list[len(kept):])
	s.list = kept
	s.n.Store(int32(len(kept))) //nolint:gosec // There are few.
	x.trying = false
}

// cool keeps requests away from a scope until a time. A scope that is cooled already gets the later of both times.
func (s *scopes) cool(g *Gateway, kind verdict.Scope, d domain, class string, until time.Time, row string) {
	if kind != verdict.WorkspaceModel {
		class = ""
	}
	if kind == verdict.Organization {
		d.workspace = ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.list {
		if c.kind == kind && c.domain == d && c.class == class {
			if until.After(c.until) {
				c.until, c.row = until, row
			}
			c.trial = nil
			return
		}
	}
	s.list = append(s.list, &cooled{kind: kind, domain: d, class: class, until: until, row: row})
	s.n.Store(int32(len(s.list))) //nolint:gosec // There are few.
	g.metrics.cooled(row)
	g.tell(event.Event{Type: ScopeCooled, Fields: map[string]string{"scope": kind.String(), "row": row, "until": until.UTC().Format(time.RFC3339)}})
}

// breakers stand between the gateway and the upstream, one for each model.
type breakers struct {
	gateway *Gateway
	mu      sync.RWMutex
	by      map[string]*breaker
}

// maxModels bounds the breakers; models beyond it share one.
const maxModels = 256

func (b *breakers) of(model string) *breaker {
	b.mu.RLock()
	br := b.by[model]
	b.mu.RUnlock()
	if br != nil {
		return br
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by == nil {
		b.by = map[string]*breaker{}
	}
	if br = b.by[model]; br != nil {
		return br
	}
	if len(b.by) >= maxModels {
		model = "other"
		if br = b.by[model]; br != nil {
			return br
		}
	}
	br = &breaker{model: model}
	b.by[model] = br
	return br
}

// The rules of a breaker: the window in which it counts, how much must fail, and how long it stays open at first and at most.
const (
	breakerWindow  = 10 * time.Second
	breakerFails   = 5
	breakerSamples = 20
	breakerApps    = 3
	breakerFirst   = 2 * time.Second
	breakerMost    = 30 * time.Second
)

// breaker counts answers of the upstream for one model in two half windows.
type breaker struct {
	model string
	state atomic.Int32 // 0: closed without failures, the usual request takes no lock and is not counted

	mu       sync.Mutex
	turned   time.Time
	now, old counts
	open     time.Time // closed at this time for one trial; zero when closed
	wait     time.Duration
	trial    *exchange
}

type counts struct {
	ok, fail, shared int64
	apps             map[string]bool
}

// blocked gives the time until which the breaker is open. When that time is over, x becomes the trial.
func (b *breaker) blocked(x *exchange, now time.Time) time.Time {
	if b.state.Load() == 0 {
		return time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.open.IsZero() || b.trial == x:
		return time.Time{}
	case now.Before(b.open):
		return b.open
	case b.trial != nil:
		return now.Add(retrial)
	}
	b.trial = x
	return time.Time{}
}

// giveBack ends a trial without a result, as when the caller hangs up.
func (b *breaker) giveBack(x *exchange) {
	if b.state.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.trial == x {
		b.trial = nil
	}
}

// success counts a good answer.
func (b *breaker) success(g *Gateway, x *exchange) {
	if b.state.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(time.Now())
	b.now.ok++
	if b.trial == x && !b.open.IsZero() {
		b.open, b.trial, b.wait = time.Time{}, nil, 0
		b.now, b.old = counts{}, counts{}
		b.state.Store(0)
		g.goBack(CauseBreaker, b.model)
		g.tell(event.Event{Type: ScopeFreed, Fields: map[string]string{"scope": verdict.UpstreamModel.String(), "model": g.modelLabel(b.model)}})
	}
}

// failure counts a bad answer. shared ones count only when enough applications see them, so that one application's request that makes the
// provider fail does not cut off the others.
func (b *breaker) failure(g *Gateway, x *exchange, o verdict.Outcome) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Store(1)
	b.turn(now)
	if o.Shared {
		b.now.shared++
	} else {
		b.now.fail++
	}
	if b.now.apps == nil {
		b.now.apps = map[string]bool{}
	}
	b.now.apps[x.app.name] = true
	if b.trial == x && !b.open.IsZero() {
		b.trip(g, now, o.Name)
		return
	}
	if !b.open.IsZero() {
		return
	}
	fails := b.now.fail + b.old.fail
	samples := b.now.ok + b.old.ok + fails + b.now.shared + b.old.shared
	apps := len(b.now.apps)
	for a := range b.old.apps {
		if !b.now.apps[a] {
			apps++
		}
	}
	if samples >= breakerSamples && (apps >= breakerApps || g.nApps.Load() <= 1) {
		fails += b.now.shared + b.old.shared
	}
	if fails >= breakerFails && fails*2 >= samples {
		b.trip(g, now, o.Name)
	}
}

func (b *breaker) trip(g *Gateway, now time.Time, row string) {
	b.wait = min(max(b.wait*2, breakerFirst), breakerMost)
	b.open, b.trial = now.Add(b.wait), nil
	g.metrics.cooled(row)
	g.enter(episode{cause: CauseBreaker, model: b.model})
	g.tell(event.Event{Type: ScopeCooled, Fields: map[string]string{
		"scope": verdict.UpstreamModel.String(), "model": g.modelLabel(b.model), "row": row, "until": b.open.UTC().Format(time.RFC3339),
	}})
}

// turn moves the half windows on.
func (b *breaker) turn(now time.Time) {
	if b.turned.IsZero() {
		b.turned = now
	}
	passed := now.Sub(b.turned)
	if passed < breakerWindow/2 {
		return
	}
	b.old, b.now = b.now, counts{}
	if passed >= breakerWindow {
		b.old = counts{}
	}
	b.turned = now
	if b.open.IsZero() && b.old.fail+b.old.shared == 0 {
		b.state.Store(0)
		b.turned = time.Time{}
		b.old = counts{}
	}
}
