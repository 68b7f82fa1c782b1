package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // The driver "sqlite".

	"github.com/keywright/keywright/internal/fault"
)

// dialect is which database is behind the queries.
type dialect uint8

const (
	sqLite dialect = iota
	postgreSQL
)

// pragmas are set on every connection and checked at the start, since the driver ignores spellings that it does not know.
// The first must come first: the change to WAL waits for other processes.
var pragmas = []struct{ name, set, want string }{
	{"busy_timeout", "2000", "2000"},
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

const sqliteConnections = 8

// openSQLite opens the file at path, and makes it and its directory when they are not there.
func (s *Store) openSQLite(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "find store")
	}
	s.dir = filepath.Dir(path)
	if err := privateDir(s.dir); err != nil {
		return err
	}
	if err := localDisk(s.dir); err != nil {
		return err
	}
	if err := privateFile(path); err != nil {
		return err
	}
	if s.db, err = sql.Open("sqlite", dataSource(path)); err != nil {
		return fault.Wrap(fault.Invalid, err, "open database")
	}
	s.db.SetMaxOpenConns(sqliteConnections)
	s.db.SetMaxIdleConns(sqliteConnections)
	s.turn = make(chan struct{}, 1)
	if err := s.checkPragmas(ctx); err != nil {
		_ = s.db.Close()
		return err
	}
	return nil
}

// dataSource spells the path and the pragmas as the driver wants them.
func dataSource(path string) string {
	q := url.Values{"_txlock": {"immediate"}}
	for _, p := range pragmas {
		q.Add("_pragma", p.name+"("+p.set+")")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func (s *Store) checkPragmas(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.fail(ctx, err, "open database")
	}
	defer conn.Close() //nolint:errcheck // It goes back to the pool.
	for _, p := range pragmas {
		var got string
		if err := conn.QueryRowContext(ctx, `PRAGMA `+p.name).Scan(&got); err != nil {
			return s.fail(ctx, err, "read setting "+p.name)
		}
		if got != p.want {
			return fault.New(fault.Invalid, fmt.Sprintf("set %s: the database answers %q, not %q", p.name, got, p.want),
				fault.Hint("keep the store on a local disk that supports shared memory maps"))
		}
	}
	return nil
}

// privateDir makes the directory with mode 0700, or checks that nobody else may write in an existing one.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(fault.Forbidden, err, "make directory of store")
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "read directory of store")
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fault.New(fault.Forbidden, fmt.Sprintf("check directory %q: others may write in it (mode %04o)", dir, info.Mode().Perm()),
			fault.Hint("give the store a directory of its own: chmod 700 %s", dir))
	}
	return nil
}

// privateFile makes an empty file of mode 0600, or checks that nobody else may read or write an existing one. SQLite gives the
// files beside it the same mode.
func privateFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return fault.Wrap(fault.Unavailable, f.Close(), "make store")
	}
	if !errors.Is(err, fs.ErrExist) {
		return fault.Wrap(fault.Forbidden, err, "make store")
	}
	info, err := os.Stat(path)
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "read store")
	}
	if !info.Mode().IsRegular() {
		return fault.Newf(fault.Invalid, "read store: %q is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fault.New(fault.Forbidden, fmt.Sprintf("read store: other users may read %q (mode %04o)", path, info.Mode().Perm()),
			fault.Hint("chmod 600 %s", path))
	}
	return nil
}
