// Package verify asks a key's own provider whether the key is alive. It sends the one free request that proves it, and only for kinds where such a
// request exists: GET /v1/models for API keys and OAuth access tokens, GET /v1/organizations/me for admin keys, and GET /v1/models at the
// other provider's own host for its keys. Everything else is answered "unknown" without a call.
//
// It never sends a message, never exchanges a refresh token, never sends a value twice, follows no redirect, uses no proxy, and sends to no
// host but the one that is compiled in for the family, or that Options name in its place. Called by scan/run.
package verify

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/secret"
)

// State is what is known about a key's life.
type State string

// The states.
const (
	// Live: the provider accepted the key.
	Live State = "live"
	// Dead: the provider answered 401.
	Dead State = "dead"
	// Unknown: everything else, with a reason.
	Unknown State = "unknown"
)

// Verdict is an answer, in words that hold nothing of the provider's.
type Verdict struct {
	State  State
	Reason string
	// At is when the answer came; zero when nothing was sent.
	At time.Time
}

// Bounds on what one Verifier sends.
const (
	MaxValues = 200
	perSecond = 5
	parallel  = 4
)

// The families that can be verified, with their hosts.
const (
	Anthropic = "anthropic"
	OpenAI    = "openai"
)

func hosts() map[string]string {
	return map[string]string{Anthropic: "https://api.anthropic.com", OpenAI: "https://api.openai.com"}
}

const (
	anthropicVersion = "2023-06-01"
	oauthBeta        = "oauth-2025-04-20"
)

// Options says whom a Verifier asks.
type Options struct {
	// Families lists those that may be asked; keys of others stay unknown.
	Families []string
	// URLs replaces the host of a family: https, or http to loopback.
	URLs map[string]string
	// UserAgent is sent, in the form keywright/VERSION.
	UserAgent string
	// Now is the clock of Verdict.At. Nil gives time.Now.
	Now func() time.Time

	dial func(ctx context.Context, network, address string) (net.Conn, error) // in tests
}

// Verifier asks about keys. It is safe for concurrent use, and for one scan.
type Verifier struct {
	clients map[string]*httpx.Client
	limit   *rate.Limiter
	slots   chan struct{}
	now     func() time.Time

	mu    sync.Mutex
	asked map[apikey.Digest]*answer
}

// answer is a Verdict that is there once done is closed.
type answer struct {
	done    chan struct{}
	verdict Verdict
}

// New makes a Verifier. It opens no connection. Errors are of kind Invalid.
func New(o Options) (*Verifier, error) {
	v := &Verifier{
		clients: map[string]*httpx.Client{}, limit: rate.NewLimiter(perSecond, 1), slots: make(chan struct{}, parallel), now: o.Now,
		asked: map[apikey.Digest]*answer{},
	}
	if v.now == nil {
		v.now = time.Now
	}
	known := hosts()
	for family := range o.URLs {
		if known[family] == "" {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("verify: no family %q", family), fault.Hint("the families are %s and %s", Anthropic, OpenAI))
		}
	}
	for _, family := range o.Families {
		base := known[family]
		if base == "" {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("verify: no family %q", family), fault.Hint("the families are %s and %s", Anthropic, OpenAI))
		}
		if u := o.URLs[family]; u != "" {
			base = u
		}
		c, err := httpx.New(httpx.Options{BaseURL: base, UserAgent: o.UserAgent, Timeout: 20 * time.Second, MaxBody: 1 << 20, Now: o.Now, Dial: o.dial})
		if err != nil {
			return nil, fault.In(err, "verify")
		}
		v.clients[family] = c
	}
	return v, nil
}

// Close drops idle connections.
func (v *Verifier) Close() {
	for _, c := range v.clients {
		c.CloseIdle()
	}
}

// request gives the call that proves a key of a kind, and false where there is none.
func request(family string, kind scan.Kind, value secret.Value) (httpx.Request, bool) {
	models := httpx.Request{Method: http.MethodGet, Path: httpx.Path("v1", "models"), Query: url.Values{"limit": {"1"}}, Header: http.Header{"Anthropic-Version": {anthropicVersion}}}
	switch {
	case family == Anthropic && kind == "API key":
		models.Auth = httpx.Header("x-api-key", value)
	case family == Anthropic && kind == "OAuth access token":
		models.Auth = httpx.Bearer(value)
		models.Header.Set("Anthropic-Beta", oauthBeta)
	case family == Anthropic && kind == "admin key":
		models.Path, models.Query = httpx.Path("v1", "organizations", "me"), nil
		models.Auth = httpx.Header("x-api-key", value)
	case family == OpenAI:
		models.Query, models.Header = nil, nil
		models.Auth = httpx.Bearer(value)
	default:
		return httpx.Request{}, false
	}
	return models, true
}

// Check asks about the value of a match. Match.Value must be set, and stays the caller's. A value that was asked about before gives the same
// answer without a call. Check waits for its turn, so that all calls together stay below the rate; when ctx ends it gives unknown.
func (v *Verifier) Check(ctx context.Context, m scan.Match) Verdict {
	req, ok := request(m.Family, m.Kind, m.Value)
	client := v.clients[m.Family]
	switch {
	case !ok || m.Grade != scan.Exact || m.Value.IsZero():
		return Verdict{State: Unknown, Reason: "not checkable"}
	case client == nil:
		return Verdict{State: Unknown, Reason: "not asked: --verify does not name " + m.Family}
	}
	digest := m.Value.Digest()
	v.mu.Lock()
	a, again := v.asked[digest]
	if !again {
		if len(v.asked) >= MaxValues {
			v.mu.Unlock()
			return Verdict{State: Unknown, Reason: fmt.Sprintf("not asked: one scan asks about %d keys at most", MaxValues)}
		}
		a = &answer{done: make(chan struct{})}
		v.asked[digest] = a
	}
	v.mu.Unlock()
	if !again {
		a.verdict = v.ask(ctx, client, req)
		close(a.done)
	}
	select {
	case <-a.done:
		return a.verdict
	case <-ctx.Done():
		return Verdict{State: Unknown, Reason: "not asked: interrupted"}
	}
}

func (v *Verifier) ask(ctx context.Context, client *httpx.Client, req httpx.Request) Verdict {
	interrupted := Verdict{State: Unknown, Reason: "not asked: interrupted"}
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		return interrupted
	}
	if v.limit.Wait(ctx) != nil {
		return interrupted
	}
	reply, err := client.Do(ctx, req)
	got := Verdict{State: Unknown, At: v.now().UTC()}
	switch {
	case reply.Status == http.StatusOK && err == nil && reply.Decode(&struct{}{}) == nil:
		got.State, got.Reason = Live, "accepted by the provider"
	case reply.Status == http.StatusUnauthorized:
		got.State, got.Reason = Dead, "refused by the provider: 401"
	case ctx.Err() != nil:
		got.Reason = "not answered: interrupted"
	case reply.Status == http.StatusOK:
		got.Reason = "the answer was 200 and not the provider's"
	case reply.Status != 0:
		got.Reason = fmt.Sprintf("the provider answered %d%s", reply.Status, code(reply))
	default:
		got.Reason = "no answer: " + fault.KindOf(err).String()
	}
	return got
}

// code names what the provider said, where it is a word that is known.
func code(r httpx.Reply) string {
	for _, path := range []string{"error.details.error_code", "error.code", "error.type"} {
		if w := r.Word(path, "claude_code_key_creator_not_member", "organization_on_hold", "permission_error", "rate_limit_error", "overloaded_error", "api_error",
			"billing_error", "invalid_request_error", "not_found_error", "insufficient_quota"); w != "" {
			return " (" + w + ")"
		}
	}
	return ""
}
