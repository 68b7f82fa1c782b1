package runner_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/envfile"
	"github.com/keywright/keywright/internal/provider/anthropic"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/runner"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/internal/store"
)

// childEnv tells a re-executed test binary that it is a worker, and what it works on.
const childEnv = "KEYWRIGHT_TEST_WORKER"

// childConfig is what a worker is told. It holds paths, never values.
type childConfig struct {
	Store    string
	Provider string
	Dir      string // of the values: one file per version, and one with the admin key
	Owner    string
	Free     bool // end the leases of a predecessor, as the only driver of a SQLite store does
	// Kill and Stop name a point around an effect, such as "made flip", at which the worker kills or stops itself: the signal is real, and
	// comes at a known moment.
	Kill, Stop string
	Every      time.Duration // between two looks for work; zero means 20 ms
}

// hit sends the worker its signal, once it is where it was told to.
func (c childConfig) hit() func(point string, e rotation.Effect) error {
	var stop sync.Once
	return func(point string, e rotation.Effect) error {
		switch point + " " + e.ID {
		case c.Kill:
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case c.Stop:
			stop.Do(func() {
				_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
				<-time.After(time.Second) // the signal may reach another thread first; this one gets no further
			})
		}
		return nil
	}
}

// childMain is a worker: a poller over a store, until it is killed.
func childMain(raw string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	r, c, err := childRunner(ctx, raw, log)
	if err == nil {
		err = (&runner.Poller{Runner: r, Every: cmp.Or(c.Every, 20*time.Millisecond)}).Run(ctx)
	}
	if err != nil {
		log.Error("worker ended", "error", err)
		return 1
	}
	return 0
}

func childRunner(ctx context.Context, raw string, log *slog.Logger) (_ *runner.Runner, c childConfig, err error) {
	if err := json.Unmarshal([]byte(raw), &c); err != nil {
		return nil, c, err
	}
	s, err := store.Open(ctx, c.Store, store.Options{})
	if err != nil {
		return nil, c, err
	}
	if c.Free {
		if _, err := s.FreeLeases(ctx); err != nil {
			return nil, c, err
		}
	}
	values := files(c.Dir)
	p, err := anthropic.New(anthropic.Config{BaseURL: c.Provider, AdminKey: func(ctx context.Context) (secret.Value, error) { return values.Open(ctx, "admin") }})
	if err != nil {
		return nil, c, err
	}
	return runner.New(runner.Surroundings{
		Store: s, Vault: values, Provider: p, Owner: c.Owner, Log: log, Fault: c.hit(),
		Place: func(p rotation.Place) (*location.Location, error) {
			d, err := envfile.New(envfile.Config{Path: p.Name, Variable: "ANTHROPIC_API_KEY"}, location.Env{Dir: c.Dir})
			if err != nil {
				return nil, err
			}
			return location.New(p.Name, "env-file", d, location.Options{}), nil
		},
	}), c, nil
}

// files is a vault of plain files: the values are made up, and custody is not what is tested here.
type files string

func (f files) Open(_ context.Context, id apikey.VersionID) (secret.Value, error) {
	b, err := os.ReadFile(filepath.Join(string(f), string(id)))
	if err != nil {
		return secret.Value{}, fault.Wrap(fault.NotFound, err, "open value")
	}
	return secret.New(b), nil
}

// field is a rotation of env files under real processes that can be killed: the simulator and an application run here, workers in
// processes of their own.
type field struct {
	t        *testing.T
	store    *store.Store
	url      string
	dir      string
	sim      *simulator.Simulator
	base     string
	places   []string
	provider map[apikey.VersionID]string
	values   map[apikey.VersionID]string
	stop     context.CancelFunc
	app      sync.WaitGroup
	served   int
	pace     time.Duration // between two requests of an application
	soak     time.Duration // and watch
}

const placeForm = "# the application reads this\nOTHER=1\nANTHROPIC_API_KEY=%s\nLAST='two words'\n"

func newField(t *testing.T, url string) *field {
	t.Helper()
	return newFieldAt(t, url, 25*time.Millisecond, time.Second)
}

func newFieldAt(t *testing.T, url string, pace, soak time.Duration) *field {
	t.Helper()
	f := &field{t: t, url: url, pace: pace, soak: soak, dir: t.TempDir(), sim: simulator.New(simulator.Options{}), provider: map[apikey.VersionID]string{}, values: map[apikey.VersionID]string{}}
	server := httptest.NewServer(f.sim.Handler())
	t.Cleanup(server.Close)
	f.base = server.URL
	s, err := store.Open(context.Background(), url, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	f.store = s
	f.write("admin", f.sim.AdminKey())
	old := f.add(apikey.Current)
	for _, name := range []string{"staging.env", "a.env", "b.env", "c.env"} {
		path := filepath.Join(f.dir, name)
		f.places = append(f.places, path)
		if err := os.WriteFile(path, fmt.Appendf(nil, placeForm, f.values[old]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	for _, path := range f.places {
		f.app.Go(func() { f.application(ctx, path) })
	}
	t.Cleanup(func() { cancel(); f.app.Wait() })
	return f
}

func (f *field) write(name, value string) {
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(value), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// add makes a key at the provider and puts it into the inventory.
func (f *field) add(state apikey.State) apikey.VersionID {
	f.t.Helper()
	providerID, value, err := f.sim.CreateKey(simulator.CreateKey{Name: fmt.Sprintf("key-%d", len(f.values)), Workspace: f.sim.DefaultWorkspace()})
	if err != nil {
		f.t.Fatal(err)
	}
	id := apikey.VersionID(fmt.Sprintf("v_%d", len(f.values)))
	f.values[id], f.provider[id] = value, providerID
	f.write(string(id), value)
	err = f.store.Update(context.Background(), func(tx *store.Tx) error {
		err := tx.PutVersion(apikey.Version{ID: id, Key: key, State: state, Digest: secret.New([]byte(value)).Digest(), ProviderID: providerID, Binding: apikey.BindingProved,
			Environment: apikey.Production, Added: time.Now(), Tested: time.Now()})
		if err != nil {
			return err
		}
		return tx.PutSealed(id, secret.Sealed("sealed "+id), 1)
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

// application reads its file before every request, and asks the provider with what it finds.
func (f *field) application(ctx context.Context, path string) {
	for ctx.Err() == nil {
		b, err := os.ReadFile(path)
		if err != nil {
			f.t.Errorf("the application cannot read its file: %v", err)
			return
		}
		_, rest, _ := strings.Cut(string(b), "ANTHROPIC_API_KEY=")
		value, _, _ := strings.Cut(rest, "\n")
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+"/v1/models?limit=1", nil)
		if err != nil {
			f.t.Error(err)
			return
		}
		req.Header.Set("X-Api-Key", strings.Trim(value, `"'`))
		req.Header.Set("Anthropic-Version", "2026-10-21")
		req.Header.Set("User-Agent", "application")
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(f.pace):
		}
	}
}

// begin starts a rotation; what no usage report can show is signed for beforehand.
func (f *field) begin(n int) string {
	f.t.Helper()
	p := rotation.Plan{
		ID: fmt.Sprintf("r-%d", n), Key: key, Kind: rotation.Manual, Reason: rotation.ReasonDrill, Actor: "op", UID: 1000, Created: time.Now(), Process: rotation.ProcessOrdinary,
		Organization: f.sim.Organization(), Environment: apikey.Production, Pairs: []string{"prod-primary+prod-secondary"},
		Waves: []rotation.Wave{{Name: "staging", Batches: [][]string{f.places[:1]}}, {Name: "production", Production: true, Batches: [][]string{f.places[1:3], f.places[3:]}}},
		Soak:  f.soak, Watch: f.soak, Parallel: 4, Admin: true,
	}
	for _, name := range f.places {
		p.Places = append(p.Places, rotation.Place{Name: name, Kind: "env-file", Address: "env-file:" + name, Can: rotation.Can{Read: true, Check: true}})
	}
	for id, v := range f.versions() {
		if v == apikey.Current {
			p.Old = id
		}
	}
	r := runner.New(runner.Surroundings{Store: f.store})
	row, err := r.Begin(context.Background(), p)
	if err == nil {
		err = r.Signal(context.Background(), row.ID, rotation.SignalSign, "ann", rotation.SignalData{Subject: "evidence", UID: 1001})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return row.ID
}

func (f *field) versions() map[apikey.VersionID]apikey.State {
	f.t.Helper()
	states := map[apikey.VersionID]apikey.State{}
	err := f.store.View(context.Background(), func(tx *store.Tx) error {
		list, err := tx.Versions(key)
		for _, v := range list {
			states[v.ID] = v.State
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return states
}

func (f *field) row(id string) (row rotation.Row) {
	f.t.Helper()
	err := f.store.View(context.Background(), func(tx *store.Tx) (err error) {
		row, err = tx.Rotation(id)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return row
}

// worker is a child process; its log is kept.
type worker struct {
	*exec.Cmd
	owner string
	mu    sync.Mutex
	log   bytes.Buffer
}

// says reports whether the worker logged this by now.
func (w *worker) says(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.log.String(), text)
}

func (w *worker) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

func (f *field) start(owner string, free bool) *worker {
	f.t.Helper()
	return f.launch(childConfig{Owner: owner, Free: free})
}

func (f *field) launch(c childConfig) *worker {
	f.t.Helper()
	c.Store, c.Provider, c.Dir = f.url, f.base, f.dir
	raw, err := json.Marshal(c)
	if err != nil {
		f.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	w := &worker{Cmd: exec.Command(self), owner: c.Owner}
	w.Env = append(os.Environ(), childEnv+"="+string(raw), "GOMAXPROCS=2")
	w.Stderr = w
	if err := w.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(w.kill)
	return w
}

// kill ends the process as a pulled plug does, and waits for it.
func (w *worker) kill() {
	if w.ProcessState == nil {
		_ = w.Process.Kill()
		_ = w.Wait()
	}
}

// await looks every few milliseconds until done says so; false means that the time was over.
func await(limit time.Duration, done func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(limit)
	defer end.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-end.C:
			return false
		}
	}
	return true
}

// check reads only the files, the provider's log and the audit.
func (f *field) check(row rotation.Row) {
	f.t.Helper()
	if row.Status != rotation.Done {
		f.t.Errorf("%s ended %q: %s", row.ID, row.Status, row.Note)
	}
	var current []apikey.VersionID
	archived := 0
	for id, state := range f.versions() {
		switch state {
		case apikey.Current:
			current = append(current, id)
		case apikey.Archived:
			archived++
			if f.sim.Accepts(f.provider[id]) {
				f.t.Errorf("the archived %s is accepted", id)
			}
		case apikey.Pending, apikey.Previous, apikey.Inactive:
			f.t.Errorf("%s was left %s", id, state)
		}
	}
	if len(current) != 1 {
		f.t.Fatalf("%d current versions", len(current))
	}
	want := fmt.Sprintf(placeForm, f.values[current[0]])
	for _, path := range f.places {
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			f.t.Errorf("%s is not what it should be: %v, %d bytes, want %d", filepath.Base(path), err, len(got), len(want))
		}
	}
	if left, err := filepath.Glob(filepath.Join(f.dir, ".*.keywright-new")); err != nil {
		f.t.Error(err)
	} else {
		for _, path := range left {
			if info, err := os.Stat(path); err == nil && info.Size() > 0 {
				f.t.Errorf("%s was left with %d bytes", filepath.Base(path), info.Size())
			}
		}
	}
	f.served = 0
	for _, r := range f.sim.Requests() {
		if r.UserAgent == "application" {
			f.served++
			if r.Status != http.StatusOK {
				f.t.Errorf("I1: the application got %d at %v with %s", r.Status, r.Time, r.KeyID)
			}
		}
	}
	if f.served == 0 {
		f.t.Error("the application asked nothing")
	}
	err := f.store.View(context.Background(), func(tx *store.Tx) error {
		report, err := verifyAudit(f.store, tx)
		if err == nil {
			err = report.Err()
		}
		if err != nil {
			return err
		}
		journal, err := tx.Journal(row.ID)
		if !slices.IsSortedFunc(journal, func(a, b rotation.Entry) int { return int(a.Fence - b.Fence) }) {
			f.t.Error("an entry with an older fence came after one with a newer")
		}
		return err
	})
	if err != nil {
		f.t.Error(err)
	}
}

// TestKilledProcess kills the worker at random moments, starts it again, and goes on until the rotation is over; then the next one. On a slow
// machine it takes longer, until it has killed often enough.
func TestKilledProcess(t *testing.T) {
	f := newField(t, storeIn(t, t.TempDir()))
	killed, rotations := 0, 0
	for deadline := time.Now().Add(12 * time.Second); killed < 5 || time.Now().Before(deadline); {
		rotations++
		f.add(apikey.Spare)
		id := f.begin(rotations)
		for !f.row(id).Status.Ended() {
			w := f.start("worker", true)
			entries := f.entries(id)
			life := time.Duration(rand.N(int64(300 * time.Millisecond)))
			if killed >= 5 && time.Now().After(deadline) {
				life = 30 * time.Second
			}
			// The clock starts with the first sign of life, so that every process gets somewhere.
			await(10*time.Second, func() bool { return f.entries(id) != entries || f.row(id).Status.Ended() })
			await(life, func() bool { return f.row(id).Status.Ended() })
			if !f.row(id).Status.Ended() {
				killed++
			}
			w.kill()
		}
		f.check(f.row(id))
	}
	t.Logf("%d rotations, %d kills, %d requests of the application without one refusal", rotations, killed, f.served)
}

func (f *field) entries(id string) (n int) {
	f.t.Helper()
	err := f.store.View(context.Background(), func(tx *store.Tx) error {
		list, err := tx.Journal(id)
		n = len(list)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}
