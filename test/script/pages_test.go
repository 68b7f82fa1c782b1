package script

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/fault"
)

var repository = filepath.Join("..", "..")

// pages gives every page of the repository by its path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "changelog/*.md", "changelog/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			rel, err := filepath.Rel(repository, f)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.ToSlash(rel)] = string(text)
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d pages were found", len(all))
	}
	return all
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	seen := 0
	for name, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			seen++
			if _, err := os.Stat(filepath.Join(repository, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d links were found", seen)
	}
}

// TestTheReadmeIsShort holds the README to its length, and to a first command before line 20.
func TestTheReadmeIsShort(t *testing.T) {
	lines := strings.Split(pages(t)["README.md"], "\n")
	if len(lines) < 200 || len(lines) > 300 {
		t.Errorf("the README has %d lines", len(lines))
	}
	if !slices.Contains(lines[:20], "make test    # the tests; needs Go and a C compiler") {
		t.Error("the README shows no command before line 20")
	}
}

var codeRow = regexp.MustCompile(`(?m)^\| (\d+) \| `)

func TestEveryExitCodeIsDocumented(t *testing.T) {
	var said []string
	for _, m := range codeRow.FindAllStringSubmatch(pages(t)["docs/exit-codes.md"], -1) {
		said = append(said, m[1])
	}
	var want []string
	for _, c := range []int{fault.ExitFine, fault.ExitInternal, fault.ExitUsage, fault.ExitRefused, fault.ExitNotFound, fault.ExitConflict, fault.ExitTryLater, fault.ExitIndeterminate,
		fault.ExitFindings, fault.ExitIncomplete, fault.ExitInterrupted} {
		want = append(want, fmt.Sprint(c))
	}
	if !slices.Equal(said, want) {
		t.Errorf("docs/exit-codes.md has the codes %q, the program %q", said, want)
	}
	for k := fault.Unknown; k <= fault.Incomplete; k++ {
		if c := fault.ExitCode(fault.New(k, "x")); !slices.Contains(said, fmt.Sprint(c)) {
			t.Errorf("%s ends with %d, which is not documented", k, c)
		}
	}
}

var (
	entryHead = regexp.MustCompile(`^(Security|Change|Bugfix|Enhancement): ([A-Z].*[^.])$`)
	entryLink = regexp.MustCompile(`^https://github\.com/keywright/keywright/issues/\d+$`)
)

func TestChangelogEntriesHaveTheirForm(t *testing.T) {
	all := pages(t)
	seen := 0
	for name, text := range all {
		if !strings.HasPrefix(name, "changelog/unreleased/") {
			continue
		}
		seen++
		paragraphs := strings.Split(strings.TrimSpace(text), "\n\n")
		head := entryHead.FindStringSubmatch(paragraphs[0])
		if head == nil || len(paragraphs) < 3 || !entryLink.MatchString(paragraphs[len(paragraphs)-1]) {
			t.Errorf("%s does not have the form of changelog/README.md", name)
			continue
		}
		if line := fmt.Sprintf("- %s: [%s](%s)", head[1], head[2], name); !strings.Contains(all["CHANGELOG.md"], line) {
			t.Errorf("CHANGELOG.md lacks: %s", line)
		}
	}
	if seen == 0 {
		t.Error("there are no entries")
	}
}
