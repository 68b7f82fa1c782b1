package store

import (
	"fmt"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

const rotationColumns = `id, key_name, kind, status, plan, created, updated, ended, note, hint, wake_at, signals, fence, lease_owner,
	lease_until`

func scanRotation(row scanner) (r rotation.Row, err error) {
	err = row.Scan(&r.ID, &r.Key, &r.Kind, &r.Status, jsonColumn{&r.Plan}, timeColumn{&r.Created}, timeColumn{&r.Updated},
		timeColumn{&r.Ended}, &r.Note, &r.Hint, timeColumn{&r.WakeAt}, &r.Signals, &r.Fence, &r.LeaseOwner, timeColumn{&r.LeaseUntil})
	return r, err
}

// CreateRotation adds a rotation. A key has at most one that has not ended. Zero Created, Updated and WakeAt become now; lease,
// fence and signals start empty whatever the row says. Kinds: Invalid; Conflict, with a hint that names the running rotation.
func (t *Tx) CreateRotation(r rotation.Row) error {
	const what = "create rotation"
	if r.ID == "" || r.Kind == "" || r.Status == "" || r.Status.Ended() || !r.Key.Valid() {
		return fault.New(fault.Invalid, what+": it lacks an id, a kind, a valid key or a status that is not final")
	}
	now := t.s.now()
	if r.Created.IsZero() {
		r.Created = now
	}
	if r.Updated.IsZero() {
		r.Updated = now
	}
	if r.WakeAt.IsZero() {
		r.WakeAt = now
	}
	plan, err := jsonText(what, r.Plan)
	if err != nil {
		return err
	}
	n, err := t.exec(what, `INSERT INTO rotations (id, key_name, kind, status, plan, created, updated, ended, note, hint, wake_at,
			signals, fence, lease_owner, lease_until, entries)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10, 0, 0, '', 0, 0) ON CONFLICT DO NOTHING`,
		r.ID, string(r.Key), string(r.Kind), string(r.Status), plan, nanos(r.Created), nanos(r.Updated), r.Note, r.Hint, nanos(r.WakeAt))
	if err != nil || n == 1 {
		return err
	}
	running, ok, err := t.ActiveRotation(r.Key)
	switch {
	case err != nil:
		return err
	case ok:
		return fault.New(fault.Conflict, what+": "+running.ID+" of key "+string(r.Key)+" has not ended",
			fault.Hint("keywright rotation show %s", running.ID))
	}
	return fault.Newf(fault.Conflict, "%s: the id %q is in use", what, r.ID)
}

// Rotation gives the rotation with this id. Kind: NotFound.
func (t *Tx) Rotation(id string) (rotation.Row, error) {
	r, ok, err := one(t, "read rotation", scanRotation, `SELECT `+rotationColumns+` FROM rotations WHERE id = $1`, id)
	if err == nil && !ok {
		err = noRotation(id)
	}
	return r, err
}

func noRotation(id string) error {
	return fault.New(fault.NotFound, fmt.Sprintf("read rotation: there is no %q", id), fault.Hint("keywright rotation list"))
}

// ActiveRotation gives the rotation of the key that has not ended; ok is false when there is none.
func (t *Tx) ActiveRotation(key apikey.Name) (row rotation.Row, ok bool, err error) {
	return one(t, "read rotation", scanRotation, `SELECT `+rotationColumns+` FROM rotations WHERE key_name = $1 AND ended = 0`, string(key))
}

// Rotations gives the rotations that the filter selects, newest first.
func (t *Tx) Rotations(f RotationFilter) ([]rotation.Row, error) {
	query, args := `SELECT `+rotationColumns+` FROM rotations WHERE TRUE`, []any(nil)
	if f.Key != "" {
		args = append(args, string(f.Key))
		query += ` AND key_name = $1`
	}
	if f.Active {
		// The sum keeps SQLite from walking all rotations that there ever were, in their order, in place of the few active ones.
		query += ` AND ended = 0 ORDER BY created + 0 DESC, id DESC`
	} else {
		query += ` ORDER BY created DESC, id DESC`
	}
	if f.Limit > 0 {
		args = append(args, int64(f.Limit))
		query += fmt.Sprintf(` LIMIT $%d`, len(args))
	}
	return all(t, "read rotations", scanRotation, query, args...)
}

// Journal gives the entries of a rotation in order; none when there is no such rotation.
func (t *Tx) Journal(id string) ([]rotation.Entry, error) { return t.JournalAfter(id, 0) }

// JournalAfter gives the entries of a rotation whose number is above seq, in order.
func (t *Tx) JournalAfter(id string, seq int64) ([]rotation.Entry, error) {
	scan := func(row scanner) (e rotation.Entry, err error) {
		err = row.Scan(&e.Seq, timeColumn{&e.At}, &e.Type, &e.Effect, &e.Fence, rawColumn{&e.Data}, jsonColumn{&e.Fault}, &e.Signal, &e.Actor)
		return e, err
	}
	return all(t, "read journal", scan, `SELECT seq, made_at, type, effect, fence, data, fault, signal, actor FROM journal
		WHERE rotation_id = $1 AND seq > $2 ORDER BY seq`, id, seq)
}

// Append writes entries to the journal under the fence: it numbers them, sets their fence, and fills in a zero At. An ended
// rotation takes last words as long as its fence stands. Kinds: NotFound; Conflict "lease lost" when the row has another fence; Invalid.
func (t *Tx) Append(id string, fence int64, entries ...rotation.Entry) error {
	const what = "append to journal"
	if len(entries) == 0 {
		return t.Guard(id, fence)
	}
	last, ok, err := t.bump(what, `UPDATE rotations SET entries = entries + $1, updated = $2 WHERE id = $3 AND fence = $4
		RETURNING entries`, int64(len(entries)), nanos(t.s.now()), id, fence)
	if err != nil {
		return err
	}
	if !ok {
		return t.lost(what, id, fence)
	}
	return t.insert(what, id, fence, last-int64(len(entries)), entries)
}

// Guard fails as Append does when the row has another fence, and holds the row until the transaction ends, so that no one
// takes it over in between.
func (t *Tx) Guard(id string, fence int64) error {
	const what = "check lease"
	n, err := t.exec(what, `UPDATE rotations SET fence = fence WHERE id = $1 AND fence = $2`, id, fence)
	if err == nil && n == 0 {
		err = t.lost(what, id, fence)
	}
	return err
}

func scanNumber(row scanner) (n int64, err error) {
	err = row.Scan(&n)
	return n, err
}

// bump runs an update that returns one number.
func (t *Tx) bump(what, query string, args ...any) (int64, bool, error) {
	if t.view {
		return 0, false, fault.Wrap(fault.Unknown, errView, what)
	}
	return one(t, what, scanNumber, query, args...)
}

func (t *Tx) insert(what, id string, fence, last int64, entries []rotation.Entry) error {
	now := t.s.now()
	for i, e := range entries {
		if e.Type == "" {
			return fault.New(fault.Invalid, what+": an entry has no type")
		}
		if e.At.IsZero() {
			e.At = now
		}
		data, err := rawText(what, e.Data)
		if err != nil {
			return err
		}
		missed, err := faultText(what, e.Fault)
		if err != nil {
			return err
		}
		if _, err := t.exec(what, `INSERT INTO journal (rotation_id, seq, made_at, type, effect, fence, data, fault, signal, actor)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, id, last+1+int64(i), nanos(e.At), string(e.Type), e.Effect, fence,
			data, missed, string(e.Signal), e.Actor); err != nil {
			return err
		}
	}
	return nil
}

// lost says why a guarded statement found no row.
func (t *Tx) lost(what, id string, fence int64) error {
	r, err := t.Rotation(id)
	if err != nil {
		return fault.In(err, what)
	}
	if r.Fence != fence {
		return fault.Newf(fault.Conflict, "%s: lease lost: the fence is %d, not %d", what, r.Fence, fence)
	}
	return fault.Newf(fault.Conflict, "%s: the rotation has ended (%s)", what, r.Status)
}

// SetStatus changes the standing of a rotation that has not ended, under the fence. Kinds as Append; Conflict also when it has
// ended.
func (t *Tx) SetStatus(id string, fence int64, to SetStatus) error {
	const what = "set status"
	if to.Status == "" {
		return fault.New(fault.Invalid, what+": no status")
	}
	now := nanos(t.s.now())
	query := `UPDATE rotations SET status = $1, note = $2, hint = $3, updated = $4 WHERE id = $5 AND fence = $6 AND ended = 0`
	if to.Status.Ended() {
		query = `UPDATE rotations SET status = $1, note = $2, hint = $3, updated = $4, ended = $4, lease_owner = '', lease_until = 0
			WHERE id = $5 AND fence = $6 AND ended = 0`
	}
	n, err := t.exec(what, query, string(to.Status), to.Note, to.Hint, now, id, fence)
	if err == nil && n == 0 {
		err = t.lost(what, id, fence)
	}
	return err
}

// Signal says something to a rotation: it counts the signal, writes it to the journal and wakes the rotation now, whoever has
// its lease. The entry's Type becomes Signalled. Kinds: NotFound; Conflict when the rotation has ended; Invalid.
func (t *Tx) Signal(id string, e rotation.Entry) error {
	const what = "signal rotation"
	if e.Signal == "" {
		return fault.New(fault.Invalid, what+": the entry names no signal")
	}
	e.Type = rotation.Signalled
	now := nanos(t.s.now())
	last, ok, err := t.bump(what, `UPDATE rotations SET signals = signals + 1, entries = entries + 1, wake_at = $1, updated = $1
		WHERE id = $2 AND ended = 0 RETURNING entries`, now, id)
	if err != nil {
		return err
	}
	r, err := t.Rotation(id)
	if err != nil {
		return fault.In(err, what)
	}
	if !ok {
		return fault.New(fault.Conflict, what+": it has ended ("+string(r.Status)+")", fault.Hint("keywright rotation show %s", id))
	}
	return t.insert(what, id, r.Fence, last-1, []rotation.Entry{e})
}

// Supersede ends a rotation at once, without compensation, whoever has its lease: the fence is raised, so that its driver can
// write no more. Kinds: NotFound; Conflict when it has ended.
func (t *Tx) Supersede(id, note string) error {
	const what = "supersede rotation"
	n, err := t.exec(what, `UPDATE rotations SET fence = fence + 1, status = $1, note = $2, hint = '', ended = $3, updated = $3,
			lease_owner = '', lease_until = 0 WHERE id = $4 AND ended = 0`, string(rotation.Superseded), note, nanos(t.s.now()), id)
	if err != nil || n == 1 {
		return err
	}
	r, err := t.Rotation(id)
	if err != nil {
		return fault.In(err, what)
	}
	return fault.New(fault.Conflict, what+": it has ended ("+string(r.Status)+")")
}
