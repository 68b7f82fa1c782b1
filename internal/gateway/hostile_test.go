package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// raw sends bytes as they are and gives the statuses of the answers that come back until the connection ends.
func (w *world) raw(text string) []int {
	w.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		w.t.Fatal(err)
	}
	if !strings.Contains(text, "Connection: close") {
		_ = c.(*net.TCPConn).CloseWrite() // a body that is announced will not come
	}
	var statuses []int
	r := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, res.Body)
		statuses = append(statuses, res.StatusCode)
	}
}

// hostile is a gateway whose upstream counts what reaches it.
func hostile(t *testing.T, change func(o *Options)) (*world, *atomic.Int64) {
	t.Helper()
	var reached atomic.Int64
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" && r.Header.Get("User-Agent") == "keywright-gateway" {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		reached.Add(1)
		for _, bad := range []string{"organizations", "compliance", "oauth"} {
			if strings.Contains(r.RequestURI, bad) {
				t.Errorf("%s reached the provider", r.RequestURI)
			}
		}
	}, change)
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	w.probed2()
	return w, &reached
}

// probed2 waits for the first probe of an upstream that tells no domain.
func (w *world) probed2() {
	w.until("a probe", func() bool { return w.g.metrics.probes.Load() > 0 })
}

func (w *world) host() string { return strings.TrimPrefix(w.url, "http://") }

func TestHostileBrowser(t *testing.T) {
	w, reached := hostile(t, func(o *Options) { o.Origins = []string{"http://app.example"} })
	for _, h := range [][]string{
		{"Origin", "http://evil.example"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "http://app.example.evil"},
	} {
		w.want(403, "POST", "/v1/messages", hello, h...)
	}
	for _, host := range []string{"evil.example", "127.0.0.1:1", "", "localhost.evil.example", "[::1]"} {
		for _, s := range w.raw("GET /v1/models HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n") {
			if s != 403 && s != 400 {
				t.Errorf("host %q: %d", host, s)
			}
		}
		for _, s := range w.raw("GET /readyz HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n") {
			if s != 403 && s != 400 {
				t.Errorf("readiness for host %q: %d", host, s)
			}
		}
	}
	if reached.Load() != 0 {
		t.Error("a web page reached the provider")
	}
	if a := w.want(200, "POST", "/v1/messages", hello, "Origin", "http://app.example"); a.header.Get("Access-Control-Allow-Origin") != "http://app.example" {
		t.Error("a listed origin is not answered")
	}
	w.want(405, "OPTIONS", "/v1/messages", "")
	w.want(403, "OPTIONS", "/v1/messages", "", "Origin", "http://evil.example", "Access-Control-Request-Headers", "x-api-key")
	if a := w.want(204, "OPTIONS", "/v1/messages", "", "Origin", "http://app.example", "Access-Control-Request-Headers", "x-api-key"); a.header.Get("Access-Control-Allow-Headers") != "x-api-key" {
		t.Errorf("preflight: %v", a.header)
	}
	_, port, _ := net.SplitHostPort(w.host())
	if s := w.raw("GET /v1/models HTTP/1.1\r\nHost: localhost:" + port + "\r\nConnection: close\r\n\r\n"); len(s) != 1 || s[0] != 200 {
		t.Errorf("localhost: %v", s)
	}
}

func TestHostileSizes(t *testing.T) {
	w, reached := hostile(t, nil)
	if s := w.raw("POST /v1/messages HTTP/1.1\r\nHost: " + w.host() + "\r\nConnection: close\r\nContent-Length: 33554433\r\n\r\n{"); len(s) != 1 || s[0] != 413 {
		t.Errorf("declared too large: %v", s)
	}
	if s := w.raw("GET /v1/models HTTP/1.1\r\nHost: " + w.host() + "\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"); len(s) != 1 || s[0] != 413 {
		t.Errorf("a body where none is served: %v", s)
	}
	big := io.MultiReader(strings.NewReader(`{"model":"claude-haiku-5-5","x":"`), io.LimitReader(endless{}, 33<<20), strings.NewReader(`"}`))
	r, _ := http.NewRequest("POST", w.url+"/v1/messages", big) // chunked
	if res, err := w.client.Do(r); err == nil {
		res.Body.Close()
		if res.StatusCode != 413 {
			t.Errorf("chunked too large: %d", res.StatusCode)
		}
	}
	if s := w.raw("GET /v1/models HTTP/1.1\r\nHost: " + w.host() + "\r\nConnection: close\r\nX-A: " + strings.Repeat("a", 80<<10) + "\r\n\r\n"); len(s) > 0 && s[0] != 431 {
		t.Errorf("large headers: %v", s)
	}
	for _, body := range []string{
		"", "[]", `"x"`, "{", `{"model":"a","model":"b"}`, `{"model":"a","mod\u0065l":"b"}`, `{"stream":true,"stream":false}`, strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200),
		`{"max_tokens":1,"max_tokens":2}`, `{"a":1}{"b":2}`, `{"a":1,}`, `{'a':1}`, `{"a":tru}`, `{"a":1]`, "\xef\xbb\xbf{}",
	} {
		if a := w.do("POST", "/v1/messages", body); a.status != 400 || a.errorType() != "invalid_request_error" {
			t.Errorf("%.40q: %d %s", body, a.status, a.body)
		}
	}
	if reached.Load() != 0 {
		t.Error("something reached the provider")
	}
}

// endless gives the same letter for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// TestHostileSlowloris: neither a slow head nor a slow body holds anything for long. Deadlines are looked at, not waited for.
func TestHostileSlowloris(t *testing.T) {
	w, _ := hostile(t, nil)
	srv := w.g.server(nil)
	if srv.ReadHeaderTimeout <= 0 || srv.ReadHeaderTimeout > 15*time.Second || srv.IdleTimeout <= 0 || srv.MaxHeaderBytes <= 0 {
		t.Error("the server waits for slow heads")
	}
	rec := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest("POST", "/v1/messages", strings.NewReader(hello))
	r.Host, r.RequestURI = w.host(), "/v1/messages"
	r = r.WithContext(w.g.withPeer(r.Context(), loopbackPair(t)))
	w.g.ServeHTTP(rec, r)
	if rec.Code != 200 || len(rec.at) != 2 || time.Until(rec.at[0]) > 30*time.Second || !rec.at[1].IsZero() {
		t.Errorf("%d, deadlines %v", rec.Code, rec.at)
	}
}

type deadlines struct {
	*httptest.ResponseRecorder
	at []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.at = append(d.at, at)
	return nil
}

// loopbackPair gives the accepted end of a connection over loopback.
func loopbackPair(t *testing.T) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return s
}

// TestLargeBodySpillsAndRepeats: a body beyond memory goes to a file without a name, encrypted, and can be sent twice.
func TestLargeBodySpillsAndRepeats(t *testing.T) {
	dir := t.TempDir()
	var bodies [][]byte
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" {
			return
		}
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, b)
		if len(bodies) == 1 {
			rw.WriteHeader(529)
		}
	}, func(o *Options) { o.MemoryBody, o.SpillDir, o.Rand = 4096, dir, func() float64 { return 0 } })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	body := strings.Replace(hello, "hello", strings.Repeat("a large body ", 300_000), 1)
	w.want(200, "POST", "/v1/messages", body)
	if len(bodies) != 2 || string(bodies[0]) != body || string(bodies[1]) != body {
		t.Errorf("%d bodies arrived", len(bodies))
	}
	w.until("the room is given back", func() bool { return w.g.spool.Used() == 0 })
	if left, _ := url.Parse(dir); left != nil {
		secrettest.NoLeakIn(t, dir, nil, w.values...)
	}
}

// TestNoRoomStreamsThrough: beyond the bound of all files a body goes through once, and a guarded application is refused.
func TestNoRoomStreamsThrough(t *testing.T) {
	var n, size atomic.Int64
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" {
			return
		}
		got, _ := io.Copy(io.Discard, r.Body)
		size.Store(got)
		n.Add(1)
		rw.WriteHeader(529)
	}, func(o *Options) { o.MemoryBody, o.Spill = 1024, 2048 })
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	body := strings.Replace(hello, "hello", strings.Repeat("x", 100_000), 1)
	w.want(529, "POST", "/v1/messages", body)
	if n.Load() != 1 || size.Load() != int64(len(body)) {
		t.Errorf("%d calls, %d bytes", n.Load(), size.Load())
	}
	w.g.app(OpenApp).Models = []string{"claude-*"}
	w.want(503, "POST", "/v1/messages", body)
}

// TestEarlyAnswer: an upstream that answers before it has read the body is understood.
func TestEarlyAnswer(t *testing.T) {
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" {
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(413)
		_, _ = io.WriteString(rw, `{"type":"error","error":{"type":"request_too_large","message":"m"}}`)
	}, nil)
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	body := strings.Replace(hello, "hello", strings.Repeat("x", 8<<20), 1)
	for range 10 {
		if a := w.want(413, "POST", "/v1/messages", body); a.errorType() != "request_too_large" {
			t.Fatal(a.body)
		}
	}
}
