package location

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// grace is how long a driver may take to return after its context ended, before it is left behind.
const grace = 200 * time.Millisecond

// op is one sort of call: its verb, and whether it changes something outside.
type op struct {
	verb    string
	changes bool
	turn    *turn
}

func ask(verb string) op    { return op{verb: verb} }
func change(verb string) op { return op{verb: verb, changes: true} }

// call runs one method of the driver in its own goroutine, bounded in time and number. A driver that does not return
// after its context ended is left behind: the result it may still give is dropped, its slot stays taken, and so does the turn.
func call[T any](ctx context.Context, l *Location, o op, v secret.Value, f func(context.Context) (T, error)) (T, error) {
	var zero T
	bounded, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	if err := bounded.Err(); err != nil {
		return zero, l.unsent(ctx, o)
	}
	select {
	case l.slots <- struct{}{}:
	case <-bounded.Done():
		return zero, l.unsent(ctx, o)
	}

	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	o.turn.hold()
	go func() {
		defer func() { <-l.slots; o.turn.release() }()
		value, err := guarded(bounded, f)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, l.explain(bounded, o, v, r.err)
	case <-bounded.Done():
	}
	patience := time.NewTimer(grace)
	defer patience.Stop()
	select {
	case r := <-done:
		return r.value, l.explain(bounded, o, v, r.err)
	case <-patience.C:
		return zero, l.explain(bounded, o, v, fmt.Errorf("the connector did not stop: %w", bounded.Err()))
	}
}

// nothing makes a method that gives only an error fit for call.
func nothing(f func(context.Context) error) func(context.Context) (struct{}, error) {
	return func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) }
}

var errPanicked = errors.New("the connector panicked")

// guarded turns a panic into an error. The text of the panic is shown only when the Go runtime wrote it.
func guarded[T any](ctx context.Context, f func(context.Context) (T, error)) (value T, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case runtime.Error:
			err = fault.Wrap(fault.Unknown, errPanicked, p.Error())
		default:
			err = fault.Wrap(fault.Unknown, errPanicked, fmt.Sprintf("%T", p))
		}
	}()
	return f(ctx)
}

// unsent is the error of a call that never began.
func (l *Location) unsent(ctx context.Context, o op) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fault.Newf(fault.Canceled, "%s %s: stopped before it began", o.verb, l.name)
	}
	return fault.New(fault.Unavailable, fmt.Sprintf("%s %s: no time was left before it began", o.verb, l.name),
		fault.Hint("an earlier call of this location may still be running"))
}

// explain gives an error of a driver its final form: kind, verb, name, and no value.
func (l *Location) explain(ctx context.Context, o op, v secret.Value, err error) error {
	if err == nil {
		return nil
	}
	_, classified := errors.AsType[*fault.Error](err)
	kind := fault.KindOf(err)
	// An error that carries the end of a context says that the driver was interrupted, whatever kind it was given on the way.
	if interrupted := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded); interrupted && (ctx.Err() != nil || !classified) {
		switch {
		case o.changes:
			kind = fault.Indeterminate
		case errors.Is(ctx.Err(), context.Canceled):
			kind = fault.Canceled
		default:
			kind = fault.Unavailable
		}
	}
	message := o.verb + " " + l.name
	if errorCarries(err, v) {
		return fault.New(kind, message+": its error text is withheld, since it contained a value", fault.RetryAfter(fault.RetryAfterOf(err)),
			fault.Hint("this is a defect of the connector %s", l.kind))
	}
	return fault.Wrap(kind, err, message)
}

// turn is the right to change the place. It ends when the method that took it and every call made under it have ended, so that
// a driver left behind keeps others from changing the place. A nil turn is held by nobody.
type turn struct {
	holders atomic.Int32
	end     func()
}

func (l *Location) takeTurn(ctx context.Context, o op) (*turn, error) {
	if ctx.Err() != nil {
		return nil, l.unsent(ctx, o)
	}
	bounded, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	select {
	case l.changing <- struct{}{}:
	case <-bounded.Done():
		return nil, l.unsent(ctx, o)
	}
	t := &turn{end: func() { <-l.changing }}
	t.hold()
	return t, nil
}

func (t *turn) hold() {
	if t != nil {
		t.holders.Add(1)
	}
}

func (t *turn) release() {
	if t != nil && t.holders.Add(-1) == 0 {
		t.end()
	}
}
