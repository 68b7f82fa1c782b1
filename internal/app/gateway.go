package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/gateway/tracing"
	"github.com/keywright/keywright/internal/secret"
)

// GatewayOptions is what a gateway needs that runs without a configuration file.
type GatewayOptions struct {
	// Listen is host:port, or unix:PATH for a socket of mode 0600.
	Listen string
	// Upstream is the provider's address.
	Upstream string
	// Key is the one to use, Backups are tried after it, in order. Relative paths start at Dir.
	Key     secret.Ref
	Backups []secret.Ref
	Dir     string
	// Open serves every process of this user without a token. Development permits values from the environment.
	Open, Development bool
	// Certificate and CertificateKey are PEM files; both or none.
	Certificate, CertificateKey string
	// StateDir is where the signing key, the status socket and the list of refused values live; see GatewayDir.
	StateDir string
	// AccessLog is a file that receives a line of JSON for each request; empty writes none.
	AccessLog string
	// Collector is the base address of an OTLP collector for spans; empty leaves that to the OTEL_* variables. TraceUpstream sends the
	// provider the context of its calls.
	Collector     string
	TraceUpstream bool
	// Version is the program's, for the spans.
	Version string
	// Grace is how long a gateway that stops waits for requests under way.
	Grace time.Duration
	Log   *slog.Logger
	// Ready is called once, when requests are taken.
	Ready func(address net.Addr, s gateway.Status)
}

// GatewayDir gives the directory of a gateway without a configuration: dir itself, or where it is empty the user's own. It does not make it.
func GatewayDir(dir string) (string, error) {
	if dir != "" {
		return filepath.Abs(dir)
	}
	dirs, err := config.UserDirs()
	return filepath.Join(dirs.State, "gateway"), err
}

// RunGateway serves until ctx is done, and then drains. SIGHUP reads the keys anew. Kinds: Invalid, Conflict (another gateway uses the state
// directory, or the address is taken), Incomplete (requests were cut off at the end of the grace), and those of the files.
func RunGateway(ctx context.Context, o GatewayOptions) (err error) {
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return fault.Wrap(fault.Forbidden, err, "make state directory")
	}
	signer, err := gateway.OpenSigner(o.StateDir)
	if err != nil {
		return err
	}
	tokens, err := signer.Tokens()
	if err != nil {
		return err
	}
	options := gateway.Options{Upstream: o.Upstream, Open: o.Open, Identify: []gateway.Identifier{tokens}, StateDir: o.StateDir, Log: o.Log}
	spans, err := tracing.Start(ctx, tracing.Options{Endpoint: o.Collector, Version: o.Version, Log: o.Log})
	if err != nil {
		return err
	}
	defer spans.Stop(ctx) // behind the last request
	options.Tracer, options.TraceUpstream = spans.Tracer(), o.TraceUpstream
	if o.AccessLog != "" {
		f, err := os.OpenFile(o.AccessLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return fault.Wrap(fault.Forbidden, err, "open access log")
		}
		defer f.Close()
		lines := gateway.NewLines(f)
		defer func() { err = errors.Join(err, lines.Close()) }()
		options.Access = lines
	}
	tlsConfig, err := o.tls()
	if err != nil {
		return err
	}
	g, err := gateway.New(options)
	if err != nil {
		return err
	}
	defer g.Close()

	// The status socket is taken first: it is also what keeps a second gateway out of the state directory.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	status, err := gateway.ListenUnix(gatewaySocket(o.StateDir))
	if err != nil {
		return fault.In(err, "start gateway")
	}
	admin := make(chan error, 1)
	go func() {
		err := g.ServeAdmin(ctx, status)
		if err != nil {
			cancel(err)
		}
		admin <- err
	}()
	defer func() {
		cancel(nil)
		if failed := <-admin; err == nil {
			err = failed
		}
	}()
	if err := g.Follow(ctx, o.source()); err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	go func() {
		for {
			select {
			case <-hangups:
				g.Refresh()
			case <-ctx.Done():
				return
			}
		}
	}()
	l, err := o.listen(ctx)
	if err != nil {
		return err
	}
	if err := g.Safe(l, tlsConfig); err != nil {
		return errors.Join(err, l.Close())
	}
	if o.Ready != nil {
		o.Ready(l.Addr(), g.Status())
	}
	return g.Serve(ctx, l, tlsConfig, o.Grace)
}

// source names the keys. They are one failover group: who gives a backup wants it used when the key is dead, in whatever workspace it is, but not to
// escape a limit.
func (o GatewayOptions) source() gateway.Source {
	const group = "command-line"
	s := gateway.Source{Dir: o.Dir, Development: o.Development, Groups: map[string]gateway.Group{group: {On401: true}},
		Keys: []gateway.SourceKey{{Name: "primary", Ref: keysource.Ref(o.Key), Group: group}}}
	for i, ref := range o.Backups {
		name := apikey.Name("backup")
		if i > 0 {
			name = apikey.Name(fmt.Sprintf("backup-%d", i+1))
		}
		s.Keys = append(s.Keys, gateway.SourceKey{Name: name, Ref: keysource.Ref(ref), Group: group})
	}
	return s
}

func (o GatewayOptions) tls() (*tls.Config, error) {
	if o.Certificate == "" && o.CertificateKey == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(o.Certificate, o.CertificateKey)
	if err != nil {
		return nil, fault.New(fault.Invalid, "read certificate: the two files are not a certificate and its key", fault.Hint("give both --tls-cert and --tls-key, in PEM"))
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, nil
}

func (o GatewayOptions) listen(ctx context.Context) (net.Listener, error) {
	if path, ok := strings.CutPrefix(o.Listen, "unix:"); ok {
		return gateway.ListenUnix(path)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fault.Wrap(fault.Conflict, err, "start gateway", fault.Hint("choose another address with --listen, such as 127.0.0.1:0"))
	}
	return l, nil
}

func gatewaySocket(dir string) string { return filepath.Join(dir, "gateway.sock") }

// GatewayStatus asks the gateway that runs in a state directory. It is NotFound where none answers.
func GatewayStatus(ctx context.Context, dir string) (gateway.Status, error) {
	var s gateway.Status
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", gatewaySocket(dir))
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway/status", nil)
	if err != nil {
		return s, fault.Wrap(fault.Unknown, err, "ask gateway")
	}
	res, err := client.Do(req)
	if err != nil {
		return s, fault.New(fault.NotFound, "ask gateway: none answers on "+gatewaySocket(dir), fault.Hint("start it with keywright gateway, or name its directory with --state-dir"))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return s, fault.New(fault.Forbidden, "ask gateway: it answers its own user alone")
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 4<<20)).Decode(&s); err != nil {
		return s, fault.New(fault.Unavailable, "ask gateway: the answer is not whole")
	}
	return s, nil
}
