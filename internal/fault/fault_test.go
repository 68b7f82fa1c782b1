package fault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

func TestKindSurvivesWrapping(t *testing.T) {
	base := fault.New(fault.RateLimited, "list keys", fault.Hint("wait"), fault.RetryAfter(3*time.Second))
	err := fmt.Errorf("outer: %w", fault.In(base, "refresh inventory"))
	if got := fault.KindOf(err); got != fault.RateLimited {
		t.Errorf("KindOf = %v", got)
	}
	if got := fault.HintOf(err); got != "wait" {
		t.Errorf("HintOf = %q", got)
	}
	if got := fault.RetryAfterOf(err); got != 3*time.Second {
		t.Errorf("RetryAfterOf = %v", got)
	}
	if got, want := err.Error(), "outer: refresh inventory: list keys"; got != want {
		t.Errorf("Error = %q, want %q", got, want)
	}
}

func TestOuterKindWins(t *testing.T) {
	err := fault.Wrap(fault.Conflict, fault.New(fault.NotFound, "inner"), "outer", fault.Hint("look"))
	if !fault.Is(err, fault.Conflict) || fault.Is(err, fault.NotFound) {
		t.Errorf("kind = %v", fault.KindOf(err))
	}
}

func TestNilStaysNil(t *testing.T) {
	if fault.Wrap(fault.Invalid, nil, "x") != nil || fault.In(nil, "x") != nil {
		t.Error("wrapping nil made an error")
	}
	if fault.Is(nil, fault.Unknown) {
		t.Error("nil has a kind")
	}
}

func TestExitCodes(t *testing.T) {
	for kind, want := range map[fault.Kind]int{
		fault.Unknown: 1, fault.Corrupt: 1, fault.Invalid: 2, fault.Unsupported: 2, fault.Unauthenticated: 3, fault.Forbidden: 3,
		fault.NotFound: 4, fault.Conflict: 5, fault.RateLimited: 6, fault.Unavailable: 6, fault.Indeterminate: 7, fault.Findings: 8,
		fault.Incomplete: 9, fault.Canceled: 130,
	} {
		if got := fault.ExitCode(fault.New(kind, "x")); got != want {
			t.Errorf("ExitCode(%v) = %d, want %d", kind, got, want)
		}
		if got := fault.ParseKind(kind.String()); got != kind {
			t.Errorf("ParseKind(%q) = %v", kind.String(), got)
		}
	}
	if fault.ExitCode(nil) != 0 || fault.ExitCode(context.Canceled) != 130 || fault.ExitCode(context.DeadlineExceeded) != 6 || fault.ExitCode(errors.New("x")) != 1 {
		t.Error("plain errors map wrongly")
	}
	if fault.ParseKind("from the future") != fault.Unknown {
		t.Error("an unfamiliar kind must read as Unknown")
	}
}
