package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/gateway/inspect"
	"github.com/keywright/keywright/internal/gateway/ledger"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/gateway/spool"
)

// keeper is the RoundTripper in front of the engine: it sees whose the objects in an answer are, before the caller sees them. Everything else
// it lets through.
type keeper Gateway

var _ http.RoundTripper = (*keeper)(nil)

// RoundTrip serves the exchange of the request's context, as the engine does.
func (k *keeper) RoundTrip(out *http.Request) (*http.Response, error) {
	g, x := (*Gateway)(k), exchangeOf(out.Context())
	if x == nil || x.route.kind == "" && !x.claims {
		return (*engine)(g).RoundTrip(out)
	}
	switch {
	case x.route.does == doesList:
		return g.list(out, x)
	case x.ask:
		if res, err := g.askPublished(out, x); res != nil || err != nil {
			return res, err
		}
	}
	res, err := (*engine)(g).RoundTrip(out)
	if err != nil {
		return nil, err
	}
	kept, err := g.keep(out.Context(), res, x)
	if err != nil {
		res.Body.Close()
		return nil, err
	}
	return kept, nil
}

// The largest answers that are read whole: one object, and one message.
const (
	maxObject  = 1 << 20
	maxMessage = 64 << 20
)

// keep records what an answer makes, and forgets what it ends.
func (g *Gateway) keep(ctx context.Context, res *http.Response, x *exchange) (*http.Response, error) {
	if !fine(res.StatusCode) {
		if x.route.does == doesDelete && res.StatusCode == http.StatusNotFound && x.bound != nil && *x.bound == x.at {
			g.forget(ctx, x.object)
		}
		return res, nil
	}
	switch x.route.does {
	case doesMake:
		return g.keepMade(ctx, res, x)
	case doesShow, doesChange:
		if x.route.kind == object.Batch {
			b, err := whole(res, maxObject)
			if err != nil {
				return nil, err
			}
			return replaced(res, object.Readdress(b, x.origin)), nil
		}
	case doesRead:
		if x.route.kind == object.Batch {
			res.Body = &claimingLines{ReadCloser: res.Body, g: g, x: x, ctx: ctx, bill: g.bill(x)}
		}
	case doesDelete:
		g.forget(ctx, x.object)
	case doesNothing:
		if x.claims && !events(res.Header) { // of a stream each event is looked at where it passes
			b, err := whole(res, maxMessage)
			if err != nil {
				return nil, err
			}
			g.claim(ctx, x, b)
			return replaced(res, b), nil
		}
	}
	return res, nil
}

// keepMade records a new object. When that fails the caller gets an error: it could not use what nobody knows to be its own.
func (g *Gateway) keepMade(ctx context.Context, res *http.Response, x *exchange) (*http.Response, error) {
	b, err := whole(res, maxObject)
	if err != nil {
		return nil, err
	}
	made, ok := object.Made(b)
	if !ok {
		return nil, &refusal{status: http.StatusBadGateway, message: "the provider's answer has no id of what it made", row: "no id"}
	}
	o := x.owned(x.route.kind, made.ID, made.Created)
	if x.route.kind == object.File {
		o.Expires = made.Expires
	}
	// The caller may hang up now; the object is there all the same.
	if err := g.owners.Own(context.WithoutCancel(ctx), o); err != nil {
		g.log.Error("a new object was not recorded, and nobody can use it", "kind", o.Kind, "id", o.ID, "app", o.App, "error", err)
		return nil, &refusal{status: http.StatusServiceUnavailable, message: "the gateway cannot record whose the new " + o.Kind + " is", row: "ledger"}
	}
	if x.route.kind == object.Batch {
		if c := x.reserved.batch; c != nil && x.reserved.cost > 0 {
			c.app, c.day, c.cost = x.app.name, x.reserved.day, x.reserved.cost
			g.batches.put(made.ID, *c)
		}
		b = object.Readdress(b, x.origin)
	}
	return replaced(res, b), nil
}

func (x *exchange) owned(kind, id string, created time.Time) ledger.Object {
	if created.IsZero() {
		created = time.Now()
	}
	return ledger.Object{ID: id, Kind: kind, App: x.app.name, Organization: x.at.organization, Workspace: x.at.workspace, Created: created}
}

func (g *Gateway) forget(ctx context.Context, id string) {
	if err := g.owners.Forget(context.WithoutCancel(ctx), id); err != nil {
		// It is at nobody's disposal: the provider answers 404 for it.
		g.log.Warn("a deleted object was not removed from the ledger", "error", err)
	}
}

// whole reads an answer and closes it.
func whole(res *http.Response, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	res.Body.Close()
	switch {
	case err != nil:
		return nil, &refusal{status: http.StatusBadGateway, message: "the provider broke its answer off", row: "cut"}
	case int64(len(b)) > most:
		return nil, &refusal{status: http.StatusBadGateway, message: "the provider's answer is too large", row: "large answer"}
	}
	return b, nil
}

// replaced gives an answer with another body.
func replaced(res *http.Response, b []byte) *http.Response {
	res.Body = io.NopCloser(bytes.NewReader(b))
	res.ContentLength = int64(len(b))
	res.Header.Set("Content-Length", strconv.Itoa(len(b)))
	res.TransferEncoding = nil
	return res
}

// threadLife is how long it is remembered whose a conversation is that was not gone on with. The provider does not say how long it keeps one.
const threadLife = 90 * 24 * time.Hour

// claimed lists what a text names, a message, an event's data or a line, as the application's own.
func claimed(x *exchange, b []byte) []ledger.Object {
	found := object.In(b, x.thread)
	if len(found) == 0 {
		return nil
	}
	all := make([]ledger.Object, len(found))
	for i, f := range found {
		all[i] = x.owned(f.Kind, f.ID, time.Time{})
		if all[i].Expires = f.Expires; f.Kind == object.Thread {
			all[i].Expires = time.Now().Add(threadLife)
		}
	}
	return all
}

// claim records what an answer names. When that fails the answer still goes on, since it was paid for; what it names stays unknown.
func (g *Gateway) claim(ctx context.Context, x *exchange, b []byte) {
	g.own(ctx, claimed(x, b))
}

func (g *Gateway) own(ctx context.Context, all []ledger.Object) {
	if len(all) == 0 {
		return
	}
	if err := g.owners.Own(context.WithoutCancel(ctx), all...); err != nil {
		g.log.Error("the objects of an answer were not recorded, and nobody can use them", "app", all[0].App, "error", err)
	}
}

// claimingLines passes the results of a batch on, whole lines only, after what they name was recorded.
type claimingLines struct {
	io.ReadCloser
	g   *Gateway
	x   *exchange
	ctx context.Context //nolint:containedctx // The request's, which ends with the answer.

	bill *batchBill // nil when there is nothing to settle

	buf   []byte // whole lines up to ready, then the start of one
	ready int
	err   error
}

func (c *claimingLines) Read(p []byte) (int, error) {
	for c.ready == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.fill()
	}
	n := copy(p, c.buf[:c.ready])
	c.ready -= n
	c.buf = c.buf[:copy(c.buf, c.buf[n:])]
	return n, nil
}

func (c *claimingLines) fill() {
	if len(c.buf) == cap(c.buf) {
		c.buf = append(make([]byte, 0, max(2*cap(c.buf), 64<<10)), c.buf...)
	}
	n, err := c.ReadCloser.Read(c.buf[len(c.buf):cap(c.buf)])
	fresh := len(c.buf)
	c.buf = c.buf[:fresh+n]
	end := 0
	if i := bytes.LastIndexByte(c.buf[fresh:], '\n'); i >= 0 {
		end = fresh + i + 1
	}
	switch {
	case errors.Is(err, io.EOF):
		c.err, end = io.EOF, len(c.buf)
	case err != nil:
		c.err = err
	case end == 0 && len(c.buf) > maxMessage:
		c.err = spool.ErrTooLarge
	}
	var all []ledger.Object
	for line := range bytes.Lines(c.buf[:end]) {
		all = append(all, claimed(c.x, line)...)
		if c.bill != nil {
			c.bill.line(line)
		}
	}
	if c.bill != nil && errors.Is(c.err, io.EOF) {
		c.bill.end()
	}
	c.g.own(c.ctx, all)
	c.ready = end
}

// unseen is the rest of a body that there was no room to keep and so to look at before it is sent. It breaks off, before the provider has all of it,
// when it names an object or cannot be read.
type unseen struct {
	io.ReadCloser
	l *inspect.Body
}

func (u *unseen) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	known, server, thread := len(u.l.Named), u.l.Server, u.l.Thread
	_, _ = u.l.Write(p[:n])
	if len(u.l.Named) != known || u.l.Server != server || u.l.Thread != thread || u.l.Odd || u.l.Failed() {
		return 0, &refusal{status: http.StatusServiceUnavailable, message: "there is no room for the request body", retryAfter: retrial, row: "no room"}
	}
	return n, err
}

// checkContentType refuses a body that the provider could read in another way than the gateway does.
func checkContentType(r *route, header string) *refusal {
	if !r.inspect && !r.form || r.inspect && (header == "" || header == "application/json") {
		return nil
	}
	kind, params, err := mime.ParseMediaType(header)
	switch {
	case err != nil:
	case r.inspect && kind == "application/json" && strings.EqualFold(cmp.Or(params["charset"], "utf-8"), "utf-8"):
		return nil
	case r.form && kind == "multipart/form-data" && params["boundary"] != "":
		return nil
	}
	return &refusal{status: http.StatusBadRequest, message: "the Content-Type is not one that this path takes", row: "content type"}
}

// watch notes whether a connection was had: without one the provider cannot have acted.
func (x *exchange) watch(req *http.Request) *http.Request {
	x.carried = false
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { x.carried = true }}))
}

// repeatable reports whether a request that must act once may be sent again after an attempt: after a refusal of the key or of the rate, and when
// no connection was had.
func (x *exchange) repeatable(res *http.Response) bool {
	if res == nil {
		return !x.carried
	}
	return res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusTooManyRequests
}
