package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/rotation"
)

// RotationEnd is the standing of a rotation that has ended, without its plan.
type RotationEnd struct {
	ID      string
	Key     apikey.Name
	Kind    rotation.Kind
	Status  rotation.Status
	Created time.Time
	Ended   time.Time
}

// RotationEnds gives the newest ended rotation of each key, by key.
func (t *Tx) RotationEnds() ([]RotationEnd, error) {
	e := new(RotationEnd)
	dest := []any{&e.ID, (*string)(&e.Key), (*string)(&e.Kind), (*string)(&e.Status), timeColumn{&e.Created}, timeColumn{&e.Ended}}
	scan := func(row scanner) (RotationEnd, error) {
		*e = RotationEnd{}
		err := row.Scan(dest...)
		return *e, err
	}
	query := `SELECT DISTINCT ON (key_name) id, key_name, kind, status, created, ended FROM rotations WHERE ended <> 0
		ORDER BY key_name, ended DESC, created DESC, id DESC`
	if t.s.dialect == sqLite {
		// SQLite takes the other columns from the row that has the maximum. Two that ended in the same nanosecond are told apart by the order of
		// the index, which is the one above.
		query = `SELECT id, key_name, kind, status, created, MAX(ended) FROM rotations WHERE ended <> 0 GROUP BY key_name`
	}
	list, err := all(t, "read ended rotations", scan, query)
	slices.SortFunc(list, func(a, b RotationEnd) int { return cmp.Compare(a.Key, b.Key) })
	return list, err
}
