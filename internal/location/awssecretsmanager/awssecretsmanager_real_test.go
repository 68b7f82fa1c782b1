//go:build real

package awssecretsmanager

import (
	"context"
	"net/http"
	"testing"

	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/peers"
)

// TestRealBehaviourOfMoto runs the same behaviour against Moto, with one server and a region's worth of secrets thrown away
// between the cases.
func TestRealBehaviourOfMoto(t *testing.T) {
	endpoint := peers.Moto(t)
	behaviour(t, func(t *testing.T) peer { return peer{t, emptied(t, endpoint)} })
}

// TestRealSuiteOfMoto runs the conformance suite. Moto moves a label in two steps, so it promises nothing for writers at once.
func TestRealSuiteOfMoto(t *testing.T) {
	endpoint := peers.Moto(t)
	for _, style := range []string{"staged", "direct"} {
		for _, field := range []string{"", "api_key"} {
			t.Run(style+" "+field, func(t *testing.T) {
				locationtest.Run(t, harness(style, field, func(tb testing.TB) (peer, *fake) { return peer{tb, emptied(t, endpoint)}, nil }))
			})
		}
	}
}

// emptied makes the server forget everything.
func emptied(t *testing.T, endpoint string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, endpoint+"/moto-api/reset", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("reset: status %d, %v", resp.StatusCode, err)
	}
	return endpoint
}
