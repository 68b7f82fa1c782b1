package app

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/notify"
	"github.com/keywright/keywright/internal/notify/command"
	"github.com/keywright/keywright/internal/notify/webhook"
	"github.com/keywright/keywright/internal/runner"
	"github.com/keywright/keywright/internal/store"
)

// teller builds the way in which people are told, or gives nil where no channel is configured.
func (a *App) teller() (func(ctx context.Context, n notify.Notice) error, error) {
	if len(a.Config.Notify) == 0 {
		return nil, nil
	}
	router := &notify.Router{Now: a.now, Log: a.log, Memory: told{a.Store}}
	for _, ch := range a.Config.Notify {
		c, err := a.channel(ch)
		if err != nil {
			return nil, err
		}
		router.Routes = append(router.Routes, notify.Route{Channel: c})
	}
	return func(ctx context.Context, n notify.Notice) error {
		_, err := router.Tell(ctx, n)
		return err
	}, nil
}

// tellRotation is tell for the runner, or nil where no channel is configured.
func (a *App) tellRotation() func(ctx context.Context, n runner.Notice) error {
	if a.tell == nil {
		return nil
	}
	return func(ctx context.Context, n runner.Notice) error {
		return a.tell(ctx, notify.Notice{At: a.now(), Key: n.Key, Rotation: n.Rotation, Kind: string(n.Kind), What: n.What, Wants: n.Wants, Hint: n.Hint})
	}
}

// told keeps in the store what was delivered, so that another process does not tell the same again, and the record can say who was told.
type told struct{ store *store.Store }

var _ notify.Memory = told{}

// Last implements notify.Memory.
func (m told) Last(ctx context.Context, mark string) (at time.Time, err error) {
	err = m.store.View(ctx, func(tx *store.Tx) error {
		at, err = tx.Delivered(mark)
		return err
	})
	return at, err
}

// Keep implements notify.Memory.
func (m told) Keep(ctx context.Context, mark string, r notify.Result) error {
	return m.store.Update(ctx, func(tx *store.Tx) error {
		n := r.Notice
		return tx.PutDelivery(store.Delivery{Mark: mark, At: r.At, Channel: r.Channel, Key: n.Key, Rotation: n.Rotation, Kind: n.Kind, What: n.What})
	})
}

func (a *App) channel(ch config.Channel) (notify.Channel, error) {
	if ch.Webhook == nil {
		return command.New(command.Config{Argv: ch.Command, Dir: a.Config.Dir})
	}
	w := webhook.Config{URL: ch.Webhook.URL, Now: a.now, HTTP: httpx.Options{UserAgent: "keywright/" + a.options.Version, Log: a.log}}
	if ref := ch.Webhook.Secret; ref != "" {
		w.Sign = func(message []byte) ([]byte, error) {
			v, err := ref.Resolve(context.Background(), a.Config.Dir)
			if err != nil {
				return nil, err
			}
			defer v.Destroy()
			return v.HMAC(message), nil
		}
	}
	return webhook.New(w)
}
