package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/queue"
	"github.com/keywright/keywright/internal/verdict"
)

// QueueOptions configures the queue of callers that do not wait. Without a Master there is none.
type QueueOptions struct {
	// Master opens what wraps the queue's own key; a custody.Master is one. Its key must not lie in StateDir. first says that there is no queue
	// yet, so that a missing master may be made.
	Master func(ctx context.Context, first bool) (queue.Master, error)
	// Entries bounds what waits in all, PerApp what waits of one application, Bytes what all entries take with their answers, and Body one
	// request, in bytes; a larger one is served at once or not at all.
	Entries, PerApp int
	Bytes, Body     int64
	// Keep is how long an answer is kept, Wait how long a request may wait for one.
	Keep, Wait time.Duration
	// Parallel is how many queued requests run at a time while nothing is degraded.
	Parallel int
	// Attempts is how many errors of the provider end a request: the last one is its answer. Times at which the provider could not be asked
	// do not count.
	Attempts int
}

// Defaults of QueueOptions, besides those of package queue.
const (
	DefaultQueueBody     = 8 << 20
	DefaultQueueParallel = 4
	DefaultQueueAttempts = 6
)

// waiting is the gateway's side of the queue.
type waiting struct {
	q       *queue.Queue // nil without a queue
	o       QueueOptions
	running atomic.Int64
	freed   chan struct{}

	answered, again, refused atomic.Int64
}

// The paths of the gateway's own.
const (
	ownPath    = "/keywright/"
	statusPath = ownPath + "status"
	queuePath  = ownPath + "queue/"
)

const (
	maxIdempotencyKey = 255
	maxQueuedAnswer   = 64 << 20
	queueFirst        = 2 * time.Second
	queueMost         = 5 * time.Minute
)

// openQueue opens what is kept. It needs the ledger.
func (g *Gateway) openQueue(ctx context.Context) error {
	o := g.o.Queue
	g.queue.freed = make(chan struct{}, 1)
	if o.Master == nil {
		return nil
	}
	if g.ledger == nil {
		return fault.New(fault.Invalid, "open queue: it needs a state directory")
	}
	o.Body = cmp.Or(o.Body, DefaultQueueBody)
	o.Parallel = cmp.Or(o.Parallel, DefaultQueueParallel)
	o.Attempts = cmp.Or(o.Attempts, DefaultQueueAttempts)
	made, err := queue.Made(ctx, g.ledger)
	if err != nil {
		return err
	}
	master, err := o.Master(ctx, !made)
	if err != nil {
		return fault.In(err, "open queue")
	}
	g.queue.o = o
	g.queue.q, err = queue.Open(ctx, g.ledger, queue.Options{Master: master, Entries: o.Entries, PerApp: o.PerApp, Bytes: o.Bytes, Keep: o.Keep, Wait: o.Wait})
	return err
}

func (g *Gateway) queueWord() string {
	switch {
	case g.queue.q == nil:
		return "off"
	case g.queue.q.Full():
		return "full"
	}
	return "accepting"
}

// wantsAsync reports whether a caller prefers not to wait (RFC 7240).
func wantsAsync(values []string) bool {
	for _, v := range values {
		for p := range strings.SplitSeq(v, ",") {
			name, _, _ := strings.Cut(p, ";")
			if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
				return true
			}
		}
	}
	return false
}

// queueable reports whether the preference of a caller can be met: by somebody with an identity, for a message that is no stream and fits.
func (g *Gateway) queueable(r *http.Request, x *exchange, caller Caller) bool {
	return g.queue.q != nil && wantsAsync(r.Header["Prefer"]) && caller.Proof != "" && x.route.name == "messages" && !x.stream && x.body.replayable() && x.body.size <= g.queue.o.Body
}

// queuedHeaders go to the provider with a queued request. Nothing in them says who the caller is.
var queuedHeaders = []string{"Content-Type", "Accept", "Anthropic-Version", "Anthropic-Beta", "User-Agent", "X-Claude-Code-Session-Id"}

// enqueue keeps a request that its caller does not wait for, and answers where to ask for the result.
func (g *Gateway) enqueue(w http.ResponseWriter, r *http.Request, x *exchange, caller Caller) *refusal {
	key := ""
	if keys := r.Header["Idempotency-Key"]; len(keys) > 0 {
		if key = keys[0]; len(keys) > 1 || key == "" || len(key) > maxIdempotencyKey {
			return &refusal{status: http.StatusBadRequest, message: "the idempotency key is empty, too long or stands twice", row: "idempotency key"}
		}
	}
	in := x.body.reader()
	body, err := io.ReadAll(in)
	in.Close()
	if err != nil {
		return &refusal{status: http.StatusInternalServerError, message: "the request body could not be read again", row: "body"}
	}
	q := queue.Request{
		Caller: queue.Caller{App: caller.App, Proof: caller.Proof, Routes: caller.Routes, Models: caller.Models},
		Path:   x.path, Query: r.URL.RawQuery, Header: http.Header{}, Body: body,
	}
	for _, name := range queuedHeaders {
		if v := r.Header[name]; len(v) > 0 {
			q.Header[name] = v
		}
	}
	t, _, err := g.queue.q.Add(r.Context(), key, q)
	if err != nil {
		refused := &refusal{status: http.StatusServiceUnavailable, message: "the queue cannot take the request", retryAfter: max(fault.RetryAfterOf(err), time.Second), row: "queue"}
		switch {
		case fault.Is(err, fault.RateLimited):
			refused.status, refused.message, refused.row = http.StatusTooManyRequests, "this application has too many requests in the queue", "queue app full"
		case fault.RetryAfterOf(err) > 0:
			refused.message, refused.row = "the queue is full", "queue full"
		default:
			g.log.Error("a request could not be queued", "error", err)
		}
		return refused
	}
	w.Header().Set("Preference-Applied", "respond-async")
	x.row = "queued"
	g.showTicket(w, x, t)
	return nil
}

// Queued is the body of the answer to a queued request, and to who asks before there is a result.
type Queued struct {
	Type     string      `json:"type"` // queued_request
	ID       string      `json:"id"`
	State    queue.State `json:"state"`
	Location string      `json:"location"`
	Created  time.Time   `json:"created_at"`
	Expires  time.Time   `json:"expires_at"`
}

// pollAfter is how long a caller is asked to wait between two looks.
const pollAfter = 2 * time.Second

func (g *Gateway) showTicket(w http.ResponseWriter, x *exchange, t queue.Ticket) {
	h := w.Header()
	h.Set("Location", queuePath+t.ID)
	h.Set("Retry-After", seconds(max(pollAfter, min(time.Until(t.Next), maxDegradedWait))))
	x.status = http.StatusAccepted
	writeJSON(w, http.StatusAccepted, Queued{Type: "queued_request", ID: t.ID, State: t.State, Location: queuePath + t.ID, Created: t.Created, Expires: t.Expires})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a caller that has gone does not read it
}

// ownRoute stands for the paths of the gateway's own in logs and metrics.
var ownRoute = &route{name: "queue", method: http.MethodGet, path: queuePath + "{}"}

// serveOwn answers the paths of the gateway's own: its status for everybody who can reach it, and the queue for applications.
func (g *Gateway) serveOwn(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == statusPath {
		if p := peerOf(r.Context()); r.Method != http.MethodGet && r.Method != http.MethodHead || !p.unix && !g.hostAllowed(r.Host) {
			http.Error(w, "not served", http.StatusForbidden)
			return
		}
		writeJSON(w, http.StatusOK, g.PublicStatus())
		return
	}
	x := &exchange{began: time.Now()}
	if refused := g.result(w, r, x); refused != nil {
		g.refuse(w, r, x, refused)
	}
	g.finish(r, x, false)
}

// result gives the state or the answer of a queued request to the application that asked, and to nobody else.
func (g *Gateway) result(w http.ResponseWriter, r *http.Request, x *exchange) *refusal {
	if refused := g.checkForm(r); refused != nil {
		return refused
	}
	p := peerOf(r.Context())
	if refused := g.checkBrowser(w, r, p); refused != nil {
		return refused
	}
	missing := &refusal{status: http.StatusNotFound, errorType: "not_found_error", message: "there is no such request in the queue", row: "queue"}
	id, ok := strings.CutPrefix(r.URL.Path, queuePath)
	if !ok || !plainID(id) {
		return &refusal{status: http.StatusNotFound, errorType: "not_found_error", message: "this path is not served", row: "path"}
	}
	x.route, x.path = ownRoute, queuePath
	caller, refused := g.identify(r, p)
	if refused != nil {
		return refused
	}
	x.app = g.app(caller.App)
	if g.queue.q == nil {
		return missing
	}
	t, ok := g.queue.q.Get(id)
	if !ok || t.App != caller.App || !caller.mayRoute("messages") {
		return missing
	}
	x.row = "queue"
	switch {
	case r.Method == http.MethodDelete:
		if err := g.queue.q.Drop(r.Context(), id); err != nil && !fault.Is(err, fault.NotFound) {
			return &refusal{status: http.StatusServiceUnavailable, message: "the request could not be dropped", retryAfter: time.Second, row: "queue"}
		}
		x.status = http.StatusNoContent
		w.WriteHeader(http.StatusNoContent)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return &refusal{status: http.StatusMethodNotAllowed, message: "the method is not served here", row: "method"}
	case t.State != queue.Done:
		g.showTicket(w, x, t)
	default:
		a, err := g.queue.q.Answer(r.Context(), id)
		switch {
		case fault.Is(err, fault.NotFound):
			return missing
		case err != nil:
			g.log.Error("an answer could not be read from the queue", "id", id, "error", err)
			return &refusal{status: http.StatusServiceUnavailable, message: "the answer cannot be read", retryAfter: time.Second, row: "queue"}
		}
		h := w.Header()
		for name, v := range a.Header {
			h[name] = v
		}
		h.Set("Cache-Control", "no-store")
		h.Set("Keywright-Queue", string(queue.Done))
		x.status = a.Status
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body) // a caller that has gone does not read it
	}
	return nil
}

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
	body := errorJSON(cmp.Or(r.errorType, verdict.TypeOf(r.status)), "keywright gateway: "+r.message, "")
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
	caller := Caller{App: req.Caller.App, Proof: req.Caller.Proof, Routes: req.Caller.Routes, Models: req.Caller.Models}
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
		x.body.done()
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
func (g *Gateway) readmit(x *exchange, req queue.Request, caller Caller) *refusal {
	if err := g.recheck(caller); err != nil {
		return &refusal{status: http.StatusUnauthorized, message: "the identity that asked was revoked, or is not known any more", row: "identity"}
	}
	x.app = g.app(caller.App)
	x.route, _, _ = g.find(http.MethodPost, req.Path)
	if x.route == nil || !x.app.mayRoute(x.route.name) || !caller.mayRoute(x.route.name) {
		return &refusal{status: http.StatusForbidden, message: "this application may not call this path", row: "route"}
	}
	x.path = req.Path
	l := &look{}
	_, _ = l.Write(req.Body) // it does not fail
	if problem := l.problem(); problem != "" {
		return &refusal{status: http.StatusBadRequest, message: "the request body cannot be sent: " + problem, row: "body"}
	}
	if refused := g.belongs(g.ctx, x, l); refused != nil {
		return refused
	}
	x.body = &body{mem: req.Body, size: int64(len(req.Body))}
	x.body.users.Store(1)
	x.model, x.sticky = l.model, l.sticky
	x.claims, x.thread = l.server || l.thread, l.thread
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
func (g *Gateway) recheck(c Caller) error {
	for _, id := range g.rules.Load().Identify {
		if r, ok := id.(Rechecker); ok {
			if err := r.Recheck(c); !errors.Is(err, ErrNoOpinion) {
				return err
			}
		}
	}
	return fault.New(fault.Unauthenticated, "check identity again: nobody knows it")
}
