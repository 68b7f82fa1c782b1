package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/gateway/identity"
)

// TestWhole: a stream that is short, spliced or has an event too many is told apart from one that is as it should be.
func TestWhole(t *testing.T) {
	events := script("msg_1", 3)
	text := strings.Join(events, "")
	if err := whole(text, 3); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]string{
		"empty":         "",
		"cut":           text[:len(text)/2],
		"without end":   strings.Join(events[:len(events)-1], ""),
		"event missing": strings.Replace(text, events[4], "", 1),
		"event twice":   strings.Replace(text, events[4], events[4]+events[4], 1),
		"spliced":       strings.Replace(text, events[4], script("msg_2", 3)[4], 1),
	} {
		if whole(bad, 3) == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// TestProvider: the imitation knows its own keys alone, and counts requests that began behind the end of their key.
func TestProvider(t *testing.T) {
	p := &provider{answer: func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusOK) }}
	a := p.key()
	ask := func(method, key, began string) int {
		r := httptest.NewRequestWithContext(context.Background(), method, "/v1/messages", strings.NewReader("{}"))
		r.Header.Set("X-Api-Key", key)
		r.Header.Set(beganHeader, began)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w.Code
	}
	if got := ask("POST", a.text, "1"); got != 200 {
		t.Error(got)
	}
	if got := ask("POST", a.text+"x", "1"); got != 401 {
		t.Error(got)
	}
	a.closed.Store(5)
	ask("POST", a.text, "4")
	ask("POST", a.text, "6")
	a.live.Store(false)
	if got := ask("GET", a.text, ""); got != 401 {
		t.Error(got)
	}
	if a.late.Load() != 1 || p.late() != 1 || a.calls.Load() != 3 || a.probes.Load() != 1 {
		t.Errorf("late %d, calls %d, probes %d", a.late.Load(), a.calls.Load(), a.probes.Load())
	}
}

// TestEnding: each way in which a stream can end is told apart.
func TestEnding(t *testing.T) {
	events := script("msg_1", 3)
	text := strings.Join(events, "")
	fails := "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"x\"}}\n\n"
	first := strings.Join(events[:preamble+1], "")
	for name, c := range map[string]struct{ text, want string }{
		"whole":                              {text, endedWhole},
		"nothing":                            {"", endedShort},
		"cut between events":                 {first, endedShort},
		"cut inside of an event":             {first[:len(first)-5], endedShort},
		"told":                               {first + fails, endedTold},
		"told behind all but the last event": {strings.Join(events[:len(events)-1], "") + fails, endedTold},
		"told behind half an event":          {first[:len(first)-5] + fails, endedSpliced},
		"error alone":                        {fails, endedEarly},
		"error before content":               {strings.Join(events[:preamble], "") + fails, endedEarly},
		"error behind the end":               {text + fails, endedSpliced},
		"error twice":                        {first + fails + fails, endedSpliced},
		"event missing":                      {strings.Replace(text, events[4], "", 1), endedSpliced},
		"event twice":                        {strings.Replace(text, events[4], events[4]+events[4], 1), endedSpliced},
		"two messages":                       {strings.Replace(text, events[4], script("msg_2", 3)[4], 1), endedSpliced},
		"a second message behind an error":   {first + fails + text, endedSpliced},
	} {
		if got := ending(c.text, 3); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestDeadCalls: only what began behind the first refusal counts.
func TestDeadCalls(t *testing.T) {
	key, backup := newAccount("one"), newAccount("two")
	d := &deadCalls{primary: key, attempts: map[string]int{}, refused: map[string]int64{}}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // the imitation does not take its time
	ask := func(method, id string, began int64) *http.Request {
		r := httptest.NewRequestWithContext(ctx, method, "/v1/messages", nil)
		r.Header.Set(idHeader, id)
		r.Header.Set(beganHeader, strconv.FormatInt(began, 10))
		return r
	}
	one := ask("POST", "1", since())
	d.arrived(key, one)
	d.wrote(key, one)
	d.arrived(backup, one)
	d.arrived(key, ask("POST", "2", d.first-1)) // was under way
	d.arrived(key, ask("POST", "3", d.first+1))
	d.arrived(backup, ask("POST", "4", d.first+1))
	d.arrived(key, ask("GET", "", 0))
	if d.messages != 3 || d.later != 1 || d.probes != 1 || d.attempts["1"] != 2 || len(d.pauses) != 1 {
		t.Errorf("messages %d, later %d, probes %d, attempts %v, pauses %d", d.messages, d.later, d.probes, d.attempts, len(d.pauses))
	}
}

// TestErrorStreams: the load of row 4 finds the gateway as it should be, and a proxy that knows nothing of streams not.
func TestErrorStreams(t *testing.T) {
	s := &stage{deltas: 3}
	p, err := startProvider(t.Context(), s.answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	client := caller(streamWorkers)
	t.Cleanup(client.CloseIdleConnections)
	upstream, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	key := p.key()
	plain := httptest.NewServer(&httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(upstream)
		r.Out.Header.Set("X-Api-Key", key.text)
	}})
	t.Cleanup(plain.Close)
	for _, f := range errorStreams(t.Context(), client, &process{url: plain.URL}, s.deltas, 20)[:4] {
		if f.met {
			t.Errorf("a bare proxy: %s: met with %s", f.what, f.got)
		}
	}

	s.attempts.Clear() // the same requests begin anew
	g, err := gateway.New(gateway.Options{Upstream: p.url, Identify: []identity.Identifier{anybody{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	if err := g.Swap(gateway.Set{Keys: []gateway.Key{{Name: "one", Value: key.value()}, {Name: "two", Value: p.key().value()}}}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- g.Serve(ctx, l, nil, time.Minute) }()
	for _, f := range errorStreams(t.Context(), client, &process{url: "http://" + l.Addr().String()}, s.deltas, 20) {
		if !f.met {
			t.Errorf("%s: %s", f.what, f.got)
		}
	}
	client.CloseIdleConnections()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// anybody may call.
type anybody struct{}

func (anybody) Identify(*http.Request) (identity.Caller, error) {
	return identity.Caller{App: "bench"}, nil
}
