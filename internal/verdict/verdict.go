// Package verdict says what an answer of the provider means for the keys of a gateway: whose state it changes (the key, its workspace,
// its organization, or the upstream itself), for how long, and whether another key or another attempt may help. It is one table, from which
// docs/gateway-verdicts.md is generated.
//
// It does no I/O, keeps no state, takes time as an argument and never sees a value. The packages gateway and keyring call it; the
// verdict on a value at intake, which asks less, is provider/anthropic's.
package verdict

//go:generate go run ../tools/genverdicts

import (
	"strings"
	"time"
)

// Scope is what an answer speaks about. The zero Scope is the request alone.
type Scope uint8

// The scopes. Limits belong to a workspace or an organization and never to a key; overload belongs to the upstream.
const (
	Request        Scope = iota
	Key                  // the key itself
	KeyModel             // the key with this model: counted, never acted on for later requests
	WorkspaceModel       // the workspace and the class of the model
	Workspace            // the workspace
	Organization         // the organization
	UpstreamModel        // the upstream and the model
)

var scopeNames = [...]string{"request", "key", "key and model", "workspace and model class", "workspace", "organization", "upstream and model"}

// String gives the name for people and for labels.
func (s Scope) String() string { return name(scopeNames[:], int(s)) }

// Action is what to do with the request that got the answer.
type Action uint8

// The actions.
const (
	// Pass: give the answer to the caller.
	Pass Action = iota
	// Suspect: set the key aside until a probe of one's own has decided, and try another key.
	Suspect
	// Other: try one other key once; the key stays as it is.
	Other
	// Cool: nobody uses the scope until the given time; try a key outside of the scope where that is allowed, else Pass.
	Cool
	// Retry: repeat with the same key after a short random wait, and count the failure for the upstream's breaker; at the end Pass.
	Retry
	// Count: count the failure for the upstream's breaker, then Pass.
	Count
)

var actionNames = [...]string{"pass through", "suspect, probe, fail over", "try one other key once", "cool, fail over outside of the scope", "retry in place", "count, pass through"}

// String gives the name for people.
func (a Action) String() string { return name(actionNames[:], int(a)) }

// Cross is the permission that a failover needs when it leaves the organization and workspace of the first key.
type Cross uint8

// The permissions; a group of keys allows each apart. Within one organization and workspace none is needed.
const (
	CrossNever Cross = iota
	CrossDead
	CrossLimits
	CrossForbidden
)

var crossNames = [...]string{"none", "on_401", "on_limits", "on_403"}

// String gives the name as it stands in the configuration.
func (c Cross) String() string { return name(crossNames[:], int(c)) }

// End says when a cooled scope is free again.
type End uint8

// The ends. At each of them one request goes through as a probe before the rest.
const (
	EndNone   End = iota
	EndHeader     // the retry-after of the answer, else the row's default
	EndFixed      // the row's default
	EndMonth      // the first of the next month, 00:00 UTC
)

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "unknown"
}

// Answer is what the provider said, reduced to what a verdict needs.
type Answer struct {
	// Status is the HTTP status; 0 means that no answer came (refused, reset, timed out). For an error event of a stream it is StatusOf
	// the event's type.
	Status int
	// Type and Code are error.type and error.details.error_code. Shaped says that the body was an error of the provider's form; a page by
	// an edge or a portal says nothing about a key, whatever its status.
	Type, Code string
	Shaped     bool
	// Message is error.message. Its wording is not stable, so rows that look at it never speak against a key.
	Message string
	// RetryAfter is the provider's wish, or zero.
	RetryAfter time.Duration
	// NoRetry is set by x-should-retry: false.
	NoRetry bool
}

// Row is one line of the table. Zero fields match everything.
type Row struct {
	Name     string // stable, for labels and logs
	Status   int    // exact status
	Over     int    // or: Status is at least this
	Type     string
	Code     string // exact, or a prefix when it ends in "*"
	Starts   string // the message starts with this
	Holds    string // the message contains this, whatever the case
	Unshaped bool   // the body is not an error of the provider's form

	Scope   Scope
	Action  Action
	End     End
	Default time.Duration
	Cross   Cross
	Dead    bool // the provider says for certain that the key is dead; a probe confirms it
	Shared  bool // a breaker that several applications share counts this only when several of them see it
	Page    bool // a person should know
	Why     string
}

// Table gives the rows in order; the first that matches wins, and the last matches everything.
func Table() []Row { return append([]Row(nil), rows...) }

//nolint:gochecknoglobals // The table is constant; Table gives copies.
var rows = []Row{
	{Name: "ok", Status: 200, Why: "the answer is fine"},
	{Name: "connection", Status: noAnswer, Scope: UpstreamModel, Action: Retry, Why: "the upstream could not be reached, or broke off before an answer"},
	{Name: "foreign-401", Status: 401, Unshaped: true, Why: "something before the provider refused; it says nothing about the key"},
	{Name: "creator-left", Status: 400, Code: CodeCreatorLeft, Scope: Key, Action: Suspect, Cross: CrossDead, Dead: true, Page: true, Why: "the key's creator is no longer a member"},
	{Name: "organization-hold", Status: 400, Code: CodeOnHold, Scope: Organization, Action: Cool, End: EndFixed, Default: 5 * time.Minute, Cross: CrossLimits, Page: true, Why: "the organization is on hold"},
	{Name: "customer-limit", Status: 400, Starts: "You have reached your specified", Holds: "usage limits", Scope: Workspace, Action: Cool, End: EndFixed, Default: 5 * time.Minute, Cross: CrossLimits, Page: true, Why: "a spend limit that the customer set is reached"},
	{Name: "credit", Status: 400, Starts: "Your credit balance is too low", Scope: Organization, Action: Cool, End: EndFixed, Default: 5 * time.Minute, Cross: CrossLimits, Page: true, Why: "the prepaid credit is used up"},
	{Name: "cors", Status: 401, Holds: "CORS", Why: "refused for its origin; it says nothing about the key"},
	{Name: "dead", Status: 401, Scope: Key, Action: Suspect, Cross: CrossDead, Dead: true, Page: true, Why: "the key is revoked, inactive, archived or expired, if a probe agrees"},
	{Name: "linked-spend-limit", Status: 402, Code: CodeLinkedSpendLimit, Scope: Organization, Action: Cool, End: EndFixed, Default: 5 * time.Minute, Cross: CrossLimits, Page: true, Why: "the spend limit of the linked organization is reached"},
	{Name: "linked-billing", Status: 402, Code: CodeLinkedBilling, Scope: Organization, Action: Cool, End: EndFixed, Default: 5 * time.Minute, Cross: CrossLimits, Page: true, Why: "billing of the linked organization is not available"},
	{Name: "billing", Status: 402, Scope: Organization, Action: Cool, End: EndFixed, Default: 5 * time.Minute, Cross: CrossLimits, Page: true, Why: "there is trouble with payment"},
	{Name: "forbidden-address", Status: 403, Holds: "IP address", Scope: KeyModel, Action: Other, Cross: CrossForbidden, Page: true, Why: "the organization does not allow this address"},
	{Name: "forbidden", Status: 403, Scope: KeyModel, Action: Other, Cross: CrossForbidden, Why: "the key lacks a right; it may have others"},
	{Name: "timeout-408", Status: 408, Action: Retry, Why: "the request came too slowly"},
	{Name: "enforced-cap", Status: 429, Code: CodeEnforcedCap, Scope: Organization, Action: Cool, End: EndMonth, Cross: CrossLimits, Page: true, Why: "the monthly cap of the tier is reached"},
	{Name: "contract-cap", Status: 429, Code: CodeContractCap, Scope: Organization, Action: Cool, End: EndFixed, Default: 15 * time.Minute, Cross: CrossLimits, Page: true, Why: "the cap of the contract is reached"},
	{Name: "ramp", Status: 429, Code: CodeRamp, Scope: WorkspaceModel, Action: Cool, End: EndHeader, Default: 10 * time.Second, Cross: CrossLimits, Why: "usage grows faster than the provider allows"},
	{Name: "burst", Status: 429, Scope: WorkspaceModel, Action: Cool, End: EndHeader, Default: 5 * time.Second, Cross: CrossLimits, Why: "a rate limit is reached"},
	{Name: "overloaded", Status: 529, Scope: UpstreamModel, Action: Retry, Why: "the provider is overloaded; another key does not help"},
	{Name: "overloaded-type", Over: 500, Type: "overloaded_error", Scope: UpstreamModel, Action: Retry, Why: "the provider is overloaded; another key does not help"},
	{Name: "customer-key", Status: 503, Code: "cmek_*", Scope: Workspace, Action: Cool, End: EndHeader, Default: time.Minute, Cross: CrossLimits, Page: true, Why: "the customer-managed encryption key cannot be reached"},
	{Name: "api-error", Status: 500, Scope: UpstreamModel, Action: Retry, Shared: true, Why: "a fault of the provider, or a request that makes it fail"},
	{Name: "timeout-504", Status: 504, Scope: UpstreamModel, Action: Count, Shared: true, Why: "the request took too long; the same again would too"},
	{Name: "unavailable", Over: 500, Scope: UpstreamModel, Action: Retry, Why: "the provider, or something before it, is not available"},
	{Name: "other", Why: "the answer is about the request"},
}

// noAnswer stands for status 0 in a row, where zero matches everything.
const noAnswer = -1

// Outcome is the row that matched and when its scope is free again: the zero time unless the action is Cool.
type Outcome struct {
	Row
	Until time.Time
}

// Judge finds the row for an answer. An action of Retry becomes Count when the provider asked not to repeat, and Pass where there is nothing to
// count. Waits are bounded to a day, and to a second from below.
func Judge(a Answer, now time.Time) Outcome {
	for i := range rows {
		if !rows[i].matches(a) {
			continue
		}
		o := Outcome{Row: rows[i]}
		if o.Action == Retry && a.NoRetry {
			if o.Action = Count; o.Scope != UpstreamModel {
				o.Action = Pass
			}
		}
		switch o.End {
		case EndHeader:
			d := o.Default
			if a.RetryAfter > 0 {
				d = min(max(a.RetryAfter, time.Second), 24*time.Hour)
			}
			o.Until = now.Add(d)
		case EndFixed:
			o.Until = now.Add(o.Default)
		case EndMonth:
			u := now.UTC()
			o.Until = time.Date(u.Year(), u.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		case EndNone:
		}
		return o
	}
	return Outcome{}
}

func (r *Row) matches(a Answer) bool {
	switch {
	case r.Status == noAnswer && a.Status != 0:
		return false
	case r.Status == 200 && (a.Status < 200 || a.Status > 299):
		return false
	case r.Status > 0 && r.Status != 200 && a.Status != r.Status:
		return false
	case r.Over > 0 && a.Status < r.Over:
		return false
	case r.Unshaped && a.Shaped:
		return false
	case r.Type != "" && a.Type != r.Type:
		return false
	case r.Starts != "" && !strings.HasPrefix(a.Message, r.Starts):
		return false
	case r.Holds != "" && !strings.Contains(strings.ToLower(a.Message), strings.ToLower(r.Holds)):
		return false
	}
	if prefix, ok := strings.CutSuffix(r.Code, "*"); ok {
		return strings.HasPrefix(a.Code, prefix)
	}
	return r.Code == "" || r.Code == a.Code
}

// StatusOf gives the HTTP status that belongs to the type of an error event, since a stream has answered 200 before. An unfamiliar type
// gives 500.
func StatusOf(errorType string) int {
	if s, ok := statuses[errorType]; ok {
		return s
	}
	return 500
}

// TypeOf gives the error type that belongs to a status, for errors that Keywright makes in the provider's form.
func TypeOf(status int) string {
	for t, s := range statuses {
		if s == status {
			return t
		}
	}
	if status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}

// classes are the words that name a family of models within a model's id.
var classes = []string{"opus", "sonnet", "haiku", "fable", "mythos"} //nolint:gochecknoglobals // constant

// Class gives the class of a model, for which rate limits are counted together: the family in its id, or "other". Its results are few,
// so it may be a label.
func Class(model string) string {
	for _, c := range classes {
		if strings.Contains(model, c) {
			return c
		}
	}
	return "other"
}
