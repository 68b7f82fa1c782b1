// Package scan reads from the folders of the connectors which kinds there are and what they can do. It reads source and starts
// nothing, so that it works while the list that it makes is missing. The generator genlocations calls it, and the test that its output
// is fresh.
package scan

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Folder is one connector's source folder.
type Folder struct {
	// Name is the folder's and the package's name.
	Name string
	// Support maps the fields of all.Support to "Always" or "Sometimes".
	Support map[string]string
}

// abilities maps interfaces of package location to the fields of all.Support. Promoter goes without saying beside Stager.
func abilities() [][2]string {
	return [][2]string{
		{"Reader", "Reads"}, {"Stager", "Stages"}, {"Unstager", "Unstages"}, {"Restorer", "Restores"}, {"Remover", "Removes"},
		{"Reloader", "Reloads"}, {"Confirmer", "Confirms"}, {"Prober", "Probes"}, {"Checker", "Checks"}, {"Instructor", "Manual"},
	}
}

// excluded are folders whose Kind is for tests, or that are no connectors.
func excluded() []string { return []string{"all", "locationtest", "memory"} }

// Scan gives the connectors below the folder of package location, in order of their names: every folder with an exported
// function Kind.
func Scan(dir string) ([]Folder, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("scan connectors: %w", err)
	}
	var all []Folder
	for _, e := range entries {
		if !e.IsDir() || slices.Contains(excluded(), e.Name()) {
			continue
		}
		f, ok, err := scanFolder(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, f)
		}
	}
	return all, nil
}

// source is what the files of a folder declare.
type source struct {
	kind   bool
	guards map[string][]string // interface -> types that are guarded to satisfy it
	embeds map[string][]string // type -> embedded types of the same package
}

func scanFolder(dir string) (Folder, bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return Folder{}, false, fmt.Errorf("scan connector: %w", err)
	}
	s := source{guards: map[string][]string{}, embeds: map[string][]string{}}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return Folder{}, false, fmt.Errorf("scan connector: %w", err)
		}
		s.add(file)
	}
	if !s.kind {
		return Folder{}, false, nil
	}
	f := Folder{Name: filepath.Base(dir), Support: map[string]string{}}
	if len(s.guards["Driver"]) == 0 {
		return Folder{}, false, fmt.Errorf("scan connector %s: no type is guarded by `var _ location.Driver = …`", f.Name)
	}
	for _, a := range abilities() {
		if d := s.degree(a[0]); d != "" {
			f.Support[a[1]] = d
		}
	}
	return f, true, nil
}

func (s *source) add(file *ast.File) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			s.kind = s.kind || d.Recv == nil && d.Name.Name == "Kind"
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					s.guard(spec)
				case *ast.TypeSpec:
					s.embedded(spec)
				}
			}
		}
	}
}

// guard notes `_ location.X = (*T)(nil)` and its like, which the compiler has checked.
func (s *source) guard(spec *ast.ValueSpec) {
	sel, ok := spec.Type.(*ast.SelectorExpr)
	if !ok || len(spec.Names) != 1 || spec.Names[0].Name != "_" || len(spec.Values) != 1 {
		return
	}
	if pkg, ok := sel.X.(*ast.Ident); !ok || pkg.Name != "location" {
		return
	}
	if t := typeName(spec.Values[0]); t != "" {
		s.guards[sel.Sel.Name] = append(s.guards[sel.Sel.Name], t)
	}
}

func (s *source) embedded(spec *ast.TypeSpec) {
	st, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range st.Fields.List {
		if len(f.Names) == 0 {
			s.embeds[spec.Name.Name] = append(s.embeds[spec.Name.Name], typeName(f.Type))
		}
	}
}

// typeName finds T in T, *T, (*T)(nil), T{} and &T{}.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.ParenExpr:
		return typeName(e.X)
	case *ast.CallExpr:
		return typeName(e.Fun)
	case *ast.CompositeLit:
		return typeName(e.Type)
	case *ast.UnaryExpr:
		return typeName(e.X)
	}
	return ""
}

// degree is Always when every guarded driver has the ability, and Sometimes when some type of the package has it.
func (s *source) degree(ability string) string {
	have := s.guards[ability]
	if len(have) == 0 {
		return ""
	}
	for _, d := range s.guards["Driver"] {
		if !s.has(d, have, 0) {
			return "Sometimes"
		}
	}
	return "Always"
}

func (s *source) has(t string, have []string, depth int) bool {
	if slices.Contains(have, t) {
		return true
	}
	for _, e := range s.embeds[t] {
		if depth < 8 && s.has(e, have, depth+1) {
			return true
		}
	}
	return false
}

// List gives the source of zz_gen_all.go.
func List(folders []Folder) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("// Code generated by internal/tools/genlocations; DO NOT EDIT.\n\npackage all\n\nimport (\n\t\"github.com/keywright/keywright/internal/location\"\n")
	for _, f := range folders {
		fmt.Fprintf(&b, "\t\"github.com/keywright/keywright/internal/location/%s\"\n", f.Name)
	}
	b.WriteString(")\n\nfunc kinds() []location.Kind {\n\treturn []location.Kind{\n")
	for _, f := range folders {
		fmt.Fprintf(&b, "\t\t%s.Kind(),\n", f.Name)
	}
	b.WriteString("\t}\n}\n\nfunc supports() map[string]Support {\n\treturn map[string]Support{\n")
	for _, f := range folders {
		fmt.Fprintf(&b, "\t\t%s.Kind().Name: {", f.Name)
		sep := ""
		for _, a := range abilities() {
			if d := f.Support[a[1]]; d != "" {
				fmt.Fprintf(&b, "%s%s: %s", sep, a[1], d)
				sep = ", "
			}
		}
		b.WriteString("},\n")
	}
	b.WriteString("\t}\n}\n")
	out, err := format.Source(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("format the list of connectors: %w", err)
	}
	return out, nil
}
