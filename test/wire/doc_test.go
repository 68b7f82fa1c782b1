// Package wire_test runs the program keywright gateway between HTTP/2 over TLS on both sides, and looks at what goes over the wire while the key
// changes, callers hang up and connections end. It holds no other code.
package wire_test

import (
	"os"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/cli"
)

// TestMain makes this binary the program too, with arguments that are none of a test's.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestWire(t *testing.T) { wire(t, self(t)) }

func TestClientCertificates(t *testing.T) { clientCertificates(t, self(t)) }

func self(t *testing.T) string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return program
}
