package cli

import "github.com/spf13/cobra"

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
		(*console).auditCommand,
		(*console).incidentCommand,
		(*console).initCommand,
		(*console).configCommand,
		(*console).serveCommand,
		(*console).simulateCommand,
		(*console).custodyCommand,
		(*console).demoCommand,
	}
}
