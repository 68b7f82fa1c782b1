package app

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/api"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/runner"
	"github.com/keywright/keywright/internal/store"
)

// ServeOptions adjusts the daemon.
type ServeOptions struct {
	// Socket is the path of the Unix socket; empty means keywright.sock in the state directory.
	Socket string
	// Group may open the socket, besides the daemon's own user.
	Group string
	// Ready is called once the socket listens and rotations are driven.
	Ready func(socket string)
}

// stopWithin bounds the ordered stop of the socket's requests.
const stopWithin = 5 * time.Second

// Serve is the daemon: it drives rotations, answers on a Unix socket and makes an audit checkpoint every hour, until ctx ends. It returns nil after
// an ordered stop. Kinds: Conflict when another daemon works on the same store.
func (a *App) Serve(ctx context.Context, o ServeOptions) error {
	if dir := a.Store.Dir(); dir != "" {
		release, err := store.DriverLock(dir)
		if err != nil {
			return err
		}
		defer func() { _ = release() }()
	}
	if o.Socket == "" {
		o.Socket = filepath.Join(a.stateDir, "keywright.sock")
	}
	l, err := api.Listen(ctx, o.Socket, o.Group)
	if err != nil {
		return err
	}
	server := api.Server(a)
	var duties sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	duties.Go(func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			cancel(fault.Wrap(fault.Unavailable, err, "serve socket"))
		}
	})
	duties.Go(func() { a.checkpoints(ctx) })
	if o.Ready != nil {
		o.Ready(o.Socket)
	}
	err = (&runner.Poller{Runner: a.Runner}).Run(ctx)
	stopping, done := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer done()
	if stopErr := server.Shutdown(stopping); stopErr != nil {
		_ = server.Close()
	}
	cause := context.Cause(ctx)
	cancel(nil)
	duties.Wait()
	if _, failed := errors.AsType[*fault.Error](cause); failed {
		return cause
	}
	return err
}

// checkpoints signs the head of the audit chain every hour.
func (a *App) checkpoints(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := a.Checkpoint(ctx); err != nil {
			a.log.Warn("no audit checkpoint", "error", err)
		}
	}
}

// Checkpoint signs the head of the audit chain, keeps the checkpoint in the store and hands it to the witness, if one is configured.
func (a *App) Checkpoint(ctx context.Context) error {
	var c audit.Checkpoint
	err := a.Store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.Record(event.Event{Type: event.CheckpointMade, Actor: a.Actor}); err != nil {
			return err
		}
		head, ok, err := tx.LastAudit()
		if err != nil || !ok {
			return err
		}
		if c, err = a.signer.Sign(head, a.now()); err != nil {
			return err
		}
		return tx.PutCheckpoint(c.Line())
	})
	if err != nil || a.Config.State.Witness == "" {
		return err
	}
	return audit.NewFileWitness(a.Config.State.Witness).Append(ctx, c)
}

// List is Rotations for the socket.
func (a *App) List(ctx context.Context, active bool) ([]rotation.Row, error) {
	return a.Rotations(ctx, store.RotationFilter{Active: active})
}

// Show is Rotation for the socket, which also takes the name of a key.
func (a *App) Show(ctx context.Context, name string) (any, error) {
	id, err := a.FindRotation(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.Rotation(ctx, id)
}

// StatusOf is Status for the socket.
func (a *App) StatusOf(ctx context.Context) (any, error) { return a.Status(ctx, nil) }

var _ api.Backend = (*App)(nil)
