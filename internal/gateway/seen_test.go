package gateway

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/certtest"
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/gateway/object"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// arrival is one request as the provider sees it, with all of its body and what came behind that.
type arrival struct {
	*http.Request
	body []byte
	left error // the gateway gave the request up before its body was whole, for a caller that had gone
}

// seen is a provider that remembers what reaches it. The gateway's own probes do not count.
type seen struct {
	mu    sync.Mutex
	all   []arrival
	now   int // under way
	most  int // at one time
	serve http.HandlerFunc
}

func (s *seen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.RequestURI == "/v1/models?limit=1" && r.Header.Get("User-Agent") == "keywright-gateway" {
		return
	}
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	s.all = append(s.all, arrival{r, body, err})
	serve := s.serve
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
	}()
	if serve != nil {
		serve(w, r)
	}
}

func (s *seen) take() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.all
	s.all = nil
	return got
}

// never are headers that no request to the provider has: those of one hop, those that speak for somebody, and those that some servers take for
// another address or method.
func never() []string {
	return []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Expect",
		"Authorization", "Api-Key", "Cookie", "Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Origin", "Referer",
		"X-Http-Method-Override", "X-Original-Url", "X-Rewrite-Url", "Anthropic-Workspace-Id",
	}
}

// problem says what is wrong with a request that reached the provider, or gives nothing.
func (a arrival) problem(key string) string {
	path, query, _ := strings.Cut(a.RequestURI, "?")
	for decoded := path; ; {
		low := strings.ToLower(decoded)
		for _, bad := range []string{"organizations", "compliance", "oauth", ".."} {
			if strings.Contains(low, bad) {
				return "the path " + a.RequestURI
			}
		}
		next, err := url.PathUnescape(decoded)
		if err != nil || next == decoded {
			break
		}
		decoded = next
	}
	id, model := strings.CutPrefix(path, "/v1/models/")
	switch {
	case path == "/v1/messages" && a.Method == "POST", path == "/v1/messages/count_tokens" && a.Method == "POST", path == "/v1/models" && a.Method == "GET", model && object.PlainID(id) && a.Method == "GET":
	default:
		return "no route: " + a.Method + " " + path
	}
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return "the query " + query
		}
	}
	if got := a.Header["X-Api-Key"]; len(got) != 1 || got[0] != key {
		return "the key is not there exactly once"
	}
	for _, name := range never() {
		if len(a.Header[name]) > 0 {
			return "the header " + name
		}
	}
	for name, values := range a.Header {
		if strings.Contains(name, "_") || strings.ToLower(name) == "x-api-key" && name != "X-Api-Key" {
			return "the header " + name
		}
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				return "a line in the header " + name
			}
		}
	}
	switch {
	case len(a.Trailer) > 0:
		return "trailers"
	case len(a.TransferEncoding) > 0 || a.ContentLength != int64(len(a.body)) && a.left == nil:
		return "a body without its length"
	}
	return ""
}

// entrance is a gateway with a plain listener and one with TLS, before a provider that remembers.
type entrance struct {
	*world
	up    *seen
	key   secret.Value
	roots *x509.CertPool
	tls   string // the address of the listener with TLS
	open  *http.Client
}

// anybody believes everybody: who is at the other end of a connection takes long to find out.
type anybody struct{}

func (anybody) Identify(*http.Request) (identity.Caller, error) {
	return identity.Caller{App: "x"}, nil
}

// enter starts one. The provider speaks HTTP/2 over TLS, or HTTP/1.1 without.
func enter(t *testing.T, http2 bool, change func(o *Options)) *entrance {
	t.Helper()
	a := certtest.New(t)
	e := &entrance{up: &seen{}, roots: a.Pool}
	up := httptest.NewUnstartedServer(e.up)
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	if http2 {
		up.EnableHTTP2 = true
		up.TLS = &tls.Config{Certificates: []tls.Certificate{a.Server(t)}, MinVersion: tls.VersionTLS12}
		up.StartTLS()
	} else {
		up.Start()
	}
	t.Cleanup(up.Close)
	e.world = start(t, simulator.Options{}, func(o *Options) {
		o.Upstream, o.RootCAs, o.Open, o.Identify = up.URL, a.Pool, false, []identity.Identifier{anybody{}}
		if change != nil {
			change(o)
		}
	})
	var base string
	e.open, base = e.world.listenTLS(a)
	e.tls = strings.TrimPrefix(base, "https://")
	k, _ := e.world.key("primary", simulator.CreateKey{})
	e.key = k.Value
	e.swap(Set{Keys: []Key{k}})
	e.probed2()
	return e
}

// dial connects to the plain listener, or with TLS and a protocol to the other one.
func (e *entrance) dial(protocols ...string) net.Conn {
	e.t.Helper()
	var c net.Conn
	var err error
	if len(protocols) > 0 {
		c, err = tls.Dial("tcp", e.tls, &tls.Config{RootCAs: e.roots, NextProtos: protocols, MinVersion: tls.VersionTLS12})
	} else {
		c, err = net.Dial("tcp", e.host())
	}
	if err != nil {
		e.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// tell sends bytes as they are, then nothing more where cut says so, and gives the statuses of the answers until the connection ends.
func (e *entrance) tell(c net.Conn, text string, cut bool) []int {
	e.t.Helper()
	defer c.Close()
	written := make(chan struct{})
	go func() {
		defer close(written)
		if _, err := io.WriteString(c, text); err == nil && cut {
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		}
	}()
	all, _ := io.ReadAll(c) // a reset is an end too
	<-written
	secrettest.NoLeak(e.t, "answer", all, e.values...)
	var statuses []int
	for r := bufio.NewReader(bytes.NewReader(all)); ; {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, res.Body)
		statuses = append(statuses, res.StatusCode)
	}
}

// idle waits until no request is under way, so that nothing more can reach the provider.
func (e *entrance) idle() {
	e.t.Helper()
	e.until("no request", func() bool {
		s := e.g.Status()
		return s.Active == 0 && s.Keys[0].InFlight == 0
	})
}

// check says what reached the provider since the last check: so many requests at most, each of them clean. Then a good request is served on
// either listener.
func (e *entrance) check(t *testing.T, most int) int {
	t.Helper()
	e.idle()
	got := e.up.take()
	for _, a := range got {
		if p := a.problem(e.key.RevealString()); p != "" {
			t.Errorf("reached the provider: %s", p)
		}
	}
	if len(got) > most {
		t.Errorf("%d requests reached the provider, want %d at most", len(got), most)
	}
	e.want(http.StatusOK, "POST", "/v1/messages", hello)
	res, err := send(t.Context(), e.open, "https://"+e.tls, hello)
	if err != nil {
		t.Fatalf("a good request: %v", err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	good := e.up.take()
	if res.StatusCode != http.StatusOK || len(good) != 2 || slices.ContainsFunc(good, func(a arrival) bool { return string(a.body) != hello || a.problem(e.key.RevealString()) != "" }) {
		t.Errorf("a good request: %d, and %d reached the provider", res.StatusCode, len(good))
	}
	if s := e.g.Status(); len(s.Breakers) != 0 || e.phase("primary") != "healthy" {
		t.Errorf("it moved a state: %+v", s)
	}
	return len(got)
}
