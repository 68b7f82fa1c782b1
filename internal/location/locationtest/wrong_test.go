package locationtest

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/secret"
)

// wrong is the reference driver with single methods replaced.
type wrong struct {
	*memory.Driver
	place   *memory.Place
	mu      sync.Mutex
	inspect func(context.Context) (location.Holding, error)
	put     func(context.Context, secret.Value, location.Expect) (location.Receipt, error)
	read    func(context.Context) (secret.Value, error)
	stage   func(context.Context, secret.Value, location.Expect) (location.Receipt, error)
	promote func(context.Context, location.Receipt) (location.Receipt, error)
	unstage func(context.Context, location.Receipt) error
	reload  func(context.Context, string) error
	confirm func(context.Context, apikey.Digest) (location.Confirmation, error)
	restore func(context.Context, location.Receipt) (location.Receipt, error)
	remove  func(context.Context, apikey.Digest) error
	check   func(context.Context) []error
	address func() string
}

func (w *wrong) Inspect(ctx context.Context) (location.Holding, error) { return w.inspect(ctx) }
func (w *wrong) Put(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
	return w.put(ctx, v, e)
}
func (w *wrong) Read(ctx context.Context) (secret.Value, error) { return w.read(ctx) }
func (w *wrong) Stage(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
	return w.stage(ctx, v, e)
}
func (w *wrong) Promote(ctx context.Context, r location.Receipt) (location.Receipt, error) {
	return w.promote(ctx, r)
}
func (w *wrong) Unstage(ctx context.Context, r location.Receipt) error { return w.unstage(ctx, r) }
func (w *wrong) Reload(ctx context.Context, id string) error           { return w.reload(ctx, id) }
func (w *wrong) Confirm(ctx context.Context, d apikey.Digest) (location.Confirmation, error) {
	return w.confirm(ctx, d)
}
func (w *wrong) Restore(ctx context.Context, r location.Receipt) (location.Receipt, error) {
	return w.restore(ctx, r)
}
func (w *wrong) Remove(ctx context.Context, d apikey.Digest) error { return w.remove(ctx, d) }
func (w *wrong) Check(ctx context.Context) []error                 { return w.check(ctx) }
func (w *wrong) Address() string                                   { return w.address() }

func newWrong(s *memory.Server, name string) *wrong {
	d := s.Driver(name)
	return &wrong{
		Driver: d, place: s.Place(name), inspect: d.Inspect, put: d.Put, read: d.Read, stage: d.Stage, promote: d.Promote, unstage: d.Unstage,
		reload: d.Reload, confirm: d.Confirm, restore: d.Restore, remove: d.Remove, check: d.Check, address: d.Address,
	}
}

// wrongs gives, for every rule, drivers that break it.
func wrongs() map[string][]func(*testing.T, *wrong) {
	type bend = func(*testing.T, *wrong)
	return map[string][]bend{
		"an empty place is no error": {func(_ *testing.T, w *wrong) {
			w.inspect = func(ctx context.Context) (location.Holding, error) {
				h, err := w.Driver.Inspect(ctx)
				h.Present = true
				return h, err
			}
		}, func(_ *testing.T, w *wrong) {
			w.inspect = func(ctx context.Context) (location.Holding, error) {
				h, err := w.Driver.Inspect(ctx)
				if err == nil && !h.Present {
					err = fault.New(fault.NotFound, "inspect: nothing there")
				}
				return h, err
			}
		}},
		"what was put is inspected": {func(_ *testing.T, w *wrong) {
			w.put = func(context.Context, secret.Value, location.Expect) (location.Receipt, error) {
				return location.Receipt{}, nil
			}
		}, func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				r, err := w.Driver.Put(ctx, v, e)
				r.Revision = "made up"
				return r, err
			}
		}},
		"knowledge is honest": {func(_ *testing.T, w *wrong) {
			// It remembers what it wrote and calls that reading.
			var last apikey.Digest
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				last = v.Digest()
				return w.Driver.Put(ctx, v, e)
			}
			w.inspect = func(ctx context.Context) (location.Holding, error) {
				h, err := w.Driver.Inspect(ctx)
				h.Digest = last
				return h, err
			}
		}, func(_ *testing.T, w *wrong) { w.place.SetKnowledge(location.ChangedAt) }},
		"the revision marks the state": {func(_ *testing.T, w *wrong) {
			w.inspect = func(ctx context.Context) (location.Holding, error) {
				h, err := w.Driver.Inspect(ctx)
				h.Revision = "always the same"
				return h, err
			}
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				e.Revision = ""
				return w.Driver.Put(ctx, v, e)
			}
		}},
		"putting twice succeeds": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				if w.place.Held().Equal(v) {
					return location.Receipt{}, fault.New(fault.Conflict, "put: it is there already")
				}
				return w.Driver.Put(ctx, v, e)
			}
		}},
		"a foreign value is never overwritten unseen": {ignoreExpect},
		"a foreign neighbour is never lost": {func(_ *testing.T, w *wrong) {
			// It writes the whole place back as it was when the driver was opened.
			old := w.place.Neighbours()
			w.put = func(ctx context.Context, v secret.Value, _ location.Expect) (location.Receipt, error) {
				w.place.Disturb(old)
				return w.Driver.Put(ctx, v, location.Expect{})
			}
		}},
		"a digest that is not held is a conflict": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				e.Digest, e.Fingerprint = apikey.Digest{}, ""
				return w.Driver.Put(ctx, v, e)
			}
		}},
		"an expected absence is checked": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				e.Checked = e.Checked && !e.Absent
				return w.Driver.Put(ctx, v, e)
			}
		}},
		"an expected presence is checked": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				if w.place.Held().IsZero() {
					e = location.Expect{}
				}
				return w.Driver.Put(ctx, v, e)
			}
		}},
		"no expectation overwrites": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				if !e.Checked {
					return location.Receipt{}, fault.New(fault.Conflict, "put: nothing was expected")
				}
				return w.Driver.Put(ctx, v, e)
			}
		}},
		"neighbours stay byte-identical": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				r, err := w.Driver.Put(ctx, v, e)
				w.place.Disturb(append(w.place.Neighbours(), '\n'))
				return r, err
			}
			w.inspect = func(ctx context.Context) (location.Holding, error) {
				h, err := w.Driver.Inspect(ctx)
				h.Revision = ""
				return h, err
			}
		}, func(_ *testing.T, w *wrong) {
			w.inspect = func(ctx context.Context) (location.Holding, error) {
				w.place.Disturb(append(w.place.Neighbours(), '\n'))
				return w.Driver.Inspect(ctx)
			}
		}},
		"values of every length are kept exactly": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				return w.Driver.Put(ctx, secret.New([]byte(v.RevealString())[:min(255, v.Len())]), e)
			}
		}},
		"odd bytes are kept exactly or refused": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				b := []byte(v.RevealString())
				for len(b) > 1 && b[len(b)-1] == ' ' {
					b = b[:len(b)-1]
				}
				return w.Driver.Put(ctx, secret.New(b), e)
			}
		}},
		"two puts at once leave one winner": {func(_ *testing.T, w *wrong) {
			// It compares and then writes, with time in between.
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				h, err := w.Driver.Inspect(ctx)
				if err != nil {
					return location.Receipt{}, err
				}
				if !e.Matches(h) {
					return location.Receipt{}, fault.New(fault.Conflict, "put: changed")
				}
				time.Sleep(time.Millisecond)
				return w.Driver.Put(ctx, v, location.Expect{})
			}
		}},
		"methods may run at once": {func(_ *testing.T, w *wrong) {
			w.inspect = func(ctx context.Context) (location.Holding, error) {
				if !w.mu.TryLock() {
					return location.Holding{}, fault.New(fault.Unavailable, "inspect: busy")
				}
				defer w.mu.Unlock()
				time.Sleep(time.Millisecond)
				return w.Driver.Inspect(ctx)
			}
		}},
		"a cancelled context writes nothing": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				return w.Driver.Put(context.WithoutCancel(ctx), v, e)
			}
		}},
		"a new driver sees the same place": {func(_ *testing.T, w *wrong) {
			own := fmt.Sprintf("%p", w)
			w.inspect = func(ctx context.Context) (location.Holding, error) {
				h, err := w.Driver.Inspect(ctx)
				h.Revision = own + h.Revision
				return h, err
			}
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				e.Revision = ""
				return w.Driver.Put(ctx, v, e)
			}
		}},
		"reading gives the held value": {func(t *testing.T, w *wrong) {
			w.read = func(context.Context) (secret.Value, error) { return secret.Value{}, nil }
		}, func(_ *testing.T, w *wrong) {
			var kept secret.Value
			w.read = func(ctx context.Context) (secret.Value, error) {
				if !kept.IsZero() {
					return kept, nil
				}
				var err error
				kept, err = w.Driver.Read(ctx)
				return kept, err
			}
		}},
		"a staged value is invisible until promoted": {func(_ *testing.T, w *wrong) { w.stage = w.Driver.Put }},
		"staging twice succeeds": {func(_ *testing.T, w *wrong) {
			w.stage = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				if h, err := w.Driver.Inspect(ctx); err == nil && h.Pending != nil {
					return location.Receipt{}, fault.New(fault.Conflict, "stage: something is staged")
				}
				return w.Driver.Stage(ctx, v, e)
			}
		}},
		"promoting twice succeeds": {func(_ *testing.T, w *wrong) {
			w.promote = func(ctx context.Context, r location.Receipt) (location.Receipt, error) {
				if h, err := w.Driver.Inspect(ctx); err == nil && h.Pending == nil {
					return location.Receipt{}, fault.New(fault.NotFound, "promote: nothing is staged")
				}
				return w.Driver.Promote(ctx, r)
			}
		}},
		"promoting after a foreign change is a conflict": {func(_ *testing.T, w *wrong) {
			var staged secret.Value
			w.stage = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				staged = v
				return w.Driver.Stage(ctx, v, e)
			}
			w.promote = func(ctx context.Context, _ location.Receipt) (location.Receipt, error) {
				return w.Driver.Put(ctx, staged, location.Expect{})
			}
		}},
		"staging checks the expectation": {func(_ *testing.T, w *wrong) {
			w.stage = func(ctx context.Context, v secret.Value, _ location.Expect) (location.Receipt, error) {
				return w.Driver.Stage(ctx, v, location.Expect{})
			}
		}},
		"unstaging takes back only our own": {func(_ *testing.T, w *wrong) {
			// Each call takes away whatever is staged.
			gone := 0
			w.unstage = func(ctx context.Context, r location.Receipt) error {
				gone++
				return w.Driver.Unstage(ctx, r)
			}
			w.inspect = func(ctx context.Context) (location.Holding, error) {
				h, err := w.Driver.Inspect(ctx)
				if gone > 2 {
					h.Pending = nil
				}
				return h, err
			}
		}, func(_ *testing.T, w *wrong) {
			w.unstage = func(ctx context.Context, r location.Receipt) error {
				if h, err := w.Driver.Inspect(ctx); err == nil && h.Pending == nil {
					return fault.New(fault.NotFound, "unstage: nothing is staged")
				}
				return w.Driver.Unstage(ctx, r)
			}
		}},
		"restoring goes back": {func(_ *testing.T, w *wrong) {
			w.restore = func(_ context.Context, r location.Receipt) (location.Receipt, error) { return r, nil }
		}},
		"restoring after a foreign change is a conflict": {func(_ *testing.T, w *wrong) {
			w.restore = func(ctx context.Context, r location.Receipt) (location.Receipt, error) {
				h, err := w.Driver.Inspect(ctx)
				if err != nil {
					return r, err
				}
				r.Revision = h.Revision
				return w.Driver.Restore(ctx, r)
			}
		}},
		"removing erases our old copies": {func(_ *testing.T, w *wrong) {
			w.remove = func(context.Context, apikey.Digest) error { return nil }
		}},
		"removing leaves foreign copies": {func(_ *testing.T, w *wrong) {
			w.remove = func(_ context.Context, d apikey.Digest) error {
				w.place.Forget(d)
				return nil
			}
		}},
		"one reload per id": {func(_ *testing.T, w *wrong) {
			n := 0
			w.reload = func(ctx context.Context, _ string) error {
				n++
				return w.Driver.Reload(ctx, fmt.Sprint(n))
			}
		}, func(_ *testing.T, w *wrong) {
			w.reload = func(context.Context, string) error { return nil }
		}},
		"confirming counts the consumers": {func(_ *testing.T, w *wrong) {
			w.confirm = func(ctx context.Context, d apikey.Digest) (location.Confirmation, error) {
				c, err := w.Driver.Confirm(ctx, d)
				c.Taken, c.Old = c.Running, 0
				return c, err
			}
		}, func(_ *testing.T, w *wrong) {
			w.confirm = func(ctx context.Context, d apikey.Digest) (location.Confirmation, error) {
				c, err := w.Driver.Confirm(ctx, d)
				c.Running++
				return c, err
			}
		}},
		"checking writes nothing": {func(_ *testing.T, w *wrong) {
			w.check = func(context.Context) []error {
				w.place.Disturb(w.place.Neighbours())
				return nil
			}
		}},
		"the address names the place": {func(_ *testing.T, w *wrong) { w.address = func() string { return "memory" } }},
		"faults have the right kind": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				r, err := w.Driver.Put(ctx, v, e)
				if err != nil {
					err = fault.New(fault.Unavailable, "put: something went wrong")
				}
				return r, err
			}
		}, func(_ *testing.T, w *wrong) {
			// It tries again by itself.
			w.inspect = func(ctx context.Context) (location.Holding, error) {
				if h, err := w.Driver.Inspect(ctx); err == nil {
					return h, nil
				}
				return w.Driver.Inspect(ctx)
			}
		}},
		"a lost reply is settled by looking": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				r, err := w.Driver.Put(ctx, v, e)
				if fault.Is(err, fault.Indeterminate) {
					err = fault.New(fault.Unavailable, "put: no reply")
				}
				return r, err
			}
		}},
		"nothing leaks": {func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				r, err := w.Driver.Put(ctx, v, e)
				if err != nil {
					err = fault.New(fault.KindOf(err), "put "+v.RevealString())
				}
				return r, err
			}
		}, func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				r, err := w.Driver.Put(ctx, v, e)
				if err != nil {
					err = fault.New(fault.KindOf(err), "put", fault.Hint("use %q", v.RevealString()))
				}
				return r, err
			}
		}, func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				r, err := w.Driver.Put(ctx, v, e)
				r.Facts = map[string]string{"value": fmt.Sprintf("%x", v.RevealString())}
				return r, err
			}
		}, func(_ *testing.T, w *wrong) {
			w.put = func(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
				slog.DebugContext(ctx, "put", "value", v.RevealString())
				return w.Driver.Put(ctx, v, e)
			}
		}},
	}
}

func ignoreExpect(_ *testing.T, w *wrong) {
	w.put = func(ctx context.Context, v secret.Value, _ location.Expect) (location.Receipt, error) {
		return w.Driver.Put(ctx, v, location.Expect{})
	}
}

// verdict is a testing.TB that remembers a failure instead of passing it on.
type verdict struct {
	testing.TB
	mu      sync.Mutex
	failed  bool
	skipped bool
}

func (v *verdict) Helper() {}
func (v *verdict) Fail() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = true
}
func (v *verdict) Failed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed
}
func (v *verdict) Error(...any)          { v.Fail() }
func (v *verdict) Errorf(string, ...any) { v.Fail() }
func (v *verdict) Fatal(...any)          { v.Fail(); runtime.Goexit() }
func (v *verdict) Fatalf(string, ...any) { v.Fail(); runtime.Goexit() }
func (v *verdict) FailNow()              { v.Fail(); runtime.Goexit() }
func (v *verdict) Skipf(string, ...any)  { v.skipped = true; runtime.Goexit() }

// judge runs one rule against memory places whose drivers were bent, on a clock of its own.
func judge(t *testing.T, r rule, bend func(*testing.T, *wrong)) (failed, skipped bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		h := Harness{
			How: location.ReadBack, CAS: true, ReloadsOnce: true, RetryAfter: true, Faults: append(StatusFaults(), Interruptions()...),
			New: func(testing.TB) *Place {
				n++
				s, name := memory.NewServer(nil), fmt.Sprintf("place-%d", n)
				open := func() location.Driver {
					w := newWrong(s, name)
					if bend != nil {
						bend(t, w)
					}
					return w
				}
				return memoryPlace(s.Place(name), open)
			},
		}
		v := &verdict{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.run(v, h)
		}()
		<-done
		failed, skipped = v.failed, v.skipped
	})
	return failed, skipped
}

func memoryPlace(p *memory.Place, open func() location.Driver) *Place {
	kinds := map[int]fault.Kind{401: fault.Unauthenticated, 403: fault.Forbidden, 404: fault.NotFound, 409: fault.Conflict, 429: fault.RateLimited, 500: fault.Unavailable}
	return &Place{
		Driver: open(), Again: open,
		Held: func(testing.TB) ([]byte, bool) {
			v := p.Held()
			return []byte(v.RevealString()), !v.IsZero()
		},
		Overwrite:    func(_ testing.TB, v secret.Value) { p.Overwrite(v) },
		Neighbours:   func(testing.TB) []byte { return p.Neighbours() },
		Disturb:      func(testing.TB) { p.Disturb([]byte("OTHER=2\n")) },
		StageForeign: func(_ testing.TB, v secret.Value) { p.StageForeign(v) },
		Copies: func(testing.TB) [][]byte {
			var all [][]byte
			for _, v := range p.Copies() {
				all = append(all, []byte(v.RevealString()))
			}
			return all
		},
		Reloads: func(testing.TB) int { return p.Reloads() },
		Break: func(_ testing.TB, f Fault) {
			p.Break(memory.Fault{OnWrite: f.OnWrite, Kind: kinds[f.Status], Cut: f.Cut, Hang: f.Hang, Garbage: f.Garbage, RetryAfter: RetryAfterSeconds * time.Second})
		},
	}
}

func TestEveryRuleCanFail(t *testing.T) {
	all := wrongs()
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			if failed, skipped := judge(t, r, nil); failed || skipped {
				t.Fatalf("the right driver: failed %v, skipped %v", failed, skipped)
			}
			if len(all[r.name]) == 0 {
				t.Fatal("no wrong driver breaks this rule")
			}
			for i, bend := range all[r.name] {
				if failed, _ := judge(t, r, bend); !failed {
					t.Errorf("wrong driver %d passes", i)
				}
			}
		})
		delete(all, r.name)
	}
	for name := range all {
		t.Errorf("wrong drivers for a rule that does not exist: %q", name)
	}
}
