package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/intake"
	"github.com/keywright/keywright/internal/rotation"
)

// start holds the flags that every command which begins a rotation has.
type start struct {
	reason string
	note   string
	yes    bool
	detach bool
}

func (s *start) flags(cmd *cobra.Command, reason rotation.Reason) {
	var names []string
	for _, r := range rotation.Reasons() {
		names = append(names, fmt.Sprintf("%q", r))
	}
	f := cmd.Flags()
	f.StringVar(&s.reason, "reason", string(reason), "why: "+strings.Join(names, ", ")+", or free text")
	f.StringVar(&s.note, "note", "", "free text for the record")
	f.BoolVarP(&s.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&s.detach, "detach", false, "begin, and leave the work to keywright serve or keywright resume")
}

// wish turns the flags into what is planned. A reason that is not on the list is free text.
func (s *start) wish(key string, kind rotation.Kind, fallback rotation.Reason) app.Wish {
	w := app.Wish{Key: apikey.Name(key), Kind: kind, Reason: rotation.Reason(s.reason), Note: s.note}
	if !slices.Contains(rotation.Reasons(), w.Reason) && w.Reason != rotation.ReasonUndo {
		w.Note = strings.TrimSpace(s.reason + " " + s.note)
		w.Reason = fallback
	}
	return w
}

func (c *console) rotateCommand() *cobra.Command {
	var s start
	cmd := &cobra.Command{
		Use: "rotate KEY", Short: "put a new version of a key everywhere and retire the old one", GroupID: "main", Args: cobra.ExactArgs(1),
		Long: `Rotate prints the plan, asks, and follows it live: staging first, then production wave by wave, soak, evidence, and the
reversible retirement of the old version. Ctrl-C leaves it at any moment with nothing half done.

Exit codes: 0 done; 8 a person is wanted, or it was turned back; others as in docs/exit-codes.md.`,
		Example: "  keywright rotate prod-primary --reason scheduled\n  keywright rotate prod-primary --yes --detach --note 'ticket 4711'",
		RunE: func(cmd *cobra.Command, args []string) error {
			wish := s.wish(args[0], rotation.Manual, rotation.ReasonScheduled)
			if wish.Reason == rotation.ReasonScheduled && wish.Note == "" {
				wish.Kind = rotation.Scheduled
			}
			return c.begin(cmd.Context(), s, wish, func(p rotation.Plan, look app.Look) string {
				return fmt.Sprintf("Rotate %s in %d places now.", p.Key, len(p.Places))
			})
		},
	}
	s.flags(cmd, rotation.ReasonScheduled)
	return cmd
}

func (c *console) rollbackCommand() *cobra.Command {
	var s start
	cmd := &cobra.Command{
		Use: "rollback KEY", Short: "put the previous version of a key back everywhere", GroupID: "main", Args: cobra.ExactArgs(1),
		Long: `Rollback brings the version that was replaced last back into every place, newest wave first, after it was set active again and
the provider accepted it. A running rotation of the key is overtaken. It is refused once the version is archived, expired or compromised.`,
		Example: "  keywright rollback prod-primary --note 'error rate up'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.begin(cmd.Context(), s, s.wish(args[0], rotation.Rollback, rotation.ReasonUndo), func(p rotation.Plan, look app.Look) string {
				return fmt.Sprintf("Put %s back in place of %s in %d places now.", look.New.Fingerprint(), look.Old.Fingerprint(), len(p.Places))
			})
		},
	}
	s.flags(cmd, rotation.ReasonUndo)
	return cmd
}

func (c *console) emergencyCommand() *cobra.Command {
	var s start
	var cut bool
	cmd := &cobra.Command{
		Use: "emergency KEY", Short: "replace a leaked key everywhere at once and set it inactive", GroupID: "main", Args: cobra.ExactArgs(1),
		Long: `Emergency writes the healthiest other version (a spare, the previous one, or the backup key's) to all places at once, sets the
compromised version inactive at the provider at the same time, reads every place again, tells people and opens an incident. It overtakes
a running rotation and waits for no window, approval or soak. It never archives, and never puts the compromised value back.`,
		Example: "  keywright emergency prod-primary --reason 'key in public repository'",
		RunE: func(cmd *cobra.Command, args []string) error {
			wish := s.wish(args[0], rotation.Emergency, rotation.ReasonCompromise)
			wish.Cut = cut
			return c.begin(cmd.Context(), s, wish, func(p rotation.Plan, look app.Look) string {
				old := "the current version"
				if look.Old != nil {
					old = string(look.Old.Fingerprint())
				}
				return fmt.Sprintf("Replace %s (%s) NOW in %d places, with %s, and set it inactive.", old, p.Key, len(p.Places), look.Candidates())
			})
		},
	}
	s.flags(cmd, rotation.ReasonCompromise)
	cmd.Flags().BoolVar(&cut, "cut", false, "set the compromised version inactive even if no other version is alive: requests will fail")
	return cmd
}

// begin plans, shows, asks, stores the rotation and follows it.
func (c *console) begin(ctx context.Context, s start, w app.Wish, question func(rotation.Plan, app.Look) string) error {
	a, err := c.app(ctx)
	if err != nil && w.Kind == rotation.Emergency {
		return c.byHand(ctx, w.Key, err)
	}
	if err != nil {
		return err
	}
	defer a.Close()
	if w.Kind != rotation.Emergency { // nothing may hold an emergency up
		if err := c.recover(ctx, a); err != nil {
			return err
		}
	}
	ordinary := w.Kind == rotation.Scheduled || w.Kind == rotation.Manual
	if ordinary {
		if err := a.Idle(ctx, w.Key); err != nil {
			return err
		}
		if err := c.adoptFirst(ctx, a, w.Key, s.yes); err != nil {
			return err
		}
	}
	plan, err := a.Plan(ctx, w)
	if err != nil {
		return err
	}
	look, err := a.Look(ctx, plan)
	if err != nil {
		return err
	}
	if !c.json {
		c.showPlan(a, plan, look)
		if plan.Kind == rotation.Emergency {
			c.contacts(c.out, a.Config)
		}
		c.printf("\n")
	}
	if err := c.confirm(s.yes, question(plan, look), string(plan.Key)); err != nil {
		return err
	}
	if ordinary && look.New == nil && c.onTerminal() {
		if err := c.handIn(ctx, a, w.Key); err != nil {
			return err
		}
	}
	row, err := a.Begin(ctx, plan)
	if err != nil {
		return err
	}
	if c.json {
		if err := c.printJSON(map[string]string{"rotation": row.ID, "plan": plan.Hash()}); err != nil || s.detach {
			return err
		}
		return c.await(ctx, a, row.ID)
	}
	if s.detach {
		c.printf("rotation %s begun; it goes on in: keywright serve, or: keywright resume\n", row.ID)
		return nil
	}
	return c.follow(ctx, a, row.ID)
}

// byHand says what is left to people when an emergency cannot begin, since the database, the master key or the configuration cannot be used: the
// values are nowhere else, and neither are the ids by which the provider knows them.
func (c *console) byHand(ctx context.Context, key apikey.Name, why error) error {
	cfg, _, err := config.Load(ctx, c.configs, config.Options{SkipSamePlace: true})
	if err == nil {
		if k, ok := cfg.Keys[key]; ok {
			fmt.Fprintf(c.err, "  owner      %s\n", audit.Clean(k.Owner))
			for _, w := range k.Waves {
				fmt.Fprintf(c.err, "  places     %s\n", strings.Join(w.Locations, ", "))
			}
		}
		c.contacts(c.err, cfg)
	}
	return fault.In(why, "begin emergency", fault.Hint("by hand, now: disable the key in the Console (do not delete it) and write another value to its places; then: %s",
		cmp.Or(fault.HintOf(why), "keywright emergency "+string(key)+" again")))
}

// recover puts right what an interrupted intake left at the provider.
func (c *console) recover(ctx context.Context, a *app.App) error {
	done, err := a.Intake.Recover(ctx)
	for _, r := range done {
		fmt.Fprintf(c.err, "keywright: %s\n", audit.Clean(r.Text))
	}
	return err
}

// adoptFirst takes over what is deployed when the key has no current version: without it nothing can be rolled back.
func (c *console) adoptFirst(ctx context.Context, a *app.App, key apikey.Name, yes bool) error {
	filled, err := a.Filled(ctx, key)
	if err != nil || filled {
		return err
	}
	slot, err := a.Slot(key)
	if err != nil {
		return err
	}
	if len(app.Readable(slot)) == 0 {
		fmt.Fprintf(c.err, "keywright: %s has no current version, and none of its places can be read: what it replaces cannot be put back\n", key)
		return c.confirm(yes, "Go on without a way back.", string(key))
	}
	fmt.Fprintf(c.err, "%s has no current version: taking over what its places hold\n", key)
	var o intake.Options
	c.intakeOptions(a, &o)
	_, err = a.Intake.Adopt(ctx, intake.Source{}, slot, o)
	if fault.Is(err, fault.NotFound) {
		return nil // the places hold nothing yet: this is the first deployment
	}
	return err
}

// handIn asks the person at the terminal for a new value, when there is no spare.
func (c *console) handIn(ctx context.Context, a *app.App, key apikey.Name) error {
	slot, err := a.Slot(key)
	if err != nil {
		return err
	}
	c.consoleSteps(apikey.ConsoleName(slot.House, key, a.Now()))
	r, err := c.valueReader("Value of the new key (hidden): ")
	if err != nil {
		return err
	}
	o := intake.Options{Spare: true}
	c.intakeOptions(a, &o)
	_, err = a.Intake.Add(ctx, r, slot, o)
	return err
}

// contacts prints who is called when a key leaks.
func (c *console) contacts(w io.Writer, cfg *config.Config) {
	for _, p := range cfg.Contacts {
		fmt.Fprintf(w, "  contact    %-12s %s  %s\n", audit.Clean(p.Role), audit.Clean(p.Name), audit.Clean(p.Contact))
	}
	fmt.Fprintf(w, "  contact    %-12s %s\n", "provider", "the Console, or https://support.claude.com")
}

// await drives a rotation without a screen, for scripts, until it ends or wants a person, and prints how it stands.
func (c *console) await(ctx context.Context, a *app.App, id string) error {
	stands, stop := context.WithCancel(ctx)
	defer stop()
	err := a.Runner.Follow(stands, id, func(r rotation.Row) {
		if r.Status == rotation.Paused || r.Status == rotation.Waiting {
			stop()
		}
	})
	if err != nil && (stands.Err() == nil || ctx.Err() != nil) {
		return err
	}
	v, err := a.Rotation(ctx, id)
	if err != nil {
		return err
	}
	if err := c.printJSON(v.Row); err != nil {
		return err
	}
	if v.Row.Status != rotation.Done {
		return silent(fault.Findings)
	}
	return nil
}

func (c *console) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "go on with every rotation that is due", GroupID: "main", Args: cobra.NoArgs,
		Long: `Resume advances every rotation whose time has come, as far as it goes now, and says what each waits for. Run it by hand after a
crash or a reboot, or from a timer instead of the daemon.`,
		Example: "  keywright resume\n  */5 * * * *  keywright -c /etc/keywright/keywright.yaml resume",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			a, err := c.app(ctx)
			if err != nil {
				return err
			}
			defer a.Close()
			if err := c.recover(ctx, a); err != nil {
				return err
			}
			rows, err := a.Resume(ctx)
			if err != nil {
				return err
			}
			if c.json {
				if err := c.printJSON(map[string]any{"rotations": rows}); err != nil {
					return err
				}
			}
			wants := false
			for _, r := range rows {
				wants = wants || r.Status == rotation.Paused || r.Status == rotation.Waiting
				if !c.json {
					c.printf("%s  %s  %s\n", r.ID, r.Status, r.Note)
				}
			}
			if len(rows) == 0 && !c.json {
				c.printf("nothing is due\n")
			}
			if wants {
				return silent(fault.Findings)
			}
			return nil
		},
	}
}
