package scan_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keywright/keywright/internal/tools/locationdoc/scan"
)

func TestScan(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const guards = "func Kind() {}\nvar _ location.Driver = (*d)(nil)\n"
	file("b/b.go", "package b\n"+guards+"var (\n_ location.Reader = (*d)(nil)\n_ location.Checker = &d{}\n)\n")
	file("a/a.go", "package a\n"+guards+"type e struct{ *base }\nvar _ location.Driver = e{}\nvar _ location.Reader = base{}\ntype d struct{ base }\n")
	file("a/stage.go", "package a\nvar _ location.Stager = (*e)(nil)\n")
	file("a/a_test.go", "package a\nvar _ location.Remover = (*d)(nil)\n")
	file("memory/m.go", "package memory\n"+guards)
	file("helper/h.go", "package helper\nfunc (x) Kind() {}\n")
	got, err := scan.Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []scan.Folder{
		{Name: "a", Support: map[string]string{"Reads": "Always", "Stages": "Sometimes"}},
		{Name: "b", Support: map[string]string{"Reads": "Always", "Checks": "Always"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	source, err := scan.List(got)
	if err != nil || !strings.Contains(string(source), "a.Kind().Name: {Reads: Always, Stages: Sometimes},") {
		t.Errorf("%s, %v", source, err)
	}
	file("c/c.go", "package c\nfunc Kind() {}\n")
	if _, err := scan.Scan(dir); err == nil || !strings.Contains(err.Error(), "guarded") {
		t.Errorf("a connector without guards: %v", err)
	}
}
