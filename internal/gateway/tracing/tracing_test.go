package tracing

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
)

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

// TestOff: without an address, or where the environment says so, there is nothing.
func TestOff(t *testing.T) {
	for _, e := range []func(string) string{
		env(), env("OTEL_TRACES_EXPORTER", "otlp"), env("OTEL_SDK_DISABLED", "true", "OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example"),
		env("OTEL_TRACES_EXPORTER", "none", "OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example"),
	} {
		s, err := Start(t.Context(), Options{Getenv: e})
		if s != nil || err != nil {
			t.Errorf("%v, %v", s, err)
		}
	}
	var none *Spans
	if none.Tracer() != nil || none.Host() != "" {
		t.Error("nothing makes spans")
	}
	none.Stop(t.Context())
}

// TestRefusals: what cannot be used is said at the start, and never with what stands in the variable.
func TestRefusals(t *testing.T) {
	const mark = "s3cr3t"
	for _, c := range []struct {
		kind     fault.Kind
		endpoint string
		env      []string
	}{
		{fault.Invalid, "http://" + mark + ".example:4318", nil},
		{fault.Invalid, "https://user:" + mark + "@c.example", nil},
		{fault.Invalid, "https://c.example/?a=" + mark, nil},
		{fault.Invalid, mark, nil},
		{fault.Invalid, "ftp://" + mark, nil},
		{fault.Invalid, "", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://" + mark + ".example"}},
		{fault.Invalid, "https://c.example", []string{"OTEL_EXPORTER_OTLP_HEADERS", mark}},
		{fault.Invalid, "https://c.example", []string{"OTEL_EXPORTER_OTLP_HEADERS", "a b=" + mark}},
		{fault.Invalid, "https://c.example", []string{"OTEL_EXPORTER_OTLP_HEADERS", "a=x%0d%0a" + mark}},
		{fault.Invalid, "https://c.example", []string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=%zz" + mark}},
		{fault.Invalid, "https://c.example", []string{"OTEL_EXPORTER_OTLP_TIMEOUT", mark}},
		{fault.Invalid, "https://c.example", []string{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/" + mark}},
		{fault.Invalid, "https://c.example", []string{"OTEL_TRACES_SAMPLER", mark}},
		{fault.Invalid, "https://c.example", []string{"OTEL_TRACES_SAMPLER", "traceidratio", "OTEL_TRACES_SAMPLER_ARG", "2"}},
		{fault.Invalid, "https://c.example", []string{"OTEL_TRACES_SAMPLER_ARG", "NaN"}},
		{fault.Unsupported, "https://c.example", []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}},
		{fault.Unsupported, "https://c.example", []string{"OTEL_EXPORTER_OTLP_COMPRESSION", mark}},
		{fault.Unsupported, "https://c.example", []string{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", mark}},
		{fault.Unsupported, "", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example", "OTEL_TRACES_EXPORTER", mark}},
	} {
		_, err := Start(t.Context(), Options{Endpoint: c.endpoint, Getenv: env(c.env...)})
		if !fault.Is(err, c.kind) || fault.HintOf(err) == "" {
			t.Errorf("%q %q: %v (hint %q)", c.endpoint, c.env, err, fault.HintOf(err))
		}
		if err != nil && strings.Contains(err.Error()+fault.HintOf(err), mark) {
			t.Errorf("%q %q: the error quotes what it was given: %v", c.endpoint, c.env, err)
		}
	}
}

func TestAddress(t *testing.T) {
	for _, c := range []struct {
		endpoint   string
		env        []string
		base, path string
	}{
		{"https://c.example:4318", nil, "https://c.example:4318", "/v1/traces"},
		{"https://c.example/otlp/", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://d.example/x", "OTEL_TRACES_EXPORTER", "none"}, "https://c.example", "/otlp/v1/traces"},
		{"", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"}, "http://localhost:4318", "/v1/traces"},
		{"", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://d.example/x"}, "https://d.example", "/x"},
		{"", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://d.example"}, "https://d.example", "/"},
	} {
		s, err := read(Options{Endpoint: c.endpoint, Getenv: env(c.env...)})
		if err != nil || s.base != c.base || s.path != c.path {
			t.Errorf("%q %q: %+v, %v", c.endpoint, c.env, s, err)
		}
	}
}

// collect is a collector over TLS.
func collect(t *testing.T, serve http.HandlerFunc) (url, certificate string) {
	t.Helper()
	srv := httptest.NewTLSServer(serve)
	t.Cleanup(srv.Close)
	certificate = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return srv.URL, certificate
}

// TestCollector: spans arrive at a collector over TLS, with the resource and the headers that the environment names.
func TestCollector(t *testing.T) {
	var mu sync.Mutex
	var got collector.ExportTraceServiceRequest
	var header http.Header
	at, ca := collect(t, func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if header = r.Header; err != nil || proto.Unmarshal(b, &got) != nil {
			t.Error("no spans came")
		}
	})
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=mine")
	s, err := Start(t.Context(), Options{Version: "1.2", Getenv: env("OTEL_EXPORTER_OTLP_ENDPOINT", at, "OTEL_EXPORTER_OTLP_CERTIFICATE", ca, "OTEL_EXPORTER_OTLP_HEADERS", "x-a=b%20c,x-d=e")})
	if err != nil {
		t.Fatal(err)
	}
	_, span := s.Tracer().Start(t.Context(), "one")
	span.SetAttributes(attribute.Int("n", 1))
	span.End()
	s.Stop(t.Context())
	s.Stop(t.Context())
	mu.Lock()
	defer mu.Unlock()
	if len(got.ResourceSpans) != 1 || got.ResourceSpans[0].ScopeSpans[0].Spans[0].Name != "one" {
		t.Fatalf("%v", &got)
	}
	attributes := map[string]string{}
	for _, a := range got.ResourceSpans[0].Resource.Attributes {
		attributes[a.Key] = a.Value.GetStringValue()
	}
	if attributes["service.name"] != "mine" || attributes["service.version"] != "1.2" || attributes["deployment.environment.name"] != "test" {
		t.Errorf("%v", attributes)
	}
	for name := range attributes {
		if strings.HasPrefix(name, "process.") || strings.HasPrefix(name, "host.") {
			t.Errorf("%s is told", name)
		}
	}
	if header.Get("X-A") != "b c" || header.Get("X-D") != "e" || header.Get("User-Agent") != "keywright/1.2" {
		t.Errorf("%v", header)
	}
}

// TestTrouble: a collector that refuses, redirects or is not there costs spans and nothing else; the log tells in words of our own.
func TestTrouble(t *testing.T) {
	const mark = "f0reign"
	for name, serve := range map[string]http.HandlerFunc{
		"refuses": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, mark, http.StatusForbidden) },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/"+mark, http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			at, ca := collect(t, serve)
			s, err := Start(t.Context(), Options{Endpoint: at, Getenv: env("OTEL_EXPORTER_OTLP_CERTIFICATE", ca), Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			_, span := s.Tracer().Start(t.Context(), "one")
			span.End()
			s.Stop(t.Context())
			if text := log.String(); strings.Count(text, "dropped") != 1 || strings.Contains(text, mark) {
				t.Errorf("log: %s", text)
			}
		})
	}
}

// TestTellsOnce: a collector that is away fills no log.
func TestTellsOnce(t *testing.T) {
	var log bytes.Buffer
	inner := &failing{fail: true}
	q := &quiet{SpanExporter: inner, log: slog.New(slog.NewTextHandler(&log, nil))}
	spans := make([]sdk.ReadOnlySpan, 3)
	for range 4 {
		if err := q.ExportSpans(t.Context(), spans); err != nil {
			t.Error(err)
		}
	}
	inner.fail = false
	_ = q.ExportSpans(t.Context(), spans)
	_ = q.ExportSpans(t.Context(), spans)
	if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "lost=12") {
		t.Errorf("log: %s", text)
	}
}

type failing struct {
	sdk.SpanExporter
	fail bool
}

func (f *failing) ExportSpans(context.Context, []sdk.ReadOnlySpan) error {
	if f.fail {
		return fault.New(fault.Unavailable, "x")
	}
	return nil
}

// TestTriesAgain: a collector that is overloaded gets the same spans again, after its pause; one that refuses does not.
func TestTriesAgain(t *testing.T) {
	for _, c := range []struct {
		status, calls int
	}{{http.StatusServiceUnavailable, tries}, {http.StatusTooManyRequests, tries}, {http.StatusBadRequest, 1}, {http.StatusUnauthorized, 1}} {
		synctest.Test(t, func(t *testing.T) {
			p := &pipes{serve: func() *http.Response { return &http.Response{StatusCode: c.status} }}
			client, err := httpx.New(httpx.Options{BaseURL: "http://localhost:1", Dial: p.dial})
			if err != nil {
				t.Fatal(err)
			}
			u := &upload{client: client, path: "/v1/traces", getenv: env()}
			began := time.Now()
			err = u.UploadTraces(t.Context(), []*otlp.ResourceSpans{{}})
			if err == nil || p.calls != c.calls {
				t.Errorf("status %d: %d calls, %v", c.status, p.calls, err)
			}
			if want := time.Duration(1<<(c.calls-1)-1) * time.Second; time.Since(began) != want {
				t.Errorf("status %d: took %s, want %s", c.status, time.Since(began), want)
			}
			client.CloseIdle()
		})
	}
}
