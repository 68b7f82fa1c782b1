package gateway

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/identity"
)

// The limits of connections of callers.
const (
	headTime  = 10 * time.Second
	idleTime  = 2 * time.Minute
	maxHeader = 64 << 10
	// answerTime is how long a caller may take for the rest of an answer that is complete, or for one of the gateway's own.
	answerTime = 30 * time.Second
)

// Serve answers on a listener until ctx is done; then it lets no new request in, and waits up to grace for those that run, streams too. tlsConfig may
// be nil only for loopback and Unix sockets. The listener is closed in every case. Kinds: Invalid (a listener that is not safe), Incomplete
// (requests were cut off at the end of grace), Unavailable.
func (g *Gateway) Serve(ctx context.Context, l net.Listener, tlsConfig *tls.Config, grace time.Duration) error {
	defer func() { _ = l.Close() }() // the server has closed it, but for a refusal
	if err := g.Safe(l, tlsConfig); err != nil {
		return err
	}
	srv := g.server(tlsConfig)
	done := make(chan error, 1)
	go func() {
		if tlsConfig != nil {
			done <- srv.ServeTLS(l, "", "")
			return
		}
		done <- srv.Serve(l)
	}()
	select {
	case err := <-done:
		return fault.Wrap(fault.Unavailable, err, "serve gateway")
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := g.Drain(bounded)
	if shut := srv.Shutdown(bounded); err == nil && shut != nil {
		err = fault.New(fault.Incomplete, "drain gateway: connections were still busy")
	}
	_ = srv.Close()
	if ended := <-done; err == nil && !errors.Is(ended, http.ErrServerClosed) {
		err = fault.Wrap(fault.Unavailable, ended, "serve gateway")
	}
	return err
}

func (g *Gateway) server(tlsConfig *tls.Config) *http.Server {
	return &http.Server{
		Handler: g, ConnContext: g.withPeer, ReadHeaderTimeout: headTime, WriteTimeout: g.writeTime(), IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, TLSConfig: tlsConfig,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // net/http's own lines quote what callers sent
	}
}

// writeTime bounds the time in which a caller takes its answer: one that does not read would hold the key of its request for ever, and with it the
// end of a rotation.
func (g *Gateway) writeTime() time.Duration { return g.o.MaxDuration + answerTime }

// Safe refuses a listener through which others could spend the keys, and learns its address as a Host. Serve asks it too; a caller asks it
// before saying that requests are taken. The error is of kind Invalid.
func (g *Gateway) Safe(l net.Listener, tlsConfig *tls.Config) error {
	if l.Addr().Network() == "unix" {
		return nil
	}
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return fault.New(fault.Invalid, "serve gateway: the listener is neither TCP nor a Unix socket")
	}
	loopback := at.Addr().Unmap().IsLoopback()
	switch {
	case !loopback && tlsConfig == nil:
		return fault.New(fault.Invalid, "serve gateway: beyond loopback it needs TLS", fault.Hint("listen on 127.0.0.1 or a Unix socket, or configure a certificate"))
	case !loopback && g.o.Open:
		return fault.New(fault.Invalid, "serve gateway: --open is for loopback and Unix sockets alone", fault.Hint("use gateway tokens: keywright token issue"))
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if !at.Addr().IsUnspecified() {
		g.allowHosts(l.Addr().String())
	}
	if loopback {
		g.allowHosts("localhost:" + port)
	}
	return nil
}

// bodyTime is how long a caller may take to send its body: a base, and time for its size at a slow line.
func bodyTime(length int64) time.Duration {
	if length < 0 {
		return 2 * time.Minute
	}
	return 20*time.Second + time.Duration(length/(64<<10))*time.Second
}

// Admin gives the handler of the status socket: GET /status, GET /metrics, POST /refresh. It holds no value and has no identity of its own:
// ServeAdmin lets in whom the system vouches for.
func (g *Gateway) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(g.Status())
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		g.WriteMetrics(w)
	})
	mux.HandleFunc("POST /refresh", func(w http.ResponseWriter, _ *http.Request) {
		g.Refresh()
		w.WriteHeader(http.StatusNoContent)
	})
	g.adminPlaces(mux)
	g.adminDegraded(mux)
	return mux
}

// ServeAdmin serves Admin on a listener of ListenUnix until ctx is done. Only our own user and root are served. The listener is closed in every
// case. The error is of kind Unavailable.
func (g *Gateway) ServeAdmin(ctx context.Context, l net.Listener) error {
	defer func() { _ = l.Close() }() // the server has closed it, but for a refusal
	admin := g.Admin()
	srv := &http.Server{
		ReadHeaderTimeout: headTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ConnContext: g.withPeer,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if p := identity.PeerOf(r.Context()); !p.Unix || p.Known && p.UID != os.Geteuid() && p.UID != 0 || r.Header.Get("Origin") != "" {
				http.Error(w, "not served", http.StatusForbidden)
				return
			}
			admin.ServeHTTP(w, r)
		}),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fault.Wrap(fault.Unavailable, err, "serve status socket")
	}
	return nil
}

// ListenUnix makes a Unix socket of mode 0600. One that is left over is replaced; one that answers is a Conflict.
func ListenUnix(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil { //nolint:noctx // It is local and bounded.
		c.Close()
		return nil, fault.New(fault.Conflict, "listen on "+path+": another process answers there", fault.Hint("stop that one first, or give this one a directory of its own"))
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fault.New(fault.Conflict, "listen on "+path+": it is no socket")
		}
		os.Remove(path)
	}
	l, err := listenPrivate(path)
	if err != nil {
		return nil, fault.Wrap(fault.Forbidden, err, "listen on socket")
	}
	return l, nil
}
