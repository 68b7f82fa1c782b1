package verdict_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/simulator"
	"github.com/keywright/keywright/internal/verdict"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// want is the expected reading of every documented error, written apart from the table.
type want struct {
	row    string
	scope  verdict.Scope
	action verdict.Action
	until  time.Duration
	cross  verdict.Cross
	dead   bool
}

var month = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC).Sub(noon)

var documented = map[string]want{
	"bad-request":                        {row: "other"},
	"usage-limit":                        {"customer-limit", verdict.Workspace, verdict.Cool, 5 * time.Minute, verdict.CrossLimits, false},
	"credit-balance":                     {"credit", verdict.Organization, verdict.Cool, 5 * time.Minute, verdict.CrossLimits, false},
	"organization-on-hold":               {"organization-hold", verdict.Organization, verdict.Cool, 5 * time.Minute, verdict.CrossLimits, false},
	"claude-code-key-creator-not-member": {"creator-left", verdict.Key, verdict.Suspect, 0, verdict.CrossDead, true},
	"authentication":                     {"dead", verdict.Key, verdict.Suspect, 0, verdict.CrossDead, true},
	"billing":                            {"billing", verdict.Organization, verdict.Cool, 5 * time.Minute, verdict.CrossLimits, false},
	"linked-organization-spend-limit":    {"linked-spend-limit", verdict.Organization, verdict.Cool, 5 * time.Minute, verdict.CrossLimits, false},
	"linked-organization-billing":        {"linked-billing", verdict.Organization, verdict.Cool, 5 * time.Minute, verdict.CrossLimits, false},
	"permission":                         {"forbidden", verdict.KeyModel, verdict.Other, 0, verdict.CrossForbidden, false},
	"ip-address":                         {"forbidden-address", verdict.KeyModel, verdict.Other, 0, verdict.CrossForbidden, false},
	"not-found":                          {row: "other"},
	"request-timeout":                    {row: "timeout-408", action: verdict.Retry},
	"conflict":                           {row: "other"},
	"request-too-large":                  {row: "other"},
	"body-too-large-after-decoding":      {row: "other"},
	"rate-limit":                         {"burst", verdict.WorkspaceModel, verdict.Cool, 7 * time.Second, verdict.CrossLimits, false},
	"ramp-limit":                         {"ramp", verdict.WorkspaceModel, verdict.Cool, 7 * time.Second, verdict.CrossLimits, false},
	"enforced-spend-limit":               {"enforced-cap", verdict.Organization, verdict.Cool, month, verdict.CrossLimits, false},
	"contract-spend-limit":               {"contract-cap", verdict.Organization, verdict.Cool, 15 * time.Minute, verdict.CrossLimits, false},
	"api-error":                          {row: "api-error", scope: verdict.UpstreamModel, action: verdict.Retry},
	"cmek-key-unreachable":               {"customer-key", verdict.Workspace, verdict.Cool, time.Minute, verdict.CrossLimits, false},
	"timeout":                            {row: "timeout-504", scope: verdict.UpstreamModel, action: verdict.Count},
	"overloaded":                         {row: "overloaded", scope: verdict.UpstreamModel, action: verdict.Retry},
}

// TestTableAgainstProvider has the provider's imitation give every documented error over HTTP, and judges bodies and headers as they come.
func TestTableAgainstProvider(t *testing.T) {
	s := simulator.New(simulator.Options{})
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	_, value, err := s.CreateKey(simulator.CreateKey{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range simulator.DocumentedErrors() {
		t.Run(e.Name, func(t *testing.T) {
			s.ClearFaults()
			s.Fail(e.Fault)
			res := post(t, srv.URL, value)
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			a := verdict.Parse(res.StatusCode, res.Header.Get, body, noon)
			if !a.Shaped {
				t.Fatalf("body is not of the provider's form: %s", body)
			}
			o := verdict.Judge(a, noon)
			w, ok := documented[e.Name]
			if !ok {
				t.Fatal("a documented error without an expected verdict")
			}
			var until time.Duration
			if !o.Until.IsZero() {
				until = o.Until.Sub(noon)
			}
			if got := (want{o.Name, o.Scope, o.Action, until, o.Cross, o.Dead}); got != w {
				t.Errorf("got %+v, want %+v", got, w)
			}
			seen[o.Name] = true
		})
	}
	// Rows that no documented error reaches have their own answers.
	for row, a := range map[string]verdict.Answer{
		"ok":              {Status: 204},
		"connection":      {},
		"foreign-401":     {Status: 401},
		"cors":            {Status: 401, Shaped: true, Type: "authentication_error", Message: "CORS requests must set a header"},
		"overloaded-type": {Status: 500, Shaped: true, Type: "overloaded_error"},
		"unavailable":     {Status: 502},
	} {
		if o := verdict.Judge(a, noon); o.Name != row {
			t.Errorf("%+v: row %q, want %q", a, o.Name, row)
		}
		seen[row] = true
	}
	for _, r := range verdict.Table() {
		if !seen[r.Name] {
			t.Errorf("row %q is reached by no answer in this test", r.Name)
		}
	}
}

func post(t *testing.T, url, value string) *http.Response {
	t.Helper()
	r, _ := http.NewRequest(http.MethodPost, url+"/v1/messages", strings.NewReader(`{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}`))
	r.Header.Set("x-api-key", value)
	r.Header.Set("anthropic-version", "2023-06-01")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestUnknownIsNotDead is invariant I8: nothing but a 401 or the code of a creator that left speaks against a key.
func TestUnknownIsNotDead(t *testing.T) {
	for status := range 600 {
		for _, shaped := range []bool{false, true} {
			o := verdict.Judge(verdict.Answer{Status: status, Shaped: shaped}, noon)
			if dead := o.Dead || o.Scope == verdict.Key || o.Action == verdict.Suspect; dead != (status == 401 && shaped) {
				t.Errorf("status %d, provider's form %v: dead %v", status, shaped, dead)
			}
			if o.Name == "" {
				t.Errorf("status %d: no row", status)
			}
		}
	}
}

func TestShouldRetryFalse(t *testing.T) {
	for status, want := range map[int]verdict.Action{500: verdict.Count, 529: verdict.Count, 408: verdict.Pass, 401: verdict.Suspect} {
		if o := verdict.Judge(verdict.Answer{Status: status, Shaped: true, NoRetry: true}, noon); o.Action != want {
			t.Errorf("%d: %v, want %v", status, o.Action, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		ms, s string
		want  time.Duration
	}{
		{"", "7", 7 * time.Second}, {"250", "7", 250 * time.Millisecond}, {"", "0.5", 500 * time.Millisecond}, {"x", "2", 2 * time.Second},
		{"", noon.Add(time.Minute).Format(http.TimeFormat), time.Minute}, {"", noon.Add(-time.Minute).Format(http.TimeFormat), 0},
		{"", "-3", 0}, {"", "NaN", 0}, {"", "Inf", 0}, {"", "soon", 0}, {"", "1e300", 365 * 24 * time.Hour},
	} {
		h := http.Header{}
		h.Set("retry-after-ms", c.ms)
		h.Set("retry-after", c.s)
		if got := verdict.RetryAfter(h.Get, noon); got != c.want {
			t.Errorf("%q %q: %v, want %v", c.ms, c.s, got, c.want)
		}
	}
	if o := verdict.Judge(verdict.Answer{Status: 429, Shaped: true, RetryAfter: 400 * 24 * time.Hour}, noon); o.Until != noon.Add(24*time.Hour) {
		t.Errorf("a wait of more than a day was believed: %v", o.Until)
	}
}

func TestStatusAndType(t *testing.T) {
	for _, s := range []int{400, 401, 402, 403, 404, 409, 413, 429, 500, 504, 529} {
		if got := verdict.StatusOf(verdict.TypeOf(s)); got != s {
			t.Errorf("%d -> %s -> %d", s, verdict.TypeOf(s), got)
		}
	}
	if verdict.StatusOf("new_error") != 500 || verdict.TypeOf(502) != "api_error" || verdict.TypeOf(415) != "invalid_request_error" {
		t.Error("unfamiliar words")
	}
	for model, class := range map[string]string{"claude-haiku-5-5": "haiku", "claude-sonnet-4-5-20250929": "sonnet", "x": "other", "": "other"} {
		if got := verdict.Class(model); got != class {
			t.Errorf("%s: %s", model, got)
		}
	}
}

func TestPageIsFresh(t *testing.T) {
	got, err := os.ReadFile("../../docs/gateway-verdicts.md")
	if err != nil || string(got) != verdict.Markdown() {
		t.Errorf("docs/gateway-verdicts.md is stale (%v): run make generate", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(429, "7", []byte(`{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"c"}}}`))
	f.Add(500, "", []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, after string, body []byte) {
		o := verdict.Judge(verdict.Parse(status, func(n string) string { return after }, body, noon), noon)
		if o.Name == "" {
			t.Fatal("no row")
		}
		if o.Action == verdict.Cool && (o.Until.Before(noon) || o.Until.After(noon.AddDate(0, 1, 1))) {
			t.Fatal(fmt.Sprint("cooled until ", o.Until))
		}
	})
}
