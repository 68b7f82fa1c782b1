package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/gateway/queue"
)

// gatewayClient asks the gateway that runs in a state directory.
func (c *console) gatewayClient(ctx context.Context, state string) (*gateway.Client, error) {
	dir, err := c.gatewayDir(ctx, state)
	if err != nil {
		return nil, err
	}
	return gateway.NewClient(dir), nil
}

func (c *console) gatewayDegrade() *cobra.Command {
	var state, reason, until string
	cmd := &cobra.Command{
		Use: "degrade", Short: "keep all requests from the provider, and say why", Args: cobra.NoArgs,
		Long: `Degrade makes the running gateway keep every request to itself: those that were answered a moment ago are answered from the cache where the
application has opted in, those that prefer not to wait go into the queue, and all others get 503 with the reason and a time to wait. The
reason stands on the status page, which everybody who can reach the gateway can read.

It holds until gateway restore, or until the time that --until gives, also over a restart. A second degrade replaces reason and time.`,
		Example: `  keywright gateway degrade --reason "the provider asks to stop sending"
  keywright gateway degrade --reason "maintenance" --until 30m
  keywright gateway degrade --reason "maintenance" --until 2026-11-22T18:00:00Z`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return usageError{fault.New(fault.Invalid, "gateway degrade: no reason given", fault.Hint(`--reason "TEXT", which callers see`))}
			}
			end, err := endOf(until, time.Now())
			if err != nil {
				return err
			}
			client, err := c.gatewayClient(cmd.Context(), state)
			if err != nil {
				return err
			}
			s, err := client.Degrade(cmd.Context(), reason, end)
			if err != nil {
				return err
			}
			return c.showPublic(s)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; callers see it")
	cmd.Flags().StringVar(&until, "until", "", "when it ends by itself: a length of time such as 30m, or a time such as 2026-11-22T18:00:00Z")
	stateFlag(cmd, &state)
	return cmd
}

// endOf reads a length of time, or a time. The empty text is no end.
func endOf(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	end, err := time.Parse(time.RFC3339, text)
	if d, notLength := time.ParseDuration(text); notLength == nil {
		end, err = now.Add(d), nil
	}
	if err != nil || !end.After(now) {
		return end, usageError{fault.New(fault.Invalid, "gateway degrade: --until is no time in the future", fault.Hint("write 30m, or 2026-11-22T18:00:00Z"))}
	}
	return end, nil
}

func (c *console) gatewayRestore() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "restore", Short: "end a declared degradation", Args: cobra.NoArgs,
		Long: `Restore begins the way back from gateway degrade: first 10 callers of a hundred are let through to the provider, then 50, then all. Each step
lasts a tenth of the time that it was degraded, between one second and 30.`,
		Example: "  keywright gateway restore",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.gatewayClient(cmd.Context(), state)
			if err != nil {
				return err
			}
			s, err := client.Restore(cmd.Context())
			if err != nil {
				return err
			}
			return c.showPublic(s)
		},
	}
	stateFlag(cmd, &state)
	return cmd
}

func (c *console) showPublic(s gateway.PublicStatus) error {
	if c.json {
		return c.printJSON(s)
	}
	c.printf("%s\n", s.Status)
	c.showDegraded(s.Degraded)
	return nil
}

// showDegraded prints a line for each cause.
func (c *console) showDegraded(list []gateway.DegradedStatus) {
	for _, d := range list {
		what := string(d.Cause)
		if d.Model != "" {
			what += " (" + audit.Clean(d.Model) + ")"
		}
		c.printf("degraded: %s, since %s", what, clock(d.Since))
		if d.Share > 0 {
			c.printf(", %d of 100 callers are let through, more at %s", d.Share, clock(d.Until))
		} else if !d.Until.IsZero() {
			c.printf(", until %s", clock(d.Until))
		}
		if d.Reason != "" {
			c.printf(": %s", audit.Clean(d.Reason))
		}
		c.printf("\n")
	}
}

func clock(t time.Time) string { return t.UTC().Format(time.DateTime) + "Z" }

func (c *console) gatewayQueue() *cobra.Command {
	cmd := &cobra.Command{
		Use: "queue", Short: "see and drop the requests that wait for the provider, and look after their master",
		Long: `Queue shows what callers have left with the gateway ("Prefer: respond-async"): ids, applications, states and times. Contents are encrypted, and
no command shows them.`,
		Example: "  keywright gateway queue list\n  keywright gateway queue show 5bqm2kzq6v4tn3a7h2xw4y6mce",
	}
	cmd.AddCommand(c.queueList(), c.queueShow(), c.queueDrop(), c.queueRewrap(), c.queueErase())
	return cmd
}

func (c *console) queueList() *cobra.Command {
	var state, appName string
	var states []string
	cmd := &cobra.Command{
		Use: "list", Short: "show what is in the queue, in the order of its coming", Args: cobra.NoArgs,
		Example: "  keywright gateway queue list\n  keywright gateway queue list --app billing --only waiting\n  keywright gateway queue list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range states {
				if !slices.Contains([]queue.State{queue.Waiting, queue.Running, queue.Done}, queue.State(s)) {
					return usageError{fault.New(fault.Invalid, "gateway queue list: no such state", fault.Hint("--only takes waiting, running or done"))}
				}
			}
			client, err := c.gatewayClient(cmd.Context(), state)
			if err != nil {
				return err
			}
			list, err := client.Queue(cmd.Context())
			if err != nil {
				return err
			}
			list = slices.DeleteFunc(list, func(t queue.Ticket) bool {
				return appName != "" && t.App != appName || len(states) > 0 && !slices.Contains(states, string(t.State))
			})
			if c.json {
				if list == nil {
					list = []queue.Ticket{}
				}
				return c.printJSON(list)
			}
			if len(list) == 0 {
				c.printf("nothing is in the queue\n")
				return nil
			}
			now := time.Now()
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tAPP\tSTATE\tCAME\tATTEMPTS\tBYTES")
			for _, t := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\n", audit.Clean(t.ID), audit.Clean(t.App), stateOf(t), relative(t.Created, now), t.Attempts, t.Bytes)
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVar(&appName, "app", "", "only those of this application")
	cmd.Flags().StringArrayVar(&states, "only", nil, "only those in this state: waiting, running or done; may be given several times")
	stateFlag(cmd, &state)
	return cmd
}

func stateOf(t queue.Ticket) string {
	if t.State == queue.Done {
		return fmt.Sprintf("done (%d)", t.Status)
	}
	return string(t.State)
}

func (c *console) queueShow() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "show ID", Short: "show one request of the queue, without its content", Args: cobra.ExactArgs(1),
		Example: "  keywright gateway queue show 5bqm2kzq6v4tn3a7h2xw4y6mce",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.gatewayClient(cmd.Context(), state)
			if err != nil {
				return err
			}
			t, err := client.Ticket(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(t)
			}
			now := time.Now()
			c.printf("%s  %s  %s\n", audit.Clean(t.ID), audit.Clean(t.App), stateOf(t))
			line := func(name string, at time.Time) {
				if !at.IsZero() {
					c.printf("  %-10s %s (%s)\n", name, clock(at), relative(at, now))
				}
			}
			line("came", t.Created)
			line("ended", t.Ended)
			line("next try", t.Next)
			line("expires", t.Expires)
			c.printf("  %-10s %d\n  %-10s %d\n", "attempts", t.Attempts, "bytes", t.Bytes)
			return nil
		},
	}
	stateFlag(cmd, &state)
	return cmd
}

func (c *console) queueDrop() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "drop ID", Short: "erase a request and its answer from the queue", Args: cobra.ExactArgs(1),
		Long: `Drop erases an entry in whatever state, from the disk too. A request that is under way is not stopped: the provider may answer it, and the
answer is not kept.`,
		Example: "  keywright gateway queue drop 5bqm2kzq6v4tn3a7h2xw4y6mce",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.gatewayClient(cmd.Context(), state)
			if err != nil {
				return err
			}
			if err := client.Drop(cmd.Context(), args[0]); err != nil {
				return err
			}
			c.printf("dropped %s\n", audit.Clean(args[0]))
			return nil
		},
	}
	stateFlag(cmd, &state)
	return cmd
}
