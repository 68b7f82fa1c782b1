package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
)

// The events of degraded mode. Fields hold "cause", and where they apply "model" (its class), "reason", "until" and "seconds".
const (
	// Degraded: requests are answered from the cache, kept in the queue or refused.
	Degraded event.Type = "gateway.degraded"
	// Restored: all requests go to the provider again.
	Restored event.Type = "gateway.restored"
)

// Cause is why the gateway is degraded.
type Cause string

// The causes. Each begins and ends by itself; several may hold at a time.
const (
	// CauseDeclared: an operator said so. No request goes to the provider. Ends by Restore, or at its time; kept over restarts.
	CauseDeclared Cause = "declared"
	// CauseBreaker: the breaker of a model is open. One request at a time tries the provider. The way back begins when one is answered.
	CauseBreaker Cause = "breaker"
	// CauseNoKey: the provider accepts none of the keys. Ends when it accepts one, and without a way back: the provider was not in trouble, and a
	// new key must serve at once.
	CauseNoKey Cause = "no key"
)

// The way back from a breaker or a declaration: the shares of callers that are let through before all are, and how long each share lasts.
var returnShares = [...]int64{10, 50}

const (
	minStep = time.Second
	maxStep = 30 * time.Second
	blip    = 10 * time.Second // a breaker that was open for less closes at once: most of its callers have not noticed
)

// episode is one cause from its beginning to its end. It is not changed: what changes is a copy.
type episode struct {
	id     string // draws the callers that are let through first
	cause  Cause
	model  string // of the breaker; empty for every model
	reason string
	since  time.Time
	until  time.Time // of a declaration; zero without an end

	returning time.Time // when the way back began; zero before
	step      time.Duration
}

// share gives how many callers of a hundred are let through, and until when.
func (e *episode) share(now time.Time) (share int64, until time.Time) {
	if e.returning.IsZero() {
		return 0, e.until
	}
	at := e.returning
	for _, s := range returnShares {
		if at = at.Add(e.step); now.Before(at) {
			return s, at
		}
	}
	return 100, at
}

// end is when the way back is over.
func (e *episode) end() time.Time { return e.returning.Add(time.Duration(len(returnShares)) * e.step) }

func (e *episode) covers(model string) bool { return e.model == "" || e.model == model }

// admits draws a caller: the same for the same episode, so that nobody who was let through is refused later on the way back.
func (e *episode) admits(session string, share int64) bool {
	mac := hmac.New(sha256.New, []byte(e.id))
	mac.Write([]byte(session))
	return int64(binary.BigEndian.Uint64(mac.Sum(nil))%10_000) < share*100
}

// degradation is the state of degraded mode.
type degradation struct {
	now atomic.Pointer[[]*episode] // nil while nothing is degraded: all that a plain request looks at

	mu      sync.Mutex
	list    []*episode
	changed chan struct{} // nudges the dispatcher of the queue
}

// publish puts the list in force. The caller holds mu.
func (d *degradation) publish() {
	if len(d.list) == 0 {
		d.now.Store(nil)
	} else {
		list := slices.Clone(d.list)
		d.now.Store(&list)
	}
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (d *degradation) find(c Cause, model string) int {
	return slices.IndexFunc(d.list, func(e *episode) bool { return e.cause == c && e.model == model })
}

// episodes gives those of now.
func (d *degradation) episodes() []*episode {
	if p := d.now.Load(); p != nil {
		return *p
	}
	return nil
}

// enter begins an episode, or takes one back that was on its way back. It may be called with the locks of breakers and keys held.
func (g *Gateway) enter(e episode) {
	d := &g.degraded
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	i := d.find(e.cause, e.model)
	if i >= 0 {
		old := *d.list[i]
		if old.returning.IsZero() && e.cause != CauseDeclared {
			return
		}
		e.id, e.since = old.id, old.since
		d.list[i] = &e
	} else {
		e.id, e.since = rand.Text(), now
		d.list = append(d.list, &e)
	}
	d.publish()
	g.tell(event.Event{Type: Degraded, Text: e.reason, Fields: g.fields(&e)})
}

// goBack begins the way back of an episode that has not begun it. It may be called with the locks of breakers and keys held.
func (g *Gateway) goBack(c Cause, model string) bool {
	d := &g.degraded
	if d.now.Load() == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.find(c, model)
	if i < 0 || !d.list[i].returning.IsZero() {
		return false
	}
	e := *d.list[i]
	e.returning = time.Now()
	step := g.rules.Load().ReturnStep
	if short := e.returning.Sub(e.since) < blip && step == 0; c == CauseNoKey || c == CauseBreaker && short {
		g.over(i, &e, e.returning)
		return true
	}
	if e.step = step; step == 0 {
		e.step = min(max(e.returning.Sub(e.since)/10, minStep), maxStep)
	}
	d.list[i] = &e
	d.publish()
	g.spawn(func() {
		for _, at := range []time.Time{e.returning.Add(e.step), e.end()} {
			if !pause(g.ctx, time.Until(at)) {
				return
			}
			g.stepped(&e, at)
		}
	})
	return true
}

// stepped ends an episode whose way back is over, unless it was taken back meanwhile.
func (g *Gateway) stepped(e *episode, at time.Time) {
	d := &g.degraded
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(d.list, e)
	if i < 0 {
		return
	}
	if at.Before(e.end()) {
		d.publish() // a larger share may have room for the dispatcher
		return
	}
	g.over(i, e, at)
}

// over ends an episode. The caller holds degraded.mu.
func (g *Gateway) over(i int, e *episode, at time.Time) {
	g.degraded.list = slices.Delete(g.degraded.list, i, i+1)
	g.degraded.publish()
	f := g.fields(e)
	f["seconds"] = strconv.FormatInt(int64(at.Sub(e.since)/time.Second), 10)
	g.tell(event.Event{Type: Restored, Fields: f})
}

func (g *Gateway) fields(e *episode) map[string]string {
	f := map[string]string{"cause": string(e.cause)}
	if e.model != "" {
		f["model"] = g.modelLabel(e.model)
	}
	if e.reason != "" {
		f["reason"] = e.reason
	}
	if !e.until.IsZero() {
		f["until"] = e.until.UTC().Format(time.RFC3339)
	}
	return f
}

// watchKeys enters or leaves when the keys are all dead, or one is not. It is told of every change of a key.
func (g *Gateway) watchKeys() {
	set := g.set.Load()
	usable := len(set.entries) == 0 && set.generation == 0 // before the first set nothing is known
	for _, e := range set.entries {
		usable = usable || e.is(Healthy) || e.is(Suspect)
	}
	if usable {
		g.goBack(CauseNoKey, "")
		return
	}
	g.enter(episode{cause: CauseNoKey})
}

const metaDeclared = "declared"

// declaration is what is kept of a declared degradation.
type declaration struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"`
}

// maxReason bounds the text of a declaration, in characters.
const maxReason = 200

// Declare enters degraded mode by an operator's word: no request goes to the provider until Restore, or until a time that is not zero. A second
// Declare replaces reason and time. The reason is shown to callers; what looks like a key is taken out of it. It is kept in the state
// directory, so that a restart does not end it. Kinds: Invalid (no reason, a time that has passed), and those of the ledger.
func (g *Gateway) Declare(ctx context.Context, reason string, until time.Time) error {
	reason = audit.Clean(reason)
	switch {
	case reason == "":
		return fault.New(fault.Invalid, "degrade: a reason is needed")
	case len([]rune(reason)) > maxReason:
		return fault.Newf(fault.Invalid, "degrade: the reason has more than %d characters", maxReason)
	case !until.IsZero() && !until.After(time.Now()):
		return fault.New(fault.Invalid, "degrade: its end has passed")
	}
	d := declaration{Reason: reason, Since: time.Now().UTC(), Until: until.UTC()}
	if until.IsZero() {
		d.Until = time.Time{}
	}
	if g.ledger != nil {
		b, err := json.Marshal(d)
		if err != nil {
			return fault.Wrap(fault.Unknown, err, "degrade")
		}
		if err := g.ledger.SetMeta(ctx, metaDeclared, b); err != nil {
			return err
		}
	}
	g.declared(d)
	return nil
}

func (g *Gateway) declared(d declaration) {
	g.enter(episode{cause: CauseDeclared, reason: d.Reason, until: d.Until})
	if d.Until.IsZero() {
		return
	}
	g.spawn(func() {
		if !pause(g.ctx, time.Until(d.Until)) {
			return
		}
		for _, e := range g.degraded.episodes() {
			if e.cause == CauseDeclared && e.until.Equal(d.Until) {
				if err := g.Restore(g.ctx); err != nil && !fault.Is(err, fault.NotFound) {
					g.log.Error("a declared degradation did not end at its time", "error", err)
				}
			}
		}
	})
}

// redeclare takes up what an operator said before a restart.
func (g *Gateway) redeclare(ctx context.Context) error {
	if g.ledger == nil {
		return nil
	}
	b, err := g.ledger.Meta(ctx, metaDeclared)
	if err != nil || b == nil {
		return err
	}
	var d declaration
	if json.Unmarshal(b, &d) != nil {
		return fault.New(fault.Corrupt, "read declared degradation: it is damaged")
	}
	if !d.Until.IsZero() && !d.Until.After(time.Now()) {
		return g.ledger.SetMeta(ctx, metaDeclared, nil)
	}
	g.declared(d)
	return nil
}

// Restore ends a declared degradation: the way back begins, first with 10 callers of a hundred, then with 50, then with all. Kinds: NotFound
// (none is declared), and those of the ledger.
func (g *Gateway) Restore(ctx context.Context) error {
	if g.ledger != nil {
		if err := g.ledger.SetMeta(ctx, metaDeclared, nil); err != nil {
			return err
		}
	}
	if !g.goBack(CauseDeclared, "") {
		return fault.New(fault.NotFound, "restore: no degradation is declared, or the way back has begun")
	}
	return nil
}

// housekeeping is how often what is old is looked for.
const housekeeping = time.Minute

// keepHouse looks after what nobody asks about, until the gateway is closed.
func (g *Gateway) keepHouse() {
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.forgetBreakers(time.Now())
			if g.queue.q != nil {
				g.clean()
			}
		case <-g.ctx.Done():
			return
		}
	}
}

// forgetBreakers begins the way back of models that nobody has asked for since their breaker might have closed: the next request finds out.
func (g *Gateway) forgetBreakers(now time.Time) {
	for _, e := range g.degraded.episodes() {
		if e.cause != CauseBreaker || !e.returning.IsZero() {
			continue
		}
		b := g.breaker.of(e.model)
		b.mu.Lock()
		if b.trial == nil && now.Sub(b.open) >= housekeeping {
			g.goBack(CauseBreaker, e.model)
		}
		b.mu.Unlock()
	}
}

// keepAway says whether a request may go to the provider while something is degraded. nil lets it go: then breaker and keys decide, since one
// request has to find out whether the trouble is over.
func (g *Gateway) keepAway(list []*episode, x *exchange, out *http.Request) *refusal {
	now := time.Now()
	for _, e := range list {
		if !e.covers(x.breaker.model) {
			continue
		}
		share, until := e.share(now)
		switch {
		case share == 100, share == 0 && e.cause != CauseDeclared:
			continue
		case share > 0 && x.queued:
			continue // its number is bounded by the share
		case share > 0:
			if x.session == "" {
				x.session = sessionOf(out, x)
			}
			if e.admits(x.session, share) {
				continue
			}
		}
		r := &refusal{status: http.StatusServiceUnavailable, message: "the gateway is degraded", retryAfter: degradedWait, row: "degraded"}
		if e.cause == CauseBreaker {
			r.status = 529
		}
		if e.reason != "" {
			r.message += ": " + e.reason
		}
		if !until.IsZero() {
			r.retryAfter = min(max(until.Sub(now), time.Second), maxDegradedWait)
		}
		return r
	}
	return nil
}

// How long callers are asked to wait while the gateway is degraded: without a known end, and at most.
const (
	degradedWait    = 30 * time.Second
	maxDegradedWait = 5 * time.Minute
)

// instead answers a request that does not reach the provider: from the cache while the gateway is degraded, else with the refusal.
func (g *Gateway) instead(x *exchange, refused *refusal) (*http.Response, error) {
	if g.degraded.now.Load() != nil {
		if res := g.cached(x); res != nil {
			return res, nil
		}
	}
	return nil, refused
}
