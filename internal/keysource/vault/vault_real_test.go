//go:build real

package vault_test

import (
	"os"
	"testing"
)

// TestRealVault runs the suite against a server that a person has started: its address in KEYWRIGHT_VAULT, neither initialised nor unsealed, with
// storage in memory. No server is built for it, since that takes longer than all the other peers but Kubernetes.
func TestRealVault(t *testing.T) {
	address := os.Getenv("KEYWRIGHT_VAULT")
	if address == "" {
		t.Skip("KEYWRIGHT_VAULT names no new server; the suite ran against the imitation")
	}
	suite(t, address)
}
