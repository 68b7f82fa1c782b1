// Package runner makes rotations happen: it asks package rotation what comes next, makes those effects with locations and the
// provider, and journals each before and after. It decides nothing about keys. Drivers (the embedded Poller here; others may
// follow) call Advance; the command line and the daemon call Begin and Signal.
package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// Vault opens the sealed values of versions.
type Vault interface {
	Open(ctx context.Context, id apikey.VersionID) (secret.Value, error)
}

// Surroundings is what a runner needs from the assembly. All functions may be called from several goroutines.
type Surroundings struct {
	Store    *store.Store
	Vault    Vault
	Provider provider.Provider
	// Place opens a location from the configuration that a plan holds. It makes no connection.
	Place func(p rotation.Place) (*location.Location, error)
	// Places gives what is configured for a key now; the evidence compares it to the plan.
	Places func(key apikey.Name) []rotation.Place
	// Gateways asks every gateway about a value since a time: what they saw, and which of them may still use it. Nil where none is configured.
	Gateways func(ctx context.Context, d apikey.Digest, since time.Time) (seen rotation.GatewayFact, uses []string)
	// Test runs one of the owner's tests with a value.
	Test func(ctx context.Context, t rotation.Test, v secret.Value) error
	// Tell notifies people; nil where no channel is configured.
	Tell func(ctx context.Context, n Notice) error
	// Report writes the rotation's record (log, calendar, checkpoint) and may be called again for the same rotation.
	Report func(ctx context.Context, row rotation.Row, outcome string) error
	// Now is the clock.
	Now func() time.Time
	Log *slog.Logger
	// Owner names this process in leases. Empty means a random name.
	Owner string
	// Fault, when set, is called around every effect, with "before", "made" (applied and not journalled) and "after"; an
	// error stops the runner as a crash would. Tests of crashes use it.
	Fault func(point string, e rotation.Effect) error
}

// Notice is what people are told.
type Notice struct {
	Key      apikey.Name
	Rotation string
	Kind     rotation.Kind
	What     string
	// Wants is true when a person must act.
	Wants bool
	Hint  string
}

// Lease is how long a rotation stays with a driver that does not renew; a lost driver's work is taken up after it.
const Lease = 5 * time.Second

// longest bounds one effect, whatever it waits for: a test of the owner, a reload, an answer that never comes.
const longest = 10 * time.Minute

// watchEvery is how often a worker looks whether it was overtaken or signalled.
const watchEvery = 250 * time.Millisecond

// Runner advances rotations. It is safe for concurrent use, and several may share a store.
type Runner struct {
	Surroundings
}

// New makes a Runner.
func New(s Surroundings) *Runner {
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Owner == "" {
		s.Owner = "w_" + random()
	}
	return &Runner{Surroundings: s}
}

// Next is what Advance leaves behind.
type Next struct {
	Status rotation.Status
	// Wake is when to advance again; zero when the rotation ended.
	Wake time.Time
}

// Advance brings a rotation as far as it goes now, and parks it. It returns early, with the rotation still running, when ctx ends.
// Kinds: Conflict when another driver holds the rotation or overtook this one; NotFound; those of the store.
func (r *Runner) Advance(ctx context.Context, id string) (Next, error) {
	row, err := r.Store.ClaimID(ctx, id, r.Owner, Lease)
	if err != nil {
		return Next{}, err
	}
	return r.advance(ctx, row)
}

var errOvertaken = errors.New("overtaken")

// saga is one rotation in the hands of this runner.
type saga struct {
	*Runner
	row     rotation.Row
	journal atomic.Pointer[[]rotation.Entry]
	log     *slog.Logger
	signals atomic.Int64
	renewed atomic.Pointer[time.Time] // when the lease was last seen to be ours
	wake    chan struct{}
	results chan result
	flying  map[string]bool // effects under way, by ID; the value is true on the way back
	slots   chan struct{}
}

// result is the outcome of an effect.
type result struct {
	effect rotation.Effect
	data   any
	commit func(*store.Tx) error
	err    error
}

func (r *Runner) advance(ctx context.Context, row rotation.Row) (Next, error) {
	s := &saga{
		Runner: r, row: row, log: r.Log.With("rotation", row.ID, "key", string(row.Key)), wake: make(chan struct{}, 1), results: make(chan result),
		flying: make(map[string]bool), slots: make(chan struct{}, max(1, row.Plan.Parallel)),
	}
	s.signals.Store(row.Signals)
	s.renew(s.Now())
	ctx, cancel := context.WithCancelCause(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		s.watch(ctx, cancel)
	}()
	defer func() {
		cancel(nil)
		<-watching
	}()
	next, err := s.drive(ctx)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errOvertaken) {
		return next, fault.Wrap(fault.Conflict, cause, "advance rotation "+row.ID)
	}
	return next, err
}

// watch renews the lease, notices signals, and cancels the work when another driver or an emergency took the rotation.
func (s *saga) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := s.Now()
		fence, signals, status, err := s.Store.Fence(ctx, s.row.ID)
		if err != nil {
			continue // the guarded writes decide
		}
		if fence != s.row.Fence || status.Ended() {
			cancel(errOvertaken)
			return
		}
		if signals != s.signals.Swap(signals) {
			s.nudge()
		}
		if now.Sub(*s.renewed.Load()).Abs() > Lease/3 {
			switch err := s.Store.Renew(ctx, s.row.ID, s.row.Fence, Lease); {
			case fault.Is(err, fault.Conflict):
				cancel(errOvertaken)
				return
			case err == nil:
				s.renew(now)
			}
		}
	}
}

func (s *saga) renew(at time.Time) { s.renewed.Store(&at) }

// ours asks for the fence when the lease may have run out: the process was stopped, its host slept, or the store was out of reach. It is asked
// before every act on the world, since another driver may have gone on from here, and even back.
func (s *saga) ours(ctx context.Context) error {
	if s.Now().Sub(*s.renewed.Load()).Abs() < Lease {
		return nil
	}
	fence, _, status, err := s.Store.Fence(ctx, s.row.ID)
	if err == nil && (fence != s.row.Fence || status.Ended()) {
		err = fault.Wrap(fault.Conflict, errOvertaken, "act in rotation "+s.row.ID)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errStopped, err)
	}
	return nil
}

func (s *saga) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// drive asks what comes next, starts it, and journals results, until there is nothing to do now.
func (s *saga) drive(ctx context.Context) (Next, error) {
	defer s.drain()
	for {
		seen := s.signals.Load()
		if err := s.reload(ctx); err != nil {
			return Next{}, err
		}
		move := rotation.Next(s.row.Plan, s.entries(), s.Now())
		started, held, err := s.start(ctx, move)
		if err != nil {
			return Next{}, err
		}
		if started > 0 {
			continue
		}
		if len(s.flying) == 0 && !held {
			if move.Status.Ended() {
				return Next{Status: move.Status}, s.end(ctx, move)
			}
			if len(move.Do) == 0 {
				next, parked, err := s.park(ctx, move, seen)
				if err != nil || parked {
					return next, err
				}
				_, signals, _, err := s.Store.Fence(ctx, s.row.ID)
				if err != nil {
					return next, err
				}
				s.signals.Store(signals)
				continue
			}
		}
		if err := s.await(ctx, move, held); err != nil {
			return Next{}, err
		}
	}
}

// start journals the intents of what is due and not under way, and begins it. held is true when something is due and has to wait for a
// place that another rotation is writing to.
func (s *saga) start(ctx context.Context, move rotation.Move) (started int, held bool, err error) {
	var due []rotation.Effect
	for _, e := range move.Do {
		if _, flies := s.flying[e.ID]; flies {
			continue
		}
		due = append(due, e)
	}
	if len(due) == 0 {
		return 0, false, nil
	}
	for _, back := range s.flying {
		if move.Undoing && !back {
			return 0, true, nil // let the way forward end first
		}
	}
	var begun []rotation.Effect
	var entries []rotation.Entry
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		begun, entries, held = nil, nil, false
		for _, e := range due {
			ok, err := s.intend(tx, e, begun)
			if err != nil {
				return err
			}
			if !ok {
				held = true
				continue
			}
			begun = append(begun, e)
			entries = append(entries, rotation.Entry{Type: rotation.Intended, Effect: e.ID})
		}
		if len(entries) == 0 {
			return nil
		}
		return tx.Append(s.row.ID, s.row.Fence, entries...)
	})
	if err != nil {
		return 0, false, err
	}
	for _, e := range begun {
		s.flying[e.ID] = move.Undoing
		go s.fly(ctx, e)
	}
	return len(begun), held, nil
}

// fly makes one effect and hands in its result.
func (s *saga) fly(ctx context.Context, e rotation.Effect) {
	res := result{effect: e}
	defer func() {
		if p := recover(); p != nil {
			res.data, res.commit = nil, nil
			res.err = fault.Newf(fault.Unknown, "make %s: a defect stopped it", e.ID)
			s.log.Error("effect panicked", "effect", e.ID, "panic", fmt.Sprintf("%T", p))
		}
		s.results <- res
	}()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		res.err = errStopped
		return
	}
	if err := s.point("before", e); err != nil {
		res.err = err
		return
	}
	if err := s.ours(ctx); err != nil {
		res.err = err
		return
	}
	bounded, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	res.data, res.commit, res.err = s.make(bounded, e)
	if ctx.Err() != nil && res.err != nil {
		res.err = errStopped
	}
	if err := s.point("made", e); err != nil {
		res.err = err
	}
}

// errStopped marks an effect whose outcome must not be journalled, since the process is stopping: the open intent says that it may have
// been applied, and the next driver looks.
var errStopped = errors.New("stopped")

func (s *saga) point(point string, e rotation.Effect) error {
	if s.Fault == nil {
		return nil
	}
	if err := s.Fault(point, e); err != nil {
		return fmt.Errorf("%w: %w", errStopped, err)
	}
	return nil
}

// await blocks until an effect ends, a signal comes, or the time has come to look again; results are journalled together.
func (s *saga) await(ctx context.Context, move rotation.Move, held bool) error {
	pause := time.Hour
	if held {
		pause = watchEvery
	} else if !move.Until.IsZero() {
		pause = max(time.Millisecond, move.Until.Sub(s.Now()))
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return s.stop(ctx)
	case <-s.wake:
		return nil
	case <-timer.C:
		return nil
	case first := <-s.results:
		batch := []result{first}
		for more := true; more && len(batch) < len(s.flying); {
			select {
			case res := <-s.results:
				batch = append(batch, res)
			default:
				more = false
			}
		}
		return s.keep(ctx, batch)
	}
}

// stop gives the rotation back so that another driver takes it up at once.
func (s *saga) stop(ctx context.Context) error {
	cause := context.Cause(ctx)
	if !errors.Is(cause, errOvertaken) {
		s.drain()
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, err := s.Store.Park(after, s.row.ID, s.row.Fence, s.signals.Load(), store.Parking{Status: rotation.Running, WakeAt: s.Now()})
		if err != nil {
			s.log.Warn("rotation not given back", "error", err)
		}
	}
	return fault.Wrap(fault.Canceled, cause, "advance rotation "+s.row.ID)
}

// drain waits for effects under way, whose context has ended or whose results nobody wants any more.
func (s *saga) drain() {
	for len(s.flying) > 0 {
		res := <-s.results
		delete(s.flying, res.effect.ID)
	}
}

// keep journals a batch of results. A result whose own writes are refused becomes a failure of that effect alone.
func (s *saga) keep(ctx context.Context, batch []result) error {
	for _, res := range batch {
		delete(s.flying, res.effect.ID)
	}
	if i := slices.IndexFunc(batch, func(res result) bool { return errors.Is(res.err, errStopped) }); i >= 0 {
		return batch[i].err
	}
	err := s.write(ctx, batch)
	if err == nil || len(batch) == 1 && batch[0].commit == nil || fault.Is(err, fault.Canceled) {
		return s.written(ctx, batch, err)
	}
	for _, res := range batch {
		one := s.write(ctx, []result{res})
		if own, refused := errors.AsType[*refusal](one); refused {
			one = s.write(ctx, []result{{effect: res.effect, err: own.err}})
		}
		if one != nil {
			return one
		}
	}
	return s.written(ctx, batch, nil)
}

func (s *saga) written(_ context.Context, batch []result, err error) error {
	if err != nil {
		return err
	}
	for _, res := range batch {
		if err := s.point("after", res.effect); err != nil {
			return err
		}
		if res.err != nil {
			s.log.Warn("effect failed", "effect", res.effect.ID, "kind", fault.KindOf(res.err).String(), "error", res.err)
		} else {
			s.log.Info("effect made", "effect", res.effect.ID)
		}
	}
	return nil
}

// refusal wraps an error of a result's own writes.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func (s *saga) write(ctx context.Context, batch []result) error {
	return s.Store.Update(ctx, func(tx *store.Tx) error {
		for _, res := range batch {
			entry := rotation.Entry{Type: rotation.Made, Effect: res.effect.ID}
			if res.err != nil {
				entry.Type, entry.Fault = rotation.Missed, rotation.FaultOf(res.err)
			} else {
				if res.commit != nil {
					if err := res.commit(tx); err != nil {
						return &refusal{err}
					}
				}
				data, err := json.Marshal(res.data)
				if err != nil {
					return fault.Wrap(fault.Unknown, err, "write result of "+res.effect.ID)
				}
				entry.Data = data
			}
			if err := tx.Append(s.row.ID, s.row.Fence, entry); err != nil {
				return err
			}
			if err := s.settleEffect(tx, res); err != nil {
				return err
			}
		}
		return nil
	})
}

// settleEffect frees the place that an effect wrote to and records the result in the audit chain.
func (s *saga) settleEffect(tx *store.Tx, res result) error {
	if _, err := s.lockOf(res.effect); err == nil && writes(res.effect.Verb) {
		if err := tx.ReleaseLocks(s.holder(res.effect)); err != nil {
			return err
		}
	}
	if !audited(res.effect.Verb) {
		return nil
	}
	ev := s.event(event.EffectDone, res.effect)
	if res.err != nil {
		ev.Type, ev.Text = event.EffectFailed, res.err.Error()
	}
	return tx.Record(ev)
}

// intend does what belongs to the intent of an effect: the lock on the place, the version that the place is meant to hold, the audit entry.
// ok is false when somebody else is writing to the same place. begun are the effects that are about to be made with this one.
func (s *saga) intend(tx *store.Tx, e rotation.Effect, begun []rotation.Effect) (ok bool, err error) {
	if writes(e.Verb) {
		if ok, err := s.takePlace(tx, e, begun); err != nil || !ok {
			return false, err
		}
		if d, ok, err := s.desire(tx, e); err != nil {
			return false, err
		} else if ok {
			if err := tx.SetDesired(d); err != nil {
				return false, err
			}
		}
	}
	if audited(e.Verb) {
		return true, tx.Record(s.event(event.EffectIntended, e))
	}
	return true, nil
}

// takePlace takes the lock on the place of an effect. A lock of this very rotation whose effect nobody here is making was left by a driver that is
// dead or overtaken, and is taken over: the way back does not make that effect again, so nobody else would free it.
func (s *saga) takePlace(tx *store.Tx, e rotation.Effect, begun []rotation.Effect) (ok bool, err error) {
	name, err := s.lockOf(e)
	if err != nil {
		return false, err
	}
	if ok, err := tx.TakeLock(name, s.holder(e)); err != nil || ok {
		return ok, err
	}
	locks, err := tx.Locks()
	if err != nil {
		return false, err
	}
	for _, l := range locks {
		effect, mine := strings.CutPrefix(l.Holder, s.row.ID+"#")
		if l.Name != name || !mine {
			continue
		}
		_, flies := s.flying[effect]
		if flies || slices.ContainsFunc(begun, func(e rotation.Effect) bool { return e.ID == effect }) {
			return false, nil
		}
		if err := tx.ReleaseLocks(l.Holder); err != nil {
			return false, err
		}
		return tx.TakeLock(name, s.holder(e))
	}
	return false, nil
}

func (s *saga) lockOf(e rotation.Effect) (string, error) {
	p, ok := s.row.Plan.Place(e.Place)
	if !ok {
		return "", fault.Newf(fault.Corrupt, "make %s: the plan has no such place", e.ID)
	}
	return "place:" + p.Address, nil
}

func (s *saga) holder(e rotation.Effect) string { return s.row.ID + "#" + e.ID }

func (s *saga) event(t event.Type, e rotation.Effect) event.Event {
	return event.Event{Type: t, Actor: s.row.Plan.Actor, Key: s.row.Key, Rotation: s.row.ID, Location: e.Place, Effect: e.ID, Version: s.versionID(e.Role)}
}

// reload reads what was added to the journal since the last look.
func (s *saga) reload(ctx context.Context) error {
	known := s.entries()
	var more []rotation.Entry
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		more, err = tx.JournalAfter(s.row.ID, int64(len(known)))
		return err
	})
	if err == nil && len(more) > 0 {
		longer := append(known, more...)
		s.journal.Store(&longer)
	}
	return err
}

// entries gives the journal as it was last read. It is not changed afterwards: effects under way read it while drive reads on.
func (s *saga) entries() []rotation.Entry {
	if j := s.journal.Load(); j != nil {
		return *j
	}
	return nil
}

// park leaves the rotation until its wake time or a signal. parked is false when a signal came meanwhile.
func (s *saga) park(ctx context.Context, move rotation.Move, seen int64) (Next, bool, error) {
	if move.Status != s.row.Status && (move.Status == rotation.Paused || move.Status == rotation.Waiting) {
		s.tellWants(ctx, move)
	}
	parked, err := s.Store.Park(ctx, s.row.ID, s.row.Fence, seen, store.Parking{Status: move.Status, Note: move.Note, Hint: move.Hint, WakeAt: move.Until})
	return Next{Status: move.Status, Wake: move.Until}, parked, err
}

// tellWants tells people that the rotation cannot go on without one. A channel that fails is logged and nothing more.
func (s *saga) tellWants(ctx context.Context, move rotation.Move) {
	if s.Tell == nil {
		return
	}
	err := s.Tell(ctx, Notice{Key: s.row.Key, Rotation: s.row.ID, Kind: s.row.Kind, What: string(move.Status) + ": " + move.Note, Wants: true, Hint: move.Hint})
	if err != nil {
		s.log.Warn("people not told", "error", err)
	}
}

// end closes the rotation and frees all that it held.
func (s *saga) end(ctx context.Context, move rotation.Move) error {
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.SetStatus(s.row.ID, s.row.Fence, store.SetStatus{Status: move.Status, Note: move.Note, Hint: move.Hint}); err != nil {
			return err
		}
		if err := release(tx, s.row.ID); err != nil {
			return err
		}
		return tx.Record(event.Event{Type: event.RotationEnded, Actor: s.row.Plan.Actor, Key: s.row.Key, Rotation: s.row.ID, Text: string(move.Status) + ": " + move.Note})
	})
	if err == nil {
		s.log.Info("rotation ended", "status", string(move.Status))
	}
	return err
}

// release frees the locks and the claim of a rotation.
func release(tx *store.Tx, id string) error {
	locks, err := tx.Locks()
	if err != nil {
		return err
	}
	for _, l := range locks {
		if l.Holder == id || strings.HasPrefix(l.Holder, id+"#") {
			if err := tx.ReleaseLocks(l.Holder); err != nil {
				return err
			}
		}
	}
	return tx.ReleaseClaim(id)
}
