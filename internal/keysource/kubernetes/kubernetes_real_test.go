//go:build real

package kubernetes_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource/kubernetes"
	"github.com/keywright/keywright/internal/peers"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestRealSecretIsWatched(t *testing.T) {
	path := peers.Kubernetes(t)
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	const secrets = "/api/v1/namespaces/default/secrets"
	do := func(method, resource string, v secret.Value) {
		t.Helper()
		body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"anthropic"},"data":{"api_key":%q}}`, base64.StdEncoding.EncodeToString([]byte(v.RevealString())))
		if method == http.MethodDelete {
			body = ""
		}
		req, err := http.NewRequestWithContext(t.Context(), method, cfg.Host+resource, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode >= 300 {
			t.Fatalf("%s: status %d", method, res.StatusCode)
		}
	}
	a, b := secrettest.Fake(t), secrettest.Fake(t)
	do("POST", secrets, a)
	r, err := kubernetes.New(kubernetes.Config{Namespace: "default", Secret: "anthropic", Field: "api_key", Kubeconfig: path})
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Read(t.Context())
	if err != nil || !got.Value.Equal(a) {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() { told <- r.Wait(context.Background(), got.Mark) }()
	do("PUT", secrets+"/anthropic", b)
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	next, err := r.Read(t.Context())
	if err != nil || !next.Value.Equal(b) {
		t.Fatal(err)
	}
	go func() { told <- r.Wait(context.Background(), next.Mark) }()
	do("DELETE", secrets+"/anthropic", b)
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(t.Context()); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
