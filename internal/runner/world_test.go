package runner_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/manual"
	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/runner"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/store"
)

// world is everything outside a runner: it survives the crash of one, and it is what the checker reads.
type world struct {
	t         testing.TB
	url       string
	store     *store.Store
	places    *memory.Server
	issuer    *issuer
	vault     *vault
	notices   []runner.Notice
	reports   []string
	mu        sync.Mutex
	fault     func(point string, e rotation.Effect) error
	open1     func(name string) location.Driver // opens a place in another way
	hook      func(op string) error
	rotations int
	runners   int
	started   time.Time
	emergent  bool          // I1 does not hold for the compromised version
	jump      time.Duration // of our own clock
	extra     []rotation.Place
	before    apikey.Digest            // what a stranger overwrote
	stuck     func(rotation.Row, bool) // told about a rotation that runs and gets nowhere, and whether it did so without parking
	elsewhere *memory.Server           // places of other keys
	reader    func(runner.Notice)      // who reads what people are told
	wait      chan struct{}            // the channel to people answers once this is closed
	testing   func()                   // what the owner's test does
	told      error                    // what the channel to people answers
	tested    error                    // what the owner's test answers
	provider  provider.Provider        // in place of the issuer
	mute      bool                     // no channel to people, no report, no fault points
	log       *slog.Logger
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.jump)
}

const (
	key    apikey.Name = "prod-primary"
	backup apikey.Name = "prod-secondary"
)

func newWorld(t testing.TB, places ...string) *world {
	t.Helper()
	w := &world{t: t, url: freshStore(t), places: memory.NewServer(time.Now), vault: &vault{values: map[apikey.VersionID]secret.Value{}}, started: time.Now()}
	w.elsewhere = memory.NewServer(time.Now)
	w.issuer = &issuer{world: w, keys: map[apikey.Digest]*issued{}}
	w.open()
	old := w.add(key, apikey.Current)
	w.add(key, apikey.Spare)
	w.add(backup, apikey.Current)
	for _, name := range places {
		p := w.places.Place(name)
		p.Overwrite(w.vault.values[old.ID])
		p.SetConsumers(3)
		if err := w.places.Driver(name).Reload(context.Background(), "start"); err != nil {
			t.Fatal(err)
		}
		p.SetHealth(w.issuer.healthy)
	}
	return w
}

// template is an empty store, made once and copied: making one costs more than most tests do with it.
var template = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "kw-store-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "state", "keywright.db")
	s, err := store.Open(context.Background(), path, store.Options{})
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// TestMain makes the template outside of every bubble.
func TestMain(m *testing.M) {
	if child := os.Getenv(childEnv); child != "" {
		os.Exit(childMain(child))
	}
	if _, err := template(); err != nil {
		fmt.Fprintln(os.Stderr, "make store:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// freshStore writes an empty store and gives its path. Where there is a file system in memory it lies there, since a crash in this
// process is nothing to a disk; what is measured or killed lies on a disk.
func freshStore(t testing.TB) string {
	t.Helper()
	if _, measured := t.(*testing.B); measured {
		return storeIn(t, t.TempDir())
	}
	dir, err := os.MkdirTemp("/dev/shm", "kw-test-")
	if err != nil {
		return storeIn(t, t.TempDir())
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return storeIn(t, dir)
}

func storeIn(t testing.TB, parent string) string {
	t.Helper()
	path := filepath.Join(parent, "state", "keywright.db")
	content, err := template()
	if err == nil {
		err = os.Mkdir(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (w *world) open() {
	w.t.Helper()
	s, err := store.Open(context.Background(), w.url, store.Options{Now: w.now, Hook: func(op string) error {
		if w.hook != nil {
			return w.hook(op)
		}
		return nil
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = s
	w.t.Cleanup(func() { _ = s.Close() })
}

// add makes a key at the issuer and puts it into the inventory.
func (w *world) add(k apikey.Name, state apikey.State) apikey.Version {
	w.t.Helper()
	value := secrettest.Fake(w.t)
	id := apikey.VersionID("v_" + string(value.Digest().Fingerprint())[3:])
	v := apikey.Version{ID: id, Key: k, State: state, Digest: value.Digest(), ProviderID: "apikey_" + string(id), Binding: apikey.BindingProved, Environment: apikey.Production,
		Organization: "org", Workspace: "ws", Added: time.Now(), Tested: time.Now()}
	w.vault.values[id] = value
	w.issuer.keys[value.Digest()] = &issued{id: v.ProviderID, status: provider.Active}
	err := w.store.Update(context.Background(), func(tx *store.Tx) error {
		if err := tx.PutVersion(v); err != nil {
			return err
		}
		return tx.PutSealed(v.ID, secret.Sealed("sealed "+id), 1)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) update(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.store.Update(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) setState(from, to apikey.State) {
	w.t.Helper()
	for _, v := range w.inState(key, from) {
		v.State = to
		w.update(func(tx *store.Tx) error { return tx.PutVersion(v) })
	}
}

func (w *world) driver(name string) location.Driver {
	if w.open1 != nil {
		return w.open1(name)
	}
	return w.places.Driver(name)
}

// plan0 gives the places that a plan would have.
func (w *world) plan0() (places []rotation.Place) {
	for _, name := range w.places.Names() {
		places = append(places, rotation.Place{Name: name})
	}
	return places
}

// runner makes a new one, as a restarted process would.
func (w *world) runner() *runner.Runner {
	w.runners++
	s := runner.Surroundings{
		Store: w.store, Vault: w.vault, Provider: w.issuer, Owner: fmt.Sprintf("runner-%d", w.runners), Now: w.now, Log: w.log,
		Place: func(p rotation.Place) (*location.Location, error) {
			for _, name := range w.places.Names() {
				if name == p.Name {
					return location.New(p.Name, "memory", w.driver(p.Name), location.Options{}), nil
				}
			}
			if p.Kind == "manual" {
				d, err := manual.New(manual.Config{Place: "the page " + p.Name, Person: "ann"}, location.Env{Name: p.Name, Now: w.now, Signed: w.signature})
				if err != nil {
					return nil, err
				}
				return location.New(p.Name, p.Kind, d, location.Options{}), nil
			}
			return location.New(p.Name, "memory", w.elsewhere.Driver(p.Name), location.Options{}), nil
		},
		Places: func(apikey.Name) []rotation.Place {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.Clone(w.extra)
		},
		Test: func(context.Context, rotation.Test, secret.Value) error {
			if w.testing != nil {
				w.testing()
			}
			return w.tested
		},
		Tell: func(_ context.Context, n runner.Notice) error {
			w.mu.Lock()
			w.notices = append(w.notices, n)
			reader, wait, told := w.reader, w.wait, w.told
			w.mu.Unlock()
			if reader != nil && n.Wants {
				go reader(n)
				<-wait
			}
			return told
		},
		Report: func(_ context.Context, row rotation.Row, outcome string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reports = append(w.reports, outcome)
			return nil
		},
		Fault: func(point string, e rotation.Effect) error {
			if w.fault != nil {
				return w.fault(point, e)
			}
			return nil
		},
	}
	if w.provider != nil {
		s.Provider = w.provider
	}
	if w.mute {
		s.Tell, s.Report, s.Fault = nil, nil, nil
	}
	return runner.New(s)
}

// signature gives the last signature for a place.
func (w *world) signature(ctx context.Context, place string) (found location.Signature, ok bool) {
	err := w.store.View(ctx, func(tx *store.Tx) error {
		list, err := tx.Signatures(place)
		for _, s := range list {
			found, ok = location.Signature{Fingerprint: string(s.Fingerprint), By: s.By, At: s.At}, true
		}
		return err
	})
	return found, ok && err == nil
}

func (w *world) plan(kind rotation.Kind) rotation.Plan {
	p := rotation.Plan{
		ID: "r-1", Key: key, Kind: kind, Reason: rotation.ReasonScheduled, Actor: "op", UID: 1000, Created: time.Now(), Process: rotation.ProcessOrdinary,
		Organization: "org", Workspace: "ws", Environment: apikey.Production, Class: "production-primary", ConsoleName: "org-production-primary", Backup: backup, Pairs: []string{"prod-primary+prod-secondary"},
		Soak: 2 * time.Hour, Watch: 3 * time.Second, HealthWait: 30 * time.Second, Parallel: 4, Admin: true, Usage: true, Tell: true,
		Tests: []rotation.Test{{Name: "smoke"}},
	}
	var production []string
	for i, name := range w.places.Names() {
		a := location.AbilitiesOf(w.places.Driver(name))
		can := rotation.Can{Read: true, Reload: true, Confirm: true, Probe: true, Restore: a.Restores, Remove: a.Removes, Check: true, Stage: i%2 == 1}
		p.Places = append(p.Places, rotation.Place{Name: name, Kind: "memory", Address: "memory:" + name, Can: can})
		if i > 0 {
			production = append(production, name)
		}
	}
	p.Waves = []rotation.Wave{{Name: "staging", Batches: [][]string{{w.places.Names()[0]}}}}
	if len(production) > 0 {
		p.Waves = append(p.Waves, rotation.Wave{Name: "production", Production: true, Batches: [][]string{production}, Watch: time.Minute})
	}
	for _, v := range w.versions(key) {
		if v.State == apikey.Current {
			p.Old = v.ID
		}
		if kind == rotation.Rollback && v.State == apikey.Previous {
			p.New = v.ID
		}
	}
	switch kind {
	case rotation.Rollback:
		p.Process = rotation.ProcessRollback
	case rotation.Emergency:
		p.Process, p.Soak, p.Watch, p.HealthWait = rotation.ProcessEmergency, 0, 0, 0
	}
	return p
}

func (w *world) versions(k apikey.Name) (list []apikey.Version) {
	w.t.Helper()
	err := w.store.View(context.Background(), func(tx *store.Tx) (err error) {
		list, err = tx.Versions(k)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) inState(k apikey.Name, s apikey.State) []apikey.Version {
	return slices.DeleteFunc(w.versions(k), func(v apikey.Version) bool { return v.State != s })
}

func (w *world) row(id string) (row rotation.Row) {
	w.t.Helper()
	err := w.store.View(context.Background(), func(tx *store.Tx) (err error) {
		row, err = tx.Rotation(id)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return row
}

func (w *world) begin(plan rotation.Plan) rotation.Row {
	w.t.Helper()
	row, err := w.runner().Begin(context.Background(), plan)
	if err != nil {
		w.t.Fatal(err)
	}
	return row
}

// patience is how long a driver may go on without parking the rotation. An emergency whose calls hang tries for ever, and never parks while some of
// them are under way.
const patience = time.Hour

// finish drives a rotation to its end with new runners after each crash, as a supervisor that restarts the process would. What is wanted
// of a person is answered by answer.
func (w *world) finish(id string, answer func(rotation.Row)) rotation.Row {
	w.t.Helper()
	r := w.runner()
	told := false
	for n := range 600 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		next, err := r.Advance(ctx, id)
		late := ctx.Err() != nil
		cancel()
		row := w.row(id)
		if (n >= 100 || late) && !told && w.stuck != nil && row.Status == rotation.Running {
			told = true
			w.stuck(row, late)
		}
		switch {
		case row.Status.Ended():
			return row
		case late:
		case errors.Is(err, errCrash):
			<-time.After(runner.Lease) // the lease of the dead runner runs out
			r = w.runner()
		case fault.Is(err, fault.Unavailable) && fault.HintOf(err) != "":
			<-time.After(runner.Lease) // the store cannot be written: the poller logs it and comes again
		case err != nil:
			w.t.Fatalf("advance: %v", err)
		default:
			if answer != nil && (next.Status == rotation.Paused || next.Status == rotation.Waiting) {
				answer(row)
			}
			<-time.After(next.Wake.Sub(w.now()))
		}
	}
	w.t.Fatalf("no end: %s, %s", w.row(id).Status, w.row(id).Note)
	return rotation.Row{}
}

// until drives a rotation until done says so, or it cannot go on.
func (w *world) until(id string, done func() bool) {
	w.t.Helper()
	r := w.runner()
	for range 300 {
		next, err := r.Advance(context.Background(), id)
		if err != nil {
			w.t.Fatalf("advance: %v", err)
		}
		if done() {
			return
		}
		<-time.After(next.Wake.Sub(w.now()))
	}
	w.t.Fatalf("did not come so far: %s", w.row(id).Note)
}

var errCrash = errors.New("crash")

func (w *world) signal(id string, s rotation.Signal, d rotation.SignalData) {
	w.t.Helper()
	if err := w.runner().Signal(context.Background(), id, s, "person", d); err != nil {
		w.t.Errorf("signal %s: %v", s, err)
	}
}

// check is the independent checker: it reads the places, the issuer, the inventory and the audit chain, and nothing of the journal.
func (w *world) check(outcome rotation.Row) {
	w.t.Helper()
	for _, problem := range w.problems(outcome) {
		w.t.Error(problem)
	}
}

// stranded names every place and running consumer whose value the issuer refuses, and every act that stranded one: invariants I1 and I2.
func (w *world) stranded() (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	w.issuer.mu.Lock()
	problems = append(problems, w.issuer.violations...)
	w.issuer.mu.Unlock()
	if w.emergent {
		return problems
	}
	for _, name := range w.places.Names() {
		p := w.places.Place(name)
		if !w.issuer.accepts(p.Held().Digest()) {
			say("I1: %s holds a refused value", name)
		}
		for _, d := range p.Consumers() {
			if !w.issuer.accepts(d) {
				say("I1: a consumer of %s runs with a refused value", name)
			}
		}
	}
	return problems
}

// problems is what the checker finds after the end of a rotation.
func (w *world) problems(outcome rotation.Row) (problems []string) {
	w.t.Helper()
	problems = w.stranded()
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !outcome.Status.Ended() || outcome.Status != rotation.Done && outcome.Note == "" {
		say("ended %q without a word: %q", outcome.Status, outcome.Note)
	}
	versions := w.versions(key)
	current := w.inState(key, apikey.Current)
	if len(current) != 1 {
		say("I6: %d current versions", len(current))
		return problems
	}
	if pending := w.inState(key, apikey.Pending); len(pending) > 0 && outcome.Status != rotation.Superseded {
		say("a version is pending and no rotation is under way")
	}
	for _, name := range w.places.Names() {
		p := w.places.Place(name)
		held := p.Held().Digest()
		if held != current[0].Digest {
			say("%s holds %s, current is %s (%s)", name, held.Fingerprint(), current[0].Fingerprint(), outcome.Status)
		}
		for _, d := range p.Consumers() {
			if d != current[0].Digest {
				say("a consumer of %s runs with %s, current is %s", name, d.Fingerprint(), current[0].Fingerprint())
			}
		}
		if string(p.Neighbours()) != "OTHER=1\n" {
			say("I5: the neighbours in %s changed", name)
		}
	}
	err := w.store.View(context.Background(), func(tx *store.Tx) error {
		locks, err := tx.Locks()
		if len(locks) > 0 {
			say("locks left: %v", locks)
		}
		if err != nil {
			return err
		}
		claims, err := tx.Claims()
		if len(claims) > 0 {
			say("claims left: %v", claims)
		}
		if err != nil {
			return err
		}
		for _, v := range versions {
			_, _, err := tx.Sealed(v.ID)
			if lost := err != nil; lost != (v.State == apikey.Archived) {
				say("lost: the value of %s, which is %s, is sealed: %v", v.ID, v.State, !lost)
			}
		}
		report, err := verifyAudit(w.store, tx)
		for _, p := range report.Problems {
			say("I9: %s", p.Text)
		}
		if err != nil {
			return err
		}
		acts := map[string]int{}
		for e, err := range tx.Audit() {
			if err != nil {
				return err
			}
			if e.Event.Rotation == outcome.ID {
				acts[string(e.Event.Type)]++
			}
		}
		if acts[string(event.RotationStarted)] != 1 || acts[string(event.RotationEnded)] != 1 {
			say("I9: the audit has %d starts and %d ends of %s", acts[string(event.RotationStarted)], acts[string(event.RotationEnded)], outcome.ID)
		}
		return nil
	})
	if err != nil {
		say("%v", err)
	}
	return problems
}

func (v *vault) byDigest(d apikey.Digest) (secret.Value, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, value := range v.values {
		if value.Digest() == d {
			return value, true
		}
	}
	return secret.Value{}, false
}

// verifyAudit checks the chain. No checkpoint is made here, so that any key serves.
func verifyAudit(s *store.Store, tx *store.Tx) (audit.Report, error) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		return audit.Report{}, err
	}
	return audit.Verifier{Store: s.ID(), Keys: []ed25519.PublicKey{public}}.Verify(tx.Audit())
}

// vault hands out copies, since the runner destroys what it borrowed.
type vault struct {
	mu      sync.Mutex
	values  map[apikey.VersionID]secret.Value
	trouble error
	opened  int // how often a value was asked for
}

func (v *vault) openings() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.opened
}

func (v *vault) lock(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.trouble = err
}

func (v *vault) Open(_ context.Context, id apikey.VersionID) (secret.Value, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.opened++
	if v.trouble != nil {
		return secret.Value{}, v.trouble
	}
	value, ok := v.values[id]
	if !ok {
		return secret.Value{}, fault.Newf(fault.NotFound, "no value of %s", id)
	}
	var c secret.Value
	value.Reveal(func(b []byte) { c = secret.New(slices.Clone(b)) })
	return c, nil
}

// issuer is a provider with state, in memory, whose clock is the bubble's.
type issuer struct {
	world      *world
	mu         sync.Mutex
	keys       map[apikey.Digest]*issued
	trouble    func(op string) error             // replies other than the true one
	lag        time.Duration                     // of the usage report
	undated    bool                              // the usage report does not say how fresh it is
	verdict    func(id string) *provider.Verdict // in place of what Inspect would say of this key; nil leaves it
	cut        bool                              // a status is set although the reply says that it is not known
	violations []string
}

func (i *issuer) use(d apikey.Digest, at time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys[d].used = append(i.keys[d].used, at)
}

func (i *issuer) setLag(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lag = d
}

type issued struct {
	id      string
	status  provider.Status
	used    []time.Time
	changed int
}

var (
	_ provider.Provider      = (*issuer)(nil)
	_ provider.Tester        = (*issuer)(nil)
	_ provider.StatusSetter  = (*issuer)(nil)
	_ provider.UsageReporter = (*issuer)(nil)
	_ provider.Clock         = (*issuer)(nil)
)

func (i *issuer) accepts(d apikey.Digest) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	k := i.keys[d]
	return k != nil && k.status == provider.Active
}

// healthy is the health of consumers: each makes a request with what it runs.
func (i *issuer) healthy(running []apikey.Digest) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, d := range running {
		k := i.keys[d]
		if k == nil || k.status != provider.Active {
			return fault.New(fault.Unavailable, "a consumer is refused")
		}
		k.used = append(k.used, time.Now())
	}
	return nil
}

func (i *issuer) broken(op string) error {
	if i.trouble == nil {
		return nil
	}
	return i.trouble(op)
}

func (i *issuer) Inspect(_ context.Context, v secret.Value) (provider.Verdict, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.broken("inspect"); err != nil {
		return verdictOf(err), nil
	}
	k := i.keys[v.Digest()]
	if k != nil && i.verdict != nil {
		if said := i.verdict(k.id); said != nil {
			return *said, nil
		}
	}
	if k == nil || k.status != provider.Active {
		return provider.Verdict{Answer: provider.Dead, Status: 401, Reason: "authentication_error", Date: time.Now()}, nil
	}
	return provider.Verdict{Answer: provider.Live, Status: 200, Organization: "org", Workspace: "ws", Date: time.Now()}, nil
}

func (i *issuer) Count(ctx context.Context, v secret.Value) (provider.Verdict, error) {
	return i.Inspect(ctx, v)
}

// verdictOf gives what the client of the real provider makes of an answer.
func verdictOf(err error) provider.Verdict {
	v := provider.Verdict{Answer: provider.Unknown, Reason: err.Error(), RetryAfter: fault.RetryAfterOf(err), Date: time.Now()}
	switch fault.KindOf(err) {
	case fault.Unauthenticated:
		v.Answer, v.Status = provider.Dead, 401
	case fault.Forbidden:
		v.Answer, v.Status = provider.Blocked, 403
	case fault.RateLimited:
		v.Answer, v.Status = provider.Blocked, 429
	}
	return v
}

func (i *issuer) Message(ctx context.Context, v secret.Value) (provider.Verdict, error) {
	i.mu.Lock()
	if err := i.broken("message"); err != nil {
		i.mu.Unlock()
		return verdictOf(err), nil
	}
	i.mu.Unlock()
	got, err := i.Inspect(ctx, v)
	if err == nil && got.Answer == provider.Live {
		i.mu.Lock()
		defer i.mu.Unlock()
		k := i.keys[v.Digest()]
		k.used = append(k.used, time.Now())
	}
	return got, err
}

func (i *issuer) SetStatus(_ context.Context, id string, s provider.Status) (provider.Key, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	lost := i.broken("set " + string(s))
	if lost != nil && !i.cut {
		return provider.Key{}, lost
	}
	for d, k := range i.keys {
		if k.id != id {
			continue
		}
		if s != provider.Active && !i.world.emergent {
			i.judge(d, s)
		}
		if k.status == provider.Archived && s != provider.Archived {
			return provider.Key{}, fault.New(fault.Conflict, "archived is final")
		}
		if k.status != s {
			k.status, k.changed = s, k.changed+1
		}
		return provider.Key{ID: id, Status: s}, lost
	}
	return provider.Key{}, fault.New(fault.NotFound, "no such key")
}

// judge notes a deactivation that strands somebody: invariants I1 and I2 as the outside sees them.
func (i *issuer) judge(d apikey.Digest, s provider.Status) {
	for _, name := range i.world.places.Names() {
		p := i.world.places.Place(name)
		if p.Held().Digest() == d {
			i.violations = append(i.violations, fmt.Sprintf("%s while %s holds it", s, name))
		}
		if slices.Contains(p.Consumers(), d) {
			i.violations = append(i.violations, fmt.Sprintf("%s while a consumer of %s runs with it", s, name))
		}
	}
}

func (i *issuer) Usage(_ context.Context, q provider.UsageQuery) (provider.Usage, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.broken("usage"); err != nil {
		return provider.Usage{}, err
	}
	u := provider.Usage{Seen: map[string][]provider.Bucket{}, FreshTo: time.Now().Add(-i.lag), Source: "analytics", Counts: "requests"}
	if i.undated {
		u.FreshTo, u.Source = time.Time{}, "legacy"
	}
	for _, k := range i.keys {
		for _, at := range k.used {
			from := at.Truncate(time.Minute)
			if slices.Contains(q.IDs, k.id) && !from.Before(q.From) && from.Before(q.To) && at.Before(time.Now().Add(-i.lag)) {
				u.Seen[k.id] = append(u.Seen[k.id], provider.Bucket{From: from, To: from.Add(time.Minute), Count: 1})
			}
		}
	}
	return u, nil
}

func (i *issuer) Clock(context.Context) (time.Time, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return time.Now(), i.broken("clock")
}
