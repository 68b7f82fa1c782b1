package store

import (
	"encoding/json"

	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
)

// Record adds events to the chained record, in this transaction: it fills in a zero At and an empty Actor and links each entry
// to the one before. Kinds: Invalid.
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
		entry, err := link(prev, e, t.s.id)
		if err != nil {
			return fault.In(err, what)
		}
		text, err := jsonText(what, entry)
		if err != nil {
			return err
		}
		if _, err := t.exec(what, `INSERT INTO audit (seq, entry) VALUES ($1, $2)`, entry.Seq, text); err != nil {
			return err
		}
		prev = entry
	}
	return nil
}

func scanAudit(row scanner) (e AuditEntry, err error) { return e, row.Scan(jsonColumn{&e}) }

// AuditEntries gives the entries of the record from number from on, in order, at most limit of them; 0 means all.
func (t *Tx) AuditEntries(from int64, limit int) ([]AuditEntry, error) {
	const what, query = "read audit record", `SELECT entry FROM audit WHERE seq >= $1 ORDER BY seq`
	if limit > 0 {
		return all(t, what, scanAudit, query+` LIMIT $2`, from, int64(limit))
	}
	return all(t, what, scanAudit, query, from)
}

// LastAudit gives the newest entry of the record; ok is false when it is empty.
func (t *Tx) LastAudit() (entry AuditEntry, ok bool, err error) {
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
	scan := func(row scanner) (c json.RawMessage, err error) { return c, row.Scan(rawColumn{&c}) }
	return all(t, "read checkpoints", scan, `SELECT checkpoint FROM checkpoints ORDER BY seq`)
}
