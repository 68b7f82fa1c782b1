package anthropic

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"time"

	sdk "github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/packages/pagination"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
)

const (
	day = 24 * time.Hour
	// maxSpan is the longest time that one Usage may cover; idsPerCall keeps addresses short.
	maxSpan    = 31 * day
	idsPerCall = 50
)

// Usage reports requests per key and minute from the Analytics API. Where that is not enabled for the organization (400, 403 or 404) it
// reports tokens per key and minute from the older usage report, which does not say how fresh it is: FreshTo is then zero, and the caller
// reasons from NewestBucket and a message of its own. From is rounded down to the minute and To up; at most 31 days. A report of which a
// part is missing is an error, never a Usage. Kinds: Invalid (the query), Unavailable, and those of httpx.
func (a *Admin) Usage(ctx context.Context, q provider.UsageQuery) (provider.Usage, error) {
	q, err := sound(q)
	if err != nil {
		return provider.Usage{}, fault.In(err, "report usage")
	}
	u, err := a.collect(ctx, q, a.analytics, provider.Usage{Source: "analytics", Counts: "requests"})
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Invalid) {
		u, err = a.collect(ctx, q, a.report, provider.Usage{Source: "usage report", Counts: "tokens"})
	}
	if err != nil {
		return provider.Usage{}, fault.In(err, "report usage")
	}
	return u, nil
}

// sound checks a query, and rounds its times to minutes.
func sound(q provider.UsageQuery) (provider.UsageQuery, error) {
	empty := !q.From.Before(q.To)
	q.From, q.To = q.From.UTC().Truncate(time.Minute), q.To.UTC().Add(time.Minute-1).Truncate(time.Minute)
	switch {
	case len(q.IDs) == 0:
		return q, fault.New(fault.Invalid, "no key is named")
	case empty:
		return q, fault.New(fault.Invalid, "the span of time is empty")
	case q.To.Sub(q.From) > maxSpan:
		return q, fault.New(fault.Invalid, "the span of time is longer than 31 days")
	case slices.ContainsFunc(q.IDs, func(id string) bool { return !idPattern().MatchString(id) }):
		return q, fault.New(fault.Invalid, "the id of a key is malformed")
	}
	q.IDs = slices.Compact(slices.Sorted(slices.Values(q.IDs)))
	return q, nil
}

// source adds the usage of at most idsPerCall keys in at most one day to t.
type source func(ctx context.Context, q provider.UsageQuery, t *tally) error

// tally collects what the pages of a report bring.
type tally struct {
	usage provider.Usage
	pages int
	dated int // pages that said how fresh they are
}

func (a *Admin) collect(ctx context.Context, q provider.UsageQuery, from source, empty provider.Usage) (provider.Usage, error) {
	t := &tally{usage: empty}
	t.usage.Seen = map[string][]provider.Bucket{}
	for at := q.From; at.Before(q.To); at = at.Add(day) {
		end := at.Add(day)
		if end.After(q.To) {
			end = q.To
		}
		for ids := range slices.Chunk(q.IDs, idsPerCall) {
			if err := from(ctx, provider.UsageQuery{IDs: ids, From: at, To: end}, t); err != nil {
				return provider.Usage{}, err
			}
		}
	}
	if t.dated < t.pages {
		t.usage.FreshTo = time.Time{}
	}
	for _, buckets := range t.usage.Seen {
		slices.SortStableFunc(buckets, func(a, b provider.Bucket) int { return a.From.Compare(b.From) })
	}
	return t.usage, nil
}

// page counts a page and how fresh it is: the report as a whole is as fresh as its oldest page.
func (t *tally) page(refreshed time.Time) {
	t.pages++
	if refreshed.IsZero() {
		return
	}
	t.dated++
	if t.usage.FreshTo.IsZero() || refreshed.Before(t.usage.FreshTo) {
		t.usage.FreshTo = refreshed.UTC()
	}
}

// add takes one row; rows of other keys, of other times and without use are not ours to report.
func (t *tally) add(q provider.UsageQuery, id string, b provider.Bucket) {
	if b.Count <= 0 || !slices.Contains(q.IDs, id) || !b.From.Before(q.To) || !b.To.After(q.From) {
		return
	}
	b.From, b.To = b.From.UTC(), b.To.UTC()
	if !modelPattern().MatchString(b.Model) {
		b.Model = ""
	}
	t.usage.Seen[id] = append(t.usage.Seen[id], b)
	if b.From.After(t.usage.NewestBucket) {
		t.usage.NewestBucket = b.From
	}
}

// analytics reads the Usage and Cost Analytics API.
func (a *Admin) analytics(ctx context.Context, q provider.UsageQuery, t *tally) error {
	params := sdk.BetaOrganizationAnalyticsUsageListParams{
		StartingAt: q.From, EndingAt: sdk.Time(q.To), TimeBucketWidth: "1m", APIKeyIDs: q.IDs, Limit: sdk.Int(pageSize),
		GroupBy: []sdk.BetaAnalyticsUsageGroupBy{"api_key_id", "model"}, OrderBy: "time", Order: "asc",
	}
	return walk(func(cursor string) (string, bool, error) {
		if cursor != "" {
			params.Page = sdk.String(cursor)
		}
		var page *pagination.ReportPageCursor[sdk.BetaAnalyticsUsageItem]
		if _, err := a.viaSDK(ctx, false, func(c sdk.Client) (err error) {
			page, err = c.Beta.Organization.Analytics.Usage.List(ctx, params)
			return err
		}); err != nil {
			return "", false, err
		}
		if page == nil || !page.JSON.Data.Valid() || !page.JSON.HasMore.Valid() {
			return "", false, strange(false)
		}
		t.page(page.DataRefreshedAt)
		for _, row := range page.Data {
			u := row.Usage
			if row.StartingAt.IsZero() || !row.EndingAt.After(row.StartingAt) || !row.JSON.Group.Valid() || !u.JSON.Requests.Valid() && !u.JSON.TotalTokens.Valid() {
				return "", false, strange(false)
			}
			count := u.Requests
			if count == 0 && u.TotalTokens > 0 {
				// Tokens without a request are use all the same.
				count = 1
			}
			t.add(q, row.Group.APIKeyID, provider.Bucket{From: row.StartingAt, To: row.EndingAt, Count: count, Model: row.Group.Model})
		}
		return page.NextPage, page.HasMore, nil
	})
}

// report reads the older usage report, which the SDK does not know.
func (a *Admin) report(ctx context.Context, q provider.UsageQuery, t *tally) error {
	query := url.Values{
		"starting_at": {q.From.Format(time.RFC3339)}, "ending_at": {q.To.Format(time.RFC3339)}, "bucket_width": {"1m"},
		"limit": {strconv.Itoa(int(day / time.Minute))}, "api_key_ids[]": q.IDs, "group_by[]": {"api_key_id", "model"},
	}
	return walk(func(cursor string) (string, bool, error) {
		if cursor != "" {
			query.Set("page", cursor)
		}
		var page struct {
			Data *[]struct {
				StartingAt time.Time   `json:"starting_at"`
				EndingAt   time.Time   `json:"ending_at"`
				Results    *[]tokenRow `json:"results"`
			} `json:"data"`
			HasMore  *bool  `json:"has_more"`
			NextPage string `json:"next_page"`
		}
		if _, err := a.get(ctx, "/v1/organizations/usage_report/messages", query, &page); err != nil {
			return "", false, err
		}
		if page.Data == nil || page.HasMore == nil {
			return "", false, strange(false)
		}
		t.page(time.Time{})
		for _, b := range *page.Data {
			if b.StartingAt.IsZero() || !b.EndingAt.After(b.StartingAt) || b.Results == nil {
				return "", false, strange(false)
			}
			for _, r := range *b.Results {
				t.add(q, r.APIKeyID, provider.Bucket{From: b.StartingAt, To: b.EndingAt, Count: r.tokens(), Model: r.Model})
			}
		}
		return page.NextPage, *page.HasMore, nil
	})
}

// tokenRow is one row of the older report.
type tokenRow struct {
	APIKeyID      string `json:"api_key_id"`
	Model         string `json:"model"`
	Uncached      int64  `json:"uncached_input_tokens"`
	CacheRead     int64  `json:"cache_read_input_tokens"`
	CacheCreation struct {
		FiveMinutes int64 `json:"ephemeral_5m_input_tokens"`
		OneHour     int64 `json:"ephemeral_1h_input_tokens"`
	} `json:"cache_creation"`
	Output int64 `json:"output_tokens"`
}

func (r tokenRow) tokens() int64 {
	return r.Uncached + r.CacheRead + r.CacheCreation.FiveMinutes + r.CacheCreation.OneHour + r.Output
}
