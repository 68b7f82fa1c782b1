package app

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/notify"
)

// tellPatience bounds how long the daemon tries to tell people about a gateway, since it looks after others meanwhile.
const tellPatience = 15 * time.Second

// tellDegraded tells people when degraded mode of a gateway began and ended. What is not delivered is logged, and not tried again: the status
// of the gateway says what holds.
func (a *App) tellDegraded(ctx context.Context, name string, events []event.Event) {
	if a.tell == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tellPatience)
	defer cancel()
	for _, e := range events {
		n, ok := degradedNotice(name, e)
		if !ok {
			continue
		}
		if err := a.tell(ctx, n); err != nil {
			a.log.Warn("people not told", "gateway", name, "error", err)
		}
	}
}

// degradedNotice gives what people are told of an event; ok is false for events of another sort.
func degradedNotice(name string, e event.Event) (n notify.Notice, ok bool) {
	n = notify.Notice{At: e.At, Kind: notify.KindStatus, Hint: "keywright gateway status"}
	cause := e.Fields["cause"]
	switch gateway.Cause(cause) {
	case gateway.CauseDeclared:
		cause = "an operator keeps requests from the provider"
	case gateway.CauseBreaker:
		cause = "the provider is overloaded, failing or out of reach"
		if model := e.Fields["model"]; model != "" {
			cause += " for " + model
		}
	case gateway.CauseNoKey:
		cause = "the provider accepts none of its keys"
		n.Wants = e.Type == gateway.Degraded
	}
	switch e.Type {
	case gateway.Degraded:
		n.What = name + " is degraded: " + cause
		if reason := e.Fields["reason"]; reason != "" {
			n.What += " (" + reason + ")"
		}
		if until := e.Fields["until"]; until != "" {
			n.What += ", until " + until
		}
	case gateway.Restored:
		n.What = name + " is no longer degraded: it was because " + cause
	default:
		return notify.Notice{}, false
	}
	return n, true
}
