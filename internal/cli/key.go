package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/intake"
)

func (c *console) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "hand in, adopt, list, retire and forget versions of keys", GroupID: "keys", Args: cobra.NoArgs,
		Example: "  keywright key add prod-primary --spare\n  keywright key adopt prod-primary --from staging-env\n  keywright key list",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.keyAdd(), c.keyAdopt(), c.keyMatch(), c.keyList(), c.keyShow(), c.keySign(), c.keyRetire(), c.keyForget())
	return cmd
}

// answers holds the flags that answer the questions of an intake beforehand.
type answers struct{ intake.Options }

func (o *answers) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.Pin, "pin", false, "confirm that the key belongs to the organization and workspace that the provider names")
	f.StringVar(&o.ProviderID, "id", "", "the id (apikey_…) of the key at the provider, when several fit")
	f.BoolVar(&o.Unmatched, "unmatched", false, "accept that no entry of the provider's list fits")
	f.BoolVar(&o.AcceptExpiry, "accept-expiry", false, "take a key that expires before it would be due")
}

// withIntake opens the app, puts right what an earlier intake left half done, and lends the slot of a key.
func (c *console) withIntake(ctx context.Context, key string, o *intake.Options, use func(a *app.App, slot intake.Slot) (intake.Result, error)) error {
	a, err := c.app(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	if err := c.recover(ctx, a); err != nil {
		return err
	}
	slot, err := a.Slot(apikey.Name(key))
	if err != nil {
		return err
	}
	c.intakeOptions(a, o)
	res, err := use(a, slot)
	return c.intakeDone(res, err)
}

func (c *console) intakeOptions(a *app.App, o *intake.Options) {
	o.Actor, o.AcceptProviderChange = a.Actor, c.accept
	if c.onTerminal() {
		o.Confirm = c.askIntake
	}
	if !c.json {
		o.Progress = func(ch intake.Check) {
			fmt.Fprintf(c.err, " %s %-26s %s\n", c.mark(outcomeMarks[ch.Outcome]), ch.Name, audit.Clean(ch.Text))
		}
	}
}

var outcomeMarks = map[intake.Outcome]string{intake.OK: "done", intake.Warn: "retry", intake.Failed: "failed", intake.Doing: "next"}

func (c *console) intakeDone(res intake.Result, err error) error {
	if c.json {
		if jsonErr := c.printJSON(res); jsonErr != nil {
			return jsonErr
		}
		return err
	}
	if err != nil {
		return err
	}
	v := res.Version
	c.printf("%s is %s of %s", v.Fingerprint(), v.State, v.Key)
	if v.ProviderID != "" {
		c.printf(" (%s, %s)", v.ProviderID, v.Binding)
	}
	c.printf("\n")
	if res.Rotation != "" {
		c.printf("rotation %s goes on with it: keywright rotation follow %s\n", res.Rotation, res.Rotation)
	}
	if res.Next != "" {
		c.printf("next: %s\n", res.Next)
	}
	return nil
}

// onTerminal reports whether stdin is a terminal, so that a person can be asked.
func (c *console) onTerminal() bool {
	f, ok := c.in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// askIntake puts a question of an intake to the person at the terminal.
func (c *console) askIntake(_ context.Context, q intake.Question) (intake.Answer, error) {
	for _, ch := range q.Choices {
		fmt.Fprintf(c.err, "   %s  %s\n", audit.Clean(ch.ID), audit.Clean(ch.Text))
	}
	ask := "[yes/no]"
	if len(q.Choices) > 0 {
		ask = "[id, or no]"
	}
	fmt.Fprintf(c.err, "%s %s ", audit.Clean(q.Text), ask)
	line, err := readLine(c.in)
	if err != nil {
		return intake.Answer{}, err
	}
	switch line {
	case "yes", "y":
		return intake.Answer{Yes: true}, nil
	case "no", "n", "":
		return intake.Answer{}, nil
	}
	return intake.Answer{Yes: len(q.Choices) > 0, Choice: line}, nil
}

// readLine reads one line byte by byte, so that nothing behind it is swallowed.
func readLine(r io.Reader) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < 4096 {
		n, err := r.Read(one)
		if n == 1 && one[0] == '\n' {
			return strings.TrimSpace(string(line)), nil
		}
		if n == 1 {
			line = append(line, one[0])
		}
		if errors.Is(err, io.EOF) {
			return strings.TrimSpace(string(line)), nil
		}
		if err != nil {
			return "", fault.Wrap(fault.Unavailable, err, "read answer")
		}
	}
	return "", fault.New(fault.Invalid, "read answer: it is too long")
}

// valueReader gives the reader that a value comes from: a hidden prompt on a terminal, otherwise stdin.
func (c *console) valueReader(prompt string) (io.Reader, error) {
	f, ok := c.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return c.in, nil
	}
	fmt.Fprint(c.err, prompt)
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(c.err)
	if err != nil {
		return nil, fault.Wrap(fault.Canceled, err, "read value")
	}
	return &once{b: b}, nil
}

// once hands bytes out a single time and overwrites them.
type once struct{ b []byte }

func (o *once) Read(p []byte) (int, error) {
	if len(o.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, o.b)
	clear(o.b[:n])
	o.b = o.b[n:]
	return n, nil
}

func (c *console) keyAdd() *cobra.Command {
	var o answers
	cmd := &cobra.Command{
		Use: "add KEY", Short: "hand in a new value (hidden prompt, or stdin)", Args: cobra.ExactArgs(1),
		Long: `Add reads one value from a hidden prompt, or from stdin when that is no terminal; never from an argument. It checks the form,
asks the provider, finds the key in the provider's list, proves that id and value belong together (the unused key is set inactive for
a moment), and seals it.`,
		Example: "  keywright key add prod-primary --spare\n  pass show anthropic/new | keywright key add prod-primary --spare --pin",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withIntake(cmd.Context(), args[0], &o.Options, func(a *app.App, slot intake.Slot) (intake.Result, error) {
				if c.onTerminal() {
					c.consoleSteps(apikey.ConsoleName(slot.House, slot.Key, a.Now()))
				}
				r, err := c.valueReader("Value of the new key (hidden): ")
				if err != nil {
					return intake.Result{}, err
				}
				return a.Intake.Add(cmd.Context(), r, slot, o.Options)
			})
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.Spare, "spare", false, "keep it in the pool for a later rotation")
	cmd.Flags().BoolVar(&o.SkipBinding, "skip-binding", false, "leave out the proof that id and value belong together")
	return cmd
}

// consoleSteps says how a person makes a key, with the name to give it.
func (c *console) consoleSteps(name string) {
	fmt.Fprintf(c.err, "In the Console: Settings > API keys > Create key\n  name       %s\n  workspace  that of this key\n  kind       workspace or service account, not personal\nCopy the value; it is shown once.\n\n", name)
}

func (c *console) keyAdopt() *cobra.Command {
	var o answers
	var from string
	cmd := &cobra.Command{
		Use: "adopt KEY", Short: "take over the value that is deployed already", Args: cobra.ExactArgs(1),
		Long: `Adopt reads the value that the key's places hold, seals it and makes it the current version. Without --from every readable
place is read, and all must agree. Where no place can be read: --from - reads the value from a hidden prompt or stdin.`,
		Example: "  keywright key adopt prod-primary\n  keywright key adopt prod-primary --from staging-env",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withIntake(cmd.Context(), args[0], &o.Options, func(a *app.App, slot intake.Slot) (intake.Result, error) {
				src := intake.Source{}
				var err error
				switch from {
				case "":
				case "-":
					src.Reader, err = c.valueReader("Value that is deployed (hidden): ")
				default:
					src.Location, err = a.Location(from)
				}
				if err != nil {
					return intake.Result{}, err
				}
				res, err := a.Intake.Adopt(cmd.Context(), src, slot, o.Options)
				if err == nil {
					c.warnPlaces(cmd.Context(), slot)
				}
				return res, err
			})
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&from, "from", "", "the location to read, or - for a prompt or stdin")
	return cmd
}

// warnPlaces says of the places of a key what would stop a rotation there, such as a file that others can read.
func (c *console) warnPlaces(ctx context.Context, slot intake.Slot) {
	for _, l := range slot.Locations {
		for _, err := range l.Check(ctx) {
			fmt.Fprintf(c.err, "keywright: warning: %s: %s\n", l.Name(), audit.Clean(err.Error()))
			if hint := fault.HintOf(err); hint != "" {
				fmt.Fprintf(c.err, "hint: %s\n", audit.Clean(hint))
			}
		}
	}
}

func (c *console) keyMatch() *cobra.Command {
	var o answers
	cmd := &cobra.Command{
		Use: "match KEY", Short: "find the provider's ids of versions that have none", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			slot, err := a.Slot(apikey.Name(args[0]))
			if err != nil {
				return err
			}
			c.intakeOptions(a, &o.Options)
			results, err := a.Intake.Match(cmd.Context(), slot, o.Options)
			if c.json {
				return errors.Join(c.printJSON(map[string]any{"results": results}), err)
			}
			for _, r := range results {
				c.printf("%s  %s  %s\n", r.Version.Fingerprint(), r.Version.ProviderID, r.Version.Binding)
			}
			if err == nil && len(results) == 0 {
				c.printf("every version of %s has its id\n", args[0])
			}
			return err
		},
	}
	o.flags(cmd)
	return cmd
}

func (c *console) keyList() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use: "list", Short: "list versions with their states", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			versions, err := a.Versions(cmd.Context(), apikey.Name(key))
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]any{"versions": versions})
			}
			if len(versions) == 0 {
				c.printf("no version yet; begin with: keywright key adopt KEY\n")
				return nil
			}
			w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "KEY\tFINGERPRINT\tSTATE\tPROVIDER ID\tBINDING\tADDED\tNAME")
			for _, v := range versions {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Key, v.Fingerprint(), stateWords(v), v.ProviderID, v.Binding, v.Added.Local().Format(time.DateOnly), audit.Clean(v.ProviderName))
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "only versions of this key")
	return cmd
}

func stateWords(v apikey.Version) string {
	s := string(v.State)
	if v.Compromised {
		s += ", compromised"
	}
	return s
}

func (c *console) keyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show KEY|FINGERPRINT", Short: "show everything known about a key's versions", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			versions, err := a.FindVersions(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]any{"versions": versions})
			}
			for i, v := range versions {
				if i > 0 {
					c.printf("\n")
				}
				c.showVersion(v, a.Now())
			}
			return nil
		},
	}
}

func (c *console) showVersion(v apikey.Version, now time.Time) {
	c.printf("%s  %s of %s\n", v.Fingerprint(), stateWords(v), v.Key)
	w := tabwriter.NewWriter(c.out, 0, 4, 2, ' ', 0)
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(w, "  %s\t%s\n", name, audit.Clean(text))
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			line(name, t.Local().Format(time.DateTime)+" ("+relative(t, now)+")")
		}
	}
	line("provider id", v.ProviderID)
	line("name there", v.ProviderName)
	line("binding", string(v.Binding))
	line("organization", v.Organization)
	line("workspace", v.Workspace)
	line("principal", v.Principal)
	line("environment", string(v.Environment))
	line("purpose", v.Purpose)
	line("handed in by", v.CreatedBy)
	at("created", v.Created)
	at("added", v.Added)
	at("tested", v.Tested)
	at("current since", v.Activated)
	at("changed", v.Changed)
	at("expires", v.Expires)
	_ = w.Flush() // writes to stdout; a lost reader is noticed by the next line
}

func (c *console) keySign() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use: "sign KEY LOCATION", Short: "vouch that a place holds what it is meant to hold", Args: cobra.ExactArgs(2),
		Long:    "Sign writes down, with your name and the time, that a place which keywright cannot see holds the version that it is meant to hold.",
		Example: "  keywright key sign prod-primary wiki --note 'looked at the page'",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			fp, err := a.SignPlace(cmd.Context(), apikey.Name(args[0]), args[1], audit.Clean(note))
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]string{"location": args[1], "fingerprint": string(fp)})
			}
			c.printf("%s holds %s: signed by %s\n", args[1], fp, a.Actor)
			return nil
		},
	}
	cmd.Flags().StringVar(&note, "note", "", "a word for the record")
	return cmd
}

func (c *console) keyRetire() *cobra.Command {
	var o intake.Options
	var yes bool
	cmd := &cobra.Command{
		Use: "retire FINGERPRINT", Short: "set an unused version inactive at the provider", Args: cobra.ExactArgs(1),
		Long:    "Retire sets a spare or previous version inactive and asks until its value is refused. It is refused while the version is wanted anywhere.",
		Example: "  keywright key retire kf_3f9a…",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withVersion(cmd.Context(), args[0], &o, func(a *app.App, v apikey.Version) (intake.Result, error) {
				if err := c.confirm(yes, fmt.Sprintf("Set %s (%s of %s) inactive.", v.Fingerprint(), v.State, v.Key), string(v.Key)); err != nil {
					return intake.Result{}, err
				}
				slot, err := a.Slot(v.Key)
				if err != nil {
					return intake.Result{}, err
				}
				return a.Intake.Retire(cmd.Context(), v.ID, slot, o)
			})
		},
	}
	cmd.Flags().BoolVar(&o.AcceptUse, "accept-use", false, "retire although usage is reported, or cannot be known")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (c *console) keyForget() *cobra.Command {
	var o intake.Options
	var yes bool
	cmd := &cobra.Command{
		Use: "forget FINGERPRINT", Short: "remove a version and its value from the inventory", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withVersion(cmd.Context(), args[0], &o, func(a *app.App, v apikey.Version) (intake.Result, error) {
				if err := c.confirm(yes, fmt.Sprintf("Forget %s (%s of %s); its value cannot be had back.", v.Fingerprint(), v.State, v.Key), string(v.Key)); err != nil {
					return intake.Result{}, err
				}
				return a.Intake.Forget(cmd.Context(), v.ID, o)
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// withVersion opens the app and finds the one version that a fingerprint, or the beginning of one, names.
func (c *console) withVersion(ctx context.Context, name string, o *intake.Options, use func(*app.App, apikey.Version) (intake.Result, error)) error {
	a, err := c.app(ctx)
	if err != nil {
		return err
	}
	defer a.Close()
	versions, err := a.FindVersions(ctx, name)
	if err != nil {
		return err
	}
	if len(versions) != 1 {
		return fault.New(fault.Invalid, fmt.Sprintf("find version %q: %d versions fit", name, len(versions)), fault.Hint("name one by its fingerprint: keywright key list"))
	}
	c.intakeOptions(a, o)
	res, err := use(a, versions[0])
	return c.intakeDone(res, err)
}
