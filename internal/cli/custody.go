package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (c *console) custodyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "custody", Short: "look after the master key that seals the values", GroupID: "keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var yes bool
	rewrap := &cobra.Command{
		Use: "rewrap NEW-MASTER", Short: "seal every value under another master key", Args: cobra.ExactArgs(1),
		Long: `Rewrap seals every value under a new master: file:PATH (made if it is missing), systemd:NAME, passphrase:REFERENCE, age:PATH or
aws-kms:KEY?region=REGION. It may be repeated after a crash. Afterwards set state.master_key in keywright.yaml to the new master, and only
then remove the old one.`,
		Example: "  keywright custody rewrap age:/etc/keywright/identity.age\n  keywright custody rewrap 'aws-kms:alias/keywright?region=eu-central-1'",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			if err := c.confirm(yes, "Seal every value under another master key.", "rewrap"); err != nil {
				return err
			}
			n, err := a.Rewrap(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]int{"values": n})
			}
			fmt.Fprintf(c.out, "%d values are sealed under the new master\nnext: set state.master_key to %q in keywright.yaml\n", n, args[0])
			return nil
		},
	}
	rewrap.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.AddCommand(rewrap)
	return cmd
}
