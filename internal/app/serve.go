package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/api"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/monitor"
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
	// ReadersListen is host:port for enrolled readers; empty does not listen. ReadersReady is called before Ready, when it listens.
	ReadersListen string
	ReadersReady  func(at net.Addr)
	// GatewayLog receives what the gateway inside tells operators, and Reload gives the configuration anew after SIGHUP; only the gateway takes that
	// up. GatewayReady is called before Ready, when the gateway inside takes requests.
	GatewayLog   *slog.Logger
	Reload       func(ctx context.Context) (*config.Config, error)
	GatewayReady func(o GatewayOptions, at net.Addr, s gateway.Status)
	// Ready is called once the socket listens and rotations are driven.
	Ready func(socket string)
}

// stopWithin bounds the ordered stop of the socket's requests.
const stopWithin = 5 * time.Second

// Serve is the daemon: it drives rotations, begins those that are due where the policy is automatic, looks at places and provider, answers on a Unix
// socket and makes an audit checkpoint every hour, until ctx ends. Where the configuration says so it runs the gateway too. It returns nil after an
// ordered stop. Kinds: Conflict when another daemon works on the same store, and those of RunGateway.
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
	var duties sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := api.Server(a, a.releaseRoute(ctx.Done()))
	duties.Go(func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			cancel(fault.Wrap(fault.Unavailable, err, "serve socket"))
		}
	})
	if o.ReadersListen != "" {
		at, err := a.serveReaders(ctx, o.ReadersListen, &duties, cancel)
		if err != nil {
			cancel(nil)
			_ = server.Close()
			duties.Wait()
			return err
		}
		if o.ReadersReady != nil {
			o.ReadersReady(at)
		}
	}
	if err := a.serveGateway(ctx, o, &duties, cancel); err != nil {
		cancel(nil)
		_ = server.Close()
		duties.Wait()
		return err
	}
	duties.Go(func() { a.every(ctx, time.Hour, time.Hour, "sign an audit checkpoint", a.Checkpoint) })
	if len(a.gateways()) > 0 {
		duties.Go(func() { a.every(ctx, 0, heedEvery, "take in what gateways tell", a.heed) })
		duties.Go(func() { a.every(ctx, 0, time.Minute, "refuse compromised values at gateways", a.denyCompromised) })
	}
	duties.Go(func() { a.every(ctx, 0, time.Minute, "begin rotations that are due", a.schedule) })
	duties.Go(func() { a.every(ctx, time.Minute, lookEvery, "look at places and keys", a.lookAround) })
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

// serveGateway begins with the gateway, where the configuration wants it inside, and returns when it takes requests or cannot be begun. One that fails
// later ends the daemon.
func (a *App) serveGateway(ctx context.Context, o ServeOptions, duties *sync.WaitGroup, fail context.CancelCauseFunc) error {
	if a.Config.Gateway == nil || !a.Config.Gateway.Serve {
		return nil
	}
	log := o.GatewayLog
	if log == nil {
		log = a.log
	}
	options, err := ConfiguredGateway(ctx, a.Config, log)
	if err != nil {
		return err
	}
	options.Version = a.options.Version
	options.OpenKey = func(ref keysource.Ref) (keysource.Reader, error) {
		return a.OpenKey(ref, "gateway", a.Config.Gateway.Development)
	}
	if o.Reload != nil {
		options.Again = func(ctx context.Context) (GatewayOptions, error) {
			c, err := o.Reload(ctx)
			if err != nil {
				return GatewayOptions{}, err
			}
			return ConfiguredGateway(ctx, c, log)
		}
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	options.Ready = func(at net.Addr, s gateway.Status) {
		if o.GatewayReady != nil {
			o.GatewayReady(options, at, s)
		}
		close(ready)
	}
	duties.Go(func() {
		err := RunGateway(ctx, options)
		ended <- err
		if err != nil {
			fail(err)
		}
	})
	select {
	case <-ready:
		return nil
	case err := <-ended:
		return err
	}
}

// lookEvery is how often the daemon looks at every place and asks the provider about every key in use.
const lookEvery = 15 * time.Minute

// every does a duty after first, and then again and again, until ctx ends. One that fails is logged by its name, and tried at its next time.
func (a *App) every(ctx context.Context, first, pause time.Duration, name string, duty func(context.Context) error) {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := duty(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("a duty of the daemon was not done", "duty", name, "error", err)
		}
		timer.Reset(pause)
	}
}

func (a *App) schedule(ctx context.Context) error {
	row, ok, waits, err := a.Schedule(ctx)
	if ok {
		a.log.Info("scheduled rotation begun", "rotation", row.ID, "key", string(row.Key))
	}
	for _, w := range waits {
		a.log.Debug("scheduled rotation waits", "key", string(w.Key), "why", w.Why)
	}
	return err
}

func (a *App) lookAround(ctx context.Context) error {
	_, err := a.Status(ctx, func(monitor.Progress) {})
	return err
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
