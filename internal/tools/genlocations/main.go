// Command genlocations writes zz_gen_all.go in package location/all, from the folders beside it. It is run there by go generate.
package main

import (
	"fmt"
	"os"

	"github.com/keywright/keywright/internal/tools/locationdoc/scan"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "genlocations:", err)
		os.Exit(1) //nolint:forbidigo // This is a main.
	}
}

func run() error {
	folders, err := scan.Scan("..")
	if err != nil {
		return err
	}
	source, err := scan.List(folders)
	if err != nil {
		return err
	}
	return os.WriteFile("zz_gen_all.go", source, 0o644) //nolint:gosec // Source is for everybody to read.
}
