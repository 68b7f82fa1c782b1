// Package gateway is a reverse proxy in front of the provider that holds the keys, so that applications hold none: it chooses a key for each
// request, sets it on the wire, fails over to another where that helps, streams, counts, and takes a new key by one pointer swap.
//
// It never gives a provider key out, never retries after the first content of a stream reached the caller, never ends a cut stream as if it
// were whole, never proxies the administration of the provider, never believes a caller's 401 without a probe of its own, and never puts a
// value, a body or text of the provider into a log line, a metric or an event. What an answer means is decided by package verdict alone.
// app assembles it; keywright gateway runs it.
package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/cache"
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/gateway/ledger"
	"github.com/keywright/keywright/internal/gateway/spool"
	"github.com/keywright/keywright/internal/httpx"
)

// Defaults of Options.
const (
	DefaultMemoryBody  = 1 << 20
	DefaultSpill       = 2 << 30
	DefaultGateBytes   = 64 << 10
	DefaultGateTime    = 10 * time.Second
	DefaultFirstByte   = 30 * time.Second
	DefaultKeyChanges  = 2
	DefaultKeyRetries  = 2
	DefaultProbeEvery  = time.Minute
	DefaultMaxDuration = 15 * time.Minute
	DefaultCacheBytes  = 64 << 20
	DefaultCacheTime   = 10 * time.Minute
)

// Options configures a Gateway. Upstream is required, and Identify or Open.
type Options struct {
	// Upstream is scheme, host and perhaps a path of the provider; https, or http to a loopback address.
	Upstream string
	// RootCAs replaces the system's certificate authorities for the upstream when it is not nil.
	RootCAs *x509.CertPool
	// Hosts lists what the Host header may be, as host or host:port. Serve adds the address of each listener. A listed host without a
	// port stands for every port.
	Hosts []string
	// Origins lists the origins of web pages that may call, as scheme://host. Nothing else that a browser sends is served.
	Origins []string
	// Allow lists further routes as "METHOD /v1/path", exact. The provider's administration can never be listed.
	Allow []string
	// Open serves every process of the gateway's own user on loopback or a Unix socket, without an identity.
	Open bool
	// Identify are asked in order who calls; the first that knows wins.
	Identify []identity.Identifier
	// Apps holds what each application may do, by name. An application that is not listed may do what Default says.
	Apps map[string]App
	// Default is what an application may do that Apps does not list. The zero App has no limits.
	Default App
	// StateDir keeps the generation of the key set, the denied fingerprints and the ledger, mode 0700; empty keeps nothing. One Gateway uses
	// it at a time.
	StateDir string
	// SpillDir is where large bodies go, into files without a name. Empty means the system's temporary directory.
	SpillDir string
	// Log receives value-free lines for operators; nil logs nothing.
	Log *slog.Logger
	// Access receives one line of JSON for each request, in one Write; NewLines gathers them. Nil writes none.
	Access io.Writer
	// Events receives what happened to keys, in order, from one goroutine at a time. It must not block for long, and must not call the
	// Gateway. Nil drops them.
	Events func(event.Event)

	// MemoryBody is the largest request body kept in memory, in bytes; larger ones go to a file. Spill bounds all such files together.
	MemoryBody, Spill int64
	// GateBytes and GateTime bound how long a stream is held back for its first content.
	GateBytes int
	GateTime  time.Duration
	// FirstByte is the time in which attempts may begin, and in which a stream must answer.
	FirstByte time.Duration
	// MaxDuration bounds a request as a whole.
	MaxDuration time.Duration
	// KeyChanges and KeyRetries are the budgets of one request: other keys to try, and repetitions with the same key. Negative means none.
	KeyChanges, KeyRetries int
	// ProbeEvery is the pause between two probes of a key that is not healthy.
	ProbeEvery time.Duration
	// Transport replaces the network, for tests. The rules on upstream addresses do not apply then.
	Transport http.RoundTripper
	// Tracer makes the spans of requests and attempts; nil makes none.
	Tracer trace.Tracer
	// TraceUpstream sends the provider the W3C context of the attempt, or without a Tracer the caller's. The provider is a third party, so
	// without it no context goes out.
	TraceUpstream bool
	// CacheBytes, CacheTime and ReturnStep are as in Rules.
	CacheBytes            int64
	CacheTime, ReturnStep time.Duration
	// Queue is for callers that do not wait.
	Queue QueueOptions
	// Rand gives numbers in [0, 1) for jitter and slow start. Nil uses math/rand/v2.
	Rand func() float64
}

// Gateway is the proxy. It is an http.Handler; Serve puts it behind a listener with the right limits. All methods may be called from
// several goroutines. Make one with New and end it with Close.
type Gateway struct {
	o         Options
	upstream  *url.URL
	transport http.RoundTripper
	proxy     *httputil.ReverseProxy
	rules     atomic.Pointer[ruleBook]
	rulesMu   sync.Mutex // serialises Configure and the first request of an application
	log       *slog.Logger
	hosts     atomic.Pointer[map[string]bool]

	set       atomic.Pointer[keySet]
	swapMu    sync.Mutex // serialises Swap, Deny and the state file
	states    map[apikey.Digest]*keyState
	denied    map[apikey.Digest]bool
	scopes    scopes
	breaker   breakers
	spool     *spool.Spool
	refresh   refreshers
	left      leftValues
	told      teller
	keyPlaces keyPlaces
	trials    trials
	metrics   *metrics
	ledger    *ledger.Ledger // nil without a state directory
	owners    owners
	batches   batchCosts
	apps      sync.Map // name -> *appState
	nApps     atomic.Int64

	degraded degradation
	cache    *cache.Cache
	queue    waiting

	draining atomic.Bool
	active   atomic.Int64
	idle     chan struct{} // receives when active falls to zero

	events  chan event.Event
	ctx     context.Context //nolint:containedctx // The life of the gateway's own goroutines, ended by Close.
	stop    context.CancelCauseFunc
	spawnMu sync.Mutex
	workers sync.WaitGroup
}

var _ http.Handler = (*Gateway)(nil)

// New makes a Gateway without keys: it answers 503 until the first Swap. Errors are of kind Invalid, and those of reading StateDir.
func New(o Options) (*Gateway, error) {
	u, err := parseUpstream(o.Upstream, o.Transport != nil)
	if err != nil {
		return nil, err
	}
	if !o.Open && len(o.Identify) == 0 {
		return nil, fault.New(fault.Invalid, "make gateway: nobody could call it", fault.Hint("configure who may call, or use --open for your own processes alone"))
	}
	o.MemoryBody = cmp.Or(o.MemoryBody, DefaultMemoryBody)
	o.Spill = cmp.Or(o.Spill, DefaultSpill)
	o.GateBytes = cmp.Or(o.GateBytes, DefaultGateBytes)
	o.GateTime = cmp.Or(o.GateTime, DefaultGateTime)
	o.FirstByte = cmp.Or(o.FirstByte, DefaultFirstByte)
	o.MaxDuration = cmp.Or(o.MaxDuration, DefaultMaxDuration)
	o.KeyChanges = cmp.Or(o.KeyChanges, DefaultKeyChanges)
	o.KeyRetries = cmp.Or(o.KeyRetries, DefaultKeyRetries)
	o.ProbeEvery = cmp.Or(o.ProbeEvery, DefaultProbeEvery)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	g := &Gateway{
		o: o, upstream: u, transport: o.Transport, log: o.Log, states: map[apikey.Digest]*keyState{}, denied: map[apikey.Digest]bool{},
		metrics: newMetrics(), owners: ledger.NewMemory(), idle: make(chan struct{}, 1), events: make(chan event.Event, 1024),
		cache: cache.New(0, 0),
	}
	if err := g.Configure(Rules{
		Hosts: o.Hosts, Origins: o.Origins, Allow: o.Allow, Identify: o.Identify, Apps: o.Apps, Default: o.Default,
		CacheBytes: o.CacheBytes, CacheTime: o.CacheTime, ReturnStep: o.ReturnStep,
	}); err != nil {
		return nil, err
	}
	if g.spool, err = spool.New(o.SpillDir, o.MemoryBody, o.Spill); err != nil {
		return nil, err
	}
	if g.transport == nil {
		g.transport = newTransport(u, o.RootCAs)
	}
	if err := g.load(); err != nil {
		return nil, err
	}
	if o.StateDir != "" {
		if g.ledger, err = ledger.Open(context.Background(), o.StateDir); err != nil {
			return nil, err
		}
		g.owners = g.ledger
	}
	g.allowHosts()
	g.breaker.gateway = g
	g.proxy = &httputil.ReverseProxy{
		Rewrite: g.rewrite, Transport: (*keeper)(g), ModifyResponse: g.modify, ErrorHandler: g.failed, BufferPool: newBuffers(),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // ReverseProxy's own lines quote errors of the network.
	}
	g.set.Store(&keySet{generation: g.generation()})
	g.ctx, g.stop = context.WithCancelCause(context.Background())
	g.degraded.changed = make(chan struct{}, 1)
	if err := errors.Join(g.openQueue(g.ctx), g.redeclare(g.ctx)); err != nil {
		g.Close()
		return nil, err
	}
	g.spawn(g.deliver)
	g.spawn(g.prune)
	g.spawn(g.keepHouse)
	if g.queue.q != nil {
		g.spawn(g.dispatch)
	}
	return g, nil
}

// Close ends the gateway's own work: probes, watchers, idle connections. It does not wait for requests: see Drain. It may be called twice.
func (g *Gateway) Close() {
	g.spawnMu.Lock()
	g.stop(fault.New(fault.Canceled, "stopping"))
	g.spawnMu.Unlock()
	g.workers.Wait()
	if t, ok := g.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
	if g.ledger != nil {
		if err := g.ledger.Close(); err != nil {
			g.log.Error("the gateway's ledger did not close well", "error", err)
		}
	}
}

// spawn starts work that Close ends; after Close it starts nothing.
func (g *Gateway) spawn(work func()) {
	g.spawnMu.Lock()
	defer g.spawnMu.Unlock()
	if g.ctx.Err() == nil {
		g.workers.Go(work)
	}
}

// tell queues an event; when the receiver is far behind, the event is dropped and counted.
func (g *Gateway) tell(e event.Event) {
	e.At, e.Actor = time.Now().UTC(), "keywright"
	switch e.Type {
	case KeysSwapped, KeyHealthy, KeyRevoked, KeyDenied:
		g.watchKeys()
	default:
	}
	select {
	case g.events <- e:
	default:
		g.metrics.eventsLost.Add(1)
	}
}

func (g *Gateway) deliver() {
	for {
		select {
		case e := <-g.events:
			g.told.add(e)
			g.log.Info("gateway event", "type", string(e.Type), "key", string(e.Key), "fields", e.Fields)
			if g.o.Events != nil {
				g.o.Events(e)
			}
		case <-g.ctx.Done():
			return
		}
	}
}

func parseUpstream(raw string, test bool) (*url.URL, error) {
	bad := func(what string) (*url.URL, error) {
		return nil, fault.New(fault.Invalid, "read upstream: "+what, fault.Hint("write it as https://host or https://host/path"))
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return bad("it is no absolute URL")
	case u.User != nil:
		return bad("it holds a user name or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return bad("it holds a query or fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || !test && !httpx.LoopbackName(u.Hostname())):
		return bad("it is neither https nor http to loopback")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if u.RawPath != "" {
		return bad("its path needs escaping")
	}
	return u, nil
}

// newTransport is tuned for one upstream with many calls at a time. No proxy is used: the upstream is pinned.
func newTransport(u *url.URL, roots *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: httpx.DialControl(u.Scheme == "http")}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    1024,
		IdleConnTimeout:        50 * time.Second,
		MaxResponseHeaderBytes: 128 << 10,
		DisableCompression:     true, // bodies pass unchanged
	}
}

// buffers lends the buffers that bodies are copied with.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{pool: sync.Pool{New: func() any { b := make([]byte, 8<<10); return &b }}}
}

func (b *buffers) Get() []byte  { return *b.pool.Get().(*[]byte) }
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
