package store

import (
	"encoding/json"
	"iter"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
)

// Record adds events to the chained record, in this transaction: it fills in a zero At and an empty Actor and links each entry
// to the one before. Kinds: Invalid; Corrupt when the last entry was changed beyond reading, since nothing may follow it.
func (t *Tx) Record(events ...event.Event) error {
	const what = "record event"
	if len(events) == 0 {
		return nil
	}
	prev, _, err := t.LastAudit()
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Type == "" {
			return fault.New(fault.Invalid, what+": it has no type")
		}
		if e.At.IsZero() {
			e.At = t.s.now()
		}
		if e.Actor == "" {
			e.Actor = t.s.options.Actor
		}
		entry, err := audit.Link(prev, e, t.s.id)
		if err != nil {
			return fault.In(err, what)
		}
		if _, err := t.exec(what, `INSERT INTO audit (seq, entry) VALUES ($1, $2)`, entry.Seq, string(entry.Line())); err != nil {
			return err
		}
		prev = entry
	}
	return nil
}

func scanAudit(row scanner) (e audit.Entry, err error) {
	var line []byte
	if err := row.Scan(&line); err != nil {
		return e, err
	}
	return audit.ParseEntry(line)
}

// AuditEntries gives the entries of the record from number from on, in order, at most limit of them; 0 means all. Kind: Corrupt
// when an entry was changed beyond reading.
func (t *Tx) AuditEntries(from int64, limit int) ([]audit.Entry, error) {
	const what, query = "read audit record", `SELECT entry FROM audit WHERE seq >= $1 ORDER BY seq`
	if limit > 0 {
		return all(t, what, scanAudit, query+` LIMIT $2`, from, int64(limit))
	}
	return all(t, what, scanAudit, query, from)
}

// Audit gives the whole record in order, one entry at a time, for a verifier: an entry that cannot be read gives an error of
// kind Corrupt and the next ones follow. Other errors end it. The Tx must not be used meanwhile.
func (t *Tx) Audit() iter.Seq2[audit.Entry, error] {
	const what = "read audit record"
	return func(yield func(audit.Entry, error) bool) {
		rows, err := t.tx.QueryContext(t.ctx, `SELECT entry FROM audit ORDER BY seq`)
		if err != nil {
			yield(audit.Entry{}, t.s.fail(t.ctx, err, what))
			return
		}
		defer rows.Close()
		for rows.Next() {
			e, err := scanAudit(rows)
			if !yield(e, t.s.fail(t.ctx, err, what)) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(audit.Entry{}, t.s.fail(t.ctx, err, what))
		}
	}
}

// LastAudit gives the newest entry of the record; ok is false when it is empty. Kind: Corrupt.
func (t *Tx) LastAudit() (entry audit.Entry, ok bool, err error) {
	return one(t, "read audit record", scanAudit, `SELECT entry FROM audit ORDER BY seq DESC LIMIT 1`)
}

// PutCheckpoint keeps a checkpoint of the record, as JSON, behind those that are there. Kind: Invalid.
func (t *Tx) PutCheckpoint(checkpoint json.RawMessage) error {
	const what = "put checkpoint"
	text, err := rawText(what, checkpoint)
	if err != nil {
		return err
	}
	if !text.Valid {
		return fault.New(fault.Invalid, what+": it is empty")
	}
	_, err = t.exec(what, `INSERT INTO checkpoints (seq, checkpoint) SELECT COALESCE(MAX(seq), 0) + 1, $1 FROM checkpoints`, text.String)
	return err
}

// Checkpoints gives all checkpoints, oldest first.
func (t *Tx) Checkpoints() ([]json.RawMessage, error) {
	scan := func(row scanner) (c json.RawMessage, err error) {
		err = row.Scan(rawColumn{&c})
		return c, err
	}
	return all(t, "read checkpoints", scan, `SELECT checkpoint FROM checkpoints ORDER BY seq`)
}
