package store

import (
	"context"
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/sqlfile"
)

// fail gives a database error its kind and hint; nil stays nil, and an error that has a kind keeps it.
func (s *Store) fail(ctx context.Context, err error, what string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fault.In(ctx.Err(), what)
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return fault.In(err, what)
	}
	kind, hint := classify(err)
	if hint == "" {
		return fault.Wrap(kind, err, what)
	}
	return fault.Wrap(kind, err, what, fault.Hint("%s", hint))
}

// commitFault is fail for a commit, whose reply may be lost after it was applied.
func (s *Store) commitFault(ctx context.Context, err error) error {
	const what = "commit to store"
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff != sqlite3.SQLITE_IOERR {
		return s.fail(ctx, err, what)
	}
	if _, ok := errors.AsType[*pgconn.PgError](err); ok {
		return s.fail(ctx, err, what)
	}
	if s.dialect == sqLite && ctx.Err() != nil {
		return fault.In(ctx.Err(), what) // database/sql saw the end of ctx before it asked for the commit.
	}
	return fault.Wrap(fault.Indeterminate, err, what)
}

func classify(err error) (kind fault.Kind, hint string) {
	if kind, hint, ok := sqlfile.Classify(err); ok {
		return kind, hint
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch e.Code[:min(2, len(e.Code))] {
		case "23":
			return fault.Conflict, ""
		case "28":
			return fault.Unauthenticated, "look at the user and password in the store's URL"
		case "3D":
			return fault.NotFound, "make the database first"
		case "08", "53", "57", "58":
			return fault.Unavailable, "look at the PostgreSQL server"
		case "XX":
			return fault.Corrupt, "look at the PostgreSQL server's log"
		}
		switch e.Code {
		case "40001", "40P01", "55P03", "25P03":
			return fault.Unavailable, "another process is writing to the store; try again"
		case "42501":
			return fault.Forbidden, "grant the store's user all rights on its database"
		}
		return fault.Unknown, ""
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return fault.Unavailable, "look at the PostgreSQL server and at the store's URL"
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return fault.Unavailable, "look at the PostgreSQL server"
	}
	return fault.KindOf(err), ""
}

// retryable reports whether the database refused a transaction for the sake of another one, so that it may be run again.
func retryable(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == "40001" || e.Code == "40P01" || e.Code == "55P03"
	}
	return sqlfile.Busy(err)
}
