package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The load of row 3. deadTrip is the time that the imitation takes for each answer; shortestPause is the least that the gateway waits where it waits
// before another attempt.
const (
	deadConnections = 64
	deadTrip        = 20 * time.Millisecond
	shortestPause   = 50 * time.Millisecond
)

// deadCalls is what the imitation saw of a key that it refuses.
type deadCalls struct {
	mu       sync.Mutex
	primary  *account
	first    int64 // when the first 401 was on its way
	messages int   // on the dead key
	later    int   // of them, begun after the first 401
	probes   int   // on the dead key, after the first 401
	attempts map[string]int
	refused  map[string]int64 // when a request's 401 was on its way
	pauses   []time.Duration  // from there to its next attempt
}

func (d *deadCalls) arrived(a *account, r *http.Request) {
	at := since()
	message := r.Method == http.MethodPost
	if message {
		defer wait(r.Context(), deadTrip) // what belongs to the request is noted before
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.primary == nil {
		return
	}
	id := r.Header.Get(idHeader)
	if message {
		d.attempts[id]++
		if refused, ok := d.refused[id]; ok {
			d.pauses = append(d.pauses, time.Duration(at-refused))
		}
	}
	if a != d.primary {
		return
	}
	began, _ := strconv.ParseInt(r.Header.Get(beganHeader), 10, 64)
	switch {
	case !message && d.first != 0:
		d.probes++
	case message:
		d.messages++
		if d.first != 0 && began > d.first {
			d.later++
		}
	}
}

func (d *deadCalls) wrote(_ *account, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := since()
	if d.first == 0 {
		d.first = now
	}
	if id := r.Header.Get(idHeader); id != "" {
		d.refused[id] = now
	}
}

// dead is row 3: the primary key is refused from one moment on, and the requests go to the backup.
func (b *bench) dead(ctx context.Context) ([]figure, error) {
	n := b.of(1000, 4*deadConnections)
	d := &deadCalls{attempts: map[string]int{}, refused: map[string]int64{}}
	p := &provider{answer: (&stage{}).answer, arrived: d.arrived, refused: d.wrote}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	defer p.stop()
	key, backup := p.key(), p.key()
	g, err := b.begin(ctx, 3, p, key, backup)
	if err != nil {
		return nil, err
	}
	defer g.stop() //nolint:errcheck // Nothing depends on how it ends.
	client := caller(deadConnections)
	defer client.CloseIdleConnections()

	var outcomes tally
	spread(ctx, 4*deadConnections, deadConnections, func(_, _ int) { outcomes.add(callMessage(ctx, client, g)) })
	if bad, why := outcomes.without(endedWhole); bad > 0 {
		return nil, fmt.Errorf("while the key was good, %s", why)
	}
	d.mu.Lock()
	d.primary = key
	d.mu.Unlock()
	key.live.Store(false)
	var mu sync.Mutex
	times := map[bool][]time.Duration{}
	begin := time.Now()
	spread(ctx, n, deadConnections, func(_, i int) {
		id := strconv.Itoa(i)
		at := time.Now()
		status, _, err := send(ctx, client, g, twoKB, map[string]string{idHeader: id}, nil)
		took := time.Since(at)
		switch {
		case err != nil:
			outcomes.add("broken off: " + kindOf(err))
		case status != http.StatusOK:
			outcomes.add(fmt.Sprintf("with status %d", status))
		default:
			outcomes.add(endedWhole)
		}
		d.mu.Lock()
		_, over := d.refused[id]
		d.mu.Unlock()
		mu.Lock()
		defer mu.Unlock()
		times[over] = append(times[over], took)
	})
	lasted := time.Since(begin)
	d.mu.Lock()
	defer d.mu.Unlock()
	failed, why := outcomes.without(endedWhole)
	most := 0
	for _, k := range d.attempts {
		most = max(most, k)
	}
	if len(d.pauses) == 0 || len(times[false]) == 0 {
		return nil, fmt.Errorf("no request met the dead key, or all did")
	}
	slices.Sort(d.pauses)
	slices.Sort(times[true])
	slices.Sort(times[false])
	middle := d.pauses[len(d.pauses)/2]
	return []figure{
		none("requests that failed after the primary key died", failed, n, why),
		{what: fmt.Sprintf("calls on the dead key in its first cooldown (%s), begun after the first 401", lasted.Round(10*time.Millisecond)),
			got: fmt.Sprintf("%d (%d probes), %d were under way", d.later+d.probes, d.probes, d.messages-d.later), bar: "at most 3", met: d.later+d.probes <= 3},
		{what: fmt.Sprintf("upstream calls of a request that failed over (%d did), at most", len(times[true])), got: strconv.Itoa(most), bar: "2", met: most <= 2},
		{what: "from the 401 to the next attempt, in the middle (a pause has 50 ms)", got: fmt.Sprintf("%s, at most %s", middle.Round(10*time.Microsecond), d.pauses[len(d.pauses)-1].Round(10*time.Microsecond)),
			bar: "no pause", met: middle < shortestPause/2},
		told(fmt.Sprintf("time of those requests and of the others (a round trip has %s)", deadTrip), "%s, %s in the middle",
			times[true][len(times[true])/2].Round(100*time.Microsecond), times[false][len(times[false])/2].Round(100*time.Microsecond)),
	}, nil
}
