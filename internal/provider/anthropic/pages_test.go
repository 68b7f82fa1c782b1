package anthropic_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/provider/anthropic"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/simulator"
)

const (
	keyRow      = `{"id":"%s","status":"active","name":"x","created_at":"2026-10-02T08:15:00Z"}`
	activityRow = `{"id":"%s","type":"platform_api_key_created","created_at":"2026-11-20T08:15:00Z","api_key_id":"apikey_01A","actor":{"type":"user_actor"}}`
	usageRow    = `{"starting_at":"2026-11-20T08:15:00Z","ending_at":"2026-11-20T08:16:00Z","group":{"api_key_id":"%s","model":"claude-haiku-5-5"},"usage":{"requests":1,"total_tokens":9}}`
	costRow     = `{"starting_at":"2026-11-20T08:15:00Z","ending_at":"2026-11-20T08:16:00Z","group":{"api_key_id":"%s","model":"claude-haiku-5-5"},"cost":{"amount":"1.5","list_amount":"2","currency":"USD"}}`
	bucketRow   = `{"starting_at":"2026-11-20T08:15:00Z","ending_at":"2026-11-20T08:16:00Z","results":[{"api_key_id":"%s","output_tokens":9}]}`
)

// paged is one of the paged reads.
type paged struct {
	name, row, cursor string
	only              string // path that is served; another answers 404
	read              func(ctx context.Context, p *anthropic.Admin) (int, error)
}

func pagedReads() []paged {
	at := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	usage := func(ctx context.Context, p *anthropic.Admin) (int, error) {
		u, err := p.Usage(ctx, provider.UsageQuery{IDs: []string{"apikey_01A", "apikey_02A"}, From: at, To: at.Add(time.Hour)})
		return len(u.Seen), err
	}
	return []paged{
		{"keys", keyRow, "last_id", "/v1/organizations/api_keys", func(ctx context.Context, p *anthropic.Admin) (int, error) {
			keys, err := p.List(ctx, "")
			return len(keys), err
		}},
		{"activities", activityRow, "last_id", "/v1/compliance/activities", func(ctx context.Context, p *anthropic.Admin) (int, error) {
			all, err := p.Activities(ctx, at)
			return len(all), err
		}},
		{"analytics", usageRow, "next_page", "/v1/organizations/analytics/usage", usage},
		{"cost", costRow, "next_page", "/v1/organizations/analytics/cost", func(ctx context.Context, p *anthropic.Admin) (int, error) {
			c, err := p.Cost(ctx, provider.UsageQuery{IDs: []string{"apikey_01A", "apikey_02A"}, From: at, To: at.Add(time.Hour - time.Minute)})
			return len(c.Spent), err
		}},
		{"usage report", bucketRow, "next_page", "/v1/organizations/usage_report/messages", usage},
	}
}

// TestPagesAreWholeOrAnError gives every paged read pages that end early in every way.
func TestPagesAreWholeOrAnError(t *testing.T) {
	for _, read := range pagedReads() {
		row := func(id string) string { return fmt.Sprintf(read.row, id) }
		first, second := row("apikey_01A"), row("apikey_02A")
		more := fmt.Sprintf(`{"data":[%s],"has_more":true,%q:"c1"}`, first, read.cursor)
		for name, tc := range map[string]struct {
			pages []string // the last one is repeated
			want  int      // -1: an error
		}{
			"two pages":             {[]string{more, fmt.Sprintf(`{"data":[%s],"has_more":false}`, second)}, 2},
			"one page":              {[]string{fmt.Sprintf(`{"data":[%s],"has_more":false,%q:null}`, first, read.cursor)}, 1},
			"nothing":               {[]string{`{"data":[],"has_more":false}`}, 0},
			"more, without cursor":  {[]string{fmt.Sprintf(`{"data":[%s],"has_more":true}`, first)}, -1},
			"more, cursor null":     {[]string{fmt.Sprintf(`{"data":[%s],"has_more":true,%q:null}`, first, read.cursor)}, -1},
			"the same for ever":     {[]string{more}, -1},
			"without has_more":      {[]string{fmt.Sprintf(`{"data":[%s]}`, first)}, -1},
			"without data":          {[]string{`{"has_more":false}`}, -1},
			"data null":             {[]string{`{"data":null,"has_more":false}`}, -1},
			"data no list":          {[]string{`{"data":"x","has_more":false}`}, -1},
			"second page garbage":   {[]string{more, `{{`}, -1},
			"second page empty":     {[]string{more, `{}`}, -1},
			"a row of another kind": {[]string{fmt.Sprintf(`{"data":[%s,{"id":7}],"has_more":false}`, first)}, -1},
			"an empty row":          {[]string{fmt.Sprintf(`{"data":[%s,{}],"has_more":false}`, first)}, -1},
			"a row without time":    {[]string{fmt.Sprintf(`{"data":[%s],"has_more":false}`, strings.NewReplacer("2026-11-20T08:15:00Z", "soon", "2026-10-02T08:15:00Z", "soon").Replace(first))}, -1},
		} {
			served := 0
			p := admin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != read.only {
					write(w, 404, `{"type":"error","error":{"type":"not_found_error"}}`)
					return
				}
				page := tc.pages[min(served, len(tc.pages)-1)]
				served++
				write(w, 200, page)
			})
			n, err := read.read(t.Context(), p)
			switch {
			case tc.want < 0 && (err == nil || !fault.Is(err, fault.Unavailable)):
				t.Errorf("%s, %s: %d entries, %v (%v)", read.name, name, n, err, fault.KindOf(err))
			case tc.want >= 0 && (err != nil || n != tc.want):
				t.Errorf("%s, %s: %d entries, %v, want %d", read.name, name, n, err, tc.want)
			}
			if served > 3 {
				t.Errorf("%s, %s: %d pages were asked for", read.name, name, served)
			}
		}
		// A page that fails in the middle spoils the whole.
		for _, status := range []int{401, 403, 404, 429, 500, 529} {
			served := 0
			p := admin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != read.only {
					write(w, 404, `{}`)
					return
				}
				if served++; served == 1 {
					write(w, 200, more)
					return
				}
				write(w, status, `{"type":"error","error":{"type":"api_error"}}`)
			})
			if n, err := read.read(t.Context(), p); err == nil {
				t.Errorf("%s: status %d on the second page gives %d entries", read.name, status, n)
			}
		}
	}
}

// TestUsageQueries looks at what is asked and at how pages add up.
func TestUsageQueries(t *testing.T) {
	at := time.Date(2026, 11, 18, 7, 59, 30, 0, time.UTC)
	ids := []string{}
	for i := range 60 {
		ids = append(ids, fmt.Sprintf("apikey_%02d", i))
	}
	q := provider.UsageQuery{IDs: append(ids, ids...), From: at, To: at.Add(50 * time.Hour)}
	for _, older := range []bool{false, true} {
		var mu sync.Mutex
		spans, asked := map[string]bool{}, map[string]int{}
		p := admin(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if older && strings.Contains(r.URL.Path, "analytics") {
				write(w, 403, `{}`)
				return
			}
			v := r.URL.Query()
			checkUsageQuery(t, r, v, older)
			spans[v.Get("starting_at")+" "+v.Get("ending_at")] = true
			for _, id := range v["api_key_ids[]"] {
				asked[id]++
			}
			fresh := `"2026-11-20T08:00:00Z"`
			if strings.HasPrefix(v.Get("starting_at"), "2026-11-19") {
				fresh = `"2026-11-20T07:00:00Z"`
			}
			row := fmt.Sprintf(usageRow, "apikey_07") + "," + fmt.Sprintf(usageRow, "apikey_foreign")
			if older {
				row = fmt.Sprintf(bucketRow, "apikey_07")
			}
			// The same row comes for every span; only the one that it lies in counts.
			write(w, 200, `{"data":[`+row+`],"has_more":false,"data_refreshed_at":`+fresh+`}`)
		})
		u, err := p.Usage(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"2026-11-18T07:59:00Z 2026-11-19T07:59:00Z", "2026-11-19T07:59:00Z 2026-11-20T07:59:00Z", "2026-11-20T07:59:00Z 2026-11-20T10:00:00Z"}
		if got := slices.Sorted(maps.Keys(spans)); !slices.Equal(got, want) {
			t.Errorf("spans %q", got)
		}
		for _, id := range ids {
			if asked[id] != 3 {
				t.Errorf("%s was asked for %d times, want once for each of 3 spans", id, asked[id])
			}
		}
		newest := time.Date(2026, 11, 20, 8, 15, 0, 0, time.UTC)
		if n := len(u.Seen["apikey_07"]); len(u.Seen) != 1 || n != 1 || !u.NewestBucket.Equal(newest) {
			t.Errorf("older=%v: %+v", older, u)
		}
		if older != u.FreshTo.IsZero() || !older && !u.FreshTo.Equal(time.Date(2026, 11, 20, 7, 0, 0, 0, time.UTC)) {
			t.Errorf("older=%v: fresh to %v, want the oldest page's word", older, u.FreshTo)
		}
	}
}

func checkUsageQuery(t *testing.T, r *http.Request, v url.Values, older bool) {
	t.Helper()
	width := "time_bucket_width"
	if older {
		width = "bucket_width"
	} else if r.Header.Get("anthropic-beta") != "analytics-usage-cost-2026-08-24" {
		t.Errorf("beta header %q", r.Header.Get("anthropic-beta"))
	}
	if v.Get(width) != "1m" || !slices.Equal(v["group_by[]"], []string{"api_key_id", "model"}) || len(v["api_key_ids[]"]) > 50 {
		t.Errorf("query %v", v)
	}
}

// TestFreshnessNeedsEveryPage: one page without the time makes the whole report undated.
func TestFreshnessNeedsEveryPage(t *testing.T) {
	at := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	page := 0
	p := admin(t, func(w http.ResponseWriter, _ *http.Request) {
		if page++; page == 1 {
			write(w, 200, `{"data":[],"has_more":true,"next_page":"c","data_refreshed_at":"2026-11-20T09:00:00Z"}`)
			return
		}
		write(w, 200, `{"data":[],"has_more":false,"data_refreshed_at":null}`)
	})
	u, err := p.Usage(t.Context(), provider.UsageQuery{IDs: []string{"apikey_01A"}, From: at, To: at.Add(time.Hour)})
	if err != nil || !u.FreshTo.IsZero() {
		t.Errorf("fresh to %v, %v", u.FreshTo, err)
	}
}

// TestUsageDoesNotFallBackOnTrouble: only "not enabled" leads to the other source.
func TestUsageDoesNotFallBackOnTrouble(t *testing.T) {
	at := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	for status, want := range map[int]fault.Kind{401: fault.Unauthenticated, 429: fault.RateLimited, 500: fault.Unavailable, 529: fault.Unavailable} {
		p := admin(t, func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "analytics") {
				t.Errorf("%d leads to %s", status, r.URL.Path)
			}
			w.Header().Set("Retry-After", "3")
			write(w, status, `{}`)
		})
		_, err := p.Usage(t.Context(), provider.UsageQuery{IDs: []string{"apikey_01A"}, From: at, To: at.Add(time.Hour)})
		if !fault.Is(err, want) || fault.RetryAfterOf(err) != 3*time.Second {
			t.Errorf("%d: %v, retry after %v", status, err, fault.RetryAfterOf(err))
		}
	}
}

func TestActivitiesOfEverySort(t *testing.T) {
	body := `{"data":[
		{"id":"activity_5","type":"platform_api_key_rotated_tomorrow","created_at":"2026-11-20T05:00:00Z","api_key_id":"apikey_01A","actor":{"type":"robot_actor","robot":{"a":1}},"news":[1]},
		{"id":"activity_4","type":"chat_created","created_at":"2026-11-20T04:00:00Z","actor":{"type":"user_actor"}},
		{"id":"activity_3","type":"platform_api_key_updated","created_at":"2026-11-20T03:00:00Z","api_key_id":"apikey_01A","actor":{"type":"admin_api_key_actor","admin_api_key_id":"apikey_09Z"},
			"updates":[{"type":"status","previous_value":"active","current_value":"inactive"},{"type":"name","previous_value":"private words","current_value":"others"},{"type":"workspace","previous_value":null,"current_value":"wrkspc_01A"}]},
		{"id":"activity_2","type":"admin_api_key_created","created_at":"2026-11-20T03:00:00Z","admin_api_key_id":"apikey_02A","actor":{"type":"user_actor","user_id":"user_01A","email_address":"me@example.com"}},
		{"id":"activity_1","type":"platform_workspace_archived","created_at":"2026-11-20T02:00:00Z","actor":{"type":"user_actor","user_id":"user_01A"}},
		{"id":"activity_0","type":"platform_api_key_created","created_at":"2026-11-19T02:00:00Z","actor":{"type":"user_actor"}}],"has_more":false}`
	p := admin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("created_at.gte") != "2026-11-20T00:00:00Z" {
			t.Errorf("query %v", r.URL.Query())
		}
		write(w, 200, body)
	})
	all, err := p.Activities(t.Context(), time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range all {
		got = append(got, fmt.Sprintf("%s %s %s %q by %s", a.ID, a.Type, a.KeyID, a.Changes, a.Actor))
	}
	want := []string{
		`activity_1 platform_workspace_archived  [] by user_actor user_01A`,
		`activity_2 admin_api_key_created apikey_02A [] by user_actor me@example.com`,
		`activity_3 platform_api_key_updated apikey_01A ["status: active to inactive" "name" "workspace: none to wrkspc_01A"] by admin_api_key_actor apikey_09Z`,
		`activity_5 platform_api_key_rotated_tomorrow apikey_01A [] by robot_actor`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, status := range []int{403, 404} {
		p := admin(t, func(w http.ResponseWriter, _ *http.Request) { write(w, status, `{}`) })
		if _, err := p.Activities(t.Context(), time.Now()); err == nil || !strings.Contains(fault.HintOf(err), "Compliance API") {
			t.Errorf("%d: %v, hint %q", status, err, fault.HintOf(err))
		}
	}
}

// TestSoakInABubble watches a key over two days of bubble time, over connections in memory.
func TestSoakInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The bubble begins in the year 2000, and the reports begin in 2026.
		sim := simulator.New(simulator.Options{UsageLag: 4 * time.Hour})
		sim.Advance(time.Until(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)))
		transport, stop := sim.Pipe()
		defer stop()
		key := secret.New([]byte(sim.AdminKey()))
		p, err := anthropic.New(anthropic.Config{
			BaseURL: simulator.PipeURL, AdminKey: func(context.Context) (secret.Value, error) { return key, nil }, HTTP: httpx.Options{Dial: transport.DialContext},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer p.(*anthropic.Admin).CloseIdle()
		id, value, err := sim.CreateKey(simulator.CreateKey{Name: "soak"})
		if err != nil {
			t.Fatal(err)
		}
		v, from := secret.New([]byte(value)), sim.Now()
		for range 48 {
			if got, err := p.(provider.Tester).Message(t.Context(), v); err != nil || got.Answer != provider.Live {
				t.Fatalf("Message: %+v, %v", got, err)
			}
			time.Sleep(time.Hour)
		}
		u, err := p.(provider.UsageReporter).Usage(t.Context(), provider.UsageQuery{IDs: []string{id}, From: from, To: sim.Now()})
		if err != nil || len(u.Seen[id]) != 44 && len(u.Seen[id]) != 45 {
			t.Fatalf("%d buckets, %v", len(u.Seen[id]), err)
		}
		if lag := sim.Now().Sub(u.FreshTo); lag < 4*time.Hour || lag > 4*time.Hour+time.Minute {
			t.Errorf("the report is %v behind, and the simulator 4 h", lag)
		}
	})
}

// TestCostIsThatOfTheTimeAlone compares what the simulator was given to what the provider says of it.
func TestCostIsThatOfTheTimeAlone(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 30, 0, time.UTC)
	sim := simulator.New(simulator.Options{Clock: func() time.Time { return at }})
	server := httptest.NewServer(sim.Handler())
	defer server.Close()
	key := secret.New([]byte(sim.AdminKey()))
	p, err := anthropic.New(anthropic.Config{BaseURL: server.URL, AdminKey: func(context.Context) (secret.Value, error) { return key, nil }})
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := sim.CreateKey(simulator.CreateKey{Name: "used"})
	if err != nil {
		t.Fatal(err)
	}
	from, to := at.Add(-50*time.Hour), at.Add(-25*time.Minute)
	for _, u := range []time.Time{from.Add(-2 * time.Minute), from.Add(2 * time.Minute), from.Add(7 * time.Hour), to.Add(-2 * time.Minute), to.Add(2 * time.Minute)} {
		sim.AddUsage(simulator.Usage{At: u, KeyID: id, Requests: 2, InputTokens: 1_000_000, OutputTokens: 30_001})
	}
	c, err := p.(provider.CostReporter).Cost(t.Context(), provider.UsageQuery{IDs: []string{id}, From: from, To: to})
	if err != nil || len(c.Spent[id]) != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, s := range c.Spent[id] {
		// 0.1150005 dollars, as the simulator's own test says it in cents.
		if s.Amount != 115_000_500 || s.List != s.Amount || s.Model != "claude-haiku-5-5" {
			t.Errorf("%+v", s)
		}
	}
}
