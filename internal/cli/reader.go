package cli

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/handover"
	"github.com/keywright/keywright/internal/release"
)

func (c *console) readerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "reader", Short: "enroll programs on other hosts that read values from the daemon", GroupID: "setup", Args: cobra.NoArgs,
		Long: `A reader is a program on another host, such as a gateway or one that uses the keyring package, that keywright serve gives values to: over
mutual TLS, sealed to a key of the reader's own. Its private keys never leave its host.

  1. On the daemon's host:  keywright reader pin
  2. On the reader's host:  keywright reader new billing --daemon PIN --out /etc/billing/reader.json   (prints one line)
  3. On the daemon's host:  keywright reader enroll LINE
  4. In keywright.yaml:     keys: { prod-primary: { readers: [billing] } }
  5. Start the daemon with: keywright serve --readers-listen HOST:PORT`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.readerPin(), c.readerNew(), c.readerEnroll(), c.readerList(), c.readerRevoke())
	return cmd
}

func (c *console) readerPin() *cobra.Command {
	return &cobra.Command{
		Use: "pin", Short: "print what readers know this host's daemon by", Args: cobra.NoArgs,
		Example: "  keywright reader pin",
		RunE: func(*cobra.Command, []string) error {
			pin, err := app.DaemonPin()
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]string{"pin": pin.String()})
			}
			c.printf("%s\n", pin)
			return nil
		},
	}
}

func (c *console) readerNew() *cobra.Command {
	var out, daemon string
	cmd := &cobra.Command{
		Use: "new NAME", Short: "make the keys of a reader, and print the line that enrolls it", Args: cobra.ExactArgs(1),
		Long: `New makes the private keys of a reader in a file of mode 0600, on the host where it runs, and prints one line for keywright reader enroll.
The line holds no secret. Neither a configuration nor a store is needed.`,
		Example: "  keywright reader new billing --daemon sha256/… --out /etc/billing/reader.json",
		RunE: func(_ *cobra.Command, args []string) error {
			var pin handover.Pin
			if err := pin.UnmarshalText([]byte(daemon)); err != nil {
				return usageError{fault.In(err, "read --daemon", fault.Hint("keywright reader pin, on the daemon's host"))}
			}
			if out == "" {
				return usageError{fault.New(fault.Invalid, "reader new: --out names no file")}
			}
			path, err := filepath.Abs(out)
			if err != nil {
				return fault.Wrap(fault.Invalid, err, "read --out")
			}
			i, err := handover.NewIdentity(args[0], pin)
			if err != nil {
				return err
			}
			public, err := i.Public()
			if err != nil {
				return err
			}
			if err := i.Write(path); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]string{"name": public.Name, "file": path, "line": public.Line()})
			}
			c.printf("%s\n", public.Line())
			fmt.Fprintf(c.err, "keywright: private keys in %s; enroll it on the daemon's host: keywright reader enroll LINE\n", audit.Clean(path))
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "the file that receives the private keys; one that is there is left alone")
	cmd.Flags().StringVar(&daemon, "daemon", "", "the daemon's pin, as keywright reader pin printed it")
	return cmd
}

func (c *console) readerEnroll() *cobra.Command {
	var life time.Duration
	cmd := &cobra.Command{
		Use: "enroll LINE", Short: "make a reader known by the line that reader new printed", Args: cobra.ExactArgs(1),
		Long: `Enroll makes a reader known. What it may read stands in the configuration, under readers of a key. With - in place of the line it is read from
standard input. A running daemon takes it up at once.`,
		Example: "  keywright reader enroll kwreader1.eyJ…\n  ssh app1 keywright reader new app1 --daemon PIN --out reader.json | keywright reader enroll -",
		RunE: func(cmd *cobra.Command, args []string) error {
			line := args[0]
			if line == "-" {
				text, err := bufio.NewReader(io.LimitReader(c.in, handover.MaxBody)).ReadString('\n')
				if err != nil && text == "" {
					return fault.New(fault.Invalid, "enroll reader: standard input is empty")
				}
				line = text
			}
			public, err := handover.ParseLine(line)
			if err != nil {
				return err
			}
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			e, err := a.EnrollReader(cmd.Context(), public, life)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(e)
			}
			c.printf("reader %s enrolled until %s\n", e.Name, e.Expires.Format(time.DateOnly))
			if len(mayRead(a, e.Name)) == 0 {
				c.printf("it may read nothing yet: list it under readers of a key in keywright.yaml\n")
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&life, "ttl", 365*24*time.Hour, "how long it stays known")
	return cmd
}

// mayRead lists the keys that name a reader.
func mayRead(a *app.App, name string) (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(a.Config.Keys)) {
		for _, r := range a.Config.Keys[key].Readers {
			if r == name {
				keys = append(keys, string(key))
			}
		}
	}
	return keys
}

func (c *console) readerList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "show the enrolled readers and what they may read", Args: cobra.NoArgs,
		Example: "  keywright reader list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			list, err := a.Readers(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				if list == nil {
					list = []release.Enrolled{}
				}
				return c.printJSON(list)
			}
			if len(list) == 0 {
				c.printf("no reader is enrolled\n")
				return nil
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "READER\tENROLLED\tBY\tUNTIL\tMAY READ")
			for _, e := range list {
				until := e.Expires.Format(time.DateOnly)
				if !a.Now().Before(e.Expires) {
					until = "over"
				}
				may := strings.Join(mayRead(a, e.Name), " ")
				if may == "" {
					may = "nothing"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", audit.Clean(e.Name), e.At.Format(time.DateOnly), audit.Clean(e.By), until, may)
			}
			return w.Flush()
		},
	}
}

func (c *console) readerRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "make a reader unknown: its next request is refused", Args: cobra.ExactArgs(1),
		Long: `Revoke ends what a reader gets from now on. A value that it has already stays with it: rotate the keys that it could read when it is lost or
broken into.`,
		Example: "  keywright reader revoke billing",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			if err := a.RevokeReader(cmd.Context(), args[0]); err != nil {
				return err
			}
			c.printf("reader %s revoked\n", audit.Clean(args[0]))
			if keys := mayRead(a, args[0]); len(keys) > 0 {
				c.printf("it has had the values of: %s\nrotate them when it may be in other hands: keywright rotate %s\n", strings.Join(keys, " "), keys[0])
			}
			return nil
		},
	}
}
