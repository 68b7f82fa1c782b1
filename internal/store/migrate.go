package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/keywright/keywright/internal/fault"
)

//go:embed migrations/*.sql
var embedded embed.FS

// migrations gives the schema changes that this program knows, named NUMBER_WORDS.sql. They go forward only.
func migrations() fs.FS {
	sub, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic(err) // The name above is a constant.
	}
	return sub
}

const schemaTable = "schema_version"

// migrate brings the schema to the newest version in files. A schema that is up to date costs two small queries.
func (s *Store) migrate(ctx context.Context, files fs.FS) error {
	want, err := newest(files)
	if err != nil {
		return err
	}
	have, err := s.schema(ctx)
	if err != nil || have == want {
		return err
	}
	if have < want && s.dialect == sqLite {
		// PostgreSQL has an advisory lock for this, below.
		release, err := waitLock(ctx, filepath.Join(s.dir, ".migrate.lock"))
		if err != nil {
			return err
		}
		defer release() //nolint:errcheck // The lock ends with the file.
		if have, err = s.schema(ctx); err != nil || have == want {
			return err
		}
	}
	if have > want {
		return fault.New(fault.Invalid, fmt.Sprintf("read schema: the store has version %d, and this program knows %d", have, want),
			fault.Hint("use the newer Keywright that wrote this store; there is no way back but its backup"))
	}
	switch {
	case have > 0 && s.dialect == sqLite:
		if err := s.backup(ctx, have); err != nil {
			return err
		}
	case have > 0 && !s.options.BackedUp:
		return fault.New(fault.Conflict, fmt.Sprintf("migrate schema: the database has version %d and is to get %d, and there is no way back", have, want),
			fault.Hint("back up the database with pg_dump, then add --database-backed-up once"))
	}
	options := []goose.ProviderOption{goose.WithTableName(schemaTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger())}
	kind := goose.DialectSQLite3
	if s.dialect == postgreSQL {
		kind = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return fault.Wrap(fault.Unknown, err, "prepare migration")
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(kind, s.db, files, options...)
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "prepare migration")
	}
	if _, err := provider.Up(ctx); err != nil {
		return s.fail(ctx, err, "migrate schema")
	}
	return nil
}

// newest gives the highest number in the names of the migrations.
func newest(files fs.FS) (version int64, err error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return 0, fault.Wrap(fault.Unknown, err, "list migrations")
	}
	for _, name := range names {
		number, _, _ := strings.Cut(name, "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fault.Wrap(fault.Unknown, err, "list migrations")
		}
		version = max(version, n)
	}
	return version, nil
}

// schema reads the version of the schema; 0 means that the database is empty. The error is Invalid when it is somebody else's.
func (s *Store) schema(ctx context.Context) (int64, error) {
	const what = "read schema"
	tables := `SELECT COUNT(*), COUNT(CASE WHEN name = '` + schemaTable + `' THEN 1 END) FROM sqlite_master WHERE type = 'table'`
	if s.dialect == postgreSQL {
		tables = `SELECT COUNT(*), COUNT(CASE WHEN table_name = '` + schemaTable + `' THEN 1 END) FROM information_schema.tables
			WHERE table_schema = current_schema()`
	}
	var all, ours int
	if err := s.db.QueryRowContext(ctx, tables).Scan(&all, &ours); err != nil {
		return 0, s.fail(ctx, err, what)
	}
	if ours == 0 {
		if all > 0 {
			return 0, fault.New(fault.Invalid, what+": the database belongs to another program", fault.Hint("name an empty database for Keywright alone"))
		}
		return 0, nil
	}
	var version int64
	err := s.db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM `+schemaTable+` WHERE is_applied`).Scan(&version)
	return version, s.fail(ctx, err, what)
}

// backup copies the whole database beside it, to a file of mode 0600 with the schema's version and the date in its name.
func (s *Store) backup(ctx context.Context, version int64) error {
	const what = "back up store"
	var path string
	if err := s.db.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&path); err != nil {
		return s.fail(ctx, err, what)
	}
	copied := fmt.Sprintf("%s.v%d-%s.bak", path, version, s.now().Format("20060102T150405Z"))
	// VACUUM INTO accepts an empty file, and so leaves it its mode.
	f, err := os.OpenFile(copied, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, what)
	}
	_, err = s.db.ExecContext(ctx, `VACUUM INTO $1`, copied)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(copied)
		return s.fail(ctx, err, what)
	}
	return nil
}
