package simulator

import (
	"net/http"
	"strings"
	"time"
)

// FaultKind says what an armed fault does to a matching request.
type FaultKind int

const (
	// FaultReply answers with an error instead of applying the request.
	FaultReply FaultKind = iota
	// FaultReplyAfter applies the request and then answers with an error.
	FaultReplyAfter
	// FaultPlain answers with Status and an HTML page, as an edge proxy does,
	// instead of applying the request.
	FaultPlain
	// FaultDropBefore closes the connection without applying the request.
	FaultDropBefore
	// FaultDropAfter applies the request and closes the connection without a reply.
	FaultDropAfter
	// FaultCutBody applies the request and cuts the reply in the middle; a
	// stream is cut after its first text delta.
	FaultCutBody
	// FaultGarbageBody applies the request and answers 200 with bytes that are
	// not JSON.
	FaultGarbageBody
	// FaultDelay applies the request after Delay.
	FaultDelay
	// FaultStreamError ends a stream with an error event: after After text
	// deltas, or before any when After is zero. Other replies are untouched.
	FaultStreamError
)

// String returns the name that the provider log shows.
func (k FaultKind) String() string {
	names := [...]string{"reply", "reply-after", "plain", "drop-before", "drop-after", "cut-body", "garbage-body", "delay", "stream-error"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Fault describes requests and what happens to them. Empty match fields match
// everything; a request must match all that are set. A fault comes before the
// judgement of key, version and body: a refused key meets it too.
type Fault struct {
	// Method is an HTTP method.
	Method string
	// Path is an exact path, or a prefix when it ends in "*".
	Path string
	// KeyID is the id of the key or admin key that the request presents.
	KeyID string
	// Workspace is the workspace of the presented key.
	Workspace string
	// Skip lets this many matching requests pass first.
	Skip int
	// Times is how many requests are hit; zero means until Remove or ClearFaults.
	Times int

	Kind FaultKind
	// Status, Type, ErrorCode and Message make the error of FaultReply,
	// FaultReplyAfter and FaultStreamError. A zero Status is 500, an empty Type
	// the one that belongs to Status.
	Status                   int
	Type, ErrorCode, Message string
	// RetryAfter is sent as retry-after in whole seconds; zero sends none.
	RetryAfter time.Duration
	// Headers are added to the reply, for example x-should-retry.
	Headers map[string]string
	// Delay belongs to FaultDelay.
	Delay time.Duration
	// After belongs to FaultStreamError.
	After int
}

// Armed is a fault in force.
type Armed struct {
	s     *Simulator
	fault Fault
	seen  int
	hits  int
}

// Fail arms a fault. When several match one request, the one armed last wins.
func (s *Simulator) Fail(f Fault) *Armed {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &Armed{s: s, fault: f}
	s.faults = append(s.faults, a)
	return a
}

// Hits returns how many requests the fault has hit.
func (a *Armed) Hits() int {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	return a.hits
}

// Remove disarms the fault. It may be called twice.
func (a *Armed) Remove() {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	for i, o := range a.s.faults {
		if o == a {
			a.s.faults = append(a.s.faults[:i:i], a.s.faults[i+1:]...)
			return
		}
	}
}

// ClearFaults disarms all faults.
func (s *Simulator) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// match finds the fault for a request and counts it. The caller holds the lock.
func (s *Simulator) match(r *http.Request, keyID string) *Fault {
	workspace := ""
	if k := s.key(keyID); k != nil {
		workspace = k.Workspace
	}
	for i := len(s.faults) - 1; i >= 0; i-- {
		a := s.faults[i]
		f := a.fault
		if f.Method != "" && f.Method != r.Method || f.KeyID != "" && f.KeyID != keyID ||
			f.Workspace != "" && f.Workspace != workspace || !pathMatches(f.Path, r.URL.Path) {
			continue
		}
		if f.Times > 0 && a.hits >= f.Times {
			continue
		}
		a.seen++
		if a.seen <= f.Skip {
			continue
		}
		a.hits++
		return &f
	}
	return nil
}

func pathMatches(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == "" || pattern == path
}

// addHeaders puts the fault's headers on a reply; a nil fault has none.
func (f *Fault) addHeaders(h http.Header) {
	if f == nil {
		return
	}
	for name, value := range f.Headers {
		h.Set(name, value)
	}
}

func (f *Fault) apiError() *apiError {
	e := &apiError{status: f.Status, kind: f.Type, errorCode: f.ErrorCode, message: f.Message, retryAfter: f.RetryAfter}
	if e.status == 0 {
		e.status = http.StatusInternalServerError
	}
	if e.kind == "" {
		e.kind = typeOf(e.status)
	}
	if e.message == "" {
		e.message = "simulated " + e.kind
	}
	return e
}

// typeOf is the error type that belongs to a status.
func typeOf(status int) string {
	switch status {
	case 401:
		return "authentication_error"
	case 402:
		return "billing_error"
	case 403:
		return "permission_error"
	case 404:
		return "not_found_error"
	case 409:
		return "conflict_error"
	case 413:
		return "request_too_large"
	case 429:
		return "rate_limit_error"
	case 504, 408:
		return "timeout_error"
	case 529:
		return "overloaded_error"
	}
	if status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}

// Named is a documented error of the provider, ready for Fail.
type Named struct {
	Name  string
	Fault Fault
}

// DocumentedErrors lists every error of the Messages API that the provider
// documents, as faults that match every request until they are removed.
func DocumentedErrors() []Named {
	row := func(name string, status int, code, message string, retryAfter time.Duration) Named {
		return Named{name, Fault{Status: status, ErrorCode: code, Message: message, RetryAfter: retryAfter}}
	}
	return []Named{
		row("bad-request", 400, "", "messages: Field required", 0),
		row("usage-limit", 400, "", "You have reached your specified workspace API usage limits.", 0),
		row("credit-balance", 400, "", "Your credit balance is too low to access the Anthropic API.", 0),
		row("organization-on-hold", 400, "organization_on_hold", "This organization is on hold.", 0),
		row("claude-code-key-creator-not-member", 400, "claude_code_key_creator_not_member", "The creator of this key is not a member.", 0),
		row("authentication", 401, "", "invalid x-api-key", 0),
		row("billing", 402, "", "There is an issue with your billing.", 0),
		row("linked-organization-spend-limit", 402, "linked_organization_spend_limit_reached", "The spend limit is reached.", 0),
		row("linked-organization-billing", 402, "linked_organization_billing_unavailable", "Billing is unavailable.", 0),
		row("permission", 403, "", "Your API key does not have permission to use the specified resource.", 0),
		row("ip-address", 403, "", "Your IP address isn't in this organization's allowed range.", 0),
		row("not-found", 404, "", "model not found", 0),
		row("request-timeout", 408, "", "Request timed out.", 0),
		row("conflict", 409, "", "The resource was changed at the same time.", 0),
		row("request-too-large", 413, "", "Request exceeds the maximum size", 0),
		row("body-too-large-after-decoding", 413, "request_body_too_large_after_decoding", "Request exceeds the maximum size", 0),
		row("rate-limit", 429, "", "This request would exceed your rate limit.", 7*time.Second),
		row("ramp-limit", 429, "ramp_limit_exceeded", "Usage is rising too fast.", 7*time.Second),
		row("enforced-spend-limit", 429, "enforced_spend_limit_reached", "The monthly limit of the tier is reached.", 0),
		row("contract-spend-limit", 429, "contract_spend_limit_reached", "The limit of the contract is reached.", 0),
		row("api-error", 500, "", "Internal server error", 0),
		row("cmek-key-unreachable", 503, "cmek_key_unreachable", "The customer-managed key cannot be reached.", 0),
		row("timeout", 504, "", "The request took too long.", 0),
		row("overloaded", 529, "", "Overloaded", 0),
	}
}
