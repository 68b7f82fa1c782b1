package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// soak is a steady load for long.
type soak struct {
	out                              io.Writer
	duration, swapEvery, sampleEvery time.Duration
	rate, streams                    int

	g        *process
	client   *http.Client
	requests atomic.Int64
	streamed atomic.Int64
	running  atomic.Int64
	busiest  atomic.Int64
	held     atomic.Int64 // times that the load was held back
	mu       sync.Mutex
	failures map[string]int
	told     int
	swaps    []time.Duration
}

// soakDeltas is how many pieces of text a stream has.
const soakDeltas = 12

// sampled is what was seen at one time.
type sampled struct {
	at            time.Duration
	requests      int64
	failed, swaps int
	rss, pss      int64
	goroutines    float64
	processor     time.Duration
	running       int64
}

func (s *soak) run(ctx context.Context, binary, dir string) error {
	if s.rate < 1 || s.duration <= 0 || s.swapEvery <= 0 {
		return errors.New("rate, duration and swap-every must be more than nothing")
	}
	if s.sampleEvery <= 0 {
		s.sampleEvery = s.duration / 60
	}
	s.failures = map[string]int{}
	p, err := startProvider(ctx, s.answer)
	if err != nil {
		return err
	}
	defer p.stop()
	key := p.key()
	if s.g, err = start(ctx, binary, dir+"/state", p.url, []*account{key}); err != nil {
		return err
	}
	defer s.g.stop() //nolint:errcheck // The usual end asks below.
	transport := &http.Transport{MaxIdleConnsPerHost: 1024}
	s.client = &http.Client{Transport: transport}
	machine(s.out)
	fmt.Fprintf(s.out, "%d requests per second for %s, %d %% streams of %d pieces, a new key every %s\n\n", s.rate, s.duration, s.streams, soakDeltas, s.swapEvery)
	fmt.Fprintf(s.out, "%8s %9s %7s %6s %9s %9s %10s %8s %10s  %s\n", "minute", "requests", "failed", "swaps", "RSS MiB", "PSS MiB", "goroutines", "open", "CPU ms/req", "machine")

	loaded, cancel := context.WithTimeout(ctx, s.duration)
	defer cancel()
	var load, swap sync.WaitGroup
	load.Go(func() { s.load(loaded) })
	var swapErr error
	swap.Go(func() { swapErr = s.rotate(ctx, loaded, p, key) })
	samples, err := s.watch(ctx, loaded)
	load.Wait()
	swap.Wait()
	if err := errors.Join(err, swapErr); err != nil {
		return err
	}
	transport.CloseIdleConnections()
	return s.report(ctx, p, samples)
}

// mostOpen bounds the requests under way, so that a machine that cannot keep up makes the load late and not the heap large.
const mostOpen = 1000

// load begins requests at their times, however long others take. What is late because the machine is, is begun as soon as it can be.
func (s *soak) load(ctx context.Context) {
	var calls sync.WaitGroup
	defer calls.Wait()
	begin := time.Now()
	for i := 0; ; i++ {
		at := begin.Add(time.Duration(i) * time.Second / time.Duration(s.rate))
		if d := time.Until(at); d > 0 && !wait(ctx, d) || ctx.Err() != nil {
			return
		}
		for s.running.Load() >= mostOpen {
			s.held.Add(1)
			if !wait(ctx, 10*time.Millisecond) {
				return
			}
		}
		s.running.Add(1)
		calls.Go(func() {
			// A request that has begun is finished, so the end of the load cuts nothing off.
			if err := s.call(context.WithoutCancel(ctx), rand.IntN(100) < s.streams); err != nil { //nolint:gosec // Load keeps no secret.
				s.fail(err)
			}
		})
	}
}

// mostTold bounds the lines on single failures; all are in the report.
const mostTold = 20

// fail counts a failure, and says at once when it was and how busy the machine.
func (s *soak) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures[err.Error()]++
	if s.told++; s.told <= mostTold {
		fmt.Fprintf(s.out, "failed at %s, %s: %v\n", time.Now().UTC().Format(time.TimeOnly), runnable(), err)
	}
}

func (s *soak) call(ctx context.Context, stream bool) error {
	s.requests.Add(1)
	if n := s.running.Load(); n > s.busiest.Load() {
		s.busiest.Store(n)
	}
	defer s.running.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	body := twoKB
	if stream {
		s.streamed.Add(1)
		body = strings.Replace(body, `"max_tokens":256`, `"max_tokens":256,"stream":true`, 1)
	}
	status, text, err := post(ctx, s.client, s.g, body)
	switch {
	case err != nil:
		return errors.New("the connection broke: " + kindOf(err))
	case status != http.StatusOK:
		return fmt.Errorf("status %d", status)
	case stream:
		return whole(text, soakDeltas)
	case !strings.HasSuffix(text, `"output_tokens":200}}`):
		return errors.New("the answer is not whole")
	}
	return nil
}

// kindOf names an error of the network without its addresses, so that like errors count together.
func kindOf(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// answer takes its time, as a model does.
func (s *soak) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	id := "msg_" + strconv.FormatInt(rand.Int64(), 36) //nolint:gosec // Load keeps no secret.
	if !streams(body) {
		if !wait(r.Context(), time.Duration(20+rand.IntN(80))*time.Millisecond) { //nolint:gosec // Load keeps no secret.
			return
		}
		text := message(id)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = io.WriteString(w, text)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	line := http.NewResponseController(w)
	for _, e := range script(id, soakDeltas) {
		if _, err := io.WriteString(w, e); err != nil {
			return
		}
		_ = line.Flush()
		if strings.HasPrefix(e, "event: content_block_delta") && !wait(r.Context(), time.Duration(20+rand.IntN(120))*time.Millisecond) { //nolint:gosec // Load keeps no secret.
			return
		}
	}
}

// rotate changes the key until the load ends: in turn with a signal, and so that the gateway has to see it.
func (s *soak) rotate(ctx, loaded context.Context, p *provider, key *account) error {
	for n := 0; wait(loaded, s.swapEvery); n++ {
		next := p.key()
		took, err := s.g.swap(ctx, key, next, n%2)
		if err != nil {
			return fmt.Errorf("swap %d: %w", n+1, err)
		}
		key = next
		s.mu.Lock()
		s.swaps = append(s.swaps, took)
		s.mu.Unlock()
	}
	return nil
}

// watch prints a line at each time of sampling.
func (s *soak) watch(ctx, loaded context.Context) (list []sampled, err error) {
	begin := time.Now()
	for {
		more := wait(loaded, time.Until(begin.Add(time.Duration(len(list)+1)*s.sampleEvery)))
		if !more && len(list) > 0 && time.Since(begin)-list[len(list)-1].at < s.sampleEvery/2 {
			return list, ctx.Err()
		}
		x := sampled{at: time.Since(begin), requests: s.requests.Load(), running: s.running.Load()}
		if x.rss, x.pss, err = memory(s.g.cmd.Process.Pid); err != nil {
			return nil, err
		}
		if x.processor, err = processor(s.g.cmd.Process.Pid); err != nil {
			return nil, err
		}
		if x.goroutines, err = s.g.metric(ctx, "go_goroutines"); err != nil {
			return nil, err
		}
		s.mu.Lock()
		for _, n := range s.failures {
			x.failed += n
		}
		x.swaps = len(s.swaps)
		s.mu.Unlock()
		list = append(list, x)
		s.line(x)
		if !more {
			return list, ctx.Err()
		}
	}
}

func (s *soak) line(x sampled) {
	fmt.Fprintf(s.out, "%8.1f %9d %7d %6d %9.1f %9.1f %10.0f %8d %10.2f  %s\n", x.at.Minutes(), x.requests, x.failed, x.swaps, mib(x.rss), mib(x.pss), x.goroutines,
		x.running, float64(x.processor.Microseconds())/1000/float64(max(x.requests, 1)), runnable())
}

// runnable says how busy the machine has been in the last minute, where the system tells.
func runnable() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "load not known"
	}
	load, _, _ := strings.Cut(string(b), " ")
	return "load " + load
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// mostIdle is how many goroutines a gateway without requests may have.
const mostIdle = 40

// report looks once more when all is quiet, and judges.
func (s *soak) report(ctx context.Context, p *provider, samples []sampled) error {
	// Connections to the upstream that nobody uses are kept for 50 seconds.
	var idle float64
	for until := time.Now().Add(2 * time.Minute); ; {
		var err error
		if idle, err = s.g.metric(ctx, "go_goroutines"); err != nil {
			return err
		}
		if idle < mostIdle || time.Now().After(until) || !wait(ctx, time.Second) {
			break
		}
	}
	fmt.Fprintf(s.out, "\n")
	early, last := samples[max(len(samples)/12-1, 0)], samples[len(samples)-1]
	slices.Sort(s.swaps)
	fmt.Fprintf(s.out, "requests              %d, of them %d streams, %d at once at most\n", s.requests.Load(), s.streamed.Load(), s.busiest.Load())
	failed := 0
	for _, n := range s.failures {
		failed += n
	}
	if n := s.held.Load(); n > 0 {
		fmt.Fprintf(s.out, "held back             %d times for 10 ms: the machine did not keep up\n", n)
	}
	fmt.Fprintf(s.out, "failed                %d\n", failed)
	for _, why := range slices.Sorted(maps.Keys(s.failures)) {
		fmt.Fprintf(s.out, "  %6d              %s\n", s.failures[why], why)
	}
	if n := len(s.swaps); n > 0 {
		fmt.Fprintf(s.out, "swaps                 %d, in use after %s in the middle, %s at most\n", n, s.swaps[n/2].Round(time.Millisecond), s.swaps[n-1].Round(time.Millisecond))
	}
	fmt.Fprintf(s.out, "begun on a former key %d\n", p.late())
	fmt.Fprintf(s.out, "memory (PSS)          %.1f MiB after a twelfth, %.1f MiB at the end\n", mib(early.pss), mib(last.pss))
	fmt.Fprintf(s.out, "goroutines when idle  %.0f\n", idle)
	var errs []error
	if len(s.failures) > 0 {
		errs = append(errs, errors.New("requests failed"))
	}
	if p.late() > 0 {
		errs = append(errs, errors.New("a former key was used"))
	}
	if last.pss > early.pss*5/4 && last.pss > early.pss+4<<20 {
		errs = append(errs, errors.New("memory grew by more than a quarter"))
	}
	if idle >= mostIdle {
		errs = append(errs, errors.New("goroutines are left"))
	}
	return errors.Join(append(errs, s.g.stop())...)
}
