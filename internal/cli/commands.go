package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

//go:generate go run ../tools/gencommands

// Root gives the tree of commands without running any; docs/commands is made from it.
func Root() *cobra.Command {
	c := &console{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	return c.root()
}

// commands lists the commands, in the order of the help. Each is made in a file of its own name.
func commands() []func(*console) *cobra.Command {
	return []func(*console) *cobra.Command{
		(*console).statusCommand,
		(*console).planCommand,
		(*console).rotateCommand,
		(*console).rotationCommand,
		(*console).rollbackCommand,
		(*console).emergencyCommand,
		(*console).resumeCommand,
		(*console).keyCommand,
		(*console).locationsCommand,
		(*console).scanCommand,
		(*console).hookCommand,
		(*console).auditCommand,
		(*console).incidentCommand,
		(*console).initCommand,
		(*console).configCommand,
		(*console).serveCommand,
		(*console).gatewayCommand,
		(*console).tokenCommand,
		(*console).readerCommand,
		(*console).simulateCommand,
		(*console).custodyCommand,
		(*console).demoCommand,
	}
}
