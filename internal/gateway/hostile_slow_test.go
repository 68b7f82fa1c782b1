package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// pipes is a listener in memory, whose connections obey the clock of a bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.done)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// inMemory starts a gateway on pipes before a provider that is a function. The second result ends it.
func inMemory(t testing.TB, provider roundTrip) (*Gateway, *pipes, func()) {
	t.Helper()
	g, err := New(Options{Upstream: "http://provider", Transport: provider, Identify: []identity.Identifier{anybody{}}, Hosts: []string{"gateway"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Swap(Set{Keys: []Key{{Name: "primary", Value: secrettest.Fake(t)}}}); err != nil {
		t.Fatal(err)
	}
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := g.server(nil)
	srv.Protocols = &http.Protocols{}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true) // the server that TLS has, without its cost
	served := make(chan error, 1)
	go func() { served <- srv.Serve(p) }()
	return g, p, func() {
		_ = srv.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		g.Close()
	}
}

// replying gives an answer of the provider.
func replying(r *http.Request, kind string, body io.ReadCloser) *http.Response {
	return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {kind}}, Body: body, ContentLength: -1, Request: r}
}

// forever is an answer that never ends, until somebody closes it.
type forever struct {
	closed chan struct{}
	n      int
}

func (f *forever) Read(p []byte) (int, error) {
	select {
	case <-f.closed:
		return 0, errors.New("closed")
	default:
	}
	f.n++
	return copy(p, fmt.Sprintf("event: content_block_delta\ndata: {\"n\":%d}\n\n", f.n)), nil
}

func (f *forever) Close() error {
	select {
	case <-f.closed:
	default:
		close(f.closed)
	}
	return nil
}

// TestHostileSlow: a caller that is slow in its head, in its body or in reading holds nothing beyond the time that it has.
func TestHostileSlow(t *testing.T) {
	head := "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\n"
	for _, c := range []struct {
		name  string
		begin string // what comes at once
		every time.Duration
		most  time.Duration
	}{
		{"head", head, 3 * time.Second, headTime},
		{"head of which nothing comes", "", 0, headTime},
		{"head behind a request", "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n" + head, 3 * time.Second, headTime},
		{"nothing behind a request", "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n", 0, idleTime},
		{"body", head + "Content-Length: 1000\r\n\r\n{", 3 * time.Second, bodyTime(1000)},
		{"body in chunks", head + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nfff\r\n", 3 * time.Second, bodyTime(-1)},
		{"body of which nothing comes", head + "Content-Length: 1000\r\n\r\n", 0, bodyTime(1000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, p, end := inMemory(t, func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPost {
						t.Error("a request reached the provider")
					}
					return replying(r, "application/json", http.NoBody), nil
				})
				defer end()
				conn := p.dial()
				defer conn.Close()
				began := time.Now()
				ended := make(chan time.Duration)
				go func() {
					_, _ = io.Copy(io.Discard, conn)
					ended <- time.Since(began)
				}()
				written := make(chan struct{})
				go func() {
					defer close(written)
					_, err := io.WriteString(conn, c.begin)
					for n := 0; err == nil && c.every > 0; n++ {
						time.Sleep(c.every)
						_, err = io.WriteString(conn, "x")
					}
				}()
				if took := <-ended; took > c.most+time.Second {
					t.Errorf("the connection was held for %v", took)
				}
				<-written
				if n := g.Status().Active; n != 0 {
					t.Errorf("%d requests are under way", n)
				}
			})
		})
	}
	t.Run("reading", func(t *testing.T) { slowReading(t, false) })
	t.Run("reading over HTTP2", func(t *testing.T) { slowReading(t, true) })
}

// slowReading asks for an answer without end and takes nothing of it. The key must become free, since a change of the key waits for that.
func slowReading(t *testing.T, two bool) {
	synctest.Test(t, func(t *testing.T) {
		body := &forever{closed: make(chan struct{})}
		g, p, end := inMemory(t, func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				// With a length nothing is flushed in between, and no goroutine waits in a way that a bubble does not know.
				res := replying(r, "application/json", body)
				res.ContentLength = 1 << 40
				res.Header.Set("Content-Length", "1099511627776")
				return res, nil
			}
			return replying(r, "application/json", http.NoBody), nil
		})
		defer end()
		conn := p.dial()
		defer conn.Close()
		if two {
			var out, block bytes.Buffer
			out.WriteString(http2.ClientPreface)
			enc, fr := hpack.NewEncoder(&block), http2.NewFramer(&out, conn)
			for _, f := range []string{":method POST", ":scheme http", ":authority gateway", ":path /v1/messages"} {
				name, value, _ := strings.Cut(f, " ")
				_ = enc.WriteField(hpack.HeaderField{Name: name, Value: value})
			}
			if err := errors.Join(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}), fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}),
				fr.WriteData(1, true, []byte(helloStream))); err != nil {
				t.Fatal(err)
			}
			go func() {
				for {
					if _, err := fr.ReadFrame(); err != nil { // it reads, and lets no more come
						return
					}
				}
			}()
			go func() { _, _ = conn.Write(out.Bytes()) }()
		} else {
			go func() {
				_, _ = fmt.Fprintf(conn, "POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n%s", len(helloStream), helloStream)
			}()
		}
		synctest.Wait()
		if n := g.Status().Active; n != 1 {
			t.Fatalf("%d requests are under way", n)
		}
		began := time.Now()
		select {
		case <-body.closed:
		case <-time.After(24 * time.Hour): // of the bubble
		}
		synctest.Wait()
		if s := g.Status(); s.Active != 0 || s.Keys[0].InFlight != 0 || time.Since(began) > DefaultMaxDuration+time.Minute {
			t.Errorf("after %v: %d requests are under way, %d on the key", time.Since(began), s.Active, s.Keys[0].InFlight)
		}
	})
}

// TestHostileAnswers: what the provider, or somebody in its place, puts around an answer does not reach the caller.
func TestHostileAnswers(t *testing.T) {
	for _, two := range []bool{false, true} {
		e := enter(t, two, nil)
		for name, serve := range map[string]http.HandlerFunc{
			"headers of one hop": func(w http.ResponseWriter, r *http.Request) {
				for _, h := range []string{"Set-Cookie", "Alt-Svc", "Proxy-Authenticate", "Keep-Alive", "Proxy-Connection", "Te"} {
					w.Header().Set(h, "evil")
				}
				if r.ProtoMajor == 1 {
					w.Header().Set("Connection", "X-Evil")
					w.Header().Set("X-Evil", "evil")
				}
			},
			"trailers that are announced": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Trailer", "Set-Cookie, X-Evil")
				_, _ = io.WriteString(w, "{}")
				w.Header().Set("Set-Cookie", "evil")
				w.Header().Set("X-Evil", "evil")
			},
			"trailers that are not announced": func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "{}")
				_ = http.NewResponseController(w).Flush()
				w.Header().Set(http.TrailerPrefix+"Set-Cookie", "evil")
				w.Header().Set(http.TrailerPrefix+"X-Evil", "evil")
			},
			"hints that come early": func(w http.ResponseWriter, _ *http.Request) {
				for range 3 {
					w.Header().Set("Set-Cookie", "evil")
					w.Header().Set("Link", "<evil>")
					w.WriteHeader(http.StatusEarlyHints)
				}
				w.Header().Del("Link")
			},
		} {
			t.Run(fmt.Sprintf("%s, HTTP2 %v", name, two), func(t *testing.T) {
				for base, client := range map[string]*http.Client{e.url: e.client, "https://" + e.tls: e.open} {
					e.up.mu.Lock()
					e.up.serve = serve
					e.up.mu.Unlock()
					r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
						t.Errorf("an answer %d before the answer: %v", code, h)
						return nil
					}}), http.MethodPost, base+"/v1/messages", strings.NewReader(hello))
					res, err := client.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, bufio.NewReader(res.Body)); err != nil {
						t.Error(err)
					}
					res.Body.Close()
					for where, h := range map[string]http.Header{"header": res.Header, "trailer": res.Trailer} {
						for name, values := range h {
							if strings.Contains(strings.Join(values, " "), "evil") || where == "trailer" {
								t.Errorf("%s %s: %q", where, name, values)
							}
						}
					}
					e.up.mu.Lock()
					e.up.serve = nil
					e.up.mu.Unlock()
				}
				e.check(t, 2)
			})
		}
	}
}
