package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/verdict"
)

// SourceExpired says that a source has failed for so long that its last good value is no longer used.
const SourceExpired event.Type = "gateway.source-expired"

// SourceKey says where the value of a key is read.
type SourceKey struct {
	// Name is the slot.
	Name apikey.Name
	// Ref names the place, for screens and for the generation that is kept over restarts. Of file: and env: the gateway makes the Reader itself.
	Ref keysource.Ref
	// Reader reads the place. Nil is for file: and, with Development, env:.
	Reader keysource.Reader
	// Group and Workspace are those of Key.
	Group, Workspace string
}

// Source reads keys from their places and puts them in force when they change.
type Source struct {
	// Keys are in the order of Set.
	Keys   []SourceKey
	Groups map[string]Group
	// Dir is where relative paths start.
	Dir string
	// Development permits the environment as a source. It is never inferred.
	Development bool
	// Every is the pause between two looks at a file; zero means 250 ms. Every place is read anew each TTL; zero means an hour.
	Every, TTL time.Duration
	// Stale is how long beyond the TTL the last good value of a place that fails is used; zero means DefaultStale, and less than zero for ever.
	// After it the key is left out, and without another one the gateway answers 503.
	Stale time.Duration
}

// DefaultStale is the default of Source.Stale.
const DefaultStale = 24 * time.Hour

const (
	readTimeout  = 15 * time.Second
	leastBackoff = time.Second
	mostBackoff  = time.Minute
)

// refreshers are told to look at once: by a signal, or after a 401. They also tell what they know.
type refreshers struct {
	mu      sync.Mutex
	list    []*feed
	current *watcher
	// counts holds the largest generation of each place, by reference. It is guarded by the gateway's swapMu, and kept in its state file.
	counts map[string]uint64
}

func (r *refreshers) nudge() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.list {
		select {
		case f.nudge <- struct{}{}:
		default:
		}
	}
}

func (r *refreshers) replaced() *watcher {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

func (r *refreshers) replace(w *watcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.list = w, w.feeds
}

// feed gives the one of a key, or nil.
func (r *refreshers) feed(name apikey.Name) *feed {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.list {
		if f.key.Name == name {
			return f
		}
	}
	return nil
}

// status gives what is known of every place, in the order of the keys.
func (r *refreshers) status() []SourceStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]SourceStatus, 0, len(r.list))
	for _, f := range r.list {
		out = append(out, f.status())
	}
	return out
}

// SourceStatus is one place of a key.
type SourceStatus struct {
	Key    apikey.Name `json:"key"`
	Source string      `json:"source"`
	// Read is when the place was last read and its value found usable.
	Read       time.Time `json:"read,omitzero"`
	Generation uint64    `json:"generation,omitempty"`
	// Failing is since when it was not; the last good value is used until Until, when that is set, and no more when Expired.
	Failing time.Time `json:"failing,omitzero"`
	Problem string    `json:"problem,omitempty"`
	Hint    string    `json:"hint,omitempty"`
	Until   time.Time `json:"until,omitzero"`
	Expired bool      `json:"expired,omitempty"`
}

// Refresh makes every source look at once, as after SIGHUP. It returns before they have.
func (g *Gateway) Refresh() { g.refresh.nudge() }

// Follow reads the keys of a source, puts them in force, and goes on to watch until the gateway is closed. It returns after the first
// read. Then every place that answers must have a usable value, and one at least must; a place that is out of order (Unavailable, RateLimited)
// is asked again. Kinds are those of the readers and of Swap. Later a place that fails leaves its last good value in force within the limit of
// Source.Stale, which is logged, told as SourceFailed and shown by Status. A second Follow takes the place of the first: when it fails, the first
// goes on.
func (g *Gateway) Follow(ctx context.Context, s Source) error {
	if s.TTL <= 0 {
		s.TTL = time.Hour
	}
	if s.Stale == 0 {
		s.Stale = DefaultStale
	}
	if len(s.Keys) == 0 {
		return fault.New(fault.Invalid, "read keys: the source names none")
	}
	w := &watcher{g: g, s: s}
	w.ctx, w.stop = context.WithCancel(g.ctx)
	for _, k := range s.Keys {
		if err := s.open(&k); err != nil {
			w.stop()
			return fault.In(err, fmt.Sprintf("read keys: %s", k.Name))
		}
		w.feeds = append(w.feeds, &feed{w: w, key: k, nudge: make(chan struct{}, 1)})
	}
	if err := w.first(ctx); err != nil {
		w.stop()
		return err
	}
	for _, f := range w.feeds {
		g.spawn(f.run)
	}
	return nil
}

// open gives k a reader.
func (s Source) open(k *SourceKey) error {
	scheme, rest, _ := strings.Cut(string(k.Ref), ":")
	if scheme == "env" && !s.Development {
		return fault.New(fault.Invalid, "it comes from the environment", fault.Hint("use file:PATH with mode 0600; the environment is for development alone (--dev)"))
	}
	if k.Reader != nil {
		return nil
	}
	if _, err := k.Ref.Parse(); err != nil {
		return err
	}
	switch scheme {
	case "file":
		k.Reader = keysource.File(rest, s.Dir, s.Every)
	case "env":
		k.Reader = keysource.Env(rest)
	default:
		return fault.New(fault.Invalid, "it is neither file: nor env:, and nobody reads it")
	}
	return nil
}

// watcher joins the feeds of one source to one set.
type watcher struct {
	g     *Gateway
	s     Source
	feeds []*feed
	ctx   context.Context //nolint:containedctx // The life of its goroutines, ended by Close or by another Follow.
	stop  context.CancelFunc

	mu    sync.Mutex // serialises what is put in force; taken before the gateway's swapMu and a feed's mu
	force []apikey.Digest
	ended bool // another source took its place
}

// feed follows one place. What stands below mu is written by its own goroutine, and in Follow before that runs.
type feed struct {
	w     *watcher
	key   SourceKey
	nudge chan struct{}

	trusted atomic.Pointer[apikey.Digest] // a value that we wrote into the place ourselves

	mark    string
	refused apikey.Digest // by the provider, last
	asked   time.Time     // when that was
	backoff time.Duration
	blind   int // watches that failed one after another

	mu         sync.Mutex
	value      secret.Value
	generation uint64
	good       time.Time
	failing    time.Time
	problem    error
	expired    bool
}

// first reads every place once and puts what they hold in force.
func (w *watcher) first(ctx context.Context) error {
	errs := make([]error, len(w.feeds))
	var reading sync.WaitGroup
	for i, f := range w.feeds {
		reading.Go(func() { errs[i] = f.begin(ctx) })
	}
	reading.Wait()
	down := 0
	for i, err := range errs {
		switch {
		case err == nil:
			continue
		case !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.RateLimited) && !fault.Is(err, fault.Conflict) && !errors.Is(err, errDenied):
			return err
		}
		down++
		w.feeds[i].fail(err)
	}
	if down == len(errs) {
		return errs[0]
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	former := w.g.refresh.replaced()
	if former != nil { // nothing of it is put in force behind ours
		former.mu.Lock()
		defer former.mu.Unlock()
	}
	if err := w.compose(true); err != nil {
		return err
	}
	if former != nil {
		former.ended = true
		former.stop()
	}
	w.g.refresh.replace(w)
	return nil
}

// begin is the first read of a place.
func (f *feed) begin(ctx context.Context) error {
	r, err := f.read(ctx)
	if err == nil {
		err = f.check(r)
	}
	if err != nil {
		return err
	}
	format, err := secret.CheckAPIKey(r.Value)
	if err != nil {
		f.w.g.log.Warn("a key has an unfamiliar form", "key", string(f.key.Name), "problem", err.Error())
	} else if len(format.Warnings) > 0 {
		f.w.g.log.Warn("a key has an unfamiliar form", "key", string(f.key.Name), "problem", strings.Join(format.Warnings, "; "))
	}
	f.hold(r)
	return nil
}

// read reads the place, within a bound.
func (f *feed) read(ctx context.Context) (keysource.Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	r, err := f.key.Reader.Read(ctx)
	if err != nil {
		return r, fault.In(err, fmt.Sprintf("read keys: %s", f.key.Name))
	}
	return r, nil
}

// errDenied says why a value is refused for ever.
var errDenied = errors.New("that value is compromised")

// check refuses what must not be put in force, whatever the provider says of it.
func (f *feed) check(r keysource.Reading) error {
	err := usable(r.Value)
	d := r.Value.Digest()
	switch {
	case err != nil:
	case f.w.g.refuses(d):
		err = fault.Wrap(fault.Forbidden, errDenied, fmt.Sprintf("it holds %s", d.Fingerprint()), fault.Hint("put another version into the place it was read from"))
	case r.Generation != 0 && r.Generation < f.w.g.sourceGeneration(f.key.Ref):
		err = fault.New(fault.Conflict, fmt.Sprintf("it gave generation %d after %d", r.Generation, f.w.g.sourceGeneration(f.key.Ref)), fault.Hint("an older copy answers; it is taken up again when it has caught up"))
	}
	return fault.In(err, fmt.Sprintf("read keys: %s", f.key.Name))
}

// hold keeps what was read as the last good value.
func (f *feed) hold(r keysource.Reading) {
	f.mark, f.backoff = r.Mark, 0
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.problem != nil && !f.good.IsZero() {
		f.w.g.log.Info("the source of a key answers again", "key", string(f.key.Name))
	}
	if !f.value.Equal(r.Value) {
		f.value = r.Value // the former one may be on its way to the wire; it is overwritten when nobody holds it
	} else {
		r.Value.Destroy()
	}
	f.generation, f.good, f.failing, f.problem, f.expired = r.Generation, time.Now(), time.Time{}, nil, false
	f.w.g.noteGeneration(f.key.Ref, r.Generation)
}

// run watches one place until the gateway is closed.
func (f *feed) run() {
	g := f.w.g
	for f.w.ctx.Err() == nil {
		forced, err := f.wait()
		if f.w.ctx.Err() != nil {
			return
		}
		// A place that cannot be watched is read again and again: the read decides whether it has failed.
		if f.blind++; err == nil {
			f.blind = 0
		} else {
			if f.blind == 2 {
				g.log.Warn("the source of a key cannot be watched; it is read again and again", "key", string(f.key.Name), "problem", err.Error(), "hint", fault.HintOf(err))
			}
			forced = f.rest(min(leastBackoff<<min(f.blind-1, 6), mostBackoff)) || forced
		}
		f.take(forced)
		f.expire()
	}
}

// wait returns when the place is to be read: it may have changed, it is time, or somebody asks for it.
func (f *feed) wait() (forced bool, err error) {
	ctx, cancel := context.WithCancel(f.w.ctx)
	defer cancel()
	var heard error
	over := make(chan struct{}) // the watch has ended; never where there is none
	if f.mark != "" {
		go func() {
			defer close(over)
			heard = f.key.Reader.Wait(ctx, f.mark)
		}()
		defer func() {
			cancel()
			<-over
		}()
	}
	timer := time.NewTimer(f.due())
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-over:
		return false, heard
	case <-f.nudge:
		return true, nil
	case <-timer.C:
	}
	return false, nil
}

// due gives the time until the next read that nobody has to ask for.
func (f *feed) due() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.problem == nil {
		return max(0, f.w.s.TTL-time.Since(f.good))
	}
	next := max(f.backoff, leastBackoff)
	if until := f.until(); !until.IsZero() && !f.expired {
		next = min(next, max(0, time.Until(until)))
	}
	return next
}

// until gives the end of the use of the last good value, zero for none. The caller holds mu.
func (f *feed) until() time.Time {
	if f.w.s.Stale < 0 || f.good.IsZero() {
		return time.Time{}
	}
	return f.good.Add(f.w.s.TTL + f.w.s.Stale)
}

// rest pauses after a watch that failed, and reports whether somebody asked for a look meanwhile.
func (f *feed) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.nudge:
		return true
	case <-f.w.ctx.Done():
	}
	return false
}

// take reads the place and puts a changed value in force.
func (f *feed) take(forced bool) {
	g := f.w.g
	r, err := f.read(f.w.ctx)
	if err == nil {
		err = f.check(r)
	}
	if err != nil {
		f.mark = r.Mark
		f.fail(err)
		return
	}
	digest := r.Value.Digest()
	if f.digest() != digest && !f.trusts(digest) {
		if !f.settled(digest) {
			r.Value.Destroy()
			return // still being written; the next look finds it
		}
		if err := f.tryOut(r.Value, forced); err != nil {
			r.Value.Destroy()
			f.mark = r.Mark
			f.fail(err)
			return
		}
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.hold(r)
	if err := f.w.compose(false); err != nil {
		f.fail(err)
		return
	}
	// What the place calls compromised ends here as soon as its successor is in force.
	denied := slices.DeleteFunc(slices.Clone(r.Denied), func(d apikey.Digest) bool { return d == digest })
	if err := g.Deny(denied...); err != nil {
		f.fail(err)
	}
}

// digest gives that of the last good value.
func (f *feed) digest() apikey.Digest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.value.Digest()
}

// settled reads a place again that may be read while it is being written.
func (f *feed) settled(first apikey.Digest) bool {
	u, ok := f.key.Reader.(keysource.Unsettled)
	if !ok {
		return true
	}
	if !pause(f.w.ctx, u.Settle()) {
		return false
	}
	again, err := f.read(f.w.ctx)
	if err != nil {
		f.fail(err)
		return false
	}
	defer again.Value.Destroy()
	return again.Value.Digest().Same(first)
}

// tryOut asks the provider about a new value: one that it refuses is not taken while another one works.
func (f *feed) tryOut(v secret.Value, forced bool) error {
	g := f.w.g
	refused := fault.New(fault.Unauthenticated, fmt.Sprintf("read keys: the provider refuses the new value of %s (%s)", f.key.Name, v.Fingerprint()),
		fault.Hint("see in the Console whether the key is active; the former value stays in use"))
	if v.Digest() == f.refused && !forced && g.Ready() && time.Since(f.asked) < g.o.ProbeEvery {
		return refused
	}
	e := &entry{Key: Key{Name: f.key.Name, Value: v, Group: f.key.Group, Workspace: f.key.Workspace}, keyState: newKeyState(v.Digest())}
	a, ok := g.probe(f.w.ctx, e)
	if !ok && verdict.Judge(a, time.Now()).Dead && g.Ready() {
		f.refused, f.asked = v.Digest(), time.Now()
		return refused
	}
	f.refused = apikey.Digest{}
	return nil
}

// expire ends the use of a value whose place has failed for too long.
func (f *feed) expire() {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.mu.Lock()
	until := f.until()
	over := f.problem != nil && !f.expired && !until.IsZero() && !time.Now().Before(until)
	f.expired = f.expired || over
	f.mu.Unlock()
	if !over {
		return
	}
	g := f.w.g
	g.log.Error("the source of a key has failed for too long; its last good value is no longer used", "key", string(f.key.Name), "since", until.Add(-f.w.s.Stale-f.w.s.TTL))
	g.tell(event.Event{Type: SourceExpired, Key: f.key.Name, Text: "the last good value is no longer used"})
	if err := f.w.compose(false); err != nil {
		f.fail(err)
	}
}

// compose puts the last good values in force, when they are others than those that are. Values that are denied or stand in an earlier place
// already are left out. The caller holds mu.
func (w *watcher) compose(must bool) error {
	if w.ended {
		return nil
	}
	set := Set{Groups: maps.Clone(w.s.Groups)}
	var digests []apikey.Digest
	var twice []*feed
	for _, f := range w.feeds {
		f.mu.Lock()
		v, expired := f.value, f.expired
		f.mu.Unlock()
		d := v.Digest()
		switch {
		case expired || !d.Known() || w.g.refuses(d):
		case slices.Contains(digests, d):
			twice = append(twice, f)
		default:
			digests = append(digests, d)
			set.Keys = append(set.Keys, Key{Name: f.key.Name, Value: v, Group: f.key.Group, Workspace: f.key.Workspace})
			if k, c := w.g.trials.beside(f, d); c != nil {
				digests, set.Keys, set.Canary = append(digests, c.New), append(set.Keys, k), c
			}
		}
	}
	if !must && slices.Equal(digests, w.force) {
		return nil
	}
	if err := w.g.swap(set, !must); err != nil {
		return err
	}
	w.force = digests
	for _, f := range twice {
		w.g.log.Warn("two places hold the same value; the later one is left out", "key", string(f.key.Name))
	}
	if !must && len(digests) > 0 {
		w.g.log.Info("keys were taken up from their source", "generation", w.g.Generation(), "fingerprint", string(digests[0].Fingerprint()))
	}
	return nil
}

// fail notes a failure and tells of it once.
func (f *feed) fail(err error) {
	g := f.w.g
	if f.w.ctx.Err() != nil {
		return
	}
	f.backoff = min(max(2*f.backoff, leastBackoff, fault.RetryAfterOf(err)), max(mostBackoff, fault.RetryAfterOf(err)))
	f.mu.Lock()
	told := f.problem != nil && f.problem.Error() == err.Error()
	if f.problem = err; f.failing.IsZero() {
		f.failing = time.Now()
	}
	f.mu.Unlock()
	if told {
		return
	}
	g.metrics.sourceFailures.Add(1)
	g.log.Error("the source gave no usable key; the last good one stays", "problem", err.Error(), "hint", fault.HintOf(err))
	g.tell(event.Event{Type: SourceFailed, Key: f.key.Name, Text: err.Error()})
}

func (f *feed) status() SourceStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := SourceStatus{Key: f.key.Name, Source: string(f.key.Ref), Read: f.good.UTC(), Generation: f.generation}
	if f.good.IsZero() {
		s.Read = time.Time{}
	}
	if f.problem != nil {
		s.Failing, s.Problem, s.Hint, s.Expired = f.failing.UTC(), f.problem.Error(), fault.HintOf(f.problem), f.expired
		if until := f.until(); !until.IsZero() {
			s.Until = until.UTC()
		}
	}
	return s
}

// refuses reports whether a value is on the list of compromised ones.
func (g *Gateway) refuses(d apikey.Digest) bool {
	g.swapMu.Lock()
	defer g.swapMu.Unlock()
	return g.denied[d]
}

// sourceGeneration gives the largest generation that a place has given.
func (g *Gateway) sourceGeneration(ref keysource.Ref) uint64 {
	g.swapMu.Lock()
	defer g.swapMu.Unlock()
	return g.refresh.counts[string(ref)]
}

// noteGeneration remembers the generation of a place; the next change of the state file keeps it.
func (g *Gateway) noteGeneration(ref keysource.Ref, n uint64) {
	g.swapMu.Lock()
	defer g.swapMu.Unlock()
	if g.refresh.counts[string(ref)] < n {
		if g.refresh.counts == nil {
			g.refresh.counts = map[string]uint64{}
		}
		g.refresh.counts[string(ref)] = n
	}
}
