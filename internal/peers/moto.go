package peers

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Moto starts a Moto server, which stands in for the AWS APIs, and returns its endpoint ("http://127.0.0.1:PORT"). It
// holds no data at first and takes any region and any access key. After a label is moved, its plain GetSecretValue may
// still answer the old stage: ask for the stage by name.
func Moto(t testing.TB) string {
	t.Helper()
	program := need(t, "python3 -m pip install 'moto[server]'", "moto_server", filepath.Join(cache(t), "moto", "bin", "moto_server"))
	dir := folder(t, "moto")
	n := mustPort(t)
	// The environment stays: the program may be a shim that finds its interpreter by it.
	p := start(t, dir, "moto_server", syscall.SIGKILL, os.Environ(), program, "-H", "127.0.0.1", "-p", strconv.Itoa(n))
	endpoint := "http://" + loopback(n)
	p.ready(t, time.Minute, func(ctx context.Context) error { return get(ctx, http.DefaultClient, endpoint+"/moto-api/data.json") })
	return endpoint
}

// get asks for url and is content with status 200.
func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// cache returns the folder in which tools/peers.sh keeps what it built.
func cache(t testing.TB) string {
	t.Helper()
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "keywright", "peers")
}
