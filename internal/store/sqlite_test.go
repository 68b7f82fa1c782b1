package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/sqlfile"
)

// file gives the path of a store whose directory is not there yet. Blanks and signs with a meaning in URLs are part of it.
func file(t testing.TB) string { return filepath.Join(t.TempDir(), "da ta?#%41&", "keywright.db") }

func TestSQLite(t *testing.T) { suite(t, file) }

// TestOneWriter: a transaction is the writer from its beginning. Else two could begin, and one would fail late.
func TestOneWriter(t *testing.T) {
	s := open(t, file(t), Options{})
	err := s.Update(t.Context(), func(*Tx) error {
		_, err := s.db.ExecContext(t.Context(), "PRAGMA busy_timeout = 0")
		if err != nil {
			return err
		}
		tx, err := s.db.BeginTx(t.Context(), nil)
		if err == nil {
			t.Error("two writers began")
			return tx.Rollback()
		}
		if !retryable(err) {
			t.Errorf("%v is not seen as a reason to try again", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFiles(t *testing.T) {
	path := file(t)
	s := open(t, "sqlite:"+path, Options{})
	update(t, s, func(tx *Tx) error { return tx.SetMeta("a", "b") })
	if s.Dir() != filepath.Dir(path) {
		t.Errorf("directory %q", s.Dir())
	}
	mode := func(path string, want fs.FileMode) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	mode(filepath.Dir(path), 0o700)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		mode(path+suffix, 0o600)
	}

	refused := func(name string, kind fault.Kind, url string) {
		t.Helper()
		_, err := Open(t.Context(), url, Options{})
		if !fault.Is(err, kind) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v of kind %v, hint %q", name, err, fault.KindOf(err), fault.HintOf(err))
		}
	}
	shared := file(t)
	if err := errors.Join(os.Mkdir(filepath.Dir(shared), 0o700), os.Chmod(filepath.Dir(shared), 0o770)); err != nil {
		t.Fatal(err)
	}
	refused("a directory of others", fault.Forbidden, shared)
	readable := file(t)
	if err := errors.Join(os.Mkdir(filepath.Dir(readable), 0o700), os.WriteFile(readable, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	refused("a readable file", fault.Forbidden, readable)
	text := file(t)
	if err := errors.Join(os.Mkdir(filepath.Dir(text), 0o700), os.WriteFile(text, bytes.Repeat([]byte("no database\n"), 100), 0o600)); err != nil {
		t.Fatal(err)
	}
	refused("a text", fault.Corrupt, text)
	refused("nothing", fault.Invalid, "")
	refused("no path", fault.Invalid, "sqlite:")
	refused("a foreign scheme", fault.Invalid, "mysql://x")
	refused("a malformed URL", fault.Invalid, "postgres://u:pass word@[")

	foreign := file(t)
	db, err := sqlfile.Open(t.Context(), foreign, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE theirs (x TEXT)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	refused("another program's database", fault.Invalid, foreign)
}

func TestURLWithPasswordStaysOutOfErrors(t *testing.T) {
	for _, url := range []string{"postgres://u:hunter2@[", "postgres://u:hunter2@127.0.0.1:1/db?connect_timeout=1"} {
		_, err := Open(t.Context(), url, Options{})
		if err == nil || strings.Contains(err.Error()+fault.HintOf(err), "hunter2") {
			t.Errorf("the error %q shows the password, or is missing", err)
		}
	}
}

// next adds a migration to the embedded ones.
func next(t *testing.T, text string) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(migrations(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := fs.ReadFile(migrations(), name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: b}
	}
	files[fmt.Sprintf("%04d_next.sql", known(t)+1)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + text)}
	return files
}

// known is the version of the schema that this program knows.
func known(t *testing.T) int64 {
	t.Helper()
	n, err := newest(migrations())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func backups(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".bak") {
			found = append(found, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return found
}

func TestMigration(t *testing.T) {
	path, c := file(t), newClock()
	s := open(t, path, Options{Now: c.now})
	update(t, s, func(tx *Tx) error { return tx.SetMeta("a", "before") })
	if found := backups(t, path); len(found) != 0 {
		t.Errorf("an empty store was backed up: %v", found)
	}
	if err := s.migrate(t.Context(), next(t, `ALTER TABLE meta ADD COLUMN extra TEXT NOT NULL DEFAULT 'x';`)); err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *Tx) error { return tx.SetMeta("a", "after") })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	found := backups(t, path)
	if len(found) != 1 || filepath.Base(found[0]) != fmt.Sprintf("keywright.db.v%d-20261121T120000Z.bak", known(t)) {
		t.Fatalf("backups %v", found)
	}
	if info, err := os.Stat(found[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v", info.Mode(), err)
	}
	// The backup is a whole store of the schema before.
	old := open(t, found[0], Options{})
	view(t, old, func(tx *Tx) error {
		value, _, err := tx.Meta("a")
		if value != "before" || old.ID() != s.ID() {
			t.Errorf("the backup holds %q of %s", value, old.ID())
		}
		return err
	})
	// The store is newer than this program now.
	_, err := Open(t.Context(), path, Options{})
	wantKind(t, err, fault.Invalid)
	if !strings.Contains(err.Error(), fmt.Sprintf("version %d", known(t)+1)) || fault.HintOf(err) == "" {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}

func TestMigrationThatFails(t *testing.T) {
	path := file(t)
	s := open(t, path, Options{})
	if err := s.migrate(t.Context(), next(t, "ALTER TABLE meta ADD COLUMN extra TEXT;\nINSERT INTO nowhere VALUES (1);")); err == nil {
		t.Fatal("no error")
	}
	again := open(t, path, Options{})
	view(t, again, func(tx *Tx) error {
		n, _, err := one(tx, "count", scanNumber, `SELECT COUNT(*) FROM pragma_table_info('meta')`)
		if n != 2 {
			t.Errorf("half a migration was kept: %d columns", n)
		}
		return err
	})
}

// TestDiskFull lets the file grow no more.
func TestDiskFull(t *testing.T) {
	s := open(t, file(t), Options{})
	s.db.SetMaxOpenConns(1) // the limit is one of a connection
	limit := func(pages int) {
		t.Helper()
		if _, err := s.db.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // which becomes the number of pages that it has
	grow := func(tx *Tx) error {
		return errors.Join(tx.SetMeta("a", "b"), tx.SetMeta("long", strings.Repeat("x", 1<<18)))
	}
	err := s.Update(t.Context(), grow)
	wantKind(t, err, fault.Unavailable)
	if !strings.Contains(fault.HintOf(err), "space") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
	view(t, s, func(tx *Tx) error {
		_, ok, err := tx.Meta("a")
		if ok {
			t.Error("half of an Update was kept")
		}
		return err
	})
	limit(1 << 20)
	update(t, s, grow)
}

func TestDamagedFile(t *testing.T) {
	path := file(t)
	s := open(t, path, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data[4096:] {
		data[4096+i] ^= 0x5a
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), path, Options{})
	wantKind(t, err, fault.Corrupt)
}

func TestDriverLock(t *testing.T) {
	s := open(t, file(t), Options{})
	release, err := DriverLock(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = DriverLock(s.Dir())
	wantKind(t, err, fault.Conflict)
	if want := fmt.Sprintf("process %d", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not name %s", err, want)
	}
	// The role is no lock on the store.
	update(t, s, func(tx *Tx) error { return tx.SetMeta("a", "b") })
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, err = DriverLock(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	_, err = DriverLock(filepath.Join(s.Dir(), "none"))
	wantKind(t, err, fault.Forbidden)
}

// TestNoValueAtRest stores all that is known of a value, and looks for it in every byte of every file.
func TestNoValueAtRest(t *testing.T) {
	path := file(t)
	s := open(t, path, Options{})
	value, forgotten := secrettest.Fake(t), secrettest.Fake(t)
	keep(t, s, "v_1", value)
	keep(t, s, "v_2", forgotten)
	update(t, s, func(tx *Tx) error { return tx.Forget("v_2") })
	secrettest.NoLeakIn(t, filepath.Dir(path), nil, value, forgotten)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	secrettest.NoLeakIn(t, filepath.Dir(path), nil, value, forgotten)

	// The search itself must be able to find: the sealed form is there, and gone once forgotten.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte("sealed:v_1")) {
		t.Error("the sealed value that is kept is not in the file")
	}
	if bytes.Contains(data, []byte("sealed:v_2")) {
		t.Error("the sealed value that was forgotten is still in the file")
	}
}

// keep stores a version with its sealed value, and speaks of it wherever the store takes text.
func keep(t testing.TB, s *Store, id apikey.VersionID, value secret.Value) {
	t.Helper()
	sealed := seal(t, id, value)
	v := apikey.Version{ID: id, Key: "k", State: apikey.Spare, Digest: value.Digest(), Environment: apikey.Production}
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.PutVersion(v), tx.PutSealed(id, sealed, 1),
			tx.SetDesired(Desired{Location: "a", Key: "k", Version: id}),
			tx.PutObservation(Observation{Location: "a", Holding: json.RawMessage(`{"digest":"` + digestText(v.Digest).String + `"}`)}),
			tx.Sign(Signature{Location: "a", Fingerprint: v.Fingerprint(), By: "someone"}),
			tx.Record(event.Event{Type: event.VersionAdded, Version: id, Text: fmt.Sprint("added ", value)}))
	})
}

func seal(t testing.TB, id apikey.VersionID, value secret.Value) secret.Sealed {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // Never fails.
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	out := []byte("sealed:" + id)
	value.Reveal(func(b []byte) { out = aead.Seal(out, nil, b, nil) })
	return out
}

const childStore = "KEYWRIGHT_TEST_STORE"

// TestChild is the process that TestKilled kills. It adds to everything in one Update each, and says how far it is certain.
func TestChild(t *testing.T) {
	url := os.Getenv(childStore)
	if url == "" {
		t.Skip("only as a child of TestKilled")
	}
	s, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		n := 0
		err := s.Update(t.Context(), func(tx *Tx) error {
			text, _, err := tx.Meta("n")
			if err != nil {
				return err
			}
			n, _ = strconv.Atoi(text)
			n++
			r, err := tx.Rotation("r-1")
			if err != nil {
				return err
			}
			return errors.Join(tx.SetMeta("n", strconv.Itoa(n)),
				tx.Append("r-1", r.Fence, rotation.Entry{Type: rotation.Intended}, rotation.Entry{Type: rotation.Made}),
				tx.Record(event.Event{Type: event.RotationStep, Text: strconv.Itoa(n)}))
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(os.Stderr, "certain %d\n", n)
	}
}

func TestKilled(t *testing.T) { killed(t, file(t), 4) }

// killed kills a process that writes, several times, and looks whether the store is whole and keeps what was said to be kept.
func killed(t *testing.T, url string, times int) {
	s := open(t, url, Options{})
	create(t, s, row("r-1", "k", time.Now()))
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range times {
		spread, err := rand.Int(rand.Reader, big.NewInt(40))
		if err != nil {
			t.Fatal(err)
		}
		certain := kill(t, program, url, 1+int(spread.Int64()))
		// A new store, as a new process would open it.
		again := open(t, url, Options{})
		var n int
		view(t, again, func(tx *Tx) error {
			text, _, err := tx.Meta("n")
			n, _ = strconv.Atoi(text)
			journal, err2 := tx.Journal("r-1")
			if len(journal) != 2*n || len(journal) > 0 && journal[len(journal)-1].Seq != int64(2*n) {
				t.Errorf("%d entries after %d Updates", len(journal), n)
			}
			last, _, err3 := tx.LastAudit()
			if last.Seq != int64(n) {
				t.Errorf("%d events after %d Updates", last.Seq, n)
			}
			return errors.Join(err, err2, err3)
		})
		// The last Update may have been kept without the process having been able to say so.
		if n != certain && n != certain+1 {
			t.Errorf("%d Updates were kept, and %d were certain", n, certain)
		}
		checkChain(t, again)
		if again.dialect == sqLite {
			var verdict string
			if err := again.db.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
				t.Errorf("integrity: %s, %v", verdict, err)
			}
		}
	}
}

// kill runs the child until it is certain of so many more Updates, kills it, and gives the last number that it was certain of.
func kill(t *testing.T, program, url string, after int) (certain int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-test.run=^TestChild$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), childStore+"="+url)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := 0
	for in := bufio.NewScanner(out); in.Scan(); {
		if _, err := fmt.Sscanf(in.Text(), "certain %d", &certain); err != nil {
			t.Log(in.Text())
			continue
		}
		if lines++; lines == after {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || lines < after {
		t.Fatalf("the child ended by itself after %d lines: %v", lines, err)
	}
	return certain
}
