package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
)

func (c *console) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "verify, read and export the chained record of every act", GroupID: "keys", Args: cobra.NoArgs,
		Example: "  keywright audit verify\n  keywright audit tail -n 50\n  keywright audit export > audit.jsonl",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.auditVerify(), c.auditTail(), c.auditExport(), c.auditKey())
	return cmd
}

func (c *console) auditVerify() *cobra.Command {
	var against, export, key string
	cmd := &cobra.Command{
		Use: "verify", Short: "check the chain, and say up to where it can be vouched for", Args: cobra.NoArgs,
		Long: `Verify reads the whole record and finds any edit, gap or reordering. --against compares with checkpoints that were kept elsewhere (a
copy of the witness file), which also finds what the owner of this host could hide. Exit code 1 when something is wrong.

--export checks a file of audit export instead, and needs neither a configuration nor a store, so that an auditor can do it elsewhere. Give the
public key that you were handed by another way (audit key) with --key: the one inside the file proves only that the file is whole.`,
		Example: `  keywright audit verify
  keywright audit verify --against /mnt/elsewhere/keywright.witness
  keywright audit verify --export audit-2026-q4.jsonl --key keywright.pem`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if key != "" && export == "" {
				return usageError{fault.New(fault.Invalid, "audit verify: --key is for --export", fault.Hint("the store's own record is checked with the store's own key"))}
			}
			report, err := c.verifyAudit(cmd.Context(), against, export, key)
			if err != nil {
				return err
			}
			if c.json {
				if err := c.printJSON(report); err != nil {
					return err
				}
				return report.Err()
			}
			for _, line := range report.Statement() {
				c.printf("%s\n", line)
			}
			return report.Err()
		},
	}
	f := cmd.Flags()
	f.StringVar(&against, "against", "", "a file of checkpoints that was kept elsewhere")
	f.StringVar(&export, "export", "", "check this file of audit export instead of the store")
	f.StringVar(&key, "key", "", "the public key to trust, PEM; for --export")
	return cmd
}

func (c *console) verifyAudit(ctx context.Context, against, export, key string) (audit.Report, error) {
	if export != "" {
		return app.VerifyExport(export, key, against)
	}
	a, err := c.app(ctx)
	if err != nil {
		return audit.Report{}, err
	}
	defer a.Close()
	return a.VerifyAudit(ctx, against)
}

func (c *console) auditKey() *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "print the public key that the record is signed with", Args: cobra.NoArgs,
		Long:    "Key prints PEM. Hand it to the auditor by another way than the exports, for audit verify --export FILE --key FILE.",
		Example: "  keywright audit key > keywright.pem",
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			text, err := a.AuditKey()
			if err == nil {
				c.printf("%s", text)
			}
			return err
		},
	}
}

func (c *console) auditTail() *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use: "tail", Short: "show the last entries", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			entries, err := a.AuditTail(cmd.Context(), n)
			if err != nil {
				return err
			}
			for _, e := range entries {
				if c.json {
					c.printf("%s\n", strings.TrimSpace(string(e.Line())))
					continue
				}
				what := []string{}
				for _, s := range []string{string(e.Event.Key), e.Event.Location, e.Event.Effect, e.Event.Text} {
					if s != "" {
						what = append(what, s)
					}
				}
				c.printf("%6d  %s  %-20s  %s  %s\n", e.Seq, e.Event.At.Local().Format(time.DateTime), e.Event.Type, audit.Clean(e.Event.Actor), audit.Clean(strings.Join(what, " · ")))
			}
			return nil
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", 20, "how many entries")
	return cmd
}

func (c *console) auditExport() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "export", Short: "write the record so that anybody can check it without keywright", Args: cobra.NoArgs,
		Long:    "Export writes JSON Lines with checkpoints and the public key; docs/audit-format.md says how to check it with common tools.",
		Example: "  keywright audit export --output audit-2026-q4.jsonl",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			w := c.out
			if out != "" {
				f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return fault.Wrap(fault.Conflict, err, "write export", fault.Hint("choose a file that does not exist"))
				}
				defer func() {
					if closeErr := f.Close(); err == nil && closeErr != nil {
						err = fault.Wrap(fault.Unavailable, closeErr, "write export")
					}
				}()
				w = f
			}
			report, err := a.ExportAudit(cmd.Context(), w)
			if err == nil {
				fmt.Fprintf(c.err, "keywright: %d entries exported\n", report.Entries)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "the file to write; it must not exist (default stdout)")
	return cmd
}
