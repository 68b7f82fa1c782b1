package cli

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/audit"
)

func (c *console) incidentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "incident", Short: "list, show and close incidents", GroupID: "main", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var all bool
	list := &cobra.Command{
		Use: "list", Short: "list open incidents", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			incidents, err := a.Incidents(cmd.Context(), all)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]any{"incidents": incidents})
			}
			if len(incidents) == 0 {
				c.printf("no open incident\n")
				return nil
			}
			w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "INCIDENT\tKEY\tOPENED\tSTATUS\tTITLE")
			for _, i := range incidents {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.ID, i.Key, i.Opened.Local().Format(time.DateTime), audit.Clean(i.Status), audit.Clean(i.Title))
			}
			return w.Flush()
		},
	}
	list.Flags().BoolVar(&all, "all", false, "closed ones too")
	show := &cobra.Command{
		Use: "show ID|KEY", Short: "show an incident with its timeline", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			i, timeline, err := a.Incident(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]any{"incident": i, "timeline": timeline})
			}
			c.printf("%s  %s  %s\n%s\n\n", i.ID, i.Key, i.Status, audit.Clean(i.Title))
			for _, e := range timeline {
				c.printf("%s  %-20s %s %s\n", e.At.Local().Format(time.TimeOnly), e.Type, e.Effect, audit.Clean(e.Text))
			}
			c.printf("\nnext: find where it leaked, then: keywright incident close %s --note '…'\n", i.ID)
			return nil
		},
	}
	var note string
	closing := &cobra.Command{
		Use: "close ID|KEY", Short: "close an incident with a word on how it ended", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			id, err := a.CloseIncident(cmd.Context(), args[0], note)
			if err != nil {
				return err
			}
			c.printf("%s is closed\n", id)
			return nil
		},
	}
	closing.Flags().StringVar(&note, "note", "closed", "how it ended")
	cmd.AddCommand(list, show, closing)
	return cmd
}
