package providertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// patience bounds one call to a peer that never answers. It is no claim about speed.
const patience = 200 * time.Millisecond

// run is one rule against a fresh peer. It records everything that comes out of the provider, and searches it for values at the end.
type run struct {
	testing.TB
	h    Harness
	peer *Peer
	log  *slog.Logger

	mu     sync.Mutex
	values []secret.Value
	seen   bytes.Buffer
}

func (r rule) run(tb testing.TB, h Harness) {
	tb.Helper()
	x := &run{TB: tb, h: h}
	x.log = slog.New(slog.NewJSONHandler(x, &slog.HandlerOptions{Level: slog.LevelDebug}))
	x.peer = h.Peer(tb)
	x.values = append(x.values, x.peer.Admin)
	defer x.searchLeaks()
	r.check(x)
}

// Write takes what the provider logs.
func (x *run) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seen.Write(p)
}

// record keeps results and errors for the search.
func (x *run) record(results ...any) {
	for _, r := range results {
		if err, ok := r.(error); ok {
			fmt.Fprintf(x, "%v %+v %s\n", err, err, fault.HintOf(err))
			continue
		}
		fmt.Fprintf(x, "%+v\n", r)
		if b, err := json.Marshal(r); err == nil {
			x.Write(append(b, '\n'))
		}
	}
}

func (x *run) searchLeaks() {
	x.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	secrettest.NoLeak(x.TB, "an error, verdict, record or log", x.seen.Bytes(), x.values...)
	if x.peer.Logs != nil {
		secrettest.NoLeak(x.TB, "the peer's log", x.peer.Logs(), x.values...)
	}
}

// connect makes a provider with an admin key against a base URL.
func (x *run) connect(url string, timeout time.Duration) provider.Provider {
	x.Helper()
	return x.h.Connect(x.TB, Connection{BaseURL: url, Admin: x.peer.Admin, Timeout: timeout, Log: x.log})
}

// provider connects to the peer.
func (x *run) provider() provider.Provider {
	x.Helper()
	return x.connect(x.peer.URL, time.Minute)
}

// key makes a key of the first workspace.
func (x *run) key() (string, secret.Value) {
	x.Helper()
	return x.keyIn(x.peer.Workspaces[0])
}

func (x *run) keyIn(workspace string) (string, secret.Value) {
	x.Helper()
	id, v := x.peer.NewKey(x.TB, workspace)
	x.values = append(x.values, v)
	return id, v
}

// ability asserts that the provider under test has an ability, or skips the rule.
func ability[T any](x *run, p provider.Provider) T {
	x.Helper()
	able, ok := p.(T)
	if !ok {
		x.Skipf("the provider lacks %T", (*T)(nil))
	}
	return able
}

// inspect asks and demands that there is no error.
func (x *run) inspect(p provider.Provider, v secret.Value) provider.Verdict {
	x.Helper()
	verdict, err := p.Inspect(x.Context(), v)
	x.record(verdict, err)
	if err != nil {
		x.Fatalf("Inspect: %v", err)
	}
	return verdict
}

// settle lets changes of status take effect.
func (x *run) settle() { x.peer.Advance(x.peer.Delay + time.Second) }

// recorder is a testing.TB whose failures stay in it.
type recorder struct {
	testing.TB
	mu      sync.Mutex
	failed  bool
	skipped bool
}

// failed runs check in a goroutine of its own, which FailNow ends, and reports whether it failed.
func failed(tb testing.TB, check func(testing.TB)) bool {
	tb.Helper()
	r := &recorder{TB: tb}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(r)
	}()
	<-done
	if r.skipped {
		tb.Fatal("the rule was skipped, which proves nothing")
	}
	return r.failed
}

func (r *recorder) Fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) FailNow() {
	r.Fail()
	runtime.Goexit()
}

func (r *recorder) Error(args ...any)            { r.Helper(); r.Log(args...); r.Fail() }
func (r *recorder) Errorf(f string, args ...any) { r.Helper(); r.Logf(f, args...); r.Fail() }
func (r *recorder) Fatal(args ...any)            { r.Helper(); r.Log(args...); r.FailNow() }
func (r *recorder) Fatalf(f string, args ...any) { r.Helper(); r.Logf(f, args...); r.FailNow() }

func (r *recorder) SkipNow() {
	r.skipped = true
	runtime.Goexit()
}

func (r *recorder) Skip(args ...any)            { r.Helper(); r.Log(args...); r.SkipNow() }
func (r *recorder) Skipf(f string, args ...any) { r.Helper(); r.Logf(f, args...); r.SkipNow() }
func (r *recorder) Skipped() bool               { return r.skipped }

var _ testing.TB = (*recorder)(nil)
