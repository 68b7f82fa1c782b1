package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkLoad reads a file of 1,000 keys with a location each.
func BenchmarkLoad(b *testing.B) {
	var keys, places strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&keys, "  key-%d:\n    class: staging\n    owner: team@zen.example\n    locations: [place-%d]\n", i, i)
		fmt.Fprintf(&places, "  place-%d:\n    kind: env-file\n    path: /etc/zen/%d.env\n    variable: ANTHROPIC_API_KEY\n    reload: { command: systemctl restart zen }\n", i, i)
	}
	p := filepath.Join(b.TempDir(), FileName)
	if err := os.WriteFile(p, []byte("organization: zen\nkeys:\n"+keys.String()+"locations:\n"+places.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := Load(b.Context(), []string{p}, Options{Dirs: testDirs()}); err != nil {
			b.Fatal(err)
		}
	}
}
