package simulator_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keywright/keywright/internal/simulator"
)

func beta() option { return header("anthropic-beta", "other, analytics-usage-cost-2026-08-24") }

// usage asks the Analytics API and returns the rows and the whole answer.
func (w *world) usage(query string) ([]map[string]any, map[string]any) {
	w.t.Helper()
	a := w.want(200, "GET", "/v1/organizations/analytics/usage?"+query, w.admin, "", beta())
	return list(w.t, a), a.json(w.t)
}

func requests(row map[string]any) float64 {
	return row["usage"].(map[string]any)["requests"].(float64)
}

func TestAnalyticsUsage(t *testing.T) {
	w := start(t, simulator.Options{})
	ws := w.AddWorkspace("prod").ID
	a, va := w.key(simulator.CreateKey{Workspace: ws})
	b, vb := w.key(simulator.CreateKey{})
	for range 3 {
		w.want(200, "POST", "/v1/messages", va, hello)
	}
	w.clock.Add(90 * time.Second)
	w.want(200, "POST", "/v1/messages", vb, hello)
	w.want(200, "POST", "/v1/messages/count_tokens", vb, hello)
	w.want(200, "GET", "/v1/models", vb, "")
	w.want(400, "POST", "/v1/messages", vb, `{}`)

	const day = "starting_at=2026-11-20T00:00:00Z&ending_at=2026-11-21T00:00:00Z"
	rows, whole := w.usage(day + "&group_by[]=api_key_id")
	if len(rows) != 2 || whole["has_more"] != false || whole["next_page"] != nil || whole["data_refreshed_at"] != "2026-11-20T10:01:30Z" {
		t.Fatalf("answer: %v", whole)
	}
	got := map[string]float64{}
	for _, r := range rows {
		g := r["group"].(map[string]any)
		got[g["api_key_id"].(string)] = requests(r)
		if v, ok := g["workspace_id"]; !ok || v != nil || len(g) != 20 {
			t.Errorf("group must list every dimension, null when not grouped: %v", g)
		}
	}
	if d := cmp.Diff(map[string]float64{a: 3, b: 1}, got); d != "" {
		t.Error(d)
	}
	u := rows[0]["usage"].(map[string]any)
	if u["total_tokens"].(float64) != u["uncached_input_tokens"].(float64)+u["output_tokens"].(float64) || u["output_tokens"].(float64) == 0 {
		t.Errorf("usage: %v", u)
	}

	tests := []struct {
		query string
		want  []float64 // requests by row
	}{
		{day, []float64{4}},
		{day + "&api_key_ids[]=" + a, []float64{3}},
		{day + "&api_key_ids[]=" + a + "&api_key_ids[]=" + b, []float64{4}},
		{day + "&api_key_ids[]=", []float64{0}},
		{day + "&api_key_ids[]=none&group_by[]=api_key_id", nil},
		{day + "&workspace_ids[]=" + ws, []float64{3}},
		{day + "&models[]=claude-haiku-5-5", []float64{4}},
		{day + "&models[]=claude-opus-5-5", []float64{0}},
		{day + "&service_tiers[]=batch", []float64{0}},
		{day + "&actor_types[]=api_actor", []float64{4}},
		{day + "&actor_ids[]=" + b, []float64{1}},
		{day + "&time_bucket_width=1m&order_by=time", []float64{1, 3}},
		{day + "&time_bucket_width=1m&order_by=time&order=asc", []float64{3, 1}},
		{day + "&time_bucket_width=1m&group_by[]=api_key_id&order_by=requests&order=asc", []float64{1, 3}},
		{day + "&time_bucket_width=1h", []float64{4}},
		{day + "&time_bucket_width=1d", []float64{4}},
		{day + "&group_by[]=session_id", []float64{4}},
		{"starting_at=2026-11-20T10:01:00Z&ending_at=2026-11-20T10:02:00Z&time_bucket_width=1m", []float64{1}},
		{"starting_at=2026-11-20T10:02:00Z&ending_at=2026-11-20T10:03:00Z&time_bucket_width=1m", nil},
		{"starting_at=2026-11-20T09:10:00Z&ending_at=2026-11-20T10:59:00Z", []float64{0}}, // cut to full hours
	}
	for _, tt := range tests {
		rows, _ := w.usage(tt.query)
		var got []float64
		for _, r := range rows {
			got = append(got, requests(r))
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.query, d)
		}
	}
	rows, _ = w.usage(day + "&time_bucket_width=1m&order_by=time&order=asc")
	if rows[0]["starting_at"] != "2026-11-20T10:00:00Z" || rows[0]["ending_at"] != "2026-11-20T10:01:00Z" {
		t.Errorf("bucket bounds: %v", rows[0])
	}

	page, whole := w.usage(day + "&group_by[]=api_key_id&limit=1")
	if len(page) != 1 || whole["has_more"] != true {
		t.Fatalf("first page: %v", whole)
	}
	page, whole = w.usage(day + "&group_by[]=api_key_id&limit=1&page=" + url.QueryEscape(whole["next_page"].(string)))
	if len(page) != 1 || whole["has_more"] != false || whole["next_page"] != nil || requests(page[0]) != 1 {
		t.Errorf("second page: %v", whole)
	}

	for _, bad := range []string{
		"", "starting_at=yesterday", "starting_at=2025-12-31T00:00:00Z", "starting_at=2026-11-20T00:00:00", day + "&limit=0", day + "&limit=1001",
		day + "&group_by[]=color", day + "&group_by=api_key_id", day + "&order_by=name", day + "&order=up", day + "&page=x", day + "&time_bucket_width=5m",
		day + "&group_by[]=cost_type", "starting_at=2026-11-20T00:00:00Z&time_bucket_width=1m",
		"starting_at=2026-11-01T00:00:00Z&ending_at=2026-12-15T00:00:00Z", "starting_at=2026-11-18T00:00:00Z&ending_at=2026-11-20T00:00:00Z&time_bucket_width=1m",
		"starting_at=2026-11-20T00:00:00Z&ending_at=2026-11-19T00:00:00Z",
		day + "&group_by[]=model&group_by[]=speed&group_by[]=actor&group_by[]=product&group_by[]=session_id&group_by[]=api_key_id",
	} {
		w.want(400, "GET", "/v1/organizations/analytics/usage?"+bad, w.admin, "", beta())
	}
	w.want(400, "GET", "/v1/organizations/analytics/usage?"+day, w.admin, "")
	w.want(403, "GET", "/v1/organizations/analytics/usage?"+day, va, "", beta())
}

func TestUsageLag(t *testing.T) {
	w := start(t, simulator.Options{UsageLag: 5 * time.Minute})
	_, value := w.key(simulator.CreateKey{})
	w.want(200, "POST", "/v1/messages", value, hello)
	const q = "starting_at=2026-11-20T00:00:00Z&ending_at=2026-11-21T00:00:00Z"
	look := func(want float64, fresh string) {
		t.Helper()
		rows, whole := w.usage(q)
		if requests(rows[0]) != want || whole["data_refreshed_at"] != fresh {
			t.Errorf("at %v: %v requests, fresh to %v; want %v, %s", w.Now(), requests(rows[0]), whole["data_refreshed_at"], want, fresh)
		}
	}
	look(0, "2026-11-20T09:55:00Z")
	w.clock.Add(5*time.Minute - time.Second)
	look(0, "2026-11-20T09:59:59Z")
	w.clock.Add(time.Second)
	look(1, "2026-11-20T10:00:00Z")
	w.FreezeUsage()
	w.want(200, "POST", "/v1/messages", value, hello)
	w.clock.Add(time.Hour)
	look(1, "2026-11-20T10:00:00Z")
	w.UnfreezeUsage()
	w.SetUsageLag(0)
	look(2, "2026-11-20T11:05:00Z")
	w.AddUsage(simulator.Usage{At: w.Now().Add(-time.Hour), Requests: 10, InputTokens: 100, OutputTokens: 10})
	look(12, "2026-11-20T11:05:00Z")
	if rows, _ := w.usage(q + "&api_key_ids[]="); requests(rows[0]) != 10 {
		t.Errorf("usage without a key: %v", rows)
	}
}

func TestActors(t *testing.T) {
	w := start(t, simulator.Options{})
	dev := w.AddUser("dev@simulation.invalid", "")
	personal, vp := w.key(simulator.CreateKey{Principal: simulator.Principal{Kind: simulator.PrincipalUser, ID: dev}})
	_, vs := w.key(simulator.CreateKey{Principal: simulator.Principal{Kind: simulator.PrincipalServiceAccount, ID: "svac_01X"}})
	w.want(200, "POST", "/v1/messages", vp, hello)
	w.want(200, "POST", "/v1/messages", vs, hello)
	const q = "starting_at=2026-11-20T00:00:00Z&ending_at=2026-11-21T00:00:00Z&group_by[]=actor"
	rows, _ := w.usage(q + "&actor_types[]=user_actor")
	want := map[string]any{"type": "user_actor", "user_id": dev, "deleted": false, "email_address": "dev@simulation.invalid", "name": "dev"}
	if d := cmp.Diff(want, rows[0]["group"].(map[string]any)["actor"]); len(rows) != 1 || d != "" {
		t.Errorf("rows %v: %s", rows, d)
	}
	if rows, _ := w.usage(q + "&actor_ids[]=svac_01X"); len(rows) != 1 || requests(rows[0]) != 1 {
		t.Errorf("service account: %v", rows)
	}
	if rows, _ := w.usage(q + "&actor_ids[]=" + personal); len(rows) != 0 {
		t.Errorf("usage of a user must not match the key as actor: %v", rows)
	}
}

func TestAnalyticsCost(t *testing.T) {
	w := start(t, simulator.Options{})
	id, _ := w.key(simulator.CreateKey{})
	w.AddUsage(simulator.Usage{At: w.Now(), KeyID: id, Model: "claude-haiku-5-5", Requests: 2, InputTokens: 1_000_000, OutputTokens: 30_001})
	const q = "/v1/organizations/analytics/cost?starting_at=2026-11-20T00:00:00Z&ending_at=2026-11-21T00:00:00Z"
	rows := list(t, w.want(200, "GET", q+"&group_by[]=api_key_id", w.admin, "", beta()))
	want := map[string]any{"amount": "11.50005", "list_amount": "11.50005", "currency": "USD", "requests": 2.0}
	if d := cmp.Diff(want, rows[0]["cost"]); len(rows) != 1 || d != "" {
		t.Errorf("cost: %s", d)
	}
	g := rows[0]["group"].(map[string]any)
	if g["api_key_id"] != id || len(g) != 22 || g["cost_type"] != nil {
		t.Errorf("group: %v", g)
	}
	rows = list(t, w.want(200, "GET", q+"&group_by[]=token_type&group_by[]=cost_type", w.admin, "", beta()))
	if len(rows) != 2 || rows[0]["cost"].(map[string]any)["amount"] != "10" || rows[1]["cost"].(map[string]any)["amount"] != "1.50005" {
		t.Errorf("by token type: %v", rows)
	}
	if rows[0]["cost"].(map[string]any)["requests"] != nil || rows[0]["group"].(map[string]any)["cost_type"] != "tokens" {
		t.Errorf("by token type: %v", rows[0])
	}
	w.want(400, "GET", q+"&order_by=requests", w.admin, "", beta())
}

func TestLegacyReports(t *testing.T) {
	w := start(t, simulator.Options{})
	ws := w.AddWorkspace("prod").ID
	a, va := w.key(simulator.CreateKey{Workspace: ws})
	_, vb := w.key(simulator.CreateKey{})
	w.want(200, "POST", "/v1/messages", va, hello)
	w.clock.Add(2 * time.Minute)
	w.want(200, "POST", "/v1/messages", vb, hello)
	const path = "/v1/organizations/usage_report/messages?starting_at=2026-11-20T10:00:10Z&ending_at=2026-11-20T10:04:00Z&bucket_width=1m"
	got := list(t, w.want(200, "GET", path+"&group_by[]=api_key_id", w.admin, ""))
	if len(got) != 4 {
		t.Fatalf("%d buckets, want 4: %v", len(got), got)
	}
	for i, n := range []int{1, 0, 1, 0} {
		if results := got[i]["results"].([]any); len(results) != n {
			t.Errorf("bucket %d has %d results, want %d", i, len(results), n)
		}
	}
	first := got[0]["results"].([]any)[0].(map[string]any)
	if first["api_key_id"] != a || first["workspace_id"] != nil || first["uncached_input_tokens"].(float64) == 0 || got[0]["starting_at"] != "2026-11-20T10:00:00Z" {
		t.Errorf("first bucket: %v", got[0])
	}
	got = list(t, w.want(200, "GET", path+"&api_key_ids[]="+a, w.admin, ""))
	if len(got[2]["results"].([]any)) != 0 || len(got[0]["results"].([]any)) != 1 {
		t.Errorf("filtered: %v", got)
	}
	for v, want := range map[string]any{"2023-06-01": nil, "2026-10-21": w.DefaultWorkspace()} {
		got = list(t, w.want(200, "GET", path+"&group_by[]=workspace_id", w.admin, "", version(v)))
		if id := got[2]["results"].([]any)[0].(map[string]any)["workspace_id"]; id != want {
			t.Errorf("default workspace under %s: %v, want %v", v, id, want)
		}
		if id := got[0]["results"].([]any)[0].(map[string]any)["workspace_id"]; id != ws {
			t.Errorf("workspace under %s: %v", v, id)
		}
	}
	one := w.want(200, "GET", path+"&limit=3", w.admin, "").json(t)
	if one["has_more"] != true || len(one["data"].([]any)) != 3 {
		t.Errorf("first page: %v", one)
	}
	two := w.want(200, "GET", path+"&limit=3&page="+url.QueryEscape(one["next_page"].(string)), w.admin, "").json(t)
	if two["has_more"] != false || two["next_page"] != nil || len(two["data"].([]any)) != 1 {
		t.Errorf("second page: %v", two)
	}
	for _, bad := range []string{"&limit=1441", "&group_by[]=color", "&page=x", "&api_key_id=x"} {
		w.want(400, "GET", path+bad, w.admin, "")
	}
	w.want(400, "GET", "/v1/organizations/usage_report/messages", w.admin, "")
	w.want(400, "GET", "/v1/organizations/usage_report/messages?starting_at=2026-11-20T00:00:00Z&bucket_width=2m", w.admin, "")

	cost := "/v1/organizations/cost_report?starting_at=2026-11-19T00:00:00Z&ending_at=2026-11-21T00:00:00Z"
	got = list(t, w.want(200, "GET", cost, w.admin, ""))
	if len(got) != 2 || len(got[0]["results"].([]any)) != 0 || len(got[1]["results"].([]any)) != 1 {
		t.Fatalf("cost: %v", got)
	}
	got = list(t, w.want(200, "GET", cost+"&group_by[]=description&group_by[]=workspace_id", w.admin, ""))
	lines := got[1]["results"].([]any)
	if len(lines) != 4 {
		t.Fatalf("%d cost lines, want 4", len(lines))
	}
	if l := lines[0].(map[string]any); l["model"] != "claude-haiku-5-5" || l["cost_type"] != "tokens" || l["currency"] != "USD" || l["workspace_id"] == nil {
		t.Errorf("cost line: %v", l)
	}
	w.want(400, "GET", cost+"&group_by[]=api_key_id", w.admin, "")
	w.want(400, "GET", cost+"&bucket_width=1h", w.admin, "")
}
