// Package awswire is the HTTP client under the AWS SDK: bounded replies, no redirects, and a request body that survives being closed early. It
// knows no service. Called by custody (KMS) and the AWS locations.
package awswire

import (
	"io"
	"net/http"
	"time"
)

// maxReply bounds a reply, in bytes: the largest secret, each byte escaped, and its frame.
const maxReply = 1 << 20

// Doer is what the SDK calls an HTTP client.
type Doer interface {
	Do(req *http.Request) (*http.Response, error)
}

// Client is a careful HTTP client. It is safe for concurrent use.
type Client struct{ next Doer }

var _ Doer = (*Client)(nil)

// New makes a client with a transport of its own, which follows no redirect and honours the environment's proxies. It opens nothing.
func New() *Client {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute, MaxIdleConns: 4}
	return Around(&http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }})
}

// Around makes a client of another one, such as the SDK's own, which knows of the CA bundle of the AWS configuration.
func Around(next Doer) *Client { return &Client{next} }

// Do sends a request. The SDK closes the request's body as soon as the reply begins, and the closed body's WriteTo then fails with io.EOF; where
// the transport still wanted to see the end of the body, that would break the connection under the reply. Read does not fail, so nothing else
// is shown.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	if body := req.Body; body != nil {
		req = req.Clone(req.Context())
		req.Body = part{body, body}
	}
	resp, err := c.next.Do(req)
	if err != nil {
		return nil, err
	}
	resp.Body = part{io.LimitReader(resp.Body, maxReply), resp.Body}
	return resp, nil
}

// part shows Read and Close of two things, and nothing else that they can do.
type part struct {
	io.Reader
	io.Closer
}
