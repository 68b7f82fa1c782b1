package cli

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/scan/report"
)

// reports answers each question about usage with the next of its answers.
type reports struct {
	asked   []provider.UsageQuery
	answers []provider.Usage
	err     error
}

func (r *reports) Usage(_ context.Context, q provider.UsageQuery) (provider.Usage, error) {
	r.asked = append(r.asked, q)
	if r.err != nil {
		return provider.Usage{}, r.err
	}
	return r.answers[min(len(r.asked), len(r.answers))-1], nil
}

var _ provider.UsageReporter = (*reports)(nil)

// bills answers each question about cost with the next of its answers.
type bills struct {
	asked   []provider.UsageQuery
	answers []provider.Cost
	err     error
}

func (b *bills) Cost(_ context.Context, q provider.UsageQuery) (provider.Cost, error) {
	b.asked = append(b.asked, q)
	if b.err != nil && len(b.asked) == len(b.answers)+1 {
		return provider.Cost{}, b.err
	}
	return b.answers[min(len(b.asked), len(b.answers))-1], nil
}

var _ provider.CostReporter = (*bills)(nil)

func TestCostIsThatOfTheExposureAlone(t *testing.T) {
	const id = "apikey_x"
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	answer := func(fresh time.Time) provider.Cost {
		return provider.Cost{FreshTo: fresh, Spent: map[string][]provider.Spend{
			id: {{Amount: 2, List: 3, Model: "claude-a"}, {Amount: 5, List: 5}}, "apikey_y": {{Amount: 100}},
		}}
	}
	for name, c := range map[string]struct {
		answers []provider.Cost
		err     error
		used    error
		want    report.Cost
	}{
		"added up":          {answers: []provider.Cost{answer(now), answer(now.Add(-time.Hour))}, want: report.Cost{Amount: 14, List: 16, FreshTo: now.Add(-time.Hour)}},
		"undated in a part": {answers: []provider.Cost{answer(now), answer(time.Time{})}, want: report.Cost{Amount: 14, List: 16}},
		"refused in a part": {answers: []provider.Cost{answer(now)}, err: errors.New("refused"), want: report.Cost{Why: "refused"}},
		"usage not known":   {used: errors.New("refused")},
	} {
		r := &reports{answers: []provider.Usage{{Counts: "requests", Seen: map[string][]provider.Bucket{id: {{Model: "claude-a", Count: 1, From: now, To: now}}}}}, err: c.used}
		b := &bills{answers: c.answers, err: c.err}
		digest := apikey.Digest{1}
		s := &scanning{known: &inventory{ids: map[apikey.Digest]string{digest: id}, usage: r, cost: b, now: func() time.Time { return now }}}
		in := &report.Report{Keys: []report.Key{{Digest: digest, Known: &report.Known{}, Exposure: []report.Exposure{{From: now.Add(-40 * 24 * time.Hour)}}}}}
		if err := s.usage(t.Context(), in); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		u := in.Keys[0].Usage
		if c.used != nil {
			if u.Cost != nil || len(b.asked) != 0 {
				t.Errorf("%s: asked about the cost of usage that is not known", name)
			}
			continue
		}
		if u.Cost == nil || *u.Cost != c.want {
			t.Errorf("%s: %+v, want %+v", name, u.Cost, c.want)
		}
		want := []report.ModelUsage{{Model: "claude-a", Count: 2, Cost: 4}, {Cost: 10}}
		if c.err != nil {
			want = []report.ModelUsage{{Model: "claude-a", Count: 2}}
		}
		if !slices.Equal(u.Models, want) {
			t.Errorf("%s: by model %+v, want %+v", name, u.Models, want)
		}
		if !slices.EqualFunc(b.asked, r.asked, func(a, b provider.UsageQuery) bool { return a.From.Equal(b.From) && a.To.Equal(b.To) }) {
			t.Errorf("%s: asked about the cost of %v, and about the usage of %v", name, b.asked, r.asked)
		}
	}
}

func TestUsageIsAskedForTheExposureAlone(t *testing.T) {
	const id = "apikey_x"
	now := time.Date(2026, 11, 20, 12, 0, 30, 0, time.UTC)
	minute := now.Truncate(time.Minute)
	digest := apikey.Digest{1}
	answer := func(fresh time.Time) provider.Usage {
		return provider.Usage{
			Counts: "requests", Source: "analytics", FreshTo: fresh,
			Seen: map[string][]provider.Bucket{id: {{From: minute.Add(-time.Hour), To: minute.Add(-time.Hour + time.Minute), Count: 3}}, "apikey_y": {{Count: 9}}},
		}
	}
	for name, c := range map[string]struct {
		exposed, made, retired time.Time
		id                     string
		answers                []provider.Usage
		err                    error
		spans                  int
		want                   report.Usage
	}{
		"exposed an hour ago": {
			exposed: now.Add(-time.Hour), id: id, answers: []provider.Usage{answer(minute)}, spans: 1,
			want: report.Usage{From: now.Add(-time.Hour), To: now, Count: 3, FreshTo: minute},
		},
		"a commit that claims to be older than the key": {
			exposed: now.Add(-50 * 24 * time.Hour), made: now.Add(-2 * time.Hour), id: id, answers: []provider.Usage{answer(minute)}, spans: 1,
			want: report.Usage{From: now.Add(-2 * time.Hour), To: now, Count: 3, FreshTo: minute},
		},
		"retired": {
			exposed: now.Add(-3 * time.Hour), retired: now.Add(-time.Hour), id: id, answers: []provider.Usage{answer(minute)}, spans: 1,
			want: report.Usage{From: now.Add(-3 * time.Hour), To: now.Add(-time.Hour), Count: 3, FreshTo: minute},
		},
		"as fresh as the least fresh part": {
			exposed: now.Add(-40 * 24 * time.Hour), id: id, answers: []provider.Usage{answer(minute.Add(-time.Hour)), answer(minute)}, spans: 2,
			want: report.Usage{From: now.Add(-40 * 24 * time.Hour), To: now, Count: 6, FreshTo: minute.Add(-time.Hour)},
		},
		"a part that does not say how fresh it is": {
			exposed: now.Add(-40 * 24 * time.Hour), id: id, answers: []provider.Usage{answer(minute), answer(time.Time{})}, spans: 2,
			want: report.Usage{From: now.Add(-40 * 24 * time.Hour), To: now, Count: 6},
		},
		"exposed for years": {
			exposed: now.Add(-1000 * 24 * time.Hour), id: id, answers: []provider.Usage{answer(minute)}, spans: 3,
			want: report.Usage{From: now.Add(time.Minute - 93*24*time.Hour), To: now, Cut: true, Count: 9, FreshTo: minute},
		},
		"retired before it was exposed": {
			exposed: now.Add(-time.Hour), retired: now.Add(-2 * time.Hour), id: id,
			want: report.Usage{From: now.Add(-time.Hour), To: now.Add(-2 * time.Hour), Why: "the exposure began after the key had ended"},
		},
		"no provider id": {
			exposed: now.Add(-time.Hour),
			want:    report.Usage{From: now.Add(-time.Hour), To: now, Why: "the inventory does not say which of the provider's keys it is"},
		},
		"refused": {
			exposed: now.Add(-40 * 24 * time.Hour), id: id, err: errors.New("refused"), spans: 1,
			want: report.Usage{From: now.Add(-40 * 24 * time.Hour), To: now, Why: "refused"},
		},
	} {
		r := &reports{answers: c.answers, err: c.err}
		s := &scanning{known: &inventory{
			made: map[apikey.Digest]time.Time{digest: c.made}, ids: map[apikey.Digest]string{digest: c.id}, usage: r, now: func() time.Time { return now },
		}}
		in := &report.Report{Keys: []report.Key{
			{Digest: digest, Known: &report.Known{Retired: c.retired}, Exposure: []report.Exposure{{From: c.exposed}}},
			{Digest: digest, Exposure: []report.Exposure{{From: c.exposed}}},
			{Digest: digest, Known: &report.Known{}},
		}}
		if err := s.usage(t.Context(), in); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := in.Keys[0].Usage
		if got == nil || !got.From.Equal(c.want.From) || !got.To.Equal(c.want.To) || got.Cut != c.want.Cut || got.Why != c.want.Why || got.Count != c.want.Count || !got.FreshTo.Equal(c.want.FreshTo) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if in.Keys[1].Usage != nil || in.Keys[2].Usage != nil {
			t.Errorf("%s: asked about a key that is not known, or was not exposed", name)
		}
		if len(r.asked) != c.spans {
			t.Errorf("%s: asked %d times, want %d", name, len(r.asked), c.spans)
		}
		for i, q := range r.asked {
			if len(q.IDs) != 1 || q.IDs[0] != id || q.To.Sub(q.From) > usageSpan || i > 0 && !q.From.Equal(r.asked[i-1].To) {
				t.Errorf("%s: asked %+v", name, q)
			}
		}
	}
}
