// Package tracing sends the spans of a gateway to a collector, as OTLP over HTTP: it reads the standard OTEL_* variables, makes the SDK's
// provider of tracers, and carries what that gathers through package httpx. So a collector is reached as every other address is: https, or
// http to this host, no redirect, no proxy, no link-local or metadata address.
//
// It never puts a header, an address' path or text of the collector into an error or a log line, never waits for a collector on the way of
// a request (spans that find no room are dropped), and sets nothing global. It has a client of its own and not the SDK's, since that one
// logs variables that it cannot read, and brings gRPC into the program. app makes it; package gateway knows the tracer alone.
package tracing

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/keywright/keywright/internal/fault"
)

// Options says where spans go. The zero Options leaves everything to the environment.
type Options struct {
	// Endpoint is the base address of a collector, such as https://collector.example:4318; /v1/traces is added. It wins over the
	// environment. Empty: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, then OTEL_EXPORTER_OTLP_ENDPOINT.
	Endpoint string
	// Version of the program, for the resource.
	Version string
	// Log receives a line when spans were lost, and when they arrive again. Nil logs nothing.
	Log *slog.Logger
	// Getenv is the environment; nil means the process's own. It is asked again for each request that has headers from it, so that
	// none is kept.
	Getenv func(string) string
	// RootCAs replaces the system's certificate authorities when it is not nil; OTEL_EXPORTER_OTLP_CERTIFICATE wins.
	RootCAs *x509.CertPool
}

// Spans makes tracers and sends what they gather. It is safe for concurrent use.
type Spans struct {
	provider *sdk.TracerProvider
	host     string
}

// Start gives nil and no error when nothing says where spans should go, or when OTEL_SDK_DISABLED or OTEL_TRACES_EXPORTER=none says that
// none shall be made. It opens no connection. Kinds: Invalid (an address or variable that cannot be used) and Unsupported (another protocol
// or exporter, a client certificate).
func Start(ctx context.Context, o Options) (*Spans, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := read(o)
	if s == nil || err != nil {
		return nil, err
	}
	up, err := newUpload(s, o)
	if err != nil {
		return nil, err
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "keywright-gateway"), attribute.String("service.version", o.Version)), resource.WithFromEnv())
	if err != nil {
		return nil, fault.New(fault.Invalid, "start traces: OTEL_RESOURCE_ATTRIBUTES cannot be read", fault.Hint("write it as name=value,name=value"))
	}
	exporter, err := otlptrace.New(ctx, up)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "start traces")
	}
	return &Spans{host: up.host, provider: sdk.NewTracerProvider(sdk.WithResource(res), sdk.WithSampler(s.sampler), sdk.WithBatcher(&quiet{SpanExporter: exporter, log: o.Log}))}, nil
}

// Tracer gives the tracer of the gateway. A nil *Spans gives nil.
func (s *Spans) Tracer() trace.Tracer {
	if s == nil {
		return nil
	}
	return s.provider.Tracer("github.com/keywright/keywright/internal/gateway")
}

// Host names the collector, for screens.
func (s *Spans) Host() string {
	if s == nil {
		return ""
	}
	return s.host
}

// stopTime bounds how long the last spans may take.
const stopTime = 5 * time.Second

// Stop sends what is left, for five seconds at most. It may be called twice, and on nil.
func (s *Spans) Stop(ctx context.Context) {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	_ = s.provider.Shutdown(ctx) // what was lost is told by quiet
}

// quiet tells of lost spans in words of our own; the SDK would print the error, which may quote the collector.
type quiet struct {
	sdk.SpanExporter
	log  *slog.Logger
	lost atomic.Int64 // since the last success
}

var _ sdk.SpanExporter = (*quiet)(nil)

// ExportSpans never fails: nobody could do anything about it.
func (q *quiet) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := q.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err == nil:
		if n := q.lost.Swap(0); n > 0 {
			q.log.WarnContext(ctx, "the collector takes spans again", "lost", n)
		}
	case q.lost.Add(int64(len(spans))) == int64(len(spans)):
		q.log.WarnContext(ctx, "the collector took no spans; they are dropped", "kind", fault.KindOf(err).String(), "lost", len(spans))
	}
	return nil
}
