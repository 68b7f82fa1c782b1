package cli

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/secret"
)

func (c *console) gatewayCommand() *cobra.Command {
	var o app.GatewayOptions
	var key, state string
	var backups []string
	cmd := &cobra.Command{
		Use: "gateway", Short: "run a reverse proxy that holds the key, so that applications hold none", GroupID: "setup", Args: cobra.NoArgs,
		Long: `Gateway stands between applications and the provider. It sets the key on each request, takes a changed key file up within a second, without
a failed request, fails over to a backup key where that helps, and never lets a cut stream look whole.

An application needs two settings: the gateway's address as its base URL, and a gateway token in place of the key (keywright token issue).
With --open every process of your own user on this host is served without a token.

It needs no configuration file. SIGHUP reads the key files at once; SIGTERM lets requests under way end.`,
		Example: `  keywright gateway --key file:primary.key --backup file:secondary.key --open
  keywright gateway --listen unix:/run/keywright/gateway.sock --key file:primary.key
  keywright gateway status`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if key == "" {
				return usageError{fault.New(fault.Invalid, "gateway: no key given", fault.Hint("--key file:PATH, a file of mode 0600 that holds the value alone"))}
			}
			if o.Dir, err = os.Getwd(); err != nil {
				return fault.Wrap(fault.Unavailable, err, "gateway")
			}
			if o.StateDir, err = app.GatewayDir(state); err != nil {
				return err
			}
			o.Key = secret.Ref(key)
			for _, b := range backups {
				o.Backups = append(o.Backups, secret.Ref(b))
			}
			level := slog.LevelWarn
			if c.verbose {
				level = slog.LevelDebug
			}
			o.Log = slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level}))
			o.Ready = func(at net.Addr, s gateway.Status) {
				fmt.Fprintf(c.err, "keywright: gateway to %s on %s\n", s.Upstream, baseURL(at, o.Certificate != ""))
				for _, k := range s.Keys {
					fmt.Fprintf(c.err, "keywright: %s key %s\n", k.Role, k.Fingerprint)
				}
			}
			o.Version = Version()
			return app.RunGateway(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8787", "address to listen on: loopback host and port, or unix:PATH; any other address needs a certificate")
	f.StringVar(&o.Upstream, "upstream", "https://api.anthropic.com", "address of the provider")
	f.StringVar(&key, "key", "", "the key: file:PATH, or env:NAME with --dev")
	f.StringArrayVar(&backups, "backup", nil, "a key to fail over to; may be given several times")
	f.BoolVar(&o.Open, "open", false, "serve every process of this user without a token, on loopback or a Unix socket")
	f.BoolVar(&o.Development, "dev", false, "accept keys from the environment, for development alone")
	f.StringVar(&o.Certificate, "tls-cert", "", "certificate to serve with, PEM")
	f.StringVar(&o.CertificateKey, "tls-key", "", "the certificate's key, PEM")
	f.StringVar(&o.AccessLog, "access-log", "", "append a line of JSON for each request to this file; no bodies, no values")
	f.StringVar(&o.Collector, "otlp-endpoint", "", "send spans to this OTLP collector, such as https://collector.example:4318 (default from OTEL_EXPORTER_OTLP_ENDPOINT)")
	f.BoolVar(&o.TraceUpstream, "trace-upstream", false, "send the provider the W3C trace context of each call; without it none goes out")
	f.DurationVar(&o.Grace, "grace", 30*time.Second, "how long requests under way may take to end when it stops")
	stateFlag(cmd, &state)
	cmd.AddCommand(c.gatewayStatus())
	return cmd
}

func stateFlag(cmd *cobra.Command, state *string) {
	cmd.Flags().StringVar(state, "state-dir", "", "the gateway's own directory (default gateway in the user's state directory)")
}

// baseURL is what an application is configured with.
func baseURL(at net.Addr, tls bool) string {
	switch {
	case at.Network() == "unix":
		return "unix:" + at.String()
	case tls:
		return "https://" + at.String()
	}
	return "http://" + at.String()
}

func (c *console) gatewayStatus() *cobra.Command {
	var state string
	var inUse bool
	cmd := &cobra.Command{
		Use: "status", Short: "show keys, their states, and what is kept from the provider", Args: cobra.NoArgs,
		Long: `Status asks the gateway that runs in the state directory. --in-use prints the fingerprint of the key in use, and of every former one that
still has requests under way, each on a line: the form that confirm of a location wants, so that a rotation goes on when the last request
on the old key has ended.`,
		Example: "  keywright gateway status\n  keywright gateway status --json\n  keywright gateway status --in-use",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := app.GatewayDir(state)
			if err != nil {
				return err
			}
			s, err := app.GatewayStatus(cmd.Context(), dir)
			if err != nil {
				return err
			}
			switch {
			case c.json:
				return c.printJSON(s)
			case inUse:
				for _, k := range s.Keys {
					if k.Role != "backup" {
						c.printf("%s\n", k.Fingerprint)
					}
				}
				return nil
			}
			c.showGateway(s)
			return nil
		},
	}
	cmd.Flags().BoolVar(&inUse, "in-use", false, "print the fingerprints of the keys that serve requests, and nothing else")
	stateFlag(cmd, &state)
	return cmd
}

func (c *console) showGateway(s gateway.Status) {
	ready := "ready"
	switch {
	case s.Draining:
		ready = "stopping"
	case !s.Ready:
		ready = "not ready: no key is healthy"
	}
	c.printf("%s, %d requests under way, upstream %s, key set %d\n\n", ready, s.Active, audit.Clean(s.Upstream), s.Generation)
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tFINGERPRINT\tROLE\tSTATE\tUNDER WAY\tREQUESTS\tLAST USED")
	for _, k := range s.Keys {
		last := "-"
		if !k.LastUse.IsZero() {
			last = k.LastUse.UTC().Format(time.DateTime) + "Z"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", k.Key, k.Fingerprint, k.Role, k.State, k.InFlight, k.Requests, last)
	}
	_ = w.Flush() // it writes where printf writes
	for _, l := range s.Limits {
		c.printf("\nlimit of the %s (%s), until %s", l.Scope, l.Row, l.Until.UTC().Format(time.TimeOnly)+"Z")
	}
	for _, b := range s.Breakers {
		c.printf("\nthe upstream is overloaded for %s, next try at %s", audit.Clean(b.Model), b.Until.UTC().Format(time.TimeOnly)+"Z")
	}
	if len(s.Limits)+len(s.Breakers) > 0 {
		c.printf("\n")
	}
}
