package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/api"
	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/handover"
	"github.com/keywright/keywright/internal/keyfile"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/keysource/all"
	"github.com/keywright/keywright/internal/release"
	"github.com/keywright/keywright/internal/store"
)

// OpenKey opens a place of a value for a program without a configuration. Relative paths start at dir. Kinds are those of all.Open.
func OpenKey(ref keysource.Ref, dir string, development bool) (keysource.Reader, error) {
	return all.Open(ref, all.Options{Dir: dir, Development: development})
}

// OpenKey is OpenKey that knows store:KEY too. Reader is the name in the audit log of who reads the store, such as "gateway".
func (a *App) OpenKey(ref keysource.Ref, reader string, development bool) (keysource.Reader, error) {
	return all.Open(ref, all.Options{Dir: a.Config.Dir, Development: development, Store: func(key apikey.Name) (keysource.Reader, error) {
		if a.Config.Keys[key] == nil {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("open place: there is no key %q", string(key)), fault.Hint("keywright key list"))
		}
		return a.released.Reader(key, reader+"@"+hostName()), nil
	}})
}

func hostName() string {
	_, host, _ := cutLast(systemUser())
	return host
}

// cutLast cuts "user@host" at the last @.
func cutLast(s string) (before, after string, found bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '@' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "localhost", false
}

// releaseRoute answers programs on the daemon's own socket. Whoever runs the daemon reads every key; others are listed as user:NAME.
func (a *App) releaseRoute(stop <-chan struct{}) api.Route {
	desk := release.NewDesk(a.released, stop, func(r *http.Request) (release.Caller, error) {
		who, ok := api.PersonOf(r.Context())
		if !ok {
			return release.Caller{}, fault.New(fault.Forbidden, "release value: only users of this host are known here")
		}
		names := []string{"user:" + strconv.Itoa(who.UID)}
		if u, err := user.LookupId(strconv.Itoa(who.UID)); err == nil {
			names = append(names, "user:"+u.Username)
		}
		return release.Caller{Name: who.Name, Way: "socket", Reader: handover.Local, May: func(key apikey.Name) bool {
			k := a.Config.Keys[key]
			return k != nil && (who.UID == a.UID || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(k.Readers, n) }))
		}}, nil
	})
	return api.Route{Pattern: "POST " + handover.Path, Answer: desk.Answer}
}

// readerRoute answers enrolled readers over mutual TLS.
func (a *App) readerRoute(stop <-chan struct{}) api.Route {
	desk := release.NewDesk(a.released, stop, func(r *http.Request) (release.Caller, error) {
		unknown := fault.New(fault.Forbidden, "release value: the certificate is not that of an enrolled reader", fault.Hint("keywright reader list, on the daemon's host"))
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			return release.Caller{}, unknown
		}
		list, err := a.Readers(r.Context())
		if err != nil {
			return release.Caller{}, err
		}
		pin := handover.PinOf(r.TLS.PeerCertificates[0])
		i := slices.IndexFunc(list, func(e release.Enrolled) bool { return e.Pin == pin })
		switch {
		case i < 0:
			return release.Caller{}, unknown
		case !a.now().Before(list[i].Expires):
			return release.Caller{}, fault.New(fault.Forbidden, fmt.Sprintf("release value: the time of reader %s is over", list[i].Name), fault.Hint("revoke and enroll it again: keywright reader enroll"))
		}
		e := list[i]
		return release.Caller{Name: "reader " + e.Name, Way: "mutual TLS", Reader: e.Name, To: e.To, May: func(key apikey.Name) bool {
			k := a.Config.Keys[key]
			return k != nil && slices.Contains(k.Readers, e.Name)
		}}, nil
	})
	return api.Route{Pattern: "POST " + handover.Path, Answer: desk.Answer}
}

// serveReaders listens for enrolled readers until ctx ends. It returns when it listens, with the address.
func (a *App) serveReaders(ctx context.Context, address string, duties *sync.WaitGroup, fail context.CancelCauseFunc) (net.Addr, error) {
	certificate, err := daemonCertificate()
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fault.Wrap(fault.Conflict, err, "listen for readers", fault.Hint("choose another address with --readers-listen"))
	}
	server := &http.Server{
		Handler: api.Routes(a.readerRoute(ctx.Done())), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: handover.MaxWait + 15*time.Second, WriteTimeout: handover.MaxWait + 30*time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // its own lines quote what strangers send
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert},
	}
	duties.Go(func() {
		if err := server.ServeTLS(l, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) {
			fail(fault.Wrap(fault.Unavailable, err, "serve readers"))
		}
	})
	duties.Go(func() {
		<-ctx.Done()
		stopping, done := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer done()
		if server.Shutdown(stopping) != nil {
			_ = server.Close()
		}
	})
	return l.Addr(), nil
}

// daemonKey is the file of the key that readers know the daemon by. It is outside the state directory, so that no backup has it.
const daemonKey = "release.key"

const maxDaemonKey = 4 << 10

// daemonCertificate opens or makes the daemon's side of mutual TLS.
func daemonCertificate() (tls.Certificate, error) {
	dir, err := config.UserDir()
	if err != nil {
		return tls.Certificate{}, err
	}
	path := filepath.Join(dir, daemonKey)
	for range 2 {
		b, err := keyfile.Read(path, keyfile.Delivered, maxDaemonKey)
		if err == nil {
			parsed, err := x509.ParsePKCS8PrivateKey(b)
			clear(b)
			key, ok := parsed.(*ecdsa.PrivateKey)
			if err != nil || !ok {
				return tls.Certificate{}, fault.New(fault.Corrupt, fmt.Sprintf("read %q: it is no key", path), fault.Hint("restore it from your backup; with a new one every reader must learn the new pin"))
			}
			return handover.SelfSigned(key, "keywright")
		}
		if !fault.Is(err, fault.NotFound) {
			return tls.Certificate{}, err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return tls.Certificate{}, fault.Wrap(fault.Unknown, err, "make key")
		}
		if b, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return tls.Certificate{}, fault.Wrap(fault.Unknown, err, "make key")
		}
		err = keyfile.Create(path, keyfile.Private, b)
		clear(b)
		if err != nil && !fault.Is(err, fault.Conflict) { // another process was faster
			return tls.Certificate{}, err
		}
	}
	return tls.Certificate{}, fault.Newf(fault.Unavailable, "read %q: it comes and goes", path)
}

// DaemonPin is what enrolled readers know this daemon by. The key is made where there is none.
func DaemonPin() (handover.Pin, error) {
	c, err := daemonCertificate()
	if err != nil {
		return handover.Pin{}, err
	}
	return handover.PinOf(c.Leaf), nil
}

// Readers lists the enrolled readers by name.
func (a *App) Readers(ctx context.Context) (list []release.Enrolled, err error) {
	err = a.Store.View(ctx, func(tx *store.Tx) (err error) {
		list, err = release.Readers(tx)
		return err
	})
	return list, err
}

// EnrollReader makes a program known for a time. Kinds: Invalid, Conflict.
func (a *App) EnrollReader(ctx context.Context, p handover.Public, life time.Duration) (release.Enrolled, error) {
	e := release.Enrolled{Public: p, At: a.now().UTC().Truncate(time.Second), By: a.Actor, Expires: a.now().Add(life).UTC().Truncate(time.Second)}
	if life <= 0 {
		return e, fault.New(fault.Invalid, "enroll reader: its time must be longer than nothing")
	}
	return e, a.Store.Update(ctx, func(tx *store.Tx) error { return release.Enroll(tx, e) })
}

// RevokeReader makes a program unknown: its next request is refused. Kind: NotFound.
func (a *App) RevokeReader(ctx context.Context, name string) error {
	return a.Store.Update(ctx, func(tx *store.Tx) error { return release.Revoke(tx, name, a.Actor) })
}
