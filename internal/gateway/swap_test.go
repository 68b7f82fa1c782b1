package gateway

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// TestTwentySwaps is target 2: keys change under 64 connections; nothing fails, and nothing begun after a swap uses the old key.
func TestTwentySwaps(t *testing.T) {
	w := start(t, simulator.Options{LogLimit: 1 << 20}, nil)
	k, id := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	var failed, served atomic.Int64
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for ctx.Err() == nil {
				body := hello
				if i%3 == 0 {
					body = helloStream
				}
				r, _ := http.NewRequest("POST", w.url+"/v1/messages", strings.NewReader(body))
				r.Header.Set("anthropic-version", "2023-06-01")
				res, err := w.client.Do(r)
				if err != nil {
					failed.Add(1)
					continue
				}
				b, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != 200 || i%3 == 0 && !strings.Contains(string(b), "message_stop") {
					failed.Add(1)
				}
				served.Add(1)
			}
		})
	}
	for range 20 {
		from := served.Load()
		w.until("traffic", func() bool { return served.Load() > from+100 })
		old, oldID := k, id
		k, id = w.key("primary", simulator.CreateKey{})
		w.swap(Set{Keys: []Key{k}})
		// The swap was acknowledged: the old key is reported as drained, and only then set inactive. A request on it would get 401.
		w.until("the old key is drained", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, e := range w.events {
				if e.Type == KeyDrained && e.Fields["fingerprint"] == string(old.Value.Fingerprint()) {
					return true
				}
			}
			return false
		})
		if err := w.sim.SetStatus(oldID, simulator.StatusInactive); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
	if failed.Load() != 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), served.Load())
	}
	for _, r := range w.sim.Refused() {
		t.Errorf("a retired key was used: %+v", r)
	}
	t.Logf("%d requests", served.Load())
}

func TestSwapRules(t *testing.T) {
	dir := t.TempDir()
	open := func() *Gateway {
		g, err := New(Options{Upstream: "http://127.0.0.1:1", Open: true, StateDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	g := open()
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	if err := g.Swap(Set{Generation: 7, Keys: []Key{{Name: "a", Value: a}}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind fault.Kind
		set  Set
	}{
		{fault.Conflict, Set{Generation: 7, Keys: []Key{{Value: b}}}},
		{fault.Invalid, Set{}},
		{fault.Invalid, Set{Keys: []Key{{}}}},
		{fault.Invalid, Set{Keys: []Key{{Value: a}, {Value: a}}}},
		{fault.Invalid, Set{Keys: []Key{{Value: secret.New([]byte("a\r\nb"))}}}},
	} {
		if err := g.Swap(c.set); fault.KindOf(err) != c.kind {
			t.Errorf("%+v: %v", c.set, err)
		}
	}
	if err := g.Deny(a.Digest()); err != nil {
		t.Fatal(err)
	}
	if g.Ready() {
		t.Error("ready with a denied key alone")
	}
	g.Close()
	// Both survive a restart.
	g = open()
	defer g.Close()
	if err := g.Swap(Set{Generation: 7, Keys: []Key{{Value: b}}}); !fault.Is(err, fault.Conflict) {
		t.Errorf("an old generation: %v", err)
	}
	if err := g.Swap(Set{Keys: []Key{{Value: a}}}); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a denied value: %v", err)
	}
	if err := g.Swap(Set{Keys: []Key{{Value: b}}}); err != nil || g.Generation() != 8 {
		t.Errorf("%v, generation %d", err, g.Generation())
	}
	secrettest.NoLeakIn(t, dir, nil, a, b)
	info, err := os.Stat(filepath.Join(dir, stateFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Upstream: "http://127.0.0.1:1", Open: true, StateDir: dir}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a damaged state: %v", err)
	}
}

func write(t *testing.T, path string, v secret.Value) {
	t.Helper()
	if err := os.WriteFile(path+".new", append([]byte(v.RevealString()), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestFileSource(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	path := filepath.Join(t.TempDir(), "primary.key")
	a, _ := w.key("primary", simulator.CreateKey{})
	b, idB := w.key("primary", simulator.CreateKey{})
	write(t, path, a.Value)
	s := Source{Keys: []SourceKey{{Name: "primary", Ref: keysource.Ref("file:" + path)}}, Every: 5 * time.Millisecond}
	if err := w.g.Follow(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	w.want(200, "POST", "/v1/messages", hello)
	write(t, path, b.Value)
	w.until("the new value is in use", func() bool { return w.g.Generation() == 2 })
	w.want(200, "POST", "/v1/messages", hello)
	if w.calls(idB, "/v1/messages") != 1 {
		t.Error("the new key was not used")
	}
	// A value that the provider refuses does not replace one that works.
	write(t, path, secrettest.Fake(t))
	w.until("the refused value is told", func() bool { return w.has(SourceFailed) })
	if w.g.Generation() != 2 {
		t.Error("a dead value was taken")
	}
	w.want(200, "POST", "/v1/messages", hello)
	// Nor does a file that others may read, or none.
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	w.g.Refresh()
	os.Remove(path)
	w.g.Refresh()
	w.want(200, "POST", "/v1/messages", hello)
	write(t, path, a.Value)
	w.until("the file is back", func() bool { return w.g.Generation() == 3 })
}

func TestSourceRefusals(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	path := filepath.Join(t.TempDir(), "k")
	k, _ := w.key("k", simulator.CreateKey{})
	write(t, path, k.Value)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KW_TEST_KEY", k.Value.RevealString())
	for ref, kind := range map[keysource.Ref]fault.Kind{
		keysource.Ref("file:" + path): fault.Forbidden, "file:/nonexistent": fault.NotFound, "env:KW_TEST_KEY": fault.Invalid, "cmd:/bin/echo x": fault.Invalid,
	} {
		err := w.g.Follow(context.Background(), Source{Keys: []SourceKey{{Name: "k", Ref: ref}}})
		if !fault.Is(err, kind) {
			t.Errorf("%s: %v", ref, err)
		}
		secrettest.NoLeak(t, "error", []byte(err.Error()+fault.HintOf(err)), k.Value)
	}
	if err := w.g.Follow(context.Background(), Source{Development: true, Keys: []SourceKey{{Name: "k", Ref: "env:KW_TEST_KEY"}}}); err != nil {
		t.Error(err)
	}
	w.want(200, "POST", "/v1/messages", hello)
}

// TestDrain: requests that run end, new ones are refused.
func TestDrain(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/messages" {
			began <- struct{}{}
			<-goOn
		}
	}, nil)
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	got := make(chan answer, 1)
	go func() { got <- w.do("POST", "/v1/messages", hello) }()
	<-began
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.g.Drain(ctx); !fault.Is(err, fault.Incomplete) {
		t.Errorf("drain with a request: %v", err)
	}
	w.want(503, "POST", "/v1/messages", hello)
	w.want(503, "GET", "/readyz", "")
	done := make(chan error, 1)
	go func() { done <- w.g.Drain(context.Background()) }()
	close(goOn)
	if a := <-got; a.status != 200 {
		t.Errorf("the request that ran got %d", a.status)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestCanary is target 8: the share is met, sessions stay, nobody flips back while it grows, and it stops by itself.
func TestCanary(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	oldKey, _ := w.key("old", simulator.CreateKey{})
	newKey, newID := w.key("new", simulator.CreateKey{})
	c := &Canary{ID: "r-1", New: newKey.Value.Digest(), Old: oldKey.Value.Digest(), Share: 10}
	w.swap(Set{Keys: []Key{oldKey, newKey}, Canary: c})
	w.probed()
	st := w.g.set.Load().canary
	picked := map[int]bool{}
	for _, share := range []int{10, 50, 100} {
		if err := w.g.SetCanary(share); err != nil {
			t.Fatal(err)
		}
		n := 0
		for i := range 10_000 {
			x := &exchange{session: "app\x00" + string(rune(i)) + "s"}
			isNew := st.order(x, w.g.set.Load().entries)[0].digest == c.New
			if isNew {
				n++
			}
			if picked[i] && !isNew {
				t.Fatal("a session flipped back")
			}
			picked[i] = isNew
		}
		if n < share*100-200 || n > share*100+200 {
			t.Errorf("share %d: %d of 10,000", share, n)
		}
	}
	if err := w.g.SetCanary(50); err != nil {
		t.Fatal(err)
	}
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", KeyID: newID, Status: 403})
	for i := range 2000 {
		w.do("POST", "/v1/messages", hello, "X-Claude-Code-Session-Id", "s"+string(rune('a'+i%26))+string(rune('a'+i/26%26))+"x"+string(rune('a'+i/676)))
		if w.has(CanaryStopped) {
			break
		}
	}
	w.until("the canary stops", func() bool { return w.has(CanaryStopped) })
	if s := w.g.Status().Canary; s == nil || !s.Stopped || s.Share != 0 {
		t.Errorf("%+v", s)
	}
	if err := w.g.SetCanary(10); !fault.Is(err, fault.Conflict) {
		t.Errorf("a stopped canary was set: %v", err)
	}
	for _, bad := range []Canary{{}, {ID: "x", New: c.New, Old: c.New}, {ID: "x", New: c.New, Old: apikey.Digest{1}}, {ID: "x", New: c.New, Old: c.Old, Share: 101}} {
		if err := w.g.Swap(Set{Keys: []Key{oldKey, newKey}, Canary: &bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
