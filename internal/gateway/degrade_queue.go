package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/gateway/queue"
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
func (g *Gateway) queueable(r *http.Request, x *exchange, caller identity.Caller) bool {
	return g.queue.q != nil && wantsAsync(r.Header["Prefer"]) && caller.Proof != "" && x.route.name == "messages" && !x.stream && x.body.Replayable() && x.body.Size() <= g.queue.o.Body
}

// queuedHeaders go to the provider with a queued request. Nothing in them says who the caller is.
var queuedHeaders = []string{"Content-Type", "Accept", "Anthropic-Version", "Anthropic-Beta", "User-Agent", "X-Claude-Code-Session-Id"}

// enqueue keeps a request that its caller does not wait for, and answers where to ask for the result.
func (g *Gateway) enqueue(w http.ResponseWriter, r *http.Request, x *exchange, caller identity.Caller) *refusal {
	key := ""
	if keys := r.Header["Idempotency-Key"]; len(keys) > 0 {
		if key = keys[0]; len(keys) > 1 || key == "" || len(key) > maxIdempotencyKey {
			return &refusal{status: http.StatusBadRequest, message: "the idempotency key is empty, too long or stands twice", row: "idempotency key"}
		}
	}
	in := x.body.Reader()
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
		if p := identity.PeerOf(r.Context()); r.Method != http.MethodGet && r.Method != http.MethodHead || !p.Unix && !g.hostAllowed(r.Host) {
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
	p := identity.PeerOf(r.Context())
	if refused := g.checkBrowser(w, r, p); refused != nil {
		return refused
	}
	missing := &refusal{status: http.StatusNotFound, errorType: "not_found_error", message: "there is no such request in the queue", row: "queue"}
	id, ok := strings.CutPrefix(r.URL.Path, queuePath)
	if !ok || !object.PlainID(id) {
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
	if !ok || t.App != caller.App || !caller.MayRoute("messages") {
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
