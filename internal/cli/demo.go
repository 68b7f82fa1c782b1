package cli

import (
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/demo"
	"github.com/keywright/keywright/internal/fault"
)

func (c *console) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "demo", Short: "rotate a key end to end against a simulated provider, in 90 seconds", GroupID: "setup", Args: cobra.NoArgs,
		Long: `Demo starts a simulation of the provider's API and small applications that call it without a pause, and runs this program against them:
adopt, plan, rotate with a kill -9 in the middle, roll back, replace a leaked key, evidence, record. It works in a directory of its own, uses
loopback alone, needs no account, ends by itself in 90 seconds and leaves nothing behind. Where moto_server is installed one of the keys lies
in its Secrets Manager.

Exit codes: 0 all happened as told and no rotation or rollback cost a request; others as in docs/exit-codes.md.`,
		Example: "  keywright demo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return fault.Wrap(fault.Unavailable, err, "show demo")
			}
			// The variables are for the test that searches everything that a demo writes for values.
			o := demo.Options{Out: c.out, Executable: program, Keep: os.Getenv("KEYWRIGHT_DEMO_KEEP")}
			if seed := os.Getenv("KEYWRIGHT_DEMO_SEED"); seed != "" {
				if o.Seed, err = strconv.ParseUint(seed, 10, 64); err != nil {
					return usageError{fault.New(fault.Invalid, "show demo: KEYWRIGHT_DEMO_SEED is no number")}
				}
			}
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.AddCommand(c.demoApplication())
	return cmd
}

// demoApplication is what the demo runs as its applications.
func (c *console) demoApplication() *cobra.Command {
	var a demo.Application
	cmd := &cobra.Command{
		Use: "app", Short: "an application of the demo", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.Run(cmd.Context(), c.in, c.out) },
	}
	f := cmd.Flags()
	f.StringVar(&a.URL, "url", "", "address of the API")
	f.StringVar(&a.File, "file", "", "env file with the key")
	f.StringVar(&a.Variable, "variable", "", "its variable")
	f.StringVar(&a.Secret, "secret", "", "secret with the key")
	f.StringVar(&a.Endpoint, "endpoint", "", "address of the Secrets Manager")
	f.IntVar(&a.Rate, "rate", 1, "requests per second")
	f.IntVar(&a.Workers, "workers", 1, "how many at once")
	return cmd
}
