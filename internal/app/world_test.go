package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/intake"
	"github.com/keywright/keywright/internal/monitor"
	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/internal/store"
)

// world is a whole Keywright in a directory, with a simulated provider and a webhook that remembers what it was told.
type world struct {
	t   *testing.T
	dir string
	sim *simulator.Simulator
	// text is the configuration below the provider, state and notify sections.
	text string

	mu   sync.Mutex
	at   time.Time
	told []string
	// mute makes the webhook refuse.
	mute bool

	provider, hook string
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

func newWorld(t *testing.T, text string) *world {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, text: text, at: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)} // a Monday
	w.sim = simulator.New(simulator.Options{Clock: w.now, Seed: 7})
	provider := httptest.NewServer(w.sim.Handler())
	t.Cleanup(provider.Close)
	hook := httptest.NewServer(http.HandlerFunc(w.receive))
	t.Cleanup(hook.Close)
	w.provider, w.hook = provider.URL, hook.URL
	t.Setenv("KEYWRIGHT_CONFIG_DIR", filepath.Join(dir, "conf"))
	w.write("admin.key", w.sim.AdminKey())
	return w
}

func (w *world) receive(rw http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mute {
		rw.WriteHeader(http.StatusForbidden)
		return
	}
	w.told = append(w.told, string(b))
}

// heard gives what the webhook was told, of a kind or of all.
func (w *world) heard(part string) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.told {
		if strings.Contains(s, part) {
			list = append(list, s)
		}
	}
	return list
}

func (w *world) silence(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute = on
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// open starts Keywright as a new process would.
func (w *world) open() *App {
	w.t.Helper()
	text := fmt.Sprintf("organization: acme\nprovider: { url: %q, admin_key: %q }\nnotify: [ { webhook: { url: %q } } ]\n%s", w.provider, "file:admin.key", w.hook, w.text)
	c, _, err := config.LoadBytes("keywright.yaml", w.dir, []byte(text), config.Options{Dirs: &config.Dirs{Config: filepath.Join(w.dir, "conf"), State: filepath.Join(w.dir, "state")}})
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := Open(w.t.Context(), Options{Config: c, Now: w.now, Actor: "tester@host"})
	if err != nil {
		w.t.Fatalf("%v (%s)", err, fault.HintOf(err))
	}
	w.t.Cleanup(a.Close)
	return a
}

// deploy makes a key at the provider, writes it into KEY.env, and adopts it. It gives its id.
func (w *world) deploy(a *App, key apikey.Name) (id string) {
	w.t.Helper()
	id, value := w.make(key)
	w.write(string(key)+".env", "ANTHROPIC_API_KEY="+value+"\n")
	slot, err := a.Slot(key)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := a.Intake.Adopt(w.t.Context(), intake.Source{}, slot, intake.Options{Pin: true, Actor: a.Actor, SkipBinding: true}); err != nil {
		w.t.Fatalf("%v (%s)", err, fault.HintOf(err))
	}
	return id
}

func (w *world) make(key apikey.Name) (id, value string) {
	w.t.Helper()
	id, value, err := w.sim.CreateKey(simulator.CreateKey{Name: fmt.Sprintf("acme-%s-%d", key, len(w.sim.Keys()))})
	if err != nil {
		w.t.Fatal(err)
	}
	return id, value
}

// spare hands a spare in, and gives its id.
func (w *world) spare(a *App, key apikey.Name) (id string) {
	w.t.Helper()
	id, value := w.make(key)
	slot, err := a.Slot(key)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := a.Intake.Add(w.t.Context(), strings.NewReader(value), slot, intake.Options{Spare: true, Pin: true, Actor: a.Actor, SkipBinding: true}); err != nil {
		w.t.Fatalf("%v (%s)", err, fault.HintOf(err))
	}
	return id
}

func (w *world) set(id, status string) {
	w.t.Helper()
	if err := w.sim.SetStatus(id, status); err != nil {
		w.t.Fatal(err)
	}
}

func look(t *testing.T, a *App) monitor.Status {
	t.Helper()
	s, err := a.Status(t.Context(), func(monitor.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// recorded gives the audited events of a type.
func recorded(t *testing.T, a *App, kind event.Type) (list []event.Event) {
	t.Helper()
	err := a.Store.View(t.Context(), func(tx *store.Tx) error {
		list = nil
		for e, err := range tx.Audit() {
			if err != nil {
				return err
			}
			if e.Event.Type == kind {
				list = append(list, e.Event)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func incidents(t *testing.T, a *App) []store.Incident {
	t.Helper()
	list, err := a.Incidents(context.WithoutCancel(t.Context()), true)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
