package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/gateway"
)

// streamWorkers is how many streams rows 4 and 5 have at a time.
const streamWorkers = 64

// errorEvents is row 4.
func (b *bench) errorEvents(ctx context.Context) ([]figure, error) {
	s := &stage{deltas: soakDeltas}
	p, err := startProvider(ctx, s.answer)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	g, err := b.begin(ctx, 4, p, p.key(), p.key())
	if err != nil {
		return nil, err
	}
	defer g.stop() //nolint:errcheck // Nothing depends on how it ends.
	client := caller(streamWorkers)
	defer client.CloseIdleConnections()
	n := b.of(1000, 20)
	return errorStreams(ctx, client, g, s.deltas, n), nil
}

// errorStreams sends n streams each that have an error event before content in the first attempt, in every attempt, and that break after content. Each
// worker has a model of its own, and a good stream behind each bad one: the breaker of a model is another matter.
func errorStreams(ctx context.Context, client *http.Client, g *process, deltas, n int) []figure {
	var early, given, late, good tally
	spread(ctx, n, streamWorkers/4, func(worker, i int) {
		model := fmt.Sprintf("claude-haiku-%d", worker)
		call := func(id, plan string) string {
			return callStream(ctx, client, g, model, deltas, map[string]string{idHeader: id + strconv.Itoa(i), planHeader: plan})
		}
		// The last two of ten move on to the other key, the others are repeated.
		types := []string{"overloaded_error", "api_error", "overloaded_error", "api_error", "overloaded_error", "api_error", "overloaded_error", "api_error", "authentication_error", "permission_error"}
		early.add(call("e", fmt.Sprintf("%s %d %s", earlyError, i%(preamble+1), types[i%len(types)])))
		good.add(call("g", ""))
		plans := []string{lateError, lateCut, lateHalf, lateEnd}
		late.add(call("l", fmt.Sprintf("%s %d api_error", plans[i%len(plans)], 1+i/len(plans)%(deltas+2))))
		good.add(call("h", ""))
	})
	tries := max(n/10, 10)
	// An error that stays is given up: no more than the attempts of few requests, each with a model of its own.
	spread(ctx, tries, streamWorkers/4, func(_, i int) {
		types := []string{"overloaded_error", "api_error", "timeout_error", "invalid_request_error", "not_found_error"}
		given.add(callStream(ctx, client, g, fmt.Sprintf("claude-sonnet-%d", i), deltas,
			map[string]string{idHeader: "a" + strconv.Itoa(i), planHeader: fmt.Sprintf("%s %d %s", alwaysError, i%(preamble+1), types[i%len(types)])}))
	})
	lost, why := early.without(endedWhole)
	wrong, whyWrong := late.without(endedTold)
	bad, whyBad := good.without(endedWhole)
	refused := 0
	for _, status := range []int{529, 500, 504, 400, 404} {
		refused += given.of(fmt.Sprintf("with status %d", status))
	}
	_, statuses := given.without()
	return []figure{
		none("streams with an error event before content that the caller saw", early.of(endedEarly)+given.of(endedEarly), n+tries, ""),
		none("streams with such an error in the first attempt that did not become whole", lost, n, why),
		all("streams with such an error in every attempt that were answered with a status", refused, tries, statuses),
		none("streams that broke after content and did not end with an error event", wrong, n, whyWrong),
		none("good streams between them that were not whole", bad, 2*n, whyBad),
	}
}

// The models of row 5. Only hang-ups happen to the first, so what its breaker does comes from them.
const (
	hungModel = "claude-opus-hung"
	cutModel  = "claude-sonnet-cut"
)

// cuts is row 5.
func (b *bench) cuts(ctx context.Context) ([]figure, error) {
	s := &stage{deltas: soakDeltas, pause: upTo(0, 10*time.Millisecond)}
	p, err := startProvider(ctx, s.answer)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	key := p.key()
	g, err := b.begin(ctx, 5, p, key, p.key())
	if err != nil {
		return nil, err
	}
	defer g.stop() //nolint:errcheck // Nothing depends on how it ends.
	client := caller(streamWorkers)
	defer client.CloseIdleConnections()

	if got := callStream(ctx, client, g, cutModel, s.deltas, nil); got != endedWhole {
		return nil, errors.New("the first stream ended " + got)
	}
	client.CloseIdleConnections()
	var base rest
	for i := range 10 { // the least, since what has just ended may still be there
		now, err := restOf(ctx, p, g)
		if err != nil {
			return nil, err
		}
		if i == 0 || now.goroutines < base.goroutines {
			base = now
		}
		wait(ctx, 100*time.Millisecond)
	}
	n := b.of(10_000, 200)
	var done atomic.Bool
	var swapped, opened int
	var errs [2]error
	finished := make(chan struct{}, 2)
	go func() {
		took, _, err := swapSteadily(ctx, p, g, key, func(int) bool { return !done.Load() })
		swapped, errs[0] = len(took), err
		finished <- struct{}{}
	}()
	go func() { // a breaker stays open for two seconds at least
		for !done.Load() && errs[1] == nil {
			var now gateway.Status
			now, errs[1] = g.look(ctx)
			for _, open := range now.Breakers {
				if open.Model == hungModel {
					opened++
				}
			}
			wait(ctx, 200*time.Millisecond)
		}
		finished <- struct{}{}
	}()
	var outcomes tally
	spread(ctx, n, streamWorkers, func(_, i int) { outcomes.add(randomStream(ctx, client, g, s.deltas, i)) })
	done.Store(true)
	<-finished
	<-finished
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	client.CloseIdleConnections()
	// The gateway keeps a connection to the upstream that nobody uses for 50 seconds.
	var end rest
	for until := time.Now().Add(90 * time.Second); ; {
		if end, err = restOf(ctx, p, g); err != nil {
			return nil, err
		}
		if end.within(base) || time.Now().After(until) || !wait(ctx, 250*time.Millisecond) {
			break
		}
	}
	other, why := outcomes.without(endedWhole, endedTold, hungUp, endedSpliced, endedShort, endedEarly)
	return []figure{
		told("streams, and changes of the key meanwhile", "%d whole, %d cut and told, %d hung up; %d changes", outcomes.of(endedWhole), outcomes.of(endedTold), outcomes.of(hungUp), swapped),
		none("streams spliced, or with events out of order", outcomes.of(endedSpliced), n, ""),
		none("streams silently short", outcomes.of(endedShort), n, ""),
		none("streams with an error event before content", outcomes.of(endedEarly), n, ""),
		none("streams that failed, or broke off without an error event", other, n, why),
		none("requests on a former key that began after the change was acknowledged", int(p.late()), n, ""),
		{what: "goroutines that are left, beyond those before", got: fmt.Sprintf("%d, were %d", end.goroutines, base.goroutines), bar: "0", met: end.goroutines <= base.goroutines},
		{what: "connections to the upstream that are left, beyond those before", got: fmt.Sprintf("%d, were %d", end.connections, base.connections), bar: "0", met: end.connections <= base.connections},
		{what: "requests that are left", got: strconv.Itoa(end.active), bar: "0", met: end.active == 0},
		{what: "looks that found the breaker open of the model that only hang-ups happen to", got: strconv.Itoa(opened), bar: "0", met: opened == 0},
	}, nil
}

// rest is what a gateway holds: goroutines beyond the two of each connection to the upstream, connections, and requests.
type rest struct{ goroutines, connections, active int }

func (r rest) within(base rest) bool {
	return r.goroutines <= base.goroutines && r.connections <= base.connections && r.active == 0
}

// restOf looks once the gateway has no request.
func restOf(ctx context.Context, p *provider, g *process) (r rest, err error) {
	g.status.CloseIdleConnections() // each has a goroutine too
	n, err := g.metric(ctx, "go_goroutines")
	if err != nil {
		return r, err
	}
	s, err := g.look(ctx)
	connections := p.open()
	return rest{goroutines: int(n) - 2*connections, connections: connections, active: int(s.Active)}, err
}

// hungUp is the outcome of a stream that the caller left.
const hungUp = "hung up"

// randomStream makes one stream of row 5. Of a hundred, 30 are left by the caller, 25 are cut by the upstream, 20 of them after content.
func randomStream(ctx context.Context, client *http.Client, g *process, deltas, i int) string {
	headers := map[string]string{idHeader: strconv.Itoa(i)}
	switch draw := rand.IntN(100); { //nolint:gosec // Load keeps no secret.
	case draw < 30:
		return leave(ctx, client, g, deltas, headers)
	case draw < 50:
		plan := []string{lateError, lateCut, lateHalf, lateEnd}[rand.IntN(4)]                    //nolint:gosec // Load keeps no secret.
		headers[planHeader] = fmt.Sprintf("%s %d overloaded_error", plan, 1+rand.IntN(deltas+2)) //nolint:gosec // Load keeps no secret.
		got := callStream(ctx, client, g, cutModel, deltas, headers)
		if got == endedWhole {
			return "whole, and were cut"
		}
		return got
	case draw < 55:
		headers[planHeader] = fmt.Sprintf("%s %d", earlyCut, rand.IntN(preamble+1)) //nolint:gosec // Load keeps no secret.
	}
	got := callStream(ctx, client, g, cutModel, deltas, headers)
	if got == endedTold {
		return "with an error event, and were not cut"
	}
	return got
}

// leave hangs up: half of them at some time, wherever the request is, and half of them after some events.
func leave(ctx context.Context, client *http.Client, g *process, deltas int, headers map[string]string) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := func([]byte) {}
	if rand.IntN(2) == 0 { //nolint:gosec // Load keeps no secret.
		timer := time.AfterFunc(rand.N(60*time.Millisecond), cancel) //nolint:gosec // Load keeps no secret.
		defer timer.Stop()
	} else {
		events := 1 + rand.IntN(deltas) //nolint:gosec // Load keeps no secret.
		seen = func(soFar []byte) {
			if strings.Count(string(soFar), "\n\n") >= events {
				cancel()
			}
		}
	}
	status, text, err := send(ctx, client, g, streaming(twoKB, hungModel), headers, seen)
	switch {
	case err != nil && ctx.Err() != nil:
		// What came before must be the beginning of one message all the same.
		if i := strings.LastIndex(text, "\n\n"); i >= 0 && ending(text[:i+2], deltas) == endedSpliced {
			return endedSpliced
		}
		return hungUp
	case err != nil:
		return "broken off: " + kindOf(err)
	case status != http.StatusOK:
		return fmt.Sprintf("with status %d", status)
	}
	got := ending(text, deltas)
	if got == endedTold {
		return "with an error event, and were not cut"
	}
	return got
}
