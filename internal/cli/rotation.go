package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/api"
	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/report"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

func (c *console) rotationCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotation", Short: "list, show, follow and steer rotations", GroupID: "main", Args: cobra.NoArgs,
		Example: "  keywright rotation list\n  keywright rotation show prod-primary --evidence\n  keywright rotation approve r-2026-11-21-prod-primary",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&c.socket, "socket", "", "speak to the daemon at this socket instead of opening the store; for other users of the host")
	cmd.AddCommand(c.rotationList(), c.rotationShow(), c.rotationFollow(),
		c.rotationSignal("approve", "say yes to a plan of somebody else", rotation.SignalApprove),
		c.rotationSignal("pause", "stop before the next effect", rotation.SignalPause),
		c.rotationSignal("resume", "end a pause; what was given up is tried again", rotation.SignalResume),
		c.rotationSignal("cancel", "turn back: every touched place gets the old version back", rotation.SignalCancel),
		c.rotationSign(), c.rotationChecklist(), c.rotationLog())
	return cmd
}

// rows lists rotations from the store, or from the daemon.
func (c *console) rows(ctx context.Context, f store.RotationFilter) ([]rotation.Row, error) {
	if c.socket != "" {
		var in struct{ Rotations []rotation.Row }
		err := api.NewClient(c.socket).Get(ctx, fmt.Sprintf("/v1/rotations?active=%t", f.Active), &in)
		return slices.DeleteFunc(in.Rotations, func(r rotation.Row) bool { return f.Key != "" && r.Key != f.Key }), err
	}
	a, err := c.app(ctx)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	return a.Rotations(ctx, f)
}

// view reads one rotation from the store, or from the daemon.
func (c *console) view(ctx context.Context, args []string) (v app.View, err error) {
	if c.socket != "" {
		if len(args) == 0 {
			return v, usageError{fault.New(fault.Invalid, "show rotation: name one", fault.Hint("keywright rotation list --socket %s", c.socket))}
		}
		err = api.NewClient(c.socket).Get(ctx, "/v1/rotations/"+url.PathEscape(args[0]), &v)
		return v, err
	}
	err = c.withRotation(ctx, args, func(a *app.App, id string) error {
		v, err = a.Rotation(ctx, id)
		return err
	})
	return v, err
}

// say sends a signal through the store, or through the daemon.
func (c *console) say(ctx context.Context, args []string, s rotation.Signal, d rotation.SignalData) error {
	if c.socket != "" {
		v, err := c.view(ctx, args)
		if err != nil {
			return err
		}
		in := api.SignalRequest{Signal: s, Subject: d.Subject, Note: d.Note}
		if err := api.NewClient(c.socket).Post(ctx, "/v1/rotations/"+url.PathEscape(v.Row.ID)+"/signal", in, &struct{}{}); err != nil {
			return err
		}
		return c.signalled(v.Row.ID, s)
	}
	return c.withRotation(ctx, args, func(a *app.App, id string) error {
		if err := a.Signal(ctx, id, s, d); err != nil {
			return err
		}
		return c.signalled(id, s)
	})
}

// withRotation opens the app and finds a rotation by id or key; no argument means the only running one.
func (c *console) withRotation(ctx context.Context, args []string, use func(a *app.App, id string) error) error {
	a, err := c.app(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	id, err := a.FindRotation(ctx, name)
	if err != nil {
		return err
	}
	return use(a, id)
}

func (c *console) rotationList() *cobra.Command {
	var key string
	var active bool
	cmd := &cobra.Command{
		Use: "list", Short: "list rotations, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := c.rows(cmd.Context(), store.RotationFilter{Key: apikey.Name(key), Active: active})
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]any{"rotations": rows})
			}
			if len(rows) == 0 {
				c.printf("no rotation yet; begin with: keywright plan KEY\n")
				return nil
			}
			w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "ROTATION\tKIND\tSTATUS\tBEGUN\tNOTE")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.ID, r.Kind, r.Status, r.Created.Local().Format(time.DateTime), audit.Clean(r.Note))
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "only rotations of this key")
	cmd.Flags().BoolVar(&active, "active", false, "only rotations that have not ended")
	return cmd
}

func (c *console) rotationShow() *cobra.Command {
	var evidence bool
	cmd := &cobra.Command{
		Use: "show [ID|KEY]", Short: "show what a rotation did, does and waits for", Args: cobra.MaximumNArgs(1),
		Example: "  keywright rotation show prod-primary\n  keywright rotation show r-2026-11-21-prod-primary --evidence",
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := c.view(cmd.Context(), args)
			switch {
			case err != nil:
				return err
			case c.json:
				return c.printJSON(v)
			case evidence:
				return c.showEvidence(v)
			default:
				return c.showRotation(v)
			}
		},
	}
	cmd.Flags().BoolVar(&evidence, "evidence", false, "show each fact of the last evidence with its time and source")
	return cmd
}

func (c *console) showRotation(v app.View) error {
	r := v.Row
	c.printf("%s   %s · %s · %s by %s\n", r.ID, r.Kind, r.Status, r.Created.Local().Format(time.DateTime), audit.Clean(r.Plan.Actor))
	for _, role := range []rotation.Role{rotation.Old, rotation.New} {
		if version, ok := v.Versions[role]; ok && version.ID != "" {
			c.printf("  %-4s %s  %s  %s\n", role, version.Fingerprint(), version.ProviderID, version.State)
		}
	}
	c.printf("\n")
	for _, p := range v.Move.Steps {
		c.printf(" %s %s\n", c.mark(p.State), p.Step)
		for _, l := range p.Lines {
			c.printf("     %s %s  %s\n", l.At.Local().Format(time.TimeOnly), c.mark(l.State), lineText(v, l))
		}
	}
	note := r.Note
	if note == "" && !r.Status.Ended() {
		note = waits(v)
	}
	if note != "" {
		c.printf("\n%s\n", audit.Clean(note))
	}
	if r.Hint != "" {
		c.printf("next: %s\n", audit.Clean(r.Hint))
	}
	return nil
}

// waits names what a rotation has asked for and not been answered, longest first; empty when nothing takes long. The note of a rotation is written
// when it stands still, and it does not stand still while one of several places still answers.
func waits(v app.View) string {
	var open []rotation.Line
	for _, p := range v.Move.Steps {
		for _, l := range p.Lines {
			if l.State == "running" && v.At.Sub(l.At) >= unanswered {
				open = append(open, l)
			}
		}
	}
	slices.SortStableFunc(open, func(a, b rotation.Line) int { return a.At.Compare(b.At) })
	var names []string
	for _, l := range open {
		names = append(names, lineText(v, l)+" ("+short(v.At.Sub(l.At))+")")
	}
	if len(names) == 0 {
		return ""
	}
	return "no answer yet: " + strings.Join(names, ", ")
}

// unanswered is the time after which a call that has not ended is worth a word.
const unanswered = 10 * time.Second

// showEvidence prints the findings of the newest gathered facts.
func (c *console) showEvidence(v app.View) error {
	facts, ok := rotation.LastFacts(v.Journal)
	if !ok {
		c.printf("no evidence has been gathered yet; it follows the soak\n")
		return nil
	}
	ruling := rotation.Rule(facts)
	c.printf("retire %s: %s at %s\n", v.Versions[rotation.Old].Fingerprint(), ruling.Verdict, facts.At.Local().Format(time.DateTime))
	signs := map[rotation.Mark]string{rotation.For: c.mark("done"), rotation.Against: c.mark("failed"), rotation.Pending: c.mark("next"), rotation.Missing: c.mark("retry")}
	w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
	for _, f := range ruling.Findings {
		text := f.Text
		if f.Watch {
			text += " (the watch decides)"
		}
		fmt.Fprintf(w, "  %s %s\t%s\t%s\n", signs[f.Mark], audit.Clean(f.Source), f.At.Local().Format(time.DateTime), audit.Clean(text))
	}
	return w.Flush()
}

func (c *console) rotationFollow() *cobra.Command {
	return &cobra.Command{
		Use: "follow [ID|KEY]", Short: "follow a rotation live, and drive it if nobody else does", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withRotation(cmd.Context(), args, func(a *app.App, id string) error {
				if c.json {
					return c.await(cmd.Context(), a, id)
				}
				return c.follow(cmd.Context(), a, id)
			})
		},
	}
}

func (c *console) rotationSignal(name, what string, s rotation.Signal) *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use: name + " [ID|KEY]", Short: what, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.say(cmd.Context(), args, s, rotation.SignalData{Note: note})
		},
	}
	cmd.Flags().StringVar(&note, "note", "", "a word for the record")
	return cmd
}

// signalled says that a signal was written.
func (c *console) signalled(id string, s rotation.Signal) error {
	if c.json {
		return c.printJSON(map[string]string{"rotation": id, "signal": string(s)})
	}
	c.printf("%s: %s is written down\nfollow: keywright rotation follow %s\n", id, s, id)
	return nil
}

func (c *console) rotationSign() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use: "sign ID|KEY SUBJECT", Short: "vouch for what keywright cannot see", Args: cobra.ExactArgs(2),
		Long: `Sign writes down, with your name and the time, that you vouch for something: the name of a manual location (you put the
new value there), "evidence" (you looked where keywright cannot), "disabled" or "archived" (you did it in the Console).`,
		Example: "  keywright rotation sign prod-primary wiki --note 'changed in the vault'\n  keywright rotation sign prod-primary evidence",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.say(cmd.Context(), args[:1], rotation.SignalSign, rotation.SignalData{Subject: args[1], Note: note})
		},
	}
	cmd.Flags().StringVar(&note, "note", "", "a word for the record")
	return cmd
}

func (c *console) rotationChecklist() *cobra.Command {
	return &cobra.Command{
		Use: "checklist [ID|KEY]", Short: "show the runbook's checklists, each box with its evidence", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withRotation(cmd.Context(), args, func(a *app.App, id string) error {
				in, err := a.Record(cmd.Context(), id)
				if err != nil {
					return err
				}
				before, after := report.Preflight(in), report.Checklist(in)
				if c.json {
					return c.printJSON(map[string]any{"rotation": id, "before": before, "verification": after})
				}
				c.boxes("Before the rotation", before)
				c.printf("\n")
				c.boxes("Verification", after)
				return nil
			})
		},
	}
}

func (c *console) boxes(title string, boxes []report.Box) {
	c.printf("%s\n", title)
	for _, b := range boxes {
		tick := " "
		if b.Done {
			tick = "x"
		}
		c.printf("  [%s] %s\n      %s", tick, audit.Clean(b.Text), audit.Clean(b.Evidence))
		if b.Source != "" {
			c.printf("  (%s", b.Source)
			if !b.At.IsZero() {
				c.printf(", %s", b.At.Local().Format(time.DateTime))
			}
			c.printf(")")
		}
		c.printf("\n")
	}
}

func (c *console) rotationLog() *cobra.Command {
	return &cobra.Command{
		Use: "log", Short: "print the rotation log (Markdown), newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			text, err := os.ReadFile(a.LogPath())
			if errors.Is(err, os.ErrNotExist) {
				c.printf("no rotation has been recorded yet\n")
				return nil
			}
			if err != nil {
				return fault.Wrap(fault.Forbidden, err, "read rotation log")
			}
			if c.json {
				return c.printJSON(map[string]string{"path": a.LogPath(), "markdown": string(text)})
			}
			c.printf("%s", text)
			return nil
		},
	}
}
