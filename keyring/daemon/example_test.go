package daemon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/handover"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/keyring"
	"github.com/keywright/keywright/keyring/daemon"
)

// served is a daemon of one key, as far as a reader sees it.
type served struct {
	mu         sync.Mutex
	value      string
	generation uint64
	changed    chan struct{}
	asked      int
}

func (s *served) set(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = value
	s.generation++
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
}

func (s *served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in handover.Request
	if r.Method != http.MethodPost || r.URL.Path != handover.Path || json.NewDecoder(r.Body).Decode(&in) != nil || in.Key != "prod-primary" {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"kind":"forbidden","error":"foreign text"}`))
		return
	}
	s.mu.Lock()
	s.asked++
	changed, generation := s.changed, s.generation
	s.mu.Unlock()
	if in.Have == generation && in.Wait > 0 {
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := handover.Reply{Key: in.Key, Generation: s.generation}
	if in.Have < s.generation {
		v := secret.New([]byte(s.value))
		reply.Fingerprint = v.Fingerprint()
		var err error
		if reply.Sealed, err = handover.Seal(in.To, handover.Binding{Reader: handover.Local, Key: in.Key, Generation: s.generation}, v); err != nil {
			panic(err)
		}
	}
	_ = json.NewEncoder(w).Encode(reply)
}

// start serves a daemon on a socket, and gives its path and the call that ends it.
func start(value string) (*served, string, func()) {
	dir, err := os.MkdirTemp("", "kw")
	if err != nil {
		panic(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	s := &served{}
	s.set(value)
	srv := &http.Server{Handler: s}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	return s, path, func() { _ = srv.Close(); <-done; _ = os.RemoveAll(dir) }
}

// A program on the daemon's host reads a key over its socket.
func Example() {
	_, socket, end := start("the-value")
	defer end()

	source, err := daemon.New(daemon.Config{Address: socket, Keys: []string{"prod-primary"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ring, err := keyring.New(source)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()
	value, err := ring.Value(context.Background())
	fmt.Println(value, err)
	// Output: [value kf_9fc410830ca6c272] <nil>
}

// TestPush: a new version at the daemon is in use without anybody asking for it.
func TestPush(t *testing.T) {
	s, socket, end := start("one")
	defer end()
	source, err := daemon.New(daemon.Config{Address: socket, Keys: []string{"prod-primary"}})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.New(source)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	v, err := ring.Value(t.Context())
	if err != nil || v.Reveal() != "one" {
		t.Fatal(v, err)
	}
	s.set("two")
	for v.Reveal() != "two" { // the test's own time limit ends it
		if v, err = ring.Value(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusals(t *testing.T) {
	_, socket, end := start("one")
	defer end()
	source, err := daemon.New(daemon.Config{Address: socket, Keys: []string{"other"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Fetch(t.Context()); err == nil {
		t.Error("a key of others was read")
	}
	for _, c := range []daemon.Config{{Address: socket}, {Address: "relative", Keys: []string{"a"}}, {Address: "http://h", Keys: []string{"a"}}, {Address: "https://h:1", Keys: []string{"a"}}, {Address: socket, Keys: []string{"A"}}} {
		if _, err := daemon.New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}
