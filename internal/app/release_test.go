package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/handover"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/keysource/daemon"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/store"
)

const twoKeys = `keys:
  app: { class: development, owner: me@acme.example, readers: [billing], locations: [app-env] }
  other: { class: development, owner: me@acme.example, locations: [other-env] }
locations:
  app-env: { kind: env-file, path: app.env, variable: ANTHROPIC_API_KEY }
  other-env: { kind: env-file, path: other.env, variable: ANTHROPIC_API_KEY }
`

// serve runs the daemon, and gives its socket and where readers reach it.
func (w *world) serve(a *App) (socket, readers string) {
	w.t.Helper()
	if runtime.GOOS != "linux" {
		w.t.Skip("this system does not tell who is at the other end of a socket")
	}
	dir, err := os.MkdirTemp("", "kw") // sockets have short paths
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	socket = filepath.Join(dir, "s")
	go func() {
		ended <- a.Serve(ctx, ServeOptions{Socket: socket, ReadersListen: "127.0.0.1:0", ReadersReady: func(at net.Addr) { readers = "https://" + at.String() }, Ready: func(string) { close(ready) }})
	}()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		w.t.Fatal(err)
	}
	return socket, readers
}

// flip makes a new value the current one of a key, as the last step of a rotation does.
func flip(t *testing.T, a *App, key apikey.Name) secret.Value {
	t.Helper()
	v := secrettest.Fake(t)
	id := apikey.VersionID("v_" + string(v.Fingerprint())[3:])
	sealed, generation, err := a.vault.Seal(t.Context(), id, key, v)
	if err != nil {
		t.Fatal(err)
	}
	err = a.Store.Update(t.Context(), func(tx *store.Tx) error {
		versions, err := tx.Versions(key)
		if err != nil {
			return err
		}
		for _, old := range versions {
			if old.State == apikey.Current {
				old.State = apikey.Previous
				if err := tx.PutVersion(old); err != nil {
					return err
				}
			}
		}
		if err := tx.PutVersion(apikey.Version{ID: id, Key: key, State: apikey.Current, Digest: v.Digest(), Environment: apikey.Development}); err != nil {
			return err
		}
		if err := tx.PutSealed(id, sealed, generation); err != nil {
			return err
		}
		return tx.Record(event.Event{Type: event.VersionState, Key: key, Version: id, Text: "pending to current"})
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func enroll(t *testing.T, name string) (path string, p handover.Public) {
	t.Helper()
	pin, err := DaemonPin()
	if err != nil {
		t.Fatal(err)
	}
	i, err := handover.NewIdentity(name, pin)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "reader.json")
	if err := i.Write(path); err != nil {
		t.Fatal(err)
	}
	if p, err = i.Public(); err != nil {
		t.Fatal(err)
	}
	return path, p
}

// TestReadersGetANewVersionByPush: a reader on the socket and an enrolled one get the value, and a new one without asking; each release is audited.
func TestReadersGetANewVersionByPush(t *testing.T) {
	w := newWorld(t, twoKeys)
	a := w.open()
	w.deploy(a, "app")
	first := flip(t, a, "app")
	file, public := enroll(t, "billing")
	if _, err := a.EnrollReader(t.Context(), public, time.Hour); err != nil {
		t.Fatal(err)
	}
	socket, readers := w.serve(a)
	var list []*daemon.Reader
	for _, c := range []daemon.Config{{Address: socket, Key: "app"}, {Address: readers, Identity: file, Key: "app"}} {
		r, err := daemon.New(c)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		list = append(list, r)
	}
	type read struct {
		keysource.Reading
		err error
	}
	next := make(chan read, 2)
	for _, r := range list {
		got, err := r.Read(t.Context())
		if err != nil || !got.Value.Equal(first) || got.Generation == 0 {
			t.Fatalf("%v (%s)", err, fault.HintOf(err))
		}
		if again, err := r.Read(t.Context()); err != nil || again.Generation != got.Generation {
			t.Errorf("read again: %v", err)
		}
		go func() {
			if err := r.Wait(context.Background(), got.Mark); err != nil {
				next <- read{err: err}
				return
			}
			got, err := r.Read(context.Background())
			next <- read{got, err}
		}()
	}
	if n := len(recorded(t, a, event.ValueAccessed)); n != 2 {
		t.Errorf("%d releases are recorded; a look that finds nothing new is none", n)
	}
	second := flip(t, a, "app")
	for range list {
		if got := <-next; got.err != nil || !got.Value.Equal(second) {
			t.Errorf("the new version: %v", got.err)
		}
	}
	audit := recorded(t, a, event.ValueAccessed)
	if len(audit) != 4 {
		t.Fatalf("%d releases are recorded", len(audit))
	}
	names := map[string]int{}
	for _, e := range audit {
		names[e.Actor+" by "+strings.TrimPrefix(e.Text, "released by ")]++
		if e.Key != "app" || e.Version == "" || e.Fields["fingerprint"] == "" {
			t.Errorf("%+v", e)
		}
	}
	if names["reader billing by mutual TLS"] != 2 || len(names) != 2 {
		t.Errorf("readers: %v", names)
	}
	text, err := json.Marshal(audit)
	if err != nil {
		t.Fatal(err)
	}
	secrettest.NoLeak(t, "audit", text, first, second)
}

func TestReadersThatAreRefused(t *testing.T) {
	w := newWorld(t, twoKeys)
	a := w.open()
	w.deploy(a, "app")
	w.deploy(a, "other")
	file, public := enroll(t, "billing")
	stranger, _ := enroll(t, "billing") // the same name, other keys
	if _, err := a.EnrollReader(t.Context(), public, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := a.EnrollReader(t.Context(), public, time.Hour); !fault.Is(err, fault.Conflict) {
		t.Errorf("enrolled twice: %v", err)
	}
	_, readers := w.serve(a)
	read := func(file, key string) error {
		t.Helper()
		r, err := daemon.New(daemon.Config{Address: readers, Identity: file, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, err = r.Read(t.Context())
		return err
	}
	for _, c := range []struct{ file, key, what string }{{stranger, "app", "not enrolled"}, {file, "other", "not listed"}, {file, "none", "no such key"}} {
		if err := read(c.file, c.key); !fault.Is(err, fault.Forbidden) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if err := read(file, "app"); err != nil {
		t.Errorf("listed and enrolled: %v", err)
	}
	// A connection that is open ends with the enrolment.
	open, err := daemon.New(daemon.Config{Address: readers, Identity: file, Key: "app"})
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	got, err := open.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.RevokeReader(t.Context(), "billing"); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Read(t.Context()); !fault.Is(err, fault.Forbidden) {
		t.Errorf("revoked: %v", err)
	}
	if err := a.RevokeReader(t.Context(), "billing"); !fault.Is(err, fault.NotFound) {
		t.Errorf("revoked twice: %v", err)
	}
	if _, err := a.EnrollReader(t.Context(), public, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Read(t.Context()); err != nil {
		t.Errorf("enrolled again: %v", err)
	}
	w.pass(2 * time.Hour)
	if _, err := open.Read(t.Context()); !fault.Is(err, fault.Forbidden) {
		t.Errorf("its time is over: %v", err)
	}
	if kinds := []int{len(recorded(t, a, event.ReaderEnrolled)), len(recorded(t, a, event.ReaderRevoked))}; kinds[0] != 2 || kinds[1] != 1 {
		t.Errorf("recorded: %v", kinds)
	}
	got.Value.Destroy()
	// Another daemon than the one that the identity names is not spoken to.
	other, err := handover.NewIdentity("billing", handover.Pin{1})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(filepath.Dir(file), "other.json")
	if err := other.Write(elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := read(elsewhere, "app"); !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "another one") {
		t.Errorf("another daemon: %v", err)
	}
	// Without a certificate there is no connection.
	conn, err := tls.Dial("tcp", strings.TrimPrefix(readers, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil {
		t.Error("a caller without a certificate is served")
	}
}

// TestStoreAsSource: a gateway with the configuration reads the store itself.
func TestStoreAsSource(t *testing.T) {
	w := newWorld(t, twoKeys)
	a := w.open()
	w.deploy(a, "app")
	if _, err := a.OpenKey("store:none", "gateway", false); !fault.Is(err, fault.Invalid) {
		t.Errorf("no such key: %v", err)
	}
	if _, err := OpenKey("store:app", w.dir, false); !fault.Is(err, fault.Invalid) {
		t.Errorf("without a configuration: %v", err)
	}
	r, err := a.OpenKey("store:app", "gateway", false)
	if err != nil {
		t.Fatal(err)
	}
	one, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() { told <- r.Wait(context.Background(), one.Mark) }()
	v := flip(t, a, "app")
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	two, err := r.Read(t.Context())
	if err != nil || !two.Value.Equal(v) || two.Generation <= one.Generation {
		t.Errorf("%v: generation %d after %d", err, two.Generation, one.Generation)
	}
	if list := recorded(t, a, event.ValueAccessed); len(list) != 2 || !strings.HasPrefix(list[0].Actor, "gateway@") {
		t.Errorf("%+v", list)
	}
}
