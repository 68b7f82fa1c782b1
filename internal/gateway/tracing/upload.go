package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
)

// upload posts spans to a collector.
type upload struct {
	client *httpx.Client
	path   string
	host   string
	gzip   bool
	getenv func(string) string
}

var _ otlptrace.Client = (*upload)(nil)

// maxReply bounds an answer; it holds a few numbers that nobody reads.
const maxReply = 64 << 10

func newUpload(s *settings, o Options) (*upload, error) {
	agent := "keywright"
	if o.Version != "" {
		agent += "/" + o.Version
	}
	c, err := httpx.New(httpx.Options{BaseURL: s.base, UserAgent: agent, Timeout: s.timeout, MaxBody: maxReply, RootCAs: s.roots})
	if err != nil {
		return nil, fault.In(err, "start traces")
	}
	u, err := url.Parse(s.base)
	if err != nil {
		return nil, invalid("the collector's address is no absolute URL", "write it as https://host:4318")
	}
	return &upload{client: c, path: s.path, host: u.Host, gzip: s.gzip, getenv: o.Getenv}, nil
}

// Start opens nothing: the first spans do.
func (u *upload) Start(context.Context) error { return nil }

// Stop closes connections.
func (u *upload) Stop(context.Context) error {
	u.client.CloseIdle()
	return nil
}

// tries is how often spans are sent, and firstWait the pause after the first time; it doubles.
const (
	tries     = 4
	firstWait = time.Second
)

// UploadTraces sends spans, again when the collector asks for it or is away for a moment. Kinds are those of httpx.
func (u *upload) UploadTraces(ctx context.Context, spans []*otlp.ResourceSpans) error {
	// The message of the collector's service has the same form on the wire.
	body, err := proto.Marshal(&otlp.TracesData{ResourceSpans: spans})
	if err != nil {
		return fault.New(fault.Unknown, "send spans: they cannot be encoded")
	}
	h, err := headers(u.getenv)
	if err != nil {
		return err
	}
	h.Set("Content-Type", "application/x-protobuf")
	if u.gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(body) // a buffer takes everything
		_ = w.Close()
		body = packed.Bytes()
		h.Set("Content-Encoding", "gzip")
	}
	for try := 1; ; try++ {
		_, err := u.client.Do(ctx, httpx.Request{Method: http.MethodPost, Path: u.path, Header: h.Clone(), Body: body, Repeatable: true})
		if err == nil || try == tries || !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.RateLimited) {
			return err
		}
		t := time.NewTimer(max(firstWait<<(try-1), min(fault.RetryAfterOf(err), 10*time.Second)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}
