package gateway

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/verdict"
)

// SourceKey says where the value of a key is read.
type SourceKey struct {
	// Name is the slot.
	Name apikey.Name
	// Ref is file:PATH, or with Development env:NAME.
	Ref secret.Ref
	// Group and Workspace are those of Key.
	Group, Workspace string
}

// Source reads keys from files and puts them in force when they change.
type Source struct {
	// Keys are in the order of Set.
	Keys   []SourceKey
	Groups map[string]Group
	// Dir is where relative paths start.
	Dir string
	// Development permits the environment as a source. It is never inferred.
	Development bool
	// Every is the pause between two looks at the files; zero means 250 ms. All of them are read anew each TTL; zero means an hour.
	Every, TTL time.Duration
}

// The pause between the two equal reads that a change needs: a file that is still being written differs.
const settle = 100 * time.Millisecond

// refreshers are told to look at once: by a signal, or after a 401.
type refreshers struct {
	mu   sync.Mutex
	list []chan struct{}
}

func (r *refreshers) nudge() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.list {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Refresh makes every source look at once, as after SIGHUP. It returns before they have.
func (g *Gateway) Refresh() { g.refresh.nudge() }

// Follow reads the keys of a source, puts them in force, and goes on to watch until the gateway is closed. It returns after the first
// read, whose error it gives: kinds are those of secret.Ref and Swap. Later a source that fails leaves the last good set in force, which is
// logged and told as SourceFailed.
func (g *Gateway) Follow(ctx context.Context, s Source) error {
	if s.Every <= 0 {
		s.Every = 250 * time.Millisecond
	}
	if s.TTL <= 0 {
		s.TTL = time.Hour
	}
	if len(s.Keys) == 0 {
		return fault.New(fault.Invalid, "read keys: the source names none")
	}
	for _, k := range s.Keys {
		scheme, _, _ := strings.Cut(string(k.Ref), ":")
		if _, err := secret.ParseRef(string(k.Ref)); err != nil {
			return fault.In(err, fmt.Sprintf("read keys: %s", k.Name))
		}
		switch {
		case scheme == "env" && !s.Development:
			return fault.New(fault.Invalid, fmt.Sprintf("read keys: %s comes from the environment", k.Name), fault.Hint("use file:PATH with mode 0600; the environment is for development alone (--dev)"))
		case scheme != "file" && scheme != "env":
			return fault.New(fault.Invalid, fmt.Sprintf("read keys: %s is neither file: nor env:", k.Name))
		}
	}
	w := &watcher{g: g, s: s, nudge: make(chan struct{}, 1)}
	keys, err := w.read(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if f, err := secret.CheckAPIKey(k.Value); err != nil {
			g.log.Warn("a key has an unfamiliar form", "key", string(k.Name), "problem", err.Error())
		} else if len(f.Warnings) > 0 {
			g.log.Warn("a key has an unfamiliar form", "key", string(k.Name), "problem", strings.Join(f.Warnings, "; "))
		}
	}
	w.marks = w.look()
	if err := g.Swap(Set{Keys: keys, Groups: s.Groups}); err != nil {
		return err
	}
	w.set(keys)
	g.refresh.mu.Lock()
	g.refresh.list = append(g.refresh.list, w.nudge)
	g.refresh.mu.Unlock()
	g.spawn(w.run)
	return nil
}

// watcher follows one source.
type watcher struct {
	g       *Gateway
	s       Source
	nudge   chan struct{}
	marks   []mark
	digests []apikey.Digest
	failed  string // the last failure that was told
}

// mark is what changes with a file, links followed.
type mark struct {
	size  int64
	at    time.Time
	info  os.FileInfo
	there bool
}

func (m mark) same(o mark) bool {
	return m.there == o.there && m.size == o.size && m.at.Equal(o.at) && (!m.there || os.SameFile(m.info, o.info))
}

func (w *watcher) look() []mark {
	marks := make([]mark, len(w.s.Keys))
	for i, k := range w.s.Keys {
		path, isFile := strings.CutPrefix(string(k.Ref), "file:")
		if !isFile {
			continue
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(w.s.Dir, path)
		}
		if info, err := os.Stat(path); err == nil {
			marks[i] = mark{size: info.Size(), at: info.ModTime(), info: info, there: true}
		}
	}
	return marks
}

func (w *watcher) read(ctx context.Context) ([]Key, error) {
	keys := make([]Key, 0, len(w.s.Keys))
	for _, k := range w.s.Keys {
		v, err := k.Ref.Resolve(ctx, w.s.Dir)
		if err != nil {
			return nil, fault.In(err, fmt.Sprintf("read keys: %s", k.Name))
		}
		keys = append(keys, Key{Name: k.Name, Value: v, Group: k.Group, Workspace: k.Workspace})
	}
	return keys, nil
}

func (w *watcher) set(keys []Key) {
	w.digests = w.digests[:0]
	for _, k := range keys {
		w.digests = append(w.digests, k.Value.Digest())
	}
}

func (w *watcher) run() {
	tick := time.NewTicker(w.s.Every)
	defer tick.Stop()
	read := time.Now()
	for {
		force := false
		select {
		case <-w.g.ctx.Done():
			return
		case <-w.nudge:
			force = true
		case <-tick.C:
		}
		marks := w.look()
		changed := force || time.Since(read) >= w.s.TTL
		for i := range marks {
			changed = changed || !marks[i].same(w.marks[i])
		}
		if !changed {
			continue
		}
		read = time.Now()
		if done := w.adopt(); done {
			w.marks = marks
		}
	}
}

// adopt puts changed keys in force. It reports whether there is nothing left to do for these files.
func (w *watcher) adopt() bool {
	g := w.g
	keys, err := w.read(g.ctx)
	if err != nil {
		w.fail(err)
		return false
	}
	if w.sameAs(keys) {
		w.failed = ""
		return true
	}
	if !pause(g.ctx, settle) {
		return false
	}
	again, err := w.read(g.ctx)
	if err != nil {
		w.fail(err)
		return false
	}
	for i := range keys {
		if !keys[i].Value.Digest().Same(again[i].Value.Digest()) {
			return false // still being written; the next look finds it
		}
	}
	// A value that the provider refuses is not taken while another one works.
	for i, k := range keys {
		if i < len(w.digests) && k.Value.Digest() == w.digests[i] {
			continue
		}
		if err := usable(k.Value); err != nil {
			w.fail(fault.In(err, fmt.Sprintf("read keys: %s", k.Name)))
			return false
		}
		e := &entry{Key: k, keyState: &keyState{digest: k.Value.Digest(), forbidden: map[string]int64{}}}
		a, ok := g.probe(g.ctx, e)
		if !ok && verdict.Judge(a, time.Now()).Dead && g.Ready() {
			w.fail(fault.New(fault.Unauthenticated, fmt.Sprintf("read keys: the provider refuses the new value of %s (%s)", k.Name, k.Value.Fingerprint()), fault.Hint("see in the Console whether the key is active; the former value stays in use")))
			return false
		}
	}
	if err := g.Swap(Set{Keys: keys, Groups: w.s.Groups}); err != nil {
		w.fail(err)
		return false
	}
	w.set(keys)
	w.failed = ""
	g.log.Info("keys were taken up from their source", "generation", g.Generation(), "fingerprint", string(keys[0].Value.Fingerprint()))
	return true
}

func (w *watcher) sameAs(keys []Key) bool {
	if len(keys) != len(w.digests) {
		return false
	}
	for i, k := range keys {
		if !k.Value.Digest().Same(w.digests[i]) {
			return false
		}
	}
	return true
}

// fail tells of a failure once.
func (w *watcher) fail(err error) {
	if w.g.ctx.Err() != nil || err.Error() == w.failed {
		return
	}
	w.failed = err.Error()
	w.g.metrics.sourceFailures.Add(1)
	w.g.log.Error("the source gave no usable keys; the last good ones stay", "problem", err.Error(), "hint", fault.HintOf(err))
	w.g.tell(event.Event{Type: SourceFailed, Text: err.Error()})
}
