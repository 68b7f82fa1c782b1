package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// cost is row 1: processor time against a bare proxy, added time, memory.
type cost struct {
	rounds, requests int
}

// scene is what one number of connections cost.
type scene struct {
	connections      int
	bare, ours       time.Duration // processor time for each request
	ratio            float64
	added            time.Duration // in the middle
	pss              int64
	ratios           []float64 // of single rounds, sorted
	bareP50, oursP50 time.Duration
}

func (c cost) run(ctx context.Context, binary, dir string, report func(scene)) error {
	p, err := startProvider(ctx, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		text := message("msg_1")
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = io.WriteString(w, text)
	})
	if err != nil {
		return err
	}
	defer p.stop()
	p.accounts.Store("x", newAccount("x")) // the bare proxy's
	key := p.key()
	ours, err := startFull(ctx, binary, dir, p.url, key)
	if err != nil {
		return err
	}
	defer ours.stop() //nolint:errcheck // Nothing depends on how it ends.
	plain, stop, err := startBare(ctx, p.url)
	if err != nil {
		return err
	}
	defer stop()
	for _, n := range []int{1, 16, 128, 512} {
		s, err := c.scene(ctx, plain, ours, n)
		if err != nil {
			return err
		}
		report(s)
	}
	return nil
}

// scene lets both serve in turn, first one and then the other first, so that a machine that grows slower does so for both.
func (c cost) scene(ctx context.Context, plain, ours *process, connections int) (scene, error) {
	s := scene{connections: connections}
	transport := &http.Transport{MaxIdleConnsPerHost: connections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	requests := c.requests
	if connections == 1 {
		requests /= 3
	}
	var sums [2]time.Duration
	var added, middles [2][]time.Duration
	for round := -1; round < c.rounds; round++ { // the first does not count
		var spent, middle [2]time.Duration
		for turn := range 2 {
			i := (turn + round + 2) % 2
			g := []*process{plain, ours}[i]
			before, err := processor(g.cmd.Process.Pid)
			if err != nil {
				return s, err
			}
			times, err := g.load(ctx, client, connections, requests)
			if err != nil {
				return s, err
			}
			after, err := processor(g.cmd.Process.Pid)
			if err != nil {
				return s, err
			}
			spent[i], middle[i] = after-before, times[len(times)/2]
			if i == 1 {
				_, pss, err := memory(g.cmd.Process.Pid)
				if err != nil {
					return s, err
				}
				s.pss = max(s.pss, pss)
			}
		}
		if round < 0 {
			continue
		}
		for i := range spent {
			sums[i] += spent[i]
			middles[i] = append(middles[i], middle[i])
		}
		added[0] = append(added[0], middle[1]-middle[0])
		s.ratios = append(s.ratios, float64(spent[1])/float64(spent[0]))
	}
	slices.Sort(s.ratios)
	for i := range middles {
		slices.Sort(middles[i])
	}
	slices.Sort(added[0])
	n := time.Duration(c.rounds * requests)
	s.bare, s.ours, s.ratio = sums[0]/n, sums[1]/n, float64(sums[1])/float64(sums[0])
	s.added = added[0][len(added[0])/2]
	s.bareP50, s.oursP50 = middles[0][len(middles[0])/2], middles[1][len(middles[1])/2]
	return s, nil
}

// twoKB is a request body of about two kilobytes.
var twoKB = `{"model":"claude-haiku-5-5","max_tokens":256,"messages":[{"role":"user","content":"` + strings.Repeat("y", 1900) + `"}]}`

// load makes n calls over so many connections, and gives their times, sorted.
func (g *process) load(ctx context.Context, client *http.Client, connections, n int) ([]time.Duration, error) {
	times := make([]time.Duration, n)
	var next atomic.Int64
	var calls sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for range connections {
		calls.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				at := time.Now()
				status, _, err := post(ctx, client, g, twoKB)
				if times[i] = time.Since(at); err == nil && status != http.StatusOK {
					err = fmt.Errorf("status %d", status)
				}
				if err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	calls.Wait()
	slices.Sort(times)
	return times, errors.Join(errs...)
}

// serveBare makes this process a bare proxy when it was started as one.
func serveBare() (bool, error) {
	upstream := os.Getenv(bareUpstream)
	if upstream == "" {
		return false, nil
	}
	return true, bare(upstream, os.Stdin, os.Stdout)
}
