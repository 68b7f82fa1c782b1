// Package peers starts real servers on loopback for tests: an AWS stand-in (Moto), PostgreSQL, a Kubernetes control plane
// with simulated nodes, and a Docker engine.
//
// Each peer has its own temporary folder and its own port or socket, is ready when its function returns, and is ended by
// its process id when the test ends. Waits poll and are bounded; none is a fixed sleep. The peers never use a server, a
// socket, a context or a configuration that the machine already has, and never listen on anything but 127.0.0.1 and Unix
// sockets.
//
// A peer that is not installed skips the test with a message that names what to install; with CI=true in the environment
// it fails the test instead. "make peers" installs and builds all of them.
//
// Only tests import this package, nearly always from files with the build tag "real". It imports no client library of the
// peers it starts (but pgx, to make databases), so that a test compiles only the client it uses.
package peers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// need returns the absolute path of the first of names that is an executable. Names are looked up in PATH and in the
// folders of system programs; a name with a slash is a path and may have glob characters, of which the last match in
// lexical order counts. Without a match it ends the test by lack.
func need(t testing.TB, install string, names ...string) string {
	t.Helper()
	if path := find(names...); path != "" {
		return path
	}
	lack(t, names[0], install)
	return ""
}

func find(names ...string) string {
	for _, name := range names {
		candidates := []string{"/usr/local/sbin/" + name, "/usr/sbin/" + name, "/sbin/" + name}
		if filepath.Base(name) != name {
			matches, err := filepath.Glob(name)
			if err != nil {
				continue
			}
			candidates = nil
			for i := len(matches) - 1; i >= 0; i-- {
				candidates = append(candidates, matches[i])
			}
		} else if path, err := exec.LookPath(name); err == nil {
			return path
		}
		for _, path := range candidates {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
				return path
			}
		}
	}
	return ""
}

// lack skips the test for want of a peer, or fails it where every peer is promised to be there.
func lack(t testing.TB, what, install string) {
	t.Helper()
	message := fmt.Sprintf("real peer %s is not on this machine: run \"make peers\" (%s)", what, install)
	if os.Getenv("CI") == "true" {
		t.Fatal(message)
		return
	}
	t.Skip(message)
}

// folder makes a temporary folder of mode 0700 that is removed after every peer in it has ended. Its path is short enough
// for Unix sockets, which t.TempDir does not promise.
func folder(t testing.TB, peer string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kw-"+peer+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(dir); err != nil {
			t.Errorf("unmount in folder of peer %s: %v", peer, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove folder of peer %s: %v", peer, err)
		}
	})
	return dir
}

// port returns a TCP port of 127.0.0.1 that nothing listens on. It lies below the range from which the kernel takes ports
// for outgoing connections, so that only another server that picks the same number at random can take it first.
func port() (int, error) {
	var last error
	for range 100 {
		n := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp", loopback(n))
		if err != nil {
			last = err
			continue
		}
		return n, l.Close()
	}
	return 0, fmt.Errorf("find free port: %w", last)
}

func mustPort(t testing.TB) int {
	t.Helper()
	n, err := port()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// poll calls try every 50 ms until it returns nil, and gives up after limit, or at once when stop is closed. A nil stop
// never closes. The error is the last one that try gave.
func poll(limit time.Duration, stop <-chan struct{}, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-stop:
			return fmt.Errorf("process ended early: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("not ready after %v: %w", limit, err)
		case <-tick.C:
		}
	}
}
