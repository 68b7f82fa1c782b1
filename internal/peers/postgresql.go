package peers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// cluster is the one PostgreSQL server of a test binary. Making one takes longer than most tests that use it, and each
// test has a database of its own, so it is shared; this is the only state that the package keeps.
var cluster struct {
	sync.Mutex
	admin *url.URL
	guard io.WriteCloser // its closing, which also happens when the test process dies, ends the server
}

// PostgreSQL makes an empty database on a PostgreSQL server that the test binary shares and returns its URL
// ("postgres://..."). Durability settings are the server's defaults, fsync included. The database is dropped when the test
// ends, with whatever connections are left; the server ends with the test binary.
func PostgreSQL(t testing.TB) string {
	t.Helper()
	initdb := need(t, "apt-get install postgresql", "/usr/lib/postgresql/*/bin/initdb", "initdb")
	server := need(t, "apt-get install postgresql", filepath.Join(filepath.Dir(initdb), "postgres"))

	cluster.Lock()
	defer cluster.Unlock()
	if cluster.admin == nil {
		if err := startCluster(initdb, server); err != nil {
			t.Fatalf("start peer postgres: %v", err)
		}
	}
	admin := cluster.admin.String()
	name := "kw_" + random()
	if err := execute(admin, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		if err := execute(admin, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	mine := *cluster.admin
	mine.Path = "/" + name
	return mine.String()
}

func startCluster(initdb, server string) (err error) {
	dir, err := os.MkdirTemp("", "kw-postgres-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	attr, err := unprivileged(dir)
	if err != nil {
		return err
	}
	password := random()
	passwords := filepath.Join(dir, "password")
	// Mode 0644 inside a folder of mode 0700 that belongs to the server's user.
	if err := os.WriteFile(passwords, []byte(password+"\n"), 0o644); err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	environment := []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	setup := exec.CommandContext(ctx, initdb, "-D", data, "-U", "keywright", "-A", "scram-sha-256", "--pwfile", passwords,
		"-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	setup.Env, setup.Dir, setup.SysProcAttr = environment, dir, attr
	if out, err := setup.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}

	n, err := port()
	if err != nil {
		return err
	}
	log := filepath.Join(dir, "postgres.log")
	output, err := os.Create(log)
	if err != nil {
		return err
	}
	defer output.Close()
	cmd := exec.Command(server, "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(n), "-k", dir, "-c", "shared_buffers=32MB")
	cmd.Env, cmd.Dir, cmd.SysProcAttr = environment, dir, attr
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return err
	}
	guard, err := watch(cmd.Process.Pid, dir)
	if err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}

	admin := &url.URL{
		Scheme: "postgres", User: url.UserPassword("keywright", password), Host: loopback(n), Path: "/postgres",
		RawQuery: "sslmode=disable",
	}
	if err := poll(time.Minute, nil, func(ctx context.Context) error { return executeIn(ctx, admin.String(), "SELECT 1") }); err != nil {
		err = fmt.Errorf("%w\n%s", err, tail(log))
		return errors.Join(err, guard.Close())
	}
	cluster.admin, cluster.guard = admin, guard
	return nil
}

// guardScript waits until its standard input is closed, then has the server $1 shut down (SIGINT asks for that without
// waiting for clients), waits up to 30 s, and removes the folder $2. A server that has ended but is not yet waited for
// counts as ended.
const guardScript = `
cat >/dev/null
kill -INT "$1"
i=0
while [ $i -lt 300 ] && kill -0 "$1" && ! grep -qs '^State:.Z' "/proc/$1/status"; do
	i=$((i + 1))
	sleep 0.1
done
rm -rf "$2"
`

// watch starts the guard of a server that outlives the test that started it. No hook runs when a test binary ends, least
// of all after a panic, but its end of a pipe is always closed.
func watch(pid int, dir string) (io.WriteCloser, error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, "guard", strconv.Itoa(pid), dir)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = attributes(0)
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	return input, nil
}

func execute(url, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return executeIn(ctx, url, statement)
}

func executeIn(ctx context.Context, url, statement string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // The statement's error is the one that counts.
	_, err = conn.Exec(ctx, statement)
	return err
}

// random returns 24 hex digits.
func random() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // Never fails.
	return hex.EncodeToString(b[:])
}
