package gateway

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// shelf is a place of a value whose state a test sets.
type shelf struct {
	mu      sync.Mutex
	now     keysource.Reading
	err     error
	state   int
	changed chan struct{}
	reads   int
}

var _ keysource.Reader = (*shelf)(nil)

func place(v secret.Value, generation uint64) *shelf {
	s := &shelf{changed: make(chan struct{})}
	s.put(v, generation)
	return s
}

func (s *shelf) put(v secret.Value, generation uint64, denied ...apikey.Digest) {
	s.set(keysource.Reading{Value: v, Generation: generation, Denied: denied}, nil)
}

func (s *shelf) fail(err error) { s.set(keysource.Reading{}, err) }

func (s *shelf) set(r keysource.Reading, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state++
	r.Mark = strconv.Itoa(s.state)
	s.now, s.err = r, err
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *shelf) looks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *shelf) Read(context.Context) (keysource.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	r := s.now
	r.Value = r.Value.Clone()
	return r, s.err
}

func (s *shelf) Wait(ctx context.Context, mark string) error {
	s.mu.Lock()
	changed, moved := s.changed, s.now.Mark != mark
	s.mu.Unlock()
	if moved {
		return nil
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *world) follow(s Source) {
	w.t.Helper()
	if err := w.g.Follow(context.Background(), s); err != nil {
		w.t.Fatal(err)
	}
}

// names gives the keys in force, in order.
func (w *world) names() string {
	var list []string
	for _, e := range w.g.set.Load().entries {
		list = append(list, string(e.Name)+"="+string(e.print))
	}
	return strings.Join(list, " ")
}

func key(name string, v secret.Value) string { return name + "=" + string(v.Fingerprint()) }

var down = fault.New(fault.Unavailable, "read place: it is down")

// TestSourcesFailApart: a place that is down keeps its last good value, and another one goes on to change.
func TestSourcesFailApart(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	a, _ := w.key("a", simulator.CreateKey{})
	b, _ := w.key("b", simulator.CreateKey{})
	c, _ := w.key("c", simulator.CreateKey{})
	one, two := place(a.Value, 0), place(b.Value, 0)
	w.follow(Source{Keys: []SourceKey{{Name: "one", Ref: "store:one", Reader: one}, {Name: "two", Ref: "store:two", Reader: two}}})
	one.fail(down)
	w.until("the failure is told", func() bool { return w.has(SourceFailed) })
	two.put(c.Value, 0)
	w.until("the other place changes", func() bool { return w.names() == key("one", a.Value)+" "+key("two", c.Value) })
	s := w.g.Status().Sources
	if len(s) != 2 || s[0].Key != "one" || s[0].Source != "store:one" || s[0].Failing.IsZero() || s[0].Problem == "" || !s[0].Until.After(time.Now().Add(24*time.Hour)) || s[0].Expired || !s[1].Failing.IsZero() || s[1].Read.IsZero() {
		t.Errorf("%+v", s)
	}
	w.want(200, "POST", "/v1/messages", hello)
	// It may be down at the start too, as long as another one answers.
	one.fail(down)
	w.follow(Source{Keys: []SourceKey{{Name: "one", Reader: one}, {Name: "two", Reader: two}}})
	if w.names() != key("two", c.Value) {
		t.Error(w.names())
	}
	one.put(a.Value, 0)
	w.g.Refresh() // a place that was never read is not watched
	w.until("the first place is back", func() bool { return w.names() == key("one", a.Value)+" "+key("two", c.Value) })
	one.fail(down)
	two.fail(down)
	if err := w.g.Follow(context.Background(), Source{Keys: []SourceKey{{Name: "one", Reader: one}, {Name: "two", Reader: two}}}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("no place answers: %v", err)
	}
	if w.names() != key("one", a.Value)+" "+key("two", c.Value) {
		t.Error("a source that cannot be followed took the place of the former one")
	}
}

// TestSourceExpires: beyond the limit the value of a place that is down is used no more, and is again when it is back.
func TestSourceExpires(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	a, _ := w.key("a", simulator.CreateKey{})
	b, _ := w.key("b", simulator.CreateKey{})
	one, two := place(a.Value, 0), place(b.Value, 0)
	w.follow(Source{TTL: time.Millisecond, Stale: time.Millisecond, Keys: []SourceKey{{Name: "one", Reader: one}, {Name: "two", Reader: two}}})
	one.fail(down)
	w.until("the first value is left out", func() bool { return w.names() == key("two", b.Value) })
	w.want(200, "POST", "/v1/messages", hello)
	two.fail(down)
	w.until("no value is left", func() bool { return w.names() == "" })
	w.want(503, "POST", "/v1/messages", hello)
	w.want(503, "GET", "/readyz", "")
	if s := w.g.Status(); len(s.Sources) != 2 || !s.Sources[0].Expired || !s.Sources[1].Expired || s.Ready || !w.has(SourceExpired) {
		t.Errorf("%+v", s)
	}
	one.put(a.Value, 0)
	w.until("it is back", func() bool { return w.names() == key("one", a.Value) })
	w.want(200, "POST", "/v1/messages", hello)
}

// TestSourceGenerations: no place brings an older state back, also after a restart, and none a compromised value.
func TestSourceGenerations(t *testing.T) {
	dir := t.TempDir()
	w := start(t, simulator.Options{}, func(o *Options) { o.StateDir = dir })
	a, _ := w.key("a", simulator.CreateKey{})
	b, _ := w.key("b", simulator.CreateKey{})
	c, _ := w.key("c", simulator.CreateKey{})
	p := place(a.Value, 6)
	w.follow(Source{Keys: []SourceKey{{Name: "k", Ref: "store:k", Reader: p}}})
	p.put(b.Value, 7, a.Value.Digest())
	w.until("the next generation", func() bool { return w.names() == key("k", b.Value) && w.has(KeyDenied) })
	p.put(c.Value, 6)
	w.until("the older one is told", func() bool { return strings.Contains(w.g.Status().Sources[0].Problem, "generation 6 after 7") })
	if w.names() != key("k", b.Value) {
		t.Error("an older generation was taken")
	}
	p.put(a.Value, 8)
	w.until("the compromised one is told", func() bool { return strings.Contains(w.g.Status().Sources[0].Problem, "compromised") })
	if w.names() != key("k", b.Value) {
		t.Error("a compromised value was taken")
	}
	next, err := New(Options{Upstream: w.g.o.Upstream, Open: true, StateDir: copied(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	for _, r := range []*shelf{place(c.Value, 6), place(a.Value, 9)} {
		err := next.Follow(context.Background(), Source{Keys: []SourceKey{{Name: "k", Ref: "store:k", Reader: r}}})
		if !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.Forbidden) {
			t.Errorf("after a restart: %v", err)
		}
	}
	// With a backup the gateway starts, and says what is wrong.
	if err := next.Follow(context.Background(), Source{Keys: []SourceKey{{Name: "k", Ref: "store:k", Reader: place(a.Value, 9)}, {Name: "backup", Reader: place(c.Value, 0)}}}); err != nil {
		t.Error(err)
	}
	if s := next.Status(); len(s.Keys) != 1 || s.Keys[0].Key != "backup" || !strings.Contains(s.Sources[0].Problem, "compromised") {
		t.Errorf("%+v", s)
	}
}

// copied gives a copy of the state file: one gateway uses a directory at a time.
func copied(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := os.WriteFile(filepath.Join(to, stateFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestSourceRefusedByTheProvider: a value that the provider refuses is asked about once, until somebody asks for a look or no key is left.
func TestSourceRefusedByTheProvider(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	a, idA := w.key("a", simulator.CreateKey{})
	dead, idDead := w.key("dead", simulator.CreateKey{})
	if err := w.sim.SetStatus(idDead, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	p := place(a.Value, 0)
	w.follow(Source{Keys: []SourceKey{{Name: "k", Reader: p}}})
	p.put(dead.Value, 0)
	w.until("the refusal is told", func() bool { return strings.Contains(w.g.Status().Sources[0].Problem, "refuses") })
	n, before := w.calls(idDead, "/v1/models"), p.looks()
	p.put(dead.Value, 0)
	w.until("it was read again", func() bool { return p.looks() > before })
	w.want(200, "POST", "/v1/messages", hello)
	if m := w.calls(idDead, "/v1/models"); m != n {
		t.Errorf("the same value was asked about %d times more", m-n)
	}
	if err := w.sim.SetStatus(idA, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	if err := w.sim.SetStatus(idDead, simulator.StatusActive); err != nil {
		t.Fatal(err)
	}
	w.do("POST", "/v1/messages", hello) // meets the 401, after which every source is read at once
	w.until("the only value that works is in use", func() bool { return w.names() == key("k", dead.Value) })
	w.want(200, "POST", "/v1/messages", hello)
}

// TestSourcesThatExchangeValues: two places that swap their values, one after the other, lose no request.
func TestSourcesThatExchangeValues(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	a, _ := w.key("a", simulator.CreateKey{})
	b, _ := w.key("b", simulator.CreateKey{})
	one, two := place(a.Value, 0), place(b.Value, 0)
	w.follow(Source{Keys: []SourceKey{{Name: "one", Reader: one}, {Name: "two", Reader: two}}})
	one.put(b.Value, 0)
	w.until("both hold the same", func() bool { return w.names() == key("one", b.Value) })
	w.want(200, "POST", "/v1/messages", hello)
	two.put(a.Value, 0)
	w.until("they are exchanged", func() bool { return w.names() == key("one", b.Value)+" "+key("two", a.Value) })
	secrettest.NoLeak(t, "names", []byte(w.names()), a.Value, b.Value)
}
