package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/secret"
)

// Method is a way to get a token of Vault's.
type Method string

// Methods. Given is a token that somebody else gets and renews: Config.Token.
const (
	Given      Method = ""
	AppRole    Method = "approle"
	Kubernetes Method = "kubernetes"
	JWT        Method = "jwt"
)

// serviceAccount is where Kubernetes puts the token of a pod's service account.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// secondThoughts is how long a token that was never of use is kept although Vault refuses it. The role may be given another policy meanwhile, which
// only a new token has.
const secondThoughts = time.Minute

// Login says how to get a token. The zero Login gets none.
type Login struct {
	Method Method
	// Mount is where the method is enabled, below auth/; empty means the method's name.
	Mount string
	// Role is the role id of AppRole, as it stands or as file:PATH, and the name of the role of the others.
	Role string
	// SecretID says where AppRole's secret id is read, before each login: file:PATH or env:NAME. Empty where the role wants none.
	SecretID secret.Ref
	// JWT is the file of the JWT, read before each login. Kubernetes has the one of the pod's service account without it.
	JWT string
}

// check finds what cannot be, and fills in what was left out.
func (l *Login) check(token secret.Ref) error {
	bad := func(what string) error {
		return fault.New(fault.Invalid, "open Vault: "+what, fault.Hint("docs/gateway.md lists what each way to log in takes"))
	}
	switch l.Method {
	case Given:
		if *l != (Login{}) {
			return bad("a role, a secret id, a JWT or a mount is given, and no way to log in")
		}
		return nil
	case AppRole:
		if l.JWT != "" {
			return bad("AppRole takes no JWT")
		}
	case Kubernetes, JWT:
		if l.SecretID != "" {
			return bad("a secret id is for AppRole alone")
		}
		if l.JWT == "" && l.Method == JWT {
			return bad("the file of the JWT is missing")
		}
		if l.JWT == "" {
			l.JWT = serviceAccount
		}
	default:
		return bad("the way to log in is none of approle, kubernetes and jwt")
	}
	if token != "" {
		return bad("it is given a token and a way to log in")
	}
	if l.Role == "" {
		return bad("the role is missing")
	}
	if l.Mount = strings.Trim(l.Mount, "/"); l.Mount == "" {
		l.Mount = string(l.Method)
	}
	if strings.Contains("/"+l.Mount+"/", "/../") || strings.Contains("/"+l.Mount+"/", "/./") {
		return bad("the mount of the login is no path")
	}
	return nil
}

// grant is a token that Vault gave to a login.
type grant struct {
	token   secret.Value
	since   time.Time
	lease   time.Duration // zero never ends
	renew   bool
	proven  bool // it was of use
	refused bool // Vault does not accept it
}

// past reports whether so many thirds of the lease have passed.
func (g *grant) past(now time.Time, thirds int) bool {
	return g.lease > 0 && !now.Before(g.since.Add(g.lease*time.Duration(thirds)/3))
}

// held gives a token that Vault should accept: the one it gave, renewed when two thirds of its time have passed, or that of a new login. The
// caller destroys its copy. One call at a time logs in; the others wait for it.
func (r *Reader) held(ctx context.Context) (secret.Value, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return secret.Value{}, fault.In(context.Cause(ctx), r.verb())
	}
	now := r.now()
	g := r.grant
	switch {
	case g == nil || g.refused || g.past(now, 3):
		return r.fresh(ctx)
	case !g.past(now, 2):
		return g.token.Clone(), nil
	}
	// A token that has reached its longest life is given less time than it had.
	if g.renew {
		if next, err := r.prolong(ctx, g); err == nil && next.lease*2 >= g.lease {
			r.keep(next)
			return next.token.Clone(), nil
		}
	}
	v, err := r.fresh(ctx)
	if err != nil && ctx.Err() == nil {
		// The old one is good for a while.
		return g.token.Clone(), nil
	}
	return v, err
}

// fresh logs in and keeps what it is given.
func (r *Reader) fresh(ctx context.Context) (secret.Value, error) {
	g, err := r.login(ctx)
	if err != nil {
		return secret.Value{}, err
	}
	r.keep(g)
	return g.token.Clone(), nil
}

// keep puts a grant in place of the one before; nil leaves none.
func (r *Reader) keep(g *grant) {
	if r.grant != nil {
		r.grant.token.Destroy()
	}
	r.grant = g
}

// answered notes what Vault said to a token of a login, and reports whether the call is worth a repetition with another one.
func (r *Reader) answered(ctx context.Context, used secret.Value, refused bool) (again bool) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return false
	}
	g := r.grant
	if g == nil {
		return refused
	}
	if !g.token.Equal(used) {
		return refused // another call has logged in meanwhile
	}
	if !refused {
		g.proven = true
		return false
	}
	// A token that was of use has ended or was revoked. One that never was lacks a right, and a new one most likely lacks it too.
	g.refused = g.proven || r.now().Sub(g.since) >= secondThoughts
	return g.refused
}

// login asks for a token.
func (r *Reader) login(ctx context.Context) (*grant, error) {
	l := r.c.Login
	verb := fmt.Sprintf("log in to Vault by %s", l.Method)
	role := []byte(l.Role)
	if strings.HasPrefix(l.Role, "file:") {
		v, err := secret.Ref(l.Role).Resolve(ctx, "")
		if err != nil {
			return nil, fault.In(err, verb+": its role id")
		}
		defer v.Destroy()
		role = []byte(v.RevealString())
	}
	body := map[string]string{"role": string(role)}
	if l.Method == AppRole {
		body = map[string]string{"role_id": string(role)}
		if l.SecretID != "" {
			v, err := l.SecretID.Resolve(ctx, "")
			if err != nil {
				return nil, fault.In(err, verb+": its secret id")
			}
			defer v.Destroy()
			body["secret_id"] = v.RevealString()
		}
	} else {
		v, err := readJWT(l.JWT)
		if err != nil {
			return nil, fault.In(err, verb)
		}
		defer v.Destroy()
		body["jwt"] = v.RevealString()
	}
	g, err := r.granted(ctx, verb, "auth/"+l.Mount+"/login", secret.Value{}, body)
	if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Invalid) || fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.Unauthenticated, verb+": it is not accepted", fault.Hint("see that auth/%s has the role, and that what proves it has neither ended nor been used up: vault auth list", l.Mount))
	}
	return g, err
}

// prolong renews a token.
func (r *Reader) prolong(ctx context.Context, g *grant) (*grant, error) {
	next, err := r.granted(ctx, "renew token of Vault", "auth/token/renew-self", g.token, map[string]string{})
	if err != nil {
		return nil, err
	}
	next.proven = g.proven
	return next, nil
}

// granted makes a call that gives a token.
func (r *Reader) granted(ctx context.Context, verb, resource string, token secret.Value, body map[string]string) (*grant, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fault.New(fault.Invalid, verb+": what it sends is no text")
	}
	defer clear(text)
	var reply struct {
		Auth struct {
			Token   json.RawMessage `json:"client_token"`
			Seconds int64           `json:"lease_duration"`
			Renew   bool            `json:"renewable"`
		} `json:"auth"`
	}
	since := r.now()
	if err := r.call(ctx, verb, http.MethodPost, resource, token, text, &reply); err != nil {
		return nil, err
	}
	defer clear(reply.Auth.Token)
	var word string
	if json.Unmarshal(reply.Auth.Token, &word) != nil {
		word = ""
	}
	v, err := keysource.Whole([]byte(word))
	if err != nil || reply.Auth.Seconds < 0 {
		return nil, fault.New(fault.Unsupported, verb+": it gives no token", fault.Hint("a login that wants a second factor needs a person"))
	}
	return &grant{token: v, since: since, lease: time.Duration(reply.Auth.Seconds) * time.Second, renew: reply.Auth.Renew}, nil
}

// readJWT reads a JWT. Kubernetes gives its file to every user of the pod, so its mode says nothing.
func readJWT(path string) (secret.Value, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Value{}, fault.New(fault.NotFound, fmt.Sprintf("the JWT in %q cannot be read", path), fault.Hint("in a pod it is there unless automountServiceAccountToken is off"))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, keysource.MaxValue+1))
	if err != nil {
		clear(text)
		return secret.Value{}, fault.New(fault.NotFound, fmt.Sprintf("the JWT in %q cannot be read", path))
	}
	v, err := keysource.Whole(text)
	return v, fault.In(err, fmt.Sprintf("the JWT in %q", path))
}
