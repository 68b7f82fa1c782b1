package runner

import (
	"context"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// Poller is the embedded driver: it claims rotations that are due and advances them, each in a goroutine of its own. Several pollers may
// share a store.
type Poller struct {
	Runner *Runner
	// Every is the pause between two looks for due rotations; zero means half a second.
	Every time.Duration
	// Parallel bounds the rotations in hand; zero means 64.
	Parallel int
}

// Run works until ctx ends, and then until every rotation in hand is given back. It returns nil after an ordered stop. Trouble with the
// store is logged and waited out: a daemon does not die of it.
func (p *Poller) Run(ctx context.Context) error {
	every, parallel := p.Every, p.Parallel
	if every <= 0 {
		every = time.Second / 2
	}
	if parallel <= 0 {
		parallel = 64
	}
	var hands sync.WaitGroup
	defer hands.Wait()
	free := make(chan struct{}, parallel)
	for {
		free <- struct{}{}
		row, ok, err := p.Runner.Store.Claim(ctx, p.Runner.Owner, Lease)
		if err == nil && ok {
			hands.Go(func() {
				defer func() { <-free }()
				if _, err := p.Runner.advance(ctx, row); err != nil && !fault.Is(err, fault.Canceled) {
					p.Runner.Log.Warn("rotation left", "rotation", row.ID, "kind", fault.KindOf(err).String(), "error", err)
				}
			})
			continue
		}
		<-free
		if err != nil && ctx.Err() == nil {
			p.Runner.Log.Warn("store not readable", "kind", fault.KindOf(err).String(), "error", err)
		}
		pause := time.NewTimer(every)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		}
	}
}

// Follow drives one rotation until it ends or ctx does, waiting out its sleeps; it is the driver of the command line. While another driver has
// the rotation it only watches. look is called with the rotation each time it changed. The error is of kind Canceled when ctx ended first: the
// rotation is then given back and goes on elsewhere.
func (r *Runner) Follow(ctx context.Context, id string, look func(rotation.Row)) error {
	ended := func(err error) error {
		if ctx.Err() != nil { // whatever was under way then
			return fault.Wrap(fault.Canceled, context.Cause(ctx), "follow rotation "+id)
		}
		return err
	}
	var last rotation.Row
	for {
		row, err := r.row(ctx, id)
		if err != nil {
			return ended(err)
		}
		if row.Updated != last.Updated || row.Status != last.Status || row.Signals != last.Signals {
			last = row
			look(row)
		}
		if row.Status.Ended() {
			return nil
		}
		if !row.WakeAt.After(r.Now()) {
			if _, err := r.Advance(ctx, id); err == nil {
				continue
			} else if !fault.Is(err, fault.Conflict) {
				return ended(err)
			}
		}
		pause := time.NewTimer(watchEvery)
		select {
		case <-ctx.Done():
			pause.Stop()
			return ended(nil)
		case <-pause.C:
		}
	}
}

func (r *Runner) row(ctx context.Context, id string) (row rotation.Row, err error) {
	err = r.Store.View(ctx, func(tx *store.Tx) error {
		row, err = tx.Rotation(id)
		return err
	})
	return row, err
}
