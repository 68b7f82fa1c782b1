package cli

import (
	"cmp"
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/app"
)

// queueHome gives the directory of a gateway, the master that its configuration names, and where a relative path of that starts.
func (c *console) queueHome(ctx context.Context, state string) (dir, master, base string, err error) {
	if dir, err = c.gatewayDir(ctx, state); err != nil || len(c.configs) == 0 {
		return dir, "", "", err
	}
	cfg, err := c.config(ctx)
	if err != nil {
		return dir, "", "", err
	}
	if cfg.Gateway != nil && cfg.Gateway.Queue != nil {
		master = cfg.Gateway.Queue.MasterKey
	}
	return dir, master, cfg.Dir, nil
}

func (c *console) queueRewrap() *cobra.Command {
	var state, from string
	var yes bool
	cmd := &cobra.Command{
		Use: "rewrap NEW-MASTER", Short: "put the queue of a stopped gateway under another master", Args: cobra.ExactArgs(1),
		Long: `Rewrap puts the key of the queue under another master: file:PATH (made if it is missing), systemd:NAME, passphrase:REFERENCE, age:PATH or
aws-kms:KEY?region=REGION. What waits stays. The gateway must not run. It may be repeated after a crash. Afterwards set queue.master_key
or --queue-master to the new master, and only then remove the old one. An older copy of the state directory still opens with the old one.`,
		Example: "  keywright gateway queue rewrap file:gateway-queue-2.key\n  keywright -c keywright.yaml gateway queue rewrap 'aws-kms:alias/keywright-queue?region=eu-central-1'",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, configured, base, err := c.queueHome(cmd.Context(), state)
			if err != nil {
				return err
			}
			next := args[0]
			// A relative path starts where it does in keywright.yaml, since that is where the name goes next.
			if scheme, path, ok := strings.Cut(next, ":"); ok && base != "" && (scheme == "file" || scheme == "age") && !filepath.IsAbs(path) {
				next = scheme + ":" + filepath.Join(base, path)
			}
			if err := c.confirm(yes, "Put the queue under another master.", "rewrap"); err != nil {
				return err
			}
			if err := app.RewrapQueue(cmd.Context(), dir, cmp.Or(from, configured), next); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]string{"master": next})
			}
			c.printf("the queue is under the new master\nnext: set queue.master_key or --queue-master to %q\n", next)
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "queue-master", "", "the master that it is under now (default that of the configuration that -c names, else "+app.DefaultQueueMaster+")")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	stateFlag(cmd, &state)
	return cmd
}

func (c *console) queueErase() *cobra.Command {
	var state string
	var yes bool
	cmd := &cobra.Command{
		Use: "erase", Short: "give up the queue of a stopped gateway whose master is lost", Args: cobra.NoArgs,
		Long: `Erase removes every request and answer of the queue, and its key. The gateway must not run. It needs no master: when that is lost, nothing in the queue
can be read any more, and the gateway starts with --queue again only after this. Whose files, batches and skills are is not touched.`,
		Example: "  keywright gateway queue erase",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := c.gatewayDir(cmd.Context(), state)
			if err != nil {
				return err
			}
			if err := c.confirm(yes, "Erase every request and answer of the queue.", "erase"); err != nil {
				return err
			}
			n, err := app.EraseQueue(cmd.Context(), dir)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]int64{"erased": n})
			}
			c.printf("erased %d requests and answers\n", n)
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	stateFlag(cmd, &state)
	return cmd
}
