// Command genverdicts writes docs/gateway-verdicts.md. It is run by go generate in package verdict.
package main

import (
	"fmt"
	"os"

	"github.com/keywright/keywright/internal/verdict"
)

func main() {
	if err := os.WriteFile("../../docs/gateway-verdicts.md", []byte(verdict.Markdown()), 0o644); err != nil { //nolint:gosec // Pages are for everybody to read.
		fmt.Fprintln(os.Stderr, "genverdicts:", err)
		os.Exit(1) //nolint:forbidigo // This is a main.
	}
}
