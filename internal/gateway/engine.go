package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/gateway/cache"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/gateway/spool"
	"github.com/keywright/keywright/internal/gateway/wire"
	"github.com/keywright/keywright/internal/verdict"
)

// exchange is one request of a caller, from its head to the last byte of the answer.
type exchange struct {
	route  *route
	path   string // as sent
	app    *appState
	model  string
	class  string
	stream bool
	sticky bool
	body   *spool.Body
	began  time.Time
	ctx    exchangeContext

	session  string // for the canary
	tried    []attempt
	attempts int
	changes  int
	retries  int
	trying   bool // tries out a cooled scope
	breaker  *breaker
	reserved reservation

	queued    bool // comes from the queue
	ticket    bool // went into it, and is answered
	cacheable bool // the answer is kept, under request
	request   cache.Key
	cached    bool // answered from there
	local     bool // answered in the gateway's own words, in place of the provider's

	// What is told at the end.
	key       apikey.Fingerprint
	role      string
	status    int
	row       string
	requestID string
	upstream  time.Duration // until the heads of all answers
	took      time.Duration // until the head of the last
	first     time.Duration // until the first content
	usage     wire.Usage
	cut       bool
	added     time.Duration // spent in the gateway itself
	waited    time.Duration // for the caller's body
	traced    traced

	owning
}

type attempt struct {
	state *keyState
	why   verdict.Cross
	row   string
}

type exchangeKey struct{}

// exchangeContext is the context of a request with its exchange, as context.WithValue would make it. It lies within the exchange.
type exchangeContext struct {
	context.Context //nolint:containedctx // It is a context itself.
	x               *exchange
}

func (c *exchangeContext) Value(key any) any {
	if _, ok := key.(exchangeKey); ok {
		return c.x
	}
	return c.Context.Value(key)
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// engine is the RoundTripper inside of the ReverseProxy: it chooses keys, repeats and fails over, and gives back the first answer that is
// worth giving back.
type engine Gateway

var _ http.RoundTripper = (*engine)(nil)

// refusal is an answer that the gateway makes itself.
type refusal struct {
	status     int
	errorType  string // empty: what belongs to the status
	message    string
	retryAfter time.Duration
	row        string
}

func (r *refusal) Error() string { return r.message }

// RoundTrip serves the exchange of the request's context. Its errors are of type *refusal, or the context's.
func (e *engine) RoundTrip(out *http.Request) (*http.Response, error) {
	g := (*Gateway)(e)
	x := exchangeOf(out.Context())
	if x == nil {
		return nil, &refusal{status: http.StatusInternalServerError, message: "the request has no exchange"}
	}
	if t := httptrace.ContextClientTrace(out.Context()); t != nil {
		t.Got1xxResponse = nil // ReverseProxy would pass on what comes before an answer, headers and all
	}
	defer func() {
		g.scopes.giveBack(x)
		x.breaker.giveBack(x)
	}()
	if list := g.degraded.now.Load(); list != nil {
		if refused := g.keepAway(*list, x, out); refused != nil {
			return g.instead(x, refused)
		}
	}
	if until := x.breaker.blocked(x, time.Now()); !until.IsZero() {
		return g.instead(x, &refusal{status: 529, message: "the provider is overloaded", retryAfter: time.Until(until), row: "breaker"})
	}
	c := g.pick(x)
	if c.entry == nil {
		return g.instead(x, nothingUsable(c, time.Now()))
	}
	limit := x.began.Add(g.o.FirstByte + x.waited)
	for held := c.entry; ; {
		res, o, err := g.try(out, x, held, limit)
		if o.Name == "" { // the caller has gone, or the whole time is over
			g.release(held.keyState)
			return nil, err
		}
		x.row = o.Name
		x.traceVerdict(o, res)
		g.compare(x, held, res)
		again, other := g.learn(x, held, o, limit)
		if x.route.once() && !x.repeatable(res) {
			again, other = false, false
		}
		if again && x.breaker.blocked(x, time.Now()).IsZero() {
			wait := g.backoff(x.retries, res)
			drop(res)
			x.traceNext()
			if !pause(out.Context(), wait) {
				g.release(held.keyState)
				return nil, context.Cause(out.Context())
			}
			x.retries++
			g.metrics.retried(o.Name, "same")
			continue
		}
		if other {
			x.tried = append(x.tried, attempt{held.keyState, o.Cross, o.Name})
			if c := g.pick(x); c.entry != nil {
				drop(res)
				x.traceNext()
				g.release(held.keyState)
				held = c.entry
				x.changes++
				g.metrics.retried(o.Name, "other")
				continue
			}
		}
		if res == nil {
			g.release(held.keyState)
			return nil, unreachable(o)
		}
		return g.accept(res, x, held, o), nil
	}
}

// compare counts an attempt for the canary.
func (g *Gateway) compare(x *exchange, e *entry, res *http.Response) {
	c := g.set.Load().canary
	if c == nil {
		return
	}
	status := 0
	if res != nil {
		status = res.StatusCode
	}
	c.observe(g, e.digest, status, x.took, x.attempts == 1, x.session)
}

// learn moves the states that the outcome speaks about, and says whether to repeat with the same key or to try another one.
func (g *Gateway) learn(x *exchange, e *entry, o verdict.Outcome, limit time.Time) (again, other bool) {
	more := x.body.Replayable() && time.Now().Before(limit)
	if o.Scope == verdict.UpstreamModel {
		x.breaker.failure(g, x, o)
	} else {
		x.breaker.success(g, x)
	}
	switch o.Action {
	case verdict.Suspect:
		if g.become(e.keyState, Healthy, Suspect, o.Name) {
			g.Refresh()
			g.log.Warn("a key was refused; a probe decides", "fingerprint", string(e.print), "row", o.Name)
		}
		g.probeSoon(e)
		return false, more && x.changes < g.o.KeyChanges
	case verdict.Other:
		e.mu.Lock()
		e.forbidden[x.class]++
		e.mu.Unlock()
		return false, more && x.changes < min(g.o.KeyChanges, 1)
	case verdict.Cool:
		g.scopes.cool(g, o.Scope, e.where(), x.class, o.Until, o.Name)
		x.trying = false
		return false, more && x.changes < g.o.KeyChanges
	case verdict.Retry:
		return more && x.retries < g.o.KeyRetries, false
	case verdict.Pass:
		g.scopes.passed(g, x)
	case verdict.Count:
	}
	return false, false
}

// try makes one attempt. The outcome has no name when the attempt says nothing about anybody: the caller hung up.
func (g *Gateway) try(out *http.Request, x *exchange, e *entry, limit time.Time) (*http.Response, verdict.Outcome, error) {
	// The first attempt has the headers for itself; the transport may still read them when the next begins.
	req := out
	if x.attempts > 0 {
		req = out.WithContext(out.Context())
		req.Header = out.Header.Clone()
	}
	var cancel context.CancelCauseFunc
	if x.stream {
		var ctx context.Context
		ctx, cancel = context.WithCancelCause(out.Context())
		req = req.WithContext(ctx)
	}
	// The value is read here and nowhere else, and goes to the wire.
	req.Header["X-Api-Key"] = []string{e.Value.RevealString()}
	if delete(req.Header, "Anthropic-Workspace-Id"); e.Workspace != "" {
		req.Header["Anthropic-Workspace-Id"] = []string{e.Workspace}
	}
	if x.body.Size() != 0 {
		req.ContentLength = x.body.Size()
		req.Body = x.body.Reader()
		if x.body.Replayable() && !x.route.once() {
			req.GetBody = func() (io.ReadCloser, error) { return x.body.Reader(), nil }
		}
	} else {
		req.Body, req.ContentLength = nil, 0
	}
	if x.route.once() {
		req = x.watch(req)
	}
	x.attempts++
	x.key, x.role = e.print, g.role(e)
	g.traceAttempt(req.Header, x, e)
	start := time.Now()
	// A stream answers at once, so its head is waited for within the budget; other answers come when the message is made.
	var timer *time.Timer
	if x.stream {
		timer = time.AfterFunc(max(time.Until(limit), time.Second), func() { cancel(errSlow) })
	}
	res, err := g.transport.RoundTrip(req)
	if timer != nil && !timer.Stop() && err == nil {
		res.Body.Close()
		err = errSlow
	}
	now := time.Now()
	x.took = now.Sub(start)
	x.upstream += x.took
	if err != nil {
		if cancel != nil {
			cancel(nil)
		}
		if out.Context().Err() != nil {
			return nil, verdict.Outcome{}, context.Cause(out.Context())
		}
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, verdict.Outcome{}, spool.ErrTooLarge
		}
		var unsent *refusal
		if errors.As(err, &unsent) {
			return nil, verdict.Outcome{}, unsent
		}
		return nil, verdict.Judge(verdict.Answer{}, now), err
	}
	if x.route.kind != "" || x.claims {
		x.at = domainOf(res.Header, e)
	}
	if cancel != nil {
		res.Body = &canceling{ReadCloser: res.Body, cancel: cancel}
	}
	if !fine(res.StatusCode) {
		head := readHead(res, verdict.MaxBody)
		return res, verdict.Judge(verdict.Parse(res.StatusCode, res.Header.Get, head, now), now), nil
	}
	if x.route.stream && events(res.Header) {
		return g.gate(out.Context(), res, x, now)
	}
	return res, verdict.Judge(verdict.Answer{Status: res.StatusCode}, now), nil
}

// errSlow is the cause of a stream that did not answer in time.
var errSlow = errors.New("the upstream did not answer in time")

func fine(status int) bool { return status >= 200 && status <= 299 }

func events(h http.Header) bool {
	t := h.Get("Content-Type")
	return strings.HasPrefix(t, "text/event-stream") && h.Get("Content-Encoding") == ""
}

// accept makes an answer the one that the caller gets. The key is held until its body was closed.
func (g *Gateway) accept(res *http.Response, x *exchange, e *entry, o verdict.Outcome) *http.Response {
	// The transport puts trailers into the answer that it gave, when the body has ended; they stay there.
	own := *res
	own.Trailer = nil
	res = &own
	x.status = res.StatusCode
	x.requestID = res.Header.Get("Request-Id")
	if !fine(res.StatusCode) && (x.attempts > 1 || o.Action == verdict.Cool && o.Scope != verdict.WorkspaceModel) {
		// The SDKs repeat too: what was repeated here, or cannot help, should not be repeated there.
		res.Header.Set("X-Should-Retry", "false")
	}
	if o.Dead || res.StatusCode == http.StatusUnauthorized {
		// A 401 to a caller only ever means that its own identity is bad.
		res.Body.Close()
		res = g.local(x, &refusal{status: http.StatusServiceUnavailable, message: "the gateway has no key that the provider accepts", retryAfter: 5 * time.Second, row: o.Name})
	}
	if !o.Until.IsZero() && res.Header.Get("Retry-After") == "" {
		if wait := time.Until(o.Until); wait < 24*time.Hour {
			res.Header.Set("Retry-After", seconds(wait))
		}
	}
	if x.cacheable {
		g.recordAnswer(res, x, e)
	}
	res.Body = &heldBody{ReadCloser: res.Body, g: g, state: e.keyState, x: x, sniff: x.route.name == "messages" && fine(res.StatusCode) && !events(res.Header)}
	return res
}

// local makes a response in the provider's form.
func (g *Gateway) local(x *exchange, r *refusal) *http.Response {
	h, body := g.words(x, r)
	x.local = true
	return &http.Response{StatusCode: r.status, ProtoMajor: 1, ProtoMinor: 1, Header: h, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
}

// words gives the head and the body of an answer of the gateway's own, and notes it.
func (g *Gateway) words(x *exchange, r *refusal) (http.Header, []byte) {
	errorType := r.errorType
	if errorType == "" {
		errorType = verdict.TypeOf(r.status)
	}
	body := wire.ErrorJSON(errorType, "keywright gateway: "+r.message, x.requestID)
	h := http.Header{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(body))}}
	if r.retryAfter > 0 {
		h.Set("Retry-After", seconds(r.retryAfter))
	}
	x.status, x.row = r.status, r.row
	return h, body
}

func seconds(d time.Duration) string {
	return strconv.FormatInt(int64(max((d+time.Second-1)/time.Second, 1)), 10)
}

func nothingUsable(c choice, now time.Time) *refusal {
	if c.limited {
		r := &refusal{status: http.StatusServiceUnavailable, message: "every key is at a limit", retryAfter: c.until.Sub(now), row: c.row}
		if c.row == "burst" || c.row == "ramp" {
			r.status = http.StatusTooManyRequests
		}
		return r
	}
	if c.row == "workspace" {
		return &refusal{status: http.StatusServiceUnavailable, message: "the gateway has no key of the workspace in which the object is", retryAfter: 5 * time.Second, row: "no key"}
	}
	return &refusal{status: http.StatusServiceUnavailable, message: "the gateway has no key that the provider accepts", retryAfter: 5 * time.Second, row: "no key"}
}

func unreachable(o verdict.Outcome) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, message: "the provider could not be reached", retryAfter: 2 * time.Second, row: o.Name}
}

// backoff is the wait before a repetition with the same key: short and random, or what the provider asks for when that is short too.
func (g *Gateway) backoff(retries int, res *http.Response) time.Duration {
	d := time.Duration((0.5 + g.o.Rand()/2) * float64(100*time.Millisecond<<min(retries, 4)))
	if res != nil {
		if asked := verdict.RetryAfter(res.Header.Get, time.Now()); asked > 0 && asked <= 2*time.Second {
			d = max(d, asked)
		}
	}
	return d
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// readHead reads the start of an error's body and puts it back in front of the rest.
func readHead(res *http.Response, most int) []byte {
	head, err := io.ReadAll(io.LimitReader(res.Body, int64(most)))
	rest := io.Reader(res.Body)
	if err != nil {
		rest = broken{err}
	}
	res.Body = &joined{Reader: io.MultiReader(strings.NewReader(string(head)), rest), Closer: res.Body}
	return head
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

type joined struct {
	io.Reader
	io.Closer
}

// drop gives an answer up that nobody will see.
func drop(res *http.Response) {
	if res != nil {
		res.Body.Close()
	}
}

// canceling ends the attempt's context with its body.
type canceling struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (c *canceling) Close() error {
	err := c.ReadCloser.Close()
	c.cancel(nil)
	return err
}

// role says whether a key is the first of its set.
func (g *Gateway) role(e *entry) string {
	if set := g.set.Load(); len(set.entries) > 0 && set.entries[0].keyState == e.keyState {
		return "primary"
	}
	return "backup"
}

// probeSoon starts the gateway's own probe of a key, unless one is under way.
func (g *Gateway) probeSoon(e *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.probing || g.ctx.Err() != nil {
		return
	}
	e.probing = true
	g.spawn(func() { g.watch(e) })
}

// watch probes until the key is healthy, denied or gone: at once, soon again while nothing is known, and each ProbeEvery when revoked.
func (g *Gateway) watch(e *entry) {
	defer func() {
		e.mu.Lock()
		e.probing = false
		// A caller may have met a 401 while the last probe was on its way back.
		again := g.ctx.Err() == nil && !e.retired.Load() && (e.is(Suspect) || e.is(Revoked))
		e.mu.Unlock()
		if again {
			g.probeSoon(e)
		}
	}()
	wait := time.Second
	for {
		a, ok := g.probe(g.ctx, e)
		if g.ctx.Err() != nil {
			return
		}
		dead := verdict.Judge(a, time.Now()).Dead
		switch {
		case ok:
			if !g.become(e.keyState, Suspect, Healthy, "probe") {
				g.become(e.keyState, Revoked, Healthy, "probe")
			}
			return
		case dead:
			g.become(e.keyState, Healthy, Suspect, "probe")
			if g.become(e.keyState, Suspect, Revoked, "probe") {
				g.log.Error("a key is dead", "fingerprint", string(e.print))
			}
			wait = g.o.ProbeEvery
		case e.is(Healthy) && e.domain.Load() == nil && wait >= 8*time.Second:
			return // its domain stays unknown, which is safe
		default:
			wait = min(wait*2, g.o.ProbeEvery)
		}
		if !pause(g.ctx, wait) || e.retired.Load() || e.is(Denied) {
			return
		}
	}
}

// probe asks GET /v1/models?limit=1 with nothing of a caller in it. ok means that the provider accepts the key. Its domain is learnt.
func (g *Gateway) probe(ctx context.Context, e *entry) (verdict.Answer, bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	u := *g.upstream
	u.Path += "/v1/models"
	u.RawQuery = "limit=1"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return verdict.Answer{}, false
	}
	req.Header.Set("X-Api-Key", e.Value.RevealString())
	req.Header.Set("Anthropic-Version", "2023-06-01")
	req.Header.Set("User-Agent", "keywright-gateway")
	if e.Workspace != "" {
		req.Header.Set("Anthropic-Workspace-Id", e.Workspace)
	}
	g.metrics.probes.Add(1)
	res, err := g.transport.RoundTrip(req)
	if err != nil {
		return verdict.Answer{}, false
	}
	defer res.Body.Close()
	head, _ := io.ReadAll(io.LimitReader(res.Body, verdict.MaxBody))
	a := verdict.Parse(res.StatusCode, res.Header.Get, head, time.Now())
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		return a, false
	}
	d := domain{textproto.TrimString(res.Header.Get("Anthropic-Organization-Id")), textproto.TrimString(res.Header.Get("Anthropic-Workspace-Id"))}
	if object.PlainID(d.organization) || object.PlainID(d.workspace) {
		e.domain.Store(&d)
	}
	return a, true
}

// Reactivated tells the gateway that a value may be accepted again, so that a revoked key is probed at once.
func (g *Gateway) Reactivated(f apikey.Fingerprint) {
	for _, e := range g.set.Load().entries {
		if e.print == f && e.is(Revoked) {
			g.spawn(func() {
				if _, ok := g.probe(g.ctx, e); ok {
					g.become(e.keyState, Revoked, Healthy, "reactivated")
				}
			})
		}
	}
}

// errCut: the upstream broke a stream off.
var errCut = errors.New("the upstream broke the stream off")
