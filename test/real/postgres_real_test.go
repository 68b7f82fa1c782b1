//go:build real

package real

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keywright/keywright/internal/peers"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// TestRealPostgres has two daemons on one store in PostgreSQL, each with a configuration and a state directory of its own, and kills the one that works on
// a rotation, in the middle of a restart of an application.
func TestRealPostgres(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("store.url", peers.PostgreSQL(t)+"\n")
	old, fresh := w.key("app"), w.key("app")
	places := []place{w.envFile("staging.env", old), w.envFile("app.env", old)}
	around := w.surroundings(places)
	apps := []*consumer{w.consume("staging", places[0].held), w.consume("app", places[1].held)}
	// The application's place names who restarts it, so that the test knows which daemon is at work.
	if err := os.WriteFile(w.path("whoami"), []byte("#!/bin/sh\necho $PPID >driver\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	configuration := func(host string) string {
		return w.head() + fmt.Sprintf(`
state: { dir: state-%s, store: "file:store.url", master_key: "file:master.key" }
keys:
  app:
    class: production-primary
    owner: platform@acme.example
    organization: %s
    workspace: %s
    approvals: 0
    soak: 2s
    watch: 2s
    health_wait: 1s
    waves:
      - { name: staging, locations: [staging] }
      - { name: production, locations: [app-env] }
locations:
  staging: { kind: env-file, path: staging.env, variable: %s, production: false, %s }
  app-env:
    kind: env-file
    path: app.env
    variable: %s
    reload: [ { command: [./whoami] }, { http: "%s/restart" } ]
    confirm: { http: "%s/fingerprint" }
    probe: { http: "%s/healthz" }
`, host, w.sim.Organization(), w.workspace, variable, apps[0].wiring(), variable, apps[1].url, apps[1].url, apps[1].url)
	}
	// on runs a command as host a or b would.
	on := func(host, stdin string, args ...string) *started {
		t.Helper()
		cmd := exec.Command(program, append([]string{"--config", w.path("keywright-" + host + ".yaml")}, args...)...)
		cmd.Dir = w.dir
		cmd.Env = append(w.environment(), "KEYWRIGHT_CONFIG_DIR="+w.path("config-"+host), "XDG_CONFIG_HOME="+w.path("xdg-config-"+host))
		if stdin != "" {
			cmd.Stdin = strings.NewReader(stdin)
		}
		return w.launch(cmd)
	}
	done := func(s *started) string {
		t.Helper()
		if code := s.wait(); code != 0 {
			t.Fatalf("%s: exit code %d\n%s", s.name, code, s.output())
		}
		return s.output()
	}
	for _, host := range []string{"a", "b"} {
		w.write("keywright-"+host+".yaml", configuration(host))
	}
	done(on("a", "", "key", "adopt", "app"))
	// Checkpoints of the two hosts must be signed by one key.
	alone := on("b", "", "status")
	if code := alone.wait(); code != 4 {
		t.Errorf("status on b without the audit key: exit code %d", code)
	}
	wants(t, alone.output(), "open audit key", "hint: copy audit.key from another host")
	w.write("config-b/audit.key", w.read("config-a/audit.key"))
	done(on("b", fresh+"\n", "key", "add", "app", "--spare"))
	daemons := map[string]*started{}
	for _, host := range []string{"a", "b"} {
		daemons[host] = on(host, "", "serve", "--socket", w.path(host+".sock"))
	}
	for _, d := range daemons {
		d.says("serving on")
	}

	dead := make(chan string, 1)
	apps[1].meanwhile(func() {
		pid, err := strconv.Atoi(strings.TrimSpace(w.read("driver")))
		if err != nil {
			return
		}
		for host, d := range daemons {
			if d.cmd.Process.Pid == pid && len(dead) == 0 {
				dead <- host
				d.signal(syscall.SIGKILL)
				<-d.done
			}
		}
	})
	done(on("b", "", "rotate", "app", "--yes", "--detach"))
	var host string
	select {
	case host = <-dead:
	case <-time.After(patience):
		t.Fatalf("no daemon restarted the application\n%s\n%s", daemons["a"].output(), daemons["b"].output())
	}
	apps[1].meanwhile(nil)
	left := map[string]string{"a": "b", "b": "a"}[host]
	t.Logf("daemon %s is dead, %s is left", host, left)
	w.nobodyStranded(places, apps)
	wants(t, done(on(left, "", "rotation", "list", "--socket", w.path(left+".sock"))), "running")

	w.eventually("the other daemon to end the rotation", func() error {
		list := done(on(left, "", "rotation", "list"))
		if strings.Contains(list, "done") {
			return nil
		}
		return errors.New(list)
	})
	w.hold(fresh, places, around)
	for _, a := range apps {
		if got := a.holds(); got != fresh {
			t.Errorf("application %s has %s", a.name, fingerprint(got))
		}
		a.unharmed()
	}
	if w.accepted(old) {
		t.Error("the provider accepts the old key")
	}
	w.noneRefused()
	for _, h := range []string{"a", "b"} {
		s := on(h, "", "status")
		wants(t, done(s), "app", fingerprint(fresh)[:7])
		wants(t, done(on(h, "", "audit", "verify")), "the chain is whole")
	}

	daemons[left].signal(syscall.SIGTERM)
	done(daemons[left])
	w.noLeak("staging.env", "app.env")
	w.noLeakInStore(strings.TrimSpace(w.read("store.url")))
}

// noLeakInStore searches every row of every table for the values.
func (w *world) noLeakInStore(url string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(context.Background()); err != nil {
			w.t.Error(err)
		}
	}()
	rows, err := conn.Query(w.t.Context(), "SELECT tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
	if err != nil {
		w.t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	searched := 0
	for _, table := range tables {
		rows, err := conn.Query(w.t.Context(), "SELECT t::text FROM "+pgx.Identifier{table}.Sanitize()+" t")
		if err != nil {
			w.t.Fatal(err)
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			w.t.Fatal(err)
		}
		for _, text := range texts {
			secrettest.NoLeak(w.t, "table "+table, []byte(text), w.values...)
			searched++
		}
	}
	if searched == 0 {
		w.t.Error("the store has no row")
	}
}
