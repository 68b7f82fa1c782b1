package simulator

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// analyticsBeta is the beta flag that the Analytics endpoints ask for.
const analyticsBeta = "analytics-usage-cost-2026-08-24"

type reportPage[T any] struct {
	Data            []T     `json:"data"`
	HasMore         bool    `json:"has_more"`
	NextPage        *string `json:"next_page"`
	DataRefreshedAt *string `json:"data_refreshed_at,omitempty"`
}

type usageMetrics struct {
	Requests             int64            `json:"requests"`
	TotalTokens          int64            `json:"total_tokens"`
	UncachedInputTokens  int64            `json:"uncached_input_tokens"`
	CacheReadInputTokens int64            `json:"cache_read_input_tokens"`
	CacheCreation        cacheCreation    `json:"cache_creation"`
	OutputTokens         int64            `json:"output_tokens"`
	ServerToolUse        map[string]int64 `json:"server_tool_use"`
}

type usageItem struct {
	StartingAt string         `json:"starting_at"`
	EndingAt   string         `json:"ending_at"`
	Group      map[string]any `json:"group"`
	Usage      usageMetrics   `json:"usage"`
}

type costMetrics struct {
	Amount     string `json:"amount"`
	ListAmount string `json:"list_amount"`
	Currency   string `json:"currency"`
	Requests   *int64 `json:"requests"`
}

type costItem struct {
	StartingAt string         `json:"starting_at"`
	EndingAt   string         `json:"ending_at"`
	Group      map[string]any `json:"group"`
	Cost       costMetrics    `json:"cost"`
}

func widths() map[string]time.Duration {
	return map[string]time.Duration{"1m": time.Minute, "1h": time.Hour, "1d": 24 * time.Hour}
}

// analyticsQuery checks what usage and cost have in common.
func analyticsQuery(c *call, extra []string, orders []string) (report, url.Values, *apiError) {
	var r report
	if !slices.ContainsFunc(c.r.Header.Values("anthropic-beta"), func(v string) bool {
		return slices.ContainsFunc(strings.Split(v, ","), func(b string) bool { return strings.TrimSpace(b) == analyticsBeta })
	}) {
		return r, nil, invalid("anthropic-beta: this endpoint requires " + analyticsBeta)
	}
	q, fail := query(c.r, "starting_at", "ending_at", "time_bucket_width", "group_by[]", "api_key_ids[]", "workspace_ids[]", "models[]",
		"service_tiers[]", "actor_ids[]", "actor_types[]", "speeds[]", "context_windows[]", "inference_geos[]", "order_by", "order", "limit", "page")
	if fail != nil {
		return r, nil, fail
	}
	if r.from, fail = timeOf(q, "starting_at"); fail != nil {
		return r, nil, fail
	}
	switch first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); {
	case r.from.IsZero():
		return r, nil, invalid("starting_at: Field required")
	case r.from.Before(first) || r.from.Before(c.now.AddDate(0, 0, -365)):
		return r, nil, invalid("starting_at: must be within the last 365 days and not before 2026-01-01")
	}
	if r.to, fail = timeOf(q, "ending_at"); fail != nil {
		return r, nil, fail
	}
	if v := q.Get("time_bucket_width"); v != "" {
		width, ok := widths()[v]
		if !ok {
			return r, nil, invalid("time_bucket_width: must be 1m, 1h or 1d")
		}
		if r.to.IsZero() {
			return r, nil, invalid("ending_at: required with time_bucket_width")
		}
		r.width = width
	}
	if r.to.IsZero() {
		r.to = r.from.Add(31 * 24 * time.Hour)
		if c.now.Before(r.to) {
			r.to = c.now
		}
	}
	switch span := r.to.Sub(r.from); {
	case span < 0:
		return r, nil, invalid("ending_at: must not be before starting_at")
	case span > 31*24*time.Hour:
		return r, nil, invalid("the range may span at most 31 days")
	case r.width == time.Minute && span > 24*time.Hour:
		return r, nil, invalid("the range may span at most 24 hours with time_bucket_width=1m")
	}
	if r.width == 0 {
		r.from, r.to = r.from.Truncate(time.Hour), r.to.Truncate(time.Hour)
	} else {
		r.from = r.from.Truncate(r.width)
	}
	r.groupBy = q["group_by[]"]
	if len(r.groupBy) > 5 {
		return r, nil, invalid("group_by: at most 5 dimensions")
	}
	allowed := append(dimensions(), extra...)
	for _, g := range r.groupBy {
		if !slices.Contains(allowed, g) {
			return r, nil, invalid("group_by: unknown dimension " + clip(g))
		}
	}
	r.filters = filtersOf(q, map[string]string{
		"api_key_ids[]": "api_key_id", "workspace_ids[]": "workspace_id", "models[]": "model", "service_tiers[]": "service_tier",
		"actor_ids[]": "actor", "actor_types[]": "actor_type", "speeds[]": "speed", "context_windows[]": "context_window",
		"inference_geos[]": "inference_geo",
	})
	if v := q.Get("order_by"); v != "" && !slices.Contains(orders, v) {
		return r, nil, invalid("order_by: must be one of " + strings.Join(orders, ", "))
	}
	if v := q.Get("order"); v != "" && v != "asc" && v != "desc" {
		return r, nil, invalid("order: must be asc or desc")
	}
	return r, q, nil
}

func filtersOf(q url.Values, names map[string]string) map[string][]string {
	out := map[string][]string{}
	for param, dim := range names {
		if q.Has(param) {
			out[dim] = q[param]
		}
	}
	return out
}

// timeOf reads an RFC 3339 parameter; an absent one is the zero time.
func timeOf(q url.Values, name string) (time.Time, *apiError) {
	v := q.Get(name)
	if v == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return time.Time{}, invalid(name + ": must be an RFC 3339 time with a zone")
	}
	return t.UTC(), nil
}

// sortRows orders rows by metric, or by time and then metric.
func sortRows(rows []row, q url.Values, bucketed bool, metric func(row) int64) {
	sign := -1
	if q.Get("order") == "asc" {
		sign = 1
	}
	byTime := q.Get("order_by") == "time" && bucketed
	slices.SortStableFunc(rows, func(a, b row) int {
		if byTime {
			if n := a.start.Compare(b.start); n != 0 {
				return sign * n
			}
			return compare(metric(b), metric(a))
		}
		return sign * compare(metric(a), metric(b))
	})
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// cut takes the page that limit and page ask for.
func cut[T any](q url.Values, all []T, standard, most int) ([]T, *string, *apiError) {
	limit, fail := limitOf(q, standard, most)
	if fail != nil {
		return nil, nil, fail
	}
	offset, fail := offsetOf(q)
	if fail != nil {
		return nil, nil, fail
	}
	offset = min(offset, len(all))
	end := min(offset+limit, len(all))
	var next *string
	if end < len(all) {
		next = pageToken(end)
	}
	return all[offset:end], next, nil
}

// fullGroup lists every dimension, null where it was not asked for.
func fullGroup(r row, extra ...string) map[string]any {
	out := map[string]any{}
	for _, d := range append(dimensions(), extra...) {
		out[d] = nil
	}
	for d, v := range r.group {
		out[d] = v
	}
	return out
}

// whole makes the single row of an ungrouped report exist without usage.
func whole(r report, rows []row) []row {
	if len(rows) == 0 && r.width == 0 && len(r.groupBy) == 0 {
		return []row{{start: r.from, end: r.to}}
	}
	return rows
}

func (s *Simulator) analyticsUsage(c *call) (reply, *apiError) {
	r, q, fail := analyticsQuery(c, nil, []string{"total_tokens", "requests", "output_tokens", "uncached_input_tokens", "time"})
	if fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	rows := whole(r, s.rows(r, c.now))
	refreshed := stamp(s.refreshed(c.now))
	s.mu.Unlock()
	sortRows(rows, q, r.width > 0, func(w row) int64 {
		switch q.Get("order_by") {
		case "requests":
			return w.sum.Requests
		case "output_tokens":
			return w.sum.Output
		case "uncached_input_tokens":
			return w.sum.Input
		}
		return w.sum.Input + w.sum.Output
	})
	rows, next, fail := cut(q, rows, 20, 1000)
	if fail != nil {
		return reply{}, fail
	}
	out := reportPage[usageItem]{Data: []usageItem{}, HasMore: next != nil, NextPage: next, DataRefreshedAt: &refreshed}
	for _, w := range rows {
		out.Data = append(out.Data, usageItem{
			StartingAt: stamp(w.start), EndingAt: stamp(w.end), Group: fullGroup(w),
			Usage: usageMetrics{
				Requests: w.sum.Requests, TotalTokens: w.sum.Input + w.sum.Output, UncachedInputTokens: w.sum.Input,
				OutputTokens: w.sum.Output, ServerToolUse: map[string]int64{"web_search_requests": 0},
			},
		})
	}
	return reply{json: out}, nil
}

func (s *Simulator) analyticsCost(c *call) (reply, *apiError) {
	r, q, fail := analyticsQuery(c, []string{"cost_type", "token_type"}, []string{"amount", "list_amount", "time"})
	if fail != nil {
		return reply{}, fail
	}
	byType, byToken := slices.Contains(r.groupBy, "cost_type"), slices.Contains(r.groupBy, "token_type")
	s.mu.Lock()
	rows := whole(r, s.rows(r, c.now))
	refreshed := stamp(s.refreshed(c.now))
	s.mu.Unlock()
	sortRows(rows, q, r.width > 0, func(w row) int64 { return w.costIn + w.costOut })
	rows, next, fail := cut(q, rows, 20, 1000)
	if fail != nil {
		return reply{}, fail
	}
	out := reportPage[costItem]{Data: []costItem{}, HasMore: next != nil, NextPage: next, DataRefreshedAt: &refreshed}
	for _, w := range rows {
		add := func(micro int64, tokenType any) {
			it := costItem{StartingAt: stamp(w.start), EndingAt: stamp(w.end), Group: fullGroup(w, "cost_type", "token_type")}
			it.Cost = costMetrics{Amount: cents(micro), ListAmount: cents(micro), Currency: "USD"}
			it.Group["token_type"] = tokenType
			if byType || byToken {
				it.Group["cost_type"] = "tokens"
			} else {
				n := w.sum.Requests
				it.Cost.Requests = &n
			}
			out.Data = append(out.Data, it)
		}
		if byToken {
			add(w.costIn, "uncached_input_tokens")
			add(w.costOut, "output_tokens")
		} else {
			add(w.costIn+w.costOut, nil)
		}
	}
	return reply{json: out}, nil
}

// bucket is one time bucket of a legacy report.
type bucket struct {
	StartingAt string           `json:"starting_at"`
	EndingAt   string           `json:"ending_at"`
	Results    []map[string]any `json:"results"`
}

// legacyQuery checks what both legacy reports have in common and returns the
// buckets of the page, still empty.
func legacyQuery(c *call, params []string, widthNames, groups []string) (report, url.Values, []bucket, *string, *apiError) {
	var r report
	bad := func(e *apiError) (report, url.Values, []bucket, *string, *apiError) { return r, nil, nil, nil, e }
	q, fail := query(c.r, append(params, "starting_at", "ending_at", "bucket_width", "group_by[]", "limit", "page")...)
	if fail != nil {
		return bad(fail)
	}
	if r.from, fail = timeOf(q, "starting_at"); fail != nil {
		return bad(fail)
	}
	if r.from.IsZero() {
		return bad(invalid("starting_at: Field required"))
	}
	if r.to, fail = timeOf(q, "ending_at"); fail != nil {
		return bad(fail)
	}
	if r.to.IsZero() {
		r.to = c.now
	}
	name := q.Get("bucket_width")
	if name == "" {
		name = "1d"
	}
	if !slices.Contains(widthNames, name) {
		return bad(invalid("bucket_width: must be one of " + strings.Join(widthNames, ", ")))
	}
	r.width = widths()[name]
	r.from = r.from.Truncate(r.width)
	if r.to.Before(r.from) {
		return bad(invalid("ending_at: must be after starting_at"))
	}
	r.groupBy = q["group_by[]"]
	for _, g := range r.groupBy {
		if !slices.Contains(groups, g) {
			return bad(invalid("group_by: unknown dimension " + clip(g)))
		}
	}
	bounds := map[string][2]int{"1m": {60, 1440}, "1h": {24, 168}, "1d": {7, 31}}[name]
	count := int((r.to.Sub(r.from) + r.width - 1) / r.width)
	limit, fail := limitOf(q, bounds[0], bounds[1])
	if fail != nil {
		return bad(fail)
	}
	offset, fail := offsetOf(q)
	if fail != nil {
		return bad(fail)
	}
	var page []bucket
	for i := offset; i < min(offset+limit, count); i++ {
		start := r.from.Add(time.Duration(i) * r.width)
		page = append(page, bucket{StartingAt: stamp(start), EndingAt: stamp(start.Add(r.width)), Results: []map[string]any{}})
	}
	var next *string
	if offset+limit < count {
		next = pageToken(offset + limit)
	}
	return r, q, page, next, nil
}

// fill puts the rows into the buckets of a page.
func fill(page []bucket, rows []row, result func(row) []map[string]any) []bucket {
	at := map[string][]map[string]any{}
	for _, w := range rows {
		at[stamp(w.start)] = append(at[stamp(w.start)], result(w)...)
	}
	for i := range page {
		page[i].Results = append(page[i].Results, at[page[i].StartingAt]...)
	}
	return append([]bucket{}, page...)
}

func (s *Simulator) legacyUsage(c *call) (reply, *apiError) {
	groups := []string{"api_key_id", "workspace_id", "model", "service_tier", "context_window", "inference_geo", "speed", "account_id", "service_account_id"}
	r, q, page, next, fail := legacyQuery(c, []string{
		"api_key_ids[]", "workspace_ids[]", "models[]", "service_tiers[]", "context_window[]", "inference_geos[]", "speeds[]",
	}, []string{"1m", "1h", "1d"}, groups)
	if fail != nil {
		return reply{}, fail
	}
	r.filters = filtersOf(q, map[string]string{
		"api_key_ids[]": "api_key_id", "workspace_ids[]": "workspace_id", "models[]": "model", "service_tiers[]": "service_tier",
		"context_window[]": "context_window", "inference_geos[]": "inference_geo", "speeds[]": "speed",
	})
	s.mu.Lock()
	rows := s.rows(r, c.now)
	defaultWS := s.defaultWS
	s.mu.Unlock()
	data := fill(page, rows, func(w row) []map[string]any {
		out := map[string]any{
			"uncached_input_tokens": w.sum.Input, "cache_read_input_tokens": 0, "cache_creation": cacheCreation{},
			"output_tokens": w.sum.Output, "server_tool_use": map[string]int64{"web_search_requests": 0},
		}
		for _, g := range groups {
			out[g] = w.group[g]
		}
		out["workspace_id"] = workspaceFor(c.version, out["workspace_id"], defaultWS)
		return []map[string]any{out}
	})
	return reply{json: reportPage[bucket]{Data: data, HasMore: next != nil, NextPage: next}}, nil
}

func (s *Simulator) legacyCost(c *call) (reply, *apiError) {
	r, _, page, next, fail := legacyQuery(c, nil, []string{"1d"}, []string{"workspace_id", "description"})
	if fail != nil {
		return reply{}, fail
	}
	described := slices.Contains(r.groupBy, "description")
	r.groupBy = slices.DeleteFunc(slices.Clone(r.groupBy), func(g string) bool { return g == "description" })
	if described {
		r.groupBy = append(r.groupBy, "model", "service_tier")
	}
	s.mu.Lock()
	rows := s.rows(r, c.now)
	defaultWS := s.defaultWS
	s.mu.Unlock()
	data := fill(page, rows, func(w row) []map[string]any {
		line := func(micro int64, tokenType string) map[string]any {
			out := map[string]any{
				"amount": cents(micro), "currency": "USD", "cost_type": nil, "description": nil, "model": nil,
				"token_type": nil, "service_tier": nil, "workspace_id": workspaceFor(c.version, w.group["workspace_id"], defaultWS),
			}
			if described {
				name, _ := w.group["model"].(string)
				out["cost_type"], out["model"], out["token_type"] = "tokens", name, tokenType
				out["service_tier"], out["description"] = w.group["service_tier"], name+" usage, "+tokenType
			}
			return out
		}
		if !described {
			return []map[string]any{line(w.costIn+w.costOut, "")}
		}
		return []map[string]any{line(w.costIn, "uncached_input_tokens"), line(w.costOut, "output_tokens")}
	})
	return reply{json: reportPage[bucket]{Data: data, HasMore: next != nil, NextPage: next}}, nil
}

// workspaceFor hides the default workspace under version 2023-06-01.
func workspaceFor(version string, id any, defaultWS string) any {
	if v, ok := id.(*string); ok && v != nil && *v == defaultWS && version == Version20230601 {
		return nil
	}
	return id
}
