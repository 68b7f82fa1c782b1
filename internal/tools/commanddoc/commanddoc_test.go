package commanddoc_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/cli"
	"github.com/keywright/keywright/internal/tools/commanddoc"
)

var root = filepath.Join("..", "..", "..")

func TestThePagesAreFresh(t *testing.T) {
	want := commanddoc.Pages(cli.Root())
	for name, content := range want {
		if got, err := os.ReadFile(filepath.Join(root, "docs", "commands", name)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("docs/commands/%s is stale: run go generate ./internal/cli", name)
		}
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "commands", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if _, ok := want[filepath.Base(p)]; !ok {
			t.Errorf("%s belongs to no command: run go generate ./internal/cli", p)
		}
	}
}

// mention finds a command of the program in prose, in a page or in the text of an error.
var mention = regexp.MustCompile("keywright ((?:[a-z]+ ?){1,2})")

// wordy are words that may follow the program's name without being a command.
var wordy = map[string]bool{
	"is": true, "does": true, "cannot": true, "can": true, "runs": true, "replaces": true, "asks": true, "wants": true, "would": true, "knows": true, "and": true, "so": true,
	"that": true, "to": true, "in": true, "from": true, "itself": true, "with": true, "it": true, "go": true, "has": true, "or": true, "as": true, "of": true, "saw": true, "was": true, "alone": true, "version": true,
}

// TestOnlyCommandsThatExistAreNamed reads every page, every text in the code and every generated prose for commands, and looks whether they exist.
func TestOnlyCommandsThatExistAreNamed(t *testing.T) {
	known := map[string]*cobra.Command{}
	for _, c := range cli.Root().Commands() {
		known[c.Name()] = c
	}
	known["help"] = &cobra.Command{}
	if known["rotate"] == nil || known["doctor"] != nil {
		t.Fatal("the commands are not those of the program")
	}
	seen := 0
	check := func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mention.FindAllStringSubmatch(string(text), -1) {
			words := strings.Fields(m[1])
			if wordy[words[0]] {
				continue
			}
			seen++
			if known[words[0]] == nil {
				t.Errorf("%s names %q, which is no command", path, strings.TrimSpace(m[0]))
			}
		}
	}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		pages, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pages {
			check(p)
		}
	}
	err := filepath.WalkDir(filepath.Join(root, "internal"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.HasSuffix(path, ".toml") || strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			check(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Errorf("only %d commands were found in all pages and texts", seen)
	}
}
