// Command genconfig writes docs/keywright.schema.json and the tables between the markers in docs/configuration.md. It is run by go
// generate in package config.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/keywright/keywright/internal/config"
)

func main() {
	if err := run("../.."); err != nil {
		fmt.Fprintln(os.Stderr, "genconfig:", err)
		os.Exit(1) //nolint:forbidigo // This is a main.
	}
}

// run writes below root, the module's.
func run(root string) error {
	page := filepath.Join(root, "docs/configuration.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	filled, err := config.FillPage(string(text))
	if err != nil {
		return err
	}
	schema, err := config.Schema()
	if err != nil {
		return err
	}
	if err := os.WriteFile(page, []byte(filled), 0o644); err != nil { //nolint:gosec // Pages are for everybody to read.
		return err
	}
	return os.WriteFile(filepath.Join(root, "docs/keywright.schema.json"), schema, 0o644) //nolint:gosec // Likewise.
}
