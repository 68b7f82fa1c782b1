package gateway

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/gateway/queue"
	"github.com/keywright/keywright/internal/secret"
)

const stateFile = "gateway-keys.json"

// kept is what survives a restart: no value, and nothing from which one could be made.
type kept struct {
	Generation uint64          `json:"generation"`
	Denied     []apikey.Digest `json:"denied"`
	// Since is when the record of Left begins, the values that were in a set and are not any more.
	Since time.Time   `json:"since,omitzero"`
	Left  []LeftValue `json:"left,omitempty"`
	Trial *trial      `json:"trial,omitempty"`
	// Sources holds the largest generation that each place has given, by its reference.
	Sources map[string]uint64 `json:"sources,omitempty"`
}

// load reads the state file. One that is damaged stops the gateway: without the list a compromised value could come back.
func (g *Gateway) load() error {
	g.left.load(time.Time{}, nil)
	if g.o.StateDir == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(g.o.StateDir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "read gateway state")
	}
	var k kept
	if json.Unmarshal(b, &k) != nil {
		return fault.New(fault.Corrupt, "read gateway state: "+stateFile+" is damaged", fault.Hint("it lists compromised keys; restore it, or remove it when there are none"))
	}
	for _, d := range k.Denied {
		g.denied[d] = true
	}
	g.left.load(k.Since, k.Left)
	g.trials.set(k.Trial, secret.Value{})
	g.refresh.counts = k.Sources
	g.set.Store(&keySet{generation: k.Generation})
	return nil
}

// generation gives what load has read.
func (g *Gateway) generation() uint64 {
	if s := g.set.Load(); s != nil {
		return s.generation
	}
	return 0
}

// persist writes the state file whole or not at all. The caller holds swapMu.
func (g *Gateway) persist(generation uint64) error {
	if g.o.StateDir == "" {
		return nil
	}
	k := kept{Generation: generation, Sources: g.refresh.counts}
	k.Since, k.Left = g.left.kept()
	k.Trial = g.trials.kept()
	for d := range g.denied {
		k.Denied = append(k.Denied, d)
	}
	b, err := json.Marshal(k)
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "write gateway state")
	}
	if err := os.MkdirAll(g.o.StateDir, 0o700); err != nil {
		return fault.Wrap(fault.Forbidden, err, "make state directory")
	}
	f, err := os.CreateTemp(g.o.StateDir, "."+stateFile+"-*")
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "write gateway state")
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(g.o.StateDir, stateFile))
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "write gateway state")
	}
	return nil
}

// Status is what keywright gateway status shows. It holds no value.
type Status struct {
	Generation uint64          `json:"generation"`
	Ready      bool            `json:"ready"`
	Draining   bool            `json:"draining"`
	Active     int64           `json:"active"`
	Upstream   string          `json:"upstream"`
	Keys       []KeyStatus     `json:"keys"`
	Limits     []LimitStatus   `json:"limits"`
	Breakers   []BreakerStatus `json:"breakers"`
	Sources    []SourceStatus  `json:"sources,omitempty"`
	Canary     *CanaryStatus   `json:"canary,omitempty"`
	// Degraded lists why requests are kept from the provider, or let through in part.
	Degraded []DegradedStatus `json:"degraded"`
	// Queue counts what waits and what is kept, where there is a queue.
	Queue *queue.Depth `json:"queue,omitempty"`
}

// KeyStatus is one key. State is the phase, or "cooling" for a healthy key with a limit on it, or "leaving" for one that left the set with requests on it.
type KeyStatus struct {
	Key          apikey.Name        `json:"key"`
	Fingerprint  apikey.Fingerprint `json:"fingerprint"`
	Role         string             `json:"role"` // primary, canary, backup, old
	State        string             `json:"state"`
	Since        time.Time          `json:"since"`
	InFlight     int64              `json:"in_flight"`
	Requests     int64              `json:"requests"`
	LastUse      time.Time          `json:"last_use,omitzero"`
	Organization string             `json:"organization,omitempty"`
	Workspace    string             `json:"workspace,omitempty"`
	Forbidden    map[string]int64   `json:"forbidden,omitempty"` // 403s by class of model
}

// LimitStatus is a scope that is kept free.
type LimitStatus struct {
	Scope        string    `json:"scope"`
	Organization string    `json:"organization,omitempty"`
	Workspace    string    `json:"workspace,omitempty"`
	Class        string    `json:"class,omitempty"`
	Row          string    `json:"row"`
	Until        time.Time `json:"until"`
}

// BreakerStatus is an open breaker.
type BreakerStatus struct {
	Model string    `json:"model"`
	Until time.Time `json:"until"`
}

// Status gives the state of now.
func (g *Gateway) Status() Status {
	set := g.set.Load()
	u := *g.upstream
	s := Status{Generation: set.generation, Ready: g.Ready(), Draining: g.draining.Load(), Active: g.active.Load(), Upstream: u.Scheme + "://" + u.Host,
		Keys: []KeyStatus{}, Limits: []LimitStatus{}, Breakers: []BreakerStatus{}, Sources: g.refresh.status()}
	now := time.Now()
	in := map[*keyState]bool{}
	for i, e := range set.entries {
		in[e.keyState] = true
		k := e.status()
		switch k.Role = "backup"; {
		case i == 0:
			k.Role = "primary"
		case set.canary != nil && set.canary.New == e.digest && set.canary.share.Load() > 0:
			k.Role = "canary"
		}
		if until, _ := g.scopes.blocked(e.where(), "", now); e.is(Healthy) && !until.IsZero() {
			k.State = "cooling"
		}
		s.Keys = append(s.Keys, k)
	}
	g.swapMu.Lock()
	for _, st := range g.states {
		if !in[st] && st.inFlight.Load() > 0 {
			k := st.status()
			k.Role, k.State = "old", "leaving"
			s.Keys = append(s.Keys, k)
		}
	}
	g.swapMu.Unlock()
	g.scopes.mu.Lock()
	for _, c := range g.scopes.list {
		s.Limits = append(s.Limits, LimitStatus{Scope: c.kind.String(), Organization: c.domain.organization, Workspace: c.domain.workspace, Class: c.class, Row: c.row, Until: c.until.UTC()})
	}
	g.scopes.mu.Unlock()
	g.breaker.mu.RLock()
	for _, b := range g.breaker.by {
		b.mu.Lock()
		if !b.open.IsZero() {
			// The name of a model comes from a caller; only plain ones are shown.
			model := b.model
			if !object.PlainID(model) {
				model = "other"
			}
			s.Breakers = append(s.Breakers, BreakerStatus{Model: model, Until: b.open.UTC()})
		}
		b.mu.Unlock()
	}
	g.breaker.mu.RUnlock()
	s.Degraded = g.degradedStatus()
	if g.queue.q != nil {
		d := g.queue.q.Depth()
		s.Queue = &d
	}
	if set.canary != nil {
		c := set.canary.status()
		s.Canary = &c
	}
	return s
}

func (s *keyState) status() KeyStatus {
	d := s.where()
	k := KeyStatus{Fingerprint: s.print, State: Phase(s.phase.Load()).String(), InFlight: s.inFlight.Load(), Requests: s.used.Load(),
		Organization: d.organization, Workspace: d.workspace}
	if at := s.lastUse.Load(); at != 0 {
		k.LastUse = time.Unix(0, at).UTC()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k.Key, k.Since = s.name, s.since.UTC()
	for class, n := range s.forbidden {
		if k.Forbidden == nil {
			k.Forbidden = map[string]int64{}
		}
		k.Forbidden[class] = n
	}
	return k
}
