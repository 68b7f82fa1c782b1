package anthropic

import (
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/provider"
)

func TestAmountsAreReadExactly(t *testing.T) {
	for cents, want := range map[string]provider.Nano{
		"0": 0, "1": 10_000_000, "11.50005": 115_000_500, "-2.5": -25_000_000, "0.00000004": 0, "0.00000006": 1, "123456789.1234567": 1_234_567_891_234_567,
		"00.10": 1_000_000, "1.": 10_000_000,
	} {
		if got, ok := nano(cents); !ok || got != want {
			t.Errorf("%q is %d, %v, want %d", cents, got, ok, want)
		}
	}
	for _, bad := range []string{"", "-", ".5", "1e9", "1/3", "0x10", "NaN", "1_0", "1.2.3", "--1", "+1", " 1", "99999999999999999999", strings.Repeat("1", 65)} {
		if got, ok := nano(bad); ok {
			t.Errorf("%q is read as %d", bad, got)
		}
	}
}

func TestSpansMeetWithoutOverlap(t *testing.T) {
	base := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	for from := range 70 {
		for n := 1; n < 200; n += 7 {
			a, b := base.Add(time.Duration(from)*time.Minute), base.Add(time.Duration(from+n)*time.Minute)
			at := a
			for _, p := range spans(a, b) {
				if !p.from.Equal(at) || !p.from.Before(p.to) || p.width == "1m" && p.to.Sub(p.from) >= 2*time.Hour || p.width == "1h" && (p.from.Minute() != 0 || p.to.Minute() != 0) {
					t.Fatalf("%v to %v: %+v", a, b, spans(a, b))
				}
				at = p.to
			}
			if !at.Equal(b) {
				t.Fatalf("%v to %v: %+v", a, b, spans(a, b))
			}
		}
	}
}
