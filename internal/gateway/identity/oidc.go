package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
)

// OIDC says which JSON web tokens of others are believed: those of Kubernetes service accounts, CI systems or an identity provider. Nothing of
// a token chooses where keys are fetched or which algorithm holds.
type OIDC struct {
	// Issuer and Audience must be in the token.
	Issuer, Audience string
	// JWKS is the https URL of the issuer's keys; plain http to loopback alone.
	JWKS string
	// Algorithms are RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA. Empty means RS256 and ES256.
	Algorithms []string
	// Apps gives the application of a subject, exact or with a trailing "*".
	Apps map[string]string
	// RootCAs replaces the system's certificate authorities when it is not nil.
	RootCAs *x509.CertPool
}

type oidcIdentifier struct {
	o        OIDC
	verifier *oidc.IDTokenVerifier
	exact    map[string]string
	prefixes []string
}

var (
	_ Identifier = (*oidcIdentifier)(nil)
	_ Rechecker  = (*oidcIdentifier)(nil)
)

// NewOIDC makes an Identifier. Keys are fetched when the first token comes. Errors are of kind Invalid.
func NewOIDC(o OIDC) (Identifier, error) {
	u, err := url.Parse(o.JWKS)
	if err != nil || u.Scheme != "https" && (u.Scheme != "http" || !httpx.LoopbackName(u.Hostname())) || u.User != nil {
		return nil, fault.New(fault.Invalid, "configure identity: the address of the issuer's keys must be https")
	}
	if o.Issuer == "" || o.Audience == "" || len(o.Apps) == 0 {
		return nil, fault.New(fault.Invalid, "configure identity: issuer, audience and the applications of subjects are needed")
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = []string{oidc.RS256, oidc.ES256}
	}
	for _, a := range o.Algorithms {
		if !slices.Contains([]string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}, a) {
			return nil, fault.New(fault.Invalid, "configure identity: an algorithm is not one of RS256, RS384, RS512, ES256, ES384, ES512, EdDSA")
		}
	}
	client := &http.Client{
		Timeout:       5 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs}, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") },
	}
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), client), o.JWKS)
	i := &oidcIdentifier{o: o, exact: o.Apps, verifier: oidc.NewVerifier(o.Issuer, keys, &oidc.Config{ClientID: o.Audience, SupportedSigningAlgs: o.Algorithms})}
	for subject := range o.Apps {
		if strings.HasSuffix(subject, "*") {
			i.prefixes = append(i.prefixes, subject)
		}
	}
	// The longest prefix wins.
	slices.SortFunc(i.prefixes, func(a, b string) int { return len(b) - len(a) })
	return i, nil
}

// Identify knows what looks like a JSON web token.
func (i *oidcIdentifier) Identify(r *http.Request) (Caller, error) {
	token := Presented(r.Header)
	if !strings.HasPrefix(token, "eyJ") || strings.Count(token, ".") != 2 || len(token) > 16<<10 {
		return Caller{}, ErrNoOpinion
	}
	t, err := i.verifier.Verify(r.Context(), token)
	if err != nil {
		return Caller{}, errToken
	}
	app, ok := i.appOf(t.Subject)
	if !ok {
		return Caller{}, errToken
	}
	return Caller{App: app, Proof: proofOIDC + i.o.Issuer + " " + t.Subject}, nil
}

// appOf gives the application of a subject.
func (i *oidcIdentifier) appOf(subject string) (string, bool) {
	if app, ok := i.exact[subject]; ok && !strings.HasSuffix(subject, "*") {
		return app, true
	}
	for _, p := range i.prefixes {
		if strings.HasPrefix(subject, p[:len(p)-1]) {
			return i.o.Apps[p], true
		}
	}
	return "", false
}

// Recheck looks the subject up again. Issuers have no list of what they revoked.
func (i *oidcIdentifier) Recheck(c Caller) error {
	subject, ok := strings.CutPrefix(c.Proof, proofOIDC+i.o.Issuer+" ")
	if !ok {
		return ErrNoOpinion
	}
	if app, ok := i.appOf(subject); !ok || app != c.App {
		return errNotAgain
	}
	return nil
}
