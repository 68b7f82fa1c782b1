package runner_test

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/runner"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/store"
)

// answers are the ways in which a call of a place goes wrong, each for as long as nobody mends it.
var answers = []struct {
	name string
	f    memory.Fault
}{
	{"401", memory.Fault{Kind: fault.Unauthenticated}},
	{"403", memory.Fault{Kind: fault.Forbidden}},
	{"404", memory.Fault{Kind: fault.NotFound}},
	{"409", memory.Fault{Kind: fault.Conflict}},
	{"429", memory.Fault{Kind: fault.RateLimited, RetryAfter: 40 * time.Second}},
	{"500", memory.Fault{Kind: fault.Unavailable}},
	{"time-out", memory.Fault{Hang: true}},
	{"cut reply", memory.Fault{Cut: true}},
	{"garbage", memory.Fault{Garbage: true}},
}

// moments say when trouble begins: before an effect whose ID begins so.
var moments = map[memory.Method]string{
	memory.Check: "preflight/", memory.Inspect: "staging/", memory.Put: "staging/", memory.Stage: "deploy/", memory.Promote: "deploy/", memory.Reload: "staging/",
	memory.Confirm: "deploy/", memory.Probe: "deploy/", memory.Remove: "archive/",
}

// standing is how a rotation stood when it could not go on, and how it ended once the trouble was mended.
type standing struct {
	status     rotation.Status
	note, hint string
	end        rotation.Status
	healed     bool // it never stood still
	crashes    int
	met        string // the first effect that failed by the trouble; where none did, the last one before it stood, or the one at which it began
}

func (s standing) String() string {
	if s.crashes > 0 {
		return fmt.Sprintf("%d crashes → %s", s.crashes, s.end)
	}
	if s.healed {
		return "healed by itself → " + string(s.end)
	}
	return string(s.status) + " → " + string(s.end)
}

// trial is one row of the failure matrix.
type trial struct {
	kind rotation.Kind
	when string // the trouble begins before the first effect whose ID begins so; empty: from the start
	arm  func(w *world)
	mend func(w *world)
	// byPerson is true where a person, not Keywright, strands the consumers.
	byPerson bool
	// crash is a point around an effect, such as "made flip", at which the process dies once the trouble has begun. A new one goes on.
	crash string
	// cancel names the effect during which a person cancels.
	cancel string
}

// run lets the trouble come, waits until the rotation stands still or ends, looks whether anybody is stranded, mends, resumes, and looks
// again at the end.
func (tr trial) run(t *testing.T) (s standing) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		prepare(w, tr.kind)
		armed, struck, cancelled := false, false, false
		var began int64       // how long the journal was
		var arming sync.Mutex // effects run side by side: none of those that it is meant for begins until the trouble is there
		w.fault = func(point string, e rotation.Effect) error {
			arming.Lock()
			defer arming.Unlock()
			w.mu.Lock()
			first := !armed && point == "before" && strings.HasPrefix(e.ID, tr.when)
			if first {
				armed, s.met = true, e.ID
			}
			strikes := armed && !struck && point+" "+e.ID == tr.crash
			struck = struck || strikes
			cancels := !cancelled && e.ID == tr.cancel
			cancelled = cancelled || cancels
			w.mu.Unlock()
			if cancels {
				w.signal("r-1", rotation.SignalCancel, rotation.SignalData{})
			}
			if first {
				began = int64(len(w.journal("r-1")))
				tr.arm(w)
			}
			if strikes {
				return errCrash
			}
			return nil
		}
		s.healed = true
		stand := func(row rotation.Row, flies bool) {
			if s.healed {
				s.healed, s.status, s.note, s.hint = false, row.Status, row.Note, row.Hint
				s.met = w.metAt(row.ID, began, s.met, true)
			}
			if !flies && (row.Note == "" || row.Hint == "") {
				t.Errorf("%s without words: note %q, hint %q", row.Status, row.Note, row.Hint)
			}
			for _, p := range w.stranded() {
				if !tr.byPerson {
					t.Errorf("while %s: %s", row.Status, p)
				}
			}
			tr.mend(w)
		}
		w.stuck = stand
		plan := w.plan(tr.kind)
		row := w.finish(w.begin(plan).ID, func(row rotation.Row) {
			stand(row, false)
			w.signal(row.ID, rotation.SignalResume, rotation.SignalData{})
		})
		if !armed {
			t.Fatalf("nothing began with %q", tr.when)
		}
		if struck != (tr.crash != "") || cancelled != (tr.cancel != "") {
			t.Fatalf("crashed: %v, cancelled: %v", struck, cancelled)
		}
		if s.healed {
			s.met = w.metAt(row.ID, began, s.met, false)
		}
		s.end = row.Status
		if row.Status != rotation.Done {
			if row.Status != rotation.Cancelled {
				stand(row, false)
			}
			tr.mend(w)
			w.check(row)
			if len(w.inState(key, apikey.Spare)) == 0 {
				w.add(key, apikey.Spare)
			}
			plan = w.plan(tr.kind)
			plan.ID = "r-2"
			if row = w.finish(w.begin(plan).ID, nil); row.Status != rotation.Done {
				t.Errorf("the next rotation ended %q: %s", row.Status, row.Note)
			}
			s.end = row.Status
		}
		tr.mend(w)
		w.check(row)
	})
	return s
}

// metAt names the first effect of a rotation that failed after the journal was so long. Where none did, it is the last one made, if last says
// so, or else what was known before.
func (w *world) metAt(id string, began int64, known string, last bool) string {
	w.t.Helper()
	for _, e := range w.journal(id) {
		switch {
		case e.Seq <= began:
		case e.Type == rotation.Missed:
			return e.Effect
		case e.Type == rotation.Made && last:
			known = e.Effect
		}
	}
	return known
}

func (w *world) journal(id string) (entries []rotation.Entry) {
	w.t.Helper()
	err := w.store.View(context.Background(), func(tx *store.Tx) (err error) {
		entries, err = tx.Journal(id)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return entries
}

// matrix collects rows for docs/reliability.md.
type matrix struct {
	mu   sync.Mutex
	rows map[string]map[string]standing
}

func (m *matrix) add(row, column string, s standing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == nil {
		m.rows = map[string]map[string]standing{}
	}
	if m.rows[row] == nil {
		m.rows[row] = map[string]standing{}
	}
	m.rows[row][column] = s
}

// hit notes a crash at an effect that a rotation survived.
func (m *matrix) hit(effect, kind string, end rotation.Status) {
	m.mu.Lock()
	n := m.rows[effect][kind].crashes
	m.mu.Unlock()
	m.add(effect, kind, standing{crashes: n + 1, end: end})
}

func (m *matrix) markdown(columns []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	names := make([]string, 0, len(m.rows))
	for name := range m.rows {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(&b, "| %s |", name)
		for _, c := range columns {
			text := ""
			if s, ok := m.rows[name][c]; ok {
				text = s.String()
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// turn counts the cases of all matrices, in the order in which they come up.
var turn int

// passedOver reports whether a case is left out of the sample.
func passedOver() bool {
	turn++
	return turn%sample != 0
}

// TestFailureMatrixPlaces breaks each call of a place with each answer.
func TestFailureMatrixPlaces(t *testing.T) {
	var m matrix
	var columns []string
	for _, a := range answers {
		columns = append(columns, a.name)
		for method, when := range moments {
			if passedOver() {
				continue
			}
			t.Run(string(method)+"/"+a.name, func(t *testing.T) {
				m.add(string(method), a.name, breakPlace(t, rotation.Manual, method, when, a.f))
			})
		}
	}
	if !t.Failed() && sample == 1 {
		fresh(t, "places", m.markdown(columns))
	}
}

func breakPlace(t *testing.T, kind rotation.Kind, method memory.Method, when string, f memory.Fault) standing {
	t.Helper()
	tr := breakPlaces(method, f)
	tr.kind, tr.when = kind, when
	return tr.run(t)
}

// breakPlaces is a trial in which one call of every place goes wrong.
func breakPlaces(method memory.Method, f memory.Fault) trial {
	f.Method, f.Times = method, 1<<30
	return trial{
		arm: func(w *world) {
			for _, name := range w.places.Names() {
				w.places.Place(name).Break(f)
			}
		},
		mend: func(w *world) {
			for _, name := range w.places.Names() {
				w.places.Place(name).Mend()
			}
		},
	}
}

// providerAnswers are the ways in which the provider goes wrong.
var providerAnswers = []struct {
	name string
	err  error
}{
	{"401", fault.New(fault.Unauthenticated, "refused")},
	{"403", fault.New(fault.Forbidden, "not allowed")},
	{"404", fault.New(fault.NotFound, "no such thing")},
	{"409", fault.New(fault.Conflict, "not in this state")},
	{"429", fault.New(fault.RateLimited, "slow down", fault.RetryAfter(40*time.Second))},
	{"500", fault.New(fault.Unavailable, "internal error")},
	{"time-out", fault.New(fault.Unavailable, "no answer in 30 s")},
	{"cut reply", fault.New(fault.Indeterminate, "the reply was lost")},
	{"garbage", fault.New(fault.Corrupt, "the reply cannot be understood")},
}

// calls of the provider, and from when on they fail.
var calls = []struct{ op, when string }{
	{"inspect", "preflight/"}, {"message", "test/"}, {"set inactive", "retire/"}, {"set archived", "archive/"}, {"usage", "evidence/"}, {"clock", "retire/"},
	{"inspect while watching", "retire/round-1/await-refused"},
}

// TestFailureMatrixProvider breaks each call of the provider with each answer.
func TestFailureMatrixProvider(t *testing.T) {
	var m matrix
	var columns []string
	for _, a := range providerAnswers {
		columns = append(columns, a.name)
		for _, c := range calls {
			if passedOver() {
				continue
			}
			t.Run(c.op+"/"+a.name, func(t *testing.T) {
				m.add(c.op, a.name, breakProvider(t, rotation.Manual, c.op, c.when, a.name, a.err))
			})
		}
	}
	if !t.Failed() && sample == 1 {
		fresh(t, "provider", m.markdown(columns))
	}
}

func breakProvider(t *testing.T, kind rotation.Kind, op, when, name string, err error) standing {
	t.Helper()
	tr := breakIssuer(strings.TrimSuffix(op, " while watching"), name, err)
	tr.kind, tr.when = kind, when
	return tr.run(t)
}

// breakIssuer is a trial in which one call of the provider goes wrong.
func breakIssuer(op, name string, err error) trial {
	return trial{
		arm: func(w *world) {
			w.issuer.mu.Lock()
			defer w.issuer.mu.Unlock()
			w.issuer.trouble = func(asked string) error {
				if asked != op {
					return nil
				}
				w.issuer.cut = name == "cut reply"
				return err
			}
		},
		mend: func(w *world) {
			w.issuer.mu.Lock()
			defer w.issuer.mu.Unlock()
			w.issuer.trouble = nil
		},
	}
}

// happenings are the rest of the failure matrix.
var happenings = []struct {
	name string
	trial
	want rotation.Status // how it stood; empty: it healed by itself
	says string          // what a person reads then
}{
	{name: "the disk of the store is full", want: "", trial: trial{when: "staging/", arm: func(w *world) {
		full, left := fault.New(fault.Unavailable, "write store: database or disk is full", fault.Hint("free space on the disk of the store")), 20
		w.hook = func(op string) error {
			if op == store.HookBefore && left > 0 {
				left--
				return full
			}
			return nil
		}
	}, mend: func(*world) {}}},
	{name: "our clock jumps a day ahead during the soak", want: rotation.Paused, says: "clocks", trial: trial{when: "soak/", arm: jump(24 * time.Hour), mend: jump(0)}},
	{name: "our clock jumps a day back during the soak", want: rotation.Paused, says: "clocks", trial: trial{when: "soak/", arm: jump(-24 * time.Hour), mend: jump(0)}},
	{name: "our clock is a day ahead at the start", want: rotation.Failed, says: "clocks", trial: trial{when: "preflight/", arm: jump(24 * time.Hour), mend: jump(0)}},
	{name: "a stranger changes a place before it is written", want: rotation.Paused, says: "neither the old nor the new", trial: trial{when: "staging/", arm: stranger("b", false), mend: stranger("b", true)}},
	{name: "a stranger changes a place during the soak", want: rotation.Paused, says: "do not hold", trial: trial{when: "soak/", arm: stranger("b", false), mend: stranger("b", true)}},
	{name: "a stranger stages a value", want: rotation.Failed, says: "somebody else staged", trial: trial{when: "preflight/", arm: func(w *world) {
		w.places.Place("b").StageForeign(secrettest.Fake(w.t))
	}, mend: func(w *world) {
		if h, err := w.places.Driver("b").Inspect(context.Background()); err == nil && h.Pending != nil && !h.Pending.Ours {
			w.places.Place("b").WithdrawForeign()
		}
	}}},
	{name: "a place is added to the configuration during the soak", want: rotation.Waiting, says: "late was added", trial: trial{when: "soak/", arm: func(w *world) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.extra = append(w.plan0(), rotation.Place{Name: "late"})
	}, mend: func(w *world) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.extra = nil
	}}},
	{name: "a place is removed from the configuration during the soak", want: "", trial: trial{when: "soak/", arm: func(w *world) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.extra = []rotation.Place{{Name: "a"}}
	}, mend: func(*world) {}}},
	{name: "the new key is set inactive by hand during the soak", want: rotation.Paused, says: "refuses the value", trial: trial{byPerson: true, when: "evidence/", arm: byHand(apikey.Current, provider.Inactive), mend: byHand(apikey.Current, provider.Active)}},
	{name: "the old key is archived by hand during the soak", want: "", trial: trial{when: "soak/", arm: byHand(apikey.Previous, provider.Archived), mend: func(*world) {}}},
	{name: "the owner's test fails", want: rotation.Failed, says: "smoke", trial: trial{when: "test/", arm: func(w *world) { w.tested = errors.New("test smoke: exit status 1") }, mend: func(w *world) { w.tested = nil }}},
	{name: "the channel to people fails", want: "", trial: trial{arm: func(w *world) { w.told = fault.New(fault.Unavailable, "no route") }, mend: func(*world) {}}},
	{name: "a consumer breaks with the new version", want: rotation.RolledBack, says: "worked before the change", trial: trial{when: "deploy/production/b/reload", arm: func(w *world) {
		w.places.Place("b").SetHealth(func(running []apikey.Digest) error {
			if current := w.inState(key, apikey.Current); running[0] != current[0].Digest {
				return fault.New(fault.Unavailable, "status 500")
			}
			return nil
		})
	}, mend: func(w *world) { w.places.Place("b").SetHealth(w.issuer.healthy) }}},
	{name: "usage of the old version is seen", want: rotation.Waiting, says: "was used until", trial: trial{when: "evidence/", arm: func(w *world) {
		w.issuer.use(w.inState(key, apikey.Previous)[0].Digest, time.Now())
	}, mend: func(*world) {}}},
	{name: "there is no spare", want: rotation.Waiting, says: "no spare for prod-primary", trial: trial{when: "acquire/",
		arm: func(w *world) { w.setState(apikey.Spare, apikey.Rejected) }, mend: func(w *world) { w.setState(apikey.Rejected, apikey.Spare) }}},
	{name: "the backup key has no current version", want: rotation.Failed, says: "prod-secondary has no current version", trial: trial{when: "preflight/",
		arm: moveBackup(apikey.Current, apikey.Spare), mend: moveBackup(apikey.Spare, apikey.Current)}},
	{name: "custody cannot open a value", want: rotation.Paused, says: "open value of", trial: trial{when: "deploy/",
		arm: func(w *world) {
			w.vault.lock(fault.New(fault.Unavailable, "open custody: its master key cannot be asked"))
		}, mend: func(w *world) { w.vault.lock(nil) }}},
	{name: "a place cannot be read during the soak", want: rotation.Paused, says: "inspect b", trial: trial{when: "soak/", arm: unreadable("b"), mend: mended("b")}},
	{name: "a place cannot be read when evidence is gathered", want: rotation.Waiting, says: "b could not be read", trial: trial{when: "evidence/", arm: unreadable("b"), mend: mended("b")}},
	{name: "a place of another key is meant to hold the old version", want: rotation.Waiting, says: "still wanted by billing", trial: trial{when: "evidence/", arm: func(w *world) {
		old := w.inState(key, apikey.Previous)[0].ID
		w.update(func(tx *store.Tx) error {
			return tx.SetDesired(store.Desired{Location: "billing", Key: "billing", Version: old})
		})
	}, mend: func(w *world) { w.update(func(tx *store.Tx) error { return tx.DropDesired("billing") }) }}},
	{name: "the other key of the pair is moving when the old key would be retired", want: rotation.Waiting, says: "still wanted by rotation r-other of the pair", trial: trial{when: "evidence/", arm: func(w *world) {
		w.update(func(tx *store.Tx) error {
			_, err := tx.TakeLock("pair:prod-primary+prod-secondary", "r-other")
			return err
		})
	}, mend: func(w *world) { w.update(func(tx *store.Tx) error { return tx.ReleaseLocks("r-other") }) }}},
	{name: "the new key is set inactive by hand before the old one would be", want: rotation.Paused, says: "look at the new version", trial: trial{byPerson: true, when: "retire/", arm: byHand(apikey.Current, provider.Inactive), mend: byHand(apikey.Current, provider.Active)}},
	{name: "a consumer comes back with the old version during the watch", want: rotation.Paused, says: "3 of 3 consumers have another value); it is active again", trial: trial{when: "retire/round-1/1/watch", arm: comeBack("b"), mend: func(w *world) {
		if err := w.places.Driver("b").Reload(context.Background(), time.Now().String()); err != nil {
			w.t.Error(err)
		}
	}}},
	{name: "the usage report does not say how fresh it is", want: "", trial: trial{when: "evidence/", arm: func(w *world) {
		w.issuer.mu.Lock()
		defer w.issuer.mu.Unlock()
		w.issuer.undated = true
	}, mend: func(*world) {}}},
	{name: "the usage report lags", want: "", trial: trial{when: "evidence/", arm: func(w *world) { w.issuer.setLag(90 * time.Minute) }, mend: func(*world) {}}},
}

func moveBackup(from, to apikey.State) func(*world) {
	return func(w *world) {
		for _, v := range w.inState(backup, from) {
			v.State = to
			w.update(func(tx *store.Tx) error { return tx.PutVersion(v) })
		}
	}
}

func unreadable(place string) func(*world) {
	return func(w *world) {
		w.places.Place(place).Break(memory.Fault{Method: memory.Inspect, Kind: fault.Unavailable, Times: 1 << 30})
	}
}

func mended(place string) func(*world) {
	return func(w *world) { w.places.Place(place).Mend() }
}

// comeBack lets the consumers of a place start with the value of before the rotation, as an old image or a forgotten replica does.
func comeBack(place string) func(*world) {
	return func(w *world) {
		p := w.places.Place(place)
		held := p.Held()
		p.Overwrite(w.vault.values[w.inState(key, apikey.Inactive)[0].ID])
		p.SetConsumers(3)
		p.Overwrite(held)
	}
}

func jump(d time.Duration) func(*world) {
	return func(w *world) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.jump = d
	}
}

// stranger overwrites a place with a value of its own, or gives back what was there.
func stranger(place string, back bool) func(*world) {
	return func(w *world) {
		p := w.places.Place(place)
		w.mu.Lock()
		defer w.mu.Unlock()
		if back {
			if v, ok := w.vault.byDigest(w.before); ok {
				p.Overwrite(v)
			}
			w.before = apikey.Digest{}
			return
		}
		w.before = p.Held().Digest()
		foreign := secrettest.Fake(w.t)
		w.issuer.mu.Lock()
		w.issuer.keys[foreign.Digest()] = &issued{id: "apikey_foreign", status: provider.Active}
		w.issuer.mu.Unlock()
		p.Overwrite(foreign)
	}
}

// byHand is a person in the Console.
func byHand(state apikey.State, to provider.Status) func(*world) {
	return func(w *world) {
		for _, v := range w.inState(key, state) {
			w.issuer.mu.Lock()
			w.issuer.keys[v.Digest].status = to
			w.issuer.mu.Unlock()
		}
	}
}

// TestFailureMatrixHappenings lets everything else happen that happens.
func TestFailureMatrixHappenings(t *testing.T) {
	var b strings.Builder
	b.WriteString("| What happens | How it stands | What a person reads | Hint |\n|---|---|---|---|\n")
	for _, h := range happenings {
		if passedOver() {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			h.kind = rotation.Manual
			s := h.run(t)
			if s.end != rotation.Done || s.healed != (h.want == "") || !s.healed && s.status != h.want || !strings.Contains(s.note, h.says) {
				t.Errorf("%s: %q, want %s: %q", s, s.note, h.want, h.says)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", h.name, s, cell(s.note), cell(s.hint))
		})
	}
	if !t.Failed() && sample == 1 {
		fresh(t, "happenings", b.String())
	}
}

// TestTwoOperators: two begin at once, and two drivers advance the same rotation.
func TestTwoOperators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		plan := w.plan(rotation.Manual)
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, r := range []*runner.Runner{w.runner(), w.runner()} {
			wg.Go(func() { _, errs[i] = r.Begin(context.Background(), plan) })
		}
		wg.Wait()
		lost := errs[0]
		if lost == nil {
			lost = errs[1]
		}
		if (errs[0] == nil) == (errs[1] == nil) || !fault.Is(lost, fault.Conflict) || fault.HintOf(lost) == "" {
			t.Fatalf("two operators: %v, %v", errs[0], errs[1])
		}
		one, two := w.runner(), w.runner()
		refused := 0
		for range 300 {
			if w.row("r-1").Status.Ended() {
				break
			}
			var next [2]runner.Next
			for i, r := range []*runner.Runner{one, two} {
				wg.Go(func() { next[i], errs[i] = r.Advance(context.Background(), "r-1") })
			}
			wg.Wait()
			for _, err := range errs {
				if fault.Is(err, fault.Conflict) && (fault.HintOf(err) != "" || strings.Contains(err.Error(), "overtaken")) {
					refused++
				} else if err != nil {
					t.Fatalf("advance: %v", err)
				}
			}
			if row := w.row("r-1"); !row.Status.Ended() {
				time.Sleep(max(time.Millisecond, row.WakeAt.Sub(w.now())))
			}
		}
		row := w.row("r-1")
		if row.Status != rotation.Done || refused == 0 {
			t.Errorf("ended %q, %d refusals", row.Status, refused)
		}
		w.check(row)
	})
}

// TestPairRule: two keys that name each other are never in rotation together.
func TestPairRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		w.add(backup, apikey.Spare)
		first := w.plan(rotation.Manual)
		second := first
		second.ID, second.Key, second.Backup = "r-2", backup, key
		second.Places = []rotation.Place{{Name: "z", Address: "memory:z", Kind: "memory", Can: rotation.Can{Read: true}}}
		second.Waves = []rotation.Wave{{Name: "production", Production: true, Batches: [][]string{{"z"}}}}
		second.Old = w.inState(backup, apikey.Current)[0].ID
		w.elsewhere.Place("z").Overwrite(w.vault.values[second.Old])
		inside := map[string]bool{}
		watchPair := func(id string) func(string, rotation.Effect) error {
			return func(point string, e rotation.Effect) error {
				step, _, _ := strings.Cut(e.ID, "/")
				w.mu.Lock()
				defer w.mu.Unlock()
				switch {
				case step == "deploy" || step == "staging" && e.Verb != rotation.TakePair:
					inside[id] = true
				case e.Verb == rotation.FreePair && point == "made":
					inside[id] = false
				}
				if inside["r-1"] && inside["r-2"] {
					t.Errorf("I6: both keys of a pair are in rotation at %s", e.ID)
				}
				return nil
			}
		}
		w.begin(first)
		w.begin(second)
		runners := map[string]*runner.Runner{}
		for _, id := range []string{"r-1", "r-2"} {
			runners[id] = w.runner()
			runners[id].Fault = watchPair(id)
		}
		// They go on in turns: the first waits in its wave for its health while the second wants the pair.
		for range 500 {
			wake := time.Now().Add(time.Hour)
			for id, r := range runners {
				if row := w.row(id); row.Status.Ended() || row.WakeAt.After(time.Now()) {
					continue
				}
				if _, err := r.Advance(context.Background(), id); err != nil {
					t.Fatalf("advance %s: %v", id, err)
				}
			}
			over := true
			for id := range runners {
				if row := w.row(id); !row.Status.Ended() {
					over = false
					if row.WakeAt.Before(wake) {
						wake = row.WakeAt
					}
				}
			}
			if over {
				break
			}
			time.Sleep(max(time.Millisecond, time.Until(wake)))
		}
		for _, id := range []string{"r-1", "r-2"} {
			if row := w.row(id); row.Status != rotation.Done {
				t.Errorf("%s ended %q: %s", id, row.Status, row.Note)
			}
		}
		w.check(w.row("r-1"))
	})
}

// TestCheckerCanFail: each broken world is noticed.
func TestCheckerCanFail(t *testing.T) {
	for name, harm := range map[string]func(w *world, row *rotation.Row){
		"refused value in a place": func(w *world, _ *rotation.Row) { w.places.Place("a").Overwrite(secrettest.Fake(w.t)) },
		"consumer with another value": func(w *world, _ *rotation.Row) {
			other := w.add(key, apikey.Rejected)
			p := w.places.Place("a")
			held := p.Held()
			p.Overwrite(w.vault.values[other.ID])
			p.SetConsumers(1)
			p.Overwrite(held)
		},
		"neighbour lost":       func(w *world, _ *rotation.Row) { w.places.Place("b").Disturb(nil) },
		"current key inactive": func(w *world, _ *rotation.Row) { byHand(apikey.Current, provider.Inactive)(w) },
		"deactivated too early": func(w *world, _ *rotation.Row) {
			v := w.inState(key, apikey.Current)[0]
			if _, err := w.issuer.SetStatus(context.Background(), v.ProviderID, provider.Inactive); err != nil {
				w.t.Error(err)
			}
			byHand(apikey.Current, provider.Active)(w)
		},
		"lock left": func(w *world, _ *rotation.Row) {
			w.update(func(tx *store.Tx) error { _, err := tx.TakeLock("place:x", "r-1#x"); return err })
		},
		"claim left": func(w *world, _ *rotation.Row) {
			v := w.add(key, apikey.Spare)
			w.update(func(tx *store.Tx) error { return tx.ClaimSpare(v.ID, "r-1") })
		},
		"value lost": func(w *world, _ *rotation.Row) {
			v := w.add(key, apikey.Spare)
			w.update(func(tx *store.Tx) error { return tx.DropSealed(v.ID) })
		},
		"pending left":       func(w *world, _ *rotation.Row) { w.add(key, apikey.Pending) },
		"end without a word": func(_ *world, row *rotation.Row) { row.Status, row.Note = rotation.Failed, "" },
		"end not in audit":   func(_ *world, row *rotation.Row) { row.ID = "r-9" },
		"no current version": func(w *world, _ *rotation.Row) { w.setState(apikey.Current, apikey.Previous) },
		"old value never put": func(w *world, _ *rotation.Row) {
			w.setState(apikey.Current, apikey.Previous)
			w.add(key, apikey.Current)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "a", "b")
				row := w.finish(w.begin(w.plan(rotation.Manual)).ID, nil)
				if p := w.problems(row); len(p) > 0 {
					t.Fatalf("problems in a good world: %q", p)
				}
				harm(w, &row)
				if len(w.problems(row)) == 0 {
					t.Error("the checker saw nothing")
				}
			})
		})
	}
}
