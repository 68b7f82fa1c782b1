package store

import (
	"context"
	"path/filepath"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/sqlfile"
)

// dialect is which database is behind the queries.
type dialect uint8

const (
	sqLite dialect = iota
	postgreSQL
)

const sqliteConnections = 8

// openSQLite opens the file at path, and makes it and its directory when they are not there.
func (s *Store) openSQLite(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "find store")
	}
	s.dir = filepath.Dir(path)
	if s.db, err = sqlfile.Open(ctx, path, sqliteConnections); err != nil {
		return err
	}
	s.turn = make(chan struct{}, 1)
	return nil
}
