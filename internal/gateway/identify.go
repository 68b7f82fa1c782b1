package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/keywright/keywright/internal/gateway/identity"
)

// OpenApp is the name of the application that stands for every process of the gateway's own user with --open.
const OpenApp = "open"

// identify asks who calls.
func (g *Gateway) identify(r *http.Request, p *identity.Peer) (identity.Caller, *refusal) {
	if v := identity.Presented(r.Header); strings.HasPrefix(v, "sk-"+"ant-") && len(v) > 40 {
		return identity.Caller{}, &refusal{status: http.StatusUnauthorized, row: "real key",
			message: "a key of the provider was sent; take it out of the application's configuration and rotate it, and use a gateway token (keywright token issue)"}
	}
	for _, id := range g.rules.Load().Identify {
		c, err := id.Identify(r)
		switch {
		case err == nil:
			return c, nil
		case !errors.Is(err, identity.ErrNoOpinion):
			return identity.Caller{}, &refusal{status: http.StatusUnauthorized, row: "identity", message: "the identity was refused; a gateway token may have expired (keywright token issue)"}
		}
	}
	if g.o.Open {
		if p.Known && p.UID == os.Geteuid() {
			return identity.Caller{App: OpenApp}, nil
		}
		return identity.Caller{}, &refusal{status: http.StatusForbidden, row: "peer", message: "only processes of the gateway's own user are served without a token (keywright token issue)"}
	}
	return identity.Caller{}, &refusal{status: http.StatusUnauthorized, row: "identity", message: "a gateway token is needed in x-api-key or as a bearer (keywright token issue)"}
}

// withPeer is for each new connection. Who is at the other end of loopback matters to an open gateway alone.
func (g *Gateway) withPeer(ctx context.Context, c net.Conn) context.Context {
	return identity.WithPeer(ctx, c, g.o.Open)
}
