package anthropic

import (
	"context"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	sdk "github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/packages/pagination"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
)

// currency is the one that the provider charges in.
const currency = "USD"

// Cost reports the charges per key and model from the Analytics API: by the hour, and by the minute in the hours that the query begins and ends
// in. From is rounded down to the minute and To up; at most 31 days. The older cost report knows no keys, so that an organization without the
// Analytics API (400, 403 or 404) is Unsupported. A report of which a part is missing is an error, never a Cost. Kinds: Invalid (the query),
// Unsupported, Unavailable, and those of httpx.
func (a *Admin) Cost(ctx context.Context, q provider.UsageQuery) (provider.Cost, error) {
	q, err := sound(q)
	if err != nil {
		return provider.Cost{}, fault.In(err, "report cost")
	}
	bill := bill{cost: provider.Cost{Spent: map[string][]provider.Spend{}, Source: "analytics"}}
	for _, part := range spans(q.From, q.To) {
		for ids := range slices.Chunk(q.IDs, idsPerCall) {
			if err := a.charges(ctx, provider.UsageQuery{IDs: ids, From: part.from, To: part.to}, part.width, &bill); err != nil {
				if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Invalid) {
					return provider.Cost{}, fault.New(fault.Unsupported, "report cost: the provider does not give it by key",
						fault.Hint("it takes the Usage and Cost Analytics API, enabled for the organization, and an admin key that may read it"))
				}
				return provider.Cost{}, fault.In(err, "report cost")
			}
		}
	}
	if bill.undated {
		bill.cost.FreshTo = time.Time{}
	}
	for _, spent := range bill.cost.Spent {
		slices.SortStableFunc(spent, func(a, b provider.Spend) int { return a.From.Compare(b.From) })
	}
	return bill.cost, nil
}

// charged is a part of a query that is asked with buckets of one width.
type charged struct {
	from, to time.Time
	width    string
}

// spans parts a time into whole hours and the minutes on both sides.
func spans(from, to time.Time) []charged {
	first, last := from.Add(time.Hour-1).Truncate(time.Hour), to.Truncate(time.Hour)
	if !first.Before(last) {
		return []charged{{from, to, "1m"}}
	}
	var parts []charged
	if from.Before(first) {
		parts = append(parts, charged{from, first, "1m"})
	}
	parts = append(parts, charged{first, last, "1h"})
	if last.Before(to) {
		parts = append(parts, charged{last, to, "1m"})
	}
	return parts
}

// bill collects what the pages of a cost report bring.
type bill struct {
	cost    provider.Cost
	undated bool // a page did not say how fresh it is
}

// charges adds what some keys cost in a part of the time.
func (a *Admin) charges(ctx context.Context, q provider.UsageQuery, width string, b *bill) error {
	params := sdk.BetaOrganizationAnalyticsCostListParams{
		StartingAt: q.From, EndingAt: sdk.Time(q.To), TimeBucketWidth: sdk.BetaAnalyticsTimeBucketWidth(width), APIKeyIDs: q.IDs,
		Limit: sdk.Int(pageSize), GroupBy: []sdk.BetaAnalyticsCostGroupBy{"api_key_id", "model"}, OrderBy: "time", Order: "asc",
	}
	return walk(func(cursor string) (string, bool, error) {
		if cursor != "" {
			params.Page = sdk.String(cursor)
		}
		var page *pagination.ReportPageCursor[sdk.BetaAnalyticsCostItem]
		if _, err := a.viaSDK(ctx, false, func(c sdk.Client) (err error) {
			page, err = c.Beta.Organization.Analytics.Cost.List(ctx, params)
			return err
		}); err != nil {
			return "", false, err
		}
		if page == nil || !page.JSON.Data.Valid() || !page.JSON.HasMore.Valid() {
			return "", false, strange(false)
		}
		if err := b.page(page.Data, q); err != nil {
			return "", false, err
		}
		switch at := page.DataRefreshedAt; {
		case at.IsZero():
			b.undated = true
		case b.cost.FreshTo.IsZero() || at.Before(b.cost.FreshTo):
			b.cost.FreshTo = at.UTC()
		}
		return page.NextPage, page.HasMore, nil
	})
}

// page takes the rows of a page; rows of other keys, of other times and without a charge are not ours to report.
func (b *bill) page(rows []sdk.BetaAnalyticsCostItem, q provider.UsageQuery) error {
	for _, row := range rows {
		amount, ok := nano(row.Cost.Amount)
		list, fine := nano(row.Cost.ListAmount)
		if !ok || !fine || row.Cost.Currency != currency || row.StartingAt.IsZero() || !row.EndingAt.After(row.StartingAt) || !row.JSON.Group.Valid() {
			return strange(false)
		}
		id := row.Group.APIKeyID
		if amount == 0 && list == 0 || !slices.Contains(q.IDs, id) || !row.StartingAt.Before(q.To) || !row.EndingAt.After(q.From) {
			continue
		}
		s := provider.Spend{From: row.StartingAt.UTC(), To: row.EndingAt.UTC(), Amount: amount, List: list, Model: row.Group.Model}
		if !modelPattern().MatchString(s.Model) {
			s.Model = ""
		}
		b.cost.Spent[id] = append(b.cost.Spent[id], s)
	}
	return nil
}

// longestAmount is how many characters an amount has at most.
const longestAmount = 64

// nano reads an amount in cents, as a decimal number of any precision, to the nearest billionth of a dollar.
func nano(cents string) (provider.Nano, bool) {
	digits := strings.TrimPrefix(cents, "-")
	if len(digits) == 0 || len(digits) > longestAmount || strings.Trim(digits, "0123456789.") != "" || digits[0] == '.' {
		return 0, false
	}
	r, ok := new(big.Rat).SetString(cents)
	if !ok {
		return 0, false
	}
	const perCent = 1e7
	r.Mul(r, big.NewRat(perCent, 1))
	n := new(big.Int)
	if _, ok := n.SetString(r.FloatString(0), 10); !ok || !n.IsInt64() || n.Int64() == math.MinInt64 {
		return 0, false
	}
	return provider.Nano(n.Int64()), true
}
