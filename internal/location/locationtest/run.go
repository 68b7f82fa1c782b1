package locationtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// run is one rule against one fresh place. It records everything that comes out of the driver, and searches it for values at the end.
type run struct {
	testing.TB
	h     Harness
	place *Place
	ctx   context.Context

	mu     sync.Mutex
	values []secret.Value
	seen   bytes.Buffer
}

func start(tb testing.TB, h Harness) *run {
	tb.Helper()
	if h.Longest == 0 {
		h.Longest = 512
	}
	if h.Patience == 0 {
		h.Patience = 300 * time.Millisecond
	}
	x := &run{TB: tb, h: h, ctx: tb.Context()}
	before, flags, out := slog.Default(), log.Flags(), log.Writer()
	slog.SetDefault(slog.New(slog.NewTextHandler(x, &slog.HandlerOptions{Level: slog.LevelDebug})))
	log.SetOutput(x)
	tb.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(out)
		log.SetFlags(flags)
	})
	x.place = h.New(tb)
	if x.place.Again == nil {
		x.place.Again = func() location.Driver { return x.place.Driver }
	}
	return x
}

// Write takes what is logged while the rule runs.
func (x *run) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seen.Write(p)
}

func (x *run) searchLeaks() {
	x.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	secrettest.NoLeak(x.TB, "an error, receipt, holding or log", x.seen.Bytes(), x.values...)
	if x.place != nil && x.place.Logs != nil {
		secrettest.NoLeak(x.TB, "the logs", x.place.Logs(x.TB), x.values...)
	}
}

// value makes a fresh value of the usual layout.
func (x *run) value() secret.Value {
	x.Helper()
	return x.register(secrettest.Fake(x.TB))
}

func (x *run) register(v secret.Value) secret.Value {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.values = append(x.values, v)
	return v
}

// valueOf makes a value of n bytes of the alphabet of keys.
func (x *run) valueOf(n int) secret.Value {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	b := make([]byte, n)
	for i := range b {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			x.Fatal(err)
		}
		b[i] = alphabet[k.Int64()]
	}
	return x.register(secret.New(b))
}

// record keeps the printed forms of what a driver gave.
func (x *run) record(things ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range things {
		if err, ok := t.(error); ok {
			for e := err; e != nil; e = errors.Unwrap(e) {
				fmt.Fprintf(&x.seen, "%v %+v %#v %s\n", e, e, e, fault.HintOf(e))
			}
			continue
		}
		fmt.Fprintf(&x.seen, "%+v %#v\n", t, t)
		if b, err := json.Marshal(t); err == nil {
			x.seen.Write(b)
		}
	}
}

// location wraps the driver as the rest of Keywright does.
func (x *run) location() *location.Location {
	return location.New("here", "under-test", x.place.Driver, location.Options{})
}

// put writes through Location, which verifies; it must succeed.
func (x *run) put(v secret.Value, expect location.Expect) (location.Receipt, location.Holding) {
	x.Helper()
	r, h, err := x.location().Put(x.ctx, v, expect)
	x.record(r, h, err)
	if err != nil {
		x.Fatalf("put: %v", err)
	}
	return r, h
}

// hold makes the place hold a fresh value.
func (x *run) hold() (secret.Value, location.Receipt, location.Holding) {
	x.Helper()
	v := x.value()
	r, h := x.put(v, location.ExpectHolding(x.inspect()))
	return v, r, h
}

// tryPut writes through the bare driver.
func (x *run) tryPut(v secret.Value, expect location.Expect) error {
	r, err := x.place.Driver.Put(x.ctx, v, expect)
	x.record(r, err)
	return err
}

func (x *run) inspect() location.Holding {
	x.Helper()
	return x.inspectBy(x.place.Driver)
}

func (x *run) inspectBy(d location.Driver) location.Holding {
	x.Helper()
	h, err := d.Inspect(x.ctx)
	x.record(h, err)
	if err != nil {
		x.Fatalf("inspect: %v", err)
	}
	return h
}

// wantKind fails unless err has one of the kinds.
func (x *run) wantKind(what string, err error, kinds ...fault.Kind) {
	x.Helper()
	x.record(err)
	if err == nil {
		x.Errorf("%s: no error, want %v", what, kinds)
		return
	}
	got := fault.KindOf(err)
	for _, k := range kinds {
		if got == k {
			return
		}
	}
	x.Errorf("%s: kind %v, want one of %v (%v)", what, got, kinds, err)
}

// holds fails unless the place holds v: by its own words as far as they go, and by an independent look.
func (x *run) holds(what string, v secret.Value) {
	x.Helper()
	h := x.inspect()
	if !h.Present && h.How != location.Nothing {
		x.Errorf("%s: Inspect says that the place holds nothing", what)
	}
	if h.Known() && !h.Holds(v.Digest()) {
		x.Errorf("%s: Inspect says that the place does not hold the value", what)
	}
	x.really(what, v)
}

// really is the independent half of holds.
func (x *run) really(what string, v secret.Value) {
	x.Helper()
	if x.place.Held == nil {
		return
	}
	b, ok := x.place.Held(x.TB)
	same := false
	v.Reveal(func(want []byte) { same = bytes.Equal(b, want) })
	switch {
	case !ok:
		x.Errorf("%s: the place holds nothing", what)
	case !same:
		x.Errorf("%s: the place holds %d other bytes than the %d of the value", what, len(b), v.Len())
	}
}

// heldDigest gives the digest of what the place holds by an independent look, or the zero Digest.
func (x *run) heldDigest() apikey.Digest {
	x.Helper()
	if x.place.Held == nil {
		return apikey.Digest{}
	}
	b, _ := x.place.Held(x.TB)
	return secret.New(bytes.Clone(b)).Digest()
}

// need skips the rule when the place lacks something; need names it.
func (x *run) need(ok bool, what string) {
	x.Helper()
	if !ok {
		x.Skipf("this place cannot be asked: %s", what)
	}
}

// neighbours remembers the neighbours and gives a check that they are the same bytes.
func (x *run) neighbours() func(after string) {
	if x.place.Neighbours == nil {
		return func(string) {}
	}
	before := bytes.Clone(x.place.Neighbours(x.TB))
	return func(after string) {
		x.Helper()
		if now := x.place.Neighbours(x.TB); !bytes.Equal(before, now) {
			x.Errorf("%s: the neighbours changed from %q to %q", after, before, now)
		}
	}
}

// stager gives the staging side of the driver, or skips.
func (x *run) stager() interface {
	location.Stager
	location.Promoter
} {
	x.Helper()
	s, ok := x.place.Driver.(location.Stager)
	x.need(ok, "staging")
	p, ok := x.place.Driver.(location.Promoter)
	if !ok {
		x.Fatal("the driver stages and cannot promote")
	}
	return struct {
		location.Stager
		location.Promoter
	}{s, p}
}

// stage stages v by the bare driver; it must succeed.
func (x *run) stage(v secret.Value, expect location.Expect) location.Receipt {
	x.Helper()
	r, err := x.stager().Stage(x.ctx, v, expect)
	x.record(r, err)
	if err != nil {
		x.Fatalf("stage: %v", err)
	}
	return r
}

// comparable reports whether the place tells enough of the state h to refuse another one.
func comparable(h location.Holding) bool { return h.Revision != "" || h.Known() }
