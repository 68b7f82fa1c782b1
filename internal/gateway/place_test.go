package gateway

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/simulator"
)

// housed is a gateway with a state directory and a key file, whose status socket is served.
type housed struct {
	*world
	dir, path string
	client    *Client
}

func house(t *testing.T, so simulator.Options, first Key) *housed {
	t.Helper()
	dir := t.TempDir()
	h := &housed{dir: dir, path: filepath.Join(dir, "app.key"), client: NewClient(dir)}
	h.world = start(t, so, func(o *Options) { o.StateDir = dir })
	if first.Value.IsZero() {
		first, _ = h.key("app", simulator.CreateKey{})
	}
	write(t, h.path, first.Value)
	h.follow()
	l, err := ListenUnix(Socket(dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.g.ServeAdmin(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *housed) follow() {
	h.t.Helper()
	if err := h.g.Follow(context.Background(), Source{Keys: []SourceKey{{Name: "app", Ref: keysource.Ref("file:" + h.path)}}}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *housed) place() PlaceState {
	h.t.Helper()
	s, err := h.client.Place(h.t.Context(), "app")
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// TestPutKey: a value that comes over the status socket is in the file and in force when the answer is there; a request under way keeps the former
// one, and is known until it ends.
func TestPutKey(t *testing.T) {
	h := house(t, simulator.Options{StreamPause: time.Hour}, Key{})
	before := h.place()
	fresh, _ := h.key("app", simulator.CreateKey{})
	// A stream is under way on the former value.
	ctx, hangUp := context.WithCancel(t.Context())
	release := h.hang(ctx)
	s, err := h.client.Put(t.Context(), "app", fresh.Value, PlaceExpect{Checked: true, Revision: before.Revision, Digest: before.Digest})
	if err != nil {
		t.Fatal(err)
	}
	if !s.InForce.Same(fresh.Value.Digest()) || !s.Digest.Same(fresh.Value.Digest()) || len(s.Leaving) != 1 || !s.Leaving[0].Digest.Same(before.Digest) || s.Last != nil {
		t.Errorf("after put: %+v", s)
	}
	if info, err := os.Stat(h.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v %v", info, err)
	}
	hangUp()
	release()
	h.until("the former value is drained", func() bool { return len(h.place().Leaving) == 0 })
	if s := h.place(); s.Last == nil || !s.Last.Digest.Same(before.Digest) || s.Last.Requests == 0 || s.Last.Drained.Before(s.Last.LastUse) {
		t.Errorf("after the last request: %+v", s.Last)
	}
	for _, c := range []struct {
		name   string
		expect PlaceExpect
		kind   fault.Kind
	}{
		{"another revision", PlaceExpect{Checked: true, Revision: before.Revision}, fault.Conflict},
		{"another value", PlaceExpect{Checked: true, Digest: before.Digest}, fault.Conflict},
		{"nothing", PlaceExpect{Checked: true, Absent: true}, fault.Conflict},
	} {
		other, _ := h.key("app", simulator.CreateKey{})
		if _, err := h.client.Put(t.Context(), "app", other.Value, c.expect); !fault.Is(err, c.kind) {
			t.Errorf("expecting %s: %v", c.name, err)
		}
	}
	dead, id := h.key("app", simulator.CreateKey{})
	if err := h.sim.SetStatus(id, "inactive"); err != nil {
		t.Fatal(err)
	}
	now := h.place()
	if _, err := h.client.Put(t.Context(), "app", dead.Value, PlaceExpect{Checked: true, Revision: now.Revision}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a value that the provider refuses: %v", err)
	}
	if _, err := h.client.Place(t.Context(), "other"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a key that is not there: %v", err)
	}
	if err := h.client.Deny(t.Context(), before.Digest); err != nil {
		t.Fatal(err)
	}
	if held, err := secret.Ref("file:"+h.path).Resolve(t.Context(), ""); err != nil || !held.Equal(fresh.Value) {
		t.Errorf("the file does not hold the value: %v", err)
	}
	if s := h.place(); !s.InForce.Same(fresh.Value.Digest()) {
		t.Errorf("after all refusals: %+v", s)
	}
	// What a killed process left is erased.
	write(t, filepath.Join(h.dir, ".app.key.keywright-new-123"), fresh.Value)
	h.place()
	names, err := filepath.Glob(filepath.Join(h.dir, ".app.key*"))
	if err != nil || len(names) != 0 {
		t.Errorf("left beside the file: %v", names)
	}
}

// hang keeps a stream under way on the key in force until ctx ends; release waits for its end.
func (h *housed) hang(ctx context.Context) (release func()) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(ctx, "POST", h.url+"/v1/messages", strings.NewReader(helloStream))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("anthropic-version", "2023-06-01")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := h.world.client.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}()
	h.until("a request is under way", func() bool { return h.g.Record().InUse[0].InFlight > 0 })
	return func() { <-done }
}

// TestStageAndPromote: a staged value is in no request, is promoted by one move, and is not promoted over a change of others.
func TestStageAndPromote(t *testing.T) {
	h := house(t, simulator.Options{}, Key{})
	ctx, before := t.Context(), h.place()
	fresh, _ := h.key("app", simulator.CreateKey{})
	d := fresh.Value.Digest()
	s, err := h.client.Stage(ctx, "app", fresh.Value, PlaceExpect{Checked: true, Revision: before.Revision})
	if err != nil || !s.Staged.Same(d) || !s.InForce.Same(before.Digest) || s.Revision != before.Revision {
		t.Fatalf("stage: %+v %v", s, err)
	}
	if _, err := h.client.Promote(ctx, "app", before.Digest, "another"); err != nil {
		t.Errorf("promote what is held: %v", err)
	}
	if _, err := h.client.Promote(ctx, "app", d, "another"); !fault.Is(err, fault.Conflict) {
		t.Errorf("promote over a change: %v", err)
	}
	if s, err = h.client.Unstage(ctx, "app", before.Digest); err != nil || !s.Staged.Same(d) {
		t.Errorf("unstage another value: %+v %v", s, err)
	}
	for range 2 {
		if s, err = h.client.Promote(ctx, "app", d, before.Revision); err != nil || !s.InForce.Same(d) || s.Staged.Known() {
			t.Fatalf("promote: %+v %v", s, err)
		}
	}
	third, _ := h.key("app", simulator.CreateKey{})
	if _, err := h.client.Stage(ctx, "app", third.Value, PlaceExpect{Checked: true, Digest: d}); err != nil {
		t.Fatal(err)
	}
	if s, err = h.client.Unstage(ctx, "app", third.Value.Digest()); err != nil || s.Staged.Known() || !s.InForce.Same(d) {
		t.Errorf("unstage: %+v %v", s, err)
	}
	if _, err := h.client.Promote(ctx, "app", third.Value.Digest(), s.Revision); !fault.Is(err, fault.Conflict) {
		t.Errorf("promote what was unstaged: %v", err)
	}
	// An emergency takes what waits beside it away.
	if _, err := h.client.Stage(ctx, "app", third.Value, PlaceExpect{Checked: true, Digest: d}); err != nil {
		t.Fatal(err)
	}
	fourth, _ := h.key("app", simulator.CreateKey{})
	if s, err = h.client.Put(ctx, "app", fourth.Value, PlaceExpect{}); err != nil || s.Staged.Known() || !s.InForce.Same(fourth.Value.Digest()) {
		t.Errorf("put over a staged value: %+v %v", s, err)
	}
}

// TestRecord: what left is remembered over restarts, with the time of its last request; what comes back is in use again.
func TestRecord(t *testing.T) {
	dir := t.TempDir()
	h := start(t, simulator.Options{}, func(o *Options) { o.StateDir = dir })
	a, _ := h.key("app", simulator.CreateKey{})
	b, _ := h.key("app", simulator.CreateKey{})
	h.swap(Set{Keys: []Key{a}})
	since := h.g.Record().Since
	h.want(200, "POST", "/v1/messages", hello)
	h.swap(Set{Keys: []Key{b}})
	left := h.g.Record().Left
	if len(left) != 1 || left[0].Digest != a.Value.Digest() || left[0].Requests != 1 || left[0].LastUse.IsZero() || left[0].Drained.IsZero() {
		t.Fatalf("record: %+v", left)
	}
	h.until("the record is kept", func() bool {
		g, err := New(Options{Upstream: "http://127.0.0.1:1", Open: true, StateDir: stateCopy(t, dir)})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		r := g.Record()
		return r.Since.Equal(since) && len(r.Left) == 1 && r.Left[0].Drained.Equal(left[0].Drained)
	})
	h.swap(Set{Keys: []Key{b, a}})
	if r := h.g.Record(); len(r.Left) != 0 || len(r.InUse) != 2 {
		t.Errorf("after it came back: %+v", r)
	}
	g, err := New(Options{Upstream: "http://127.0.0.1:1", Open: true})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if r := g.Record(); r.Since.Before(since) || len(r.Left) != 0 {
		t.Errorf("a gateway that keeps nothing: %+v", r)
	}
}

// stateCopy gives a copy of the state file's directory, as another process would find it.
func stateCopy(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, stateFile), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestTold: events are fetched once, in order, and those of a process before are not mixed up with those of this one.
func TestTold(t *testing.T) {
	var x teller
	for i := range mostTold + 10 {
		x.add(event.Event{Text: strconv.Itoa(i)})
	}
	all := x.after("")
	if len(all.Events) != mostTold || all.Events[0].Text != "10" {
		t.Errorf("%d events, from %q", len(all.Events), all.Events[0].Text)
	}
	if again := x.after(all.Next); len(again.Events) != 0 || again.Next != all.Next || again.Lost != 0 {
		t.Errorf("again: %+v", again)
	}
	x.add(event.Event{Text: "next"})
	if more := x.after(all.Next); len(more.Events) != 1 || more.Events[0].Text != "next" {
		t.Errorf("more: %+v", more)
	}
	boot, _, _ := strings.Cut(all.Next, "-")
	if late := x.after(boot + "-3"); late.Lost != 8 || len(late.Events) != mostTold {
		t.Errorf("late: %d lost, %d events", late.Lost, len(late.Events))
	}
	for _, foreign := range []string{"other-5", "x", boot + "-99999999", boot + "-x", "-"} {
		if got := x.after(foreign); got.Next != x.after("").Next {
			t.Errorf("after %q: %s", foreign, got.Next)
		}
	}
}

// TestTryKey: a staged value is tried by a share of the sessions, over a restart too, and the canary ends with the staged value.
func TestTryKey(t *testing.T) {
	h := house(t, simulator.Options{}, Key{})
	ctx, before := t.Context(), h.place()
	fresh, _ := h.key("app", simulator.CreateKey{})
	d := fresh.Value.Digest()
	if _, err := h.client.Canary(ctx, "app", d, 10); !fault.Is(err, fault.Conflict) {
		t.Errorf("a canary of what is not staged: %v", err)
	}
	if _, err := h.client.Stage(ctx, "app", fresh.Value, PlaceExpect{Checked: true, Revision: before.Revision}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.client.Canary(ctx, "app", d, 100); !fault.Is(err, fault.Invalid) {
		t.Errorf("a share of all: %v", err)
	}
	for _, share := range []int{50, 99} {
		s, err := h.client.Canary(ctx, "app", d, share)
		if err != nil || s.Canary == nil || s.Canary.Share != int64(share) || s.ShareSince.IsZero() || !s.InForce.Same(before.Digest) {
			t.Fatalf("share %d: %+v %v", share, s, err)
		}
	}
	h.until("the new version is asked", func() bool {
		for i := range 20 {
			h.want(200, "POST", "/v1/messages", hello, "x-claude-code-session-id", strconv.Itoa(i))
		}
		return h.place().Canary.NewArm.Requests > 0
	})
	id := h.place().Canary.ID
	// Another process goes on with the same sessions.
	h.until("the canary is kept", func() bool {
		g, err := New(Options{Upstream: "http://127.0.0.1:1", Open: true, StateDir: stateCopy(t, h.dir)})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		if err := g.Follow(ctx, Source{Keys: []SourceKey{{Name: "app", Ref: keysource.Ref("file:" + h.path)}}}); err != nil {
			t.Fatal(err)
		}
		c := g.Status().Canary
		return c != nil && c.ID == id && c.Share == 99
	})
	s, err := h.client.Promote(ctx, "app", d, before.Revision)
	if err != nil || s.Canary != nil || !s.InForce.Same(d) {
		t.Fatalf("promote: %+v %v", s, err)
	}
	if h.g.Status().Canary != nil || len(h.g.Record().InUse) != 1 {
		t.Errorf("after promoting: %+v", h.g.Status())
	}
	third, _ := h.key("app", simulator.CreateKey{})
	if _, err := h.client.Stage(ctx, "app", third.Value, PlaceExpect{Checked: true, Digest: d}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.client.Canary(ctx, "app", third.Value.Digest(), 50); err != nil {
		t.Fatal(err)
	}
	if s, err := h.client.Unstage(ctx, "app", third.Value.Digest()); err != nil || s.Canary != nil || len(h.g.Record().InUse) != 1 {
		t.Errorf("unstage: %+v %v", s, err)
	}
}

// TestCanaryOfADeadValue: what the provider refuses is found by a probe, and every session is back at once.
func TestCanaryOfADeadValue(t *testing.T) {
	h := house(t, simulator.Options{}, Key{})
	ctx, before := t.Context(), h.place()
	fresh, id := h.key("app", simulator.CreateKey{})
	d := fresh.Value.Digest()
	if _, err := h.client.Stage(ctx, "app", fresh.Value, PlaceExpect{Checked: true, Revision: before.Revision}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.client.Canary(ctx, "app", d, 99); err != nil {
		t.Fatal(err)
	}
	if err := h.sim.SetStatus(id, "inactive"); err != nil {
		t.Fatal(err)
	}
	h.until("the canary stops", func() bool {
		h.want(200, "POST", "/v1/messages", hello, "x-claude-code-session-id", "a")
		c := h.place().Canary
		return c != nil && c.Stopped && c.Share == 0 && c.Why == stoppedByRefusal
	})
	if _, err := h.client.Canary(ctx, "app", d, 50); !fault.Is(err, fault.Conflict) {
		t.Errorf("a stopped canary goes on: %v", err)
	}
	if _, err := h.client.Canary(ctx, "app", d, 0); err != nil || h.place().Canary != nil {
		t.Errorf("ending it: %v", err)
	}
}

// TestCanaryKeepsTheOrder: the two versions change places with each other alone, whatever else is in the set.
func TestCanaryKeepsTheOrder(t *testing.T) {
	entries := make([]*entry, 4)
	for i := range entries {
		entries[i] = &entry{keyState: newKeyState(apikey.Digest{byte(i + 1)})}
	}
	c := &canaryState{Canary: Canary{ID: "c", Old: apikey.Digest{2}, New: apikey.Digest{3}}}
	names := func(x *exchange) string {
		var out []byte
		for _, e := range c.order(x, entries) {
			out = append(out, '0'+e.digest[0])
		}
		return string(out)
	}
	c.share.Store(0)
	if got := names(&exchange{}); got != "1234" {
		t.Errorf("at 0: %s", got)
	}
	c.share.Store(100)
	if got := names(&exchange{}); got != "1324" {
		t.Errorf("at 100: %s", got)
	}
	entries[1].domain.Store(&domain{"o", "w1"})
	entries[2].domain.Store(&domain{"o", "w2"})
	if got := names(&exchange{sticky: true}); got != "1234" {
		t.Errorf("what names a file of the old version's workspace: %s", got)
	}
	c.New = apikey.Digest{9}
	if got := names(&exchange{}); got != "1234" {
		t.Errorf("with one of them gone: %s", got)
	}
}
