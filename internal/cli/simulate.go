package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/simulator"
)

func (c *console) simulateCommand() *cobra.Command {
	var listen, state, adminFile string
	o := simulator.Options{}
	cmd := &cobra.Command{
		Use: "simulate", Short: "run a simulation of the provider's API, for demo, tests and drills", GroupID: "setup", Args: cobra.NoArgs,
		Long: `Simulate serves the provider's API as a stateful server, with a small Console page where a person makes a key. It is a simulation, says
so on every page and in every reply, and knows nothing of real keys. It listens on loopback alone.`,
		Example: "  keywright simulate --listen 127.0.0.1:8484 --state sim.json --admin-key-file admin.key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Log = c.log()
			sim := simulator.New(o)
			if state != "" {
				var err error
				if sim, err = simulator.Open(state, o); err != nil {
					return fault.Wrap(fault.Invalid, err, "simulate")
				}
			}
			return c.simulate(cmd.Context(), sim, listen, adminFile)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:8484", "loopback address to listen on; port 0 takes a free one")
	f.StringVar(&state, "state", "", "file that keeps the state over restarts (digests of values, never values)")
	f.StringVar(&adminFile, "admin-key-file", "", "write a new admin key into this file, which must not exist (mode 0600)")
	f.DurationVar(&o.UsageLag, "usage-lag", 0, "how far the usage report is behind")
	f.DurationVar(&o.StatusDelay, "status-delay", 0, "how long a change of status takes to take effect")
	f.DurationVar(&o.Latency, "latency", 0, "delay of every reply")
	return cmd
}

func (c *console) simulate(ctx context.Context, sim *simulator.Simulator, listen, adminFile string) (err error) {
	defer func() { err = errors.Join(err, sim.Close()) }()
	host, _, splitErr := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); splitErr != nil || ip == nil || !ip.IsLoopback() {
		return usageError{fault.New(fault.Invalid, fmt.Sprintf("simulate: %q is no loopback address with a port", listen), fault.Hint("use 127.0.0.1:8484"))}
	}
	if adminFile != "" {
		if err := writeNew(adminFile, []byte(sim.AdminKey()+"\n")); err != nil {
			return err
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fault.Wrap(fault.Conflict, err, "simulate", fault.Hint("choose another port with --listen"))
	}
	server := &http.Server{Handler: sim.Handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	c.printf("simulation of the provider's API at http://%s\nConsole, to make a key by hand: http://%s/console\n", l.Addr(), l.Addr())
	if adminFile != "" {
		c.printf("admin key: file:%s\n", adminFile)
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fault.Wrap(fault.Unavailable, err, "simulate")
	}
	return nil
}

// writeNew writes a private file that must not exist.
func writeNew(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.Wrap(fault.Conflict, err, "write new file", fault.Hint("choose a file that does not exist"))
	}
	_, err = f.Write(content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return fault.Wrap(fault.Unavailable, err, "write new file")
}
