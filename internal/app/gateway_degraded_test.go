package app

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/notify"
)

// TestGatewayTakesItsBounds: what the configuration says of degraded mode reaches the gateway that runs.
func TestGatewayTakesItsBounds(t *testing.T) {
	w := newWorld(t, behindGateway+"  cache: { mebibytes: 2, keep: 3m }\n  return_step: 1h\n")
	a := w.open()
	w.adopt(a, "one")
	o, err := ConfiguredGateway(t.Context(), a.Config, a.log)
	if err != nil || o.Rules.CacheBytes != 2<<20 || o.Rules.CacheTime != 3*time.Minute {
		t.Fatalf("%+v %v", o.Rules, err)
	}
	w.runs(a)
	client := gateway.NewClient(o.StateDir)
	if _, err := client.Degrade(t.Context(), "maintenance", time.Time{}); err != nil {
		t.Fatal(err)
	}
	s, err := client.Restore(t.Context())
	if err != nil || len(s.Degraded) != 1 || time.Until(s.Degraded[0].Until) < 50*time.Minute {
		t.Errorf("the way back: %+v %v", s, err)
	}
}

func TestDegradedNotices(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	events := []event.Event{
		{At: at, Type: gateway.Degraded, Fields: map[string]string{"cause": "declared", "reason": "maintenance", "until": "2026-11-22T11:00:00Z"}},
		{At: at, Type: gateway.KeyHealthy},
		{At: at, Type: gateway.Restored, Fields: map[string]string{"cause": "declared", "reason": "maintenance"}},
		{At: at, Type: gateway.Degraded, Fields: map[string]string{"cause": "breaker", "model": "haiku"}},
		{At: at, Type: gateway.Degraded, Fields: map[string]string{"cause": "no key"}},
	}
	var told []notify.Notice
	var log strings.Builder
	a := &App{log: slog.New(slog.NewTextHandler(&log, nil)), tell: func(_ context.Context, n notify.Notice) error {
		told = append(told, n)
		return errors.New("the channel is down")
	}}
	a.tellDegraded(t.Context(), "gateway", events)
	want := []string{
		"gateway is degraded: an operator keeps requests from the provider (maintenance), until 2026-11-22T11:00:00Z",
		"gateway is no longer degraded: it was because an operator keeps requests from the provider",
		"gateway is degraded: the provider is overloaded, failing or out of reach for haiku",
		"gateway is degraded: the provider accepts none of its keys",
	}
	if len(told) != len(want) {
		t.Fatalf("%+v", told)
	}
	for i, n := range told {
		if n.What != want[i] || n.Kind != notify.KindStatus || !n.At.Equal(at) || n.Hint == "" || n.Wants != (i == 3) {
			t.Errorf("%d: %+v", i, n)
		}
	}
	if !strings.Contains(log.String(), "people not told") {
		t.Error("a failure was not logged")
	}
	(&App{}).tellDegraded(t.Context(), "gateway", events) // without channels nobody is told
}
