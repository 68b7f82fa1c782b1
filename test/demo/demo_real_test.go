//go:build real

package demo_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/demo"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/simulator"
)

const seed = 20261118

// TestRealDemo runs the built program's demo to its end, with values that are known, and searches for them in everything that it wrote: its output, the
// command line and environment of every process, and every file but the places themselves. Moto takes part where it is installed.
func TestRealDemo(t *testing.T) {
	needProc(t)
	cast, err := demo.NewCast(simulator.New(simulator.Options{Seed: seed}))
	if err != nil {
		t.Fatal(err)
	}
	keep := filepath.Join(t.TempDir(), "keep")
	if err := os.Mkdir(keep, 0o700); err != nil {
		t.Fatal(err)
	}
	s := begin(t, build(t), "KEYWRIGHT_DEMO_KEEP="+keep, "KEYWRIGHT_DEMO_SEED="+strconv.Itoa(seed), "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	seen := map[string]bool{}
	begun := time.Now()
	code := s.run(ctx, func() { sample(seen) })
	t.Logf("%s, %d command lines and environments seen", time.Since(begun).Round(time.Second), len(seen))
	if code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, s.all, s.err)
	}
	s.nothingLeft(keep)
	empty(t, s.tmp)
	for _, text := range []string{"$ kill -9 ", "the chain is whole", "The provider's log has the same numbers.", "nothing is left behind"} {
		if !strings.Contains(s.all.String(), text) {
			t.Errorf("the demo did not say %q", text)
		}
	}

	transcript(t, s.all.String())

	values := cast.Values()
	secrettest.NoLeak(t, "stdout", s.all.Bytes(), values...)
	secrettest.NoLeak(t, "stderr", s.err.Bytes(), values...)
	workers := 0
	for text := range seen {
		secrettest.NoLeak(t, "a process", []byte(text), values...)
		if strings.Contains(text, "\x00demo\x00app\x00") {
			workers++
		}
	}
	if workers < 4 {
		t.Errorf("%d command lines of applications were seen: the sampling does not work", workers)
	}
	places := []string{"admin.key", "staging.env", "web.env", "agent.env", "batch.env"}
	for i := range places {
		places[i] = filepath.Join(keep, places[i])
	}
	secrettest.NoLeakIn(t, keep, places, values...)
	searchable(t, keep, cast)
}

// transcript compares the lines that the README shows with those of this demo, but for numbers and fingerprints.
func transcript(t *testing.T, shown string) {
	t.Helper()
	if !strings.Contains(shown, "agent-aws") {
		t.Log("the transcript is not compared: moto_server is not installed, and it was made with it")
		return
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "demo-transcript.txt"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(shown) {
		known[plain(line)] = true
	}
	lines := 0
	for line := range strings.Lines(string(text)) {
		lines++
		if !known[plain(line)] {
			t.Errorf("docs/demo-transcript.txt has a line that the demo does not print any more: %q", line)
		}
	}
	if lines < 5 || lines > 15 {
		t.Errorf("docs/demo-transcript.txt has %d lines", lines)
	}
}

var (
	changing = regexp.MustCompile(`kf_[0-9a-f]+|[0-9]+`)
	took     = regexp.MustCompile(`  [0-9]+(\.[0-9])?[smhd]\s*$`) // at the end of a line whose work was not done at once
)

// plain takes out of a line what is different in every demo.
func plain(line string) string {
	return strings.Join(strings.Fields(changing.ReplaceAllString(took.ReplaceAllString(line, ""), "N")), " ")
}

// searchable makes sure that the search could have found something: the places hold the values that were looked for, and the store is there.
func searchable(t *testing.T, keep string, cast *demo.Cast) {
	t.Helper()
	for name, v := range map[string]secret.Value{"admin.key": cast.Admin, "web.env": cast.Primary.New, "staging.env": cast.Primary.New, "batch.env": cast.Secondary.New} {
		content, err := os.ReadFile(filepath.Join(keep, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(content), v.RevealString()) {
			t.Errorf("%s does not hold %v: the values that were looked for are not those of the demo", name, v)
		}
	}
	var files []string
	err := filepath.WalkDir(keep, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, strings.TrimPrefix(path, keep+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"state/keywright.db", "state/rotation-log.md", "witness/checkpoints", "config/master.key"} {
		if !strings.Contains(strings.Join(files, "\n"), want) {
			t.Errorf("%s is not among the files: %q", want, files)
		}
	}
}

// sample adds the command lines and environments of all processes that can be read.
func sample(seen map[string]bool) {
	for _, pattern := range []string{"/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ"} {
		paths, _ := filepath.Glob(pattern) // the pattern is well-formed
		for _, path := range paths {
			if text, err := os.ReadFile(path); err == nil {
				seen[string(text)] = true
			}
		}
	}
}

// build builds the program as it is released.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "keywright")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/keywright/keywright/cmd/keywright")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build keywright: %v\n%s", err, out)
	}
	return program
}
