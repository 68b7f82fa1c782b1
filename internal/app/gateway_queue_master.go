package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/ledger"
	"github.com/keywright/keywright/internal/gateway/queue"
)

// RewrapQueue puts the queue of a gateway that does not run under another master. Both are in the form of GatewayQueue.Master; the new one is made when
// it is a file that is missing. Kinds: NotFound (the directory has no queue), Conflict (the gateway runs), and those of the masters and the ledger.
func RewrapQueue(ctx context.Context, stateDir, from, to string) error {
	return withLedger(ctx, stateDir, func(l *ledger.Ledger) error {
		former, err := (&GatewayQueue{Master: from}).options(stateDir).Master(ctx, false)
		if err != nil {
			return fault.In(err, "open the former master")
		}
		next, err := (&GatewayQueue{Master: to}).options(stateDir).Master(ctx, true)
		if err != nil {
			return fault.In(err, "open the new master")
		}
		return queue.Rewrap(ctx, l, former, next)
	})
}

// EraseQueue removes what is in the queue of a gateway that does not run, and its key, and gives how many entries there were. Kinds: as RewrapQueue.
func EraseQueue(ctx context.Context, stateDir string) (n int64, err error) {
	err = withLedger(ctx, stateDir, func(l *ledger.Ledger) (err error) {
		n, err = queue.Erase(ctx, l)
		return err
	})
	return n, err
}

func withLedger(ctx context.Context, stateDir string, do func(*ledger.Ledger) error) error {
	if _, err := os.Stat(filepath.Join(stateDir, ledger.File)); err != nil {
		return fault.New(fault.NotFound, "open ledger of gateway: this directory has none", fault.Hint("name the gateway's own directory with --state-dir"))
	}
	l, err := ledger.Open(ctx, stateDir)
	switch {
	case fault.Is(err, fault.Conflict):
		return fault.New(fault.Conflict, "open ledger of gateway: the gateway runs", fault.Hint("stop it first; callers get their answers when it runs again"))
	case err != nil:
		return err
	}
	return errors.Join(do(l), l.Close())
}
