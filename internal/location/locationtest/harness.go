// Package locationtest is the conformance suite of location drivers: what the contract promises, as tests that run against every
// connector and its real peer. New behaviour of the contract goes into this suite first, then into the drivers. It is
// used by tests alone and is not in the binary.
package locationtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// Harness tells the suite how to make places of one kind and what is possible there. New and How are required.
type Harness struct {
	// New makes a fresh place that holds no value, with neighbours if the place can have any. Everything it starts ends by
	// tb.Cleanup.
	New func(tb testing.TB) *Place
	// How is the strongest knowledge that Inspect can have of a value that Keywright put there.
	How location.Knowledge
	// CAS is true where the place itself compares and sets, so that of two puts at once exactly one wins.
	CAS bool
	// ReloadsOnce is true where a repeated reload with the same id does not restart the consumers again.
	ReloadsOnce bool
	// Faults are the faults that Place.Break can inject; see StatusFaults and Interruptions.
	Faults []Fault
	// RetryAfter is true where a refusal by rate can carry a period; Break then answers RetryAfterSeconds with status 429.
	RetryAfter bool
	// Longest is the length in bytes of the longest value that the place takes; zero means 512.
	Longest int
	// Patience bounds one call against a peer that hangs; zero means 300 ms. It is no claim about speed.
	Patience time.Duration
}

// RetryAfterSeconds is what a broken peer asks for with status 429.
const RetryAfterSeconds = 7

// Place is one place under test. Driver is required; a function that is nil says that the thing cannot be done there, and
// skips the rules that need it.
type Place struct {
	Driver location.Driver
	// Again opens a further driver of the same place, as a restarted process would.
	Again func() location.Driver
	// Held reads the value in force without the driver; false when the place holds none.
	Held func(tb testing.TB) ([]byte, bool)
	// Overwrite makes the place hold v, as a stranger would.
	Overwrite func(tb testing.TB, v secret.Value)
	// Neighbours gives everything in the place that is not ours, byte by byte.
	Neighbours func(tb testing.TB) []byte
	// Disturb changes a neighbour, as a stranger would.
	Disturb func(tb testing.TB)
	// StageForeign stages v, as a stranger would.
	StageForeign func(tb testing.TB, v secret.Value)
	// Copies gives every value that the place keeps: held, staged, older.
	Copies func(tb testing.TB) [][]byte
	// Break makes the peer fail once, as the fault says.
	Break func(tb testing.TB, f Fault)
	// Reloads counts how often the consumers were restarted or told to reload.
	Reloads func(tb testing.TB) int
	// Settle waits until the consumers have finished a reload.
	Settle func(tb testing.TB)
	// Logs gives what driver and peer logged, for the leak test. The place's own content does not belong here.
	Logs func(tb testing.TB) []byte
}

// Fault is one way in which a peer fails. Exactly one of Status, Cut, Hang and Garbage is set.
type Fault struct {
	// Status is answered instead of doing the work. Places without HTTP answer what means the same.
	Status int
	// Cut applies the change and ends the connection without a reply.
	Cut bool
	// Hang does nothing and does not answer until the caller gives up.
	Hang bool
	// Garbage answers with success and a body that is none of the protocol. A change is applied.
	Garbage bool
	// OnWrite makes the fault wait for the next request that changes something; otherwise it hits the next request.
	OnWrite bool
}

// String gives the fault in words, as the name of a subtest.
func (f Fault) String() string {
	s := fmt.Sprintf("status %d", f.Status)
	switch {
	case f.Cut:
		s = "cut after applying"
	case f.Hang:
		s = "hang"
	case f.Garbage:
		s = "garbage"
	}
	if f.OnWrite {
		return s + " on a write"
	}
	return s
}

// StatusFaults gives every status of the failure matrix, for any request and for a write.
func StatusFaults() []Fault {
	var all []Fault
	for _, onWrite := range []bool{false, true} {
		for _, s := range []int{401, 403, 404, 409, 429, 500} {
			all = append(all, Fault{Status: s, OnWrite: onWrite})
		}
	}
	return all
}

// Interruptions gives the faults below HTTP: a cut reply, silence and garbage.
func Interruptions() []Fault {
	return []Fault{{Cut: true, OnWrite: true}, {Hang: true}, {Hang: true, OnWrite: true}, {Garbage: true}, {Garbage: true, OnWrite: true}}
}

// Run runs every rule as a subtest. Rules that the place cannot be asked are skipped with the reason.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			t.Helper()
			r.run(t, h)
		})
	}
}

// rule is one promise of the contract. check fails its run when the promise is broken.
type rule struct {
	name  string
	check func(*run)
}

func (r rule) run(tb testing.TB, h Harness) {
	tb.Helper()
	x := start(tb, h)
	defer x.searchLeaks()
	r.check(x)
}
