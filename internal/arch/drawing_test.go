package arch

import (
	"cmp"
	"fmt"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	drawingBegin = "<!-- levels: begin, written by a test of internal/arch; do not edit -->"
	drawingEnd   = "<!-- levels: end -->"
)

// TestTheDrawingIsTrue compares the table of docs/architecture.md with the levels and with what the packages say of themselves.
// UPDATE_DRAWING=1 writes it.
func TestTheDrawingIsTrue(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "architecture.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), drawingBegin)
	_, after, ends := strings.Cut(rest, drawingEnd)
	if !ok || !ends {
		t.Fatalf("%s lacks the marks of the table", path)
	}
	want := before + drawingBegin + "\n\n" + drawing(t, read(t)) + "\n" + drawingEnd + after
	if want == string(page) {
		return
	}
	if os.Getenv("UPDATE_DRAWING") == "" {
		t.Fatalf("%s is stale: UPDATE_DRAWING=1 go test ./internal/arch", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// drawing is the table: a row for each package, lowest level first.
func drawing(t *testing.T, tr tree) string {
	t.Helper()
	type row struct {
		level      int
		name, text string
	}
	var rows []row
	for pkg := range tr.imports {
		if l, ok := level(pkg); ok && !listed(tests, pkg) {
			rows = append(rows, row{l, pkg, firstSentence(t, pkg)})
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.level, b.level), cmp.Compare(a.name, b.name))
	})
	var b strings.Builder
	b.WriteString("| Level | Package | What it is for |\n|---|---|---|\n")
	for _, r := range rows {
		wall := ""
		if listed(walled, r.name) {
			wall = " ▪"
		}
		fmt.Fprintf(&b, "| %d | `%s`%s | %s |\n", r.level, r.name, wall, strings.ReplaceAll(r.text, "|", `\|`))
	}
	return b.String()
}

// firstSentence gives what a package says of itself, without its own name.
func firstSentence(t *testing.T, pkg string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(pkg), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if file.Doc == nil {
			continue
		}
		text := strings.Join(strings.Fields(new(doc.Package).Synopsis(file.Doc.Text())), " ")
		_, text, _ = strings.Cut(strings.TrimPrefix(text, "Package "), " ")
		return text
	}
	return ""
}
