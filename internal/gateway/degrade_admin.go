package gateway

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/queue"
)

// adminDegraded adds to the status socket what an operator does in degraded mode. Client speaks it.
func (g *Gateway) adminDegraded(mux *http.ServeMux) {
	mux.HandleFunc("POST /degrade", func(w http.ResponseWriter, r *http.Request) {
		var until time.Time
		q := r.URL.Query()
		if text := q.Get("until"); text != "" {
			var err error
			if until, err = time.Parse(time.RFC3339, text); err != nil {
				reply(w, nil, fault.New(fault.Invalid, "degrade: its end is no time"))
				return
			}
		}
		err := g.Declare(r.Context(), q.Get("reason"), until)
		reply(w, g.PublicStatus(), err)
	})
	mux.HandleFunc("POST /restore", func(w http.ResponseWriter, r *http.Request) {
		err := g.Restore(r.Context())
		reply(w, g.PublicStatus(), err)
	})
	mux.HandleFunc("GET /queue", func(w http.ResponseWriter, _ *http.Request) { reply(w, g.QueueList(), g.needQueue()) })
	mux.HandleFunc("GET /queue/{id}", func(w http.ResponseWriter, r *http.Request) {
		t, err := g.QueueTicket(r.PathValue("id"))
		reply(w, t, err)
	})
	mux.HandleFunc("DELETE /queue/{id}", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, g.QueueDrop(r.Context(), r.PathValue("id")))
	})
}

func (g *Gateway) needQueue() error {
	if g.queue.q == nil {
		return fault.New(fault.Unsupported, "ask queue: this gateway has none")
	}
	return nil
}

// QueueList gives what is in the queue, in the order of its coming. It holds no content; without a queue it is empty.
func (g *Gateway) QueueList() []queue.Ticket {
	if g.queue.q == nil {
		return []queue.Ticket{}
	}
	return g.queue.q.List()
}

// QueueTicket gives one entry. Kinds: Unsupported (there is no queue), NotFound.
func (g *Gateway) QueueTicket(id string) (queue.Ticket, error) {
	if err := g.needQueue(); err != nil {
		return queue.Ticket{}, err
	}
	t, ok := g.queue.q.Get(id)
	if !ok {
		return t, fault.New(fault.NotFound, "ask queue: there is no such entry")
	}
	return t, nil
}

// QueueDrop erases an entry, whatever its state. Kinds: Unsupported (there is no queue), NotFound, those of the ledger.
func (g *Gateway) QueueDrop(ctx context.Context, id string) error {
	if err := g.needQueue(); err != nil {
		return err
	}
	return g.queue.q.Drop(ctx, id)
}

// Degrade declares degraded mode; see Gateway.Declare.
func (c *Client) Degrade(ctx context.Context, reason string, until time.Time) (s PublicStatus, err error) {
	q := url.Values{"reason": {reason}}
	if !until.IsZero() {
		q.Set("until", until.UTC().Format(time.RFC3339))
	}
	err = c.ask(ctx, http.MethodPost, "/degrade", q, nil, &s)
	return s, said(err, fault.Invalid, "degrade: the gateway takes neither an empty reason, nor one of more than 200 characters, nor an end that has passed")
}

// Restore ends a declared degradation; see Gateway.Restore.
func (c *Client) Restore(ctx context.Context) (s PublicStatus, err error) {
	err = c.ask(ctx, http.MethodPost, "/restore", nil, nil, &s)
	return s, said(err, fault.NotFound, "restore: no degradation is declared, or the way back has begun")
}

// Queue is Gateway.QueueList. A gateway without a queue is Unsupported.
func (c *Client) Queue(ctx context.Context) (list []queue.Ticket, err error) {
	return list, noQueue(c.ask(ctx, http.MethodGet, "/queue", nil, nil, &list))
}

// Ticket is Gateway.QueueTicket.
func (c *Client) Ticket(ctx context.Context, id string) (t queue.Ticket, err error) {
	return t, noQueue(c.ask(ctx, http.MethodGet, "/queue/"+url.PathEscape(id), nil, nil, &t))
}

// Drop is Gateway.QueueDrop.
func (c *Client) Drop(ctx context.Context, id string) error {
	return noQueue(c.ask(ctx, http.MethodDelete, "/queue/"+url.PathEscape(id), nil, nil, nil))
}

func noQueue(err error) error {
	err = said(err, fault.NotFound, "ask queue: there is no such entry", fault.Hint("keywright gateway queue list"))
	return said(err, fault.Unsupported, "ask queue: this gateway has none", fault.Hint("start it with --queue, or configure gateway.queue"))
}

// said gives an error of a kind the words that fit the call.
func said(err error, kind fault.Kind, words string, o ...fault.Option) error {
	if !fault.Is(err, kind) {
		return err
	}
	return fault.New(kind, words, o...)
}
