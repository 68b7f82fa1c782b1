// Package identity says who calls a gateway: by a token of its own, by a JSON web token of an issuer that is believed, by a verified certificate, or by
// the user that the system vouches for at the other end of a connection. It issues, records and revokes the gateway's tokens.
//
// It never decides what a caller may do, never gives a provider key to anybody, and never shows a caller why an identity was refused. The gateway asks
// it at each request; keywright token issues and revokes with it.
package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Caller is who makes a request, as an Identifier vouches for it.
type Caller struct {
	// App is the application's name: the unit of guards, metrics and logs.
	App string
	// Routes and Models narrow what App may do; empty lists do not.
	Routes, Models []string
	// Proof names what the Identifier believed, such as the id of a token, so that it can be asked again later: see Rechecker. It proves
	// nothing to anybody. Empty means that there is no identity, as with an open gateway.
	Proof string
}

// MayRoute reports whether the identity reaches a route; what the application may do is decided elsewhere.
func (c Caller) MayRoute(name string) bool {
	return len(c.Routes) == 0 || slices.Contains(c.Routes, name)
}

// Identifier says who calls. ErrNoOpinion means that the request carries nothing for this Identifier; any other error refuses the request
// with 401, and its text is not shown to the caller. It may be called from several goroutines and must be quick.
type Identifier interface {
	Identify(r *http.Request) (Caller, error)
}

// Rechecker is the ability of an Identifier to say whether it still vouches for a caller, when a request is dispatched that waited in the
// queue. An identity that has merely expired meanwhile still counts; one that was revoked, or stands for another application now, does not.
// ErrNoOpinion means that the proof is not its own.
type Rechecker interface {
	Recheck(c Caller) error
}

// The starts of proofs, by Identifier.
const (
	proofToken = "token:"
	proofUser  = "uid:"
	proofName  = "certificate:"
	proofOIDC  = "oidc:"
)

// errNotAgain: an identity that was believed is not any more.
var errNotAgain = errors.New("the identity is not believed any more")

// ErrNoOpinion lets the next Identifier decide.
var ErrNoOpinion = errors.New("no opinion")

// Presented gives what a request authenticates with: x-api-key, else the bearer. Claude Code sends the same in both.
func Presented(h http.Header) string {
	if v := h.Get("X-Api-Key"); v != "" {
		return v
	}
	scheme, v, _ := strings.Cut(h.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(v)
	}
	return ""
}

// Peer is what the system says about the other end of a connection.
type Peer struct {
	Unix  bool // it is a Unix socket
	Known bool // uid is known
	UID   int
}

type peerKey struct{}

// PeerOf gives what WithPeer established, or a peer of which nothing is known.
func PeerOf(ctx context.Context) *Peer {
	if p, ok := ctx.Value(peerKey{}).(*Peer); ok {
		return p
	}
	return &Peer{}
}

// WithPeer asks the system who is at the other end of a new connection, and keeps the answer for PeerOf. A user that cannot be established is not
// known. tcp asks for the user of a connection over loopback too, which costs a look at all connections of the host.
func WithPeer(ctx context.Context, c net.Conn, tcp bool) context.Context {
	p := &Peer{}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	switch c := c.(type) {
	case *net.UnixConn:
		p.Unix = true
		p.UID, p.Known = socketPeer(c)
	case *net.TCPConn:
		if !tcp {
			break
		}
		from, err1 := netip.ParseAddrPort(c.RemoteAddr().String())
		to, err2 := netip.ParseAddrPort(c.LocalAddr().String())
		if err1 == nil && err2 == nil && from.Addr().Unmap().IsLoopback() {
			p.UID, p.Known = tcpPeer(from, to)
		}
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// Peers identifies processes of this host by the user that the system vouches for on a Unix socket.
type Peers struct {
	// Apps gives the application of a user id.
	Apps map[int]string
}

var (
	_ Identifier = Peers{}
	_ Rechecker  = Peers{}
)

// Identify knows users on a Unix socket alone.
func (i Peers) Identify(r *http.Request) (Caller, error) {
	p := PeerOf(r.Context())
	if !p.Unix || !p.Known {
		return Caller{}, ErrNoOpinion
	}
	if app, ok := i.Apps[p.UID]; ok {
		return Caller{App: app, Proof: proofUser + strconv.Itoa(p.UID)}, nil
	}
	return Caller{}, ErrNoOpinion
}

// Recheck looks the user up again.
func (i Peers) Recheck(c Caller) error {
	text, ok := strings.CutPrefix(c.Proof, proofUser)
	if !ok {
		return ErrNoOpinion
	}
	uid, err := strconv.Atoi(text)
	if err != nil || i.Apps[uid] != c.App {
		return errNotAgain
	}
	return nil
}

// Certificates identifies callers by the certificate of mutual TLS, which the listener's configuration must verify.
type Certificates struct {
	// Apps gives the application of a name in the certificate: a URI, then a DNS name, then the common name.
	Apps map[string]string
}

var (
	_ Identifier = Certificates{}
	_ Rechecker  = Certificates{}
)

// Identify knows verified certificates alone. One whose names are not listed is refused.
func (i Certificates) Identify(r *http.Request) (Caller, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return Caller{}, ErrNoOpinion
	}
	leaf := r.TLS.VerifiedChains[0][0]
	var names []string
	for _, u := range leaf.URIs {
		names = append(names, u.String())
	}
	names = append(append(names, leaf.DNSNames...), leaf.Subject.CommonName)
	for _, n := range names {
		if app, ok := i.Apps[n]; ok && n != "" {
			return Caller{App: app, Proof: proofName + n}, nil
		}
	}
	return Caller{}, errors.New("the certificate names no application")
}

// Recheck looks the name up again.
func (i Certificates) Recheck(c Caller) error {
	name, ok := strings.CutPrefix(c.Proof, proofName)
	switch {
	case !ok:
		return ErrNoOpinion
	case i.Apps[name] != c.App:
		return errNotAgain
	}
	return nil
}
