// Package providertest is the conformance suite of providers: what the contract promises, as tests that run against every provider and a
// stateful peer. New behaviour of the contract goes into this suite first. It is used by tests alone and is not in the binary.
package providertest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret"
)

// Harness tells the suite how to start a peer and how to connect the provider under test to it. Both fields are required.
type Harness struct {
	// Peer starts a fresh peer. Everything it starts ends by tb.Cleanup.
	Peer func(tb testing.TB) *Peer
	// Connect makes the provider under test.
	Connect func(tb testing.TB, c Connection) provider.Provider
}

// Connection is what the suite wants of a provider that Connect makes.
type Connection struct {
	BaseURL string
	// Admin is the admin key, or zero for a provider without one.
	Admin secret.Value
	// Timeout bounds one call.
	Timeout time.Duration
	// Log takes everything that the provider logs, down to debug.
	Log *slog.Logger
}

// Peer is the issuer that a provider is tested against. Functions that are nil skip the rules that need them; the others are required.
type Peer struct {
	URL          string
	Admin        secret.Value
	Organization string
	// Workspaces are two different workspaces.
	Workspaces [2]string
	// PageSize is how many keys the provider asks for at once; the list rule makes one more.
	PageSize int
	// NewKey makes an active key, as a person does.
	NewKey func(tb testing.TB, workspace string) (id string, v secret.Value)
	// Now and Advance read and move the peer's clock.
	Now     func() time.Time
	Advance func(d time.Duration)
	// Delay is how long a change of status takes to have an effect, by the peer's clock.
	Delay time.Duration
	// Requests counts what a key used, without lag.
	Requests func(id string) int64
	// Lag sets how far usage reports are behind.
	Lag func(d time.Duration)
	// Older leaves the peer with its older source of usage alone.
	Older func(tb testing.TB)
	// Cap limits the number of active keys in a workspace.
	Cap func(n int)
	// Refusals are the documented errors of the peer.
	Refusals []Refusal
	// Logs gives what the peer recorded, for the leak test.
	Logs func() []byte
}

// Refusal is a documented error: Arm makes the peer answer so until the function that it returns is called.
type Refusal struct {
	Name string
	Arm  func() (disarm func())
	// Want is what the error says about a value.
	Want provider.Answer
	// RetryAfter is what the error asks for, or zero.
	RetryAfter time.Duration
}

// Run runs every rule as a subtest.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) { r.run(t, h) })
	}
}

// Rules gives the names of the rules in order.
func Rules() []string {
	var names []string
	for _, r := range rules() {
		names = append(names, r.name)
	}
	return names
}

// Breaks reports whether the provider of h breaks a rule. It is for the proof that a rule can fail; the name must be one of Rules. The
// failure itself is kept from tb and logged there.
func Breaks(tb testing.TB, name string, h Harness) bool {
	tb.Helper()
	for _, r := range rules() {
		if r.name == name {
			return failed(tb, func(tb testing.TB) { r.run(tb, h) })
		}
	}
	tb.Fatalf("there is no rule %q", name)
	return false
}

// rule is one promise of the contract.
type rule struct {
	name  string
	check func(*run)
}

func rules() []rule {
	return []rule{
		{"a good value is live and says where it belongs", live},
		{"an unknown or inactive value is dead", dead},
		{"every documented refusal gets its answer", refusals},
		{"asking leaves no usage", freeOfUsage},
		{"abilities are those that work", abilities},
		{"a status is set, and set again, and takes effect", status},
		{"a status that cannot be set says why", statusRefused},
		{"hints match their own value alone", hints},
		{"a list is whole and by workspace", lists},
		{"usage is counted per key and says how fresh it is", usage},
		{"usage falls back to the older source", usageFallback},
		{"cost is counted per key and says how fresh it is", cost},
		{"activities come oldest first", activities},
		{"organization and clock are the provider's", identity},
		{"a cancelled call says so", cancelled},
		{"a hostile peer proves nothing about a value", hostileValues},
		{"a hostile peer never passes for an answer", hostileAdmin},
		{"no redirect is followed", redirects},
		{"a peer that repeats the value does not make it leak", echo},
	}
}
