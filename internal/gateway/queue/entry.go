package queue

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/ledger"
)

// Take gives the next entry to dispatch and makes it Running; the caller ends that with Finish, Again or Drop. Applications take turns; of
// one application the oldest that waits comes first, and one that waits for its next attempt holds those behind it. Without one, ok is
// false, and next is when the first will be ready, or zero when none waits.
func (q *Queue) Take() (t Ticket, ok bool, next time.Time) {
	now := q.o.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, app := range q.ring {
		e := q.lines[app][0]
		if e.wake.After(now) {
			if next.IsZero() || e.wake.Before(next) {
				next = e.wake
			}
			continue
		}
		q.ring = append(slices.Delete(q.ring, i, i+1), app)
		q.leave(e)
		q.state(e, Running)
		return q.ticket(e), true, time.Time{}
	}
	return Ticket{}, false, next
}

// leave takes an entry out of its line. The caller holds mu.
func (q *Queue) leave(e *entry) {
	line := q.lines[e.app]
	i, found := slices.BinarySearchFunc(line, e.seq, func(e *entry, seq int64) int { return cmp.Compare(e.seq, seq) })
	if !found {
		return
	}
	if line = slices.Delete(line, i, i+1); len(line) > 0 {
		q.lines[e.app] = line
		return
	}
	delete(q.lines, e.app)
	if i := slices.Index(q.ring, e.app); i >= 0 {
		q.ring = slices.Delete(q.ring, i, i+1)
	}
}

func (q *Queue) state(e *entry, s State) {
	q.counts[e.state]--
	e.state = s
	q.counts[s]++
}

func (q *Queue) missing(what string) error {
	return fault.New(fault.NotFound, what+": there is no such entry in the queue")
}

// Request opens what is to be sent. Kinds: NotFound, Corrupt, those of the ledger.
func (q *Queue) Request(ctx context.Context, id string) (r Request, err error) {
	e, sealed, err := q.content(ctx, "read request", id, false)
	if err != nil {
		return r, err
	}
	r.Body, err = q.seal.open(id, e.app, forRequest, sealed, &r)
	return r, err
}

// Answer opens what came back. Kinds: NotFound (no such entry, or no answer yet), Corrupt, those of the ledger.
func (q *Queue) Answer(ctx context.Context, id string) (a Answer, err error) {
	e, sealed, err := q.content(ctx, "read answer", id, true)
	if err != nil {
		return a, err
	}
	a.Body, err = q.seal.open(id, e.app, forAnswer, sealed, &a)
	return a, err
}

func (q *Queue) content(ctx context.Context, what, id string, done bool) (e *entry, sealed []byte, err error) {
	if e = q.find(id); e == nil {
		return nil, nil, q.missing(what)
	}
	ok, err := q.l.Row(ctx, what, `SELECT sealed FROM queue WHERE seq = ? AND (state = 'done') = ?`, []any{e.seq, done}, &sealed)
	if err == nil && !ok {
		err = q.missing(what)
	}
	return e, sealed, err
}

// find gives an entry, of which only what never changes may be read without mu: its number, id and application.
func (q *Queue) find(id string) *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.by[id]
}

// Finish keeps the answer in place of the request, which is erased.
func (q *Queue) Finish(ctx context.Context, id string, a Answer) error {
	const what = "keep answer"
	e := q.find(id)
	if e == nil {
		return q.missing(what)
	}
	sealed, err := q.seal.close(id, e.app, forAnswer, a, a.Body)
	if err != nil {
		return err
	}
	now, size := q.o.Now().UTC(), int64(len(sealed))
	err = q.l.Update(ctx, what, func(tx *ledger.Tx) error {
		n, err := tx.Exec(`UPDATE queue SET state = ?, ended = ?, status = ?, size = ?, sealed = ? WHERE seq = ? AND state <> ?`, string(Done), nanos(now), a.Status, size, sealed, e.seq, string(Done))
		if err == nil && n == 0 {
			err = q.missing(what)
		}
		return err
	})
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.by[id] == nil {
		return q.missing(what) // dropped meanwhile
	}
	q.leave(e)
	q.release(e)
	q.state(e, Done)
	q.bytes += size - e.size
	e.ended, e.wake, e.status, e.size = now, time.Time{}, a.Status, size
	return nil
}

// Again puts a Running entry back into its place, for an attempt at next. counted says that the provider answered this one.
func (q *Queue) Again(ctx context.Context, id string, next time.Time, counted bool) error {
	const what = "put request back"
	q.mu.Lock()
	e := q.by[id]
	if e == nil || e.state != Running {
		q.mu.Unlock()
		return q.missing(what)
	}
	if e.wake = next.UTC(); counted {
		e.attempts++
	}
	attempts := e.attempts
	q.mu.Unlock()
	var err error
	if counted { // else a crash loses nothing
		err = q.l.Update(ctx, what, func(tx *ledger.Tx) error {
			_, err := tx.Exec(`UPDATE queue SET attempts = ?, wake = ? WHERE seq = ?`, attempts, nanos(next), e.seq)
			return err
		})
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.by[id] == e && e.state == Running {
		q.counts[Running]--
		e.state = Waiting
		q.enter(e)
	}
	return err
}

// Drop erases an entry in whatever state. A dispatch that is under way is not stopped; its answer is not kept. Kinds: NotFound, those of
// the ledger.
func (q *Queue) Drop(ctx context.Context, id string) error {
	const what = "drop request"
	e := q.find(id)
	if e == nil {
		return q.missing(what)
	}
	err := q.l.Update(ctx, what, func(tx *ledger.Tx) error {
		n, err := tx.Exec(`DELETE FROM queue WHERE seq = ?`, e.seq)
		if err == nil && n == 0 {
			err = q.missing(what)
		}
		return err
	})
	if err != nil {
		return err
	}
	q.forget(id)
	return q.l.Checkpoint(ctx)
}

func (q *Queue) forget(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.by[id]
	if e == nil {
		return
	}
	if e.state == Waiting {
		q.leave(e)
	}
	if e.state != Done {
		q.release(e)
	}
	q.counts[e.state]--
	q.bytes -= e.size
	delete(q.by, id)
	if e.once != "" {
		delete(q.once, e.once)
	}
}

// Overdue gives what has waited too long; the caller finishes it with an answer that says so.
func (q *Queue) Overdue() (ids []string) {
	limit := q.o.Now().Add(-q.o.Wait)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, line := range q.lines {
		for _, e := range line {
			if e.created.After(limit) {
				break
			}
			ids = append(ids, e.id)
		}
	}
	return ids
}

// Sweep erases answers whose time is over, from the disk too, and gives their number.
func (q *Queue) Sweep(ctx context.Context) (erased int, err error) {
	limit := q.o.Now().Add(-q.o.Keep)
	var old []*entry
	q.mu.Lock()
	for _, e := range q.by {
		if e.state == Done && !e.ended.After(limit) {
			old = append(old, e)
		}
	}
	q.mu.Unlock()
	if len(old) == 0 {
		return 0, nil
	}
	err = q.l.Update(ctx, "erase answers", func(tx *ledger.Tx) error {
		for _, e := range old {
			if _, err := tx.Exec(`DELETE FROM queue WHERE seq = ?`, e.seq); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, e := range old {
		q.forget(e.id)
	}
	return len(old), q.l.Checkpoint(ctx)
}
