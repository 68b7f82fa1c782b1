package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// maxAnswer is how much of an answer is looked at, in bytes.
const maxAnswer = 64 << 10

// caller makes the requests of one address. It is safe for concurrent use.
type caller struct {
	url     string
	host    string // for errors; the rest of the address may hold something private
	headers map[string]secret.Ref
	dir     string
	client  *http.Client
}

var headerRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+.^_|~-]{1,128}$`) })

func newCaller(r Request, env location.Env) (*caller, error) {
	bad := func(what, hint string) error {
		return fault.New(fault.Invalid, "open address: "+what, fault.Hint("%s", hint))
	}
	u, err := url.Parse(r.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, bad("it is no http or https address", "write it as http://host:port/path")
	case u.User != nil:
		return nil, bad("it holds a user name or password", "give an Authorization header by reference")
	case r.Timeout < 0:
		return nil, bad("the timeout is negative", "leave it out for 10s")
	case r.Timeout == 0:
		r.Timeout = 10 * time.Second
	}
	for name, ref := range r.Headers {
		if !headerRE().MatchString(name) || slices.Contains([]string{"Host", "Content-Length", "Transfer-Encoding", "Connection"}, http.CanonicalHeaderKey(name)) {
			return nil, bad(fmt.Sprintf("%q is no header that can be given", name), "name a header such as Authorization")
		}
		if _, err := secret.ParseRef(string(ref)); err != nil {
			return nil, fault.In(err, "open address: header "+name)
		}
	}
	// What a header says is sent over plain http to this host alone; the check is made on the resolved address.
	plain := u.Scheme == "http" && len(r.Headers) > 0
	if ip := net.ParseIP(u.Hostname()); plain && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, bad("headers would go over plain http to another host", "use https")
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: control(plain)}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: r.Timeout, DisableKeepAlives: true, MaxResponseHeaderBytes: 32 << 10}
	return &caller{url: u.String(), host: u.Host, headers: r.Headers, dir: env.Dir, client: &http.Client{
		Transport: transport, Timeout: r.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// answer is what came back: the status, and the beginning of the body. cut says that there was more.
type answer struct {
	status int
	body   []byte
	cut    bool
}

// call makes one request. The kind of an error is Unavailable when there was no answer (Indeterminate for a request that changes
// something and was sent), Forbidden when the address must not be spoken to, and that of secret.Ref.Resolve.
func (c *caller) call(ctx context.Context, method string, header http.Header) (answer, error) {
	if ctx.Err() != nil {
		return answer{}, fault.In(context.Cause(ctx), "call "+c.host)
	}
	var sent atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	req, err := http.NewRequestWithContext(traced, method, c.url, http.NoBody)
	if err != nil {
		return answer{}, fault.New(fault.Invalid, "call "+c.host+": the request cannot be made")
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("User-Agent", "keywright")
	for name, ref := range c.headers {
		v, err := ref.Resolve(ctx, c.dir)
		if err != nil {
			return answer{}, fault.In(err, "read header "+name)
		}
		text := v.RevealString()
		v.Destroy()
		if strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }) {
			return answer{}, fault.New(fault.Invalid, "read header "+name+": its value has a control character, such as a line end")
		}
		req.Header.Set(name, text)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return answer{}, c.failed(ctx, method, sent.Load(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, c.failed(ctx, method, true, err)
	}
	a := answer{status: resp.StatusCode, body: body, cut: len(body) > maxAnswer}
	a.body = a.body[:min(len(body), maxAnswer)]
	return a, nil
}

// failed tells why there was no answer. The cause is not repeated: its text holds the whole address.
func (c *caller) failed(ctx context.Context, method string, sent bool, err error) error {
	what := "call " + c.host
	switch {
	case errors.Is(err, errForbiddenAddress):
		return fault.New(fault.Forbidden, what+": "+errForbiddenAddress.Error(), fault.Hint("name the consumer by an address of its own"))
	case errors.Is(err, errNotLoopback):
		return fault.New(fault.Forbidden, what+": "+errNotLoopback.Error(), fault.Hint("headers need https, or http on this host"))
	case sent && method != http.MethodGet:
		return fault.New(fault.Indeterminate, what+": the request was sent and no answer came")
	case errors.Is(ctx.Err(), context.Canceled):
		return fault.In(context.Cause(ctx), what)
	}
	return fault.New(fault.Unavailable, what+": no answer")
}

type reloadHTTP struct {
	caller *caller
	expect int
}

type confirmHTTP struct {
	caller *caller
	path   string
}

type probeHTTP struct {
	caller   *caller
	expect   int
	contains string
}

var (
	_ location.Reloader  = (*reloadHTTP)(nil)
	_ location.Confirmer = (*confirmHTTP)(nil)
	_ location.Prober    = (*probeHTTP)(nil)
)

func status(n, otherwise int) (int, error) {
	if n == 0 {
		return otherwise, nil
	}
	if n < 200 || n > 599 {
		return 0, fault.New(fault.Invalid, fmt.Sprintf("open address: %d is no status of an answer", n), fault.Hint("200 to 599"))
	}
	return n, nil
}

func newReloadHTTP(cfg ReloadHTTP, env location.Env) (*reloadHTTP, error) {
	expect, err := status(cfg.Expect, 0)
	if err != nil {
		return nil, err
	}
	c, err := newCaller(cfg.Request, env)
	return &reloadHTTP{c, expect}, err
}

func newConfirmHTTP(cfg ConfirmHTTP, env location.Env) (*confirmHTTP, error) {
	c, err := newCaller(cfg.Request, env)
	return &confirmHTTP{c, cfg.JSON}, err
}

func newProbeHTTP(cfg ProbeHTTP, env location.Env) (*probeHTTP, error) {
	expect, err := status(cfg.Expect, http.StatusOK)
	if err != nil {
		return nil, err
	}
	c, err := newCaller(cfg.Request, env)
	return &probeHTTP{c, expect, cfg.Contains}, err
}

// Reload posts an empty body.
func (r *reloadHTTP) Reload(ctx context.Context, id string) error {
	a, err := r.caller.call(ctx, http.MethodPost, http.Header{"Keywright-Change-Id": {id}})
	if err != nil {
		return fault.In(err, "reload by http")
	}
	if a.status == r.expect || r.expect == 0 && a.status >= 200 && a.status < 300 {
		return nil
	}
	kind := fault.Invalid
	switch {
	case a.status == http.StatusUnauthorized:
		kind = fault.Unauthenticated
	case a.status == http.StatusForbidden:
		kind = fault.Forbidden
	case a.status == http.StatusNotFound:
		kind = fault.NotFound
	case a.status == http.StatusConflict:
		kind = fault.Conflict
	case a.status == http.StatusTooManyRequests:
		kind = fault.RateLimited
	case a.status == http.StatusServiceUnavailable:
		kind = fault.Unavailable
	case a.status >= 500 || a.status == http.StatusRequestTimeout || a.status < 300:
		kind = fault.Indeterminate
	}
	return fault.Newf(kind, "reload by http: %s answered with status %d", r.caller.host, a.status)
}

// Probe gets the address.
func (p *probeHTTP) Probe(ctx context.Context) error {
	a, err := p.caller.call(ctx, http.MethodGet, nil)
	switch {
	case err != nil:
		return fault.In(err, "probe by http")
	case a.status != p.expect:
		return fault.Newf(fault.Unavailable, "probe by http: %s answered with status %d, want %d", p.caller.host, a.status, p.expect)
	case !bytes.Contains(a.body, []byte(p.contains)):
		return fault.Newf(fault.Unavailable, "probe by http: the answer of %s lacks the expected text", p.caller.host)
	}
	return nil
}

// Confirm gets the address and looks for fingerprints in its answer. An answer that names several, or none, counts as one consumer
// whose value is unknown, unless a path leads to a list.
func (c *confirmHTTP) Confirm(ctx context.Context, want apikey.Digest) (location.Confirmation, error) {
	a, err := c.caller.call(ctx, http.MethodGet, nil)
	if err != nil {
		return location.Confirmation{}, fault.In(err, "confirm by http")
	}
	what := "confirm by http: " + c.caller.host
	switch {
	case a.status != http.StatusOK:
		return location.Confirmation{}, fault.Newf(fault.Unavailable, "%s answered with status %d", what, a.status)
	case a.cut:
		return location.Confirmation{}, fault.Newf(fault.Invalid, "%s answered with more than %d bytes", what, maxAnswer)
	}
	got := location.Confirmation{How: location.Label}
	if c.path != "" {
		found, ok := at(a.body, c.path)
		if !ok {
			return location.Confirmation{}, fault.New(fault.Invalid, fmt.Sprintf("%s answered without a fingerprint at %q", what, c.path), fault.Hint("a fingerprint is kf_ and the first 16 hex digits of the value's SHA-256"))
		}
		for _, fp := range found {
			add(&got, fp, want.Fingerprint())
		}
		return got, nil
	}
	found := fingerprintRE().FindAll(a.body, -1)
	slices.SortFunc(found, bytes.Compare)
	if found = slices.CompactFunc(found, bytes.Equal); len(found) == 1 {
		add(&got, string(found[0]), want.Fingerprint())
	} else {
		got.Running, got.Unknown = 1, 1
		got.Facts = map[string]string{"fingerprints in the answer": strconv.Itoa(len(found))}
	}
	return got, nil
}

// at gives the fingerprint, or the list of them, that the path leads to in a JSON text.
func at(body []byte, path string) ([]string, bool) {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return nil, false
	}
	for part := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(in) {
				return nil, false
			}
			v = in[i]
		default:
			return nil, false
		}
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var out []string
	for _, x := range list {
		s, ok := x.(string)
		if !ok || !whole(s) {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}
