package simulator

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// defaultRequestsPerMinute is what the headers show where no limit is set.
const (
	defaultRequestsPerMinute = 4000
	inputTokensPerMinute     = 2_000_000
	outputTokensPerMinute    = 400_000
)

// window counts the requests of one workspace, or of the organization under
// the empty id, in one minute of the simulated clock.
type window struct {
	minute   int64
	requests int
}

// SetRateLimit makes messages and token counting answer 429 after perMinute
// requests in one minute of the simulated clock; zero removes the limit. An
// empty workspace sets the limit of the organization.
func (s *Simulator) SetRateLimit(workspace string, perMinute int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if perMinute <= 0 {
		delete(s.limits, workspace)
		return
	}
	s.limits[workspace] = perMinute
}

func (s *Simulator) window(id string, now time.Time) *window {
	minute := now.Unix() / 60
	w := s.windows[id]
	if w == nil || w.minute != minute {
		w = &window{minute: minute}
		s.windows[id] = w
	}
	return w
}

// takeRate counts a message request and refuses it beyond the limit.
func (s *Simulator) takeRate(c *call) *apiError {
	if c.who.admin || c.r.Method != http.MethodPost || !strings.HasPrefix(c.r.URL.Path, "/v1/messages") {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := []string{c.who.workspace, ""}
	for _, id := range ids {
		if limit, ok := s.limits[id]; ok && s.window(id, c.now).requests >= limit {
			end := c.now.Truncate(time.Minute).Add(time.Minute)
			return &apiError{
				status: 429, kind: "rate_limit_error", retryAfter: max(end.Sub(c.now), time.Second),
				message: "This request would exceed the rate limit of requests per minute.",
			}
		}
	}
	for _, id := range ids {
		s.window(id, c.now).requests++
	}
	return nil
}

// rateHeaders shows the tightest limit in force.
func (s *Simulator) rateHeaders(h http.Header, c *call) {
	s.mu.Lock()
	limit, left := defaultRequestsPerMinute, defaultRequestsPerMinute-s.window("", c.now).requests
	for _, id := range []string{"", c.who.workspace} {
		if l, ok := s.limits[id]; ok && (l-s.window(id, c.now).requests < left || limit == defaultRequestsPerMinute) {
			limit, left = l, l-s.window(id, c.now).requests
		}
	}
	s.mu.Unlock()
	reset := stamp(c.now.Truncate(time.Minute).Add(time.Minute))
	set := func(name string, limit, left int) {
		h.Set("anthropic-ratelimit-"+name+"-limit", strconv.Itoa(limit))
		h.Set("anthropic-ratelimit-"+name+"-remaining", strconv.Itoa(max(left, 0)))
		h.Set("anthropic-ratelimit-"+name+"-reset", reset)
	}
	set("requests", limit, left)
	set("input-tokens", inputTokensPerMinute, inputTokensPerMinute)
	set("output-tokens", outputTokensPerMinute, outputTokensPerMinute)
	set("tokens", inputTokensPerMinute+outputTokensPerMinute, inputTokensPerMinute+outputTokensPerMinute)
}
