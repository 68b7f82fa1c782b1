package memory

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

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
			p.hold(&version{value: v.Clone(), ours: true})
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
			p.staged = &version{value: v.Clone(), ours: true}
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
	return location.NewKind("memory", nil, func(c Config, _ location.Env) (location.Driver, error) {
		if c.Place == "" {
			return nil, fault.New(fault.Invalid, "open memory: place is missing")
		}
		return s.Driver(c.Place), nil
	})
}
