package config

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		out = append(out, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPropose(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "My App")
	t.Setenv("HOME", t.TempDir())
	for _, d := range []string{".github/workflows", "k8s"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	v := secrettest.Fake(t)
	write(t, dir, ".env", "A=1\nexport ANTHROPIC_API_KEY="+v.RevealString()+"\n")
	write(t, dir, ".env.example", "ANTHROPIC_API_KEY=\n")
	write(t, dir, ".env.production", "ANTHROPIC_API_KEY="+v.RevealString()+"\n")
	write(t, dir, "other.env", "MY_ANTHROPIC_API_KEY=x\n")
	write(t, dir, "worker.env", "ANTHROPIC_API_KEY='"+v.RevealString()+"'\n")
	write(t, dir, "compose.yaml", "services: { a: { environment: [ANTHROPIC_API_KEY] } }\n")
	write(t, dir, ".github/workflows/ci.yml", "env: { K: \"${{ secrets.ANTHROPIC_API_KEY }}\" }\n")
	write(t, dir, "k8s/app.yaml", "name: ANTHROPIC_API_KEY\n")
	if err := os.Chmod(filepath.Join(dir, "worker.env"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "zero.env")); err != nil {
		t.Fatal(err)
	}
	before := tree(t, dir)
	var answers Answers
	text, findings, err := Propose(dir, &answers)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\n  "+string(answers.Key)+":\n") || answers.Key == "" {
		t.Errorf("the answers name the key %q", answers.Key)
	}
	if !slices.Equal(before, tree(t, dir)) {
		t.Error("it wrote something")
	}
	secrettest.NoLeak(t, "text", text, v)
	c, _, err := LoadBytes(FileName, dir, text, Options{Dirs: testDirs()})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got := slices.Sorted(maps.Keys(c.Locations)); c.Organization != "my-app" || !slices.Equal(got, []string{"dotenv", "worker-env"}) {
		t.Errorf("%v\n%s", got, text)
	}
	if k := c.Keys["development"]; k == nil || len(k.Waves) != 1 {
		t.Errorf("%s", text)
	}
	var all strings.Builder
	for _, f := range findings {
		all.WriteString(f.What + " -> " + f.Location + " (" + f.Hint + ")\n")
	}
	secrettest.NoLeak(t, "findings", []byte(all.String()), v)
	for _, want := range []string{".env sets ANTHROPIC_API_KEY -> dotenv", ".env.example sets ANTHROPIC_API_KEY, and looks like an example", ".env.production sets ANTHROPIC_API_KEY, and looks like production",
		"worker.env sets ANTHROPIC_API_KEY -> worker-env (others can read it: chmod 600 worker.env)", "compose.yaml uses", ".github/workflows/ci.yml uses", "k8s/app.yaml uses"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no %q in\n%s", want, all.String())
		}
	}
}

func TestProposeByAnswers(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", t.TempDir())
	text, _, err := Propose(dir, &Answers{Organization: "zen", Key: "prod-primary", Class: "production-primary", Owner: "a: b # c", Workspace: "wrkspc_01EXAMPLE", AdminKey: "cmd:pass show 'admin key'", ProviderURL: "http://127.0.0.1:8080", EnvFiles: []string{"/etc/zen/app.env", filepath.Join(dir, "app.env")}})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := LoadBytes(FileName, dir, text, Options{Dirs: testDirs()})
	if err != nil {
		t.Fatal(err)
	}
	k := c.Keys["prod-primary"]
	if k.Owner != "a: b # c" || k.Workspace != "wrkspc_01EXAMPLE" || c.Provider.AdminKey != "cmd:pass show 'admin key'" || c.Provider.URL != "http://127.0.0.1:8080" || len(c.Locations) != 2 || c.State.Dir != "/state/zen" {
		t.Errorf("%s", text)
	}
	if text, _, err := Propose(t.TempDir(), &Answers{}); err != nil || !strings.Contains(string(text), "# locations:") {
		t.Errorf("an empty directory: %v\n%s", err, text)
	}
	v := secrettest.Fake(t).RevealString()
	for _, a := range []Answers{{Key: "No Name"}, {Class: "none"}, {Organization: "No Name"}, {Variable: "a b"}, {AdminKey: "hunter2"}, {Owner: v}, {Owner: "x\nkeys: {}"}} {
		_, _, err := Propose(t.TempDir(), &a)
		if a.Owner == "x\nkeys: {}" {
			if err != nil {
				t.Errorf("a text of two lines: %v", err)
			}
			continue
		}
		if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), v[:24]) {
			t.Errorf("%+v: %v", a, err)
		}
	}
	if _, _, err := Propose(filepath.Join(dir, "none"), &Answers{}); !fault.Is(err, fault.Forbidden) {
		t.Error(err)
	}
}
