package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/keywright/keywright/"

// tree is what the source says: imports of each package's ordinary files, and who calls Reveal.
type tree struct {
	imports map[string][]string
	reveals map[string]string
	docs    map[string]bool
}

func read(t *testing.T) tree {
	t.Helper()
	root := filepath.Join("..", "..")
	tr := tree{imports: map[string][]string{}, reveals: map[string]string{}, docs: map[string]bool{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || rel == "tools" || name == "zztempdeps") {
				return filepath.SkipDir
			}
			if rel != "." {
				if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
					return filepath.SkipDir
				}
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		return tr.add(filepath.ToSlash(filepath.Dir(rel)), path)
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func (tr tree) add(pkg, path string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	pkg = strings.TrimPrefix(pkg, "internal/")
	tr.docs[pkg] = tr.docs[pkg] || file.Doc != nil
	for _, spec := range file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		name = strings.TrimPrefix(strings.TrimPrefix(name, module), "internal/")
		if !slices.Contains(tr.imports[pkg], name) {
			tr.imports[pkg] = append(tr.imports[pkg], name)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && (sel.Sel.Name == "Reveal" || sel.Sel.Name == "RevealString") {
			tr.reveals[pkg] = path
		}
		return true
	})
	return nil
}

// level finds a package's level; its own entry wins over its folder's.
func level(pkg string) (int, bool) {
	if l, ok := levels[pkg]; ok {
		return l, true
	}
	folder, _, nested := strings.Cut(pkg, "/")
	if nested {
		l, ok := levels[folder+"/"]
		return l, ok
	}
	return 0, false
}

func listed(list []string, pkg string) bool {
	folder, _, nested := strings.Cut(pkg, "/")
	return slices.Contains(list, pkg) || nested && slices.Contains(list, folder+"/")
}

func TestImportsPointDown(t *testing.T) {
	tr := read(t)
	for pkg, imports := range tr.imports {
		if listed(tests, pkg) || strings.HasPrefix(pkg, "cmd/") || pkg == "keyring" || strings.HasPrefix(pkg, "test/") || strings.HasPrefix(pkg, "peers/") {
			continue
		}
		mine, ok := level(pkg)
		if !ok {
			t.Errorf("%s stands on no level: put it into levels in internal/arch/arch.go", pkg)
			continue
		}
		for _, other := range imports {
			if _, ours := tr.imports[other]; !ours {
				continue
			}
			if listed(tests, other) {
				t.Errorf("%s imports %s, which is for tests alone", pkg, other)
				continue
			}
			theirs, ok := level(other)
			_, allowed := same[[2]string{pkg, other}]
			if ok && theirs >= mine && !(theirs == mine && allowed) {
				t.Errorf("%s (level %d) imports %s (level %d): imports point down", pkg, mine, other, theirs)
			}
		}
	}
}

func TestWalls(t *testing.T) {
	tr := read(t)
	for pkg := range tr.imports {
		if !listed(walled, pkg) {
			continue
		}
		if way := tr.way(pkg, "secret", nil); way != nil {
			t.Errorf("%s can name a value: %s", pkg, strings.Join(way, " imports "))
		}
	}
	for _, pkg := range pure {
		for _, name := range tr.imports[pkg] {
			if slices.Contains(forbidden, name) {
				t.Errorf("%s is pure and imports %s", pkg, name)
			}
		}
	}
}

// way finds how from reaches to through our own packages.
func (tr tree) way(from, to string, seen map[string]bool) []string {
	if seen == nil {
		seen = map[string]bool{}
	}
	if seen[from] {
		return nil
	}
	seen[from] = true
	for _, other := range tr.imports[from] {
		if other == to {
			return []string{from, to}
		}
		if _, ours := tr.imports[other]; ours {
			if rest := tr.way(other, to, seen); rest != nil {
				return append([]string{from}, rest...)
			}
		}
	}
	return nil
}

func TestValuesLeaveOnlyWhereListed(t *testing.T) {
	tr := read(t)
	for pkg, path := range tr.reveals {
		if _, ok := revealers[pkg]; !ok {
			t.Errorf("%s takes the bytes out of a secret.Value (%s): give the value on instead, or list the package with its reason", pkg, path)
		}
	}
	for pkg := range revealers {
		if _, ok := tr.reveals[pkg]; !ok {
			t.Errorf("%s is listed and reveals nothing: take it off the list", pkg)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for pkg, ok := range read(t).docs {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

// TestTheTestCanFail builds a small wrong tree.
func TestTheTestCanFail(t *testing.T) {
	tr := tree{imports: map[string][]string{"policy": {"report"}, "report": {"secret"}, "secret": nil}}
	if got := strings.Join(tr.way("policy", "secret", nil), " "); got != "policy report secret" {
		t.Errorf("way = %q", got)
	}
	if tr.way("secret", "policy", nil) != nil {
		t.Error("found a way that is not there")
	}
}
