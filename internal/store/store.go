// Package store keeps what Keywright knows: versions and their sealed values, rotations with their journals, places, and the
// chained record of events, in SQLite (one file, nothing to configure) or PostgreSQL (several replicas). It never opens a
// sealed value and never decides what a rotation does next. The runner, intake, custody and the screens call it.
//
// Every act of several writes is one Update: a function over a Tx that runs as one transaction, serialized with all other
// Updates of all processes, and that may run again when the database asks for it. The lease and the fence of a rotation
// (Claim, ClaimID, Renew, Park, Fence) are single guarded statements beside that, so that no driver waits for another.
//
// Clocks: the store reads Options.Now alone, never the database's clock. Replicas whose clocks disagree take leases from each
// other early; the fence then refuses the slower one, so that nothing is written twice.
package store

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// Options adjusts a Store. The zero Options is ready for use.
type Options struct {
	// Now is the clock of every time that the store fills in; nil means time.Now.
	Now func() time.Time
	// Actor is put on events that name none; empty means "keywright".
	Actor string
	// BackedUp says that the operator has made a backup of a PostgreSQL database, so that its schema may be changed. An empty
	// database needs none, and a SQLite store is backed up by Open.
	BackedUp bool
	// Hook, when set, is called with HookBefore before and HookAfter after each commit of a write. An error from it is
	// what the call returns: from HookBefore the transaction is rolled back, from HookAfter it stays committed. Tests of
	// crashes use it; it is called by the goroutine that writes.
	Hook func(op string) error
}

// The arguments of Options.Hook.
const (
	HookBefore = "before"
	HookAfter  = "after"
)

// Store is an open store. It is safe for concurrent use.
type Store struct {
	db      *sql.DB
	dialect dialect
	options Options
	id      string
	dir     string        // of the SQLite file; empty for PostgreSQL
	turn    chan struct{} // one writer of this process at a time, for SQLite; nil for PostgreSQL
}

const (
	maxAttempts = 6
	firstWait   = 5 * time.Millisecond
)

// Open opens the store at url, makes it when it is not there, and brings its schema up to date. The url is "postgres://…",
// "postgresql://…", "sqlite:PATH" or a bare path. Before a schema with content is changed, a SQLite store is copied to a file
// of mode 0600 beside it (PATH.v1-20261122T022355Z.bak); a PostgreSQL store is the operator's to back up, see Options.BackedUp.
//
// Kinds: Invalid (no such form of url, a database of another program, a network file system, a schema newer than this program),
// Forbidden (others may write the directory or read the file), Conflict (a PostgreSQL schema that is older, without a backup),
// Unavailable, Unauthenticated, Corrupt.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Actor == "" {
		o.Actor = "keywright"
	}
	s := &Store{options: o}
	var err error
	switch scheme, rest, _ := strings.Cut(url, ":"); {
	case url == "" || url == "sqlite:":
		return nil, fault.New(fault.Invalid, "open store: no path", fault.Hint("name a file, sqlite:PATH or postgres://…"))
	case scheme == "postgres" || scheme == "postgresql":
		err = s.openPostgreSQL(url)
	case scheme == "sqlite":
		err = s.openSQLite(ctx, rest)
	case strings.Contains(url, "://"):
		return nil, fault.New(fault.Invalid, "open store: unknown scheme", fault.Hint("name a file, sqlite:PATH or postgres://…"))
	default:
		err = s.openSQLite(ctx, url)
	}
	if err != nil {
		return nil, fault.In(err, "open store")
	}
	if err := s.prepare(ctx); err != nil {
		_ = s.db.Close()
		return nil, fault.In(err, "open store")
	}
	return s, nil
}

// prepare brings the schema up to date and reads the store's identity.
func (s *Store) prepare(ctx context.Context) error {
	if err := s.migrate(ctx, migrations()); err != nil {
		return err
	}
	read := func(t *Tx) (err error) {
		s.id, _, err = t.Meta(metaStoreID)
		return err
	}
	if err := s.View(ctx, read); err != nil || s.id != "" {
		return err
	}
	return s.write(ctx, true, func(t *Tx) error {
		if err := read(t); err != nil || s.id != "" {
			return err
		}
		s.id = "s_" + random()
		return t.SetMeta(metaStoreID, s.id)
	})
}

// Close ends all use of the store. A second Close does nothing.
func (s *Store) Close() error { return s.fail(context.Background(), s.db.Close(), "close store") }

// ID is the random name that the store got when it was made: "s_" and 16 hex digits. It binds sealed values and audit
// entries to this store.
func (s *Store) ID() string { return s.id }

// Dir is the directory of a SQLite store, or empty for PostgreSQL.
func (s *Store) Dir() string { return s.dir }

// Tx is one transaction. It is valid during the function that received it, and used by one goroutine at a time.
type Tx struct {
	ctx  context.Context
	s    *Store
	tx   querier
	view bool
}

// querier is what a Tx needs of database/sql.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

var (
	_ querier = (*sql.Tx)(nil)
	_ querier = (*sql.DB)(nil)
)

// peek gives a Tx for a single reading statement.
func (s *Store) peek(ctx context.Context) *Tx { return &Tx{ctx: ctx, s: s, tx: s.db, view: true} }

// View runs fn over one consistent state of the store. Writes in it fail. An error of fn is returned as it is.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if s.dialect == postgreSQL {
		opts.Isolation = sql.LevelRepeatableRead
	}
	for attempt := 1; ; attempt++ {
		err := func() error {
			tx, err := s.db.BeginTx(ctx, opts)
			if err != nil {
				return s.fail(ctx, err, "begin to read store")
			}
			defer tx.Rollback()
			return fn(&Tx{ctx: ctx, s: s, tx: tx, view: true})
		}()
		if err == nil || !s.again(ctx, err, attempt) {
			return err
		}
	}
}

// Update runs fn as one transaction: all of its writes are kept when it returns nil, none otherwise. Updates of all
// processes run one after another. fn may be called again from the start, so it must set what it gives out afresh; it must
// do nothing but use its Tx, since every other writer waits for it. An error of fn is returned as it is.
//
// Kinds of its own: Unavailable (the database stayed busy, or cannot be reached; nothing was kept), Indeterminate (the reply
// to the commit was lost), Canceled.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	return s.write(ctx, true, fn)
}

// write runs fn as a transaction. Serial asks PostgreSQL for the lock that makes Updates take turns; SQLite has one writer in
// any case.
func (s *Store) write(ctx context.Context, serial bool, fn func(*Tx) error) error {
	if s.turn != nil {
		select {
		case s.turn <- struct{}{}:
			defer func() { <-s.turn }()
		case <-ctx.Done():
			return fault.In(ctx.Err(), "wait for store")
		}
	}
	for attempt := 1; ; attempt++ {
		err := s.once(ctx, serial, fn)
		if err == nil || !s.again(ctx, err, attempt) {
			return err
		}
	}
}

func (s *Store) once(ctx context.Context, serial bool, fn func(*Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.fail(ctx, err, "begin to write store")
	}
	defer tx.Rollback()
	if serial && s.dialect == postgreSQL {
		if _, err := tx.ExecContext(ctx, `LOCK TABLE writer IN EXCLUSIVE MODE`); err != nil {
			return s.fail(ctx, err, "wait for store")
		}
	}
	if err := fn(&Tx{ctx: ctx, s: s, tx: tx}); err != nil {
		return err
	}
	if err := s.hook(HookBefore); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return s.commitFault(ctx, err)
	}
	return s.hook(HookAfter)
}

func (s *Store) hook(op string) error {
	if s.options.Hook == nil {
		return nil
	}
	return s.options.Hook(op)
}

// again waits before the next attempt and reports whether there is to be one.
func (s *Store) again(ctx context.Context, err error, attempt int) bool {
	if attempt >= maxAttempts || !retryable(err) || ctx.Err() != nil {
		return false
	}
	wait := firstWait << attempt
	timer := time.NewTimer(wait/2 + rand.N(wait)) //nolint:gosec // G404: a spread in time is no secret.
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Store) now() time.Time { return s.options.Now().UTC() }

var errView = errors.New("the transaction is for reading alone")

// exec runs a statement and gives the number of rows it changed.
func (t *Tx) exec(what, query string, args ...any) (int64, error) {
	if t.view {
		return 0, fault.Wrap(fault.Unknown, errView, what)
	}
	res, err := t.tx.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, t.s.fail(t.ctx, err, what)
	}
	n, err := res.RowsAffected()
	return n, t.s.fail(t.ctx, err, what)
}

// scanner is a row to read.
type scanner interface{ Scan(dest ...any) error }

// all reads every row of a query; what is `verb object` for errors.
func all[T any](t *Tx, what string, scan func(scanner) (T, error), query string, args ...any) (list []T, err error) {
	return some(t, what, 0, scan, query, args...)
}

// count reads a number.
func (t *Tx) count(what, query string) (n int, err error) {
	scan := func(row scanner) (n int, err error) {
		err = row.Scan(&n)
		return n, err
	}
	n, _, err = one(t, what, scan, query)
	return n, err
}

// some is all for about as many rows as are expected, so that a long list is not copied while it grows.
func some[T any](t *Tx, what string, expected int, scan func(scanner) (T, error), query string, args ...any) (list []T, err error) {
	if expected > 0 {
		list = make([]T, 0, expected)
	}
	rows, err := t.tx.QueryContext(t.ctx, query, args...)
	if err != nil {
		return nil, t.s.fail(t.ctx, err, what)
	}
	defer rows.Close()
	for rows.Next() {
		x, err := scan(rows)
		if err != nil {
			return nil, t.s.fail(t.ctx, err, what)
		}
		if len(list) == cap(list) {
			list = slices.Grow(list, max(1, len(list))) // by doubling: append grows long lists by a quarter, and copies them more often
		}
		list = append(list, x)
	}
	return list, t.s.fail(t.ctx, rows.Err(), what)
}

// one reads the first row of a query; ok is false when there is none.
func one[T any](t *Tx, what string, scan func(scanner) (T, error), query string, args ...any) (x T, ok bool, err error) {
	list, err := all(t, what, scan, query, args...)
	if err != nil || len(list) == 0 {
		return x, false, err
	}
	return list[0], true, nil
}
