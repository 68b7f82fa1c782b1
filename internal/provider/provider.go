// Package provider is the contract with the issuer of keys. It knows no issuer itself and decides nothing. Connectors live in the
// folders below it; intake, monitor and runner call them.
package provider

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/secret"
)

// Answer is one of the things that can be said of a key.
type Answer string

// The answers. Only Dead may ever lead to a rollback or a revoked mark; Blocked and Unknown never do.
const (
	// Live: the provider accepted the value.
	Live Answer = "live"
	// Dead: the provider refused the value for certain (401, or 400 with the code that its creator left).
	Dead Answer = "dead"
	// Blocked: the value is accepted as genuine, and its use is refused for another reason (403, limit, payment, hold).
	Blocked Answer = "blocked"
	// Unknown: nothing can be said (5xx, time-out, connection, an unfamiliar reply).
	Unknown Answer = "unknown"
)

// Verdict is what one question about a value brought.
type Verdict struct {
	Answer Answer `json:"answer"`
	// Organization (UUID) and Workspace (wrkspc_…) are read from the reply; empty when it did not say.
	Organization string `json:"organization,omitempty"`
	Workspace    string `json:"workspace,omitempty"`
	// Status is the HTTP status, or 0 when there was no reply.
	Status int `json:"status,omitempty"`
	// Type and Code are error.type and error.details.error_code of the reply, restricted to known words.
	Type string `json:"type,omitempty"`
	Code string `json:"code,omitempty"`
	// Reason is one value-free phrase for people.
	Reason string `json:"reason,omitempty"`
	// RetryAfter is the provider's wish, or zero.
	RetryAfter time.Duration `json:"retry_after,omitempty"`
	// RequestID is the provider's id of the request.
	RequestID string `json:"request_id,omitempty"`
	// Date is the provider's clock from the reply, or zero.
	Date time.Time `json:"date,omitzero"`
}

// Provider is what every issuer can do: say what it thinks of a value. Methods may be called from several goroutines. Inspect costs
// nothing, leaves no usage, and returns an error only for a cancelled context or a question that could not be asked; trouble at the
// provider is a Verdict with Unknown.
type Provider interface {
	Inspect(ctx context.Context, v secret.Value) (Verdict, error)
}

// Tester proves that a value works end to end. Count asks for a token count (free); Message sends the smallest message, which leaves
// usage. The Verdict rules of Inspect hold.
type Tester interface {
	Count(ctx context.Context, v secret.Value) (Verdict, error)
	Message(ctx context.Context, v secret.Value) (Verdict, error)
}

// Status of a key at the provider.
type Status string

// The provider's words for the status of a key.
const (
	Active   Status = "active"
	Inactive Status = "inactive"
	Archived Status = "archived"
	Expired  Status = "expired"
)

// Key is the provider's record of a key: never its value.
type Key struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Status    Status    `json:"status"`
	Hint      Hint      `json:"-"`
	Workspace string    `json:"workspace,omitempty"`
	Principal string    `json:"principal,omitempty"` // user, service_account or empty
	CreatedBy string    `json:"created_by,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never
}

// Matches reports whether the record's hint fits the value. A fit is no proof of identity. A record without a hint fits nothing.
func (k Key) Matches(v secret.Value) bool {
	fits := false
	v.Reveal(func(b []byte) { fits = k.Hint.fits(string(b)) })
	return fits
}

// Lister lists every key of the organization, or of one workspace when it is not empty.
type Lister interface {
	List(ctx context.Context, workspace string) ([]Key, error)
}

// StatusSetter sets a key inactive, active or archived, and gives back the record. Setting what is set succeeds. A cap on active keys is
// Forbidden with the code in the message. It does not wait until the change takes effect: ask Inspect for that.
type StatusSetter interface {
	SetStatus(ctx context.Context, id string, s Status) (Key, error)
}

// UsageQuery asks for the usage of some keys in [From, To).
type UsageQuery struct {
	IDs  []string
	From time.Time
	To   time.Time
}

// Usage is what the provider reports. Seen holds, by key id, the requests (or, where the source does not count requests, the tokens)
// per bucket; a key without usage has no entry. FreshTo is the time up to which the report is complete by the provider's own word:
// data after it is not evidence. It is zero when the report does not say.
type Usage struct {
	Seen    map[string][]Bucket `json:"seen"`
	FreshTo time.Time           `json:"fresh_to,omitzero"`
	// NewestBucket is the start of the newest bucket in Seen, or zero. A source without FreshTo is complete up to there at least when the
	// bucket holds a message of the caller's own.
	NewestBucket time.Time `json:"newest_bucket,omitzero"`
	Source       string    `json:"source"` // "analytics" or "usage report"
	Counts       string    `json:"counts"` // "requests" or "tokens"
}

// Bucket is the usage of one key in a span of time.
type Bucket struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Count int64     `json:"count"`
	Model string    `json:"model,omitempty"`
}

// UsageReporter reports usage per key.
type UsageReporter interface {
	Usage(ctx context.Context, q UsageQuery) (Usage, error)
}

// Nano is an amount of money in billionths of a US dollar.
type Nano int64

// Cost is what the provider charges for the usage of some keys. Spent holds the charges by key id, oldest first; a key without a charge has no
// entry. FreshTo is as in Usage.
type Cost struct {
	Spent   map[string][]Spend `json:"spent"`
	FreshTo time.Time          `json:"fresh_to,omitzero"`
	Source  string             `json:"source"` // "analytics"
}

// Spend is the charge of one key in a span of time.
type Spend struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Amount is what is charged, before credits, and List what the same costs without a discount.
	Amount Nano   `json:"amount"`
	List   Nano   `json:"list"`
	Model  string `json:"model,omitempty"`
}

// CostReporter reports the cost per key. An organization whose provider does not give it by key is Unsupported. The times are those of a
// UsageQuery, and are kept to the minute.
type CostReporter interface {
	Cost(ctx context.Context, q UsageQuery) (Cost, error)
}

// Activity is one entry of the provider's own record of changes to keys.
type Activity struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Type    string    `json:"type"`
	KeyID   string    `json:"key_id,omitempty"`
	Actor   string    `json:"actor"`
	Changes []string  `json:"changes,omitempty"`
}

// ActivityReporter lists the changes to keys since a time, oldest first.
type ActivityReporter interface {
	Activities(ctx context.Context, since time.Time) ([]Activity, error)
}

// Organizer says which organization the admin credential belongs to.
type Organizer interface {
	Organization(ctx context.Context) (id, name string, err error)
}

// Clock asks for the provider's time, for the comparison before a retire.
type Clock interface {
	Clock(ctx context.Context) (time.Time, error)
}
