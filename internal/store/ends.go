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
	scan := func(row scanner) (e RotationEnd, err error) {
		err = row.Scan(&e.ID, &e.Key, &e.Kind, &e.Status, timeColumn{&e.Created}, timeColumn{&e.Ended})
		return e, err
	}
	list, err := all(t, "read ended rotations", scan, `SELECT id, key_name, kind, status, created, ended FROM (
			SELECT id, key_name, kind, status, created, ended,
				ROW_NUMBER() OVER (PARTITION BY key_name ORDER BY ended DESC, created DESC, id DESC) AS place
			FROM rotations WHERE ended <> 0) AS newest
		WHERE place = 1`)
	slices.SortFunc(list, func(a, b RotationEnd) int { return cmp.Compare(a.Key, b.Key) })
	return list, err
}
