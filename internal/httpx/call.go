package httpx

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// Request is one call.
type Request struct {
	// Method is an HTTP method; empty means GET.
	Method string
	// Path comes behind the base URL's path; make it with Path. It appears in errors and traces and must hold nothing secret. Empty
	// asks for the base URL itself.
	Path string
	// Query is sent; the trace shows its names alone.
	Query url.Values
	// Header is sent. User-Agent is overwritten.
	Header http.Header
	// Auth sets the value. It wins over Header.
	Auth Auth
	// JSON is marshalled into the body when it is not nil; it excludes Body.
	JSON any
	// Body is sent as it is, with the Content-Type of Header.
	Body []byte
	// Repeatable says that sending this write twice does no harm, so that a lost reply is Unavailable and not Indeterminate. GET and
	// HEAD are always repeatable.
	Repeatable bool
}

// Path joins segments into an escaped path that starts with a slash. A segment that is empty, "." or ".." makes the whole an invalid
// path, which Do refuses; so an id of foreign origin cannot lead elsewhere.
func Path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		if s == "" || s == "." || s == ".." {
			return "//"
		}
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// Do makes one call and reads the whole reply. When the status is 2xx the error is nil. Otherwise the error is a fault of the kind that
// the package comment lists, and the Reply still holds what came (its Status is 0 when nothing came), so that a connector can look for
// words it knows. A cancelled ctx gives Canceled, or Indeterminate for a write that was on its way.
func (c *Client) Do(ctx context.Context, r Request) (Reply, error) {
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	body := r.Body
	header := r.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if r.JSON != nil {
		var err error
		if body, err = json.Marshal(r.JSON); err != nil {
			// The error of encoding/json may quote the input.
			return Reply{}, fault.New(fault.Invalid, "encode request: it cannot be written as JSON")
		}
		header.Set("Content-Type", "application/json")
	}
	u, err := c.url(r.Path, r.Query)
	if err != nil {
		return Reply{}, err
	}
	var reader io.Reader
	if len(body) > 0 {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), reader)
	if err != nil {
		return Reply{}, fault.New(fault.Invalid, "make request: the method or address is malformed")
	}
	req.Header = header
	return c.exchange(req, r.Auth, r.Repeatable)
}

func (c *Client) url(path string, query url.Values) (*url.URL, error) {
	u := *c.base
	if path != "" {
		decoded, err := url.PathUnescape(path)
		if err != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "?#\\ ") || dotted(path) {
			return nil, fault.New(fault.Invalid, "make request: the path is malformed")
		}
		u.RawPath = u.EscapedPath() + path
		u.Path += decoded
	}
	u.RawQuery = query.Encode()
	return &u, nil
}

func dotted(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == "." || s == ".." })
}

// exchange sends req, which belongs to it, and reads the reply.
func (c *Client) exchange(req *http.Request, auth Auth, repeatable bool) (Reply, error) {
	write := !repeatable && req.Method != http.MethodGet && req.Method != http.MethodHead
	where := c.where(req)
	if req.URL.Scheme != c.base.Scheme || !strings.EqualFold(req.URL.Host, c.base.Host) || req.Host != "" && !strings.EqualFold(req.Host, c.base.Host) {
		return Reply{}, fault.New(fault.Invalid, "make request: it goes to another host than the configured one")
	}
	ctx := req.Context()
	if err := ctx.Err(); err != nil {
		return Reply{}, fault.In(err, where)
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var connected, handshake atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(bounded, &httptrace.ClientTrace{
		GotConn:          func(httptrace.GotConnInfo) { connected.Store(true) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) { handshake.Store(err != nil) },
	}))
	req.Header.Set("User-Agent", c.userAgent)
	if err := auth.set(req.Header); err != nil {
		return Reply{}, fault.In(err, where)
	}
	began := time.Now()
	// RoundTrip, not http.Client: it follows no redirect, keeps no cookies and puts no URL into errors.
	// The request is not touched afterwards: its headers may still be on their way when the reply is there.
	res, err := c.transport.RoundTrip(req)
	reply := Reply{write: write}
	if err != nil {
		if handshake.Load() && !connected.Load() {
			err = &handshakeError{err}
		}
		err = c.broken(ctx, where, err, write && connected.Load())
	} else {
		reply, err = c.read(ctx, res, auth, write, where)
	}
	c.trace(ctx, req, reply, err, time.Since(began))
	return reply, err
}

// read takes the whole reply within bounds and judges it.
func (c *Client) read(ctx context.Context, res *http.Response, auth Auth, write bool, where string) (Reply, error) {
	defer res.Body.Close()
	reply := Reply{Status: res.StatusCode, header: res.Header, auth: auth, write: write}
	if at, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		reply.Date = at.UTC()
	}
	reply.RequestID = requestID(res.Header, auth)
	reply.RetryAfter = retryAfter(res.Header, reply.Date, c.now)
	body, err := io.ReadAll(io.LimitReader(res.Body, c.maxBody+1))
	good := res.StatusCode >= 200 && res.StatusCode <= 299
	switch {
	case !good:
		// The status says enough; a body that came whole may say more.
		if err == nil && int64(len(body)) <= c.maxBody {
			reply.body = body
		}
		return reply, statusError(reply, where)
	case err != nil:
		return reply, c.broken(ctx, where, err, write)
	case int64(len(body)) > c.maxBody:
		return reply, reply.unusable(where + ": the reply is larger than the client takes")
	}
	reply.body = body
	return reply, nil
}

// where names a call for errors: method, host and the path behind the base URL.
func (c *Client) where(req *http.Request) string {
	return "call " + c.base.Host + ": " + req.Method + " " + c.route(req.URL)
}

// route is the path behind the base URL's path, which alone may be shown.
func (c *Client) route(u *url.URL) string {
	rest, ok := strings.CutPrefix(u.EscapedPath(), c.base.EscapedPath())
	if !ok || rest == "" {
		return "/"
	}
	return rest
}

func (c *Client) trace(ctx context.Context, req *http.Request, r Reply, err error, took time.Duration) {
	kind := ""
	if err != nil {
		kind = fault.KindOf(err).String()
	}
	names := slices.Sorted(maps.Keys(req.URL.Query()))
	c.log.DebugContext(ctx, "http call", "method", req.Method, "host", c.base.Host, "path", c.route(req.URL), "query", strings.Join(names, ","),
		"status", r.Status, "duration", took, "request_id", r.RequestID, "kind", kind)
}
