package gateway

import (
	"crypto/rand"
	"strconv"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// trial is the canary of a staged value. The state file keeps it, so that a restarted gateway goes on with the same sessions.
type trial struct {
	ID      string        `json:"id"`
	Key     apikey.Name   `json:"key"`
	Old     apikey.Digest `json:"old"`
	New     apikey.Digest `json:"new"`
	Share   int           `json:"share"`
	Since   time.Time     `json:"since"` // of the share
	Stopped string        `json:"stopped,omitempty"`
}

// trials holds the one canary that a gateway may have.
type trials struct {
	mu      sync.Mutex
	current *trial
	value   secret.Value // of New, read from where it is staged
}

func (t *trials) kept() *trial {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil {
		return nil
	}
	c := *t.current
	return &c
}

func (t *trials) set(c *trial, v secret.Value) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current, t.value = c, v
}

// stopped keeps that a canary stopped by itself.
func (t *trials) stopped(g *Gateway, id, why string) {
	t.mu.Lock()
	same := t.current != nil && t.current.ID == id
	if same {
		t.current.Share, t.current.Stopped, t.current.Since = 0, why, time.Now().UTC()
	}
	t.mu.Unlock()
	if same {
		_ = g.keepState() // without it a restarted gateway begins the canary anew, and stops it again
	}
}

// beside gives what stands beside the value of a feed in the set: the staged value, while it is tried and the held one is what it is compared with.
func (t *trials) beside(f *feed, held apikey.Digest) (Key, *Canary) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.current
	if c == nil || c.Key != f.key.Name || c.Old != held {
		return Key{}, nil
	}
	if t.value.IsZero() {
		path, err := f.file()
		if err == nil {
			t.value, err = secret.Ref("file:"+stagedPath(path)).Resolve(f.w.g.ctx, "")
		}
		if err != nil || !t.value.Digest().Same(c.New) {
			t.current, t.value = nil, secret.Value{}
			return Key{}, nil
		}
	}
	return Key{Name: f.key.Name, Value: t.value, Group: f.key.Group, Workspace: f.key.Workspace}, &Canary{ID: c.ID, New: c.New, Old: c.Old, Share: c.Share, Stopped: c.Stopped}
}

// TryKey gives a share of the sessions, 1 to 99 of a hundred, to the staged value of a key. A session that is once on the new version stays there while
// the share grows. Share 0 ends the canary. Kinds: Conflict (the value is not staged, the file is not in force, or the canary has stopped by
// itself), Unavailable (another key has a canary), Invalid, and those of Place.
func (g *Gateway) TryKey(name apikey.Name, d apikey.Digest, share int) (PlaceState, error) {
	g.keyPlaces.mu.Lock()
	defer g.keyPlaces.mu.Unlock()
	f, path, err := g.placeOf(name)
	if err != nil {
		return PlaceState{}, err
	}
	s, err := g.placeState(name, path)
	if err != nil {
		return s, err
	}
	c := g.trials.kept()
	switch {
	case share < 0 || share > 99:
		return s, fault.New(fault.Invalid, "try key: the share is 0 to 99; promote it to use it for all")
	case share == 0:
		if err := f.endTrial(); err != nil {
			return s, err
		}
		return g.placeState(name, path)
	case !s.Staged.Same(d):
		return s, fault.New(fault.Conflict, "try key: the value is not staged")
	case !s.InForce.Same(s.Digest):
		return s, fault.New(fault.Conflict, "try key: requests do not use what the key file holds")
	case c != nil && c.Key != name:
		return s, fault.New(fault.Unavailable, "try key: another key has a canary", fault.RetryAfter(time.Minute))
	case c != nil && c.New == d && c.Old == s.Digest && c.Stopped != "":
		return s, fault.New(fault.Conflict, "try key: the canary has stopped: "+c.Stopped)
	}
	if c == nil || c.New != d || c.Old != s.Digest {
		if err := f.endTrial(); err != nil {
			return s, err
		}
		v, err := secret.Ref("file:"+stagedPath(path)).Resolve(g.ctx, "")
		if err != nil {
			return s, fault.In(err, "try key")
		}
		c = &trial{ID: "c-" + rand.Text()[:12], Key: name, Old: s.Digest, New: d}
		c.Share, c.Since = share, time.Now().UTC()
		g.trials.set(c, v)
		if err := f.w.recompose(); err != nil {
			return s, err
		}
		g.tell(event.Event{Type: CanaryShare, Key: name, Fields: map[string]string{"canary": c.ID, "share": strconv.Itoa(share), "fingerprint": string(d.Fingerprint())}})
		return g.placeState(name, path)
	}
	if err := g.SetCanary(share); err != nil {
		return s, err
	}
	g.trials.mu.Lock()
	if g.trials.current != nil && g.trials.current.Stopped == "" {
		g.trials.current.Share, g.trials.current.Since = share, time.Now().UTC()
	}
	g.trials.mu.Unlock()
	if err := g.keepState(); err != nil {
		return s, err
	}
	return g.placeState(name, path)
}

// endTrial ends the canary of a key, if it has one: every session that begins or goes on uses what the key file holds.
func (f *feed) endTrial() error {
	g := f.w.g
	if c := g.trials.kept(); c == nil || c.Key != f.key.Name {
		return nil
	}
	g.trials.set(nil, secret.Value{})
	if err := f.w.recompose(); err != nil {
		return err
	}
	return g.keepState()
}

// recompose puts in force what the feeds hold.
func (w *watcher) recompose() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.compose(false)
}

// keepState writes the state file.
func (g *Gateway) keepState() error {
	g.swapMu.Lock()
	defer g.swapMu.Unlock()
	return g.persist(g.set.Load().generation)
}
