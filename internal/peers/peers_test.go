package peers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recorder is a testing.TB that notes how a test was ended instead of ending it.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper()           {}
func (r *recorder) Skip(args ...any)  { r.skipped, _ = args[0].(string) }
func (r *recorder) Fatal(args ...any) { r.failed, _ = args[0].(string) }

func TestMissingPeerSkipsHereAndFailsInCI(t *testing.T) {
	for _, test := range []struct {
		ci         string
		skip, fail bool
	}{{"", true, false}, {"false", true, false}, {"true", false, true}} {
		t.Setenv("CI", test.ci)
		r := &recorder{TB: t}
		if path := need(r, "install it so", "no-such-program"); path != "" {
			t.Errorf("CI=%q: need = %q for a program that is not there", test.ci, path)
		}
		if (r.skipped != "") != test.skip || (r.failed != "") != test.fail {
			t.Errorf("CI=%q: skipped %q, failed %q", test.ci, r.skipped, r.failed)
		}
		if message := r.skipped + r.failed; !strings.Contains(message, "no-such-program") || !strings.Contains(message, "install it so") {
			t.Errorf("CI=%q: message %q does not name what to install", test.ci, message)
		}
	}
}

func TestFindTakesTheLastMatchThatRuns(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"14/server": 0o700, "15/server": 0o700, "16/server": 0o600} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := find(filepath.Join(dir, "*", "server")), filepath.Join(dir, "15", "server"); got != want {
		t.Errorf("find = %q, want %q", got, want)
	}
	if got := find(filepath.Join(dir, "*", "client"), filepath.Join(dir, "14", "server")); got != filepath.Join(dir, "14", "server") {
		t.Errorf("find = %q, want the second name's match", got)
	}
}

func TestPortIsFree(t *testing.T) {
	n, err := port()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", loopback(n))
	if err != nil {
		t.Fatalf("port %d is taken: %v", n, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPoll(t *testing.T) {
	cause := errors.New("cause")
	tries := 0
	if err := poll(time.Minute, nil, func(context.Context) error {
		if tries++; tries < 3 {
			return cause
		}
		return nil
	}); err != nil || tries != 3 {
		t.Errorf("poll = %v after %d tries, want nil after 3", err, tries)
	}
	ended := make(chan struct{})
	close(ended)
	if err := poll(time.Minute, ended, func(context.Context) error { return cause }); !errors.Is(err, cause) {
		t.Errorf("poll with an ended process = %v, want the cause", err)
	}
	if err := poll(time.Nanosecond, nil, func(context.Context) error { return cause }); !errors.Is(err, cause) {
		t.Errorf("poll past its limit = %v, want the cause", err)
	}
}

func TestProcessEndsWithItsTest(t *testing.T) {
	dir := t.TempDir()
	var stubborn, meek *process
	t.Run("inner", func(t *testing.T) {
		meek = start(t, dir, "meek", syscall.SIGKILL, nil, "/bin/sh", "-c", "echo here; exec sleep 600")
		meek.ready(t, time.Minute, func(context.Context) error {
			if tail(meek.log) != "here\n" {
				return errors.New("no output yet")
			}
			return nil
		})
		stubborn = start(t, dir, "stubborn", syscall.SIGKILL, nil, "/bin/sh", "-c", "trap '' TERM; echo set; while :; do sleep 600; done")
		stubborn.ready(t, time.Minute, func(context.Context) error {
			if tail(stubborn.log) != "set\n" {
				return errors.New("no output yet")
			}
			return nil
		})
		if stubborn.end(15, 10*time.Millisecond) {
			t.Error("a process that ignores SIGTERM ended by it")
		}
		if !stubborn.end(9, time.Minute) {
			t.Error("a process outlived SIGKILL")
		}
	})
	for _, p := range []*process{meek, stubborn} {
		select {
		case <-p.done:
		default:
			t.Errorf("process %s (pid %d) outlived its test", p.name, p.pid)
		}
	}
}

func TestRequirement(t *testing.T) {
	gomod := []byte("module m\n\nrequire example.com/a v1.2.3\n\nrequire (\n\texample.com/b v0.1.0 // indirect\n\texample.com/b/v2 v2.0.0\n)\n\nreplace example.com/c => example.com/c v0.9.0\n")
	for module, want := range map[string]string{"example.com/a": "v1.2.3", "example.com/b": "v0.1.0", "example.com/b/v2": "v2.0.0", "example.com/c": ""} {
		if got, _ := requirement(gomod, module); got != want {
			t.Errorf("requirement(%q) = %q, want %q", module, got, want)
		}
	}
	// The modules whose versions name the folders of built peers.
	root := moduleRoot(t)
	for dir, module := range map[string]string{"kube": "k8s.io/kubernetes", "kwok": "sigs.k8s.io/kwok"} {
		required(t, filepath.Join(root, "tools", dir, "go.mod"), module)
	}
}

func TestAuthorityServesItsClient(t *testing.T) {
	a, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	client, err := a.client()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject := r.TLS.PeerCertificates[0].Subject
		if subject.CommonName != "keywright-peers" || strings.Join(subject.Organization, ",") != "system:masters" {
			http.Error(w, "stranger", http.StatusForbidden)
		}
	}))
	pair, err := tls.X509KeyPair(a.serverCert, a.serverKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.ca)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	defer client.CloseIdleConnections()
	if err := get(t.Context(), client, server.URL); err != nil {
		t.Error(err)
	}
	if err := get(t.Context(), http.DefaultClient, server.URL); err == nil {
		t.Error("a client without the authority was served")
	}
}
