package store

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// MaxLease is the longest time for which a lease can be taken.
const MaxLease = 5 * time.Minute

// free holds for rows without a live lease at $1. A lease that ends later than any lease can was given before the clock was set
// back, and would keep a row from waking for as long as the jump was.
const free = `(lease_owner = '' OR lease_until <= $1 OR lease_until > $1 + 600000000000)` // twice MaxLease

// due selects the rows that a driver may take at $1: emergencies first, then the longest overdue.
const due = ` FROM rotations WHERE ended = 0 AND wake_at <= $1 AND ` + free + `
	ORDER BY CASE WHEN kind = 'emergency' THEN 0 ELSE 1 END, wake_at, id LIMIT 1`

// Claim takes a rotation that is due (its wake time has come, it has not ended, its lease is free or has run out) and gives it
// to owner for ttl under a raised fence; ok is false when none is due. Of several callers at once each gets another row.
func (s *Store) Claim(ctx context.Context, owner string, ttl time.Duration) (row rotation.Row, ok bool, err error) {
	const what = "claim rotation"
	if err := checkLease(owner, ttl); err != nil {
		return row, false, fault.In(err, what)
	}
	// Looking first spares an idle store the turn of a writer.
	_, ok, err = one(s.peek(ctx), what, scanText, `SELECT id`+due, nanos(s.now()))
	if err != nil || !ok {
		return row, false, err
	}
	lock := ""
	if s.dialect == postgreSQL {
		lock = ` FOR UPDATE SKIP LOCKED`
	}
	err = s.write(ctx, false, func(t *Tx) (err error) {
		now := s.now()
		row, ok, err = one(t, what, scanRotation, `UPDATE rotations SET fence = fence + 1, lease_owner = $2, lease_until = $3, updated = $1
			WHERE id = (SELECT id`+due+lock+`) RETURNING `+rotationColumns, nanos(now), owner, nanos(now.Add(ttl)))
		return err
	})
	if err != nil {
		return rotation.Row{}, false, err
	}
	return row, ok, nil
}

func checkLease(owner string, ttl time.Duration) error {
	if owner == "" || ttl <= 0 || ttl > MaxLease {
		return fault.New(fault.Invalid, "the lease lacks an owner, or its time is not within MaxLease")
	}
	return nil
}

// ClaimID takes the rotation with this id, due or not. The same owner may take its own lease again; the fence is raised each
// time. Kinds: NotFound; Conflict when another owner has a live lease, or when the rotation has ended.
func (s *Store) ClaimID(ctx context.Context, id, owner string, ttl time.Duration) (row rotation.Row, err error) {
	const what = "claim rotation"
	if err := checkLease(owner, ttl); err != nil {
		return row, fault.In(err, what)
	}
	err = s.write(ctx, false, func(t *Tx) (err error) {
		now := s.now()
		var ok bool
		// A row that is taken early is due from now on, so that it is found when its driver dies.
		row, ok, err = one(t, what, scanRotation, `UPDATE rotations SET fence = fence + 1, lease_owner = $2, lease_until = $3, updated = $1,
				wake_at = CASE WHEN wake_at > $1 THEN $1 ELSE wake_at END
			WHERE id = $4 AND ended = 0 AND (lease_owner = $2 OR `+free+`)
			RETURNING `+rotationColumns, nanos(now), owner, nanos(now.Add(ttl)), id)
		if err != nil || ok {
			return err
		}
		held, err := t.Rotation(id)
		switch {
		case err != nil:
			return fault.In(err, what)
		case held.Status.Ended():
			return fault.New(fault.Conflict, what+": it has ended ("+string(held.Status)+")", fault.Hint("keywright rotation show %s", id))
		}
		return fault.New(fault.Conflict, what+": "+held.LeaseOwner+" is driving it", fault.Hint("keywright rotation follow %s", id),
			fault.RetryAfter(held.LeaseUntil.Sub(now)))
	})
	return row, err
}

// Renew extends a lease to ttl from now. Kinds: NotFound; Conflict "lease lost" when the row has another fence or has ended.
func (s *Store) Renew(ctx context.Context, id string, fence int64, ttl time.Duration) error {
	const what = "renew lease"
	if err := checkLease(id, ttl); err != nil {
		return fault.In(err, what)
	}
	return s.write(ctx, false, func(t *Tx) error {
		n, err := t.exec(what, `UPDATE rotations SET lease_until = $1 WHERE id = $2 AND fence = $3 AND ended = 0 AND lease_owner <> ''`,
			nanos(s.now().Add(ttl)), id, fence)
		if err != nil || n == 1 {
			return err
		}
		r, err := t.Rotation(id)
		if err != nil {
			return fault.In(err, what)
		}
		if r.Fence == fence && !r.Status.Ended() {
			return fault.New(fault.Conflict, what+": lease lost: it was given back")
		}
		return t.lost(what, id, fence)
	})
}

// Park ends the work of a driver on a rotation: it sets the standing and the wake time and frees the lease, if and only if no
// signal came since the driver saw seen of them. When parked is false a signal came: the lease is kept, and the driver looks
// again. A status that has ended ends the rotation. Kinds: Invalid without a wake time; NotFound; Conflict "lease lost".
func (s *Store) Park(ctx context.Context, id string, fence, seen int64, p Parking) (parked bool, err error) {
	const what = "park rotation"
	if p.Status == "" || p.WakeAt.IsZero() && !p.Status.Ended() {
		return false, fault.New(fault.Invalid, what+": it lacks a status or a wake time")
	}
	err = s.write(ctx, false, func(t *Tx) error {
		now, ended := nanos(s.now()), int64(0)
		if p.Status.Ended() {
			ended = now
		}
		n, err := t.exec(what, `UPDATE rotations SET status = $1, note = $2, hint = $3, wake_at = $4, updated = $5, ended = $6,
				lease_owner = '', lease_until = 0
			WHERE id = $7 AND fence = $8 AND signals = $9 AND ended = 0`,
			string(p.Status), p.Note, p.Hint, nanos(p.WakeAt), now, ended, id, fence, seen)
		parked = n == 1
		if err != nil || parked {
			return err
		}
		r, err := t.Rotation(id)
		if err != nil {
			return fault.In(err, what)
		}
		if r.Fence != fence || r.Status.Ended() {
			return t.lost(what, id, fence)
		}
		return nil
	})
	return err == nil && parked, err
}

// Fence gives what a driver that works on a rotation must watch: the fence, the count of signals, the status. It is cheap
// enough to be asked several times a second. Kind: NotFound.
func (s *Store) Fence(ctx context.Context, id string) (fence, signals int64, status rotation.Status, err error) {
	type pulse struct {
		fence, signals int64
		status         rotation.Status
	}
	scan := func(row scanner) (p pulse, err error) {
		err = row.Scan(&p.fence, &p.signals, &p.status)
		return p, err
	}
	p, ok, err := one(s.peek(ctx), "read fence", scan, `SELECT fence, signals, status FROM rotations WHERE id = $1`, id)
	if err == nil && !ok {
		err = noRotation(id)
	}
	return p.fence, p.signals, p.status, err
}

// NextWake gives the earliest time at which Claim may find a rotation, which may be past; ok is false when none is active.
// A signal may make it earlier at any time, so a driver sleeps for a bounded time whatever this says.
func (s *Store) NextWake(ctx context.Context) (at time.Time, ok bool, err error) {
	scan := func(row scanner) (at time.Time, err error) {
		err = row.Scan(timeColumn{&at})
		return at, err
	}
	return one(s.peek(ctx), "read wake time", scan, `SELECT CASE WHEN `+free+` OR lease_until < wake_at THEN wake_at ELSE lease_until END
		AS free_at FROM rotations WHERE ended = 0 ORDER BY free_at LIMIT 1`, nanos(s.now()))
}

// FreeLeases ends every lease of a SQLite store, so that a restarted driver need not wait for those of its predecessor to run
// out. Only the holder of the DriverLock may call it. A driver that lives on is refused by the fence, since the next claim
// raises it. It gives the number of leases that it ended. Kind: Unsupported on PostgreSQL, where drivers are several.
func (s *Store) FreeLeases(ctx context.Context) (n int64, err error) {
	const what = "free leases"
	if s.dialect == postgreSQL {
		return 0, fault.New(fault.Unsupported, what+": the store may have other drivers")
	}
	err = s.write(ctx, false, func(t *Tx) (err error) {
		n, err = t.exec(what, `UPDATE rotations SET lease_owner = '', lease_until = 0 WHERE lease_owner <> ''`)
		return err
	})
	return n, err
}

func scanText(row scanner) (s string, err error) {
	err = row.Scan(&s)
	return s, err
}
