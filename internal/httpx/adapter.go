package httpx

import (
	"bytes"
	"io"
	"net/http"
	"strconv"

	"github.com/keywright/keywright/internal/fault"
)

// Adapter lends a Client to a vendor's SDK that takes anything with Do(*http.Request). Bounds, the pinned host, the trace and the kinds
// of error hold as in Client.Do; a status that is not 2xx becomes an error, so that the SDK never sees a foreign error body. Use one
// Adapter for one call: Last then tells what really happened, which SDKs tend to wrap or to lose. It is not safe for concurrent use.
type Adapter struct {
	client     *Client
	auth       Auth
	keep       []string
	repeatable bool
	last       Reply
	err        error
}

// Adapt makes an Adapter. keep lists the only headers of the SDK that are sent.
func (c *Client) Adapt(auth Auth, repeatable bool, keep ...string) *Adapter {
	return &Adapter{client: c, auth: auth, repeatable: repeatable, keep: keep}
}

// Do sends the SDK's request. The body of the response is in memory.
func (a *Adapter) Do(req *http.Request) (*http.Response, error) {
	own := req.Clone(req.Context())
	own.Header = http.Header{}
	for _, name := range a.keep {
		if v := req.Header.Values(name); len(v) > 0 {
			own.Header[http.CanonicalHeaderKey(name)] = v
		}
	}
	if own.URL.User != nil {
		return nil, fault.New(fault.Invalid, "make request: the address holds a user name")
	}
	a.last, a.err = a.client.exchange(own, a.auth, a.repeatable)
	if a.err != nil {
		return nil, a.err
	}
	header := http.Header{}
	for _, name := range []string{"Content-Type", "Date"} {
		if v := a.last.header.Get(name); v != "" {
			header.Set(name, v)
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(a.last.body)))
	return &http.Response{
		Status: strconv.Itoa(a.last.Status) + " " + http.StatusText(a.last.Status), StatusCode: a.last.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(a.last.body)), ContentLength: int64(len(a.last.body)), Request: req,
	}, nil
}

// Last gives the reply and the error of the latest Do.
func (a *Adapter) Last() (Reply, error) { return a.last, a.err }
