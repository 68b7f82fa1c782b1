package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The load of row 2.
const (
	swapConnections = 64
	swapEvery       = 600 * time.Millisecond // 20 in 12 s
)

// upTo gives a pause of least to most, evenly drawn.
func upTo(least, most time.Duration) func() time.Duration {
	return func() time.Duration { return least + rand.N(most-least) } //nolint:gosec // Load keeps no secret.
}

// swaps is row 2: keys change under load, in turn over the status socket and with a signal. A former key is set inactive when its last request has
// ended, so one that is used later fails besides being counted.
func (b *bench) swaps(ctx context.Context) ([]figure, error) {
	n := b.of(20, 2)
	s := &stage{deltas: soakDeltas, pause: upTo(2*time.Millisecond, 20*time.Millisecond)}
	p, err := startProvider(ctx, s.answer)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	key := p.key()
	g, err := b.begin(ctx, 2, p, key)
	if err != nil {
		return nil, err
	}
	defer g.stop() //nolint:errcheck // Nothing depends on how it ends.
	client := caller(swapConnections)
	defer client.CloseIdleConnections()

	var over atomic.Bool
	var outcomes tally
	var requests, streamed atomic.Int64
	var load sync.WaitGroup
	for i := range swapConnections {
		load.Go(func() {
			for !over.Load() && ctx.Err() == nil {
				requests.Add(1)
				if i%2 == 0 {
					outcomes.add(callMessage(ctx, client, g))
					continue
				}
				streamed.Add(1)
				outcomes.add(callStream(ctx, client, g, "claude-haiku-5-5", s.deltas, nil))
			}
		})
	}
	took, lasted, err := swapSteadily(ctx, p, g, key, func(done int) bool { return done < n })
	over.Store(true)
	load.Wait()
	if err != nil {
		return nil, err
	}
	slices.Sort(took)
	failed, why := outcomes.without(endedWhole)
	return []figure{
		{what: fmt.Sprintf("changes of the key under %d connections, acknowledged within 12 s", swapConnections), got: fmt.Sprintf("%d in %s", n, lasted.Round(100*time.Millisecond)),
			bar: fmt.Sprintf("%d", n), met: lasted <= 12*time.Second, speed: true},
		none(fmt.Sprintf("requests that failed (%d of them streams)", streamed.Load()), failed, int(requests.Load()), why),
		none("requests on a former key that began after the change was acknowledged", int(p.late()), int(requests.Load()), ""),
		told("time until a change was acknowledged, in the middle and at most", "%s, %s", took[n/2].Round(time.Millisecond), took[n-1].Round(time.Millisecond)),
	}, nil
}

// swapSteadily changes the primary key in each period while more says so, and sets each former one inactive once it is drained.
func swapSteadily(ctx context.Context, p *provider, g *process, key *account, more func(done int) bool) (took []time.Duration, lasted time.Duration, err error) {
	begin := time.Now()
	var drains sync.WaitGroup
	var mu sync.Mutex
	var drainErr error
	for i := 0; more(i); i++ {
		if d := time.Until(begin.Add(time.Duration(i) * swapEvery)); d > 0 && !wait(ctx, d) {
			err = ctx.Err()
			break
		}
		if !more(i) {
			break
		}
		way := bySocket
		if i%2 == 1 {
			way = bySignal
		}
		old, next := key, p.key()
		d, failed := g.bring(ctx, old, next, way)
		if failed != nil {
			err = fmt.Errorf("change %d: %w", i+1, failed)
			break
		}
		took, key, lasted = append(took, d), next, time.Since(begin)
		drains.Go(func() {
			if err := g.drain(ctx, old); err != nil {
				mu.Lock()
				defer mu.Unlock()
				drainErr = err
			}
		})
	}
	drains.Wait()
	if err == nil {
		err = drainErr
	}
	return took, lasted, err
}

// callMessage makes a request without a stream, and names its outcome.
func callMessage(ctx context.Context, client *http.Client, g *process) string {
	status, text, err := post(ctx, client, g, twoKB)
	switch {
	case err != nil:
		return "broken off: " + kindOf(err)
	case status != http.StatusOK:
		return fmt.Sprintf("with status %d", status)
	case !strings.HasSuffix(text, `"output_tokens":200}}`):
		return "not whole"
	}
	return endedWhole
}

// callStream makes a request with a stream, and names its outcome.
func callStream(ctx context.Context, client *http.Client, g *process, model string, deltas int, headers map[string]string) string {
	status, text, err := send(ctx, client, g, streaming(twoKB, model), headers, nil)
	switch {
	case err != nil:
		return "broken off: " + kindOf(err)
	case status != http.StatusOK:
		return fmt.Sprintf("with status %d", status)
	}
	return ending(text, deltas)
}
