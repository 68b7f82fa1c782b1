package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// Socket is the path of the status socket of the gateway with this state directory.
func Socket(dir string) string { return filepath.Join(dir, "gateway.sock") }

// Client speaks to a running gateway over its status socket. It is safe for concurrent use and holds no connection between calls. A gateway that
// does not run is Unavailable; a change whose reply was lost is Indeterminate. No text of a reply is in an error.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a Client of the gateway with this state directory. It asks nothing yet.
func NewClient(dir string) *Client {
	c := &Client{socket: Socket(dir)}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", c.socket)
				if err != nil {
					return nil, errNoGateway
				}
				return conn, nil
			},
			DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// errNoGateway says that nothing was sent.
var errNoGateway = errors.New("no gateway answers")

// Status asks what keywright gateway status shows.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.ask(ctx, http.MethodGet, "/status", nil, nil, &s)
}

// Record asks for the record of the use of values.
func (c *Client) Record(ctx context.Context) (r Record, err error) {
	return r, c.ask(ctx, http.MethodGet, "/record", nil, nil, &r)
}

// Told asks for the events since a Told, whose Next is given; an empty text asks for all that are kept.
func (c *Client) Told(ctx context.Context, next string) (t Told, err error) {
	return t, c.ask(ctx, http.MethodGet, "/events", url.Values{"after": {next}}, nil, &t)
}

// Deny refuses values for ever; see Gateway.Deny.
func (c *Client) Deny(ctx context.Context, digests ...apikey.Digest) error {
	q := url.Values{}
	for _, d := range digests {
		q.Add("digest", hexOf(d))
	}
	return c.ask(ctx, http.MethodPost, "/deny", q, nil, nil)
}

// Place asks how a key stands; see Gateway.Place.
func (c *Client) Place(ctx context.Context, key apikey.Name) (s PlaceState, err error) {
	return s, c.ask(ctx, http.MethodGet, keyPath(key, ""), nil, nil, &s)
}

// Put is Gateway.PutKey.
func (c *Client) Put(ctx context.Context, key apikey.Name, v secret.Value, e PlaceExpect) (s PlaceState, err error) {
	return s, c.ask(ctx, http.MethodPut, keyPath(key, ""), e.query(), &v, &s)
}

// Stage is Gateway.StageKey.
func (c *Client) Stage(ctx context.Context, key apikey.Name, v secret.Value, e PlaceExpect) (s PlaceState, err error) {
	return s, c.ask(ctx, http.MethodPut, keyPath(key, "/staged"), e.query(), &v, &s)
}

// Unstage is Gateway.UnstageKey.
func (c *Client) Unstage(ctx context.Context, key apikey.Name, d apikey.Digest) (s PlaceState, err error) {
	return s, c.ask(ctx, http.MethodDelete, keyPath(key, "/staged"), url.Values{"digest": {hexOf(d)}}, nil, &s)
}

// Promote is Gateway.PromoteKey.
func (c *Client) Promote(ctx context.Context, key apikey.Name, d apikey.Digest, base string) (s PlaceState, err error) {
	return s, c.ask(ctx, http.MethodPost, keyPath(key, "/promote"), url.Values{"digest": {hexOf(d)}, "base": {base}}, nil, &s)
}

// Canary is Gateway.TryKey.
func (c *Client) Canary(ctx context.Context, key apikey.Name, d apikey.Digest, share int) (s PlaceState, err error) {
	return s, c.ask(ctx, http.MethodPost, keyPath(key, "/canary"), url.Values{"digest": {hexOf(d)}, "share": {strconv.Itoa(share)}}, nil, &s)
}

func keyPath(key apikey.Name, rest string) string {
	return "/keys/" + url.PathEscape(string(key)) + rest
}

func hexOf(d apikey.Digest) string {
	text, err := d.MarshalText()
	if err != nil {
		return ""
	}
	return string(text)
}

func (e PlaceExpect) query() url.Values {
	return url.Values{"checked": {strconv.FormatBool(e.Checked)}, "absent": {strconv.FormatBool(e.Absent)}, "revision": {e.Revision}, "digest": {hexOf(e.Digest)}}
}

// mostReply bounds an answer.
const mostReply = 8 << 20

// ask makes one request. A value is sent as the body, and overwritten where it was copied to.
func (c *Client) ask(ctx context.Context, method, path string, q url.Values, v *secret.Value, into any) error {
	var body io.Reader
	if v != nil {
		var copied []byte
		v.Reveal(func(b []byte) { copied = bytes.Clone(b) })
		defer clear(copied)
		body = bytes.NewReader(copied)
	}
	target := url.URL{Scheme: "http", Host: "gateway", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return fault.New(fault.Invalid, "ask gateway: the request cannot be made")
	}
	if err := ctx.Err(); err != nil {
		if errors.Is(err, context.Canceled) {
			return fault.New(fault.Canceled, "ask gateway: stopped before it was asked")
		}
		return fault.New(fault.Unavailable, "ask gateway: no time was left before it was asked")
	}
	changes := method != http.MethodGet
	res, err := c.http.Do(req)
	switch {
	case errors.Is(err, errNoGateway):
		return fault.New(fault.Unavailable, "ask gateway: none answers on "+c.socket, fault.Hint("start it with keywright gateway, or keywright serve with gateway.serve: true"))
	case err != nil && ctx.Err() != nil && changes:
		return fault.Wrap(fault.Indeterminate, ctx.Err(), "ask gateway: it did not answer")
	case err != nil && ctx.Err() != nil:
		return fault.Wrap(fault.Unavailable, ctx.Err(), "ask gateway: it did not answer")
	case err != nil && changes:
		return fault.New(fault.Indeterminate, "ask gateway: the connection broke off")
	case err != nil:
		return fault.New(fault.Unavailable, "ask gateway: the connection broke off")
	}
	defer res.Body.Close()
	if !fine(res.StatusCode) {
		return refusalOf(res, changes)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, mostReply)).Decode(into); err != nil {
		if changes {
			return fault.New(fault.Indeterminate, "ask gateway: the answer is not whole")
		}
		return fault.New(fault.Unavailable, "ask gateway: the answer is not whole")
	}
	return nil
}

// reasons are the words that the gateway says beside a kind, and what they mean to people.
func reasons() map[string][2]string {
	return map[string][2]string{
		"conflict":        {"the key file is not in the state that was seen before", "somebody changed it; look at it, then plan again"},
		"unauthenticated": {"the provider refuses the value", "see in the Console whether the key is active"},
		"forbidden":       {"it may not: the value is compromised, or the key file cannot be written by the gateway's user", "see keywright gateway status, and who owns the key file and its directory"},
		"not found":       {"it has no key of this name", "name one of its keys: keywright gateway status"},
		"unsupported":     {"it does not read this key from a file", "change the key where the gateway reads it, or give the gateway a source file:PATH"},
		"invalid":         {"it cannot use the value", ""},
		"corrupt":         {"what it holds is damaged", ""},
	}
}

// refusalOf gives the error of an answer that is none of success. Only words of our own are in it.
func refusalOf(res *http.Response, changes bool) error {
	kinds := map[int]fault.Kind{
		401: fault.Unauthenticated, 403: fault.Forbidden, 404: fault.NotFound, 409: fault.Conflict, 422: fault.Invalid, 429: fault.RateLimited, 501: fault.Unsupported, 507: fault.Corrupt,
	}
	kind, known := kinds[res.StatusCode]
	if !known && changes && res.StatusCode != http.StatusServiceUnavailable {
		kind = fault.Indeterminate
	} else if !known {
		kind = fault.Unavailable
	}
	text, hint := fmt.Sprintf("it answered %d", res.StatusCode), ""
	if word, ok := reasons()[kind.String()]; ok && res.Header.Get(ownHeader) != "" {
		text, hint = word[0], word[1]
	}
	var after time.Duration
	if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && n > 0 && n < 86400 {
		after = time.Duration(n) * time.Second
	}
	return fault.New(kind, "ask gateway: "+text, fault.RetryAfter(after), fault.Hint("%s", hint))
}

// ownHeader marks an answer as one of the gateway's own.
const ownHeader = "Keywright-Gateway"
