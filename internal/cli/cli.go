// Package cli is the command line: one file per command. A command reads flags, asks app, and prints; it decides nothing about keys. Results
// go to stdout, everything else to stderr. Called by cmd/keywright alone.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/harden"
)

// console is what a command talks to.
type console struct {
	in  io.Reader
	out io.Writer
	err io.Writer

	configs []string
	json    bool
	verbose bool
	// accept is --accept-provider-change.
	accept bool
	// backedUp is --database-backed-up.
	backedUp bool
	// socket is --socket of the commands that can speak to the daemon.
	socket string
}

// Main runs one command and gives the exit code; see docs/exit-codes.md.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	if err := harden.Process(); err != nil {
		fmt.Fprintf(errOut, "keywright: harden process: %v\n", err)
		return fault.ExitInternal
	}
	c := &console{in: in, out: out, err: errOut}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := c.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	c.explain(err)
	return exitCode(err)
}

// usageError marks an error of the flags or arguments.
type usageError struct{ error }

// Unwrap gives the error with its hint.
func (e usageError) Unwrap() error { return e.error }

// exitCode is fault.ExitCode, and ExitUsage for what cobra finds wrong.
func exitCode(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return fault.ExitUsage
	}
	return fault.ExitCode(err)
}

// errSilent ends a command with a kind and prints nothing, where the output has said it all.
type errSilent struct{ kind fault.Kind }

func (e errSilent) Error() string { return e.kind.String() }

func silent(kind fault.Kind) error { return fault.Wrap(kind, errSilent{kind}, "see above") }

// explain prints an error as one line, and its hint as another. Of a configuration every problem stands on a line of its own, where it is.
func (c *console) explain(err error) {
	if err == nil {
		return
	}
	if _, ok := errors.AsType[errSilent](err); ok {
		return
	}
	text := err.Error()
	if several, ok := errors.AsType[*config.Errors](err); ok {
		for _, p := range several.Problems {
			fmt.Fprintln(c.err, audit.Clean(p.Error()))
		}
		text = several.Count()
	}
	fmt.Fprintf(c.err, "keywright: %s\n", audit.Clean(text))
	if hint := fault.HintOf(err); hint != "" {
		fmt.Fprintf(c.err, "hint: %s\n", audit.Clean(hint))
	}
}

const long = `keywright runs the whole life of Anthropic API keys: it knows where each key lives, puts a new one everywhere
without a failed request, proves that the old one is unused, retires it reversibly, and leaves a record.`

func (c *console) root() *cobra.Command {
	root := &cobra.Command{
		Use: "keywright", Short: "run the whole life of Anthropic API keys", Long: long, SilenceUsage: true, SilenceErrors: true,
		Version: Version(), Args: noSuchCommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("keywright {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fault.New(fault.Invalid, err.Error(), fault.Hint("%s --help", cmd.CommandPath()))}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	f := root.PersistentFlags()
	f.StringArrayVarP(&c.configs, "config", "c", nil, "configuration file; may be given several times (default ./keywright.yaml)")
	f.BoolVar(&c.json, "json", false, "print JSON")
	f.BoolVarP(&c.verbose, "verbose", "v", false, "log what happens to stderr")
	f.BoolVar(&c.accept, "accept-provider-change", false, "go on although provider.url changed since the store was first used")
	f.BoolVar(&c.backedUp, "database-backed-up", false, "bring the schema of a PostgreSQL database forward, of which there is a backup")
	root.AddGroup(&cobra.Group{ID: "main", Title: "Rotate:"}, &cobra.Group{ID: "keys", Title: "Keys and places:"}, &cobra.Group{ID: "setup", Title: "Set up and run:"})
	for _, add := range commands() {
		cmd := add(c)
		switch {
		case cmd.HasSubCommands() && cmd.Annotations[takesArguments] == "":
			cmd.Args = noSuchCommand
		case cmd.Args != nil:
			cmd.Args = usageArgs(cmd.Args)
		}
		for _, sub := range cmd.Commands() {
			if sub.Args != nil {
				sub.Args = usageArgs(sub.Args)
			}
		}
		root.AddCommand(cmd)
	}
	return root
}

// noSuchCommand refuses a word that is no command, and names the nearest one.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	text, hint := fmt.Sprintf("unknown command %q", args[0]), cmd.CommandPath()+" --help"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text, hint = fmt.Sprintf("%s (did you mean %q?)", text, near[0]), cmd.CommandPath()+" "+near[0]+" --help"
	}
	return usageError{fault.New(fault.Invalid, text, fault.Hint("%s", hint))}
}

// usageArgs turns complaints about arguments into usage errors with a hint.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fault.New(fault.Invalid, err.Error(), fault.Hint("%s --help", cmd.CommandPath()))}
		}
		return nil
	}
}

// Version gives the program's version from the build.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "devel"
}

// config reads the configuration.
func (c *console) config(ctx context.Context) (*config.Config, error) {
	return c.configOf(ctx, config.Options{})
}

func (c *console) configOf(ctx context.Context, o config.Options) (*config.Config, error) {
	cfg, warnings, err := config.Load(ctx, c.configs, o)
	for _, w := range warnings {
		fmt.Fprintf(c.err, "keywright: warning: %s\n", w)
	}
	return cfg, err
}

// app opens everything that the configuration names. The caller closes it.
func (c *console) app(ctx context.Context) (*app.App, error) {
	return c.appOf(ctx, config.Options{})
}

func (c *console) appOf(ctx context.Context, o config.Options) (*app.App, error) {
	cfg, err := c.configOf(ctx, o)
	if err != nil {
		return nil, err
	}
	return app.Open(ctx, app.Options{Config: cfg, Version: Version(), Log: c.log(), AcceptProviderChange: c.accept, BackedUp: c.backedUp})
}

func (c *console) log() *slog.Logger {
	if !c.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// print writes text to stdout, with control characters of foreign text removed by the caller.
func (c *console) printf(format string, args ...any) { fmt.Fprintf(c.out, format, args...) }

// printJSON writes v as indented JSON.
func (c *console) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// terminal reports whether stdout is one, so that a screen may be redrawn and coloured.
func (c *console) terminal() bool {
	f, ok := c.out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// coloured reports whether colours may be used.
func (c *console) coloured() bool {
	return c.terminal() && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// confirm asks a person to type a word; --yes answers it. Without a terminal it is refused with the hint to say --yes.
func (c *console) confirm(yes bool, question, word string) error {
	if yes {
		return nil
	}
	f, ok := c.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return usageError{fault.New(fault.Invalid, "confirm: there is no terminal to ask on", fault.Hint("add --yes"))}
	}
	fmt.Fprintf(c.err, "%s [type %s] ", question, word)
	var line string
	if _, err := fmt.Fscanln(f, &line); err != nil || strings.TrimSpace(line) != word {
		return fault.New(fault.Canceled, "not confirmed, nothing changed")
	}
	return nil
}
