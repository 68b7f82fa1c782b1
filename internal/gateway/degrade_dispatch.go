package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/gateway/inspect"
	"github.com/keywright/keywright/internal/gateway/queue"
	"github.com/keywright/keywright/internal/gateway/spool"
	"github.com/keywright/keywright/internal/gateway/wire"
	"github.com/keywright/keywright/internal/verdict"
)

// slots is how many queued requests may run now: none while an operator says that the provider is not to be asked, one that finds out while
// a breaker is open or no key is alive, and on the way back the share of callers.
func (g *Gateway) slots() int64 {
	n := int64(g.queue.o.Parallel)
	if g.draining.Load() {
		return 0
	}
	now := time.Now()
	for _, e := range g.degraded.episodes() {
		share, _ := e.share(now)
		if share == 0 && e.cause == CauseDeclared {
			return 0
		}
		n = min(n, max(int64(g.queue.o.Parallel)*share/100, 1))
	}
	return n
}

// dispatch sends what waits, until the gateway is closed.
func (g *Gateway) dispatch() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var next time.Time
		for g.ctx.Err() == nil && g.queue.running.Load() < g.slots() {
			t, ok, at := g.queue.q.Take()
			if !ok {
				next = at
				break
			}
			g.queue.running.Add(1)
			g.active.Add(1) // a drain waits for it
			g.spawn(func() {
				defer g.leave()
				g.send(t)
				g.queue.running.Add(-1)
				nudge(g.queue.freed)
			})
		}
		if next.IsZero() {
			timer.Reset(time.Hour)
		} else {
			timer.Reset(max(time.Until(next), time.Millisecond))
		}
		select {
		case <-g.queue.q.Wake():
		case <-g.queue.freed:
		case <-g.degraded.changed:
		case <-timer.C:
		case <-g.ctx.Done():
			return
		}
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// clean erases old answers and gives up what has waited too long.
func (g *Gateway) clean() {
	for _, id := range g.queue.q.Overdue() {
		g.giveUp(id, &refusal{status: http.StatusGatewayTimeout, message: "the request has waited too long for the provider", row: "queue overdue"})
	}
	if _, err := g.queue.q.Sweep(g.ctx); err != nil && g.ctx.Err() == nil {
		g.log.Error("old answers could not be erased", "error", err)
	}
}

// giveUp keeps an answer of the gateway's own as the result.
func (g *Gateway) giveUp(id string, r *refusal) {
	body := wire.ErrorJSON(cmp.Or(r.errorType, verdict.TypeOf(r.status)), "keywright gateway: "+r.message, "")
	g.queue.refused.Add(1)
	g.kept(id, g.queue.q.Finish(g.ctx, id, queue.Answer{Status: r.status, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}))
}

// kept logs when a result could not be kept: the request is sent again after a restart.
func (g *Gateway) kept(id string, err error) {
	if err != nil && !fault.Is(err, fault.NotFound) && g.ctx.Err() == nil {
		g.log.Error("a result could not be kept in the queue", "id", id, "error", err)
	}
}

// later puts an entry back. counted says that the provider answered.
func (g *Gateway) later(t queue.Ticket, wait time.Duration, counted bool) {
	if g.ctx.Err() != nil {
		return // it waits again after the restart
	}
	back := min(queueFirst<<min(t.Attempts, 16), queueMost)
	back = time.Duration((0.5 + g.o.Rand()/2) * float64(back))
	g.queue.again.Add(1)
	g.kept(t.ID, g.queue.q.Again(g.ctx, t.ID, time.Now().Add(max(wait, back)), counted))
}

// send makes one attempt with an entry: it asks anew who the caller is and what he may, and sends the request as if it had just come.
func (g *Gateway) send(t queue.Ticket) {
	req, err := g.queue.q.Request(g.ctx, t.ID)
	switch {
	case fault.Is(err, fault.NotFound), g.ctx.Err() != nil:
		return
	case fault.Is(err, fault.Corrupt):
		g.log.Error("a queued request cannot be opened", "id", t.ID, "error", err)
		g.giveUp(t.ID, &refusal{status: http.StatusInternalServerError, message: "the request cannot be opened any more"})
		return
	case err != nil:
		g.log.Error("a queued request cannot be read", "id", t.ID, "error", err)
		g.later(t, time.Minute, false)
		return
	}
	x := &exchange{began: time.Now(), queued: true}
	caller := identity.Caller{App: req.Caller.App, Proof: req.Caller.Proof, Routes: req.Caller.Routes, Models: req.Caller.Models}
	if refused := g.readmit(x, req, caller); refused != nil {
		if refused.status == http.StatusTooManyRequests {
			g.later(t, refused.retryAfter, false)
			return
		}
		g.giveUp(t.ID, refused)
		return
	}
	ctx, cancel := context.WithTimeoutCause(context.WithValue(g.ctx, exchangeKey{}, x), g.o.MaxDuration, errOverlong)
	defer cancel()
	u := *g.upstream
	u.Path += x.path
	u.RawQuery = req.Query
	out := (&http.Request{Method: http.MethodPost, URL: &u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: req.Header}).WithContext(ctx)
	if out.Header == nil {
		out.Header = http.Header{}
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = []string{""}
	}
	g.traceBegin(out, x)
	defer func() {
		x.app.running.Add(-1)
		x.app.settle(x)
		x.body.Done()
		g.finish(out, x, false)
	}()
	res, err := (*keeper)(g).RoundTrip(out) // what an answer makes belongs to the application
	if err != nil {
		var refused *refusal
		if g.ctx.Err() != nil {
			return
		}
		if errors.As(err, &refused) {
			x.status, x.row = refused.status, refused.row
			g.later(t, refused.retryAfter, false)
			return
		}
		x.status, x.row = http.StatusGatewayTimeout, "overlong"
		g.later(t, 0, true)
		return
	}
	g.receive(t, x, res)
}

// readmit is admit for a queued request: identity, grants and guards as they are now.
func (g *Gateway) readmit(x *exchange, req queue.Request, caller identity.Caller) *refusal {
	if err := g.recheck(caller); err != nil {
		return &refusal{status: http.StatusUnauthorized, message: "the identity that asked was revoked, or is not known any more", row: "identity"}
	}
	x.app = g.app(caller.App)
	x.route, _, _ = g.find(http.MethodPost, req.Path)
	if x.route == nil || !x.app.mayRoute(x.route.name) || !caller.MayRoute(x.route.name) {
		return &refusal{status: http.StatusForbidden, message: "this application may not call this path", row: "route"}
	}
	x.path = req.Path
	l := inspect.New(false)
	_, _ = l.Write(req.Body) // it does not fail
	if problem := l.Problem(); problem != "" {
		return &refusal{status: http.StatusBadRequest, message: "the request body cannot be sent: " + problem, row: "body"}
	}
	if refused := g.belongs(g.ctx, x, l); refused != nil {
		return refused
	}
	x.body = spool.Held(req.Body)
	x.model, x.sticky = l.Model, l.Sticky
	x.claims, x.thread = l.Server || l.Thread, l.Thread
	x.class = verdict.Class(x.model)
	x.breaker = g.breaker.of(x.model)
	if g.set.Load().canary != nil {
		x.session = sessionOf(&http.Request{Header: req.Header, URL: &url.URL{}}, x)
	}
	return x.app.guard(x, l, caller)
}

// receive reads an answer and keeps it, or puts the request back when another attempt may do better.
func (g *Gateway) receive(t queue.Ticket, x *exchange, res *http.Response) {
	defer res.Body.Close()
	if err := g.modify(res); err != nil {
		x.status, x.row = http.StatusBadGateway, "redirect"
		g.later(t, 0, true)
		return
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxQueuedAnswer+1))
	if err != nil {
		if x.cut = true; g.ctx.Err() == nil {
			g.later(t, 0, !x.local)
		}
		return
	}
	if len(body) > maxQueuedAnswer {
		g.giveUp(t.ID, &refusal{status: http.StatusBadGateway, message: "the answer is too large to be kept"})
		return
	}
	passing := res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusRequestTimeout || res.StatusCode >= 500
	counted := !x.local && res.StatusCode != http.StatusTooManyRequests
	if passing && (!counted || t.Attempts+1 < g.queue.o.Attempts) {
		g.later(t, verdict.RetryAfter(res.Header.Get, time.Now()), counted)
		return
	}
	h := http.Header{}
	for name, v := range res.Header {
		if name == "Content-Type" || name == "Request-Id" || name == "X-Should-Retry" || strings.HasPrefix(name, "Anthropic-") {
			h[name] = v
		}
	}
	g.queue.answered.Add(1)
	g.kept(t.ID, g.queue.q.Finish(g.ctx, t.ID, queue.Answer{Status: res.StatusCode, Header: h, Body: bytes.Clone(body)}))
}

// recheck asks those who vouched for a caller whether they still do.
func (g *Gateway) recheck(c identity.Caller) error {
	for _, id := range g.rules.Load().Identify {
		if r, ok := id.(identity.Rechecker); ok {
			if err := r.Recheck(c); !errors.Is(err, identity.ErrNoOpinion) {
				return err
			}
		}
	}
	return fault.New(fault.Unauthenticated, "check identity again: nobody knows it")
}
