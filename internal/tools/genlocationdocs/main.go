// Command genlocationdocs writes docs/locations and the table of locations in README.md. It is run by go generate in package
// location/all, after genlocations.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keywright/keywright/internal/location/all"
	"github.com/keywright/keywright/internal/tools/locationdoc"
)

func main() {
	if err := run("../../.."); err != nil {
		fmt.Fprintln(os.Stderr, "genlocationdocs:", err)
		os.Exit(1) //nolint:forbidigo // This is a main.
	}
}

// run writes below root, the module's.
func run(root string) error {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	files, err := locationdoc.Output(all.All(), readme)
	if err != nil {
		return err
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs/locations/*.md"))
	if err != nil {
		return err
	}
	for _, page := range pages {
		if _, ok := files["docs/locations/"+filepath.Base(page)]; !ok {
			if err := os.Remove(page); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "docs/locations"), 0o755); err != nil { //nolint:gosec // Pages are for everybody to read.
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o644); err != nil { //nolint:gosec // Pages are for everybody to read.
			return err
		}
	}
	return nil
}
