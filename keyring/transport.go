package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/verdict"
)

// Client gives an HTTP client that sets the value: the one line that an SDK needs. It follows no redirect.
func (r *Ring) Client() *http.Client {
	return &http.Client{
		Transport:     r.RoundTripper(nil),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// RoundTripper sets the value as x-api-key on every request, in place of whatever authenticates it. When the provider refuses the value
// (401, or the code that its creator left), the source is read anew; a new value, or else a backup, is tried once. On 403 a backup is tried
// once. All else is given back as it is, retry-after included: the SDKs repeat by themselves. Requests whose body cannot be had again
// (GetBody is nil) are not repeated. A request to a host that was not named fails, and is not sent. base is nil for http.DefaultTransport.
func (r *Ring) RoundTripper(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{r, base}
}

type transport struct {
	ring *Ring
	base http.RoundTripper
}

var _ http.RoundTripper = (*transport)(nil)

// RoundTrip never changes req.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	s, err := t.ring.current(req.Context())
	if err != nil {
		closeBody(req)
		return nil, err
	}
	v := s.Values[0]
	again := req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
	refreshed, waited := false, false
	var tried []Value
	for n := 0; ; n++ {
		res, err := t.send(req, s, v, n > 0)
		if err != nil {
			return nil, err
		}
		if res.StatusCode < 400 || !again {
			return res, nil
		}
		tried = append(tried, v)
		o := verdict.Judge(answer(res), time.Now())
		var next Value
		switch o.Action {
		case verdict.Suspect:
			t.ring.Invalidate(v)
			if !refreshed {
				refreshed = true
				if fresh, err := t.ring.current(req.Context()); err == nil {
					s = fresh
				}
			}
			next = untried(s.Values, tried)
		case verdict.Other:
			if len(tried) == 1 {
				next = untried(s.Values, tried)
			}
		case verdict.Cool, verdict.Retry:
			asked := verdict.RetryAfter(res.Header.Get, time.Now())
			if waited || asked == 0 || asked > t.ring.o.wait {
				return res, nil
			}
			waited = true
			next = v
			if !pause(req, asked) {
				return res, nil
			}
		case verdict.Pass, verdict.Count:
		}
		if next.IsZero() || len(tried) > 3 {
			return res, nil
		}
		res.Body.Close()
		v = next
	}
}

func untried(values, tried []Value) Value {
	for _, v := range values {
		if !slices.ContainsFunc(tried, v.Equal) {
			return v
		}
	}
	return Value{}
}

// send makes one attempt.
func (t *transport) send(req *http.Request, s *state, v Value, repeat bool) (*http.Response, error) {
	out := req.Clone(req.Context())
	if repeat && req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, fmt.Errorf("keyring: repeat request: %w", err)
		}
		out.Body = body
	}
	if s.BaseURL != "" {
		base, err := url.Parse(s.BaseURL)
		if err != nil {
			closeBody(out)
			return nil, errors.New("keyring: the gateway's address is malformed")
		}
		out.URL.Scheme, out.URL.Host, out.Host = base.Scheme, base.Host, ""
		out.URL.Path = strings.TrimSuffix(base.Path, "/") + out.URL.Path
		if out.URL.RawPath != "" {
			out.URL.RawPath = strings.TrimSuffix(base.EscapedPath(), "/") + out.URL.RawPath
		}
	} else if !t.ring.named(out.URL) {
		closeBody(out)
		return nil, fmt.Errorf("keyring: %q is no host that a value may be sent to: add WithHosts", out.URL.Host)
	}
	out.Header.Del("Authorization")
	out.Header.Set("X-Api-Key", v.Reveal())
	return t.base.RoundTrip(out)
}

// named reports whether a value may be sent to an address.
func (r *Ring) named(u *url.URL) bool {
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return false
	}
	return slices.ContainsFunc(r.o.hosts, func(h string) bool {
		return strings.EqualFold(h, u.Host) || strings.EqualFold(h, u.Hostname()) && (u.Port() == "" || u.Port() == "443" || loopback(h))
	})
}

// answer reads the start of an error and puts it back.
func answer(res *http.Response) verdict.Answer {
	head, _ := io.ReadAll(io.LimitReader(res.Body, verdict.MaxBody))
	res.Body = &rejoined{io.MultiReader(bytes.NewReader(head), res.Body), res.Body}
	return verdict.Parse(res.StatusCode, res.Header.Get, head, time.Now())
}

type rejoined struct {
	io.Reader
	io.Closer
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

func pause(req *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-req.Context().Done():
		return false
	}
}
