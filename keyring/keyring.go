// Package keyring gives a Go program the key that it should use now, so that the program neither keeps nor loses one: values are read from a
// source, kept for a while, refreshed ahead of time without making anybody wait, and read anew when the provider refuses one.
//
//	ring, err := keyring.New(keyring.File("/run/secrets/anthropic"))
//	client := anthropic.NewClient(option.WithHTTPClient(ring.Client()), option.WithAPIKey("keyring"))
//
// It never writes, logs or prints a value, never sends one to a host that was not named, never reads the environment unless told to, and
// imports nothing of Keywright's daemon. Programs call it; behind the Keywright gateway they need nothing of it.
package keyring

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of the options.
const (
	DefaultTTL        = time.Hour
	DefaultStaleLimit = 24 * time.Hour
)

// ErrNoValue means that no source has a value, and none is left that may still be used.
var ErrNoValue = errors.New("keyring: there is no value")

// Value is a secret. It cannot be printed or marshalled; Reveal alone gives the text. The zero Value is empty.
type Value struct {
	_      [0]func() // forbids ==
	reveal func() string
	digest func() [sha256.Size]byte
}

// NewValue makes a Value, for sources of one's own.
func NewValue(text string) Value {
	if text == "" {
		return Value{}
	}
	d := sha256.Sum256([]byte(text))
	return Value{reveal: func() string { return text }, digest: func() [sha256.Size]byte { return d }}
}

// Reveal gives the text, for the wire.
func (v Value) Reveal() string {
	if v.reveal == nil {
		return ""
	}
	return v.reveal()
}

// IsZero reports whether v is empty.
func (v Value) IsZero() bool { return v.reveal == nil }

// Equal reports whether both hold the same text. Two empty values are not equal.
func (v Value) Equal(w Value) bool {
	return v.digest != nil && w.digest != nil && v.digest() == w.digest()
}

// Fingerprint gives "kf_" and 16 hex digits of the SHA-256, which is safe to show, or the empty string.
func (v Value) Fingerprint() string {
	if v.digest == nil {
		return ""
	}
	d := v.digest()
	return "kf_" + hex.EncodeToString(d[:8])
}

// String gives "[value kf_…]".
func (v Value) String() string {
	if v.IsZero() {
		return "[no value]"
	}
	return "[value " + v.Fingerprint() + "]"
}

// Format prints String whatever the verb.
func (v Value) Format(f fmt.State, _ rune) { fmt.Fprint(f, v.String()) }

// GoString is String.
func (v Value) GoString() string { return v.String() }

// LogValue is String.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }

// MarshalText always fails.
func (v Value) MarshalText() ([]byte, error) {
	return nil, errors.New("keyring: a value cannot be marshalled")
}

var (
	_ fmt.Formatter  = Value{}
	_ slog.LogValuer = Value{}
)

// Fetched is what a source gives.
type Fetched struct {
	// Values are in the order of use: the first is the one, the others are backups.
	Values []Value
	// BaseURL is set by sources that stand for a gateway: calls go there, whatever address the program names.
	BaseURL string
}

// Source reads values. Fetch may be slow; it is called by one goroutine at a time, with a deadline. Its errors must hold no value.
type Source interface {
	Fetch(ctx context.Context) (Fetched, error)
}

// Watcher is the ability of a Source to tell of a change, so that a new value is in use at once and not only after the TTL. Watch returns nil
// when Fetch may give something else than it did last, and an error when it cannot tell, or when ctx has ended. It runs beside Fetch.
type Watcher interface {
	Watch(ctx context.Context) error
}

// Ring keeps what a source gave. It is safe for concurrent use. Close it at the end of the program.
type Ring struct {
	source Source
	o      options
	now    atomic.Pointer[state]

	mu      sync.Mutex
	flight  *flight
	timer   *time.Timer
	last    time.Time // of the last fetch
	backoff time.Duration
	closed  bool
	// watching says that a goroutine listens to the source.
	watching bool

	ctx     context.Context //nolint:containedctx // The life of refreshes, ended by Close.
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// state is immutable but for its marks.
type state struct {
	Fetched
	fetched time.Time
	invalid atomic.Bool // refused by the provider, or too old to be used
}

// flight is one fetch that several wait for.
type flight struct {
	done chan struct{}
	err  error
}

type options struct {
	ttl, stale, wait, timeout time.Duration
	development               string
	hosts                     []string
}

// Option configures a Ring.
type Option func(*options)

// WithTTL sets how long a value counts as fresh. It is refreshed after four fifths of that.
func WithTTL(d time.Duration) Option { return func(o *options) { o.ttl = d } }

// WithStaleLimit sets how long beyond the TTL a value is used while the source fails. Zero uses it no longer.
func WithStaleLimit(d time.Duration) Option { return func(o *options) { o.stale = d } }

// WithDevelopment permits the environment: the variable is read when the source has nothing, and Env may be a source. For development
// alone; it is never inferred.
func WithDevelopment(variable string) Option { return func(o *options) { o.development = variable } }

// WithHosts names further hosts, as host or host:port, to which the RoundTripper may send a value; plain http is for loopback alone.
func WithHosts(hosts ...string) Option {
	return func(o *options) { o.hosts = append(o.hosts, hosts...) }
}

// WithWait lets the RoundTripper wait for a retry-after of at most d, once, instead of giving the answer back at once.
func WithWait(d time.Duration) Option { return func(o *options) { o.wait = d } }

// WithTimeout bounds one fetch; the default is 10 s.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// New makes a Ring. It reads nothing yet: the first Value does.
func New(source Source, opts ...Option) (*Ring, error) {
	r := &Ring{source: source, o: options{ttl: DefaultTTL, stale: DefaultStaleLimit, timeout: 10 * time.Second, hosts: []string{"api.anthropic.com"}}}
	for _, o := range opts {
		o(&r.o)
	}
	if source == nil {
		return nil, errors.New("keyring: there is no source")
	}
	if _, ok := source.(env); ok && r.o.development == "" {
		return nil, errors.New("keyring: the environment is a source for development alone: add WithDevelopment")
	}
	if r.o.ttl <= 0 {
		return nil, errors.New("keyring: the TTL must be positive")
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Close stops refreshing. Values that were given out stay usable. It may be called twice.
func (r *Ring) Close() {
	r.mu.Lock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.cancel()
	r.mu.Unlock()
	r.running.Wait()
}

// Value gives the value to use now. With a usable value it neither waits nor allocates, also while it is being refreshed. Otherwise it waits
// for one fetch, which all callers share; the error is the source's, ErrNoValue, or the context's.
func (r *Ring) Value(ctx context.Context) (Value, error) {
	if s := r.now.Load(); s != nil && !s.invalid.Load() {
		return s.Values[0], nil
	}
	s, err := r.wait(ctx)
	if err != nil {
		return Value{}, err
	}
	return s.Values[0], nil
}

// current is Value for all that was fetched.
func (r *Ring) current(ctx context.Context) (*state, error) {
	if s := r.now.Load(); s != nil && !s.invalid.Load() {
		return s, nil
	}
	return r.wait(ctx)
}

// rest is the shortest time between two fetches of a value that is refused again and again.
const rest = time.Second

// Invalidate says that the provider refused a value: the next Value reads the source anew. When v is no longer the value in use, somebody
// else has done so already, and nothing happens; nor does it within a second after the last fetch.
func (r *Ring) Invalidate(v Value) {
	s := r.now.Load()
	if s == nil || !s.Values[0].Equal(v) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.last) >= rest {
		s.invalid.Store(true)
	}
}

// wait joins the fetch under way, or begins one.
func (r *Ring) wait(ctx context.Context) (*state, error) {
	r.mu.Lock()
	if s := r.now.Load(); s != nil && !s.invalid.Load() {
		r.mu.Unlock()
		return s, nil
	}
	f := r.begin()
	r.mu.Unlock()
	if f == nil {
		return nil, ErrNoValue
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// Refused or old values are better than none while the source fails, within the limit.
	if s := r.now.Load(); s != nil && (!s.invalid.Load() || time.Since(s.fetched) < r.o.ttl+r.o.stale) {
		return s, nil
	}
	if f.err != nil {
		return nil, f.err
	}
	return nil, ErrNoValue
}

// begin starts a fetch unless one is under way. The caller holds mu.
func (r *Ring) begin() *flight {
	if r.flight != nil || r.closed {
		return r.flight
	}
	f := &flight{done: make(chan struct{})}
	r.flight = f
	r.running.Go(func() { r.fly(f) })
	return f
}

func (r *Ring) fly(f *flight) {
	ctx, cancel := context.WithTimeout(r.ctx, r.o.timeout)
	defer cancel()
	got, err := r.source.Fetch(ctx)
	if err == nil && (len(got.Values) == 0 || got.Values[0].IsZero()) {
		err = ErrNoValue
	}
	if err != nil && r.o.development != "" && r.now.Load() == nil {
		if text := os.Getenv(r.o.development); text != "" {
			got, err = Fetched{Values: []Value{NewValue(text)}}, nil
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	if err == nil {
		r.backoff = 0
		r.now.Store(&state{Fetched: got, fetched: r.last})
		r.plan(r.o.ttl * 4 / 5)
		r.watch()
	} else {
		r.failed()
	}
	f.err = err
	r.flight = nil
	close(f.done)
}

// watch begins to listen to a source that tells of changes, once. The caller holds mu.
func (r *Ring) watch() {
	w, ok := r.source.(Watcher)
	if !ok || r.watching || r.closed {
		return
	}
	r.watching = true
	r.running.Go(func() {
		pause := time.Duration(0)
		for r.ctx.Err() == nil {
			err := w.Watch(r.ctx)
			if err != nil {
				pause = min(max(2*pause, time.Second), time.Minute)
				r.rest(pause)
				continue
			}
			pause = 0
			r.mu.Lock()
			f := r.begin()
			r.mu.Unlock()
			if f == nil {
				return
			}
			<-f.done
			if f.err != nil { // the source is asked again by the plan of the refresh
				r.rest(time.Second)
			}
		}
	})
}

// rest pauses, unless the Ring is closed.
func (r *Ring) rest(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.ctx.Done():
	}
}

// failed plans the next try, and ends the use of a value that is too old. The caller holds mu.
func (r *Ring) failed() {
	r.backoff = min(max(2*r.backoff, time.Second), time.Minute)
	next := r.backoff
	if s := r.now.Load(); s != nil {
		left := r.o.ttl + r.o.stale - time.Since(s.fetched)
		if left <= 0 {
			s.invalid.Store(true)
			return
		}
		next = min(next, left)
	} else {
		return // nobody waits in the background for a first value
	}
	r.plan(next)
}

// plan sets the timer of the next refresh. The caller holds mu.
func (r *Ring) plan(d time.Duration) {
	if r.closed {
		return
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	r.timer = time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.begin()
	})
}
