//go:build real

package store

import (
	"bytes"
	"database/sql"
	"fmt"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/peers"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func database(t testing.TB) string { return peers.PostgreSQL(t) }

func TestRealPostgreSQL(t *testing.T) { suite(t, database) }

func TestRealPostgreSQLKilled(t *testing.T) { killed(t, database(t), 4) }

func BenchmarkStepPostgreSQL(b *testing.B) { benchmarkStep(b, database) }

// TestRealPostgreSQLStopped has a process stop in the middle of an Update: the others wait for no longer than the server lets a
// session idle, and the stopped one is refused.
func TestRealPostgreSQLStopped(t *testing.T) {
	url := database(t)
	other := open(t, url, Options{})
	stopped := open(t, url+"&idle_in_transaction_session_timeout=200", Options{})
	calls := 0
	err := stopped.Update(t.Context(), func(tx *Tx) error {
		calls++
		if err := tx.SetMeta("a", "stopped"); err != nil {
			return err
		}
		update(t, other, func(tx *Tx) error { return tx.SetMeta("a", "other") })
		return tx.SetMeta("b", "stopped")
	})
	wantKind(t, err, fault.Unavailable)
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
	view(t, other, func(tx *Tx) error {
		a, _, err := tx.Meta("a")
		_, b, _ := tx.Meta("b")
		if a != "other" || b {
			t.Errorf("a is %q, b is there: %v", a, b)
		}
		return err
	})
}

func TestRealPostgreSQLMigration(t *testing.T) {
	url := database(t)
	s := open(t, url, Options{})
	more := next(t, "ALTER TABLE meta ADD COLUMN extra TEXT NOT NULL DEFAULT 'x';")
	wantKind(t, s.migrate(t.Context(), more), fault.Conflict)
	s.options.BackedUp = true
	if err := s.migrate(t.Context(), more); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), url, Options{})
	wantKind(t, err, fault.Invalid)
}

func TestRealPostgreSQLRefusals(t *testing.T) {
	url := database(t)
	s := open(t, url, Options{})
	if _, err := s.db.ExecContext(t.Context(), `DROP TABLE `+schemaTable); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), url, Options{})
	wantKind(t, err, fault.Invalid)
	_, err = Open(t.Context(), url+"&user=nobody&password=wrong", Options{})
	wantKind(t, err, fault.Unauthenticated)
	_, err = Open(t.Context(), url+"&database=none", Options{})
	wantKind(t, err, fault.NotFound)
}

func TestRealPostgreSQLNoValueAtRest(t *testing.T) {
	s := open(t, database(t), Options{})
	value := secrettest.Fake(t)
	keep(t, s, "v_1", value)
	tables, err := s.db.QueryContext(t.Context(), `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()`)
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	var dump bytes.Buffer
	for tables.Next() {
		var name string
		if err := tables.Scan(&name); err != nil {
			t.Fatal(err)
		}
		dumpTable(t, s.db, &dump, name)
	}
	if err := tables.Err(); err != nil {
		t.Fatal(err)
	}
	secrettest.NoLeak(t, "database", dump.Bytes(), value)
	if !bytes.Contains(dump.Bytes(), []byte(fmt.Sprintf("%x", "sealed:v_1"))) {
		t.Error("the dump lacks the sealed value, so that it proves nothing")
	}
}

// dumpTable writes every row as text; bytes are in hex.
func dumpTable(t *testing.T, db *sql.DB, dump *bytes.Buffer, name string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT t::text FROM `+name+` t`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(dump, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}
