package script

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keywright/keywright/internal/cli"
)

// shipped reads a file that others take the scan from.
func shipped(t *testing.T, name string, into any) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(text)
}

// TestScansOfOthersUseFlagsThatExist reads the files by which pre-commit, GitHub and GitLab run the scan.
func TestScansOfOthersUseFlagsThatExist(t *testing.T) {
	cmd, _, err := cli.Root().Find([]string{"scan"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".pre-commit-hooks.yaml", "action.yml", "ci/keywright.gitlab-ci.yml"} {
		var doc any
		text := shipped(t, name, &doc)
		calls := 0
		for line := range strings.Lines(text) {
			if _, call, ok := strings.Cut(line, "keywright scan "); ok || strings.Contains(line, `set -- "$@" --`) {
				calls++
				if !ok {
					call = line
				}
				for _, f := range regexp.MustCompile(`--([a-z][a-z-]+)`).FindAllStringSubmatch(call, -1) {
					if cmd.Flags().Lookup(f[1]) == nil {
						t.Errorf("%s: there is no flag --%s", name, f[1])
					}
				}
			}
		}
		if calls == 0 {
			t.Errorf("%s runs no scan", name)
		}
	}
}

// TestScansOfOthersRun runs the scripts of the action and of the template.
func TestScansOfOthersRun(t *testing.T) {
	var action struct {
		Runs struct {
			Steps []struct{ ID, Run string }
		}
	}
	shipped(t, "action.yml", &action)
	var gitlab struct {
		Keywright struct{ Script []string }
	}
	shipped(t, "ci/keywright.gitlab-ci.yml", &gitlab)
	scripts := map[string]string{}
	for _, s := range action.Runs.Steps {
		if s.ID == "scan" {
			scripts["action.sh"] = s.Run
		}
	}
	// The first two lines of the template install the program, which is here already.
	lines := gitlab.Keywright.Script
	if len(lines) != 3 || !strings.Contains(lines[0], "go install") || scripts["action.sh"] == "" {
		t.Fatalf("the scripts have another form: %q, %q", lines, scripts)
	}
	scripts["gitlab.sh"] = "set -e\n" + strings.ReplaceAll(strings.Join(lines[2:], "\n"), "/tmp/keywright-bin/keywright", "keywright") + "\n"
	root := t.TempDir()
	for dir := root; strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "ci"), WorkdirRoot: root, Cmds: commands(), Condition: condition, RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			for name, text := range scripts {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			return setup(env)
		},
	})
}

// simUse makes billed requests with a key of the simulation, as an application would: simuse FILE TIMES.
func simUse(ts *testscript.TestScript, neg bool, args []string) {
	s := in(ts)
	if neg || s.sim == nil || len(args) != 2 {
		ts.Fatalf("usage: simuse FILE TIMES, after sim")
	}
	times, err := strconv.Atoi(args[1])
	ts.Check(err)
	const body = `{"model":"claude-haiku-5-5","max_tokens":8,"messages":[{"role":"user","content":"hello"}]}`
	for range times {
		req, err := http.NewRequest(http.MethodPost, s.server.URL+"/v1/messages", strings.NewReader(body))
		ts.Check(err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Anthropic-Version", "2023-06-01")
		req.Header.Set("X-Api-Key", strings.TrimSpace(ts.ReadFile(args[0])))
		res, err := s.server.Client().Do(req)
		ts.Check(err)
		ts.Check(res.Body.Close())
		if res.StatusCode != http.StatusOK {
			ts.Fatalf("simuse: answered with %d", res.StatusCode)
		}
	}
}
