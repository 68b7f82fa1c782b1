package simulator

import (
	"strings"
	"time"
)

// Request is one line of the provider log. It holds no value.
type Request struct {
	// Time is the simulated time at which the request was judged.
	Time   time.Time
	Method string
	Path   string
	// KeyID is the presented key or admin key, also when it was refused; empty
	// for a value that the simulator never made.
	KeyID string
	// Workspace is where the call acted; empty for admin calls and unknown keys.
	Workspace string
	// Status is the HTTP status of the reply, whether or not it arrived whole;
	// zero when the connection was dropped before the request was applied.
	Status    int
	RequestID string
	// Fault is the kind of the fault that hit the request, or empty.
	Fault string
	// Version is the anthropic-version header.
	Version string
	// UserAgent is the User-Agent header.
	UserAgent string
}

// Requests returns the provider log, oldest first. A request is in the log
// before its reply can be read.
func (s *Simulator) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Refused returns the requests that presented a known key or admin key and got
// 401. After a rotation it must be empty but for the provider's own probes.
func (s *Simulator) Refused() []Request {
	var out []Request
	for _, r := range s.Requests() {
		if r.Status == 401 && r.KeyID != "" {
			out = append(out, r)
		}
	}
	return out
}

// ForgetRequests empties the provider log.
func (s *Simulator) ForgetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *Simulator) record(c *call, status int, hit *Fault) {
	r := Request{
		Time: c.now, Method: c.r.Method, Path: masked(c.r.URL.Path), KeyID: c.who.keyID, Workspace: c.who.workspace,
		Status: status, RequestID: c.requestID, Version: c.version, UserAgent: masked(c.r.UserAgent()),
	}
	if hit != nil {
		r.Fault = hit.Kind.String()
	}
	s.mu.Lock()
	if len(s.requests) >= s.opts.LogLimit {
		s.requests = append(s.requests[:0], s.requests[len(s.requests)-s.opts.LogLimit/2:]...)
	}
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	s.log.Info("simulated request", "method", r.Method, "path", r.Path, "key_id", r.KeyID, "status", status, "fault", r.Fault)
}

// masked replaces a text that may hold a value that a caller put in the wrong place.
func masked(text string) string {
	if strings.Contains(text, "sk-"+"ant-") {
		return "(masked)"
	}
	return text
}
