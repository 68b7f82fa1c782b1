package gateway

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/keywright/keywright/internal/gateway/tracing"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// receiver is a collector that decodes what it gets.
type receiver struct {
	t   *testing.T
	url string

	mu     sync.Mutex
	spans  []*otlp.Span
	raw    bytes.Buffer
	header http.Header
	paths  []string
	answer []int // statuses to give first
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	c := &receiver{t: t}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

func (c *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			c.t.Error(err)
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	var m collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &m)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("%s: %v", r.Header.Get("Content-Type"), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header, c.paths = r.Header, append(c.paths, r.URL.Path)
	if len(c.answer) > 0 {
		w.WriteHeader(c.answer[0])
		c.answer = c.answer[1:]
		return
	}
	c.raw.Write(b)
	for _, rs := range m.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// traced starts a gateway that sends spans to the receiver, and gives a function that waits for them.
func (c *receiver) traced(so simulator.Options, env map[string]string, change func(o *Options)) (*world, func() []*otlp.Span) {
	c.t.Helper()
	log := &buffer{}
	s, err := tracing.Start(c.t.Context(), tracing.Options{Endpoint: c.url, Version: "1", Getenv: func(name string) string { return env[name] }, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		c.t.Fatal(err)
	}
	w := start(c.t, so, func(o *Options) {
		o.Tracer = s.Tracer()
		if change != nil {
			change(o)
		}
	})
	return w, func() []*otlp.Span {
		w.until("no request", func() bool { return w.g.Status().Active == 0 })
		s.Stop(context.Background())
		c.mu.Lock()
		defer c.mu.Unlock()
		secrettest.NoLeak(c.t, "spans", c.raw.Bytes(), w.values...)
		secrettest.NoLeak(c.t, "log of spans", log.Bytes(), w.values...)
		slices.SortStableFunc(c.spans, func(a, b *otlp.Span) int { return cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano) })
		return c.spans
	}
}

func attributesOf(s *otlp.Span) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes {
		v := a.Value
		switch {
		case v.GetStringValue() != "":
			m[a.Key] = v.GetStringValue()
		default:
			m[a.Key] = fmt.Sprint(v.GetIntValue(), v.GetBoolValue(), v.GetDoubleValue())
		}
	}
	return m
}

const (
	traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	notSampled  = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// TestTraceOfAFailover: one span of the request below the caller's, and one for each attempt below it, with what the verdict table said.
func TestTraceOfAFailover(t *testing.T) {
	c := newReceiver(t)
	var upstream sync.Map
	w, spans := c.traced(simulator.Options{}, map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20collector", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, func(o *Options) {
		inner := http.DefaultTransport.(*http.Transport).Clone()
		o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			for _, h := range []string{"Traceparent", "Tracestate", "Baggage"} {
				if v := r.Header.Get(h); v != "" {
					upstream.Store(h, v)
				}
			}
			return inner.RoundTrip(r)
		})
	})
	a, idA := w.key("primary", simulator.CreateKey{})
	b, _ := w.key("backup", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{a, b}})
	w.probed()
	if err := w.sim.SetStatus(idA, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	w.want(200, "POST", "/v1/messages", helloStream, "Traceparent", traceParent, "Tracestate", "vendor=1", "Baggage", "user=somebody")
	got := spans()
	if len(got) != 3 {
		t.Fatalf("%d spans", len(got))
	}
	server, first, second := got[0], got[1], got[2]
	if server.Name != "POST messages" || server.Kind != otlp.Span_SPAN_KIND_SERVER || hex.EncodeToString(server.ParentSpanId) != "b7ad6b7169203331" || server.TraceState != "vendor=1" {
		t.Errorf("server span: %v", server)
	}
	for i, s := range []*otlp.Span{first, second} {
		if hex.EncodeToString(s.TraceId) != "0af7651916cd43dd8448eb211c80319c" || !bytes.Equal(s.ParentSpanId, server.SpanId) || s.Kind != otlp.Span_SPAN_KIND_CLIENT || s.Name != "upstream messages" ||
			s.EndTimeUnixNano > server.EndTimeUnixNano || s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("attempt %d: %v", i+1, s)
		}
	}
	m := attributesOf(server)
	for name, want := range map[string]string{
		"http.route": "/v1/messages", "keywright.app": OpenApp, "keywright.model": "haiku", "keywright.fingerprint": string(b.Value.Fingerprint()), "keywright.role": "backup",
		"keywright.verdict": "ok", "http.response.status_class": "2xx", "keywright.attempts": "2 false 0", "http.response.status_code": "200 false 0",
	} {
		if m[name] != want {
			t.Errorf("%s is %q, want %q", name, m[name], want)
		}
	}
	if m["keywright.ttft_ms"] == "" {
		t.Error("no time to the first content")
	}
	if m := attributesOf(first); m["http.response.status_class"] != "4xx" || m["keywright.fingerprint"] != string(a.Value.Fingerprint()) || m["keywright.attempt"] != "1 false 0" || first.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("first attempt: %v", m)
	}
	if m := attributesOf(second); m["http.response.status_class"] != "2xx" || m["keywright.ttft_ms"] == "" {
		t.Errorf("second attempt: %v", m)
	}
	if c.header.Get("Authorization") != "Bearer collector" || c.paths[0] != "/v1/traces" {
		t.Errorf("%v %v", c.header, c.paths)
	}
	upstream.Range(func(name, v any) bool {
		t.Errorf("%v: %v went to the provider", name, v)
		return true
	})
	if !strings.Contains(string(w.access.Bytes()), `"trace_id":"0af7651916cd43dd8448eb211c80319c"`) {
		t.Error("the access log does not name the trace")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTraceSampling: the caller's decision is followed; without one the ratio decides; a context that is not well formed is none.
func TestTraceSampling(t *testing.T) {
	c := newReceiver(t)
	w, spans := c.traced(simulator.Options{}, map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, nil)
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	w.want(200, "POST", "/v1/messages", hello)
	w.want(200, "POST", "/v1/messages", hello, "Traceparent", notSampled)
	w.want(200, "POST", "/v1/messages", hello, "Traceparent", traceParent, "Traceparent", traceParent)
	for _, bad := range []string{"x", traceParent + "x", strings.ToUpper(traceParent), "00-" + strings.Repeat("0", 32) + traceParent[35:], "ff" + traceParent[2:], traceParent + "\t, " + traceParent} {
		w.want(200, "POST", "/v1/messages", hello, "Traceparent", bad)
	}
	w.want(200, "GET", "/v1/models/claude-haiku-5-5", "", "Traceparent", traceParent, "Tracestate", "v="+strings.Repeat("x", maxTraceState))
	w.want(404, "GET", "/v1/organizations/me", "", "Traceparent", traceParent)
	got := spans()
	if len(got) != 3 || got[0].Name != "GET models" || got[0].TraceState != "" || got[2].Name != "GET refused" {
		t.Fatalf("%d spans: %v", len(got), got)
	}
	if m := attributesOf(got[0]); m["http.route"] != "/v1/models/{id}" || strings.Contains(c.raw.String(), "claude-haiku-5-5") {
		t.Errorf("%v", m)
	}
	if m := attributesOf(got[2]); m["http.response.status_class"] != "4xx" || m["keywright.attempts"] != "0 false 0" || strings.Contains(c.raw.String(), "organizations") {
		t.Errorf("%v", m)
	}
}

// TestTraceUpstream: the context goes to the provider only where that was asked for; then it is the attempt's, or without spans the caller's.
func TestTraceUpstream(t *testing.T) {
	for name, spans := range map[string]bool{"with spans": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			var mu sync.Mutex
			c := newReceiver(t)
			serve := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, r.Header.Get("Traceparent"), r.Header.Get("Tracestate"))
				if len(seen) == 2 {
					rw.WriteHeader(529)
				}
			}))
			defer serve.Close()
			w, stop := c.traced(simulator.Options{}, nil, func(o *Options) {
				o.Upstream, o.TraceUpstream, o.Rand = serve.URL, true, func() float64 { return 0 }
				if !spans {
					o.Tracer = nil
				}
			})
			k, _ := w.key("primary", simulator.CreateKey{})
			w.swap(Set{Keys: []Key{k}})
			w.want(200, "POST", "/v1/messages", hello, "Traceparent", traceParent, "Tracestate", "vendor=1")
			got := stop()
			if len(seen) != 4 || seen[1] != "vendor=1" || seen[3] != "vendor=1" {
				t.Fatalf("the provider saw %q", seen)
			}
			if !spans {
				if seen[0] != traceParent || seen[2] != traceParent || len(got) != 0 {
					t.Errorf("the provider saw %q; %d spans", seen, len(got))
				}
				return
			}
			for i, s := range got[1:] {
				if want := fmt.Sprintf("00-%x-%x-01", s.TraceId, s.SpanId); seen[2*i] != want {
					t.Errorf("attempt %d: the provider saw %q, want %q", i+1, seen[2*i], want)
				}
			}
		})
	}
}
