// Package memory is the reference driver: a place in the memory of the process with every ability a place can have, and
// with faults on demand. It shows connector authors what the contract means, and lets the engine be tested against hundreds of
// places. It keeps nothing on disk and no configuration names it. Tests alone use it.
package memory

import (
	"bytes"
	"context"
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
	p.hold(&version{value: v})
}

// StageForeign stages v as a stranger would.
func (p *Place) StageForeign(v secret.Value) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.staged = &version{value: v}
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

// Driver is one process's access to a Place. It is safe for concurrent use.
type Driver struct{ place *Place }

var (
	_ location.Driver    = (*Driver)(nil)
	_ location.Reader    = (*Driver)(nil)
	_ location.Stager    = (*Driver)(nil)
	_ location.Promoter  = (*Driver)(nil)
	_ location.Unstager  = (*Driver)(nil)
	_ location.Reloader  = (*Driver)(nil)
	_ location.Confirmer = (*Driver)(nil)
	_ location.Prober    = (*Driver)(nil)
	_ location.Restorer  = (*Driver)(nil)
	_ location.Remover   = (*Driver)(nil)
	_ location.Checker   = (*Driver)(nil)
	_ location.Addresser = (*Driver)(nil)
)

// do runs one method under the place's lock, after its delay, and with the fault that waits for it.
func (d *Driver) do(ctx context.Context, c Call, work func(p *Place) error) error {
	p := d.place
	p.mu.Lock()
	delay, ok := p.delays[c.Method]
	if !ok {
		delay = p.delays[""]
	}
	p.mu.Unlock()
	if err := wait(ctx, delay); err != nil {
		return err
	}
	p.mu.Lock()
	f, broken := p.takeFault(c.Method)
	p.mu.Unlock()
	if broken && f.Hang {
		<-ctx.Done()
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	switch {
	case broken && (f.Cut || f.Garbage && c.Method.changes()):
		if err = work(p); err == nil {
			err = fault.New(fault.Indeterminate, "call memory: the reply was lost")
		}
	case broken && f.Garbage:
		err = fault.New(fault.Corrupt, "call memory: the reply cannot be understood")
	case broken:
		err = fault.New(f.Kind, "call memory: refused", fault.RetryAfter(f.RetryAfter))
	default:
		err = work(p)
	}
	c.Failed, c.Err = err != nil, fault.KindOf(err)
	p.calls = append(p.calls, c)
	return err
}

func (p *Place) takeFault(m Method) (Fault, bool) {
	for i, f := range p.faults {
		if f.hits(m) {
			if p.faults[i].Times--; p.faults[i].Times <= 0 {
				p.faults = slices.Delete(p.faults, i, i+1)
			}
			return f, true
		}
	}
	return Fault{}, false
}

// wait lets d pass. Nothing has reached the place when ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	if d > 0 && ctx.Err() == nil {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	switch ctx.Err() {
	case nil:
		return nil
	case context.Canceled:
		return fault.New(fault.Canceled, "call memory: stopped before it was sent")
	default:
		return fault.New(fault.Unavailable, "call memory: out of time before it was sent")
	}
}

// expected refuses with Conflict when the place is not in the expected state. The caller holds the lock.
func (p *Place) expected(e location.Expect) error {
	// The check needs the truth, whatever the place tells others.
	h := location.Holding{Present: p.held != nil, Revision: p.mark()}
	if p.held != nil {
		h.Digest = p.held.value.Digest()
	}
	if !e.Matches(h) {
		return fault.New(fault.Conflict, "write to memory: it is not in the expected state")
	}
	return nil
}

func (p *Place) receipt(replaced string) location.Receipt {
	return location.Receipt{Revision: p.mark(), Replaced: replaced, At: p.changedAt}
}

// Inspect tells what the place holds, as far as SetKnowledge lets it.
func (d *Driver) Inspect(ctx context.Context) (location.Holding, error) {
	var h location.Holding
	err := d.do(ctx, Call{Method: Inspect}, func(p *Place) error {
		h = location.Holding{Present: p.held != nil, How: p.knowledge, Revision: p.mark(), ChangedAt: p.changedAt}
		if p.staged != nil {
			h.Pending = &location.Pending{Digest: p.staged.value.Digest(), Revision: p.mark(), Ours: p.staged.ours}
		}
		if p.knowledge == location.Nothing {
			h = location.Holding{How: location.Nothing}
		}
		if p.held == nil {
			return nil
		}
		switch p.knowledge {
		case location.ReadBack:
			h.Digest = p.held.value.Digest()
		case location.Label:
			h.Fingerprint = p.held.value.Fingerprint()
		}
		return nil
	})
	return h, err
}

// Put makes the place hold v.
func (d *Driver) Put(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	var r location.Receipt
	err := d.do(ctx, Call{Method: Put, Digest: v.Digest()}, func(p *Place) error {
		if err := p.expected(expect); err != nil {
			return err
		}
		before := p.mark()
		if p.held == nil || !p.held.value.Equal(v) {
			p.hold(&version{value: v, ours: true})
		}
		r = p.receipt(before)
		return nil
	})
	return r, err
}

// Read gives out a copy of the held value.
func (d *Driver) Read(ctx context.Context) (secret.Value, error) {
	var v secret.Value
	err := d.do(ctx, Call{Method: Read}, func(p *Place) error {
		if p.held == nil {
			return fault.New(fault.NotFound, "read memory: it holds nothing")
		}
		p.held.value.Reveal(func(b []byte) { v = secret.New(bytes.Clone(b)) })
		return nil
	})
	return v, err
}

// Stage keeps v beside the held value. The place's revision moves, and Promote remembers it.
func (d *Driver) Stage(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	var r location.Receipt
	err := d.do(ctx, Call{Method: Stage, Digest: v.Digest()}, func(p *Place) error {
		if err := p.expected(expect); err != nil {
			return err
		}
		if p.staged != nil && !p.staged.ours {
			return fault.New(fault.Conflict, "stage in memory: somebody else has staged a value")
		}
		before := p.mark()
		if p.staged == nil || !p.staged.value.Equal(v) {
			p.staged = &version{value: v, ours: true}
			p.touch()
		}
		r = p.receipt(before)
		r.Facts = map[string]string{"staged": string(v.Fingerprint())}
		return nil
	})
	return r, err
}

// Promote puts in force what Stage wrote.
func (d *Driver) Promote(ctx context.Context, staged location.Receipt) (location.Receipt, error) {
	var r location.Receipt
	err := d.do(ctx, Call{Method: Promote}, func(p *Place) error {
		fp := apikey.Fingerprint(staged.Facts["staged"])
		if fp != "" && p.held != nil && p.held.value.Fingerprint() == fp && p.staged == nil {
			r = p.receipt(staged.Revision)
			return nil
		}
		if p.staged == nil || !p.staged.ours || p.staged.value.Fingerprint() != fp || p.mark() != staged.Revision {
			return fault.New(fault.Conflict, "promote in memory: the place changed since the value was staged")
		}
		before := p.mark()
		v := p.staged
		p.staged = nil
		p.hold(v)
		r = p.receipt(before)
		return nil
	})
	return r, err
}

// Unstage drops what Stage wrote.
func (d *Driver) Unstage(ctx context.Context, staged location.Receipt) error {
	return d.do(ctx, Call{Method: Unstage}, func(p *Place) error {
		if p.staged != nil && p.staged.ours && string(p.staged.value.Fingerprint()) == staged.Facts["staged"] {
			p.staged = nil
			p.touch()
		}
		return nil
	})
}

// Reload restarts the consumers, once per id.
func (d *Driver) Reload(ctx context.Context, id string) error {
	return d.do(ctx, Call{Method: Reload, ID: id}, func(p *Place) error {
		if !p.reloaded[id] {
			p.reloaded[id] = true
			p.reloads++
			p.restart()
		}
		return nil
	})
}

// Confirm counts the consumers by what they have.
func (d *Driver) Confirm(ctx context.Context, want apikey.Digest) (location.Confirmation, error) {
	c := location.Confirmation{How: location.ReadBack}
	err := d.do(ctx, Call{Method: Confirm, Digest: want}, func(p *Place) error {
		for _, has := range p.consumers {
			c.Running++
			switch {
			case has.Same(want):
				c.Taken++
			default:
				c.Old++
			}
		}
		return nil
	})
	return c, err
}

// Probe asks the check given to SetHealth.
func (d *Driver) Probe(ctx context.Context) error {
	return d.do(ctx, Call{Method: Probe}, func(p *Place) error {
		if p.unhealthy == nil {
			return nil
		}
		return p.unhealthy(slices.Clone(p.consumers))
	})
}

// Restore goes back to the value before the receipt.
func (d *Driver) Restore(ctx context.Context, promoted location.Receipt) (location.Receipt, error) {
	var r location.Receipt
	err := d.do(ctx, Call{Method: Restore}, func(p *Place) error {
		if p.mark() != promoted.Revision || len(p.older) == 0 {
			return fault.New(fault.Conflict, "restore in memory: the place changed since")
		}
		before := p.mark()
		v := p.older[len(p.older)-1]
		p.hold(&v)
		r = p.receipt(before)
		return nil
	})
	return r, err
}

// Remove drops older copies that Keywright wrote.
func (d *Driver) Remove(ctx context.Context, old apikey.Digest) error {
	return d.do(ctx, Call{Method: Remove, Digest: old}, func(p *Place) error {
		p.older = slices.DeleteFunc(p.older, func(v version) bool { return v.ours && v.value.Digest().Same(old) })
		return nil
	})
}

// Check finds nothing missing.
func (d *Driver) Check(ctx context.Context) []error {
	if err := d.do(ctx, Call{Method: Check}, func(*Place) error { return nil }); err != nil {
		return []error{err}
	}
	return nil
}

// Address is the place's name.
func (d *Driver) Address() string { return d.place.name }

// Config is the configuration of the kind "memory".
type Config struct {
	Place string `yaml:"place" help:"Name of the place on the server." required:"true"`
}

// Kind gives the kind "memory" with the places of s, for tests that assemble the whole of Keywright.
func Kind(s *Server) location.Kind {
	return location.Kind{
		Name:   "memory",
		Config: func() any { return &Config{} },
		Open: func(cfg any, _ location.Env) (location.Driver, error) {
			c, ok := cfg.(*Config)
			if !ok || c.Place == "" {
				return nil, fault.New(fault.Invalid, "open memory: place is missing")
			}
			return s.Driver(c.Place), nil
		},
	}
}

// Names gives the places that exist, in order.
func (s *Server) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.places))
}
