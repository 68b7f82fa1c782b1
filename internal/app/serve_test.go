package app

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

func TestDutiesAreDoneAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		a := &App{log: slog.New(slog.NewTextHandler(&log, nil))}
		begin := time.Now()
		var at []time.Duration
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
		defer cancel()
		a.every(ctx, time.Minute, 5*time.Minute, "sweep the floor", func(context.Context) error {
			at = append(at, time.Since(begin))
			if len(at) == 1 {
				return fault.New(fault.Unavailable, "not now")
			}
			return nil
		})
		if len(at) != 3 || at[0] != time.Minute || at[1] != 6*time.Minute || at[2] != 11*time.Minute {
			t.Errorf("done at %v", at)
		}
		if got := log.String(); strings.Count(got, "sweep the floor") != 1 || !strings.Contains(got, "not now") {
			t.Errorf("log %q", got)
		}
	})
}
