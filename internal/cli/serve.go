package cli

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
)

func (c *console) serveCommand() *cobra.Command {
	var o app.ServeOptions
	cmd := &cobra.Command{
		Use: "serve", Short: "run the daemon: drive rotations and answer on a Unix socket", GroupID: "setup", Args: cobra.NoArgs,
		Long: `Serve drives every rotation when its time comes, begins those of keys that are due where their policy is automatic, looks at every place and
at every key in use each quarter of an hour, signs an audit checkpoint each hour, and answers on a Unix socket, where other users of this host
approve with their own identity (rotation approve ID --socket PATH). With gateway.serve: true in the configuration it runs the gateway too; SIGHUP reads
that section anew. SIGTERM gives every rotation back with nothing half done, and lets requests under way end.`,
		Example: "  keywright serve -c /etc/keywright/keywright.yaml --socket /run/keywright/keywright.sock --group keywright",
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			if err := c.recover(cmd.Context(), a); err != nil {
				fmt.Fprintf(c.err, "keywright: %s\n", audit.Clean(err.Error()))
			}
			o.GatewayLog, o.Reload, o.GatewayReady = c.operatorLog(), c.config, c.gatewayReady
			o.ReadersReady = func(at net.Addr) { fmt.Fprintf(c.err, "keywright: readers on https://%s\n", at) }
			o.Ready = func(socket string) { fmt.Fprintf(c.err, "keywright: serving on %s\n", socket) }
			return a.Serve(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Socket, "socket", "", "path of the socket (default keywright.sock in the state directory)")
	cmd.Flags().StringVar(&o.Group, "group", "", "group that may open the socket")
	cmd.Flags().StringVar(&o.ReadersListen, "readers-listen", "", "host and port where enrolled readers get values over mutual TLS (default none)")
	return cmd
}
