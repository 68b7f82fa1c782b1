package gateway

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/gateway/inspect"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/gateway/spool"
	"github.com/keywright/keywright/internal/verdict"
)

// ServeHTTP serves one request. It expects the limits and the peer that Serve provides.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		g.health(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, ownPath) {
		g.serveOwn(w, r)
		return
	}
	g.active.Add(1)
	defer g.leave()
	x := &exchange{began: time.Now()}
	g.traceBegin(r, x)
	if refused := g.admit(w, r, x); refused != nil {
		g.refuse(w, r, x, refused)
		g.finish(r, x, false)
		return
	}
	if x.ticket {
		x.body.Done()
		g.finish(r, x, false)
		return
	}
	aborted := true
	defer func() {
		x.app.running.Add(-1)
		x.app.settle(x)
		x.body.Done()
		g.finish(r, x, aborted)
	}()
	ctx, cancel := context.WithTimeoutCause(r.Context(), g.o.MaxDuration, errOverlong)
	defer cancel()
	x.ctx = exchangeContext{ctx, x}
	r.Body = http.NoBody // it was taken; the engine sends x.body
	g.proxy.ServeHTTP(w, r.WithContext(&x.ctx))
	aborted = false
}

// errOverlong is the cause of a request that used up its whole time.
var errOverlong = errors.New("the request took too long")

// admit checks a request from the outside in: who can reach us at all, what is asked, who asks, and what it may cost. nil admits it.
func (g *Gateway) admit(w http.ResponseWriter, r *http.Request, x *exchange) *refusal {
	if refused := g.checkForm(r); refused != nil {
		return refused
	}
	p := identity.PeerOf(r.Context())
	if refused := g.checkBrowser(w, r, p); refused != nil {
		return refused
	}
	rt, id, known := g.find(r.Method, r.URL.Path)
	switch {
	case known && r.Method == http.MethodOptions && w.Header().Get("Access-Control-Allow-Origin") != "":
		// A listed page asks what it may send; the request itself is checked when it comes.
		w.Header().Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
		w.Header().Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
		return &refusal{status: http.StatusNoContent, row: "preflight"}
	case rt == nil && known:
		return &refusal{status: http.StatusMethodNotAllowed, message: "the method is not served here", row: "method"}
	case rt == nil:
		return &refusal{status: http.StatusNotFound, errorType: "not_found_error", message: "this path is not served", row: "path"}
	}
	x.route, x.path, x.object = rt, r.URL.Path, id
	caller, refused := g.identify(r, p)
	if refused != nil {
		return refused
	}
	x.app = g.app(caller.App)
	if !x.app.mayRoute(rt.name) || !caller.MayRoute(rt.name) {
		return &refusal{status: http.StatusForbidden, message: "this application may not call this path", row: "route"}
	}
	if g.draining.Load() {
		return &refusal{status: http.StatusServiceUnavailable, message: "the gateway is stopping", retryAfter: time.Second, row: "draining"}
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return &refusal{status: http.StatusBadRequest, message: "the encoding of the request body is not supported", row: "encoding"}
	}
	if refused := checkContentType(rt, r.Header.Get("Content-Type")); refused != nil {
		return refused
	}
	if rt.kind != "" {
		x.origin = origin(r)
		if refused := g.touch(r.Context(), x); refused != nil {
			return refused
		}
	}
	return g.take(w, r, x, caller)
}

// take reads the body and asks the guards.
func (g *Gateway) take(w http.ResponseWriter, r *http.Request, x *exchange, caller identity.Caller) *refusal {
	var l *inspect.Body
	var see io.Writer // l, where there is one
	if x.route.inspect {
		l = inspect.New(x.route.kind == object.Batch)
		see = l
	}
	start := time.Now()
	line := http.NewResponseController(w)
	if r.ContentLength != 0 {
		_ = line.SetReadDeadline(start.Add(bodyTime(r.ContentLength)))
	}
	b, err := g.spool.Read(r, x.route.limit, see)
	if r.ContentLength != 0 && err == nil {
		_ = line.SetReadDeadline(time.Time{})
	}
	if x.waited = time.Since(start); x.waited > time.Second {
		_ = line.SetWriteDeadline(time.Now().Add(g.writeTime())) // the time for the answer begins with the end of the body
	}
	switch {
	case errors.Is(err, spool.ErrTooLarge):
		return &refusal{status: http.StatusRequestEntityTooLarge, message: "the request body is too large", row: "too large"}
	case fault.Is(err, fault.Unavailable):
		return &refusal{status: http.StatusServiceUnavailable, message: "there is no room for the request body", retryAfter: retrial, row: "no room"}
	case err != nil:
		return &refusal{status: http.StatusBadRequest, message: "the request body did not come whole", row: "body"}
	}
	x.body = b
	if len(r.Trailer) > 0 {
		b.Done()
		return &refusal{status: http.StatusBadRequest, message: "trailers are not served", row: "form"}
	}
	if l != nil {
		if !b.Replayable() {
			if x.app.guarded() || len(caller.Models) > 0 || l.Batch {
				b.Done()
				return &refusal{status: http.StatusServiceUnavailable, message: "there is no room for the request body", retryAfter: retrial, row: "no room"}
			}
		} else if problem := l.Problem(); problem != "" {
			b.Done()
			return &refusal{status: http.StatusBadRequest, message: "the request body cannot be sent: " + problem, row: "body"}
		}
		if refused := g.belongs(r.Context(), x, l); refused != nil {
			b.Done()
			return refused
		}
		if !b.Replayable() {
			b.Filter(func(rest io.ReadCloser) io.ReadCloser { return &unseen{ReadCloser: rest, l: l} })
		}
		x.sticky = x.sticky || l.Sticky
		if !l.Batch {
			x.model, x.stream = l.Model, l.Stream && x.route.stream
			x.claims, x.thread = l.Server || l.Thread, l.Thread
		}
	}
	if g.set.Load().canary != nil {
		x.session = sessionOf(r, x)
	}
	x.class = verdict.Class(x.model)
	x.breaker = g.breaker.of(x.model)
	if len(r.Header["Prefer"]) > 0 && g.queueable(r, x, caller) {
		refused := x.app.guardModel(x, l, caller) // the others are asked when its turn comes
		if refused == nil {
			refused = g.enqueue(w, r, x, caller)
		}
		if refused != nil {
			b.Done()
			return refused
		}
		x.ticket = true
		return nil
	}
	if refused := x.app.guard(x, l, caller); refused != nil {
		b.Done()
		return refused
	}
	if len(x.app.Cache) > 0 {
		g.remember(r, x, l)
	}
	return nil
}

// checkForm refuses what two readers of HTTP could understand in two ways.
func (g *Gateway) checkForm(r *http.Request) *refusal {
	bad := func(what string) *refusal {
		return &refusal{status: http.StatusBadRequest, message: what, row: "form"}
	}
	raw, query, _ := strings.Cut(r.RequestURI, "?")
	h := r.Header
	switch {
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return &refusal{status: http.StatusMethodNotAllowed, message: "the method is not served", row: "method"}
	case r.URL.Host != "" && r.ProtoMajor == 1 || !strings.HasPrefix(r.RequestURI, "/"):
		return bad("the request line must hold a path alone")
	case crooked(raw) || r.URL.RawPath != "" || r.URL.Path != raw:
		return bad("the path has characters that no path of the provider has")
	case crookedQuery(query):
		return bad("the query has characters that must be escaped")
	case len(h["Upgrade"]) > 0 || hasToken(h["Connection"], "upgrade"):
		return bad("upgrades are not served")
	case len(r.Trailer) > 0 || len(h["Trailer"]) > 0:
		return bad("trailers are not served")
	case len(r.TransferEncoding) > 1 || len(r.TransferEncoding) == 1 && r.TransferEncoding[0] != "chunked":
		return bad("the transfer encoding is not served")
	case len(h["X-Api-Key"]) > 1 || len(h["Authorization"]) > 1 || len(h["Content-Type"]) > 1 || len(h["Content-Encoding"]) > 1:
		return bad("a header stands twice that must stand once")
	}
	return nil
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// checkBrowser keeps web pages out: neither a page that names us nor one whose own name leads to our address may spend a key.
func (g *Gateway) checkBrowser(w http.ResponseWriter, r *http.Request, p *identity.Peer) *refusal {
	if !p.Unix && !g.hostAllowed(r.Host) {
		return &refusal{status: http.StatusForbidden, message: "the Host header names another host", row: "host"}
	}
	origin := r.Header["Origin"]
	if len(origin) == 0 {
		if site := r.Header.Get("Sec-Fetch-Site"); site == "" || site == "same-origin" || site == "none" {
			return nil
		}
	}
	if len(origin) == 1 {
		for _, o := range g.rules.Load().Origins {
			if strings.EqualFold(o, origin[0]) {
				w.Header().Set("Access-Control-Allow-Origin", origin[0])
				w.Header().Set("Vary", "Origin")
				return nil
			}
		}
	}
	return &refusal{status: http.StatusForbidden, message: "web pages are not served", row: "origin"}
}

func (g *Gateway) allowHosts(hosts ...string) {
	next := map[string]bool{}
	if old := g.hosts.Load(); old != nil {
		for h := range *old {
			next[h] = true
		}
	}
	for _, h := range hosts {
		next[strings.ToLower(h)] = true
	}
	g.hosts.Store(&next)
}

func (g *Gateway) hostAllowed(host string) bool {
	if host == "" {
		return false
	}
	hosts, named := *g.hosts.Load(), g.rules.Load().hosts
	if hosts[host] {
		return true
	}
	host = strings.ToLower(host)
	if hosts[host] || named[host] {
		return true
	}
	name, _, err := net.SplitHostPort(host)
	return err == nil && named[name]
}

// rewrite makes the outbound request: an address of our own making, and the caller's headers without those that speak for somebody.
func (g *Gateway) rewrite(p *httputil.ProxyRequest) {
	x := exchangeOf(p.Out.Context())
	u := p.Out.URL // a copy of the caller's, all of which is replaced
	*u = *g.upstream
	u.Path += x.path
	u.RawQuery = p.In.URL.RawQuery
	p.Out.Host = u.Host
	p.Out.TransferEncoding, p.Out.Trailer = nil, nil // the body was taken, and is sent anew with its length
	h := p.Out.Header
	for name := range h {
		if private(name) {
			delete(h, name)
		}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // else net/http sets its own
	}
	x.added = time.Since(x.began) - x.waited
}

// private reports whether a header of a caller stays here: what authenticates, what tells of the way, and what a browser adds.
func private(name string) bool {
	switch name {
	case "Authorization", "X-Api-Key", "Api-Key", "Anthropic-Workspace-Id", "Cookie", "Cookie2", "Forwarded", "X-Real-Ip", "Via", "Origin", "Referer",
		"Anthropic-Dangerous-Direct-Browser-Access", "Accept-Encoding", "Expect", "Te", "Trailer", "Content-Length", "Http2-Settings", "Prefer",
		"Traceparent", "Tracestate", "Baggage", "B3",
		"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url":
		return true
	}
	if strings.IndexByte(name, '_') >= 0 {
		return true // some servers read it as "-", so that X_Api_Key would be another key
	}
	return strings.HasPrefix(name, "X-B3-") || strings.HasPrefix(name, "X-Forwarded") || strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "Sec-") || strings.HasPrefix(name, "Cf-")
}

// modify cleans the answer that the caller gets.
func (g *Gateway) modify(res *http.Response) error {
	if res.StatusCode >= 300 && res.StatusCode <= 399 || res.StatusCode < 200 {
		return &refusal{status: http.StatusBadGateway, message: "the upstream's address sends elsewhere", row: "redirect"}
	}
	delete(res.Header, "Set-Cookie")
	delete(res.Header, "Alt-Svc")
	return nil
}

// failed answers for an exchange without an answer of the provider.
func (g *Gateway) failed(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	var refused *refusal
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
	case errors.Is(err, errOverlong), errors.Is(context.Cause(r.Context()), errOverlong):
		refused = &refusal{status: http.StatusGatewayTimeout, message: "the request took too long", row: "overlong"}
	case errors.Is(err, spool.ErrTooLarge), errors.As(err, &tooLarge):
		refused = &refusal{status: http.StatusRequestEntityTooLarge, message: "the request body is too large", row: "too large"}
	case r.Context().Err() != nil:
		x.status, x.row = 499, "hung up"
		panic(http.ErrAbortHandler) // nobody is there to read an answer
	default:
		refused = &refusal{status: http.StatusBadGateway, message: "the provider could not be reached", retryAfter: 2 * time.Second, row: "connection"}
	}
	g.refuse(w, r, x, refused)
}

// refuse writes an answer of the gateway's own, in the provider's form.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, x *exchange, refused *refusal) {
	x.requestID = ""
	own, body := g.words(x, refused)
	h := w.Header()
	if refused.status == http.StatusNoContent {
		w.WriteHeader(refused.status)
		return
	}
	maps.Copy(h, own)
	h.Set("X-Content-Type-Options", "nosniff")
	if x.attempts > 1 {
		h.Set("X-Should-Retry", "false")
	}
	if r.ContentLength != 0 && x.body == nil {
		h.Set("Connection", "close") // the rest of the body is not waited for
	}
	w.WriteHeader(refused.status)
	_, _ = w.Write(body) // a caller that has gone does not read it
}

// finish counts and logs an exchange.
func (g *Gateway) finish(r *http.Request, x *exchange, aborted bool) {
	if aborted && r.Context().Err() != nil && x.status != 499 {
		x.row = "hung up"
	}
	now := time.Now()
	g.metrics.observe(g, x, now.Sub(x.began))
	g.traceEnd(r, x, aborted, now)
	if g.o.Access != nil {
		g.writeAccess(r, x, aborted, now)
	}
}

func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return m
	}
	return "other"
}

// requestIDWord gives an id of the provider, or nothing when it is something else.
func requestIDWord(s string) string {
	if strings.HasPrefix(s, "req_") && object.PlainID(s) {
		return s
	}
	return ""
}

func (g *Gateway) leave() {
	if g.active.Add(-1) == 0 && g.draining.Load() {
		select {
		case g.idle <- struct{}{}:
		default:
		}
	}
}

// Drain lets no new request in and waits until the others have ended, or until ctx is done; then its error is of kind Incomplete.
func (g *Gateway) Drain(ctx context.Context) error {
	g.draining.Store(true)
	for g.active.Load() > 0 {
		select {
		case <-g.idle:
		case <-ctx.Done():
			return fault.Newf(fault.Incomplete, "drain gateway: %d requests have not ended", g.active.Load())
		}
	}
	return nil
}

// health answers /healthz (the process runs) and /readyz (it has a key and takes requests). They tell nothing else and need no identity.
func (g *Gateway) health(w http.ResponseWriter, r *http.Request) {
	if p := identity.PeerOf(r.Context()); r.Method != http.MethodGet && r.Method != http.MethodHead || !p.Unix && !g.hostAllowed(r.Host) {
		http.Error(w, "not served", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Path == "/readyz" && !g.Ready() {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("not ready\n"))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// Ready reports whether requests are taken and at least one key is healthy.
func (g *Gateway) Ready() bool {
	if g.draining.Load() {
		return false
	}
	for _, e := range g.set.Load().entries {
		if e.is(Healthy) {
			return true
		}
	}
	return false
}
