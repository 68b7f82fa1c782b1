// Command gencommands writes docs/commands. It is run by go generate in package cli.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/keywright/keywright/internal/cli"
	"github.com/keywright/keywright/internal/tools/commanddoc"
)

func main() {
	if err := run("../../docs/commands"); err != nil {
		fmt.Fprintln(os.Stderr, "gencommands:", err)
		os.Exit(1) //nolint:forbidigo // This is a main.
	}
}

// run writes the pages into dir, and removes those of commands that are gone.
func run(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // Pages are for everybody to read.
		return err
	}
	pages := commanddoc.Pages(cli.Root())
	old, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		return err
	}
	for _, p := range old {
		if _, ok := pages[filepath.Base(p)]; !ok {
			if err := os.Remove(p); err != nil {
				return err
			}
		}
	}
	for name, content := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil { //nolint:gosec // Pages are for everybody to read.
			return err
		}
	}
	return nil
}
