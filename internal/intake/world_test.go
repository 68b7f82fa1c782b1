package intake_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/intake"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/provider/anthropic"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/internal/store"
)

// world is an intake with a real store, real custody and the real provider client, over a simulated provider. It lives in a synctest bubble.
type world struct {
	t        *testing.T
	dir      string
	store    *store.Store
	sim      *simulator.Simulator
	vault    *vault
	provider provider.Provider
	keys     provider.Provider // without an admin key
	places   *memory.Server
	log      *buffer
	mu       sync.Mutex
	told     []string
	values   []secret.Value // that must leak nowhere
	results  []byte         // what callers were given
}

// shift brings the bubble's clock into the time that the provider's reports know.
const shift = 9814 * 24 * time.Hour // 2026-11-14

func now() time.Time { return time.Now().Add(shift) }

const (
	key   apikey.Name = "prod-primary"
	actor string      = "op@host"
)

func newWorld(t *testing.T, o simulator.Options) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), places: memory.NewServer(now), log: &buffer{}}
	o.Clock = now
	w.sim = simulator.New(o)
	transport, stop := w.sim.Pipe()
	t.Cleanup(stop)
	http := httpx.Options{UserAgent: "keywright/test", Dial: transport.DialContext, Now: now}
	admin := secret.New([]byte(w.sim.AdminKey()))
	w.values = append(w.values, admin)
	connect := func(c anthropic.Config) provider.Provider {
		c.BaseURL, c.HTTP = simulator.PipeURL, http
		p, err := anthropic.New(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.(interface{ CloseIdle() }).CloseIdle)
		return p
	}
	w.provider = connect(anthropic.Config{AdminKey: func(context.Context) (secret.Value, error) { return admin, nil }})
	w.keys = connect(anthropic.Config{})
	s, err := store.Open(t.Context(), filepath.Join(w.dir, "state", "keywright.db"), store.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	w.store = s
	m, err := custody.OpenMaster(t.Context(), "", custody.Env{ConfigDir: t.TempDir(), FirstRun: true, LookupEnv: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	w.vault = &vault{store: s, custody: custody.New(m)}
	t.Cleanup(w.noLeak)
	return w
}

// vault is custody over the store, as the assembly makes it.
type vault struct {
	store   *store.Store
	custody *custody.Custody
}

func (v *vault) binding(id apikey.VersionID, key apikey.Name) custody.Binding {
	return custody.Binding{Store: v.store.ID(), Key: key, Version: id, Purpose: "value", Generation: 1}
}

func (v *vault) Seal(ctx context.Context, id apikey.VersionID, key apikey.Name, value secret.Value) (secret.Sealed, int, error) {
	s, err := v.custody.Seal(ctx, value, v.binding(id, key))
	return s, 1, err
}

func (v *vault) Open(ctx context.Context, id apikey.VersionID) (value secret.Value, err error) {
	var sealed secret.Sealed
	var version apikey.Version
	err = v.store.View(ctx, func(tx *store.Tx) (err error) {
		if version, err = tx.Version(id); err != nil {
			return err
		}
		sealed, _, err = tx.Sealed(id)
		return err
	})
	if err != nil {
		return value, err
	}
	return v.custody.Open(ctx, sealed, v.binding(id, version.Key))
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// intake makes a new one, as a restarted process would.
func (w *world) intake() *intake.Intake {
	return &intake.Intake{
		Store: w.store, Vault: w.vault, Provider: w.provider, ProviderURL: simulator.PipeURL, Now: now, Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Signal: func(_ context.Context, rotation, actor string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, rotation+" by "+actor)
			return nil
		},
	}
}

// make lets a person create a key in the Console.
func (w *world) make(c simulator.CreateKey) (id string, v secret.Value) {
	w.t.Helper()
	if c.Name == "" {
		c.Name = apikey.ConsoleName("acme", key, now())
	}
	id, text, err := w.sim.CreateKey(c)
	if err != nil {
		w.t.Fatal(err)
	}
	v = secret.New([]byte(text))
	w.values = append(w.values, v)
	return id, v
}

func (w *world) slot() intake.Slot {
	c := apikey.Classes()[0]
	return intake.Slot{Key: key, Environment: apikey.Production, Class: c, House: "acme", Purpose: "answers customers"}
}

// input is a value as a pipe gives it.
func input(v secret.Value) io.Reader { return strings.NewReader(v.RevealString() + "\n") }

func options() intake.Options { return intake.Options{Actor: actor, Pin: true} }

func (w *world) add(i *intake.Intake, v secret.Value, slot intake.Slot, o intake.Options) (intake.Result, error) {
	w.t.Helper()
	o.Progress = func(c intake.Check) { w.keep(c) }
	r, err := i.Add(w.t.Context(), input(v), slot, o)
	w.keep(r)
	w.keepErr(err)
	return r, err
}

func (w *world) mustAdd(v secret.Value) apikey.Version {
	w.t.Helper()
	r, err := w.add(w.intake(), v, w.slot(), options())
	if err != nil {
		w.t.Fatalf("add: %v (%s)", err, fault.HintOf(err))
	}
	return r.Version
}

// keep remembers what a caller was given, for the search for leaks.
func (w *world) keep(x any) {
	b, err := json.Marshal(x)
	if err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.results = append(append(w.results, b...), '\n')
}

func (w *world) keepErr(err error) {
	if err != nil {
		w.keep(err.Error() + fault.HintOf(err))
	}
}

func (w *world) noLeak() {
	w.mu.Lock()
	defer w.mu.Unlock()
	secrettest.NoLeak(w.t, "results", w.results, w.values...)
	secrettest.NoLeak(w.t, "log", w.log.b.Bytes(), w.values...)
	secrettest.NoLeakIn(w.t, w.dir, nil, w.values...)
}

func (w *world) versions() (list []apikey.Version) {
	w.t.Helper()
	err := w.store.View(w.t.Context(), func(tx *store.Tx) (err error) {
		list, err = tx.Versions("")
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) update(f func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), f); err != nil {
		w.t.Fatal(err)
	}
}

// become moves a version to a state by hand.
func (w *world) become(id apikey.VersionID, change func(v *apikey.Version)) apikey.Version {
	w.t.Helper()
	var v apikey.Version
	w.update(func(tx *store.Tx) (err error) {
		if v, err = tx.Version(id); err != nil {
			return err
		}
		change(&v)
		return tx.PutVersion(v)
	})
	return v
}

// acts gives the record of what is under way.
func (w *world) acts() (text string) {
	w.t.Helper()
	err := w.store.View(w.t.Context(), func(tx *store.Tx) (err error) {
		text, _, err = tx.Meta("intake.acts")
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (w *world) settled() {
	w.t.Helper()
	if text := w.acts(); text != "" && text != "[]" && text != "null" {
		w.t.Errorf("acts left behind: %s", text)
	}
}

func (w *world) entries() (list []audit.Entry) {
	w.t.Helper()
	err := w.store.View(w.t.Context(), func(tx *store.Tx) (err error) {
		list, err = tx.AuditEntries(0, 0)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) status(id string) string {
	w.t.Helper()
	for _, k := range w.sim.Keys() {
		if k.ID == id {
			return k.Status
		}
	}
	w.t.Fatalf("no key %s", id)
	return ""
}

// changes lists what was sent to change a key.
func (w *world) changes() (n int) {
	for _, r := range w.sim.Requests() {
		if r.Method == "POST" && strings.HasPrefix(r.Path, "/v1/organizations/api_keys/") {
			n++
		}
	}
	return n
}

func outcome(r intake.Result, name string) intake.Outcome {
	for _, c := range slices.Backward(r.Checks) {
		if c.Name == name {
			return c.Outcome
		}
	}
	return ""
}

func text(r intake.Result, name string) string {
	var list []string
	for _, c := range r.Checks {
		if c.Name == name {
			list = append(list, c.Text)
		}
	}
	return strings.Join(list, "\n")
}

// place makes a place of the slot that holds v, or nothing.
func (w *world) place(name string, v secret.Value) *location.Location {
	p := w.places.Place(name)
	if !v.IsZero() {
		p.Overwrite(v)
	}
	return location.New(name, "memory", w.places.Driver(name), location.Options{})
}

func wantKind(t *testing.T, err error, want fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != want {
		t.Errorf("error is %v (%v), want %v", err, fault.KindOf(err), want)
	}
	if err != nil && fault.HintOf(err) == "" {
		t.Errorf("no hint: %v", err)
	}
}
