package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/monitor"
)

func (c *console) statusCommand() *cobra.Command {
	var live, watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "how every key stands, and what wants a person", GroupID: "main", Args: cobra.NoArgs,
		Long: `Status says what wants a person first, then every key with its version, age, due date and places: how many are in sync, and how that
is known. It reads what was seen last; --live looks at every place and asks the provider. Exit code 8 when a person must act.`,
		Example: "  keywright status\n  keywright status --live\n  keywright status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			restore := hurry()
			defer restore()
			a, err := c.appOf(cmd.Context(), config.Options{SkipSamePlace: !live})
			if err != nil {
				return err
			}
			defer a.Close()
			if watch {
				restore()
				return c.watchStatus(cmd.Context(), a, live)
			}
			s, err := c.collect(cmd.Context(), a, live)
			if err != nil {
				return err
			}
			if c.json {
				err = c.printJSON(s)
			} else {
				err = c.showStatus(s)
			}
			if err == nil && len(s.Wants) > 0 {
				return silent(fault.Findings)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "look at every place and ask the provider")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every two seconds, until Ctrl-C")
	return cmd
}

// hurry puts off the first collection of garbage until the heap has 64 MiB, where it would run at 4, 8 and 16 first: each costs milliseconds,
// and a command that ends at once gives all memory back in any case. The function that it gives ends this; it may be called twice.
func hurry() (restore func()) {
	before := debug.SetGCPercent(1600) // of the 4 MiB with which Go begins
	return sync.OnceFunc(func() { debug.SetGCPercent(before) })
}

func (c *console) collect(ctx context.Context, a *app.App, live bool) (monitor.Status, error) {
	if !live {
		return a.Status(ctx, nil)
	}
	s, err := a.Status(ctx, func(p monitor.Progress) {
		if c.terminal() && !c.json {
			fmt.Fprintf(c.err, "\r\x1b[Klooking at places %d/%d", p.Done, p.Total)
		}
	})
	if c.terminal() && !c.json {
		fmt.Fprint(c.err, "\r\x1b[K")
	}
	return s, err
}

func (c *console) watchStatus(ctx context.Context, a *app.App, live bool) error {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		s, err := c.collect(ctx, a, live)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case c.json:
			err = c.printJSON(s)
		default:
			if c.terminal() {
				c.printf("\x1b[H\x1b[2J")
			}
			err = c.showStatus(s)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// showStatus prints s at once: written as it comes, a table costs a system call for each of its cells.
func (c *console) showStatus(s monitor.Status) error {
	var page bytes.Buffer
	if err := writeStatus(&page, s); err != nil {
		return err
	}
	_, err := c.out.Write(page.Bytes())
	return err
}

func writeStatus(out io.Writer, s monitor.Status) error {
	switch n := len(s.Wants); n {
	case 0:
		fmt.Fprintln(out, "nothing wants you")
	case 1:
		fmt.Fprintln(out, "1 thing wants you")
	default:
		fmt.Fprintf(out, "%d things want you\n", n)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, f := range s.Wants {
		fmt.Fprintf(w, "  ! %s\t%s\n", f.Key, audit.Clean(f.Text))
		if f.Hint != "" {
			fmt.Fprintf(w, "   \t  %s\n", audit.Clean(f.Hint))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(s.Keys) == 0 {
		fmt.Fprintln(out, "\nno key is configured; begin with: keywright init")
		return nil
	}
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tCLASS\tKEY NOW\tAGE\tDUE\tPLACES\tSPARES\tNOW\tLAST ROTATION")
	for _, k := range s.Keys {
		now, age, due := "-", "-", "-"
		if k.Fingerprint != "" {
			now = k.Fingerprint.Short()
			age = fmt.Sprintf("%d d", k.AgeDays)
		}
		if !k.Due.IsZero() {
			const day = 24 * time.Hour
			if over := s.At.Sub(k.Due); over > 0 {
				due = fmt.Sprintf("%d d over", over/day)
			} else {
				due = fmt.Sprintf("in %d d", -over/day)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", k.Name, k.Class, now, age, due, placesWords(k.Places), k.Spares, rotationWords(k, s.At), lastWords(k))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !s.Live {
		fmt.Fprintln(out, "\nas last seen; look now with: keywright status --live")
	}
	return nil
}

// placesWords says how many places are in sync, and how that is known where it is not by reading back.
func placesWords(p monitor.Places) string {
	text := fmt.Sprintf("%d/%d", p.InSync, p.Total)
	h := p.How
	for _, part := range []struct {
		n    int
		what string
	}{{h.ReadBack, "read back"}, {h.Label, "label"}, {h.Changed, "changed"}, {h.Signed, "signed"}, {h.Unverifiable, "unverifiable"}} {
		if part.n == 0 {
			continue
		}
		if part.n == p.Total {
			return text + " " + part.what
		}
		text += fmt.Sprintf(", %d %s", part.n, part.what)
	}
	return text
}

func rotationWords(k monitor.KeyStatus, now time.Time) string {
	r := k.Rotation
	if r == nil {
		return "-"
	}
	text := fmt.Sprintf("%s %s, %d/%d moved", r.Kind, r.Step, r.Moved, r.Total)
	if r.Status != "running" {
		text += ", " + string(r.Status)
	} else if r.Until.After(now) {
		text += ", until " + r.Until.Local().Format(time.TimeOnly)
	}
	return text
}

func lastWords(k monitor.KeyStatus) string {
	if k.LastRotation == nil {
		return "-"
	}
	return fmt.Sprintf("%s, %s", k.LastRotation.Status, k.LastRotation.Ended.Local().Format(time.DateOnly))
}
