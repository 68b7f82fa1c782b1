package report

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestUsageSaysHowFarItIsKnown(t *testing.T) {
	from := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	to := from.Add(48 * time.Hour)
	used := func(u Usage) Usage {
		u.Add("claude-b", 1, from.Add(2*time.Hour), from.Add(2*time.Hour+time.Minute))
		u.Add("claude-a", 1200, from.Add(time.Hour), from.Add(time.Hour+time.Minute))
		u.Add("claude-a", 34, from.Add(3*time.Hour), from.Add(3*time.Hour+time.Minute))
		u.Add("", 1, from.Add(time.Hour), from.Add(time.Hour+time.Minute))
		return u
	}
	const window = "2026-11-03 10:00 UTC to 2026-11-05 10:00 UTC"
	for name, c := range map[string]struct {
		u    Usage
		want []string
	}{
		"none, complete": {
			Usage{From: from, To: to, Counts: "requests", FreshTo: to},
			[]string{window, "no use", "the report is complete"},
		},
		"none, late": {
			Usage{From: from, To: to, Counts: "requests", FreshTo: to.Add(-time.Hour)},
			[]string{window, "no use", "the report is complete up to 2026-11-05 09:00 UTC: there may be more since"},
		},
		"none, undated": {
			Usage{From: from, To: to, Counts: "tokens"},
			[]string{window, "no use is reported", "the report does not say how fresh it is: there may be more"},
		},
		"used, cut": {
			used(Usage{From: from, To: to, Cut: true, Counts: "tokens", FreshTo: to}),
			[]string{
				window + ", the last part of the exposure", "1,236 tokens between 2026-11-03 11:00 UTC and 2026-11-03 13:01 UTC",
				"  claude-a: 1,234 tokens", "  a model that the report does not name: 1 token", "  claude-b: 1 token", "the report is complete",
			},
		},
		"not known": {Usage{From: from, To: to, Why: "refused"}, []string{window, "not known: refused"}},
	} {
		if got := c.u.Story(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestUsageIsInTheStory(t *testing.T) {
	from := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	k := Key{Fingerprint: "kf_0123456789abcdef", Exposure: []Exposure{{From: from.Add(time.Hour)}, {}, {From: from}}}
	if got := k.Exposed(); !got.Equal(from) {
		t.Errorf("exposed %v, want the first of all histories, %v", got, from)
	}
	if (&Key{Exposure: []Exposure{{}}}).Exposed() != (time.Time{}) {
		t.Error("exposed without a commit")
	}
	k.Usage = &Usage{From: from, To: from.Add(time.Hour), Counts: "requests"}
	k.Usage.Add("claude-a", 2, from, from.Add(time.Minute))
	var b strings.Builder
	if err := (&Report{Complete: true}).Story(&b, &k, TableOptions{}); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); !strings.Contains(text, "\nusage since it was exposed\n  2026-11-03 10:00") || !strings.Contains(text, "Compare its usage, above") {
		t.Error(text)
	}
	k.Usage.Why = "refused"
	if steps := strings.Join(k.Next(), "\n"); strings.Contains(steps, "above, to") || !strings.Contains(steps, "Look at its usage") {
		t.Error(steps)
	}
}
