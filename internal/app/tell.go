package app

import (
	"context"

	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/notify"
	"github.com/keywright/keywright/internal/notify/command"
	"github.com/keywright/keywright/internal/notify/webhook"
	"github.com/keywright/keywright/internal/runner"
)

// teller builds the way in which people are told, or gives nil where no channel is configured.
func (a *App) teller() (func(ctx context.Context, n runner.Notice) error, error) {
	if len(a.Config.Notify) == 0 {
		return nil, nil
	}
	router := &notify.Router{Now: a.now, Log: a.log}
	for _, ch := range a.Config.Notify {
		c, err := a.channel(ch)
		if err != nil {
			return nil, err
		}
		router.Routes = append(router.Routes, notify.Route{Channel: c})
	}
	return func(ctx context.Context, n runner.Notice) error {
		_, err := router.Tell(ctx, notify.Notice{At: a.now(), Key: n.Key, Rotation: n.Rotation, Kind: string(n.Kind), What: n.What, Wants: n.Wants, Hint: n.Hint})
		return err
	}, nil
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
