package wire_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/certtest"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

// front is the program between a provider and the test, with HTTP/2 over TLS on both sides.
type front struct {
	t         *testing.T
	authority *certtest.Authority
	sim       *simulator.Simulator
	serve     atomic.Pointer[http.HandlerFunc] // in place of the imitation, when it is set
	older     atomic.Int64                     // requests to the provider that were not HTTP/2
	dir, url  string
	cmd       *exec.Cmd
	said      bytes.Buffer
	id, value string
	values    []secret.Value
}

type connKey struct{}

// begin starts the provider and then the program, with the arguments that args gives for the provider's address.
func begin(t *testing.T, program string, args func(f *front, provider string) []string) *front {
	t.Helper()
	f := &front{t: t, authority: certtest.New(t), dir: t.TempDir(), sim: simulator.New(simulator.Options{})}
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.TLS == nil || r.TLS.NegotiatedProtocol != "h2" {
			f.older.Add(1)
		}
		if serve := f.serve.Load(); serve != nil && r.Method == http.MethodPost {
			(*serve)(w, r)
			return
		}
		f.sim.Handler().ServeHTTP(w, r)
	}))
	up.EnableHTTP2 = true
	up.TLS = &tls.Config{Certificates: []tls.Certificate{f.authority.Server(t)}, MinVersion: tls.VersionTLS12}
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	up.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	up.StartTLS()
	t.Cleanup(up.Close)
	f.write("ca.pem", f.authority.PEM())
	cert, key := certtest.PEM(t, f.authority.Server(t))
	f.write("tls.pem", cert)
	f.write("tls.key", key)
	f.put()
	if err := os.Mkdir(f.path("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), program, args(f, up.URL)...)
	f.cmd.Dir, f.cmd.Env = f.dir, []string{"HOME=" + f.dir, "SSL_CERT_FILE=" + f.path("ca.pem"), "GORACE=" + os.Getenv("GORACE")}
	stderr, err := f.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for f.url == "" && lines.Scan() {
		f.said.WriteString(lines.Text() + "\n")
		if _, at, ok := strings.Cut(lines.Text(), " on https://"); ok {
			f.url = "https://" + at
		}
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines.Scan() {
			f.said.WriteString(lines.Text() + "\n")
		}
	}()
	t.Cleanup(func() {
		_ = f.cmd.Process.Signal(syscall.SIGTERM)
		<-read
		if err := f.cmd.Wait(); err != nil {
			t.Errorf("gateway: %v", err)
		}
		secrettest.NoLeak(t, "output", f.said.Bytes(), f.values...)
		if n := f.older.Load(); n != 0 {
			t.Errorf("%d requests reached the provider without HTTP/2", n)
		}
		if t.Failed() {
			t.Logf("the gateway said:\n%s", &f.said)
		}
	})
	if f.url == "" {
		t.Fatal("the gateway did not start")
	}
	return f
}

func (f *front) path(name string) string { return filepath.Join(f.dir, name) }

func (f *front) write(name string, text []byte) {
	f.t.Helper()
	if err := os.WriteFile(f.path(name), text, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// put makes a key at the provider and writes it into the gateway's file, at once as a whole.
func (f *front) put() {
	f.t.Helper()
	id, value, err := f.sim.CreateKey(simulator.CreateKey{Name: "gateway"})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(f.path("key.new"), []byte(value+"\n"), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(f.path("key.new"), f.path("key")); err != nil {
		f.t.Fatal(err)
	}
	f.id, f.value = id, value
	f.values = append(f.values, secret.New([]byte(value)))
}

// change puts a new key in force with a signal, waits until nothing is under way on the former one, and ends that at the provider.
func (f *front) change() {
	f.t.Helper()
	former, id := secret.New([]byte(f.value)).Fingerprint(), f.id
	f.put()
	now := secret.New([]byte(f.value)).Fingerprint()
	if err := f.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		f.t.Fatal(err)
	}
	f.until("the change of the key", func(s gateway.Status) bool {
		in := false
		for _, k := range s.Keys {
			if k.Fingerprint == former {
				return false
			}
			in = in || k.Fingerprint == now
		}
		return in
	})
	if err := f.sim.SetStatus(id, simulator.StatusInactive); err != nil {
		f.t.Error(err)
	}
}

func (f *front) until(what string, ok func(gateway.Status) bool) {
	f.t.Helper()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := app.GatewayStatus(f.t.Context(), f.path("state"))
		if err != nil {
			f.t.Fatal(err)
		}
		if ok(s) {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			f.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// client speaks HTTP/2 to the gateway.
func (f *front) client(t *testing.T, certificates ...tls.Certificate) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.authority.Pool, MinVersion: tls.VersionTLS12, Certificates: certificates}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
