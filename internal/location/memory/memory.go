// Package memory is the reference driver: a place in the memory of the process with every ability a place can have, and
// with faults on demand. It shows connector authors what the contract means, and lets the engine be tested against hundreds of
// places. It keeps nothing on disk and no configuration names it. Tests alone use it.
package memory

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// Method names a method of the driver, for delays and faults.
type Method string

// The methods.
const (
	Inspect Method = "Inspect"
	Put     Method = "Put"
	Read    Method = "Read"
	Stage   Method = "Stage"
	Promote Method = "Promote"
	Unstage Method = "Unstage"
	Reload  Method = "Reload"
	Confirm Method = "Confirm"
	Probe   Method = "Probe"
	Restore Method = "Restore"
	Remove  Method = "Remove"
	Check   Method = "Check"
)

// changes reports whether the method changes something.
func (m Method) changes() bool {
	switch m {
	case Put, Stage, Promote, Unstage, Reload, Restore, Remove:
		return true
	}
	return false
}

// Fault makes one call of a driver fail.
type Fault struct {
	// Method is the method that fails; empty means the next one of any name.
	Method Method
	// OnWrite, with an empty Method, means the next method that changes something.
	OnWrite bool
	// Kind is the kind of the error; with Cut it is Indeterminate whatever stands here.
	Kind fault.Kind
	// RetryAfter goes into the error.
	RetryAfter time.Duration
	// Cut applies the change, then loses the reply.
	Cut bool
	// Hang waits until the context ends, and applies nothing.
	Hang bool
	// Garbage gives an answer that cannot be understood; a change is applied.
	Garbage bool
	// Times is how many calls it hits; zero means one.
	Times int
}

func (f Fault) hits(m Method) bool {
	if f.Method != "" {
		return f.Method == m
	}
	return !f.OnWrite || m.changes()
}

// Call is one call that reached the place, for tests that count.
type Call struct {
	Method Method
	// Digest is that of the value or of the argument, if there is one.
	Digest apikey.Digest
	// ID is the argument of Reload.
	ID string
	// Err is the kind of the error, valid when Failed.
	Err    fault.Kind
	Failed bool
}

// version is one state of the place that held a value.
type version struct {
	value secret.Value
	ours  bool
}

// Server holds places by name. Drivers come and go, as processes do, and the places stay. It is safe for concurrent use.
type Server struct {
	mu     sync.Mutex
	now    func() time.Time
	places map[string]*Place
}

// NewServer makes a Server without places. A nil clock is time.Now.
func NewServer(now func() time.Time) *Server {
	if now == nil {
		now = time.Now
	}
	return &Server{now: now, places: map[string]*Place{}}
}

// Place gives the place of that name, and makes it when it is new: empty, with one consumer.
func (s *Server) Place(name string) *Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.places[name]
	if !ok {
		p = &Place{name: name, now: s.now, knowledge: location.ReadBack, consumers: make([]apikey.Digest, 1), neighbours: []byte("OTHER=1\n"), delays: map[Method]time.Duration{}, reloaded: map[string]bool{}}
		s.places[name] = p
	}
	return p
}

// Driver gives a new driver of the place of that name.
func (s *Server) Driver(name string) *Driver { return &Driver{place: s.Place(name)} }

// Names gives the places that exist, in order.
func (s *Server) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.places))
}

// Place is one place and its consumers. Its methods are the test's own hands: they are not subject to faults or delays.
type Place struct {
	mu         sync.Mutex
	name       string
	now        func() time.Time
	knowledge  location.Knowledge
	held       *version
	staged     *version
	older      []version
	neighbours []byte
	revision   int
	changedAt  time.Time
	consumers  []apikey.Digest
	reloads    int
	reloaded   map[string]bool
	unhealthy  func(running []apikey.Digest) error
	faults     []Fault
	delays     map[Method]time.Duration
	calls      []Call
}

// SetKnowledge makes the place tell less than its content: Label, ChangedAt or Nothing.
func (p *Place) SetKnowledge(k location.Knowledge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.knowledge = k
}

// Delay makes each call of the method take d, by a timer. An empty method means all.
func (p *Place) Delay(m Method, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delays[m] = d
}

// Break lets the next matching call fail. Several faults are used in the order in which they were given.
func (p *Place) Break(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, f)
}

// Mend takes back all faults that were not used.
func (p *Place) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Overwrite makes the place hold v as a stranger would; a zero v empties it.
func (p *Place) Overwrite(v secret.Value) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.IsZero() {
		p.hold(nil)
		return
	}
	p.hold(&version{value: v.Clone()})
}

// StageForeign stages v as a stranger would.
func (p *Place) StageForeign(v secret.Value) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.staged = &version{value: v.Clone()}
	p.touch()
}

// WithdrawForeign drops what a stranger staged.
func (p *Place) WithdrawForeign() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.staged != nil && !p.staged.ours {
		p.staged = nil
		p.touch()
	}
}

// Disturb changes the neighbours as a stranger would.
func (p *Place) Disturb(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.neighbours = bytes.Clone(b)
	p.touch()
}

// Neighbours gives what is beside the value.
func (p *Place) Neighbours() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.neighbours)
}

// Forget erases every older copy of the value with this digest, whoever wrote it.
func (p *Place) Forget(d apikey.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.older = slices.DeleteFunc(p.older, func(v version) bool { return v.value.Digest().Same(d) })
}

// Held gives the value in force, or the zero Value.
func (p *Place) Held() secret.Value {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		return secret.Value{}
	}
	return p.held.value
}

// Copies gives every value that the place keeps.
func (p *Place) Copies() []secret.Value {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []secret.Value
	for _, v := range []*version{p.held, p.staged} {
		if v != nil {
			all = append(all, v.value)
		}
	}
	for _, v := range p.older {
		all = append(all, v.value)
	}
	return all
}

// SetConsumers makes n consumers run, all with what the place holds now.
func (p *Place) SetConsumers(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.consumers = make([]apikey.Digest, n)
	p.restart()
}

// Consumers gives what each running consumer has.
func (p *Place) Consumers() []apikey.Digest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.consumers)
}

// SetHealth decides the answer of Probe from what the consumers have; nil means that all is well.
func (p *Place) SetHealth(check func(running []apikey.Digest) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unhealthy = check
}

// Reloads gives how often the consumers were restarted.
func (p *Place) Reloads() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reloads
}

// Calls gives every call that reached the place, in order.
func (p *Place) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

func (p *Place) touch() {
	p.revision++
	p.changedAt = p.now().UTC()
}

func (p *Place) hold(v *version) {
	if p.held != nil {
		p.older = append(p.older, *p.held)
	}
	p.held = v
	p.touch()
}

func (p *Place) restart() {
	var d apikey.Digest
	if p.held != nil {
		d = p.held.value.Digest()
	}
	for i := range p.consumers {
		p.consumers[i] = d
	}
}

func (p *Place) mark() string { return fmt.Sprintf("%s/%d", p.name, p.revision) }
