package gateway

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	gw "github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// peer is a gateway of its own, its provider, and a status socket that can be broken once.
type peer struct {
	dir, path string
	g         *gw.Gateway

	mu    sync.Mutex
	fault *locationtest.Fault
	stop  chan struct{} // ends what hangs
}

// provider accepts every key, and answers a message after what delay says.
func provider(tb testing.TB, delay func(value string) time.Duration) string {
	tb.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if delay != nil {
			if d := delay(r.Header.Get("X-Api-Key")); d > 0 {
				select {
				case <-time.After(d):
				case <-r.Context().Done():
				}
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"data":[]}`))
	}))
	tb.Cleanup(s.Close)
	return s.URL
}

func startPeer(tb testing.TB, upstream string) *peer {
	tb.Helper()
	dir := tb.TempDir()
	p := &peer{dir: dir, path: filepath.Join(dir, "app.key"), stop: make(chan struct{})}
	g, err := gw.New(gw.Options{Upstream: upstream, Identify: []identity.Identifier{anybody{}}, Hosts: []string{"app.test"}, StateDir: dir})
	if err != nil {
		tb.Fatal(err)
	}
	p.g = g
	p.write(tb, secrettest.Fake(tb))
	if err := g.Follow(tb.Context(), gw.Source{Keys: []gw.SourceKey{{Name: "app", Ref: keysource.Ref("file:" + p.path)}}}); err != nil {
		tb.Fatal(err)
	}
	l, err := gw.ListenUnix(gw.Socket(dir))
	if err != nil {
		tb.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(p.breaking(g.Admin()))
	_ = srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	tb.Cleanup(func() {
		close(p.stop)
		srv.CloseClientConnections()
		srv.Close()
		g.Close()
	})
	return p
}

// anybody lets every caller in.
type anybody struct{}

func (anybody) Identify(*http.Request) (identity.Caller, error) {
	return identity.Caller{App: "test"}, nil
}

func (p *peer) write(tb testing.TB, v secret.Value) {
	tb.Helper()
	var err error
	v.Reveal(func(b []byte) { err = os.WriteFile(p.path, b, 0o600) })
	if err != nil {
		tb.Fatal(err)
	}
}

// breaking answers as the armed fault says, once.
func (p *peer) breaking(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		f := p.fault
		if f != nil && f.OnWrite && r.Method == http.MethodGet {
			f = nil
		}
		if f != nil {
			p.fault = nil
		}
		p.mu.Unlock()
		switch {
		case f == nil:
			next.ServeHTTP(w, r)
		case f.Status != 0:
			if f.Status == http.StatusTooManyRequests {
				w.Header().Set("Retry-After", strconv.Itoa(locationtest.RetryAfterSeconds))
			}
			w.WriteHeader(f.Status)
		case f.Hang:
			select {
			case <-r.Context().Done():
			case <-p.stop:
			}
		case f.Cut:
			next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case f.Garbage:
			next.ServeHTTP(httptest.NewRecorder(), r)
			_, _ = w.Write([]byte("<html>not me</html>"))
		}
	})
}

func open(tb testing.TB, dir string, canary *Canary) *Driver {
	tb.Helper()
	d, err := New(Config{Key: "app", StateDir: dir, Canary: canary}, location.Env{Name: "gateway"})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) {
	upstream := provider(t, nil)
	locationtest.Run(t, locationtest.Harness{
		How: location.ReadBack, RetryAfter: true,
		Faults: append(locationtest.StatusFaults(), locationtest.Interruptions()...),
		New: func(tb testing.TB) *locationtest.Place {
			p := startPeer(tb, upstream)
			if err := os.Remove(p.path); err != nil {
				tb.Fatal(err)
			}
			return &locationtest.Place{
				Driver: open(tb, p.dir, nil),
				Again:  func() location.Driver { return open(tb, p.dir, nil) },
				Held: func(testing.TB) ([]byte, bool) {
					b, err := os.ReadFile(p.path)
					return b, err == nil && len(b) > 0
				},
				Overwrite: p.write,
				Copies: func(tb testing.TB) [][]byte {
					var all [][]byte
					names, err := filepath.Glob(filepath.Join(p.dir, "*app.key*"))
					if err != nil {
						tb.Fatal(err)
					}
					for _, n := range names {
						b, err := os.ReadFile(n)
						if err != nil {
							tb.Fatal(err)
						}
						all = append(all, b)
					}
					return all
				},
				Break: func(_ testing.TB, f locationtest.Fault) {
					p.mu.Lock()
					defer p.mu.Unlock()
					p.fault = &f
				},
			}
		},
	})
}
