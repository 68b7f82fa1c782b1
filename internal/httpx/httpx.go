// Package httpx is the one HTTP client of Keywright: for the provider, for connectors of vendors with a web API and for webhooks. One
// Client speaks to one base URL. It sets the value of a key on the wire at the last moment, bounds every reply, turns statuses and
// broken connections into kinds of fault, and traces calls without secrets.
//
// It never follows a redirect, never repeats a call on its own account, never speaks plain http except to loopback, never connects to a
// link-local address (where clouds keep their metadata), never uses a proxy unless told to, and never puts text of the other side into
// an error or a log line. It does not import the package secret, so that packages behind the wall may use it.
//
// The statuses and their kinds: 401 Unauthenticated; 403 Forbidden; 404 and 410 NotFound; 409 and 412 Conflict; 429 RateLimited; 408,
// 425, 5xx and a connection that failed Unavailable; 3xx and every other 4xx Invalid. A write that may have been applied although no
// usable reply came (the connection broke after it was made, the reply was cut, too large or not JSON, or the status was 500, 502, 503
// or 504) is Indeterminate, unless the caller declared it repeatable.
package httpx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// Defaults of Options.
const (
	DefaultTimeout = 30 * time.Second
	DefaultMaxBody = 4 << 20
)

// Options says what a Client speaks to. Only BaseURL is required.
type Options struct {
	// BaseURL is scheme, host and perhaps a path; https, or http to a loopback address or localhost. Every request must go to this
	// scheme and host. The path may be secret (as with webhooks): it appears in no error and no trace.
	BaseURL string
	// UserAgent is sent with every request, in the form keywright/VERSION. Empty gives "keywright".
	UserAgent string
	// Timeout bounds a whole exchange, from the name look-up to the last byte of the reply. Zero gives DefaultTimeout.
	Timeout time.Duration
	// MaxBody is the largest reply in bytes after decompression. Zero gives DefaultMaxBody.
	MaxBody int64
	// ProxyFromEnvironment makes https calls honour HTTPS_PROXY and NO_PROXY. Without it no proxy is used.
	ProxyFromEnvironment bool
	// RootCAs replaces the system's certificate authorities when it is not nil.
	RootCAs *x509.CertPool
	// Log receives one line per call at debug level. Nil logs nothing.
	Log *slog.Logger
	// Dial replaces the network, for tests without one. The checks of addresses do not apply then. Nil uses the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the clock for a Retry-After given as a date when the reply has no Date. Nil gives time.Now.
	Now func() time.Time
}

// Client speaks to one base URL. It is safe for concurrent use.
type Client struct {
	base      *url.URL
	userAgent string
	timeout   time.Duration
	maxBody   int64
	log       *slog.Logger
	now       func() time.Time
	transport *http.Transport
}

// New makes a Client. It opens no connection. Errors are of kind Invalid and do not quote the URL.
func New(o Options) (*Client, error) {
	base, err := ParseBase(o.BaseURL)
	if err != nil {
		return nil, err
	}
	c := &Client{base: base, userAgent: o.UserAgent, timeout: o.Timeout, maxBody: o.MaxBody, log: o.Log, now: o.Now}
	if c.userAgent == "" {
		c.userAgent = "keywright"
	}
	if !visible([]byte(strings.ReplaceAll(c.userAgent, " ", "_"))) {
		return nil, fault.New(fault.Invalid, "make HTTP client: the user agent has characters that no header may have")
	}
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	if c.maxBody <= 0 {
		c.maxBody = DefaultMaxBody
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: DialControl(base.Scheme == "http")}
	c.transport = &http.Transport{
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 8,
		// Shorter than servers keep theirs: a write into a connection that the server is closing has an unknown outcome.
		IdleConnTimeout:        20 * time.Second,
		MaxResponseHeaderBytes: 128 << 10,
	}
	if o.Dial != nil {
		c.transport.DialContext = o.Dial
	}
	if o.ProxyFromEnvironment && base.Scheme == "https" {
		c.transport.Proxy = http.ProxyFromEnvironment
	}
	return c, nil
}

// BaseURL gives the base URL in its parsed form. Its path may be secret.
func (c *Client) BaseURL() string { return c.base.String() }

// CloseIdle closes connections that no call uses. The Client stays usable.
func (c *Client) CloseIdle() { c.transport.CloseIdleConnections() }

// ParseBase reads a URL that a value may be sent to: https, or http to a loopback address or localhost, with a host, perhaps a path, and nothing
// else. The host comes back in lower case, the path without a slash at its end. Errors are of kind Invalid and do not quote the URL.
func ParseBase(raw string) (*url.URL, error) {
	bad := func(what, hint string) (*url.URL, error) {
		return nil, fault.New(fault.Invalid, "read base URL: "+what, fault.Hint("%s", hint))
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return bad("it is no absolute URL", "write it as https://host or https://host/path")
	}
	switch {
	case u.User != nil:
		return bad("it holds a user name or password", "give the value by reference instead")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return bad("it holds a query or fragment", "give scheme, host and path alone")
	case u.Scheme == "https":
	case u.Scheme == "http" && LoopbackName(u.Hostname()):
	case u.Scheme == "http":
		return bad("plain http is allowed to loopback only", "use https")
	default:
		return bad(fmt.Sprintf("the scheme %q is not https", u.Scheme), "use https")
	}
	u.Host = strings.ToLower(u.Host)
	u.Path = strings.TrimSuffix(u.Path, "/")
	u.RawPath = strings.TrimSuffix(u.RawPath, "/")
	return u, nil
}

// LoopbackName reports whether a host is localhost, a name below it, or a loopback address. A name may lead elsewhere all the same: the address is
// to be checked again when it is dialled.
func LoopbackName(host string) bool {
	if host = strings.ToLower(host); host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// refusedAddress is the error of DialControl.
type refusedAddress struct{ why string }

func (e *refusedAddress) Error() string { return e.why }

// DialControl is the Control of a net.Dialer that looks at each address after its name was resolved and before the connection is made. It refuses
// link-local, multicast, unspecified and metadata addresses, and with loopbackOnly every address but those of loopback. Its errors do not quote
// the address.
func DialControl(loopbackOnly bool) func(string, string, syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return &refusedAddress{"the address is of an unknown form"}
		}
		return checkAddress(at.Addr().Unmap(), loopbackOnly)
	}
}

// awsMetadata6 is the metadata service of AWS over IPv6; it lies in the range of private addresses, not of link-local ones.
var awsMetadata6 = netip.AddrFrom16([16]byte{0xfd, 0x00, 0x0e, 0xc2, 14: 0x02, 15: 0x54})

func checkAddress(ip netip.Addr, loopbackOnly bool) error {
	switch {
	case ip.IsLinkLocalUnicast(), ip.IsMulticast(), ip.IsUnspecified(), ip.WithZone("") == awsMetadata6:
		return &refusedAddress{"the name leads to a link-local, multicast or metadata address"}
	case loopbackOnly && !ip.IsLoopback():
		return &refusedAddress{"plain http is allowed to loopback only"}
	}
	return nil
}
