//go:build real

package script

import (
	"path/filepath"
	"testing"
)

// TestRealScripts runs the sessions that take minutes, since a usage report counts whole minutes.
func TestRealScripts(t *testing.T) { run(t, filepath.Join("testdata", "real", "*.txtar")) }
