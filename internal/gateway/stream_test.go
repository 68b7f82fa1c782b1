package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/simulator"
)

// TestErrorBeforeContentNeverShows is target 4: an error event inside of the gate becomes another attempt.
func TestErrorBeforeContentNeverShows(t *testing.T) {
	w := start(t, simulator.Options{}, func(o *Options) { o.Rand = func() float64 { return 0 } })
	k, id := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	w.probed()
	for range 40 {
		w.sim.Fail(simulator.Fault{Path: "/v1/messages", Times: 1, Kind: simulator.FaultStreamError, Status: 529})
		a := w.want(200, "POST", "/v1/messages", helloStream)
		if strings.Contains(a.body, "event: error") || strings.Count(a.body, "event: message_start") != 1 || !strings.Contains(a.body, "message_stop") {
			t.Fatalf("stream: %s", a.body)
		}
		w.want(200, "POST", "/v1/messages", hello) // the breaker sees good answers too
	}
	if n := w.calls(id, "/v1/messages"); n != 120 {
		t.Errorf("%d calls, want 120", n)
	}
}

// TestHeldErrorIsJudged: inside of the gate an error counts like the answer that it would have been.
func TestHeldErrorIsJudged(t *testing.T) {
	w := start(t, simulator.Options{}, func(o *Options) { o.KeyRetries = -1 })
	a, idA := w.key("primary", simulator.CreateKey{})
	b, idB := w.key("backup", simulator.CreateKey{Workspace: w.sim.AddWorkspace("other").ID})
	a.Group, b.Group = "g", "g"
	w.swap(Set{Keys: []Key{a, b}, Groups: map[string]Group{"g": {OnLimits: true}}})
	w.probed()
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", KeyID: idA, Kind: simulator.FaultStreamError, Status: 429})
	r := w.want(200, "POST", "/v1/messages", helloStream)
	if strings.Contains(r.body, "event: error") || w.calls(idB, "/v1/messages") != 1 {
		t.Errorf("stream: %s", r.body)
	}
	w.sim.ClearFaults()
	// Without another way it becomes a plain answer.
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", Kind: simulator.FaultStreamError, Status: 529})
	r = w.want(529, "POST", "/v1/messages", strings.Replace(helloStream, "haiku", "sonnet", 1))
	if r.errorType() != "overloaded_error" || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %v", r.body, r.header)
	}
}

// TestCutBecomesError: after content a cut is an error event, and the provider's own error passes.
func TestCutBecomesError(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	k, id := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	w.probed()
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", Times: 1, Kind: simulator.FaultCutBody})
	a := w.want(200, "POST", "/v1/messages", helloStream)
	if a.err != nil || strings.Count(a.body, "event: error") != 1 || strings.Contains(a.body, "message_stop") || !strings.HasSuffix(a.body, "\n\n") {
		t.Errorf("cut: %v %s", a.err, a.body)
	}
	w.sim.Fail(simulator.Fault{Path: "/v1/messages", Times: 1, Kind: simulator.FaultStreamError, Status: 529, After: 2})
	a = w.want(200, "POST", "/v1/messages", helloStream)
	if strings.Count(a.body, "event: error") != 1 || !strings.Contains(a.body, "overloaded_error") || strings.Contains(a.body, "keywright") {
		t.Errorf("provider's error: %s", a.body)
	}
	if n := w.calls(id, "/v1/messages"); n != 2 {
		t.Errorf("%d calls: something was repeated after content", n)
	}
}

// TestGateLetsGo: a stream that sends pings and no content is released at the bound of time and of bytes.
func TestGateLetsGo(t *testing.T) {
	const head = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n"
	const ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n"
	const rest = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\nevent: message_delta\ndata: {\"usage\":{\"output_tokens\":9}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	goOn := make(chan struct{})
	var pings atomic.Int64
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/messages" {
			return
		}
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(rw, head)
		for range pings.Load() {
			_, _ = io.WriteString(rw, ping)
		}
		_ = http.NewResponseController(rw).Flush()
		select {
		case <-goOn:
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(rw, rest)
	}, func(o *Options) { o.GateTime, o.GateBytes = 20*time.Millisecond, 1000 })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	for _, n := range []int64{1, 100} { // by time, by bytes
		pings.Store(n)
		r, _ := http.NewRequest("POST", w.url+"/v1/messages", strings.NewReader(helloStream))
		res, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(res.Body)
		if line, _ := lines.ReadString('\n'); line != "event: message_start\n" {
			t.Errorf("first line %q", line)
		}
		goOn <- struct{}{} // what follows comes only now, so the head was let through before
		all, _ := io.ReadAll(lines)
		res.Body.Close()
		if got := "event: message_start\n" + string(all); got != head+strings.Repeat(ping, int(n))+rest {
			t.Errorf("stream changed: %s", got)
		}
	}
	w.until("the log", func() bool { return strings.Count(string(w.access.Bytes()), `"output_tokens":9`) == 2 })
}

// TestHangUpStopsUpstream: the caller leaves, the upstream is left within 100 ms, and nobody is blamed.
func TestHangUpStopsUpstream(t *testing.T) {
	for _, stream := range []bool{false, true} {
		gone := make(chan time.Time, 1)
		began := make(chan struct{}, 1)
		w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/messages" {
				return
			}
			if stream {
				rw.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(rw, "event: content_block_delta\ndata: {}\n\n")
				_ = http.NewResponseController(rw).Flush()
			}
			_, _ = io.Copy(io.Discard, r.Body)
			began <- struct{}{}
			<-r.Context().Done()
			gone <- time.Now()
		}, nil)
		k, _ := w.key("primary", simulator.CreateKey{})
		w.swap(Set{Keys: []Key{k}})
		for range 10 {
			ctx, hangUp := context.WithCancel(context.Background())
			body := hello
			if stream {
				body = helloStream
			}
			r, _ := http.NewRequestWithContext(ctx, "POST", w.url+"/v1/messages", strings.NewReader(body))
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if res, err := w.client.Do(r); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			}()
			<-began
			at := time.Now()
			hangUp()
			if d := (<-gone).Sub(at); d > 100*time.Millisecond {
				t.Errorf("the upstream was left after %v", d)
			}
			<-ended
		}
		w.until("no request", func() bool { return w.g.Status().Active == 0 })
		b := w.g.breaker.of("claude-haiku-5-5")
		if b.state.Load() != 0 || w.phase("primary") != "healthy" || w.g.Status().Keys[0].InFlight != 0 {
			t.Errorf("a hang-up moved something: %+v", w.g.Status())
		}
	}
}

// TestRandomCuts is target 5 in small: streams that are cut or left at random are never spliced, never end short in silence, and leave nothing.
func TestRandomCuts(t *testing.T) {
	events := []string{
		"event: message_start\ndata: {\"type\":\"message_start\",\"id\":%q}\n\n", "event: content_block_start\ndata: {}\n\n", "event: ping\ndata: {\"type\":\"ping\"}\n\n",
	}
	for i := range 8 {
		events = append(events, fmt.Sprintf("event: content_block_delta\ndata: {\"n\":%d,\"id\":%%q}\n\n", i))
	}
	events = append(events, "event: message_delta\ndata: {}\n\n", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
	var serial atomic.Int64
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/messages" {
			return
		}
		id := fmt.Sprint(serial.Add(1))
		rw.Header().Set("Content-Type", "text/event-stream")
		var all bytes.Buffer
		for _, e := range events {
			if strings.Contains(e, "%q") {
				e = fmt.Sprintf(e, id)
			}
			all.WriteString(e)
		}
		cut := rand.IntN(3) > 0
		end := all.Len()
		if cut {
			end = rand.IntN(all.Len())
		}
		for at := 0; at < end; {
			n := min(1+rand.IntN(120), end-at)
			_, _ = rw.Write(all.Bytes()[at : at+n])
			_ = http.NewResponseController(rw).Flush()
			at += n
		}
		if cut && rand.IntN(2) == 0 {
			panic(http.ErrAbortHandler) // else a clean end that is short
		}
	}, func(o *Options) { o.KeyRetries = 8; o.Rand = func() float64 { return 0 } })
	a, _ := w.key("one", simulator.CreateKey{})
	b, _ := w.key("two", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{a}})
	// The breaker is not what is tested here.
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	var short, spliced, whole, errored, refused atomic.Int64
	for range 16 {
		wg.Go(func() {
			for range 60 {
				ctx, cancel := context.WithCancel(context.Background())
				r, _ := http.NewRequestWithContext(ctx, "POST", w.url+"/v1/messages", strings.NewReader(strings.Replace(helloStream, "haiku", fmt.Sprint("m", rand.IntN(200)), 1)))
				res, err := w.client.Do(r)
				if err != nil {
					cancel()
					continue
				}
				src := io.Reader(res.Body)
				hangUp := rand.IntN(6) == 0
				if hangUp {
					src = io.LimitReader(src, int64(rand.IntN(400)))
				}
				body, err := io.ReadAll(src)
				cancel()
				res.Body.Close()
				text := string(body)
				ids := map[string]bool{}
				for _, l := range strings.Split(text[:strings.LastIndexByte(text, '\n')+1], "\n") { // whole lines
					if _, id, ok := strings.Cut(l, `"id":"`); ok {
						ids[id] = true
					}
				}
				switch {
				case len(ids) > 1 || strings.Count(text, "event: message_start") > 1:
					spliced.Add(1)
				case hangUp:
				case res.StatusCode != 200:
					refused.Add(1)
				case strings.Contains(text, "event: message_stop"):
					whole.Add(1)
				case err == nil && !strings.Contains(text, "event: error"):
					short.Add(1)
				default:
					errored.Add(1)
				}
			}
		})
	}
	for i := range 10 {
		w.swap(Set{Keys: []Key{[]Key{b, a}[i%2]}})
	}
	wg.Wait()
	t.Logf("whole %d, with error event %d, refused %d", whole.Load(), errored.Load(), refused.Load())
	if spliced.Load() != 0 || short.Load() != 0 {
		t.Errorf("%d spliced, %d silently short", spliced.Load(), short.Load())
	}
	if whole.Load() == 0 || errored.Load() == 0 {
		t.Error("the test met no whole or no cut stream")
	}
	w.client.CloseIdleConnections()
	w.until("no request", func() bool {
		s := w.g.Status()
		return s.Active == 0 && s.Keys[0].InFlight == 0
	})
	w.g.transport.(*http.Transport).CloseIdleConnections()
	w.until("no goroutine more than before", func() bool { return runtime.NumGoroutine() <= before+4 })
}
