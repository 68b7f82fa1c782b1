package httpx_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T, base string, change ...func(*httpx.Options)) *httpx.Client {
	t.Helper()
	o := httpx.Options{BaseURL: base, UserAgent: "keywright/test"}
	for _, c := range change {
		c(&o)
	}
	c, err := httpx.New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func TestStatusGivesKind(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		if _, err := fmt.Sscanf(r.URL.Path, "/%d", &status); err != nil {
			t.Errorf("path %q", r.URL.Path)
		}
		w.WriteHeader(status)
		io.WriteString(w, "text of the other side")
	})
	c := client(t, s.URL)
	for status, want := range map[int]fault.Kind{
		300: fault.Invalid, 301: fault.Invalid, 304: fault.Invalid, 400: fault.Invalid, 401: fault.Unauthenticated, 402: fault.Invalid, 403: fault.Forbidden,
		404: fault.NotFound, 405: fault.Invalid, 407: fault.Forbidden, 408: fault.Unavailable, 409: fault.Conflict, 410: fault.NotFound,
		412: fault.Conflict, 413: fault.Invalid, 422: fault.Invalid, 425: fault.Unavailable, 429: fault.RateLimited, 500: fault.Unavailable,
		502: fault.Unavailable, 503: fault.Unavailable, 504: fault.Unavailable, 529: fault.Unavailable, 599: fault.Unavailable,
	} {
		for _, method := range []string{"GET", "POST"} {
			for _, repeatable := range []bool{false, true} {
				want := want
				if method == "POST" && !repeatable && slices.Contains([]int{500, 502, 503, 504}, status) {
					want = fault.Indeterminate
				}
				reply, err := c.Do(t.Context(), httpx.Request{Method: method, Path: fmt.Sprintf("/%d", status), Repeatable: repeatable})
				if fault.KindOf(err) != want || err == nil {
					t.Errorf("%s %d repeatable=%v: %v (%v), want %v", method, status, repeatable, err, fault.KindOf(err), want)
				}
				if reply.Status != status {
					t.Errorf("%d: Status = %d", status, reply.Status)
				}
				if err != nil && strings.Contains(err.Error(), "other side") {
					t.Errorf("%d: the body is in the error: %v", status, err)
				}
			}
		}
	}
	if _, err := c.Do(t.Context(), httpx.Request{Path: "/204"}); err != nil {
		t.Errorf("204: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name, date string
		header     map[string]string
		want       time.Duration
	}{
		{"seconds", "", map[string]string{"Retry-After": "7"}, 7 * time.Second},
		{"fraction", "", map[string]string{"Retry-After": "0.5"}, 500 * time.Millisecond},
		{"milliseconds win", "", map[string]string{"Retry-After": "7", "Retry-After-Ms": "1500"}, 1500 * time.Millisecond},
		{"date against the reply's clock", at.Format(http.TimeFormat), map[string]string{"Retry-After": at.Add(90 * time.Second).Format(http.TimeFormat)}, 90 * time.Second},
		{"date against our clock", "none", map[string]string{"Retry-After": at.Add(30 * time.Second).Format(http.TimeFormat)}, 30 * time.Second},
		{"past date", at.Format(http.TimeFormat), map[string]string{"Retry-After": at.Add(-time.Hour).Format(http.TimeFormat)}, 0},
		{"negative", "", map[string]string{"Retry-After": "-5"}, 0},
		{"not a number", "", map[string]string{"Retry-After": "NaN"}, 0},
		{"endless", "", map[string]string{"Retry-After": "+Inf"}, 31 * 24 * time.Hour},
		{"garbage", "", map[string]string{"Retry-After": "soon"}, 0},
		{"absent", "", nil, 0},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range tc.header {
				w.Header().Set(k, v)
			}
			switch tc.date {
			case "none":
				w.Header()["Date"] = nil
			case "":
			default:
				w.Header().Set("Date", tc.date)
			}
			w.WriteHeader(429)
		})
		reply, err := client(t, s.URL, func(o *httpx.Options) { o.Now = func() time.Time { return at } }).Do(t.Context(), httpx.Request{})
		if got := fault.RetryAfterOf(err); got != tc.want || reply.RetryAfter != tc.want {
			t.Errorf("%s: %v in the error, %v in the reply, want %v", tc.name, got, reply.RetryAfter, tc.want)
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var elsewhere atomic.Int32
	other := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, status) })
		_, err := client(t, s.URL).Do(t.Context(), httpx.Request{Auth: httpx.Bearer(secrettest.Fake(t))})
		if !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("%d: %v", status, err)
		}
		if strings.Contains(err.Error(), other.URL) {
			t.Errorf("%d: the error names the foreign address: %v", status, err)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("the other server was called %d times", n)
	}
}

func TestHostIsPinned(t *testing.T) {
	var wrong atomic.Int32
	other := serve(t, func(http.ResponseWriter, *http.Request) { wrong.Add(1) })
	s := serve(t, func(http.ResponseWriter, *http.Request) {})
	c := client(t, s.URL)
	for _, address := range []string{other.URL, strings.Replace(s.URL, "http://", "https://", 1)} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Adapt(httpx.Auth{}, false).Do(req); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", address, err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "elsewhere.example"
	if _, err := c.Adapt(httpx.Auth{}, false).Do(req); !fault.Is(err, fault.Invalid) {
		t.Errorf("foreign Host header: %v", err)
	}
	if wrong.Load() != 0 {
		t.Error("the other server was called")
	}
}

func TestPathsCannotLeadElsewhere(t *testing.T) {
	var paths []string
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { paths = append(paths, r.URL.EscapedPath()) })
	c := client(t, s.URL+"/base")
	for _, bad := range []string{"//evil.example", "no-slash", "/a/../b", "/..", "/a?b=c", "/a#b", `/a\b`, "/%zz", "/a b", httpx.Path("a", "..", "b"), httpx.Path("a", "")} {
		if _, err := c.Do(t.Context(), httpx.Request{Path: bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("path %q: %v", bad, err)
		}
	}
	if len(paths) != 0 {
		t.Fatalf("sent: %q", paths)
	}
	if _, err := c.Do(t.Context(), httpx.Request{Path: httpx.Path("v1", "keys", "a/../b?c")}); err != nil {
		t.Fatal(err)
	}
	if got, want := paths[0], "/base/v1/keys/a%2F..%2Fb%3Fc"; got != want {
		t.Errorf("path = %q, want %q", got, want)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	limit := func(o *httpx.Options) { o.MaxBody = 1000 }
	plain := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1001)) })
	exact := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1000)) })
	packed := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Error("the client does not ask for gzip, so this proves nothing")
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		for range 1000 {
			z.Write(make([]byte, 10_000))
		}
		z.Close()
	})
	if _, err := client(t, exact.URL, limit).Do(t.Context(), httpx.Request{}); err != nil {
		t.Errorf("exactly the limit: %v", err)
	}
	for name, s := range map[string]*httptest.Server{"plain": plain, "packed": packed} {
		if _, err := client(t, s.URL, limit).Do(t.Context(), httpx.Request{}); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s read: %v", name, err)
		}
		if _, err := client(t, s.URL, limit).Do(t.Context(), httpx.Request{Method: "POST"}); !fault.Is(err, fault.Indeterminate) {
			t.Errorf("%s write: %v", name, err)
		}
	}
}

// hang answers nothing, or half of an answer, until the test ends.
func hang(t *testing.T, half bool) *httptest.Server {
	t.Helper()
	end := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if half {
			w.WriteHeader(200)
			io.WriteString(w, `{"a":`)
			http.NewResponseController(w).Flush()
		}
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(end); s.Close() })
	return s
}

func TestBrokenExchanges(t *testing.T) {
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, `{"half":`)
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	drop := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	closed := httptest.NewServer(nil)
	closed.Close()
	garbage := rawServer(t, "NOT HTTP secret text of the other side\r\n\r\n")
	odd := rawServer(t, "HTTP/1.1 200 OK\r\nsecret text of the other side\r\n\r\n")
	soon := func(o *httpx.Options) { o.Timeout = 30 * time.Millisecond }
	for _, tc := range []struct {
		name, url   string
		change      func(*httpx.Options)
		read, write fault.Kind
	}{
		{"cut body", cut.URL, nil, fault.Unavailable, fault.Indeterminate},
		{"dropped reply", drop.URL, nil, fault.Unavailable, fault.Indeterminate},
		{"refused connection", closed.URL, nil, fault.Unavailable, fault.Unavailable},
		{"slow header", hang(t, false).URL, soon, fault.Unavailable, fault.Indeterminate},
		{"slow body", hang(t, true).URL, soon, fault.Unavailable, fault.Indeterminate},
		{"not HTTP", garbage, nil, fault.Unavailable, fault.Indeterminate},
		{"broken header", odd, nil, fault.Unavailable, fault.Indeterminate},
	} {
		if tc.change == nil {
			tc.change = func(*httpx.Options) {}
		}
		c := client(t, tc.url, tc.change)
		for _, call := range []struct {
			r    httpx.Request
			want fault.Kind
		}{
			{httpx.Request{}, tc.read},
			{httpx.Request{Method: "POST", JSON: 1}, tc.write},
			{httpx.Request{Method: "POST", JSON: 1, Repeatable: true}, tc.read},
		} {
			_, err := c.Do(t.Context(), call.r)
			if err == nil || fault.KindOf(err) != call.want {
				t.Errorf("%s %s: %v (%v), want %v", tc.name, call.r.Method, err, fault.KindOf(err), call.want)
			}
			if err != nil && strings.Contains(err.Error(), "other side") {
				t.Errorf("%s: text of the reply in %q", tc.name, err)
			}
		}
	}
}

// rawServer answers every connection with fixed bytes.
func rawServer(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, answer)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "http://" + l.Addr().String()
}

func TestCancel(t *testing.T) {
	called := make(chan struct{}, 2)
	end := make(chan struct{})
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		called <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-end:
		}
	})
	defer close(end)
	c := client(t, s.URL)
	for method, want := range map[string]fault.Kind{"GET": fault.Canceled, "POST": fault.Indeterminate} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-called; cancel() }()
		_, err := c.Do(ctx, httpx.Request{Method: method})
		if !fault.Is(err, want) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v (%v), want %v", method, err, fault.KindOf(err), want)
		}
		if _, err = c.Do(ctx, httpx.Request{Method: method}); !fault.Is(err, fault.Canceled) {
			t.Errorf("%s before it was sent: %v", method, err)
		}
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	trust := func(o *httpx.Options) { o.RootCAs = pool }
	if _, err := client(t, s.URL, trust).Do(t.Context(), httpx.Request{}); err != nil {
		t.Errorf("trusted: %v", err)
	}
	if _, err := client(t, s.URL).Do(t.Context(), httpx.Request{Method: "POST"}); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "authority") {
		t.Errorf("untrusted: %v", err)
	}
	old := httptest.NewUnstartedServer(s.Config.Handler)
	old.Config.ErrorLog = s.Config.ErrorLog
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	old.StartTLS()
	defer old.Close()
	pool.AddCert(old.Certificate())
	if _, err := client(t, old.URL, trust).Do(t.Context(), httpx.Request{}); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("TLS 1.1: %v", err)
	}
}

func TestBaseURL(t *testing.T) {
	for _, bad := range []string{
		"", "api.example", "http://api.example", "http://10.0.0.1", "ftp://api.example", "https://user:secret-word@api.example", "https://api.example?secret-word=1",
		"https://api.example#secret-word", "https://", "http://localhost.example", "https://api.example:port secret-word", "http://127.0.0.1.example",
	} {
		_, err := httpx.New(httpx.Options{BaseURL: bad})
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("New(%q): %v", bad, err)
		} else if strings.Contains(err.Error(), "secret-word") {
			t.Errorf("the error quotes the address: %v", err)
		}
	}
	for _, good := range []string{"https://api.example", "https://api.example:8443/base/", "http://127.0.0.1:1", "http://localhost", "http://[::1]:1", "http://127.9.9.9"} {
		if _, err := httpx.New(httpx.Options{BaseURL: good}); err != nil {
			t.Errorf("New(%q): %v", good, err)
		}
	}
	if _, err := httpx.New(httpx.Options{BaseURL: "https://api.example", UserAgent: "a\r\nb"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("user agent: %v", err)
	}
}

// sharedProxy lives as long as the process, because net/http reads the variables that name it once: no other test may use a proxy.
var sharedProxy = sync.OnceValues(func() (address string, connects *atomic.Int32) {
	connects = &atomic.Int32{}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect && r.Host == "api.example:443" {
			connects.Add(1)
		}
		w.WriteHeader(http.StatusForbidden)
	})).URL, connects
})

func TestProxyWhenAsked(t *testing.T) {
	address, connects := sharedProxy()
	connects.Store(0)
	t.Setenv("HTTPS_PROXY", address)
	t.Setenv("HTTP_PROXY", address)
	t.Setenv("NO_PROXY", "")
	_, err := client(t, "https://api.example", func(o *httpx.Options) { o.ProxyFromEnvironment = true }).Do(t.Context(), httpx.Request{})
	if !fault.Is(err, fault.Unavailable) || connects.Load() != 1 {
		t.Errorf("%v, %d connections", err, connects.Load())
	}
}
