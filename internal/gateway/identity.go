package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
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
	// nothing to anybody. Empty means that there is no identity, as with Options.Open.
	Proof string
}

func (c Caller) mayRoute(name string) bool {
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

// OpenApp is the name of the application that stands for every process of the gateway's own user with --open.
const OpenApp = "open"

// identify asks who calls.
func (g *Gateway) identify(r *http.Request, p *peer) (Caller, *refusal) {
	if v := presented(r.Header); strings.HasPrefix(v, "sk-"+"ant-") && len(v) > 40 {
		return Caller{}, &refusal{status: http.StatusUnauthorized, row: "real key",
			message: "a key of the provider was sent; take it out of the application's configuration and rotate it, and use a gateway token (keywright token issue)"}
	}
	for _, id := range g.rules.Load().Identify {
		c, err := id.Identify(r)
		switch {
		case err == nil:
			return c, nil
		case !errors.Is(err, ErrNoOpinion):
			return Caller{}, &refusal{status: http.StatusUnauthorized, row: "identity", message: "the identity was refused; a gateway token may have expired (keywright token issue)"}
		}
	}
	if g.o.Open {
		if p.known && p.uid == os.Geteuid() {
			return Caller{App: OpenApp}, nil
		}
		return Caller{}, &refusal{status: http.StatusForbidden, row: "peer", message: "only processes of the gateway's own user are served without a token (keywright token issue)"}
	}
	return Caller{}, &refusal{status: http.StatusUnauthorized, row: "identity", message: "a gateway token is needed in x-api-key or as a bearer (keywright token issue)"}
}

// presented gives what a request authenticates with: x-api-key, else the bearer. Claude Code sends the same in both.
func presented(h http.Header) string {
	if v := h.Get("X-Api-Key"); v != "" {
		return v
	}
	scheme, v, _ := strings.Cut(h.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(v)
	}
	return ""
}

// peer is what the system says about the other end of a connection.
type peer struct {
	unix  bool
	known bool
	uid   int
}

type peerKey struct{}

func peerOf(ctx context.Context) *peer {
	if p, ok := ctx.Value(peerKey{}).(*peer); ok {
		return p
	}
	return &peer{}
}

// withPeer asks the system who is at the other end of a new connection. A user that cannot be established is not known.
func (g *Gateway) withPeer(ctx context.Context, c net.Conn) context.Context {
	p := &peer{}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	switch c := c.(type) {
	case *net.UnixConn:
		p.unix = true
		p.uid, p.known = socketPeer(c)
	case *net.TCPConn:
		if !g.o.Open {
			break
		}
		from, err1 := netip.ParseAddrPort(c.RemoteAddr().String())
		to, err2 := netip.ParseAddrPort(c.LocalAddr().String())
		if err1 == nil && err2 == nil && from.Addr().Unmap().IsLoopback() {
			p.uid, p.known = tcpPeer(from, to)
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
	p := peerOf(r.Context())
	if !p.unix || !p.known {
		return Caller{}, ErrNoOpinion
	}
	if app, ok := i.Apps[p.uid]; ok {
		return Caller{App: app, Proof: proofUser + strconv.Itoa(p.uid)}, nil
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

// Certificates identifies callers by the certificate of mutual TLS, which Serve's configuration must verify.
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
