package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/location/all"
)

func (c *console) locationsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "locations", Short: "list the kinds of places that keywright can change", GroupID: "keys", Args: cobra.NoArgs,
		Long:    "Locations lists every kind with what it can do, read from its code. docs/locations has a page for each.",
		Example: "  keywright locations\n  keywright locations --json",
		RunE: func(*cobra.Command, []string) error {
			type row struct {
				Kind    string      `json:"kind"`
				Summary string      `json:"summary"`
				Can     all.Support `json:"can"`
			}
			var rows []row
			for _, k := range all.All() {
				meta, err := location.ParseMeta(k.Meta)
				if err != nil {
					return err
				}
				rows = append(rows, row{Kind: k.Name, Summary: meta.Summary, Can: all.SupportOf(k.Name)})
			}
			if c.json {
				return c.printJSON(map[string]any{"kinds": rows})
			}
			w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "KIND\tREADS BACK\tSTAGES\tRELOADS\tCONFIRMS\tUNDOES\tWHAT IT IS")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Kind, r.Can.Reads, r.Can.Stages, r.Can.Reloads, r.Can.Confirms, r.Can.Restores, r.Summary)
			}
			return w.Flush()
		},
	}
}
