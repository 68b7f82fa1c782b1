package gateway

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/verdict"
)

// The events of a gateway. Fields hold "fingerprint", and where they apply "generation", "row" and "requests".
const (
	// KeysSwapped: a new set of keys is in force; no request that begins later uses a key that is not in it.
	KeysSwapped event.Type = "gateway.keys-swapped"
	// KeyDrained: the last request on a key that left the set has ended.
	KeyDrained event.Type = "gateway.key-drained"
	// KeySuspect, KeyRevoked, KeyHealthy: the state of a key changed.
	KeySuspect event.Type = "gateway.key-suspect"
	KeyRevoked event.Type = "gateway.key-revoked"
	KeyHealthy event.Type = "gateway.key-healthy"
	// KeyDenied: a value was refused for ever.
	KeyDenied event.Type = "gateway.key-denied"
	// ScopeCooled: a limit or a breaker keeps requests away; ScopeFreed: no longer.
	ScopeCooled event.Type = "gateway.scope-cooled"
	ScopeFreed  event.Type = "gateway.scope-freed"
	// SourceFailed: a source of keys did not give a usable value; the last good one stays.
	SourceFailed event.Type = "gateway.source-failed"
)

// Key is one value that the gateway may use.
type Key struct {
	// Name is the slot, for screens and events.
	Name apikey.Name
	// Value is what goes on the wire.
	Value secret.Value
	// Group names the failover group, or is empty. Within one organization and workspace keys need no group.
	Group string
	// Workspace is set for a key that is bound to none: it is sent as anthropic-workspace-id.
	Workspace string
}

// Group says for which reasons a request may move between keys of different organizations or workspaces, where spend limits, residency and
// permissions may differ. The zero Group permits none.
type Group struct {
	On401, OnLimits, On403 bool
	// AllowBreak lets a request that names files, containers, skills or signed thinking leave a dead key's workspace, where those may be
	// unknown.
	AllowBreak bool
}

func (p Group) permits(c verdict.Cross) bool {
	switch c {
	case verdict.CrossDead:
		return p.On401
	case verdict.CrossLimits:
		return p.OnLimits
	case verdict.CrossForbidden:
		return p.On403
	default:
		return false
	}
}

// Set is what Swap puts in force. Keys are tried in order: the first is the one to use, the others are backups.
type Set struct {
	// Generation must be larger than the one in force; zero means the next one.
	Generation uint64
	Keys       []Key
	Groups     map[string]Group
	// Canary sends a share of the sessions to a newer version; see Canary.
	Canary *Canary
}

// Phase is what is known of a key.
type Phase int32

// The phases of a key. All but revoked end by themselves: a probe of the gateway's own decides.
const (
	// Healthy: in use. Left on a 401 of any caller's request.
	Healthy Phase = iota
	// Suspect: not used while another key exists, until a probe has decided. A crash forgets it.
	Suspect
	// Revoked: a probe got 401. Left when a probe, every minute, gets 200.
	Revoked
	// Denied: its fingerprint is on the list of compromised values. Never left; kept over restarts.
	Denied
)

// String gives the word for screens and labels.
func (p Phase) String() string {
	if p < Healthy || p > Denied {
		return "unknown"
	}
	return [...]string{"healthy", "suspect", "revoked", "denied"}[p]
}

// domain is where limits are counted. Empty texts mean "not known", which is the same as any other.
type domain struct{ organization, workspace string }

func (d domain) same(e domain) bool {
	return like(d.organization, e.organization) && like(d.workspace, e.workspace)
}

func like(a, b string) bool { return a == "" || b == "" || a == b }

// keyState is what all requests share about one value. It outlives a swap when the value is in both sets.
type keyState struct {
	digest   apikey.Digest
	print    apikey.Fingerprint // of digest
	inFlight atomic.Int64
	phase    atomic.Int32
	retired  atomic.Bool // left the set
	drained  atomic.Bool // and told so
	slowFrom atomic.Int64
	used     atomic.Int64 // requests in all
	lastUse  atomic.Int64 // unix nanoseconds
	domain   atomic.Pointer[domain]

	mu        sync.Mutex
	name      apikey.Name
	since     time.Time
	probing   bool
	forbidden map[string]int64 // by model class
}

func newKeyState(d apikey.Digest) *keyState {
	return &keyState{digest: d, print: d.Fingerprint(), since: time.Now(), forbidden: map[string]int64{}}
}

func (s *keyState) where() domain {
	if d := s.domain.Load(); d != nil {
		return *d
	}
	return domain{}
}

func (s *keyState) is(p Phase) bool { return Phase(s.phase.Load()) == p }

// entry is a key of one set.
type entry struct {
	Key
	*keyState
}

// keySet is immutable.
type keySet struct {
	generation uint64
	entries    []*entry
	groups     map[string]Group
	canary     *canaryState
}

// slowStart is how long a key that recovered gets less than its full share.
const slowStart = 10 * time.Second

// Swap puts a set in force at once. Requests that began earlier keep the key they began with; every later one uses the new set. It returns
// when that holds. A key that left the set is reported by KeyDrained when its last request has ended. Kinds: Invalid (no key, an unusable
// value), Conflict (an older generation), Forbidden (a denied value), and those of writing the state directory.
func (g *Gateway) Swap(s Set) error { return g.swap(s, false) }

// swap is Swap, and with empty takes a set without keys: every request is refused then.
func (g *Gateway) swap(s Set, empty bool) error {
	g.swapMu.Lock()
	defer g.swapMu.Unlock()
	old := g.set.Load()
	if s.Generation == 0 {
		s.Generation = old.generation + 1
	}
	if s.Generation <= old.generation {
		return fault.New(fault.Conflict, fmt.Sprintf("swap keys: generation %d is not newer than %d", s.Generation, old.generation))
	}
	if len(s.Keys) == 0 && !empty {
		return fault.New(fault.Invalid, "swap keys: there is no key")
	}
	next := &keySet{generation: s.Generation, groups: maps.Clone(s.Groups)}
	known := map[apikey.Digest]bool{}
	for _, k := range s.Keys {
		if err := usable(k.Value); err != nil {
			return fault.In(err, fmt.Sprintf("swap keys: %s", k.Name))
		}
		d := k.Value.Digest()
		if known[d] {
			return fault.New(fault.Invalid, fmt.Sprintf("swap keys: %s holds the same value as another key", k.Name))
		}
		if g.denied[d] {
			return fault.New(fault.Forbidden, fmt.Sprintf("swap keys: %s holds %s, which is compromised", k.Name, d.Fingerprint()), fault.Hint("put another version into the place it was read from"))
		}
		known[d] = true
	}
	if s.Canary != nil {
		c, err := newCanary(*s.Canary, s.Keys, old.canary)
		if err != nil {
			return err
		}
		next.canary = c
	}
	for _, e := range old.entries {
		if !known[e.digest] {
			g.left.leave(e.Name, e.keyState)
		}
	}
	for d := range known {
		g.left.back(d)
	}
	if err := g.persist(s.Generation); err != nil {
		return err
	}
	var fresh []*entry
	for _, k := range s.Keys {
		d := k.Value.Digest()
		st := g.states[d]
		if st == nil {
			st = newKeyState(d)
			g.states[d] = st
		}
		st.mu.Lock()
		st.name = k.Name
		st.mu.Unlock()
		st.retired.Store(false)
		st.drained.Store(false)
		e := &entry{Key: k, keyState: st}
		next.entries = append(next.entries, e)
		if st.domain.Load() == nil || st.is(Suspect) || st.is(Revoked) {
			fresh = append(fresh, e)
		}
	}
	g.set.Store(next)
	g.announce()
	told := event.Event{Type: KeysSwapped, Fields: map[string]string{"generation": strconv.FormatUint(s.Generation, 10)}}
	if len(s.Keys) > 0 {
		told.Key, told.Fields["fingerprint"] = s.Keys[0].Name, string(s.Keys[0].Value.Fingerprint())
	}
	g.tell(told)
	for d, st := range g.states {
		if !known[d] {
			st.retired.Store(true)
			g.drainedIf(st)
			// A state is kept while requests hold it, and for status until the next swap.
			if st.inFlight.Load() == 0 && !slices.ContainsFunc(old.entries, func(e *entry) bool { return e.digest == d }) {
				delete(g.states, d)
			}
		}
	}
	for _, e := range fresh {
		g.probeSoon(e)
	}
	return nil
}

// usable reports whether a value can stand in a header.
func usable(v secret.Value) error {
	if v.IsZero() {
		return fault.New(fault.Invalid, "it has no value")
	}
	ok := true
	v.Reveal(func(b []byte) {
		for _, c := range b {
			ok = ok && c > ' ' && c < 0x7f
		}
	})
	if !ok {
		return fault.New(fault.Invalid, "its value has characters that no key has")
	}
	return nil
}

// Generation gives the generation of the set in force.
func (g *Gateway) Generation() uint64 { return g.set.Load().generation }

// Deny refuses values for ever, by their whole digest: they are no longer chosen from now on, and no source can bring them back. The list
// is kept in StateDir.
func (g *Gateway) Deny(digests ...apikey.Digest) error {
	g.swapMu.Lock()
	defer g.swapMu.Unlock()
	for _, d := range digests {
		if !d.Known() || g.denied[d] {
			continue
		}
		g.denied[d] = true
		name := apikey.Name("")
		if st := g.states[d]; st != nil {
			st.phase.Store(int32(Denied))
			name = st.name
		}
		g.tell(event.Event{Type: KeyDenied, Key: name, Fields: map[string]string{"fingerprint": string(d.Fingerprint())}})
	}
	return g.persist(g.set.Load().generation)
}

// hold counts a request on a key, unless the set is no longer in force. The caller must release.
func (g *Gateway) hold(set *keySet, e *entry) bool {
	e.inFlight.Add(1)
	if g.set.Load() != set {
		g.release(e.keyState)
		return false
	}
	e.used.Add(1)
	e.lastUse.Store(time.Now().UnixNano())
	return true
}

func (g *Gateway) release(st *keyState) {
	if st.inFlight.Add(-1) == 0 && st.retired.Load() {
		g.drainedIf(st)
	}
}

// drainedIf tells once that a retired key has no more requests.
func (g *Gateway) drainedIf(st *keyState) {
	if st.inFlight.Load() == 0 && st.retired.Load() && st.drained.CompareAndSwap(false, true) {
		st.mu.Lock()
		name := st.name
		st.mu.Unlock()
		fields := map[string]string{"fingerprint": string(st.print), "requests": strconv.FormatInt(st.used.Load(), 10)}
		if at := st.lastUse.Load(); at != 0 {
			fields["last"] = time.Unix(0, at).UTC().Format(time.RFC3339Nano)
		}
		g.left.drained(st)
		g.spawn(func() { _ = g.keepState() }) // without it the next start says that the request ended then
		g.tell(event.Event{Type: KeyDrained, Key: name, Fields: fields})
	}
}

// become moves a key from one phase to another and tells, if it was in the first.
func (g *Gateway) become(st *keyState, from, to Phase, row string) bool {
	if !st.phase.CompareAndSwap(int32(from), int32(to)) {
		return false
	}
	now := time.Now()
	st.mu.Lock()
	st.since = now
	name := st.name
	st.mu.Unlock()
	switch to {
	case Healthy:
		st.slowFrom.Store(now.UnixNano())
	case Revoked:
		g.canaryRefused(st.digest)
	case Suspect, Denied:
	}
	types := map[Phase]event.Type{Healthy: KeyHealthy, Suspect: KeySuspect, Revoked: KeyRevoked}
	g.tell(event.Event{Type: types[to], Key: name, Fields: map[string]string{"fingerprint": string(st.print), "row": row}})
	return true
}

// choice is what pick found: an entry that is held, or why there is none.
type choice struct {
	entry *entry
	// until is the soonest time at which a key is free again, when limits alone are in the way.
	until time.Time
	// limited is false when keys are dead, denied or missing.
	limited bool
	row     string
}

// pick chooses a key for a request and holds it. Keys tried before are left out.
func (g *Gateway) pick(x *exchange) choice {
	for {
		set := g.set.Load()
		c := g.choose(set, x)
		if c.entry == nil {
			return c
		}
		if g.hold(set, c.entry) {
			return c
		}
		g.scopes.giveBack(x)
	}
}

func (g *Gateway) choose(set *keySet, x *exchange) choice {
	now := time.Now()
	order := set.entries
	if set.canary != nil {
		order = set.canary.order(x, order)
	}
	if x.bound != nil {
		order = homeFirst(order, *x.bound)
	}
	var c choice
	// Suspect keys are the last resort, and keys that start slowly give way to others.
	for pass := range 2 {
		var home *entry
		why := verdict.CrossNever
		alive := false // a key of the workspace in which the request has to stay lives
		for i, e := range order {
			reason, until, row := g.unusable(e, x, now, pass == 1)
			if x.bound != nil {
				away := e.rank(*x.bound) == 2
				alive = alive || !away && reason != verdict.CrossDead
				if away && reason == verdict.CrossNever && (home == nil || alive) {
					reason, row = verdict.CrossForbidden, "workspace"
				}
				if away && home == nil {
					c.row = cmp.Or(c.row, row)
					continue
				}
			}
			if reason == verdict.CrossNever && home != nil && !reachable(set, home, e, why, x) {
				reason, row = why, "domain"
			}
			if reason == verdict.CrossNever && pass == 0 && g.giveWay(e, now) && i+1 < len(order) {
				reason, row = verdict.CrossDead, "slow start"
			}
			if reason == verdict.CrossNever {
				g.scopes.take(e.where(), x, now)
				return choice{entry: e}
			}
			if home == nil {
				home, why = e, reason
			}
			if !until.IsZero() && (c.until.IsZero() || until.Before(c.until)) {
				c.until, c.row, c.limited = until, row, true
			}
			if c.row == "" {
				c.row = row
			}
		}
	}
	return c
}

// giveWay lets a growing share of requests through to a key that has just recovered.
func (g *Gateway) giveWay(e *entry, now time.Time) bool {
	from := e.slowFrom.Load()
	if from == 0 {
		return false
	}
	passed := now.Sub(time.Unix(0, from))
	if passed >= slowStart {
		e.slowFrom.CompareAndSwap(from, 0)
		return false
	}
	return g.o.Rand() > max(0.1, float64(passed)/float64(slowStart))
}

// unusable says why a key cannot take the request now; CrossNever means that it can. until is set for limits.
func (g *Gateway) unusable(e *entry, x *exchange, now time.Time, desperate bool) (verdict.Cross, time.Time, string) {
	for _, t := range x.tried {
		if t.state == e.keyState {
			return t.why, time.Time{}, t.row
		}
	}
	switch Phase(e.phase.Load()) {
	case Denied, Revoked:
		return verdict.CrossDead, time.Time{}, "dead"
	case Suspect:
		if !desperate {
			return verdict.CrossDead, time.Time{}, "suspect"
		}
	case Healthy:
	}
	if until, row := g.scopes.blocked(e.where(), x.class, now); !until.IsZero() {
		return verdict.CrossLimits, until, row
	}
	return verdict.CrossNever, time.Time{}, ""
}

// reachable reports whether a request may move from one key to another for a reason.
func reachable(set *keySet, from, to *entry, why verdict.Cross, x *exchange) bool {
	if from.where().same(to.where()) && from.Workspace == to.Workspace {
		return true
	}
	if from.Group == "" || from.Group != to.Group {
		return false
	}
	p := set.groups[from.Group]
	if x.sticky && !(why == verdict.CrossDead && p.AllowBreak) {
		return false
	}
	return p.permits(why)
}
