package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// maxReply bounds a reply.
const maxReply = 32 << 20

// Client speaks to a daemon's socket. It is safe for concurrent use.
type Client struct {
	http *http.Client
	path string
}

// NewClient makes a client for the socket at path. Nothing is opened before the first call.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: dial}}}
}

// Get reads a resource into v.
func (c *Client) Get(ctx context.Context, resource string, v any) error {
	return c.do(ctx, http.MethodGet, resource, nil, v)
}

// Post sends in and reads the reply into out.
func (c *Client) Post(ctx context.Context, resource string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "write request")
	}
	return c.do(ctx, http.MethodPost, resource, body, out)
}

func (c *Client) do(ctx context.Context, method, resource string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://keywright"+resource, bytes.NewReader(body))
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "write request")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fault.New(fault.Unavailable, fmt.Sprintf("ask the daemon at %q: nobody answers", c.path), fault.Hint("is keywright serve running, and may you open its socket?"))
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "read the daemon's reply")
	}
	if res.StatusCode != http.StatusOK {
		var p Problem
		if json.Unmarshal(raw, &p) != nil || p.Error == "" {
			return fault.Newf(fault.Unknown, "ask the daemon: status %d", res.StatusCode)
		}
		return fault.New(fault.ParseKind(p.Kind), p.Error, fault.Hint("%s", p.Hint))
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fault.Wrap(fault.Unknown, err, "read the daemon's reply")
	}
	return nil
}
