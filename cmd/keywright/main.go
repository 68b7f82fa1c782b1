// Command keywright runs the life of API keys: where they are, rotations, evidence, retirement and the record of it.
package main

import (
	"os"

	"github.com/keywright/keywright/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
