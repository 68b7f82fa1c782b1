package location_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// bare is a driver without abilities.
type bare struct {
	inspect func(context.Context) (location.Holding, error)
	put     func(context.Context, secret.Value, location.Expect) (location.Receipt, error)
}

func (b *bare) Inspect(ctx context.Context) (location.Holding, error) { return b.inspect(ctx) }
func (b *bare) Put(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
	return b.put(ctx, v, e)
}

// over gives a bare driver of a memory place.
func over(d *memory.Driver) *bare { return &bare{inspect: d.Inspect, put: d.Put} }

func place() (*memory.Place, *memory.Driver) {
	s := memory.NewServer(nil)
	return s.Place("here"), s.Driver("here")
}

func open(d location.Driver) *location.Location {
	return location.New("prod", "memory", d, location.Options{})
}

func wantKind(t *testing.T, what string, err error, want fault.Kind) {
	t.Helper()
	if err == nil || fault.KindOf(err) != want {
		t.Errorf("%s: %v (kind %v), want kind %v", what, err, fault.KindOf(err), want)
	}
}

func TestWhatAPlaceCannotDoIsUnsupported(t *testing.T) {
	_, d := place()
	l := open(over(d))
	ctx, v := t.Context(), secrettest.Fake(t)
	calls := map[string]func() error{
		"read":         func() error { _, err := l.Read(ctx); return err },
		"stage":        func() error { _, _, err := l.Stage(ctx, v, location.Expect{}); return err },
		"promote":      func() error { _, _, err := l.Promote(ctx, location.Receipt{}, v.Digest()); return err },
		"unstage":      func() error { return l.Unstage(ctx, location.Receipt{}) },
		"restore":      func() error { _, _, err := l.Restore(ctx, location.Receipt{}, v.Digest()); return err },
		"remove":       func() error { return l.Remove(ctx, v.Digest()) },
		"reload":       func() error { return l.Reload(ctx, "1") },
		"confirm":      func() error { _, err := l.Confirm(ctx, v.Digest()); return err },
		"probe":        func() error { return l.Probe(ctx) },
		"instructions": func() error { _, err := l.Instructions("kf_"); return err },
	}
	for name, call := range calls {
		wantKind(t, name, call(), fault.Unsupported)
	}
	if a := l.Abilities(); a != (location.Abilities{}) {
		t.Errorf("abilities of a bare driver: %+v", a)
	}
	if errs := l.Check(ctx); len(errs) != 0 {
		t.Errorf("check falls back to inspect: %v", errs)
	}
	full := open(d).Abilities()
	for i, f := range reflect.VisibleFields(reflect.TypeFor[location.Abilities]()) {
		if got, want := reflect.ValueOf(full).Field(i).Bool(), f.Name != "Manual"; got != want {
			t.Errorf("abilities of the reference driver: %s is %v", f.Name, got)
		}
	}
}

func TestAddress(t *testing.T) {
	_, d := place()
	if got := open(d).Address(); got != "memory:here" {
		t.Errorf("address %q", got)
	}
	if got := open(over(d)).Address(); got != "memory:prod" {
		t.Errorf("address without the ability %q", got)
	}
}

func TestAWriteThatDidNotHappenIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := place()
		b := over(d)
		b.put = func(context.Context, secret.Value, location.Expect) (location.Receipt, error) {
			return location.Receipt{}, nil
		}
		p.Overwrite(secrettest.Fake(t))
		h, err := d.Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = open(b).Put(t.Context(), secrettest.Fake(t), location.ExpectHolding(h))
		wantKind(t, "put that wrote nothing", err, fault.Indeterminate)
		foreign := secrettest.Fake(t)
		b.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
			r, err := d.Put(ctx, v, e)
			p.Overwrite(foreign)
			return r, err
		}
		r, seen, err := open(b).Put(t.Context(), secrettest.Fake(t), location.ExpectHolding(h))
		wantKind(t, "put that was overtaken", err, fault.Conflict)
		if r.Revision == "" || !seen.Holds(foreign.Digest()) {
			t.Errorf("receipt %+v and holding %+v of a put that was overtaken", r, seen)
		}
	})
}

func TestAReadThatLagsIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d := place()
		b := over(d)
		stale, err := d.Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		looks := 0
		b.inspect = func(ctx context.Context) (location.Holding, error) {
			if looks++; looks < 4 {
				return stale, nil
			}
			return d.Inspect(ctx)
		}
		v := secrettest.Fake(t)
		_, h, err := open(b).Put(t.Context(), v, location.ExpectHolding(stale))
		if err != nil || !h.Holds(v.Digest()) || looks != 4 {
			t.Errorf("put: %v, holding %+v after %d looks", err, h, looks)
		}
	})
}

func TestAPlaceWithoutRevisionIsLookedAtBefore(t *testing.T) {
	p, d := place()
	b := over(d)
	puts := 0
	b.inspect = func(ctx context.Context) (location.Holding, error) {
		h, err := d.Inspect(ctx)
		h.Revision, h.Fingerprint, h.Digest, h.How = "", h.Digest.Fingerprint(), apikey.Digest{}, location.Label
		return h, err
	}
	b.put = func(ctx context.Context, v secret.Value, _ location.Expect) (location.Receipt, error) {
		puts++
		return d.Put(ctx, v, location.Expect{})
	}
	l := open(b)
	p.Overwrite(secrettest.Fake(t))
	h, err := l.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.Overwrite(secrettest.Fake(t))
	_, seen, err := l.Put(t.Context(), secrettest.Fake(t), location.ExpectHolding(h))
	wantKind(t, "put over a foreign change", err, fault.Conflict)
	if puts != 0 || seen.Fingerprint != p.Held().Fingerprint() {
		t.Errorf("%d puts, holding %+v", puts, seen)
	}
	if _, _, err := l.Put(t.Context(), secrettest.Fake(t), location.ExpectHolding(seen)); err != nil || puts != 1 {
		t.Errorf("put after looking again: %v", err)
	}
}

func TestALostReplyIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p, d := place()
		l := open(d)
		h, err := l.Inspect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		v := secrettest.Fake(t)
		p.Break(memory.Fault{Method: memory.Put, Cut: true})
		r, h, err := l.Put(ctx, v, location.ExpectHolding(h))
		if err != nil || !h.Holds(v.Digest()) || r.Revision != h.Revision || r.Facts["reply"] == "" {
			t.Errorf("applied and not answered: %v, %+v", err, r)
		}
		p.Break(memory.Fault{Method: memory.Put, Kind: fault.Indeterminate})
		_, _, err = l.Put(ctx, secrettest.Fake(t), location.ExpectHolding(h))
		wantKind(t, "neither applied nor answered", err, fault.Unavailable)

		foreign := secrettest.Fake(t)
		b := over(d)
		b.put = func(context.Context, secret.Value, location.Expect) (location.Receipt, error) {
			p.Overwrite(foreign)
			return location.Receipt{}, fault.New(fault.Indeterminate, "put: no reply")
		}
		_, _, err = open(b).Put(ctx, secrettest.Fake(t), location.ExpectHolding(h))
		wantKind(t, "not answered, and then overtaken", err, fault.Conflict)

		b.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
			if _, err := d.Put(ctx, v, e); err != nil {
				return location.Receipt{}, err
			}
			return location.Receipt{}, fault.New(fault.Corrupt, "put: the reply is no JSON")
		}
		if _, h, err := open(b).Put(ctx, v, location.Expect{}); err != nil || !h.Holds(v.Digest()) {
			t.Errorf("applied and not understood: %v", err)
		}
		b.put = func(context.Context, secret.Value, location.Expect) (location.Receipt, error) {
			return location.Receipt{}, errors.New("odd")
		}
		_, _, err = open(b).Put(ctx, secrettest.Fake(t), location.Expect{})
		wantKind(t, "not applied, with an odd error", err, fault.Unknown)
		b.put = func(context.Context, secret.Value, location.Expect) (location.Receipt, error) { panic("odd") }
		_, _, err = open(b).Put(ctx, v, location.Expect{})
		wantKind(t, "panicked, and the value is there", err, fault.Unknown)

		p.SetKnowledge(location.Nothing)
		p.Break(memory.Fault{Method: memory.Put, Cut: true})
		_, _, err = l.Put(ctx, secrettest.Fake(t), location.Expect{})
		wantKind(t, "not answered by a place that tells nothing", err, fault.Indeterminate)

		p.SetKnowledge(location.ReadBack)
		p.Break(memory.Fault{Method: memory.Put, Cut: true})
		p.Break(memory.Fault{Method: memory.Inspect, Kind: fault.Unavailable})
		_, _, err = l.Put(ctx, secrettest.Fake(t), location.Expect{})
		wantKind(t, "not answered, and then not to be looked at", err, fault.Indeterminate)
	})
}

func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := secrettest.Fake(t)
		p, d := place()
		l := location.New("prod", "memory", d, location.Options{Timeout: time.Second})

		p.Break(memory.Fault{Method: memory.Inspect, Hang: true})
		begin := time.Now()
		_, err := l.Inspect(t.Context())
		wantKind(t, "inspect that hangs", err, fault.Unavailable)
		if took := time.Since(begin); took != time.Second {
			t.Errorf("it took %v", took)
		}

		p.Break(memory.Fault{Method: memory.Put, Hang: true})
		_, _, err = l.Put(t.Context(), v, location.Expect{Checked: true, Absent: true, Revision: "here/0"})
		wantKind(t, "put that hangs and applied nothing, as looking shows", err, fault.Unavailable)

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		p.Break(memory.Fault{Method: memory.Put, Hang: true})
		_, _, err = l.Put(ctx, v, location.Expect{})
		wantKind(t, "put that was stopped while it ran", err, fault.Indeterminate)

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		p.Break(memory.Fault{Method: memory.Inspect, Hang: true})
		_, err = l.Inspect(ctx)
		wantKind(t, "inspect that was stopped", err, fault.Canceled)

		before := len(p.Calls())
		_, _, err = l.Put(ctx, v, location.Expect{})
		wantKind(t, "put with an ended context", err, fault.Canceled)
		ctx, cancel = context.WithDeadline(t.Context(), time.Now())
		defer cancel()
		_, err = l.Inspect(ctx)
		wantKind(t, "inspect without time", err, fault.Unavailable)
		if got := len(p.Calls()); got != before {
			t.Errorf("%d calls reached the place", got-before)
		}

		// A wrapped end of context does not become "nothing was applied" by the way it was wrapped.
		b := over(d)
		b.put = func(ctx context.Context, _ secret.Value, _ location.Expect) (location.Receipt, error) {
			<-ctx.Done()
			return location.Receipt{}, fault.In(ctx.Err(), "put")
		}
		b.inspect = func(context.Context) (location.Holding, error) {
			return location.Holding{}, fault.New(fault.Unavailable, "inspect: down")
		}
		_, _, err = location.New("prod", "memory", b, location.Options{Timeout: time.Second}).Put(t.Context(), v, location.Expect{})
		wantKind(t, "put that timed out", err, fault.Indeterminate)
	})
}

func TestADriverThatNeverReturnsIsLeftBehindAndKeepsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d := place()
		b := over(d)
		stuck := make(chan struct{})
		var calls atomic.Int64
		b.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
			if calls.Add(1) == 1 {
				<-stuck
				ctx = context.WithoutCancel(ctx)
			}
			return d.Put(ctx, v, e)
		}
		l := location.New("prod", "memory", b, location.Options{Timeout: time.Second})
		late := secrettest.Fake(t)
		_, _, err := l.Put(t.Context(), late, location.Expect{})
		wantKind(t, "put that never returns", err, fault.Indeterminate)
		_, _, err = l.Put(t.Context(), secrettest.Fake(t), location.Expect{})
		wantKind(t, "put behind it", err, fault.Unavailable)
		if h, err := l.Inspect(t.Context()); err != nil || h.Present {
			t.Errorf("inspect beside it: %+v, %v", h, err)
		}
		close(stuck)
		synctest.Wait()
		v := secrettest.Fake(t)
		if _, h, err := l.Put(t.Context(), v, location.Expect{}); err != nil || !h.Holds(v.Digest()) {
			t.Errorf("put after it has ended: %v", err)
		}
	})
}

func TestCallsAreBoundedInNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := place()
		p.Delay(memory.Inspect, time.Second)
		l := location.New("prod", "memory", d, location.Options{Parallel: 2})
		begin := time.Now()
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if _, err := l.Inspect(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("six calls of a second, two at once, took %v", took)
		}
	})
}

func TestPanics(t *testing.T) {
	v := secrettest.Fake(t)
	for what, p := range map[string]func(){
		"of the runtime": func() { var none []int; _ = none[len(none)] },
		"with a value":   func() { panic(v.RevealString()) },
		"with an error":  func() { panic(errors.New(v.RevealString())) },
	} {
		b := &bare{inspect: func(context.Context) (location.Holding, error) { p(); return location.Holding{}, nil }}
		_, err := open(b).Inspect(t.Context())
		wantKind(t, "panic "+what, err, fault.Unknown)
		if !strings.Contains(fmt.Sprint(err), "panicked") {
			t.Errorf("panic %s: %v", what, err)
		}
		secrettest.NoLeak(t, "the error of a panic", []byte(fmt.Sprintf("%+v", err)), v)
	}
}

type odd struct{ field string }

func (odd) Error() string { return "odd" }

func TestNoErrorCarriesAValue(t *testing.T) {
	v := secrettest.Fake(t)
	raw := v.RevealString()
	texts := map[string]string{
		"plain": raw, "quoted": fmt.Sprintf("%q", raw), "in a URL": url.QueryEscape(raw), "hex": hex.EncodeToString([]byte(raw)), "upper hex": fmt.Sprintf("%X", raw),
		"base64": base64.StdEncoding.EncodeToString([]byte(raw)), "base64 in JSON": base64.URLEncoding.EncodeToString([]byte(`{"a":"` + raw + `"}`)), "half": raw[len(raw)/2:],
	}
	for what, text := range texts {
		causes := []error{
			errors.New(text), fmt.Errorf("x: %w", errors.New(text)), errors.Join(errors.New("a"), errors.New(text)), odd{text},
			fault.New(fault.RateLimited, "put: x", fault.Hint("%s", text), fault.RetryAfter(time.Minute)),
			fault.Wrap(fault.Forbidden, odd{text}, "put: x"),
		}
		for i, cause := range causes {
			b := &bare{put: func(context.Context, secret.Value, location.Expect) (location.Receipt, error) {
				return location.Receipt{}, cause
			}}
			_, _, err := open(b).Put(t.Context(), v, location.Expect{})
			wantKind(t, what, err, fault.KindOf(cause))
			if fault.RetryAfterOf(err) != fault.RetryAfterOf(cause) {
				t.Errorf("%s %d: the retry-after is lost", what, i)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				secrettest.NoLeak(t, fmt.Sprintf("%s %d", what, i), []byte(fmt.Sprintf("%v %+v %#v %s", e, e, e, fault.HintOf(e))), v)
			}
		}
	}
	// Where no value is at hand, the shape of a key is enough.
	b := &bare{inspect: func(context.Context) (location.Holding, error) {
		return location.Holding{}, fault.New(fault.Unavailable, "inspect: "+raw)
	}}
	_, err := open(b).Inspect(t.Context())
	wantKind(t, "inspect", err, fault.Unavailable)
	secrettest.NoLeak(t, "an error of Inspect", []byte(err.Error()), v)
	b.inspect = func(context.Context) (location.Holding, error) {
		return location.Holding{}, fault.New(fault.Unavailable, "inspect: connection refused")
	}
	if _, err := open(b).Inspect(t.Context()); err == nil || !strings.Contains(err.Error(), "inspect prod: inspect: connection refused") {
		t.Errorf("an innocent error: %v", err)
	}
}

func TestNoReceiptOrHoldingCarriesAValue(t *testing.T) {
	v := secrettest.Fake(t)
	facts := map[string]string{"good": "1", "bad": v.RevealString(), v.RevealString(): "x"}
	b := &bare{
		inspect: func(context.Context) (location.Holding, error) {
			return location.Holding{Present: true, How: location.ReadBack, Digest: v.Digest(), Facts: facts}, nil
		},
		put: func(context.Context, secret.Value, location.Expect) (location.Receipt, error) {
			return location.Receipt{Facts: facts}, nil
		},
	}
	r, h, err := open(b).Put(t.Context(), v, location.Expect{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Facts["good"] != "1" || r.Facts["bad"] != "[withheld]" || len(r.Facts) != 2 || len(h.Facts) != 2 {
		t.Errorf("facts: %d and %d", len(r.Facts), len(h.Facts))
	}
	secrettest.NoLeak(t, "receipt and holding", []byte(fmt.Sprintf("%+v %+v", r, h)), v)
	if facts["bad"] != v.RevealString() {
		t.Error("the driver's own map was changed")
	}
	b.put = func(context.Context, secret.Value, location.Expect) (location.Receipt, error) {
		return location.Receipt{Revision: v.RevealString()}, nil
	}
	_, _, err = open(b).Put(t.Context(), v, location.Expect{})
	wantKind(t, "a value as revision", err, fault.Unknown)
}

func TestStagingIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p, d := place()
		l := open(d)
		old, v := secrettest.Fake(t), secrettest.Fake(t)
		_, h, err := l.Put(ctx, old, location.Expect{Checked: true, Absent: true})
		if err != nil {
			t.Fatal(err)
		}
		p.Break(memory.Fault{Method: memory.Stage, Cut: true})
		staged, h, err := l.Stage(ctx, v, location.ExpectHolding(h))
		if err != nil || h.Pending == nil || !h.Holds(old.Digest()) || staged.Facts["staged"] == "" {
			t.Fatalf("stage: %v, %+v, %+v", err, h, staged)
		}
		p.Break(memory.Fault{Method: memory.Promote, Cut: true})
		promoted, h, err := l.Promote(ctx, staged, v.Digest())
		if err != nil || !h.Holds(v.Digest()) {
			t.Fatalf("promote: %v, %+v", err, h)
		}
		_, h, err = l.Restore(ctx, promoted, old.Digest())
		if err != nil || !h.Holds(old.Digest()) {
			t.Fatalf("restore: %v, %+v", err, h)
		}
		if err := l.Remove(ctx, v.Digest()); err != nil {
			t.Errorf("remove: %v", err)
		}
		wantKind(t, "remove of what is held", l.Remove(ctx, old.Digest()), fault.Conflict)
		if !p.Held().Equal(old) {
			t.Error("the held value is gone")
		}
		if err := l.Unstage(ctx, staged); err != nil {
			t.Errorf("unstage: %v", err)
		}
	})
}

func TestReadIsCheckedAgainstInspect(t *testing.T) {
	p, d := place()
	l := open(d)
	_, err := l.Read(t.Context())
	wantKind(t, "read of nothing", err, fault.NotFound)
	v := secrettest.Fake(t)
	p.Overwrite(v)
	if got, err := l.Read(t.Context()); err != nil || !got.Equal(v) {
		t.Errorf("read: %v", err)
	}
	other := secrettest.Fake(t)
	lying := struct {
		location.Driver
		location.Reader
	}{over(d), readerFunc(func(context.Context) (secret.Value, error) { return secret.New([]byte(other.RevealString())), nil })}
	_, err = open(lying).Read(t.Context())
	wantKind(t, "read of something else than Inspect tells", err, fault.Conflict)
}

type readerFunc func(context.Context) (secret.Value, error)

func (f readerFunc) Read(ctx context.Context) (secret.Value, error) { return f(ctx) }

type extra struct {
	log          *[]string
	name         string
	err          error
	confirmation location.Confirmation
}

func (e extra) Reload(_ context.Context, id string) error {
	*e.log = append(*e.log, e.name+" "+id)
	return e.err
}

func (e extra) Confirm(context.Context, apikey.Digest) (location.Confirmation, error) {
	return e.confirmation, e.err
}
func (e extra) Probe(context.Context) error { *e.log = append(*e.log, e.name); return e.err }

func TestConfiguredAbilitiesComeAfterTheDriversOwn(t *testing.T) {
	ctx := t.Context()
	p, d := place()
	var log []string
	one := extra{log: &log, name: "one", confirmation: location.Confirmation{How: location.Label, Running: 2, Taken: 1, Unknown: 1, Facts: map[string]string{"pods": "2"}}}
	two := extra{log: &log, name: "two", err: fault.New(fault.Unavailable, "probe: not healthy")}
	l := location.New("prod", "memory", d, location.Options{Reloaders: []location.Reloader{one, two}, Confirmers: []location.Confirmer{one}, Probers: []location.Prober{one, two}})
	v := secrettest.Fake(t)
	if _, _, err := l.Put(ctx, v, location.Expect{}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "reload", l.Reload(ctx, "r1"), fault.Unavailable)
	wantKind(t, "probe", l.Probe(ctx), fault.Unavailable)
	if want := []string{"one r1", "two r1", "one", "two"}; !reflect.DeepEqual(log, want) || p.Reloads() != 1 {
		t.Errorf("calls %v, want %v; %d reloads", log, want, p.Reloads())
	}
	c, err := l.Confirm(ctx, v.Digest())
	want := location.Confirmation{How: location.Label, Running: 3, Taken: 2, Unknown: 1, Facts: map[string]string{"pods": "2"}}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("confirm: %+v, %v, want %+v", c, err, want)
	}
	if a := location.New("x", "y", over(d), location.Options{Probers: []location.Prober{one}}).Abilities(); !a.Probes || a.Reloads {
		t.Errorf("abilities: %+v", a)
	}
}

func TestExpectMatches(t *testing.T) {
	a, b := apikey.Digest{1}, apikey.Digest{2}
	held := func(d apikey.Digest, rev string) location.Holding {
		return location.Holding{Present: true, How: location.ReadBack, Digest: d, Revision: rev}
	}
	label := location.Holding{Present: true, How: location.Label, Fingerprint: a.Fingerprint()}
	for i, c := range []struct {
		e    location.Expect
		h    location.Holding
		want bool
	}{
		{location.Expect{}, held(a, "1"), true},
		{location.Expect{}, location.Holding{}, true},
		{location.Expect{Checked: true, Absent: true}, location.Holding{}, true},
		{location.Expect{Checked: true, Absent: true}, held(a, "1"), false},
		{location.Expect{Checked: true, Digest: a}, location.Holding{}, false},
		{location.Expect{Checked: true, Digest: a}, held(a, "1"), true},
		{location.Expect{Checked: true, Digest: a}, held(b, "1"), false},
		{location.Expect{Checked: true, Digest: a}, label, true},
		{location.Expect{Checked: true, Digest: b}, label, false},
		{location.Expect{Checked: true, Fingerprint: a.Fingerprint()}, label, true},
		{location.Expect{Checked: true, Fingerprint: b.Fingerprint()}, label, false},
		{location.Expect{Checked: true, Fingerprint: b.Fingerprint()}, held(a, "1"), false},
		{location.Expect{Checked: true, Revision: "1", Digest: a}, held(a, "2"), false},
		{location.Expect{Checked: true, Revision: "1", Digest: a}, held(a, "1"), true},
		{location.ExpectHolding(label), label, true},
		{location.ExpectHolding(location.Holding{How: location.Nothing}), held(a, "1"), true},
		{location.ExpectHolding(location.Holding{How: location.ReadBack}), held(a, "1"), false},
	} {
		if got := c.e.Matches(c.h); got != c.want {
			t.Errorf("case %d: %+v matches %+v: %v", i, c.e, c.h, got)
		}
	}
}
