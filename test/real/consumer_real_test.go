//go:build real

package real

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/simulator"
)

// consumer is an application as a team might run it: it calls the provider without a pause, with the key that it took up when it was last restarted.
// The program restarts it, asks for its fingerprint and probes it by HTTP.
type consumer struct {
	w    *world
	name string
	url  string
	load func() (string, error)
	// restarting, where there is one, is called in the middle of a restart: the key is taken up and the answer not yet sent.
	restarting func()

	mu     sync.Mutex
	value  string
	served int
	failed []string
}

// userAgent tells the applications' requests from the program's own.
const userAgent = "acme-application/"

// consume starts an application; its url answers POST /restart, GET /fingerprint and GET /healthz.
func (w *world) consume(name string, load func() (string, error)) *consumer {
	w.t.Helper()
	c := &consumer{w: w, name: name, load: load}
	c.restart()
	if c.holds() == "" {
		w.t.Fatalf("application %s has no key", name)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /restart", func(http.ResponseWriter, *http.Request) {
		c.restart()
		c.mu.Lock()
		hook := c.restarting
		c.mu.Unlock()
		if hook != nil {
			hook()
		}
	})
	mux.HandleFunc("GET /fingerprint", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, fingerprint(c.holds())) })
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, "ok") })
	server := httptest.NewServer(mux)
	c.url = server.URL
	w.t.Cleanup(server.Close)
	w.traffic(c, c.holdsOr)
	return c
}

// follow starts an application that asks for its key before each request, as one with a mounted file or a cache does.
func (w *world) follow(name string, load func() (string, error)) *consumer {
	w.t.Helper()
	c := &consumer{w: w, name: name, load: load}
	w.traffic(c, load)
	return c
}

func (w *world) traffic(c *consumer, key func() (string, error)) {
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() { c.work(ctx, key) })
	w.t.Cleanup(func() {
		stop()
		working.Wait()
	})
}

func (c *consumer) restart() {
	value, err := c.load()
	if err != nil {
		return // it goes on with the key that it has
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = value
}

func (c *consumer) holds() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value
}

func (c *consumer) holdsOr() (string, error) { return c.holds(), nil }

func (c *consumer) meanwhile(hook func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restarting = hook
}

// work makes four requests per second. A key that cannot be had at the moment is no request.
func (c *consumer) work(ctx context.Context, key func() (string, error)) {
	client := &http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		value, err := key()
		if err != nil {
			continue
		}
		status, err := c.request(ctx, client, value)
		c.mu.Lock()
		switch {
		case err == nil && status == http.StatusOK:
			c.served++
		case ctx.Err() == nil:
			c.failed = append(c.failed, fmt.Sprintf("%s with %s: status %d, %v", time.Now().UTC().Format(time.TimeOnly), fingerprint(value), status, err))
		}
		c.mu.Unlock()
	}
}

func (c *consumer) request(ctx context.Context, client *http.Client, value string) (int, error) {
	const body = `{"model": "claude-haiku-5-5", "max_tokens": 16, "messages": [{"role": "user", "content": "Where is my order?"}]}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.w.url+"/v1/messages", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("x-api-key", value)
	req.Header.Set("anthropic-version", "2023-06-01")
	req.Header.Set("content-type", "application/json")
	req.Header.Set("User-Agent", userAgent+c.name)
	resp, err := client.Do(req)
	if err != nil {
		return 0, errors.New("no answer")
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// unharmed wants that the application was served and never failed.
func (c *consumer) unharmed() {
	c.w.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.served == 0 || len(c.failed) > 0 {
		c.w.t.Errorf("application %s: %d requests served, %d failed: %v", c.name, c.served, len(c.failed), c.failed)
	}
}

// noneRefused asks the provider's log for refused requests of applications.
func (w *world) noneRefused() {
	w.t.Helper()
	served := 0
	for _, r := range w.sim.Requests() {
		if strings.HasPrefix(r.UserAgent, userAgent) {
			served++
		}
	}
	if served == 0 {
		w.t.Error("the provider saw no application")
	}
	for _, r := range w.sim.Refused() {
		if ours(r) {
			w.t.Errorf("the provider refused %s at %s with %s", r.UserAgent, r.Time, r.KeyID)
		}
	}
}

func ours(r simulator.Request) bool { return strings.HasPrefix(r.UserAgent, userAgent) }
