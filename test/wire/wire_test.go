package wire_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keywright/keywright/internal/certtest"
	"github.com/keywright/keywright/internal/gateway"
)

const (
	hello   = `{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`
	streams = `{"model":"claude-haiku-5-5","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hello"}]}`

	begins  = "event: message_start\ndata: {\"type\":\"message_start\"}\n\n"
	content = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n"
	stops   = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
)

// post makes a message request and wants HTTP/2.
func post(ctx context.Context, client *http.Client, base string, body io.Reader, trailer http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/messages", body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("anthropic-version", "2023-06-01")
	r.Header.Set("content-type", "application/json")
	r.Trailer = trailer
	res, err := client.Do(r)
	if err == nil && (res.ProtoMajor != 2 || res.TLS.NegotiatedProtocol != "h2") {
		res.Body.Close()
		return nil, errors.New("the gateway answered with " + res.Proto)
	}
	return res, err
}

// whole makes a request and gives the whole answer.
func whole(ctx context.Context, client *http.Client, base, body string) (int, string, error) {
	res, err := post(ctx, client, base, strings.NewReader(body), nil)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

func wire(t *testing.T, program string) {
	t.Helper()
	f := begin(t, program, func(_ *front, provider string) []string {
		return []string{"gateway", "--listen", "127.0.0.1:0", "--upstream", provider, "--key", "file:key", "--state-dir", "state", "--open", "--tls-cert", "tls.pem", "--tls-key", "tls.key"}
	})
	instead := func(t *testing.T, serve http.HandlerFunc) {
		t.Helper()
		f.serve.Store(&serve)
		t.Cleanup(func() { f.serve.Store(nil) })
	}
	client := f.client(t)
	address := strings.TrimPrefix(f.url, "https://")

	t.Run("versions of TLS", func(t *testing.T) {
		for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: f.authority.Pool, MinVersion: version, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}})
			if (err == nil) != want {
				t.Errorf("%s: %v", tls.VersionName(version), err)
			}
			if err == nil {
				if got := c.ConnectionState().NegotiatedProtocol; got != "h2" {
					t.Errorf("%s: protocol %q", tls.VersionName(version), got)
				}
				c.Close()
			}
		}
	})

	t.Run("curl", func(t *testing.T) {
		path, err := exec.LookPath("curl")
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip("curl is not installed")
		}
		if out, err := exec.CommandContext(t.Context(), path, "--version").Output(); err != nil || !strings.Contains(string(out), "HTTP2") {
			t.Skip("curl does not speak HTTP/2")
		}
		for body, end := range map[string]string{hello: `"stop_reason":"end_turn"`, streams: "event: message_stop"} {
			out, err := exec.CommandContext(t.Context(), path, "--silent", "--show-error", "--no-buffer", "--http2", "--noproxy", "*", "--cacert", f.path("ca.pem"), "--header", "anthropic-version: 2023-06-01",
				"--header", "content-type: application/json", "--data", body, "--write-out", "\n%{http_version} %{http_code}", f.url+"/v1/messages").CombinedOutput()
			if err != nil || !strings.Contains(string(out), end) || !strings.HasSuffix(string(out), "\n2 200") {
				t.Errorf("%v: %s", err, out)
			}
		}
	})

	t.Run("changes of the key under load", func(t *testing.T) {
		var served atomic.Int64
		// Each tenth answer ends the provider's connection with a GOAWAY.
		instead(t, func(w http.ResponseWriter, r *http.Request) {
			if served.Load()%10 == 9 {
				w.Header().Set("Connection", "close")
			}
			f.sim.Handler().ServeHTTP(w, r)
		})
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				body, end := hello, `"stop_reason":"end_turn"`
				if i%3 > 0 {
					body, end = streams, "event: message_stop"
				}
				for ctx.Err() == nil {
					status, text, err := whole(t.Context(), client, f.url, body)
					if err != nil || status != http.StatusOK || !strings.Contains(text, end) || strings.Contains(text, "event: error") {
						t.Errorf("%d %s (%v)", status, text, err)
						return
					}
					served.Add(1)
				}
			})
		}
		for range 3 {
			f.change()
		}
		stop()
		wg.Wait()
		if served.Load() == 0 {
			t.Error("nothing was served")
		}
	})

	t.Run("a caller that hangs up", func(t *testing.T) {
		gone, release := make(chan struct{}), make(chan struct{})
		instead(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, begins+content)
			_ = http.NewResponseController(w).Flush()
			if strings.Contains(string(body), "stays") {
				<-release
				_, _ = io.WriteString(w, stops)
				return
			}
			<-r.Context().Done()
			close(gone)
		})
		stays, err := post(t.Context(), client, f.url, strings.NewReader(strings.Replace(streams, `"hello"`, `"stays"`, 1)), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer stays.Body.Close()
		ctx, hangUp := context.WithCancel(t.Context())
		leaves, err := post(ctx, client, f.url, strings.NewReader(streams), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer leaves.Body.Close()
		if line, err := bufio.NewReader(leaves.Body).ReadString('\n'); err != nil || line != "event: message_start\n" {
			t.Fatalf("%q, %v", line, err)
		}
		hangUp()
		<-gone
		f.until("one request under way", func(s gateway.Status) bool { return s.Active == 1 })
		close(release)
		if text, err := io.ReadAll(stays.Body); err != nil || string(text) != begins+content+stops {
			t.Errorf("the other stream: %q, %v", text, err)
		}
	})

	// cut makes a provider whose first connection breaks behind some text, when came is closed, and whose second one serves.
	cut := func(t *testing.T, text string, came <-chan struct{}) *atomic.Int64 {
		calls := &atomic.Int64{}
		instead(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "text/event-stream")
			if calls.Add(1) > 1 {
				_, _ = io.WriteString(w, begins+content+stops)
				return
			}
			if text != "" {
				_, _ = io.WriteString(w, text)
				_ = http.NewResponseController(w).Flush()
			}
			<-came
			_ = r.Context().Value(connKey{}).(net.Conn).Close()
			<-r.Context().Done()
		})
		return calls
	}
	now := make(chan struct{})
	close(now)
	for name, text := range map[string]string{"before it answers": "", "before content": begins, "inside of the first content": begins + content[:30]} {
		t.Run("a connection that breaks "+name, func(t *testing.T) {
			calls := cut(t, text, now)
			status, got, err := whole(t.Context(), client, f.url, streams)
			if err != nil || status != http.StatusOK || got != begins+content+stops || calls.Load() != 2 {
				t.Errorf("%d %q after %d calls (%v)", status, got, calls.Load(), err)
			}
		})
	}
	t.Run("a connection that breaks after content", func(t *testing.T) {
		// The end of a connection overtakes what the other side has not read yet, so it comes when the caller has the content.
		came := make(chan struct{})
		calls := cut(t, begins+content+content[:30], came)
		res, err := post(t.Context(), client, f.url, strings.NewReader(streams), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		got := make([]byte, len(begins+content))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != begins+content {
			t.Fatalf("%q (%v)", got, err)
		}
		close(came)
		rest, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || !strings.HasPrefix(string(rest), "event: error\n") || !strings.HasSuffix(string(rest), "\n\n") || calls.Load() != 1 {
			t.Errorf("%d %q after %d calls (%v)", res.StatusCode, rest, calls.Load(), err)
		}
	})

	t.Run("trailers", func(t *testing.T) {
		instead(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if len(r.Trailer) > 0 || len(r.Header["X-Api-Key"]) != 1 || r.Header.Get("X-Api-Key") != f.value {
				t.Error("a trailer reached the provider, or not the key alone")
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"Set-Cookie", "a=b")
		})
		res, err := post(t.Context(), client, f.url, strings.NewReader(hello), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || len(res.Trailer) > 0 {
			t.Errorf("%d, trailers %v (%v)", res.StatusCode, res.Trailer, err)
		}
		res, err = post(t.Context(), client, f.url, io.MultiReader(strings.NewReader(hello)), http.Header{"X-Api-Key": {"mine"}})
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("trailers of a caller: %d", res.StatusCode)
		}
		// Over HTTP/1.1 they can come without being announced.
		c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: f.authority.Pool, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "POST /v1/messages HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-Api-Key: mine\r\n\r\n", address, len(hello), hello); err != nil {
			t.Fatal(err)
		}
		if res, err = http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("trailers that are not announced: %d", res.StatusCode)
		}
	})
}

func clientCertificates(t *testing.T, program string) {
	t.Helper()
	callers := certtest.New(t)
	f := begin(t, program, func(f *front, provider string) []string {
		f.write("callers.pem", callers.PEM())
		config := fmt.Sprintf(`organization: acme
keys:
  prod: { class: development, owner: dev@acme.example }
gateway:
  listen: 127.0.0.1:0
  upstream: %s
  state_dir: %s
  tls: { certificate: tls.pem, key: tls.key, client_ca: callers.pem }
  identities: { certificates: { billing: billing } }
  keys:
    - { key: prod, source: "file:key" }
`, provider, f.path("state"))
		if err := os.WriteFile(f.path("keywright.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"gateway", "-c", f.path("keywright.yaml")}
	})
	if status, text, err := whole(t.Context(), f.client(t, callers.Caller(t, "billing")), f.url, hello); err != nil || status != http.StatusOK {
		t.Errorf("a caller that is named: %d %s (%v)", status, text, err)
	}
	if status, _, err := whole(t.Context(), f.client(t, callers.Caller(t, "other")), f.url, hello); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a caller that is not named: %d (%v)", status, err)
	}
	if status, _, err := whole(t.Context(), f.client(t), f.url, hello); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a caller without a certificate: %d (%v)", status, err)
	}
	// Its handshake fails.
	if status, _, err := whole(t.Context(), f.client(t, certtest.New(t).Caller(t, "billing")), f.url, hello); err == nil {
		t.Errorf("a caller of another authority: %d", status)
	}
}
