// Package ledger is the gateway's own database: one private SQLite file in its state directory, for what must survive a crash. Every change is
// on the disk before it is answered; changes that come together share one transaction, so that each costs a fraction of a write to the disk.
//
// It never holds a value of a key and never reads what its tables mean: the packages above do, each with its own table. A change of the
// schema is a new file in migrations, numbered, forward only. Called by gateway and by the packages below it.
package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/sqlfile"
)

// File is the name of the database in the state directory.
const File = "gateway.db"

const (
	connections = 4
	// group bounds how many changes share a transaction.
	group = 512
)

// Ledger is the open database. All methods may be called from several goroutines. One process has it at a time.
type Ledger struct {
	db   *sql.DB
	lock *os.File
	id   string

	jobs chan *job
	done chan struct{}

	mu     sync.RWMutex
	closed bool
}

// job is one change that waits for its transaction.
type job struct {
	ctx   context.Context //nolint:containedctx // That of the caller who waits for the job.
	what  string
	apply func(*Tx) error
	err   error
	ended chan struct{}
}

// Open opens the ledger in dir, makes it when it is not there, and brings its schema up to date. Kinds: Conflict (another process has it),
// Invalid (a network file system, a schema newer than this program), Forbidden, Unavailable, Corrupt.
func Open(ctx context.Context, dir string) (*Ledger, error) {
	const what = "open ledger of gateway"
	path := filepath.Join(dir, File)
	db, err := sqlfile.Open(ctx, path, connections)
	if err != nil {
		return nil, fault.In(err, what)
	}
	l := &Ledger{db: db, jobs: make(chan *job, group), done: make(chan struct{})}
	if l.lock, err = hold(path + ".lock"); err != nil {
		return nil, errors.Join(fault.In(err, what), db.Close())
	}
	if err := l.prepare(ctx); err != nil {
		return nil, errors.Join(fault.In(err, what), db.Close(), l.lock.Close())
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(sqlfile.Fault(ctx, err, what), db.Close(), l.lock.Close())
	}
	go l.write(&writer{conn: conn, statements: map[string]*sql.Stmt{}})
	return l, nil
}

// hold takes the lock of a file, which ends with the process.
func hold(path string) (*os.File, error) {
	f, err := sqlfile.Lock(path)
	if errors.Is(err, sqlfile.ErrLocked) {
		return nil, fault.New(fault.Conflict, "another process has it", fault.Hint("one gateway uses a state directory at a time; name another with --state-dir"))
	}
	return f, fault.Wrap(fault.Forbidden, err, "lock it")
}

//go:embed migrations/*.sql
var embedded embed.FS

const metaID = "id"

func (l *Ledger) prepare(ctx context.Context) error {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "list migrations")
	}
	if err := migrate(ctx, l.db, files); err != nil {
		return err
	}
	id := make([]byte, 8)
	rand.Read(id)
	if _, err := l.db.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, metaID, []byte("l_"+hex.EncodeToString(id))); err != nil {
		return sqlfile.Fault(ctx, err, "name ledger")
	}
	b, err := l.Meta(ctx, metaID)
	l.id = string(b)
	return err
}

// migrate brings the schema to the newest of the files, which are named NUMBER_WORDS.sql, in one transaction. The number in force is the
// database's user_version.
func migrate(ctx context.Context, db *sql.DB, files fs.FS) error {
	const what = "migrate schema"
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return fault.Wrap(fault.Unknown, err, what)
	}
	steps := map[int]string{}
	for _, name := range names {
		number, _, _ := strings.Cut(name, "_")
		n, err := strconv.Atoi(number)
		if err != nil || n <= 0 || steps[n] != "" {
			return fault.New(fault.Unknown, what+": the name "+name+" has no number of its own")
		}
		steps[n] = name
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return sqlfile.Fault(ctx, err, what)
	}
	defer tx.Rollback()
	have := 0
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&have); err != nil {
		return sqlfile.Fault(ctx, err, what)
	}
	newest := len(steps)
	if have > newest {
		return fault.New(fault.Invalid, fmt.Sprintf("read schema: the ledger has version %d, and this program knows %d", have, newest),
			fault.Hint("use the newer Keywright that wrote it"))
	}
	if have == 0 {
		var tables int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_master`).Scan(&tables); err != nil {
			return sqlfile.Fault(ctx, err, what)
		}
		if tables > 0 {
			return fault.New(fault.Invalid, "read schema: the database belongs to another program")
		}
	}
	for n := have + 1; n <= newest; n++ {
		if steps[n] == "" {
			return fault.New(fault.Unknown, fmt.Sprintf("%s: there is no step %d", what, n))
		}
		text, err := fs.ReadFile(files, steps[n])
		if err != nil {
			return fault.Wrap(fault.Unknown, err, what)
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return sqlfile.Fault(ctx, err, what)
		}
	}
	if have == newest {
		return nil
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, newest)); err != nil {
		return sqlfile.Fault(ctx, err, what)
	}
	return sqlfile.Fault(ctx, tx.Commit(), what)
}

// ID is the random name that the ledger got when it was made: "l_" and 16 hex digits. It binds what is sealed in it.
func (l *Ledger) ID() string { return l.id }

// Close waits for the changes that were handed in, and ends all use. It may be called twice.
func (l *Ledger) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		<-l.done
		return nil
	}
	close(l.jobs)
	<-l.done
	return errors.Join(sqlfile.Fault(context.Background(), l.db.Close(), "close ledger"), l.lock.Close())
}

// Update runs apply in a transaction and returns when that is on the disk, or when nothing of it was kept. Changes of several callers share
// one transaction; when one of them fails, the others are run again without it, so apply may be called twice, must set what it gives out
// afresh each time, and must do nothing but use its Tx. An error of apply is returned as it is. what is a `verb object` for errors.
//
// Kinds of its own: Unavailable (nothing was kept), Indeterminate (the reply to the commit was lost), Canceled (before it began, or the
// ledger is closed).
func (l *Ledger) Update(ctx context.Context, what string, apply func(*Tx) error) error {
	j := &job{ctx: ctx, what: what, apply: apply, ended: make(chan struct{})}
	if err := l.hand(j); err != nil {
		return err
	}
	<-j.ended // It is short, and its result must be known.
	return j.err
}

func (l *Ledger) hand(j *job) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return fault.New(fault.Canceled, j.what+": the ledger is closed")
	}
	select {
	case l.jobs <- j:
		return nil
	case <-j.ctx.Done():
		return fault.In(j.ctx.Err(), j.what)
	}
}

// write is the one writer: it takes what has come, and commits it together.
func (l *Ledger) write(w *writer) {
	defer close(l.done)
	defer w.close()
	batch := make([]*job, 0, group)
	for j := range l.jobs {
		batch = append(batch[:0], j)
	more:
		for len(batch) < group {
			select {
			case j, ok := <-l.jobs:
				if !ok {
					break more
				}
				batch = append(batch, j)
			default:
				break more
			}
		}
		if slices.ContainsFunc(batch, func(j *job) bool { return j.apply == nil }) {
			w.checkpoint(batch)
			continue
		}
		w.commit(batch)
	}
}

// writer has the connection that writes.
type writer struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

func (w *writer) close() {
	for _, s := range w.statements {
		_ = s.Close()
	}
	_ = w.conn.Close() // it goes back to the pool, which is closed next
}

// commit runs a batch. When one job fails, the transaction is rolled back and the others run again without it.
func (w *writer) commit(batch []*job) {
	for len(batch) > 0 {
		failed, err := w.once(batch)
		if failed < 0 {
			for _, j := range batch {
				j.err = err
				if err != nil {
					j.err = fault.In(err, j.what)
				}
				close(j.ended)
			}
			return
		}
		batch[failed].err = err
		close(batch[failed].ended)
		batch = slices.Delete(batch, failed, failed+1)
	}
}

// once gives the index of the job whose own error ended the transaction, or -1 and what became of all of them.
func (w *writer) once(batch []*job) (failed int, err error) {
	// The writer's statements do not end with the context of one caller, whose job is not the only one.
	ctx := context.Background()
	if _, err := w.conn.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		return -1, sqlfile.Fault(ctx, err, "begin to write ledger")
	}
	undo := func() { _, _ = w.conn.ExecContext(ctx, `ROLLBACK`) } // SQLite may have done so itself
	t := &Tx{ctx: ctx, w: w}
	for i, j := range batch {
		if err := j.ctx.Err(); err != nil {
			undo()
			return i, fault.In(err, j.what)
		}
		t.what = j.what
		if err := j.apply(t); err != nil {
			undo()
			return i, err
		}
	}
	if _, err := w.conn.ExecContext(ctx, `COMMIT`); err != nil {
		undo()
		kind, _, known := sqlfile.Classify(err)
		if !known || kind == fault.Unknown {
			return -1, fault.Wrap(fault.Indeterminate, err, "commit to ledger")
		}
		return -1, sqlfile.Fault(ctx, err, "commit to ledger")
	}
	return -1, nil
}

// Tx is one transaction. It is valid during the function that received it, and used by one goroutine at a time.
type Tx struct {
	ctx  context.Context //nolint:containedctx // That of the transaction.
	w    *writer
	what string
}

func (t *Tx) statement(query string) (*sql.Stmt, error) {
	if s := t.w.statements[query]; s != nil {
		return s, nil
	}
	s, err := t.w.conn.PrepareContext(t.ctx, query)
	if err != nil {
		return nil, sqlfile.Fault(t.ctx, err, t.what)
	}
	t.w.statements[query] = s
	return s, nil
}

// Exec runs a statement and gives the number of rows it changed. The text of a statement is kept prepared, so it must be one of few.
func (t *Tx) Exec(query string, args ...any) (int64, error) {
	s, err := t.statement(query) //nolint:sqlclosecheck // The writer keeps it, and closes it at its end.
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, sqlfile.Fault(t.ctx, err, t.what)
	}
	n, err := res.RowsAffected()
	return n, sqlfile.Fault(t.ctx, err, t.what)
}

// Row reads the first row of a query into dest; ok is false when there is none. The text is kept prepared.
func (t *Tx) Row(query string, args []any, dest ...any) (ok bool, err error) {
	s, err := t.statement(query) //nolint:sqlclosecheck // The writer keeps it, and closes it at its end.
	if err != nil {
		return false, err
	}
	return found(t.ctx, s.QueryRowContext(t.ctx, args...).Scan(dest...), t.what)
}

func found(ctx context.Context, err error, what string) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, sqlfile.Fault(ctx, err, what)
}

// Row reads the first row of a query outside of a transaction into dest; ok is false when there is none. It sees every change whose Update has
// returned.
func (l *Ledger) Row(ctx context.Context, what, query string, args []any, dest ...any) (ok bool, err error) {
	return found(ctx, l.db.QueryRowContext(ctx, query, args...).Scan(dest...), what)
}

// Each calls row for every row of a query; scan reads its columns. An error of row ends it and is returned as it is. row must not use the
// Ledger.
func (l *Ledger) Each(ctx context.Context, what, query string, args []any, row func(scan func(dest ...any) error) error) error {
	rows, err := l.db.QueryContext(ctx, query, args...) //nolint:sqlclosecheck // It is closed below; the linter does not see that through the function.
	if err != nil {
		return sqlfile.Fault(ctx, err, what)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(func(dest ...any) error { return sqlfile.Fault(ctx, rows.Scan(dest...), what) }); err != nil {
			return err
		}
	}
	return sqlfile.Fault(ctx, rows.Err(), what)
}

// Meta reads a word; nil when there is none.
func (l *Ledger) Meta(ctx context.Context, name string) ([]byte, error) {
	var b []byte
	_, err := l.Row(ctx, "read ledger", `SELECT value FROM meta WHERE name = ?`, []any{name}, &b)
	return b, err
}

// SetMeta keeps a word; nil removes it.
func (l *Ledger) SetMeta(ctx context.Context, name string, value []byte) error {
	return l.Update(ctx, "write ledger", func(t *Tx) (err error) {
		if value == nil {
			_, err = t.Exec(`DELETE FROM meta WHERE name = ?`, name)
			return err
		}
		_, err = t.Exec(`INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
		return err
	})
}

// Checkpoint moves what the write-ahead log holds into the database and empties the log, so that erased content is gone from both. The writer
// does it, between two transactions.
func (l *Ledger) Checkpoint(ctx context.Context) error {
	j := &job{ctx: ctx, what: "empty the log of the ledger", ended: make(chan struct{})}
	if err := l.hand(j); err != nil {
		return err
	}
	<-j.ended
	return j.err
}

// checkpoint commits the changes of a batch, and then does the jobs of Checkpoint, once for all of them.
func (w *writer) checkpoint(batch []*job) {
	var rest, mine []*job
	for _, j := range batch {
		if j.apply == nil {
			mine = append(mine, j)
			continue
		}
		rest = append(rest, j)
	}
	w.commit(rest)
	var busy, log, moved int
	err := w.conn.QueryRowContext(context.Background(), `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &log, &moved)
	for _, j := range mine {
		j.err = sqlfile.Fault(context.Background(), err, j.what)
		close(j.ended)
	}
}
