package runner_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/reliability.md anew")

// fresh compares a table to the one in docs/reliability.md, between the marks of its name; with -update it writes it there.
func fresh(t *testing.T, name, table string) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", "reliability.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, ok := strings.Cut(string(page), begin)
	old, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no marks %q", path, name)
	}
	if old == table {
		return
	}
	if !*update {
		t.Errorf("the table %q of %s is stale: go test ./internal/runner -update\n%s", name, path, table)
		return
	}
	if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

var volatile = regexp.MustCompile(`(kf|v)_[0-9a-f]{16}`)

// cell makes a text fit for a table, and the same in every run.
func cell(s string) string {
	return volatile.ReplaceAllString(strings.ReplaceAll(strings.ReplaceAll(s, "|", "\\|"), "\n", " "), "${1}_…")
}
