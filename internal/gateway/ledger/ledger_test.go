package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/sqlfile"
)

func open(t *testing.T, dir string) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestOpenTwiceAndAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	l := open(t, dir)
	if err := l.SetMeta(t.Context(), "a", []byte("b")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir); !fault.Is(err, fault.Conflict) {
		t.Errorf("a second process got it: %v", err)
	}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if info, err := os.Stat(filepath.Join(dir, File+suffix)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", suffix, info, err)
		}
	}
	id := l.ID()
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if err := l.SetMeta(t.Context(), "a", nil); !fault.Is(err, fault.Canceled) {
		t.Errorf("it was used after its end: %v", err)
	}
	l = open(t, dir)
	if b, err := l.Meta(t.Context(), "a"); string(b) != "b" || err != nil || l.ID() != id || len(id) != 18 {
		t.Errorf("%q, %v, %q then %q", b, err, id, l.ID())
	}
	if err := l.SetMeta(t.Context(), "a", nil); err != nil {
		t.Error(err)
	}
	if b, err := l.Meta(t.Context(), "a"); b != nil || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// TestOneFailureKeepsTheOthers: many changes share transactions, some fail, and exactly the others are kept.
func TestOneFailureKeepsTheOthers(t *testing.T) {
	l := open(t, t.TempDir())
	broken := errors.New("broken")
	// The first holds the writer until all others wait, so that they form one group.
	gate, inside := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Update(context.Background(), "hold", func(*Tx) error { close(inside); <-gate; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-inside
	jobs := make([]*job, 100)
	for i := range jobs {
		jobs[i] = &job{ctx: context.Background(), what: "write", ended: make(chan struct{}), apply: func(tx *Tx) error {
			_, err := tx.Exec(`INSERT INTO meta (name, value) VALUES (?, ?)`, fmt.Sprint("m", i), []byte{1})
			if i%10 == 3 {
				return broken
			}
			return err
		}}
		if i%10 == 7 { // its own key again: a conflict
			jobs[i].apply = func(tx *Tx) error {
				_, err := tx.Exec(`INSERT INTO meta (name, value) VALUES (?, ?)`, "id", []byte{1})
				return err
			}
		}
		if err := l.hand(jobs[i]); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	wg.Wait()
	for i, j := range jobs {
		<-j.ended
		b, err := l.Meta(t.Context(), fmt.Sprint("m", i))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case i%10 == 3 && (!errors.Is(j.err, broken) || b != nil):
			t.Errorf("%d: %v, kept %v", i, j.err, b != nil)
		case i%10 == 7 && (!fault.Is(j.err, fault.Conflict) || b != nil):
			t.Errorf("%d: %v, kept %v", i, j.err, b != nil)
		case i%10 != 3 && i%10 != 7 && (j.err != nil || b == nil):
			t.Errorf("%d: %v, kept %v", i, j.err, b != nil)
		}
	}
}

func TestCanceledChangeIsNotKept(t *testing.T) {
	l := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Update(ctx, "write", func(tx *Tx) error {
		_, err := tx.Exec(`INSERT INTO meta (name, value) VALUES ('x', x'00')`)
		return err
	}); !fault.Is(err, fault.Canceled) {
		t.Errorf("%v", err)
	}
	if b, _ := l.Meta(t.Context(), "x"); b != nil {
		t.Error("it was kept")
	}
}

func TestMigrations(t *testing.T) {
	db, err := sqlfile.Open(t.Context(), filepath.Join(t.TempDir(), "d", "x.db"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	one := fstest.MapFS{"1_a.sql": file(`CREATE TABLE a (x TEXT);`)}
	two := fstest.MapFS{"1_a.sql": one["1_a.sql"], "2_b.sql": file(`CREATE TABLE b (y TEXT); INSERT INTO b VALUES ('z');`)}
	bad := fstest.MapFS{"1_a.sql": one["1_a.sql"], "2_b.sql": file(`CREATE TABLE c (y TEXT); no SQL`)}
	for _, files := range []fstest.MapFS{one, one} {
		if err := migrate(t.Context(), db, files); err != nil {
			t.Fatal(err)
		}
	}
	if err := migrate(t.Context(), db, bad); err == nil {
		t.Error("a broken step passed")
	}
	if _, err := db.ExecContext(t.Context(), `SELECT * FROM c`); err == nil {
		t.Error("half of a step was kept")
	}
	if err := migrate(t.Context(), db, two); err != nil {
		t.Fatal(err)
	}
	if err := migrate(t.Context(), db, one); !fault.Is(err, fault.Invalid) {
		t.Errorf("an older program opened it: %v", err)
	}
	if _, err := db.ExecContext(t.Context(), `PRAGMA user_version = 0`); err != nil {
		t.Fatal(err)
	}
	if err := migrate(t.Context(), db, two); !fault.Is(err, fault.Invalid) {
		t.Errorf("a foreign database was taken: %v", err)
	}
}

// TestCheckpoint: what was erased is in no file any more.
func TestCheckpoint(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	mark := []byte("a mark that stands nowhere else")
	if err := errors.Join(l.SetMeta(t.Context(), "x", mark), l.Checkpoint(t.Context())); err != nil {
		t.Fatal(err)
	}
	holds := func() bool {
		found := false
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(filepath.Join(dir, File+suffix))
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(b, mark)
		}
		return found
	}
	if !holds() {
		t.Fatal("the mark is not where it is looked for")
	}
	if err := errors.Join(l.SetMeta(t.Context(), "x", nil), l.Checkpoint(t.Context())); err != nil {
		t.Fatal(err)
	}
	if holds() {
		t.Error("what was erased can still be read")
	}
}
