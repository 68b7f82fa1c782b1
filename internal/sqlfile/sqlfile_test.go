package sqlfile

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/fault"
)

// path gives the path of a file whose directory is not there yet. Blanks and signs with a meaning in URLs are part of it.
func path(t *testing.T) string { return filepath.Join(t.TempDir(), "da ta?#%41&", "x.db") }

// TestPragmas asks every connection of the pool, since the driver ignores what it does not understand.
func TestPragmas(t *testing.T) {
	const connections = 3
	db, err := Open(t.Context(), path(t), connections)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var conns []*sql.Conn
	for range connections {
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		for _, p := range pragmas {
			var got string
			if err := conn.QueryRowContext(t.Context(), "PRAGMA "+p.name).Scan(&got); err != nil || got != p.want {
				t.Errorf("%s is %q, want %q (%v)", p.name, got, p.want, err)
			}
		}
	}
	for _, conn := range conns {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPragmaThatDidNotTake(t *testing.T) {
	at := path(t)
	db, err := Open(t.Context(), at, 1)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	// The spelling of another driver.
	db, err = sql.Open("sqlite", "file:"+(&url.URL{Path: at}).EscapedPath()+"?_pragma=busy_timeout(2000)&_pragma=journal_mode(WAL)&_synchronous=OFF")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := checkPragmas(t.Context(), db); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}

// TestManyMakeTheFileTogether: each opens it, whoever was first.
func TestManyMakeTheFileTogether(t *testing.T) {
	for range 5 {
		at := path(t)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 8 {
			wg.Go(func() {
				<-start
				db, err := Open(t.Context(), at, 1)
				if err != nil {
					t.Error(err)
					return
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
	}
}
