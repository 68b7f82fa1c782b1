package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/gateway"
)

const canaryWorkers = 64

// trialOf is what the imitation knows of the new version that is tried.
type trialOf struct {
	account   *account
	forbidden atomic.Bool // each tenth message gets 403
	slow      atomic.Bool
	messages  atomic.Int64
}

// canary is row 8, over the status socket of the built program, as a rotation does it: stage, share, and then promote or unstage.
func (b *bench) canary(ctx context.Context) ([]figure, error) {
	var trying atomic.Pointer[trialOf]
	var by sync.Map // session -> whether its last request was on the new version
	p := &provider{}
	p.answer = func(w http.ResponseWriter, r *http.Request, _ []byte) {
		t := trying.Load()
		fresh := t != nil && p.of(r) == t.account
		if fresh {
			n := t.messages.Add(1)
			if t.forbidden.Load() && n%10 == 0 {
				fail(w, http.StatusForbidden, "permission_error", "this key may not use the model")
				return
			}
			if t.slow.Load() && !wait(r.Context(), 150*time.Millisecond) {
				return
			}
		}
		by.Store(r.Header.Get(sessionHeader), fresh)
		giveMessage(w, "msg_1")
	}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	defer p.stop()
	g, err := b.begin(ctx, 8, p, p.key())
	if err != nil {
		return nil, err
	}
	defer g.stop() //nolint:errcheck // Nothing depends on how it ends.
	client := caller(canaryWorkers)
	defer client.CloseIdleConnections()
	c := &canaryLoad{g: g, p: p, client: client, trying: &trying, by: &by}
	list, err := c.shares(ctx, b.of(10_000, 200))
	if err != nil {
		return nil, err
	}
	forbid := func(t *trialOf) { t.forbidden.Store(true) }
	for _, why := range []struct {
		what  string
		good  int // requests before
		begin func(t *trialOf)
	}{
		{"403 for each tenth message", 0, forbid},
		{"the same after many good requests", b.of(20_000, 2000), forbid},
		{"the new version is slower by 150 ms", 0, func(t *trialOf) { t.slow.Store(true) }},
		{"the same after many good requests", b.of(20_000, 2000), func(t *trialOf) { t.slow.Store(true) }},
		{"the new version dies (401)", 0, func(t *trialOf) { t.account.live.Store(false) }},
	} {
		figures, err := c.stops(ctx, why.what, why.good, why.begin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", why.what, err)
		}
		list = append(list, figures...)
	}
	return list, nil
}

type canaryLoad struct {
	g        *process
	p        *provider
	client   *http.Client
	trying   *atomic.Pointer[trialOf]
	by       *sync.Map
	outcomes tally
	sent     atomic.Int64
}

// try stages a new key and begins its canary. Who has it staged already takes that away first.
func (c *canaryLoad) try(ctx context.Context, share int) (*trialOf, error) {
	if t := c.trying.Load(); t != nil {
		if _, err := c.g.admin.Unstage(ctx, primary, t.account.value().Digest()); err != nil {
			return nil, err
		}
	}
	t := &trialOf{account: c.p.key()}
	c.trying.Store(t)
	if _, err := c.g.admin.Stage(ctx, primary, t.account.value(), gateway.PlaceExpect{}); err != nil {
		return nil, err
	}
	return t, c.share(ctx, t, share)
}

func (c *canaryLoad) share(ctx context.Context, t *trialOf, share int) error {
	s, err := c.g.admin.Canary(ctx, primary, t.account.value().Digest(), share)
	if err == nil && (s.Canary == nil || s.Canary.Share != int64(share)) {
		return errors.New("the gateway does not say that the share is in force")
	}
	return err
}

func (c *canaryLoad) call(ctx context.Context, session string) {
	c.sent.Add(1)
	status, _, err := send(ctx, c.client, c.g, twoKB, map[string]string{sessionHeader: session}, nil)
	switch {
	case err != nil:
		c.outcomes.add("broken off: " + kindOf(err))
	case status != http.StatusOK:
		c.outcomes.add(fmt.Sprintf("with status %d", status))
	default:
		c.outcomes.add(endedWhole)
	}
}

// round lets every session make a request, and says which are on the new version.
func (c *canaryLoad) round(ctx context.Context, sessions int) (on []bool, share float64) {
	on = make([]bool, sessions)
	spread(ctx, sessions, canaryWorkers, func(_, i int) { c.call(ctx, strconv.Itoa(i)) })
	n := 0
	for i := range on {
		if fresh, ok := c.by.Load(strconv.Itoa(i)); ok && fresh.(bool) {
			on[i] = true
			n++
		}
	}
	return on, 100 * float64(n) / float64(sessions)
}

// shares looks at a canary of a version that does well.
func (c *canaryLoad) shares(ctx context.Context, sessions int) ([]figure, error) {
	t, err := c.try(ctx, 10)
	if err != nil {
		return nil, err
	}
	at10, share10 := c.round(ctx, sessions)
	again, _ := c.round(ctx, sessions)
	if err := c.share(ctx, t, 50); err != nil {
		return nil, err
	}
	at50, share50 := c.round(ctx, sessions)
	moved, back := 0, 0
	for i := range sessions {
		if at10[i] != again[i] {
			moved++
		}
		if again[i] && !at50[i] {
			back++
		}
	}
	s, err := c.g.look(ctx)
	if err != nil {
		return nil, err
	}
	if s.Canary == nil {
		return nil, errors.New("the canary has gone")
	}
	stopped := 0
	if s.Canary.Stopped {
		stopped = 1
	}
	failed, why := c.outcomes.without(endedWhole)
	near := func(share float64, want int) figure {
		return figure{what: fmt.Sprintf("share of %d sessions on the new version, of %d in a hundred", sessions, want), got: fmt.Sprintf("%.2f", share),
			bar: "±2", met: math.Abs(share-float64(want)) <= 2}
	}
	return []figure{
		near(share10, 10), near(share50, 50),
		none("sessions that changed their version at the same share", moved, sessions, ""),
		none("sessions that went back to the former version when the share grew", back, sessions, ""),
		none("requests that failed", failed, int(c.sent.Load()), why),
		none("canaries stopped of a version that does well", stopped, 1, s.Canary.Why),
	}, nil
}

// stops begins a canary of half of the sessions, makes the new version worse after some good requests, and waits until the canary has stopped by itself.
func (c *canaryLoad) stops(ctx context.Context, what string, good int, worse func(t *trialOf)) ([]figure, error) {
	const most = 20_000
	t, err := c.try(ctx, 50)
	if err != nil {
		return nil, err
	}
	failedBefore, sentBefore := c.failed(), c.sent.Load()
	spread(ctx, good, canaryWorkers, func(_, i int) { c.call(ctx, "good"+strconv.Itoa(i)) })
	if s, err := c.g.look(ctx); err != nil || s.Canary == nil || s.Canary.Stopped {
		return nil, errors.Join(errors.New("the canary does not go on while the new version is good"), err)
	}
	before := c.sent.Load()
	worse(t)
	var stopped atomic.Bool
	watched := make(chan error, 1)
	go func() {
		for !stopped.Load() {
			s, err := c.g.look(ctx)
			if err != nil {
				watched <- err
				return
			}
			if s.Canary != nil && s.Canary.Stopped {
				stopped.Store(true)
			}
			if c.sent.Load()-before >= most || !wait(ctx, 5*time.Millisecond) {
				break
			}
		}
		watched <- nil
	}()
	spread(ctx, most, canaryWorkers, func(_, i int) {
		if !stopped.Load() {
			c.call(ctx, what+strconv.Itoa(i))
		}
	})
	if err := <-watched; err != nil {
		return nil, err
	}
	after := c.sent.Load() - before
	s, err := c.g.look(ctx)
	if err != nil {
		return nil, err
	}
	if s.Canary == nil {
		return nil, errors.New("the canary has gone")
	}
	used := t.account.calls.Load()
	spread(ctx, 500, canaryWorkers, func(_, i int) { c.call(ctx, what+strconv.Itoa(i)) })
	used = t.account.calls.Load() - used
	return []figure{
		{
			what: "canary that stops: " + what, got: fmt.Sprintf("%q, %d requests after %d good ones (%d and %d answers)", s.Canary.Why, after, good, s.Canary.OldArm.Requests, s.Canary.NewArm.Requests),
			bar: "stops", met: s.Canary.Stopped,
		},
		none("  requests of its sessions on the new version after that", int(used), 500, ""),
		none("  requests that failed", c.failed()-failedBefore, int(c.sent.Load()-sentBefore), ""),
	}, nil
}

func (c *canaryLoad) failed() int {
	n, _ := c.outcomes.without(endedWhole)
	return n
}
