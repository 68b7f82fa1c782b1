//go:build real

package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestRealPreCommit lets pre-commit read the hook that the project ships, and run its line at commits. The program is the one of the test in place
// of one that pre-commit would build from the published module.
func TestRealPreCommit(t *testing.T) {
	if _, err := exec.LookPath("pre-commit"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("pre-commit is missing: make peers")
		}
		t.Skip("pre-commit is missing: make peers")
	}
	var hooks []map[string]any
	text := shipped(t, ".pre-commit-hooks.yaml", &hooks)
	if len(hooks) != 1 || hooks[0]["language"] != "golang" {
		t.Fatalf("%+v", hooks)
	}
	hooks[0]["language"] = "system"
	config, err := yaml.Marshal(map[string]any{"repos": []any{map[string]any{"repo": "local", "hooks": hooks}}})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for dir := root; strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Files: []string{filepath.Join("testdata", "real", "ci", "pre-commit.txtar")}, WorkdirRoot: root, Cmds: commands(), Condition: condition, RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			for name, text := range map[string]string{"hooks.yaml": text, "config.yaml": string(config)} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			return setup(env)
		},
	})
}
