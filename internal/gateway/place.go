package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/verdict"
)

// PlaceState is one key of a gateway as a place of a rotation: what the file holds that it is read from, what is staged beside it, and what requests
// use. It holds no value.
type PlaceState struct {
	Key apikey.Name `json:"key"`
	Now time.Time   `json:"now"`
	// Present, Digest, Revision and ChangedAt are of the file.
	Present   bool          `json:"present"`
	Digest    apikey.Digest `json:"digest,omitzero"`
	Revision  string        `json:"revision,omitempty"`
	ChangedAt time.Time     `json:"changed_at,omitzero"`
	// Staged is the value that waits beside it, zero for none.
	Staged apikey.Digest `json:"staged,omitzero"`
	// InForce is what requests that begin now use, zero for none. A canary uses Staged besides.
	InForce apikey.Digest `json:"in_force,omitzero"`
	// Leaving are former values of the key with requests under way.
	Leaving []LeftValue `json:"leaving,omitempty"`
	// Last is the former value that left last, with no request under way.
	Last *LeftValue `json:"last,omitempty"`
	// Canary compares the staged value with the one in force; its share is what it is since ShareSince.
	Canary     *CanaryStatus `json:"canary,omitempty"`
	ShareSince time.Time     `json:"share_since,omitzero"`
	// Problem says why the file could not be written, or is empty.
	Problem string `json:"problem,omitempty"`
}

// PlaceExpect is the state that a writer saw before; the zero PlaceExpect accepts any.
type PlaceExpect struct {
	Checked, Absent bool
	Revision        string
	Digest          apikey.Digest
}

func (e PlaceExpect) matches(s PlaceState) bool {
	switch {
	case !e.Checked:
		return true
	case e.Absent || !s.Present:
		return e.Absent && !s.Present
	case e.Revision != "" && e.Revision != s.Revision:
		return false
	}
	return !e.Digest.Known() || e.Digest == s.Digest
}

// keyPlaces serialises the changes of key files that come over the status socket.
type keyPlaces struct {
	mu sync.Mutex

	changeMu sync.Mutex
	change   chan struct{} // closed when another set is in force
}

// inForceWithin is how long a change waits until the value that was written is in force. One that takes longer is confirmed later.
const inForceWithin = 3 * time.Second

// placeOf finds where a key is read. Kinds: NotFound (no such key), Unsupported (it is not read from a file).
func (g *Gateway) placeOf(name apikey.Name) (*feed, string, error) {
	f := g.refresh.feed(name)
	if f == nil {
		return nil, "", fault.Newf(fault.NotFound, "find key %q: the gateway has none of this name", string(name))
	}
	path, err := f.file()
	return f, path, err
}

// file gives the file that the key is read from, links followed.
func (f *feed) file() (string, error) {
	path, isFile := strings.CutPrefix(string(f.key.Ref), "file:")
	if !isFile {
		return "", fault.Newf(fault.Unsupported, "find key %q: the gateway does not read it from a file", string(f.key.Name))
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(f.w.s.Dir, path)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return path, nil
}

// stagedPath is where a staged value waits.
func stagedPath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".keywright-staged")
}

// lookAt reads a key file. One that is not there, or empty, gives no digest and no error.
func lookAt(path string) (d apikey.Digest, revision string, at time.Time, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, "", at, nil
	}
	if err != nil {
		return d, "", at, fault.New(fault.Forbidden, "look at key file: it cannot be reached")
	}
	v, err := secret.Ref("file:"+path).Resolve(context.Background(), "")
	if err != nil && info.Size() > 0 {
		return d, "", at, fault.In(err, "look at key file")
	}
	if err == nil {
		d = v.Digest()
		v.Destroy()
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %d %x", info.Size(), info.ModTime().UnixNano(), d)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		fmt.Fprintf(h, " %d %d", st.Dev, st.Ino)
	}
	return d, hex.EncodeToString(h.Sum(nil)[:16]), info.ModTime().UTC(), nil
}

// Place says how a key stands. What a killed process left beside the file is erased. Kinds: NotFound, Unsupported, and those of reading the file.
func (g *Gateway) Place(name apikey.Name) (PlaceState, error) {
	_, path, err := g.placeOf(name)
	if err != nil {
		return PlaceState{}, err
	}
	if g.keyPlaces.mu.TryLock() { // nobody writes
		sweepKeys(path)
		g.keyPlaces.mu.Unlock()
	}
	return g.placeState(name, path)
}

func (g *Gateway) placeState(name apikey.Name, path string) (PlaceState, error) {
	s := PlaceState{Key: name, Now: time.Now().UTC()}
	var err error
	if s.Digest, s.Revision, s.ChangedAt, err = lookAt(path); err != nil {
		return s, err
	}
	if s.Present = s.Digest.Known(); !s.Present {
		s.ChangedAt = time.Time{}
	}
	if s.Staged, _, _, err = lookAt(stagedPath(path)); err != nil {
		return s, err
	}
	set := g.set.Load()
	for _, e := range set.entries {
		if e.Name == name && !s.InForce.Known() {
			s.InForce = e.digest
		}
	}
	if set.canary != nil && set.canary.Old == s.InForce {
		c := set.canary.status()
		s.Canary = &c
		if t := g.trials.kept(); t != nil {
			s.ShareSince = t.Since
		}
	}
	_, left := g.left.kept()
	for _, v := range left {
		switch {
		case v.Key != name:
		case v.Drained.IsZero():
			s.Leaving = append(s.Leaving, v)
		default:
			s.Last = &v
		}
	}
	if syscall.Access(filepath.Dir(path), 0x2|0x1) != nil { // W_OK and X_OK
		s.Problem = "directory"
	}
	return s, nil
}

// PutKey writes a value into the file that a key is read from, and puts it in force at once: when it returns, requests that begin later use it, but for
// a provider that takes long to answer. A value that the provider refuses is not written while another key works, unless any state is
// accepted: that is an emergency, which has asked already. Kinds: Conflict (not the expected state), Unauthenticated (the provider refuses it),
// Forbidden (compromised), NotFound, Unsupported, Invalid, and those of writing.
func (g *Gateway) PutKey(ctx context.Context, name apikey.Name, v secret.Value, e PlaceExpect) (PlaceState, error) {
	g.keyPlaces.mu.Lock()
	defer g.keyPlaces.mu.Unlock()
	f, path, before, err := g.mayWrite(name, v, e)
	if err != nil {
		return before, err
	}
	if before.Digest.Same(v.Digest()) {
		f.bring(ctx, v.Digest())
		return g.placeState(name, path)
	}
	if err := g.acceptable(ctx, f, v, e); err != nil {
		return before, err
	}
	f.trust(v.Digest())
	if err := writeKey(path, v); err != nil {
		return before, err
	}
	f.bring(ctx, v.Digest())
	// What waited beside it has no use any more.
	if err := f.endTrial(); err != nil {
		return before, err
	}
	if err := removeKey(stagedPath(path)); err != nil {
		return before, err
	}
	return g.placeState(name, path)
}

// StageKey writes a value beside the file, where no request uses it. Staging another value replaces what was staged. Kinds are those of PutKey.
func (g *Gateway) StageKey(ctx context.Context, name apikey.Name, v secret.Value, e PlaceExpect) (PlaceState, error) {
	g.keyPlaces.mu.Lock()
	defer g.keyPlaces.mu.Unlock()
	f, path, before, err := g.mayWrite(name, v, e)
	if err != nil {
		return before, err
	}
	if err := g.acceptable(ctx, f, v, e); err != nil {
		return before, err
	}
	if !before.Staged.Same(v.Digest()) {
		if err := f.endTrial(); err != nil {
			return before, err
		}
		if err := writeKey(stagedPath(path), v); err != nil {
			return before, err
		}
	}
	return g.placeState(name, path)
}

// UnstageKey takes a staged value away, and with it a canary of it. Another staged value stays.
func (g *Gateway) UnstageKey(name apikey.Name, d apikey.Digest) (PlaceState, error) {
	g.keyPlaces.mu.Lock()
	defer g.keyPlaces.mu.Unlock()
	f, path, err := g.placeOf(name)
	if err != nil {
		return PlaceState{}, err
	}
	s, err := g.placeState(name, path)
	if err != nil || !s.Staged.Same(d) {
		return s, err
	}
	if err := f.endTrial(); err != nil {
		return s, err
	}
	if err := removeKey(stagedPath(path)); err != nil {
		return s, err
	}
	return g.placeState(name, path)
}

// PromoteKey puts the staged value in force, when the file is still in the state in which it was when it was staged. Promoting what is in the file
// already succeeds. Kinds are those of PutKey.
func (g *Gateway) PromoteKey(ctx context.Context, name apikey.Name, d apikey.Digest, base string) (PlaceState, error) {
	g.keyPlaces.mu.Lock()
	defer g.keyPlaces.mu.Unlock()
	f, path, err := g.placeOf(name)
	if err != nil {
		return PlaceState{}, err
	}
	before, err := g.placeState(name, path)
	switch {
	case err != nil:
		return before, err
	case before.Digest.Same(d):
		f.bring(ctx, d)
		return g.placeState(name, path)
	case base != "" && base != before.Revision:
		return before, fault.New(fault.Conflict, "promote key: the file changed since the value was staged")
	case !before.Staged.Same(d):
		return before, fault.New(fault.Conflict, "promote key: the value is not staged any more")
	}
	f.trust(d)
	if err := moveKey(stagedPath(path), path); err != nil {
		return before, err
	}
	f.bring(ctx, d)
	if err := f.endTrial(); err != nil {
		return before, err
	}
	return g.placeState(name, path)
}

// mayWrite looks at the state before a write.
func (g *Gateway) mayWrite(name apikey.Name, v secret.Value, e PlaceExpect) (*feed, string, PlaceState, error) {
	f, path, err := g.placeOf(name)
	if err != nil {
		return nil, "", PlaceState{}, err
	}
	if err := usable(v); err != nil {
		return nil, "", PlaceState{}, fault.In(err, "write key")
	}
	s, err := g.placeState(name, path)
	switch {
	case err != nil:
	case !e.matches(s):
		err = fault.New(fault.Conflict, "write key: the file is not in the state that was seen before")
	case g.refuses(v.Digest()):
		err = fault.Newf(fault.Forbidden, "write key: %s is compromised", v.Fingerprint())
	}
	return f, path, s, err
}

// acceptable asks the provider about a value, unless it is an emergency.
func (g *Gateway) acceptable(ctx context.Context, f *feed, v secret.Value, e PlaceExpect) error {
	if !e.Checked || !g.Ready() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, inForceWithin)
	defer cancel()
	asked := &entry{Key: Key{Name: f.key.Name, Value: v, Group: f.key.Group, Workspace: f.key.Workspace}, keyState: newKeyState(v.Digest())}
	if a, ok := g.probe(ctx, asked); !ok && verdict.Judge(a, time.Now()).Dead {
		return fault.Newf(fault.Unauthenticated, "write key: the provider refuses %s", v.Fingerprint())
	}
	return nil
}

// writeKey replaces a key file in one step by one of mode 0600 of the same owner.
func writeKey(path string, v secret.Value) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".keywright-new-*") // 0600
	if err != nil {
		return fault.New(fault.Forbidden, "write key: the directory of the file cannot be written")
	}
	defer func() { _ = os.Remove(f.Name()) }() // after the rename the name is gone
	if info, look := os.Stat(path); look == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
			err = f.Chown(int(st.Uid), int(st.Gid))
		}
	}
	v.Reveal(func(b []byte) {
		if err == nil {
			_, err = f.Write(b)
		}
	})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fault.New(fault.Unavailable, "write key: the file could not be written whole")
	}
	return moveKey(f.Name(), path)
}

func moveKey(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fault.New(fault.Forbidden, "write key: the file could not be put in its place")
	}
	return keyfile.SyncDir(filepath.Dir(to))
}

func removeKey(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Forbidden, "take staged key away: the file could not be removed")
	}
	return keyfile.SyncDir(filepath.Dir(path))
}

// sweepKeys removes what a process that was killed left beside a key file while it wrote.
func sweepKeys(path string) {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".keywright-new-*"))
	if err != nil {
		return
	}
	for _, p := range left {
		_ = os.Remove(p) // what cannot be removed is tried again at the next look
	}
}

// trust says that a value that will stand in the place is whole and accepted, so that it is taken up without a second look.
func (f *feed) trust(d apikey.Digest) { f.trusted.Store(&d) }

func (f *feed) trusts(d apikey.Digest) bool {
	t := f.trusted.Load()
	return t != nil && t.Same(d)
}

// bring waits until a value of the place is in force, for a while.
func (f *feed) bring(ctx context.Context, d apikey.Digest) bool {
	ctx, cancel := context.WithTimeout(ctx, inForceWithin)
	defer cancel()
	for {
		taken := f.w.g.changed()
		if f.digest() == d && slices.ContainsFunc(f.w.g.set.Load().entries, func(e *entry) bool { return e.Name == f.key.Name && e.digest == d }) {
			return true
		}
		select {
		case f.nudge <- struct{}{}:
		default:
		}
		select {
		case <-taken:
		case <-ctx.Done():
			return false
		}
	}
}

// valueChange is one of the methods that write a value.
type valueChange func(ctx context.Context, name apikey.Name, v secret.Value, e PlaceExpect) (PlaceState, error)

// changed gives a channel that is closed when another set is in force than when it was asked for.
func (g *Gateway) changed() <-chan struct{} {
	g.keyPlaces.changeMu.Lock()
	defer g.keyPlaces.changeMu.Unlock()
	if g.keyPlaces.change == nil {
		g.keyPlaces.change = make(chan struct{})
	}
	return g.keyPlaces.change
}

// announce wakes who waits for another set.
func (g *Gateway) announce() {
	g.keyPlaces.changeMu.Lock()
	defer g.keyPlaces.changeMu.Unlock()
	if g.keyPlaces.change != nil {
		close(g.keyPlaces.change)
		g.keyPlaces.change = nil
	}
}
