package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/identity"
)

func (c *console) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "issue and revoke the tokens that a gateway accepts in place of a key", GroupID: "setup", Args: cobra.NoArgs,
		Example: "  keywright token issue --app billing --ttl 1h\n  keywright token list\n  keywright token revoke ID",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.tokenIssue(), c.tokenList(), c.tokenRevoke())
	return cmd
}

func (c *console) tokenIssue() *cobra.Command {
	var state, name string
	var life time.Duration
	var routes, models []string
	cmd := &cobra.Command{
		Use: "issue", Short: "print a new token", Args: cobra.NoArgs,
		Long: `Issue prints a token and nothing else, so that it can stand wherever a program asks another one for its key, such as apiKeyHelper of Claude
Code. It is signed with the key in the gateway's directory; only the gateway's own user can issue, and each is recorded (token list).`,
		Example: `  keywright token issue --app billing --ttl 1h
  keywright token issue --app search --ttl 8h --model 'claude-haiku-*' --route messages`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.signer(cmd.Context(), state)
			if err != nil {
				return err
			}
			token, claims, err := s.Issue(name, life, routes, models)
			if err != nil {
				return err
			}
			defer token.Destroy()
			if c.json {
				return c.printJSON(issued{token.RevealString(), claims.ID, claims.App, time.Unix(claims.Expires, 0).UTC()})
			}
			c.printf("%s\n", token.RevealString())
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "app", "", "the application that will use it: letters, digits, - and _")
	f.DurationVar(&life, "ttl", time.Hour, "how long it is valid, at most 24h")
	f.StringArrayVar(&routes, "route", nil, "what it may call of what its application may: messages, count_tokens, models, batches, files, skills; may be given several times (default all)")
	f.StringArrayVar(&models, "model", nil, "a model that it may name, also with * at the end; may be given several times (default all)")
	stateFlag(cmd, &state)
	return cmd
}

// issued is what --json shows of a new token.
type issued struct {
	Token   string    `json:"token"`
	ID      string    `json:"id"`
	App     string    `json:"app"`
	Expires time.Time `json:"expires"`
}

func (c *console) tokenList() *cobra.Command {
	var state string
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "show the tokens that were issued and are accepted", Args: cobra.NoArgs,
		Example: "  keywright token list\n  keywright token list --all --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.signer(cmd.Context(), state)
			if err != nil {
				return err
			}
			list, damaged, err := s.Issued()
			if err != nil {
				return err
			}
			if damaged > 0 {
				fmt.Fprintf(c.err, "keywright: warning: %d lines of the record of tokens cannot be read\n", damaged)
			}
			if now := time.Now(); !all {
				list = slices.DeleteFunc(list, func(i identity.Issuance) bool { return !i.Live(now) })
			}
			if c.json {
				if list == nil {
					list = []identity.Issuance{}
				}
				return c.printJSON(list)
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tAPP\tISSUED\tEXPIRES\tMAY")
			for _, i := range list {
				expires := i.Expires.UTC().Format(time.DateTime) + "Z"
				if i.Revoked {
					expires = "revoked"
				}
				may := strings.Join(append(slices.Clone(i.Routes), i.Models...), " ")
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", audit.Clean(i.ID), audit.Clean(i.App), i.Issued.UTC().Format(time.DateTime)+"Z", expires, audit.Clean(cmp.Or(may, "all")))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also those that expired or were revoked")
	stateFlag(cmd, &state)
	return cmd
}

func (c *console) tokenRevoke() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "end a token before its time", Args: cobra.ExactArgs(1),
		Long:    "Revoke takes the id that token list shows. A running gateway refuses the token within a second.",
		Example: "  keywright token revoke QZ2NC5BK6JLMCJ3Q5R4TD7YXWA",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.signer(cmd.Context(), state)
			if err != nil {
				return err
			}
			if err := s.Revoke(args[0]); err != nil {
				return err
			}
			c.printf("revoked %s\n", args[0])
			return nil
		},
	}
	stateFlag(cmd, &state)
	return cmd
}

func (c *console) signer(ctx context.Context, state string) (*identity.Signer, error) {
	dir, err := c.gatewayDir(ctx, state)
	if err != nil {
		return nil, err
	}
	s, err := identity.OpenSigner(dir)
	return s, fault.In(err, "open gateway directory")
}
