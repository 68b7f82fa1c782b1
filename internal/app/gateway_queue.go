package app

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/gateway/queue"
)

// GatewayQueue configures the gateway's queue of callers that do not wait. Zero fields mean the defaults of the gateway.
type GatewayQueue struct {
	// Master is what its content is encrypted under, in the form of custody.OpenMaster; empty means DefaultQueueMaster. ConfigDir is where
	// relative paths start and where a missing file is made; empty means the user's own directory.
	Master, ConfigDir string

	Entries, PerApp, Parallel int
	Bytes, Body               int64
	Keep, Wait                time.Duration
}

// DefaultQueueMaster is a file beside the configuration, not in the state directory: a backup of the one does not open the other.
const DefaultQueueMaster = "file:gateway-queue.key"

// options gives what the gateway is told, or the zero value for a gateway without a queue.
func (q *GatewayQueue) options(stateDir string) gateway.QueueOptions {
	if q == nil {
		return gateway.QueueOptions{}
	}
	return gateway.QueueOptions{
		Entries: q.Entries, PerApp: q.PerApp, Parallel: q.Parallel, Bytes: q.Bytes, Body: q.Body, Keep: q.Keep, Wait: q.Wait,
		Master: func(ctx context.Context, first bool) (queue.Master, error) {
			spec, dir := q.Master, q.ConfigDir
			if spec == "" {
				spec = DefaultQueueMaster
			}
			if dir == "" {
				var err error
				if dir, err = config.UserDir(); err != nil {
					return nil, err
				}
			}
			return custody.OpenMaster(ctx, spec, custody.Env{ConfigDir: dir, DataDir: stateDir, FirstRun: first, Header: "gateway-queue.passphrase.json"})
		},
	}
}
