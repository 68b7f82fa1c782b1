package gateway

import (
	"context"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/keywright/keywright/internal/verdict"
)

// The spans of a request: one of kind server from its head to the last byte of the answer, and below it one of kind client for each attempt
// at the upstream. Attributes hold words of our own tables, classes, counts and times; never a value, a body, a path's id or text of the
// provider. Without Options.Tracer nothing of this costs anything.

// maxTraceState is how much of a caller's tracestate is taken over, in bytes: the standard asks for so much at least.
const maxTraceState = 512

// traced is the tracing of one exchange. The zero traced makes no spans.
type traced struct {
	parent  trace.SpanContext // of the caller
	server  trace.Span        // nil when the gateway makes no spans
	attempt trace.Span        // the one that runs, or nil
}

// parentOf reads the W3C context of a caller. What is not exactly as the standard says, or stands there twice, is no context.
func parentOf(h http.Header) trace.SpanContext {
	if len(h["Traceparent"]) != 1 {
		return trace.SpanContext{}
	}
	sc := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(h)))
	if state := h["Tracestate"]; len(state) > 1 || len(state) == 1 && len(state[0]) > maxTraceState {
		sc = sc.WithTraceState(trace.TraceState{})
	}
	return sc
}

// traceBegin starts the span of a request.
func (g *Gateway) traceBegin(r *http.Request, x *exchange) {
	if g.o.Tracer == nil && !g.o.TraceUpstream {
		return
	}
	x.traced.parent = parentOf(r.Header)
	if g.o.Tracer == nil {
		return
	}
	ctx := context.Background()
	if x.traced.parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, x.traced.parent)
	}
	_, x.traced.server = g.o.Tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(x.began))
}

// traceAttempt starts the span of an attempt with a key, and gives the headers of the upstream's call their context, if that is wanted.
// The caller's own context headers never go out: the provider is a third party.
func (g *Gateway) traceAttempt(h http.Header, x *exchange, e *entry) {
	t := &x.traced
	sc := t.parent
	if t.server != nil {
		sc = t.server.SpanContext()
	}
	if t.server != nil && t.server.IsRecording() {
		_, t.attempt = g.o.Tracer.Start(trace.ContextWithSpan(context.Background(), t.server), "upstream "+x.route.name, trace.WithSpanKind(trace.SpanKindClient),
			trace.WithAttributes(
				attribute.Int("keywright.attempt", x.attempts),
				attribute.String("keywright.fingerprint", string(x.key)),
				attribute.String("keywright.role", x.role),
				attribute.String("keywright.model", g.modelLabel(x.model)),
				attribute.String("http.request.method", x.route.method),
				attribute.String("server.address", g.upstream.Hostname()),
			))
		sc = t.attempt.SpanContext()
	}
	if g.o.TraceUpstream && sc.IsValid() {
		propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), sc), propagation.HeaderCarrier(h))
	}
}

// traceVerdict notes what an attempt came to. res may be nil.
func (x *exchange) traceVerdict(o verdict.Outcome, res *http.Response) {
	s := x.traced.attempt
	if s == nil {
		return
	}
	status := 0
	if res != nil {
		status = res.StatusCode
	}
	s.SetAttributes(attribute.String("keywright.verdict", o.Name), attribute.String("http.response.status_class", statusClass(status)))
	if status != 0 {
		s.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	if !fine(status) {
		s.SetStatus(codes.Error, "")
	}
}

// traceNext ends the span of an attempt that is given up for another.
func (x *exchange) traceNext() {
	if x.traced.attempt != nil {
		x.traced.attempt.End()
		x.traced.attempt = nil
	}
}

// traceEnd ends the spans of a request.
func (g *Gateway) traceEnd(r *http.Request, x *exchange, aborted bool, at time.Time) {
	t := &x.traced
	if t.server == nil {
		return
	}
	if !t.server.IsRecording() {
		t.server.End()
		return
	}
	route, name := "", "refused"
	if x.route != nil {
		name, route = x.route.name, strings.ReplaceAll(x.route.path, "{}", "{id}")
	}
	if t.attempt != nil {
		if x.first > 0 {
			t.attempt.SetAttributes(attribute.Float64("keywright.ttft_ms", milliseconds(x.first)))
		}
		if x.cut || aborted {
			t.attempt.SetStatus(codes.Error, "")
		}
		t.attempt.End(trace.WithTimestamp(at))
	}
	t.server.SetName(method(r.Method) + " " + name)
	t.server.SetAttributes(
		attribute.String("http.request.method", method(r.Method)),
		attribute.String("http.route", route),
		attribute.Int("http.response.status_code", x.status),
		attribute.String("http.response.status_class", statusClass(x.status)),
		attribute.String("keywright.model", g.modelLabel(x.model)),
		attribute.String("keywright.app", g.metrics.appLabel(x)),
		attribute.String("keywright.fingerprint", string(x.key)),
		attribute.String("keywright.role", x.role),
		attribute.String("keywright.verdict", x.row),
		attribute.Int("keywright.attempts", x.attempts),
		attribute.Bool("keywright.stream", x.stream),
		attribute.Bool("keywright.cut", x.cut),
		attribute.Bool("keywright.aborted", aborted),
		attribute.Int64("keywright.input_tokens", x.usage.Input),
		attribute.Int64("keywright.output_tokens", x.usage.Output),
	)
	if x.first > 0 {
		t.server.SetAttributes(attribute.Float64("keywright.ttft_ms", milliseconds(x.first)))
	}
	if x.status >= http.StatusInternalServerError || x.cut {
		t.server.SetStatus(codes.Error, "")
	}
	t.server.End(trace.WithTimestamp(at))
}

// traceID gives the id under which a request can be found among the traces, or nothing.
func (x *exchange) traceID() string {
	if x.traced.server == nil || !x.traced.server.SpanContext().IsSampled() {
		return ""
	}
	return x.traced.server.SpanContext().TraceID().String()
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// appLabel gives the application of a request as the metrics name it.
func (m *metrics) appLabel(x *exchange) string {
	if x.app == nil {
		return ""
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.apps[x.app.name] {
		return x.app.name
	}
	return "other"
}
