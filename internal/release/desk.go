package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/handover"

	"github.com/keywright/keywright/internal/apikey"
)

// Caller is who asks, as the listener vouches for it.
type Caller struct {
	// Name stands in the audit log.
	Name string
	// Way is "socket" or "mutual TLS".
	Way string
	// Reader is the name in the seal.
	Reader string
	// To is the public X25519 key to seal to; nil takes the one of the request.
	To []byte
	// May says whether this caller is listed for a key.
	May func(key apikey.Name) bool
}

// maxOpen bounds requests at a time: each may wait for most of a minute.
const maxOpen = 1024

// Desk answers requests for values. It is safe for concurrent use; make it with NewDesk.
type Desk struct {
	book *Book
	who  func(r *http.Request) (Caller, error)
	open chan struct{}
	stop <-chan struct{}
}

// NewDesk makes a Desk that asks who about every request. Requests that wait are answered as soon as stop is closed.
func NewDesk(book *Book, stop <-chan struct{}, who func(r *http.Request) (Caller, error)) *Desk {
	return &Desk{book: book, who: who, open: make(chan struct{}, maxOpen), stop: stop}
}

// Answer is the whole of POST handover.Path. Kinds: Invalid, Forbidden, NotFound (no version in use), RateLimited, and those of the store and
// custody.
func (d *Desk) Answer(r *http.Request) (any, error) {
	select {
	case d.open <- struct{}{}:
		defer func() { <-d.open }()
	default:
		return nil, fault.New(fault.RateLimited, "release value: too many requests wait", fault.RetryAfter(time.Second))
	}
	c, err := d.who(r)
	if err != nil {
		return nil, err
	}
	var in handover.Request
	dec := json.NewDecoder(io.LimitReader(r.Body, handover.MaxBody))
	dec.DisallowUnknownFields()
	if dec.Decode(&in) != nil || !in.Key.Valid() || in.Wait < 0 {
		return nil, fault.New(fault.Invalid, "read request: it is not the JSON object that was expected")
	}
	// Who is not listed learns nothing, not even whether there is such a key.
	if !c.May(in.Key) {
		return nil, fault.New(fault.Forbidden, fmt.Sprintf("release %s: %s is not listed as its reader", in.Key, c.Name), fault.Hint("list it under readers of the key in keywright.yaml"))
	}
	to := c.To
	if to == nil {
		to = in.To
	}
	return d.release(r.Context(), c, in, to)
}

func (d *Desk) release(ctx context.Context, c Caller, in handover.Request, to []byte) (*handover.Reply, error) {
	s, err := d.await(ctx, in)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		switch {
		case s.Why != nil:
			return nil, s.Why
		case s.Generation <= in.Have:
			return &handover.Reply{Key: in.Key, Generation: s.Generation}, nil
		}
		v, err := d.book.Take(ctx, Access{Key: in.Key, Version: s.Version, Reader: c.Name, Way: c.Way, Generation: s.Generation})
		if errors.Is(err, errMoved) && try < 3 {
			if s, err = d.book.Standing(ctx, in.Key); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		sealed, err := handover.Seal(to, handover.Binding{Reader: c.Reader, Key: in.Key, Generation: s.Generation}, v)
		v.Destroy()
		if err != nil {
			return nil, err
		}
		return &handover.Reply{Key: in.Key, Generation: s.Generation, Fingerprint: s.Fingerprint, Sealed: sealed, Denied: s.Denied}, nil
	}
}

// await gives the standing now, or within the wait that the request allows the next one.
func (d *Desk) await(ctx context.Context, in handover.Request) (Standing, error) {
	wait := min(time.Duration(min(in.Wait, 3600))*time.Second, handover.MaxWait)
	if wait == 0 || in.Have == 0 {
		return d.book.Standing(ctx, in.Key)
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	go func() {
		select {
		case <-d.stop:
			cancel()
		case <-waiting.Done():
		}
	}()
	s, err := d.book.Wait(waiting, in.Key, in.Have)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return d.book.Standing(ctx, in.Key) // the wait is over, and nothing has changed
	}
	return s, err
}
