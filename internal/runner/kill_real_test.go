//go:build real

package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/peers"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/runner"
	"github.com/keywright/keywright/internal/store"
)

// stores are the two that a rotation may lie in.
var stores = map[string]func(*testing.T) string{
	"SQLite":     func(t *testing.T) string { return storeIn(t, t.TempDir()) },
	"PostgreSQL": func(t *testing.T) string { return peers.PostgreSQL(t) },
}

// boundaries drives a rotation in this process and lists the points around its effects, each once.
func boundaries(t *testing.T) (points []string) {
	t.Helper()
	f := newFieldAt(t, peers.PostgreSQL(t), 100*time.Millisecond, 0)
	f.add(apikey.Spare)
	id := f.begin(1)
	raw, err := json.Marshal(childConfig{Store: f.url, Provider: f.base, Dir: f.dir, Owner: "here"})
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := childRunner(context.Background(), string(raw), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Store.Close() })
	var mu sync.Mutex
	r.Fault = func(point string, e rotation.Effect) error {
		mu.Lock()
		defer mu.Unlock()
		if at := point + " " + strings.ReplaceAll(e.ID, f.dir, "DIR"); !slices.Contains(points, at) && !repeated.MatchString(e.ID) {
			points = append(points, at)
		}
		return nil
	}
	if err := r.Follow(context.Background(), id, func(rotation.Row) {}); err != nil {
		t.Fatal(err)
	}
	f.check(f.row(id))
	return points
}

// TestRealKilledEverywhere kills a worker on PostgreSQL with SIGKILL at every point around every effect of an ordinary rotation, each time in a database
// of its own. Another worker takes the rotation up when the lease has run out, and drives it to its end. Rotations are hit by the batch, since most of
// the time is the wait for leases.
func TestRealKilledEverywhere(t *testing.T) {
	points := boundaries(t)
	if len(points) < 60 {
		t.Fatalf("only %d points: %v", len(points), points)
	}
	for n, batch := range slices.Collect(slices.Chunk(points, 10)) {
		t.Run(fmt.Sprint("batch-", n+1), func(t *testing.T) {
			fields, fences := make([]*field, len(batch)), make([]int64, len(batch))
			firsts, seconds := make([]*worker, len(batch)), make([]*worker, len(batch))
			for i, at := range batch {
				f := newFieldAt(t, peers.PostgreSQL(t), 250*time.Millisecond, 0)
				f.add(apikey.Spare)
				f.begin(1)
				fields[i], firsts[i] = f, f.launch(childConfig{Owner: "first", Kill: strings.ReplaceAll(at, "DIR", f.dir)})
			}
			for i, f := range fields {
				var ended *exec.ExitError
				if err := firsts[i].Wait(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("%s: the first worker ended with %v", batch[i], err)
				}
				fences[i] = f.row("r-1").Fence
				seconds[i] = f.launch(childConfig{Owner: "second", Every: 200 * time.Millisecond})
			}
			for i, f := range fields {
				if !await(5*time.Minute, func() bool { return f.row("r-1").Status.Ended() }) {
					t.Fatalf("%s: no end: %+v", batch[i], f.row("r-1"))
				}
				if row := f.row("r-1"); row.Fence <= fences[i] {
					t.Errorf("%s: nobody took over: fence %d", batch[i], row.Fence)
				}
				seconds[i].kill()
				f.stop()
				if f.check(f.row("r-1")); t.Failed() {
					t.Fatalf("killed %s", batch[i])
				}
			}
		})
	}
	t.Logf("killed at %d points", len(points))
}

// TestRealKilledWorkers kills one of two workers on PostgreSQL at random moments; the other one, or a successor, goes on after the lease.
func TestRealKilledWorkers(t *testing.T) {
	f := newField(t, peers.PostgreSQL(t))
	killed, rotations, started := 0, 0, 0
	next := func() *worker {
		started++
		return f.start(fmt.Sprintf("worker-%d", started), false)
	}
	workers := []*worker{next(), next()}
	for deadline := time.Now().Add(40 * time.Second); killed < 5 || time.Now().Before(deadline); {
		rotations++
		f.add(apikey.Spare)
		id := f.begin(rotations)
		for !f.row(id).Status.Ended() {
			if time.Now().After(deadline.Add(5 * time.Minute)) {
				t.Fatalf("no end: %+v", f.row(id))
			}
			if await(time.Duration(rand.N(int64(1500*time.Millisecond))), func() bool { return f.row(id).Status.Ended() }) || killed >= 5 && time.Now().After(deadline) {
				continue
			}
			// Who has the rotation is killed twice as often as who has not.
			i := rand.IntN(len(workers))
			if owner := f.row(id).LeaseOwner; rand.IntN(2) == 0 {
				i = max(0, slices.IndexFunc(workers, func(w *worker) bool { return w.owner == owner }))
			}
			workers[i].kill()
			workers[i] = next()
			killed++
		}
		f.check(f.row(id))
	}
	t.Logf("%d rotations, %d kills, %d requests of the application without one refusal", rotations, killed, f.served)
}

// stopped reports whether a process is stopped by a signal.
func (w *worker) stopped(t *testing.T) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(raw, []byte(") "))
	return bytes.HasPrefix(rest, []byte("T"))
}

// state is what a worker could have changed: the journal, the files, the provider's keys.
func (f *field) state(id string) (lines []string) {
	f.t.Helper()
	err := f.store.View(context.Background(), func(tx *store.Tx) error {
		journal, err := tx.Journal(id)
		for _, e := range journal {
			lines = append(lines, fmt.Sprintf("%d %d %s %s", e.Seq, e.Fence, e.Type, e.Effect))
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, path := range f.places {
		info, err := os.Stat(path)
		if err != nil {
			f.t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			f.t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %v %d", path, info.ModTime(), len(content)))
		for version, value := range f.values {
			if bytes.Contains(content, []byte(value)) {
				lines = append(lines, path+" holds "+string(version))
			}
		}
	}
	for _, r := range f.sim.Requests() {
		if r.UserAgent != "application" && r.Method != http.MethodGet {
			lines = append(lines, fmt.Sprintf("%v %s %s", r.Time, r.Method, r.Path))
		}
	}
	return lines
}

// TestRealStoppedWorker stops the worker that has the rotation with SIGSTOP, before or after it made an effect, until another one has taken over and
// ended the rotation. When the first goes on, it writes nothing: not to the journal, not to a place, not to the provider.
func TestRealStoppedWorker(t *testing.T) {
	for name, url := range stores {
		for _, c := range []struct {
			at     string
			cancel bool
		}{
			{at: "before staging/staging/%s/put", cancel: true}, // a late write would bring a version into a place that was put back
			{at: "before staging/staging/%s/put"},
			{at: "made staging/staging/%s/put"},
			{at: "before retire/round-1/deactivate"},
			{at: "made flip"},
		} {
			kind := map[bool]string{true: "/cancelled", false: ""}[c.cancel]
			t.Run(name+"/"+strings.ReplaceAll(strings.ReplaceAll(c.at, " ", "-"), "/%s", "")+kind, func(t *testing.T) {
				t.Parallel()
				f := newFieldAt(t, url(t), 100*time.Millisecond, 0)
				f.add(apikey.Spare)
				id := f.begin(1)
				at := c.at
				if strings.Contains(at, "%s") {
					at = fmt.Sprintf(at, f.places[0])
				}
				first := f.launch(childConfig{Owner: "first", Stop: at})
				if !await(2*time.Minute, func() bool { return first.stopped(t) }) {
					t.Fatal("the first worker did not come so far")
				}
				fence := f.row(id).Fence
				want := rotation.Done
				if c.cancel {
					want = rotation.Cancelled
					r := runner.New(runner.Surroundings{Store: f.store})
					if err := r.Signal(context.Background(), id, rotation.SignalCancel, "op", rotation.SignalData{}); err != nil {
						t.Fatal(err)
					}
				}
				second := f.start("second", false)
				if !await(5*time.Minute, func() bool { return f.row(id).Status.Ended() }) {
					t.Fatalf("no end: %+v", f.row(id))
				}
				if row := f.row(id); row.Status != want || row.Fence <= fence {
					t.Errorf("ended %q with fence %d, the first one had %d: %s", row.Status, row.Fence, fence, row.Note)
				}
				second.kill()
				before := f.state(id)
				if err := first.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				if !await(2*time.Minute, func() bool { return first.says("rotation left") }) {
					t.Error("the first worker did not leave the rotation")
				}
				first.kill()
				if log := first.log.String(); !strings.Contains(log, "kind=conflict") {
					t.Errorf("the first worker was not refused:\n%s", log)
				}
				if after := f.state(id); !slices.Equal(before, after) {
					t.Errorf("the stopped worker wrote:\n%s", strings.Join(slices.DeleteFunc(after, func(l string) bool { return slices.Contains(before, l) }), "\n"))
				}
				if !c.cancel {
					f.check(f.row(id))
				}
			})
		}
	}
}
