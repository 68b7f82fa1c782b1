package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/gateway/tracing"
	"github.com/keywright/keywright/internal/keysource"
)

// GatewayOptions is what a gateway needs.
type GatewayOptions struct {
	// Listen is host:port, or unix:PATH for a socket of mode 0600.
	Listen string
	// Upstream is the provider's address.
	Upstream string
	// Source says which keys there are, and where each is read.
	Source gateway.Source
	// OpenKey opens what is neither file: nor env: in Source; nil is OpenKey of this package.
	OpenKey func(ref keysource.Ref) (keysource.Reader, error)
	// Open serves every process of this user without a token.
	Open bool
	// Certificate and CertificateKey are PEM files; both or none. ClientCA is a PEM file of authorities whose certificates callers may show.
	Certificate, CertificateKey, ClientCA string
	// Tokens says whether the tokens of the state directory are believed.
	Tokens bool
	// Rules say who may call besides, and what.
	Rules gateway.Rules
	// StateDir is where the signing key, the status socket and the list of refused values live; see GatewayDir.
	StateDir string
	// Queue keeps requests of callers that do not wait; nil is a gateway without a queue.
	Queue *GatewayQueue
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
	// Again gives the options anew, after SIGHUP. Nil means that they do not change.
	Again func(ctx context.Context) (GatewayOptions, error)
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

// FlagSource is the source of a gateway without a configuration. Its keys are one failover group: who gives a backup wants it used when the key is
// dead, in whatever workspace it is, but not to escape a limit.
func FlagSource(key keysource.Ref, backups []keysource.Ref, dir string, development bool) gateway.Source {
	const group = "command-line"
	s := gateway.Source{Dir: dir, Development: development, Groups: map[string]gateway.Group{group: {On401: true}},
		Keys: []gateway.SourceKey{{Name: "primary", Ref: key, Group: group}}}
	for i, ref := range backups {
		name := apikey.Name("backup")
		if i > 0 {
			name = apikey.Name(fmt.Sprintf("backup-%d", i+1))
		}
		s.Keys = append(s.Keys, gateway.SourceKey{Name: name, Ref: ref, Group: group})
	}
	return s
}

// RunGateway serves until ctx is done, and then drains. SIGHUP reads the keys and the options anew; options that cannot be used change nothing.
// Kinds: Invalid, Conflict (another gateway uses the state directory, or the address is taken), Incomplete (requests were cut off at the end of
// the grace), and those of the files.
func RunGateway(ctx context.Context, o GatewayOptions) (err error) {
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return fault.Wrap(fault.Forbidden, err, "make state directory")
	}
	// The status socket is taken first: it is also what keeps a second gateway out of the state directory.
	status, err := gateway.ListenUnix(gateway.Socket(o.StateDir))
	if err != nil {
		return fault.In(err, "start gateway")
	}
	defer func() { _ = status.Close() }() // ServeAdmin has closed it, but for an early failure
	r := &gatewayRun{GatewayOptions: o}
	if r.tokens, err = r.believed(); err != nil {
		return err
	}
	if err := r.present(o); err != nil {
		return err
	}
	options := gateway.Options{Upstream: o.Upstream, Open: o.Open, StateDir: o.StateDir, Log: o.Log}
	options.Queue = o.Queue.options(o.StateDir)
	rules := r.rules(o)
	options.Hosts, options.Origins, options.Allow, options.Identify, options.Apps, options.Default = rules.Hosts, rules.Origins, rules.Allow, rules.Identify, rules.Apps, rules.Default
	options.CacheBytes, options.CacheTime, options.ReturnStep = rules.CacheBytes, rules.CacheTime, rules.ReturnStep
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
	if r.g, err = gateway.New(options); err != nil {
		return err
	}
	defer r.g.Close()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	admin := make(chan error, 1)
	go func() {
		err := r.g.ServeAdmin(ctx, status)
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
	if err := r.follow(ctx, o); err != nil {
		return err
	}
	stopped := r.onHangup(ctx)
	defer func() {
		cancel(nil)
		<-stopped
	}()
	l, err := o.listen(ctx)
	if err != nil {
		return err
	}
	if err := r.g.Safe(l, r.tls()); err != nil {
		return errors.Join(err, l.Close())
	}
	if o.Ready != nil {
		o.Ready(l.Addr(), r.g.Status())
	}
	return r.g.Serve(ctx, l, r.tls(), o.Grace)
}

// gatewayRun is a gateway that runs.
type gatewayRun struct {
	GatewayOptions
	g      *gateway.Gateway
	tokens identity.Identifier
	proof  atomic.Pointer[tls.Config]
}

// believed gives what knows the tokens of the state directory. The signing key is made even where tokens are not believed yet, so that they can be
// later without a restart.
func (r *gatewayRun) believed() (identity.Identifier, error) {
	signer, err := identity.OpenSigner(r.StateDir)
	if err != nil {
		return nil, err
	}
	return signer.Tokens()
}

// follow opens the places of the keys and follows them.
func (r *gatewayRun) follow(ctx context.Context, o GatewayOptions) error {
	s := o.Source
	s.Keys = slices.Clone(s.Keys)
	for i, k := range s.Keys {
		scheme, _, _ := strings.Cut(string(k.Ref), ":")
		if k.Reader != nil || scheme == "file" || scheme == "env" {
			continue
		}
		open := o.OpenKey
		if open == nil {
			open = func(ref keysource.Ref) (keysource.Reader, error) { return OpenKey(ref, s.Dir, s.Development) }
		}
		var err error
		if s.Keys[i].Reader, err = open(k.Ref); err != nil {
			return fault.In(err, "open source of key "+string(k.Name))
		}
	}
	return r.g.Follow(ctx, s)
}

// rules puts the ways in which callers are known in order: what the system or a certificate vouches for comes before what a request brings.
func (r *gatewayRun) rules(o GatewayOptions) gateway.Rules {
	rules := o.Rules
	if o.Tokens {
		rules.Identify = append(slices.Clone(rules.Identify), r.tokens)
	}
	return rules
}

// present loads the certificate; connections that come later are served with it.
func (r *gatewayRun) present(o GatewayOptions) error {
	if o.Certificate == "" && o.CertificateKey == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(o.Certificate, o.CertificateKey)
	if err != nil {
		return fault.New(fault.Invalid, "read certificate: the two files are not a certificate and its key", fault.Hint("give both a certificate and its key, in PEM"))
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if o.ClientCA != "" {
		text, err := os.ReadFile(o.ClientCA)
		if err != nil {
			return fault.Wrap(fault.NotFound, err, "read authorities of callers")
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
		if !c.ClientCAs.AppendCertsFromPEM(text) {
			return fault.New(fault.Invalid, "read authorities of callers: the file holds no certificate in PEM")
		}
	}
	r.proof.Store(c)
	return nil
}

// tls gives what connections are served with, or nil for none.
func (r *gatewayRun) tls() *tls.Config {
	if r.proof.Load() == nil {
		return nil
	}
	c := r.proof.Load().Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.proof.Load(), nil }
	return c
}

// onHangup reads everything anew at each SIGHUP, until ctx is done. The channel is closed then.
func (r *gatewayRun) onHangup(ctx context.Context) <-chan struct{} {
	stopped := make(chan struct{})
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer close(stopped)
		defer signal.Stop(hangups)
		for {
			select {
			case <-hangups:
				if err := r.again(ctx); err != nil && ctx.Err() == nil {
					r.Log.Error("the configuration cannot be used; the former one stays", "problem", err.Error(), "hint", fault.HintOf(err))
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return stopped
}

// again reads the options anew and puts in force what may change while the gateway runs.
func (r *gatewayRun) again(ctx context.Context) error {
	r.g.Refresh()
	if r.Again == nil {
		return nil
	}
	next, err := r.Again(ctx)
	if err != nil {
		return err
	}
	for what, same := range map[string]bool{
		"listen": next.Listen == r.Listen, "upstream": next.Upstream == r.Upstream, "open": next.Open == r.Open, "state_dir": next.StateDir == r.StateDir,
		"access_log": next.AccessLog == r.AccessLog, "grace": next.Grace == r.Grace, "tls": (next.Certificate == "") == (r.Certificate == ""),
		"queue": reflect.DeepEqual(next.Queue, r.Queue), "traces": next.Collector == r.Collector && next.TraceUpstream == r.TraceUpstream,
	} {
		if !same {
			r.Log.Warn("a setting of the gateway changed that needs a restart", "setting", what)
		}
	}
	// Each of the three refuses as a whole; what was read first is put back when a later one cannot be used.
	former := r.proof.Load()
	if former != nil {
		if err := r.present(next); err != nil {
			return err
		}
	}
	if err := r.g.Configure(r.rules(next)); err != nil {
		r.proof.Store(former)
		return err
	}
	next.OpenKey = r.OpenKey
	if err := r.follow(ctx, next); err != nil {
		r.proof.Store(former)
		return errors.Join(err, r.g.Configure(r.rules(r.GatewayOptions)))
	}
	r.Rules, r.Tokens, r.Source = next.Rules, next.Tokens, next.Source
	r.Log.Info("the configuration was read anew")
	return nil
}

func (o GatewayOptions) listen(ctx context.Context) (net.Listener, error) {
	if path, ok := strings.CutPrefix(o.Listen, "unix:"); ok {
		return gateway.ListenUnix(path)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fault.Wrap(fault.Conflict, err, "start gateway", fault.Hint("choose another address to listen on, such as 127.0.0.1:0"))
	}
	return l, nil
}

// GatewayStatus asks the gateway that runs in a state directory. It is NotFound where none answers.
func GatewayStatus(ctx context.Context, dir string) (gateway.Status, error) {
	var s gateway.Status
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", gateway.Socket(dir))
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway/status", nil)
	if err != nil {
		return s, fault.Wrap(fault.Unknown, err, "ask gateway")
	}
	res, err := client.Do(req)
	if err != nil {
		return s, fault.New(fault.NotFound, "ask gateway: none answers on "+gateway.Socket(dir), fault.Hint("start it with keywright gateway, or name its directory with --state-dir"))
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
