package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/gateway/wire"
	"github.com/keywright/keywright/internal/verdict"
)

// chunk is the result of one read.
type chunk struct {
	b   []byte
	err error
}

// gate holds a stream back until its first content, so that an error before it can still become another attempt. At the bound of bytes or
// time it lets go, and from then on there is no way back. The outcome is that of an error event's type, or of a broken connection.
func (g *Gateway) gate(ctx context.Context, res *http.Response, x *exchange, now time.Time) (*http.Response, verdict.Outcome, error) {
	s := &stream{ctx: ctx, body: res.Body, x: x, g: g}
	fine := verdict.Judge(verdict.Answer{Status: http.StatusOK}, now)
	timer := time.NewTimer(g.o.GateTime)
	defer timer.Stop()
	released := func() (*http.Response, verdict.Outcome, error) {
		x.first = time.Since(x.began)
		res.Body = s
		res.ContentLength = -1
		res.Header.Del("Content-Length")
		return res, fine, nil
	}
	reads := make(chan chunk, 1)
	for {
		go func() { reads <- s.fetch() }()
		select {
		case c := <-reads:
			s.buf = append(s.buf, c.b...)
			s.fault = c.err
		case <-timer.C:
			s.pending = reads
			return released()
		case <-ctx.Done():
			res.Body.Close()
			return nil, verdict.Outcome{}, context.Cause(ctx)
		}
		switch k, data := s.sift(); {
		case k == wire.EventError:
			errorType, code, message, shaped := verdict.ParseError(data)
			a := verdict.Answer{Status: verdict.StatusOf(errorType), Type: errorType, Code: code, Message: message, Shaped: shaped, RetryAfter: verdict.RetryAfter(res.Header.Get, now)}
			res.Body.Close()
			return g.plain(res, a, data), verdict.Judge(a, time.Now()), nil
		case k == wire.EventContent || k == wire.EventStop:
			return released()
		case s.fault != nil:
			if ctx.Err() != nil {
				res.Body.Close()
				return nil, verdict.Outcome{}, context.Cause(ctx)
			}
			res.Body.Close()
			return nil, verdict.Judge(verdict.Answer{}, time.Now()), errCut
		case s.ready+len(s.buf) >= g.o.GateBytes:
			return released()
		}
	}
}

// plain makes the answer for a held error that is given up on: the status that belongs to it, and the provider's own text.
func (g *Gateway) plain(res *http.Response, a verdict.Answer, data []byte) *http.Response {
	h := res.Header.Clone()
	h.Del("Content-Length")
	h.Set("Content-Type", "application/json")
	if !a.Shaped {
		data = wire.ErrorJSON("api_error", "keywright gateway: the provider sent an error of an unknown form", "")
	}
	body := append([]byte(nil), data...)
	return &http.Response{
		StatusCode: a.Status, Proto: res.Proto, ProtoMajor: res.ProtoMajor, ProtoMinor: res.ProtoMinor, Header: h, Request: res.Request,
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
}

// stream gives the events of an answer on, whole ones only, so that a cut never ends inside of one, and puts an error event where the
// upstream broke off.
type stream struct {
	g    *Gateway
	ctx  context.Context //nolint:containedctx // The request's, which ends with the stream.
	x    *exchange
	body io.ReadCloser

	buf     []byte // whole events up to ready, then the start of one
	ready   int
	scanned int
	fault   error // why there is no more; io.EOF for a clean end
	done    bool  // the error event, or the end, is in buf
	whole   bool  // message_stop or an error event was seen
	pending chan chunk
	scratch []byte
	closed  sync.Once
}

// maxEvent bounds what is held of one event.
const maxEvent = 16 << 20

// fetch reads once from the upstream. It must not run twice at a time.
func (s *stream) fetch() chunk {
	if s.scratch == nil {
		s.scratch = make([]byte, 8<<10)
	}
	n, err := s.body.Read(s.scratch)
	return chunk{s.scratch[:n], err}
}

// sift moves ready behind the last whole event. It gives the first event that the gate waits for, with its data if it is an error; the
// gate stops there.
func (s *stream) sift() (found wire.Kind, data []byte) {
	for {
		n := wire.EventEnd(s.buf[s.ready:], s.scanned)
		if n == 0 {
			s.scanned = len(s.buf) - s.ready
			return found, data
		}
		s.scanned = 0
		e := s.buf[s.ready : s.ready+n]
		k := wire.KindOf(e)
		if s.x.claims && (k == wire.EventStart || k == wire.EventDelta || k == wire.EventOther) {
			s.g.claim(s.ctx, s.x, wire.Field(e, "data"))
		}
		switch k {
		case wire.EventStart, wire.EventDelta:
			s.x.usage.Read(e)
		case wire.EventStop:
			s.whole = true
		case wire.EventError:
			s.whole = true
			if found == wire.EventOther {
				data = wire.Field(e, "data")
			}
		case wire.EventContent, wire.EventOther:
		}
		if found == wire.EventOther && (k == wire.EventContent || k == wire.EventStop || k == wire.EventError) {
			found = k
		}
		s.ready += n
	}
}

// Read gives whole events.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.ready > 0 {
			n := copy(p, s.buf[:s.ready])
			s.ready -= n
			s.buf = s.buf[:copy(s.buf, s.buf[n:])]
			return n, nil
		}
		if s.done {
			return 0, io.EOF
		}
		if s.fault != nil {
			if err := s.end(); err != nil {
				return 0, err
			}
			continue
		}
		var c chunk
		if s.pending != nil {
			c = <-s.pending
			s.pending = nil
		} else {
			c = s.fetch()
		}
		s.buf = append(s.buf, c.b...)
		s.fault = c.err
		if s.sift(); len(s.buf)-s.ready > maxEvent {
			s.fault = errCut
		}
	}
}

// end decides how the stream ends. What stands in buf is the start of an event that never became whole.
func (s *stream) end() error {
	if s.whole && s.fault == io.EOF { //nolint:errorlint // Readers give io.EOF as it is.
		s.done = true
		return nil
	}
	if errors.Is(s.ctx.Err(), context.Canceled) {
		return context.Cause(s.ctx) // the caller has gone
	}
	if !s.whole {
		s.x.cut = true
		s.g.metrics.cuts.Add(1)
		s.buf = append(s.buf[:0], wire.ErrorEvent("api_error", "keywright gateway: the provider broke the stream off before its end")...)
		s.ready = len(s.buf)
	}
	s.done = true
	return nil
}

// Close ends the stream at the upstream too.
func (s *stream) Close() error {
	var err error
	s.closed.Do(func() { err = s.body.Close() })
	return err
}

// heldBody is the body of the answer that the caller gets. It holds the key until it is closed, and reads the usage of an answer that is no
// stream out of its end.
type heldBody struct {
	io.ReadCloser
	g     *Gateway
	state *keyState
	x     *exchange
	sniff bool
	tail  *tail // nil until something has come
	once  sync.Once
}

// tail is the end of an answer: its usage object stands there.
type tail struct {
	n int
	b [2 << 10]byte
}

// tails lends them.
var tails = sync.Pool{New: func() any { return new(tail) }}

// add puts p behind what is there, and drops from its front what is too much.
func (t *tail) add(p []byte) {
	if len(p) >= len(t.b) {
		t.n = copy(t.b[:], p[len(p)-len(t.b):])
		return
	}
	if over := t.n + len(p) - len(t.b); over > 0 {
		t.n = copy(t.b[:], t.b[over:t.n])
	}
	t.n += copy(t.b[t.n:], p)
}

func (h *heldBody) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if h.sniff && n > 0 {
		if h.tail == nil {
			h.tail = tails.Get().(*tail)
			h.tail.n = 0
		}
		h.tail.add(p[:n])
	}
	return n, err
}

func (h *heldBody) Close() error {
	err := h.ReadCloser.Close()
	h.once.Do(func() {
		if h.tail != nil {
			h.x.usage.Read(h.tail.b[:h.tail.n])
			tails.Put(h.tail)
			h.tail = nil
		}
		h.g.release(h.state)
	})
	return err
}
