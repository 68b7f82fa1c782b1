//go:build real

package exec

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/locationtest"
	"github.com/keywright/keywright/internal/secret"
)

// TestRealExample runs the suite against the sample program of the documentation.
func TestRealExample(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is not installed")
		}
		t.Skip("python3 is not installed")
	}
	// The name in PATH may be a slow shim.
	if out, err := exec.Command(python, "-c", "import sys; print(sys.executable)").Output(); err == nil {
		python = strings.TrimSpace(string(out))
	}
	example, err := filepath.Abs("example.py")
	if err != nil {
		t.Fatal(err)
	}
	locationtest.Run(t, locationtest.Harness{
		How: location.ReadBack, CAS: true,
		New: func(tb testing.TB) *locationtest.Place {
			path := filepath.Join(tb.TempDir(), "key.txt")
			again := func() location.Driver {
				return open(tb, Config{Command: []string{python, "-S", example, path}, Abilities: []string{"read"}})
			}
			return &locationtest.Place{
				Driver: again(), Again: again,
				Held: func(testing.TB) ([]byte, bool) {
					b, err := os.ReadFile(path)
					return b, err == nil
				},
				Overwrite: func(tb testing.TB, v secret.Value) {
					if err := os.WriteFile(path, []byte(v.RevealString()), 0o600); err != nil {
						tb.Fatal(err)
					}
				},
			}
		},
	})
}
