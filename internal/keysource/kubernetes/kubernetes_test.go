package kubernetes_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource/kubernetes"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// cluster has one Secret, ai/anthropic; the same reader runs against a real API server with the build tag real.
type cluster struct {
	mu      sync.Mutex
	data    map[string]string
	version int
	changed chan struct{}
	status  int
	watched chan struct{} // receives when a watch begins
}

func (c *cluster) put(v secret.Value) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.data = map[string]string{"api_key": base64.StdEncoding.EncodeToString([]byte(v.RevealString())), "bad": "%"}
	c.version++
	if c.changed != nil {
		close(c.changed)
	}
	c.changed = make(chan struct{})
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	status, version, data, changed := c.status, c.version, c.data, c.changed
	c.mu.Unlock()
	q := r.URL.Query()
	switch {
	case status != 0:
		http.Error(w, `{"kind":"Status","message":"foreign text"}`, status)
	case r.URL.Path == "/api/v1/namespaces/ai/secrets/anthropic":
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Secret", "metadata": map[string]string{"resourceVersion": strconv.Itoa(version)}, "data": data})
	case r.URL.Path == "/api/v1/namespaces/ai/secrets" && q.Get("watch") == "1" && q.Get("fieldSelector") == "metadata.name=anthropic":
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		c.watched <- struct{}{}
		if q.Get("resourceVersion") == strconv.Itoa(version) {
			select {
			case <-changed:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = w.Write([]byte(`{"type":"MODIFIED","object":{}}` + "\n"))
	default:
		http.Error(w, "{}", http.StatusNotFound)
	}
}

func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: k, cluster: {server: \"" + server + "\"}}]\nusers: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadAndWatch(t *testing.T) {
	c := &cluster{watched: make(chan struct{}, 8)}
	h := httptest.NewServer(c)
	defer h.Close()
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	c.put(a)
	config := kubernetes.Config{Namespace: "ai", Secret: "anthropic", Field: "api_key", Kubeconfig: kubeconfig(t, h.URL)}
	r, err := kubernetes.New(config)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Read(t.Context())
	if err != nil || !got.Value.Equal(a) || got.Mark == "" {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() { told <- r.Wait(context.Background(), got.Mark) }()
	<-c.watched
	c.put(b)
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	next, err := r.Read(t.Context())
	if err != nil || !next.Value.Equal(b) {
		t.Fatal(err)
	}
	// What changed before the watch began is found.
	if err := r.Wait(t.Context(), got.Mark); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { told <- r.Wait(ctx, next.Mark) }()
	<-c.watched
	<-c.watched
	cancel()
	if err := <-told; !fault.Is(err, fault.Canceled) {
		t.Error(err)
	}
	for field, kind := range map[string]fault.Kind{"none": fault.NotFound, "bad": fault.Invalid} {
		f := config
		f.Field = field
		r, err := kubernetes.New(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(t.Context()); !fault.Is(err, kind) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for status, kind := range map[int]fault.Kind{401: fault.Unauthenticated, 403: fault.Forbidden, 404: fault.NotFound, 429: fault.RateLimited, 500: fault.Unavailable, 302: fault.Invalid} {
		c.mu.Lock()
		c.status = status
		c.mu.Unlock()
		if _, err := r.Read(t.Context()); !fault.Is(err, kind) || strings.Contains(err.Error()+fault.HintOf(err), "foreign") {
			t.Errorf("%d: %v", status, err)
		}
	}
	c.mu.Lock()
	c.status = http.StatusGone
	c.mu.Unlock()
	if err := r.Wait(t.Context(), "1"); err != nil {
		t.Errorf("a mark that is too old is a reason to read: %v", err)
	}
	h.Close()
	if _, err := r.Read(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	config.Kubeconfig = "/nonexistent/config"
	if r, err = kubernetes.New(config); err == nil {
		_, err = r.Read(t.Context())
	}
	if !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}
