package report

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/scan"
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

func TestAmountsOfMoney(t *testing.T) {
	for d, want := range map[Dollars][2]string{
		0: {"$0.00", "0.00"}, 12_345_600_000: {"$12.35", "12.3456"}, 3_100_000: {"$0.0031", "0.0031"}, 3_149_999: {"$0.0031", "0.003149999"},
		9_999_999: {"$0.01", "0.009999999"}, 10_000_000: {"$0.01", "0.01"}, 995_000_000: {"$1.00", "0.995"}, 1: {"$0.000000001", "0.000000001"},
		-2_500_000_000: {"-$2.50", "-2.50"}, 1_234_567_890_000_000: {"$1234567.89", "1234567.89"},
	} {
		text, _ := d.MarshalText()
		if got := [2]string{d.String(), string(text)}; got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

func TestUsageAndCostAreInEveryFormat(t *testing.T) {
	from := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	u := &Usage{From: from, To: from.Add(time.Hour), Counts: "requests", FreshTo: from.Add(time.Hour), Cost: &Cost{FreshTo: from.Add(time.Minute)}}
	u.Add("claude-a", 1236, from, from.Add(time.Minute))
	u.Charge("claude-a", 12_340_000_000, 15_000_000_000)
	story := strings.Join(u.Story(), "\n")
	for _, want := range []string{"\ncost $12.34, at list price $15.00\n", "  claude-a: 1,236 requests, $12.34\n", "the cost is complete up to 2026-11-03 10:01 UTC: there may be more since"} {
		if !strings.Contains(story, want) {
			t.Errorf("%q lacks %q", story, want)
		}
	}
	r := &Report{Complete: true, Keys: []Key{{Fingerprint: "kf_0123456789abcdef", Family: "anthropic", Kind: "API key", Usage: u, Places: []Place{{Source: "file", Line: 1}}, Exposure: []Exposure{{From: from}}}}}
	for name, c := range map[string]struct {
		write func(*strings.Builder) error
		want  []string
	}{
		"table":       {func(b *strings.Builder) error { return r.Table(b, TableOptions{}) }, []string{"1,236 requests", "$12.34"}},
		"story":       {func(b *strings.Builder) error { return r.Story(b, &r.Keys[0], TableOptions{}) }, []string{"1,236 requests", "$12.34"}},
		"json":        {func(b *strings.Builder) error { return r.JSON(b) }, []string{`"count": 1236`, `"usd": "12.34"`, `"list_usd": "15.00"`}},
		"jsonl":       {func(b *strings.Builder) error { return NewStream(b).End(r) }, []string{`"count":1236`, `"usd":"12.34"`}},
		"markdown":    {func(b *strings.Builder) error { return r.Markdown(b) }, []string{"1,236 requests", `cost \$12.34`}},
		"html":        {func(b *strings.Builder) error { return r.HTML(b) }, []string{"1,236 requests", "cost $12.34"}},
		"sarif":       {func(b *strings.Builder) error { return r.SARIF(b) }, []string{`"count": 1236`, `"usd": "12.34"`, "1,236 requests"}},
		"annotations": {func(b *strings.Builder) error { return r.Annotations(b) }, []string{"1,236 requests", "$12.34"}},
	} {
		var b strings.Builder
		if err := c.write(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, want := range c.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s lacks %q:\n%s", name, want, b.String())
			}
		}
	}
	u.Cost = &Cost{Why: "refused"}
	if story := strings.Join(u.Story(), "\n"); !strings.Contains(story, "cost not known: refused") || strings.Contains(u.Phrase(), "$") {
		t.Error(story)
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

func TestWhatWasNotLookedIntoIsInEveryFormat(t *testing.T) {
	at := NewMasker(scan.New(scan.Options{})).Text("dir/locked.zip")
	gap := Gap{Path: at, Reason: scan.ReasonEncrypted}
	r := &Report{Complete: true, Unopened: []Gap{gap}, Keys: []Key{{Fingerprint: "kf_0123456789abcdef"}}}
	for name, write := range map[string]func(*strings.Builder) error{
		"table":       func(b *strings.Builder) error { return r.Table(b, TableOptions{}) },
		"story":       func(b *strings.Builder) error { return r.Story(b, &r.Keys[0], TableOptions{}) },
		"json":        func(b *strings.Builder) error { return r.JSON(b) },
		"jsonl":       func(b *strings.Builder) error { NewCollector(nil, NewStream(b), Lenient).Gap(gap); return nil },
		"markdown":    func(b *strings.Builder) error { return r.Markdown(b) },
		"html":        func(b *strings.Builder) error { return r.HTML(b) },
		"sarif":       func(b *strings.Builder) error { return r.SARIF(b) },
		"annotations": func(b *strings.Builder) error { return r.Annotations(b) },
	} {
		var b strings.Builder
		if err := write(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if text := b.String(); !strings.Contains(text, "dir/locked.zip") || !strings.Contains(text, "encrypted") || !strings.Contains(text, "not looked into") && !strings.Contains(text, "Not looked into") && !strings.Contains(text, `"unopened"`) {
			t.Errorf("%s: %s", name, text)
		}
	}
	if !strings.Contains(r.Summary(), "1 part not looked into · complete") {
		t.Error(r.Summary())
	}
}
