package provider

import (
	"net/http"

	"github.com/keywright/keywright/internal/fault"
)

// Need is nil for a value that the provider accepts, and otherwise an error that begins with doing. Kinds: Unauthenticated (Dead),
// Forbidden (Blocked by a missing permission), RateLimited (Blocked by a limit), Unavailable (Blocked by something that passes without a
// change to the key, such as payment, and Unknown). So only the first two speak against the value.
func (v Verdict) Need(doing string) error {
	reason := ""
	if v.Reason != "" {
		reason = " (" + v.Reason + ")"
	}
	const limits = "see limits, payment and permissions of the organization in the Console"
	kind, text, hint := fault.Unavailable, "the provider's answer says nothing about the value", "try again later"
	switch v.Answer {
	case Live:
		return nil
	case Dead:
		kind, text = fault.Unauthenticated, "the provider refuses the value"
		hint = "see in the Console whether the key is active, and whether its value was copied whole; a value is shown once, so make a new key if it is lost"
	case Blocked:
		text, hint = "the value is genuine and its use is blocked", limits
		switch v.Status {
		case http.StatusForbidden:
			kind = fault.Forbidden
		case http.StatusTooManyRequests:
			kind, hint = fault.RateLimited, "try again when the limit is over, or "+limits
		}
	}
	return fault.New(kind, doing+": "+text+reason, fault.Hint("%s", hint), fault.RetryAfter(v.RetryAfter))
}
