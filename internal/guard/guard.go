// Package guard stands between a vendor's library and its HTTP transport, where httpx cannot take the library's place: the text of a refusal
// never reaches the library, which would put it into an error, and what becomes of a call has a kind. It never sends, repeats or redirects
// anything on its own account, and decides nothing about keys. Connectors call it.
package guard

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// maxBody bounds what is read of a refusal.
const maxBody = 64 << 10

// maxWait bounds how long a peer can ask to wait.
const maxWait = time.Hour

// Transport replaces refusals by *Refusal and failed exchanges by *Lost, so that the library behind it repeats nothing and quotes nothing.
// It is as safe for concurrent use as Next.
type Transport struct {
	// Next makes the call.
	Next http.RoundTripper
	// Peer words what is lost.
	Peer Peer
	// Accept lists statuses that are no refusal, besides those below 300.
	Accept []int
	// Read may take words that a program acts on from the body of a refusal, which is bounded. Nil reads no body.
	Read func(body []byte, r *Refusal)
}

var _ http.RoundTripper = (*Transport)(nil)

// Client gives a client of t that follows no redirect.
func (t *Transport) Client() *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}
	resp, err := t.Next.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	switch {
	case err != nil:
		return nil, t.Peer.lost(err, sent.Load())
	case resp.StatusCode < 300 || slices.Contains(t.Accept, resp.StatusCode):
		return resp, nil
	}
	defer resp.Body.Close()
	r := &Refusal{Code: resp.StatusCode}
	if t.Read != nil {
		if body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody)); err == nil {
			t.Read(body, r)
		}
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		r.RetryAfter = time.Duration(min(seconds, int(maxWait/time.Second))) * time.Second
	}
	r.RetryAfter = max(0, min(r.RetryAfter, maxWait))
	return nil, r
}

// Refusal is a reply that is no success, of which only the code and the words that a program may act on are kept.
type Refusal struct {
	Code int
	// Reason is a word that Read took from the body; it is compared, never shown.
	Reason     string
	RetryAfter time.Duration // 0 to an hour
}

// Error names the code alone.
func (r *Refusal) Error() string { return "status " + strconv.Itoa(r.Code) }

// Lost says that no complete reply came. It unwraps to the error of a context that ended, or to nothing: errors of protocols may contain
// what the other side sent.
type Lost struct {
	what   string
	cause  error
	sent   bool // the request may have reached the peer
	denied bool // this user may not open the peer's socket
}

// Error says what happened to the connection, in words of our own.
func (l *Lost) Error() string { return l.what }

// Unwrap gives the error of the context that ended, or nil.
func (l *Lost) Unwrap() error { return l.cause }

// Peer words the errors of calls to one sort of peer.
type Peer struct {
	// Name is what the peer is called in a sentence, such as "the engine".
	Name string
	// Reach is the hint for a peer that cannot be reached; Denied the one for a socket that this user may not open, or empty for a peer
	// without a socket; Log the one for a peer that failed, or empty.
	Reach, Denied, Log string
	// Refused gives a kind, a text and a hint to the refusals that speak of the call: never 429, 3xx or 5xx.
	Refused func(r *Refusal) (kind fault.Kind, text, hint string)
}

func (p Peer) lost(err error, sent bool) *Lost {
	op, ok := errors.AsType[*net.OpError](err)
	l := &Lost{cause: ended(err), sent: sent, denied: p.Denied != "" && errors.Is(err, os.ErrPermission)}
	_, unknown := errors.AsType[*net.DNSError](err)
	switch {
	case l.denied:
		l.what = "this user may not use the socket of " + p.Name
	case unknown && l.cause == nil:
		l.what = "the name of " + p.Name + " cannot be looked up"
	case ok && op.Op == "dial":
		l.what = "no connection to " + p.Name
	case l.cause != nil:
		l.what = l.cause.Error()
	default:
		l.what = "the connection to " + p.Name + " was lost"
	}
	return l
}

// ended gives the error of the context that is in err, or nil.
func ended(err error) error {
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			return cause
		}
	}
	return nil
}

// Explain gives an error of a call its kind and begins it with what, a verb and its object; nil stays nil. write is true for calls that change
// something: a reply that did not come, or that says that the peer failed, leaves open whether the change was made.
func (p Peer) Explain(what string, err error, write bool) error {
	if err == nil {
		return nil
	}
	if r, ok := errors.AsType[*Refusal](err); ok {
		return p.refused(what, r, write)
	}
	if l, ok := errors.AsType[*Lost](err); ok {
		switch {
		case l.denied:
			return fault.Wrap(fault.Forbidden, l, what, fault.Hint("%s", p.Denied))
		case l.sent && write:
			return fault.Wrap(fault.Indeterminate, l, what)
		case errors.Is(l, context.Canceled):
			return fault.Wrap(fault.Canceled, l, what)
		}
		return fault.Wrap(fault.Unavailable, l, what, fault.Hint("%s", p.Reach))
	}
	// What is left was found behind the headers of a reply: it was cut, or is not what the API promises.
	kind := fault.Unavailable
	if write {
		kind = fault.Indeterminate
	}
	if cause := ended(err); cause != nil {
		if !write && errors.Is(cause, context.Canceled) {
			kind = fault.Canceled
		}
		return fault.Wrap(kind, cause, what)
	}
	return fault.New(kind, what+": the reply was cut or cannot be read")
}

func (p Peer) refused(what string, r *Refusal, write bool) error {
	var kind fault.Kind
	text, hint := p.Name+" answers with "+r.Error(), p.Log
	switch {
	case r.Code == http.StatusTooManyRequests:
		kind, text, hint = fault.RateLimited, p.Name+" asks to wait", ""
	case r.Code == http.StatusServiceUnavailable, r.Code >= 500 && !write, r.Code >= 300 && r.Code < 400:
		kind = fault.Unavailable
	case r.Code >= 500:
		kind = fault.Indeterminate
	default:
		kind, text, hint = p.Refused(r)
	}
	return fault.New(kind, what+": "+text, fault.RetryAfter(r.RetryAfter), fault.Hint("%s", hint))
}
