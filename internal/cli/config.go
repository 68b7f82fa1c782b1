package cli

import (
	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/config"
)

func (c *console) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "check and show the configuration", GroupID: "setup", Args: cobra.NoArgs,
		Example: "  keywright config check\n  keywright config show\n  keywright config schema > keywright.schema.json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "check", Short: "check keywright.yaml, with line, column and what is allowed", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := c.config(cmd.Context())
				if err != nil {
					return err
				}
				if c.json {
					return c.printJSON(map[string]any{"ok": true, "files": cfg.Source})
				}
				c.printf("%d keys and %d locations in %d file(s): fine\n", len(cfg.Keys), len(cfg.Locations), len(cfg.Source))
				return nil
			},
		},
		&cobra.Command{
			Use: "show", Short: "show the configuration with every default filled in; references, never values", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := c.config(cmd.Context())
				if err != nil {
					return err
				}
				text, err := config.Show(cfg)
				if err != nil {
					return err
				}
				c.printf("%s", text)
				return nil
			},
		},
		&cobra.Command{
			Use: "schema", Short: "print the JSON schema of keywright.yaml, for editors", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				text, err := config.Schema()
				if err != nil {
					return err
				}
				c.printf("%s", text)
				return nil
			},
		},
	)
	return cmd
}
