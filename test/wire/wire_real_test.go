//go:build real

package wire_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestRealWire is the same with the program as it is released.
func TestRealWire(t *testing.T) {
	program := filepath.Join(t.TempDir(), "keywright")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/keywright/keywright/cmd/keywright")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build keywright: %v\n%s", err, out)
	}
	t.Run("wire", func(t *testing.T) { wire(t, program) })
	t.Run("client certificates", func(t *testing.T) { clientCertificates(t, program) })
}
