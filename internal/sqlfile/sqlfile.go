// Package sqlfile opens a SQLite database in one private file on a local disk: write-ahead log, every commit on the disk before it is
// answered, readable by its owner alone; and it locks a file for one process. It never reads or changes a schema, and knows nothing of what is
// kept. Called by store and by the gateway's ledger.
package sqlfile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"modernc.org/sqlite" // Also the driver "sqlite".
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/keywright/keywright/internal/fault"
)

// patience is how long a connection waits for others that have the file.
const patience = 2 * time.Second

// pragmas are set on every connection and checked at the start, since the driver ignores spellings that it does not know.
// The first must come first: the change to WAL waits for other processes.
var pragmas = []struct{ name, set, want string }{
	{"busy_timeout", fmt.Sprint(patience.Milliseconds()), fmt.Sprint(patience.Milliseconds())},
	{"journal_mode", "WAL", "wal"},
	{"synchronous", "FULL", "2"},
	{"fullfsync", "1", "1"}, // macOS: an fsync that reaches the disk
	{"checkpoint_fullfsync", "1", "1"},
	{"foreign_keys", "1", "1"},
	{"secure_delete", "1", "1"},
	{"temp_store", "MEMORY", "2"},
	{"trusted_schema", "0", "0"},
	{"cell_size_check", "1", "1"},
}

// Open opens the file at path, and makes it and its directory when they are not there. The pool has at most the given number of connections, and
// keeps them; a transaction that may write begins at once as the writer. Kinds: Invalid (a network file system, a disk without shared memory
// maps), Forbidden (others may write the directory or read the file), Unavailable, Corrupt (the file is no database).
func Open(ctx context.Context, path string, connections int) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "find database")
	}
	dir := filepath.Dir(path)
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	if err := localDisk(dir); err != nil {
		return nil, err
	}
	if err := privateFile(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dataSource(path))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "open database")
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	if err := alone(ctx, dir, func() error { return checkPragmas(ctx, db) }); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// dataSource spells the path and the pragmas as the driver wants them.
func dataSource(path string) string {
	q := url.Values{"_txlock": {"immediate"}}
	for _, p := range pragmas {
		q.Add("_pragma", p.name+"("+p.set+")")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func checkPragmas(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return Fault(ctx, err, "open database")
	}
	defer conn.Close() //nolint:errcheck // It goes back to the pool.
	for _, p := range pragmas {
		var got string
		if err := conn.QueryRowContext(ctx, `PRAGMA `+p.name).Scan(&got); err != nil {
			return Fault(ctx, err, "read setting "+p.name)
		}
		if got != p.want {
			return fault.New(fault.Invalid, fmt.Sprintf("set %s: the database answers %q, not %q", p.name, got, p.want),
				fault.Hint("keep the database on a local disk that supports shared memory maps"))
		}
	}
	return nil
}

// alone runs open while no other process does so in the same directory. Of several that make a file at once and want to change its journal,
// SQLite refuses all but one, some of them without a wait, since each could be waiting for the other. A process that stands still with the lock
// holds nobody up for long: SQLite decides then.
func alone(ctx context.Context, dir string, open func() error) error {
	f, err := os.Open(dir)
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "open directory of database")
	}
	defer f.Close() // which frees the lock
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < 5*patience; {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fault.In(context.Cause(ctx), "open database")
		case <-tick.C:
		}
	}
	return open()
}

// privateDir makes the directory with mode 0700, or checks that nobody else may write in an existing one.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(fault.Forbidden, err, "make directory of database")
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "read directory of database")
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fault.New(fault.Forbidden, fmt.Sprintf("check directory %q: others may write in it (mode %04o)", dir, info.Mode().Perm()),
			fault.Hint("give the database a directory of its own: chmod 700 %s", dir))
	}
	return nil
}

// privateFile makes an empty file of mode 0600, or checks that nobody else may read or write an existing one. SQLite gives the
// files beside it the same mode.
func privateFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return fault.Wrap(fault.Unavailable, f.Close(), "make database")
	}
	if !errors.Is(err, fs.ErrExist) {
		return fault.Wrap(fault.Forbidden, err, "make database")
	}
	info, err := os.Stat(path)
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "read database")
	}
	if !info.Mode().IsRegular() {
		return fault.Newf(fault.Invalid, "read database: %q is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fault.New(fault.Forbidden, fmt.Sprintf("read database: other users may read %q (mode %04o)", path, info.Mode().Perm()),
			fault.Hint("chmod 600 %s", path))
	}
	return nil
}

// Fault gives an error of the database its kind and hint, under what, a `verb object`; nil stays nil, and an error that has a kind keeps it.
func Fault(ctx context.Context, err error, what string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fault.In(ctx.Err(), what)
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return fault.In(err, what)
	}
	kind, hint, ok := Classify(err)
	if !ok {
		kind = fault.KindOf(err)
	}
	if hint == "" {
		return fault.Wrap(kind, err, what)
	}
	return fault.Wrap(kind, err, what, fault.Hint("%s", hint))
}

// Classify gives the kind of an error of SQLite, and a hint or nothing; ok is false for any other error.
func Classify(err error) (kind fault.Kind, hint string, ok bool) {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return fault.Unknown, "", false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fault.Unavailable, "another process is writing to the database; try again", true
	case sqlite3.SQLITE_FULL:
		return fault.Unavailable, "free space on the disk of the database; nothing of this change was kept", true
	case sqlite3.SQLITE_IOERR:
		return fault.Unavailable, "look at the disk of the database", true
	case sqlite3.SQLITE_CONSTRAINT:
		return fault.Conflict, "", true
	case sqlite3.SQLITE_CORRUPT:
		return fault.Corrupt, "stop Keywright and put back a backup of the database", true
	case sqlite3.SQLITE_NOTADB:
		return fault.Corrupt, "the file is no database: put back a backup, or name another file", true
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return fault.Forbidden, "the user that runs Keywright must own the database's file and directory", true
	}
	return fault.Unknown, "", true
}

// Busy reports whether the database refused a transaction for the sake of another one, so that it may be run again.
func Busy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
}
