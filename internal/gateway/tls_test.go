package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/certtest"
	"github.com/keywright/keywright/internal/simulator"
)

// secured starts a gateway with TLS on both sides, before a handler, and gives a client that speaks HTTP/2 to it.
func secured(t *testing.T, upstream http.Handler, roots *x509.CertPool) (*world, *http.Client, string) {
	t.Helper()
	a := certtest.New(t)
	up := httptest.NewUnstartedServer(upstream)
	up.EnableHTTP2 = true
	up.TLS = &tls.Config{Certificates: []tls.Certificate{a.Server(t)}, MinVersion: tls.VersionTLS12}
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	up.StartTLS()
	t.Cleanup(up.Close)
	if roots == nil {
		roots = a.Pool
	}
	w := start(t, simulator.Options{}, func(o *Options) { o.Upstream, o.RootCAs = up.URL, roots })
	client, base := w.listenTLS(a)
	return w, client, base
}

// listenTLS serves on a listener with TLS too, until the test ends, and gives a client that speaks HTTP/2 to it.
func (w *world) listenTLS(a *certtest.Authority) (*http.Client, string) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- w.g.Serve(ctx, l, &tls.Config{Certificates: []tls.Certificate{a.Server(w.t)}, MinVersion: tls.VersionTLS12}, 5*time.Second)
	}()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	w.t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("serve TLS: %v", err)
		}
	})
	return &http.Client{Transport: tr}, "https://" + l.Addr().String()
}

// send makes a message request over HTTP/2.
func send(ctx context.Context, client *http.Client, base, body string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/messages", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("anthropic-version", "2023-06-01")
	res, err := client.Do(r)
	if err == nil && res.ProtoMajor != 2 {
		res.Body.Close()
		return nil, errors.New("the gateway answered with " + res.Proto)
	}
	return res, err
}

// TestHTTP2BothSides: messages and streams over one connection on either side, while the key changes.
func TestHTTP2BothSides(t *testing.T) {
	var connections sync.Map
	var old atomic.Int64
	// The keys are made at the imitation that start makes; the handler asks it.
	var sim atomic.Pointer[simulator.Simulator]
	w, client, base := secured(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			old.Add(1)
		}
		connections.Store(r.RemoteAddr, true)
		sim.Load().Handler().ServeHTTP(rw, r)
	}), nil)
	sim.Store(w.sim)
	k, id := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served atomic.Int64
	for i := range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				body, end := hello, `"stop_reason":"end_turn"`
				if i%2 == 0 {
					body, end = helloStream, "event: message_stop"
				}
				res, err := send(t.Context(), client, base, body)
				if err != nil {
					t.Error(err)
					return
				}
				text, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(text), end) {
					t.Errorf("%d %s (%v)", res.StatusCode, text, err)
					return
				}
				served.Add(1)
			}
		})
	}
	for range 5 {
		from := served.Load()
		w.until("traffic", func() bool { return served.Load() > from+50 || t.Failed() })
		former, formerID := k, id
		k, id = w.key("primary", simulator.CreateKey{})
		w.swap(Set{Keys: []Key{k}})
		w.until("the old key is drained", func() bool { return w.drained(former) || t.Failed() })
		if err := w.sim.SetStatus(formerID, simulator.StatusInactive); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
	n := 0
	connections.Range(func(any, any) bool { n++; return true })
	if old.Load() != 0 || n > 4 {
		t.Errorf("%d requests over HTTP/1 to the upstream, %d connections", old.Load(), n)
	}
}

// TestHTTP2HangUp: a caller that resets its stream ends the call to the upstream, and nobody else's on the same connections.
func TestHTTP2HangUp(t *testing.T) {
	gone, release := make(chan struct{}), make(chan struct{})
	w, client, base := secured(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			return // a probe
		}
		first := `event: content_block_delta` + "\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}` + "\n\n"
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(rw, first)
		_ = http.NewResponseController(rw).Flush()
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "stays") {
			<-release
			_, _ = io.WriteString(rw, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
			return
		}
		<-r.Context().Done()
		close(gone)
	}), nil)
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	stays, err := send(t.Context(), client, base, strings.Replace(helloStream, `"hello"`, `"stays"`, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer stays.Body.Close()
	ctx, hangUp := context.WithCancel(t.Context())
	leaves, err := send(ctx, client, base, helloStream)
	if err != nil {
		t.Fatal(err)
	}
	defer leaves.Body.Close()
	if line, err := bufio.NewReader(leaves.Body).ReadString('\n'); err != nil || line != "event: content_block_delta\n" {
		t.Fatalf("%q, %v", line, err)
	}
	hangUp()
	<-gone
	close(release)
	if text, err := io.ReadAll(stays.Body); err != nil || !strings.HasSuffix(string(text), "message_stop\"}\n\n") {
		t.Errorf("the other stream: %q, %v", text, err)
	}
	if s := w.g.Status(); len(s.Breakers) != 0 || w.phase("primary") != "healthy" {
		t.Errorf("a caller that left changed a state: %+v", s)
	}
}

// TestUnknownAuthority: an upstream whose certificate nobody vouches for gets no request, and so no key.
func TestUnknownAuthority(t *testing.T) {
	w, client, base := secured(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request came through")
	}), certtest.New(t).Pool)
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	res, err := send(t.Context(), client, base, hello)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), `"type":"error"`) || strings.Contains(string(text), "x509") {
		t.Errorf("%d %s (%v)", res.StatusCode, text, err)
	}
}
