package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// answering gives the same answer to every request, without a network.
type answering []byte

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(a)), Body: io.NopCloser(bytes.NewReader(a)),
		Header: http.Header{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(a))}, "Request-Id": {"req_1"}, "Anthropic-Organization-Id": {"org_1"}},
	}, nil
}

// discarding is a ResponseWriter that keeps nothing.
type discarding struct{ h http.Header }

func (d discarding) Header() http.Header             { return d.h }
func (d discarding) Write(p []byte) (int, error)     { return len(p), nil }
func (d discarding) WriteHeader(int)                 {}
func (d discarding) SetReadDeadline(time.Time) error { return nil }

// BenchmarkOverhead is the work of the gateway and of a bare ReverseProxy for one request, without any network: what is left after subtraction
// is the gateway's own.
func BenchmarkOverhead(b *testing.B) {
	answer := answering(`{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"` + strings.Repeat("x", 800) + `"}],"model":"claude-haiku-5-5","stop_reason":"end_turn","usage":{"input_tokens":500,"output_tokens":200}}`)
	body := `{"model":"claude-haiku-5-5","max_tokens":256,"messages":[{"role":"user","content":"` + strings.Repeat("y", 1900) + `"}]}`
	dir := b.TempDir()
	u, err := url.Parse("http://127.0.0.1:1")
	if err != nil {
		b.Fatal(err)
	}
	bare := &httputil.ReverseProxy{BufferPool: newBuffers(), Transport: answer, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.Out.Header["X-Api-Key"] = []string{"x"}
	}}
	s, err := identity.OpenSigner(dir)
	if err != nil {
		b.Fatal(err)
	}
	ids, err := s.Tokens()
	if err != nil {
		b.Fatal(err)
	}
	token, _, err := s.Issue("bench", time.Hour, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(dir + "/access.log")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	guards := App{RequestsPerMinute: 1e9, TokensPerMinute: 1e12, Concurrent: 1e6, Models: []string{"claude-*"}, CostPerDay: 1e12, Prices: map[string]Price{"haiku": {Input: 1, Output: 5}}}
	cached := guards
	cached.Cache = []string{"messages"}
	for _, scene := range []struct {
		name string
		app  App
	}{{"bare", App{}}, {"gateway", App{}}, {"guards", guards}, {"cache", cached}} {
		b.Run(scene.name, func(b *testing.B) {
			var h http.Handler = bare
			if scene.name != "bare" {
				g, err := New(Options{Upstream: u.String(), Transport: answer, Identify: []identity.Identifier{ids}, StateDir: b.TempDir(), Access: NewLines(f), Default: scene.app})
				if err != nil {
					b.Fatal(err)
				}
				defer g.Close()
				if err := g.Swap(Set{Keys: []Key{{Name: "bench", Value: secrettest.Fake(b)}}}); err != nil {
					b.Fatal(err)
				}
				g.allowHosts("gateway.test")
				h = g
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/messages", nil)
			r.Host, r.RequestURI, r.ContentLength = "gateway.test", "/v1/messages", int64(len(body))
			r.Header = http.Header{"X-Api-Key": {token.RevealString()}, "Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}, "User-Agent": {"bench"}, "Accept-Encoding": {"gzip"}}
			w := discarding{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				one := *r
				one.Body = io.NopCloser(strings.NewReader(body))
				clear(w.h)
				h.ServeHTTP(w, &one)
			}
		})
	}
}
