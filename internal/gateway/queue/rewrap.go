package queue

import (
	"context"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/ledger"
)

// Rewrap wraps the queue's key under another master. What is in the queue stays and opens as before. It may be repeated: a key that the new master
// opens already is left alone. No Queue of the ledger may be open. Kinds: NotFound (there is no key yet), and those of the ledger and the masters.
func Rewrap(ctx context.Context, l *ledger.Ledger, from, to Master) error {
	const what = "rewrap key of queue"
	aad := []byte(keyDomain + l.ID())
	wrapped, err := l.Meta(ctx, metaKey)
	if err != nil {
		return err
	}
	if len(wrapped) == 0 {
		return fault.New(fault.NotFound, what+": there is none, since the gateway never had a queue", fault.Hint("begin with the new master"))
	}
	key, err := from.Unwrap(ctx, wrapped, aad)
	if err != nil {
		if already, other := to.Unwrap(ctx, wrapped, aad); other == nil {
			clear(already)
			return nil
		}
		return fault.In(err, what)
	}
	defer clear(key)
	if wrapped, err = to.Wrap(ctx, key, aad); err != nil {
		return fault.In(err, what)
	}
	if err := l.SetMeta(ctx, metaKey, wrapped); err != nil {
		return err
	}
	return l.Checkpoint(ctx)
}

// Erase removes the queue's key and all that was sealed under it, and gives the number of requests and answers. It needs no master: it is the way on
// when that is lost. What else is in the ledger stays. No Queue of the ledger may be open.
func Erase(ctx context.Context, l *ledger.Ledger) (n int64, err error) {
	err = l.Update(ctx, "erase queue", func(tx *ledger.Tx) error {
		var err error
		if n, err = tx.Exec(`DELETE FROM queue`); err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM meta WHERE name = ?`, metaKey)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, l.Checkpoint(ctx)
}
