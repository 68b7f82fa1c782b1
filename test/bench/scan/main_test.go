package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

func TestRunAddsUpAndChecksEveryProcess(t *testing.T) {
	sh := func(script string) *exec.Cmd { return exec.CommandContext(t.Context(), "sh", "-c", script) }
	s, err := run([]int{3}, sh("echo one; echo two"), sh("test $(wc -l) = 2 && exit 3"))
	if err != nil || s.code != 3 || s.wall <= 0 || s.peak <= 0 {
		t.Errorf("%+v, %v", s, err)
	}
	for name, cmds := range map[string][]*exec.Cmd{
		"the last one":  {sh("echo"), sh("cat; exit 1")},
		"one before it": {sh("echo broken >&2; exit 1"), sh("cat")},
		"none there":    {sh("echo"), exec.CommandContext(t.Context(), "/nowhere/program")},
	} {
		if _, err := run([]int{0}, cmds...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A history is measured with git's own programs, and a stand-in for the scan.
func TestBenchMeasuresEachRepository(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is missing")
	}
	dir := t.TempDir()
	for _, args := range [][]string{{"init", "-q", "one"}, {"-C", "one", "-c", "user.name=Dev", "-c", "user.email=dev@acme.example", "commit", "-q", "--allow-empty", "-m", "first"}} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, text)
		}
	}
	standIn, err := exec.LookPath("true")
	if err != nil {
		t.Skip("true is missing")
	}
	var out bytes.Buffer
	if err := bench(t.Context(), &out, standIn, []string{dir + "/one"}, []string{dir}, 2, 1); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 9 || len(strings.Fields(lines[3])) != 9 || !strings.HasPrefix(lines[3], "one ") {
		t.Fatalf("%q", lines)
	}
	for i, want := range []string{"one wall to own", "one second scan", "one scan to gitleaks", "hook one staged file", "files, scan to rg"} {
		if line := strings.Join(strings.Fields(lines[4+i]), " "); !strings.Contains(line, want) {
			t.Errorf("line %d is %q, want %q", 4+i, line, want)
		}
	}
	if bench(t.Context(), &out, standIn, nil, nil, 1, 1) == nil || bench(t.Context(), &out, standIn, []string{dir}, nil, 1, 1) == nil {
		t.Error("no repository, and no error")
	}
}
