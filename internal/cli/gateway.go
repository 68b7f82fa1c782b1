package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/gateway/footprint"
	"github.com/keywright/keywright/internal/keysource"
)

func (c *console) gatewayCommand() *cobra.Command {
	var o app.GatewayOptions
	var key, state string
	var development bool
	var backups, grants, kept []string
	var q app.GatewayQueue
	var queued bool
	cmd := &cobra.Command{
		Use: "gateway", Short: "run a reverse proxy that holds the key, so that applications hold none", GroupID: "setup", Args: cobra.NoArgs,
		Long: `Gateway stands between applications and the provider. It sets the key on each request, takes a changed key file up within a second, without
a failed request, fails over to a backup key where that helps, and never lets a cut stream look whole.

An application needs two settings: the gateway's address as its base URL, and a gateway token in place of the key (keywright token issue).
With --open every process of your own user on this host is served without a token.

With --key it needs no configuration file, and reads none. Without --key the section gateway of the configuration says what it does; SIGHUP
reads that anew, and one that cannot be used changes nothing. SIGTERM lets requests under way end.`,
		Example: `  keywright gateway --key file:primary.key --backup file:secondary.key --open
  keywright gateway --listen unix:/run/keywright/gateway.sock --key file:primary.key
  keywright gateway -c /etc/keywright/keywright.yaml
  keywright gateway status`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			defer footprint.Tune(os.Getenv).Stop()
			if key == "" {
				return c.configuredGateway(cmd)
			}
			dir, err := os.Getwd()
			if err != nil {
				return fault.Wrap(fault.Unavailable, err, "gateway")
			}
			if o.StateDir, err = app.GatewayDir(state); err != nil {
				return err
			}
			var further []keysource.Ref
			for _, b := range backups {
				further = append(further, keysource.Ref(b))
			}
			if o.Rules.Default, err = gateway.Granting(grants); err != nil {
				return usageError{err}
			}
			o.Rules.Default.Cache = kept
			switch {
			case queued:
				o.Queue = &q
			case q.Master != "":
				return usageError{fault.New(fault.Invalid, "gateway: --queue-master goes with --queue")}
			}
			o.Source, o.Tokens, o.Log = app.FlagSource(keysource.Ref(key), further, dir, development), true, c.operatorLog()
			o.Ready = func(at net.Addr, s gateway.Status) { c.gatewayReady(o, at, s) }
			o.Version = Version()
			return app.RunGateway(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8787", "address to listen on: loopback host and port, or unix:PATH; any other address needs a certificate")
	f.StringVar(&o.Upstream, "upstream", "https://api.anthropic.com", "address of the provider")
	f.StringVar(&key, "key", "", "where the key is read: file:PATH, daemon:SOCKET#KEY, aws:, vault: or kubernetes:, or env:NAME with --dev")
	f.StringArrayVar(&backups, "backup", nil, "a key to fail over to; may be given several times")
	f.StringSliceVar(&grants, "grant", nil, "what applications may call besides messages, count_tokens and models: batches, files, skills; may be given several times")
	f.BoolVar(&o.Open, "open", false, "serve every process of this user without a token, on loopback or a Unix socket")
	f.BoolVar(&development, "dev", false, "accept keys from the environment, for development alone")
	f.StringVar(&o.Certificate, "tls-cert", "", "certificate to serve with, PEM")
	f.StringVar(&o.CertificateKey, "tls-key", "", "the certificate's key, PEM")
	f.StringVar(&o.AccessLog, "access-log", "", "append a line of JSON for each request to this file; no bodies, no values")
	f.StringVar(&o.Collector, "otlp-endpoint", "", "send spans to this OTLP collector, such as https://collector.example:4318 (default from OTEL_EXPORTER_OTLP_ENDPOINT)")
	f.BoolVar(&o.TraceUpstream, "trace-upstream", false, "send the provider the W3C trace context of each call; without it none goes out")
	f.DurationVar(&o.Grace, "grace", 30*time.Second, "how long requests under way may take to end when it stops")
	stateFlag(cmd, &state)
	f.BoolVar(&queued, "queue", false, "keep requests of callers that prefer not to wait (Prefer: respond-async), encrypted, in the state directory")
	f.StringVar(&q.Master, "queue-master", "", "what the queue is encrypted under: file:PATH, systemd:NAME, passphrase:REF, age:PATH or aws-kms:KEY (default "+app.DefaultQueueMaster+" in the user's configuration directory)")
	f.StringSliceVar(&kept, "cache", nil, "keep answers of this route for ten minutes, for identical requests while the provider is down: messages, count_tokens or models; may be given several times")
	cmd.AddCommand(c.gatewayStatus(), c.gatewayDegrade(), c.gatewayRestore(), c.gatewayQueue())
	return cmd
}

// configuredGateway runs the gateway that the configuration describes.
func (c *console) configuredGateway(cmd *cobra.Command) error {
	var given string
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			given = f.Name
		}
	})
	if given != "" {
		return usageError{fault.New(fault.Invalid, "gateway: --"+given+" goes with --key; without it the section gateway of the configuration says everything",
			fault.Hint("--key file:PATH, a file of mode 0600 that holds the value alone"))}
	}
	log := c.operatorLog()
	again := func(ctx context.Context) (app.GatewayOptions, error) {
		cfg, err := c.config(ctx)
		if err != nil {
			return app.GatewayOptions{}, err
		}
		return app.ConfiguredGateway(ctx, cfg, log)
	}
	o, err := again(cmd.Context())
	switch {
	case fault.Is(err, fault.NotFound) && len(c.configs) == 0:
		return usageError{fault.New(fault.Invalid, "gateway: no key given, and no configuration describes a gateway", fault.Hint("--key file:PATH, a file of mode 0600 that holds the value alone"))}
	case err != nil:
		return err
	}
	if slices.ContainsFunc(o.Source.Keys, func(k gateway.SourceKey) bool { return strings.HasPrefix(string(k.Ref), "store:") }) {
		a, err := c.app(cmd.Context())
		if err != nil {
			return err
		}
		defer a.Close()
		o.OpenKey = func(ref keysource.Ref) (keysource.Reader, error) {
			return a.OpenKey(ref, "gateway", o.Source.Development)
		}
	}
	o.Again, o.Version = again, Version()
	o.Ready = func(at net.Addr, s gateway.Status) { c.gatewayReady(o, at, s) }
	return app.RunGateway(cmd.Context(), o)
}

// gatewayReady says where the gateway is.
func (c *console) gatewayReady(o app.GatewayOptions, at net.Addr, s gateway.Status) {
	fmt.Fprintf(c.err, "keywright: gateway to %s on %s\n", s.Upstream, baseURL(at, o.Certificate != ""))
	for _, k := range s.Keys {
		fmt.Fprintf(c.err, "keywright: %s key %s\n", k.Role, k.Fingerprint)
	}
	footprint.Release()
}

// operatorLog is the log of what runs for long: warnings and worse, or everything.
func (c *console) operatorLog() *slog.Logger {
	level := slog.LevelWarn
	if c.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level}))
}

// gatewayDir gives the directory of the gateway that a command is about. A configuration counts only when it is named: a token is also asked for by
// programs that run in a directory of somebody else.
func (c *console) gatewayDir(ctx context.Context, state string) (string, error) {
	if state != "" || len(c.configs) == 0 {
		return app.GatewayDir(state)
	}
	cfg, err := c.config(ctx)
	if err != nil {
		return "", err
	}
	if cfg.Gateway == nil {
		return "", fault.New(fault.NotFound, "find gateway: the configuration has no section gateway", fault.Hint("name its directory with --state-dir"))
	}
	return cfg.Gateway.StateDir, nil
}

func stateFlag(cmd *cobra.Command, state *string) {
	cmd.Flags().StringVar(state, "state-dir", "", "the gateway's own directory (default that of the configuration that -c names, else gateway in the user's state directory)")
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
			dir, err := c.gatewayDir(cmd.Context(), state)
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

// showSources tells of the places that give no usable value, and what becomes of the keys.
func (c *console) showSources(list []gateway.SourceStatus) {
	for _, s := range list {
		if s.Failing.IsZero() {
			continue
		}
		use := "its last value stays in use"
		switch {
		case s.Expired:
			use = "its last value is no longer used"
		case s.Read.IsZero():
			use = "it has given no value yet"
		case !s.Until.IsZero():
			use += " until " + s.Until.UTC().Format(time.DateTime) + "Z"
		}
		c.printf("\nno usable value for %s from %s since %s: %s\n  %s\n", s.Key, audit.Clean(s.Source), s.Failing.UTC().Format(time.DateTime)+"Z", use, audit.Clean(s.Problem))
		if s.Hint != "" {
			c.printf("  %s\n", audit.Clean(s.Hint))
		}
	}
}

// showCanary compares the two versions.
func (c *console) showCanary(s gateway.CanaryStatus) {
	if s.Stopped {
		c.printf("\ncanary stopped: %s; every session uses %s\n", audit.Clean(s.Why), s.Old)
	} else {
		c.printf("\ncanary: %d%% of the sessions use %s, the others %s\n", s.Share, s.New, s.Old)
	}
	for _, arm := range []struct {
		fingerprint apikey.Fingerprint
		gateway.ArmStatus
	}{{s.New, s.NewArm}, {s.Old, s.OldArm}} {
		c.printf("  %s  failed %d of %d, mean %.2f s\n", arm.fingerprint, arm.Bad, arm.Requests, arm.MeanSeconds)
	}
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
	c.showSources(s.Sources)
	if len(s.Degraded) > 0 {
		c.printf("\n")
		c.showDegraded(s.Degraded)
	}
	if q := s.Queue; q != nil {
		c.printf("\nqueue: %d waiting, %d under way, %d answered\n", q.Waiting, q.Running, q.Done)
	}
	if s.Canary != nil {
		c.showCanary(*s.Canary)
	}
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
