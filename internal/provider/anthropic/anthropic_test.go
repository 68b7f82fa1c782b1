package anthropic_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/provider/anthropic"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// admin connects a provider with an admin key to a handler.
func admin(t *testing.T, h http.HandlerFunc) *anthropic.Admin {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	key := secrettest.FakeAdmin(t)
	p, err := anthropic.New(anthropic.Config{
		BaseURL: s.URL, AdminKey: func(context.Context) (secret.Value, error) { return key, nil }, HTTP: httpx.Options{UserAgent: "keywright/test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p.(*anthropic.Admin)
}

func write(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// TestVerdictTable has a line for every row of the table in the reference, and for what must not be taken for one.
func TestVerdictTable(t *testing.T) {
	type errorShape struct {
		Type    string            `json:"type"`
		Message string            `json:"message"`
		Details map[string]string `json:"details,omitempty"`
	}
	for _, tc := range []struct {
		status              int
		kind, code, message string
		want                provider.Answer
		wantCode            string
	}{
		{400, "invalid_request_error", "", "max_tokens: Field required", provider.Unknown, ""},
		{400, "invalid_request_error", "", "You have reached your specified API usage limits.", provider.Blocked, ""},
		{400, "invalid_request_error", "", "You have reached your specified workspace API usage limits. You regain access soon.", provider.Blocked, ""},
		{400, "invalid_request_error", "", "Nobody says: You have reached your specified API usage limits", provider.Unknown, ""},
		{400, "invalid_request_error", "", "Your credit balance is too low to access the API.", provider.Blocked, ""},
		{400, "invalid_request_error", "organization_on_hold", "x", provider.Blocked, "organization_on_hold"},
		{400, "invalid_request_error", "claude_code_key_creator_not_member", "x", provider.Dead, "claude_code_key_creator_not_member"},
		{400, "invalid_request_error", "a_code_of_tomorrow", "x", provider.Unknown, ""},
		{401, "authentication_error", "", "invalid x-api-key", provider.Dead, ""},
		{401, "a_type_of_tomorrow", "", "x", provider.Dead, ""},
		{401, "authentication_error", "", "CORS requests are not allowed", provider.Unknown, ""},
		{402, "billing_error", "", "x", provider.Blocked, ""},
		{402, "billing_error", "linked_organization_spend_limit_reached", "x", provider.Blocked, "linked_organization_spend_limit_reached"},
		{402, "billing_error", "linked_organization_billing_unavailable", "x", provider.Blocked, "linked_organization_billing_unavailable"},
		{403, "permission_error", "", "x", provider.Blocked, ""},
		{403, "permission_error", "", "Your IP address isn't in this organization's allowed range.", provider.Blocked, ""},
		{403, "permission_error", "claude_code_key_creator_not_member", "x", provider.Blocked, "claude_code_key_creator_not_member"},
		{404, "not_found_error", "", "x", provider.Unknown, ""},
		{408, "timeout_error", "", "x", provider.Unknown, ""},
		{409, "conflict_error", "", "x", provider.Unknown, ""},
		{413, "request_too_large", "request_body_too_large_after_decoding", "x", provider.Unknown, "request_body_too_large_after_decoding"},
		{418, "authentication_error", "", "invalid x-api-key", provider.Unknown, ""},
		{429, "rate_limit_error", "", "x", provider.Blocked, ""},
		{429, "rate_limit_error", "ramp_limit_exceeded", "x", provider.Blocked, "ramp_limit_exceeded"},
		{429, "rate_limit_error", "enforced_spend_limit_reached", "x", provider.Blocked, "enforced_spend_limit_reached"},
		{429, "rate_limit_error", "contract_spend_limit_reached", "x", provider.Blocked, "contract_spend_limit_reached"},
		{500, "api_error", "", "x", provider.Unknown, ""},
		{500, "authentication_error", "claude_code_key_creator_not_member", "x", provider.Unknown, "claude_code_key_creator_not_member"},
		{502, "api_error", "", "x", provider.Unknown, ""},
		{503, "api_error", "cmek_key_unreachable", "x", provider.Unknown, "cmek_key_unreachable"},
		{504, "timeout_error", "", "x", provider.Unknown, ""},
		{529, "overloaded_error", "", "x", provider.Unknown, ""},
	} {
		p := admin(t, func(w http.ResponseWriter, _ *http.Request) {
			e := errorShape{Type: tc.kind, Message: tc.message}
			if tc.code != "" {
				e.Details = map[string]string{"error_code": tc.code}
			}
			w.Header().Set("anthropic-organization-id", "0b7b7b7b-1111-4222-8333-444444444444")
			w.Header().Set("request-id", "req_01EXAMPLE")
			body, err := json.Marshal(map[string]any{"type": "error", "error": e})
			if err != nil {
				t.Error(err)
			}
			write(w, tc.status, string(body))
		})
		got, err := p.Inspect(t.Context(), secrettest.Fake(t))
		if err != nil || got.Answer != tc.want || got.Code != tc.wantCode || got.Status != tc.status || got.RequestID != "req_01EXAMPLE" {
			t.Errorf("%d %s %s %q: %+v, %v", tc.status, tc.kind, tc.code, tc.message, got, err)
		}
		if got.Organization == "" || got.Reason == "" {
			t.Errorf("%d: organization or reason is missing: %+v", tc.status, got)
		}
		if strings.Contains(got.Type, "tomorrow") || strings.Contains(got.Reason, tc.message) && len(tc.message) > 1 {
			t.Errorf("%d: words of the reply are in the verdict: %+v", tc.status, got)
		}
	}
}

// TestWhatIsSent looks at every request that the provider makes.
func TestWhatIsSent(t *testing.T) {
	t.Setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
	t.Setenv("ANTHROPIC_API_KEY", "from the environment")
	t.Setenv("ANTHROPIC_AUTH_TOKEN", "from the environment")
	t.Setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Custom: from the environment")
	seen := map[string]http.Header{}
	p := admin(t, func(w http.ResponseWriter, r *http.Request) {
		key := r.Method + " " + r.URL.Path
		seen[key] = r.Header.Clone()
		if r.Method == "POST" && strings.HasPrefix(r.URL.Path, "/v1/messages") {
			var body map[string]any
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Errorf("%s: %v", key, err)
			}
			for _, name := range []string{"temperature", "top_p", "top_k"} {
				if _, ok := body[name]; ok {
					t.Errorf("%s: the body has %s", key, name)
				}
			}
			if n, ok := body["max_tokens"].(float64); ok != (r.URL.Path == "/v1/messages") || ok && n < 64 {
				t.Errorf("%s: max_tokens = %v", key, body["max_tokens"])
			}
			if body["model"] != anthropic.DefaultModel {
				t.Errorf("%s: model = %v", key, body["model"])
			}
		}
		write(w, 500, `{}`)
	})
	v := secrettest.Fake(t)
	now := time.Now()
	for _, ask := range []func(context.Context, secret.Value) (provider.Verdict, error){p.Inspect, p.Count, p.Message} {
		if got, err := ask(t.Context(), v); err != nil || got.Answer != provider.Unknown {
			t.Errorf("%+v, %v", got, err)
		}
	}
	_, listed := p.List(t.Context(), "")
	_, set := p.SetStatus(t.Context(), "apikey_01EXAMPLE", provider.Inactive)
	_, used := p.Usage(t.Context(), provider.UsageQuery{IDs: []string{"apikey_01EXAMPLE"}, From: now.Add(-time.Hour), To: now})
	_, acted := p.Activities(t.Context(), now)
	_, _, organized := p.Organization(t.Context())
	for i, err := range []error{listed, used, acted, organized} {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if !fault.Is(set, fault.Indeterminate) {
		t.Errorf("a change that may have been applied: %v", set)
	}
	want := []string{
		"GET /v1/models", "POST /v1/messages/count_tokens", "POST /v1/messages", "GET /v1/organizations/api_keys",
		"POST /v1/organizations/api_keys/apikey_01EXAMPLE", "GET /v1/organizations/analytics/usage", "GET /v1/compliance/activities", "GET /v1/organizations/me",
	}
	for _, call := range want {
		h, ok := seen[call]
		if !ok {
			t.Errorf("%s was not called; calls: %d", call, len(seen))
			continue
		}
		if h.Get("anthropic-version") != "2026-10-21" || h.Get("User-Agent") != "keywright/test" {
			t.Errorf("%s: version %q, user agent %q", call, h.Get("anthropic-version"), h.Get("User-Agent"))
		}
		isAdmin := strings.Contains(h.Get("x-api-key"), "admin")
		if h.Get("x-api-key") == "" || isAdmin != (strings.Contains(call, "organizations") || strings.Contains(call, "compliance")) {
			t.Errorf("%s: admin key = %v", call, isAdmin)
		}
		for name := range h {
			if strings.HasPrefix(name, "X-Stainless") || slices.Contains([]string{"Origin", "Authorization", "X-Custom", "Cookie"}, name) {
				t.Errorf("%s: header %s is sent", call, name)
			}
		}
	}
	if len(seen) != len(want) {
		t.Errorf("%d calls, want %d", len(seen), len(want))
	}
	if at, err := p.Clock(t.Context()); err != nil || at.IsZero() {
		t.Errorf("Clock: %v, %v", at, err)
	}
	if got := seen["GET /v1/models"].Get("x-api-key"); got != "" {
		t.Error("the clock is asked with a value")
	}
}

func TestUnknownModelFallsBackToTheCheapest(t *testing.T) {
	for name, tc := range map[string]struct {
		list string
		want provider.Answer
		used string
	}{
		"haiku of the newest date": {`{"data":[{"id":"claude-opus-9","lifecycle":"active","created_at":"2027-01-01T00:00:00Z"},
			{"id":"claude-haiku-6","lifecycle":"active","created_at":"2026-01-01T00:00:00Z"},{"id":"claude-haiku-7","lifecycle":"active","created_at":"2027-01-01T00:00:00Z"},
			{"id":"claude-haiku-8","lifecycle":"deprecated","created_at":"2028-01-01T00:00:00Z"}],"has_more":false}`, provider.Live, "claude-haiku-7"},
		"sonnet without haiku": {`{"data":[{"id":"claude-opus-9","lifecycle":"active"},{"id":"claude-sonnet-9","lifecycle":"active"}]}`, provider.Live, "claude-sonnet-9"},
		"none is active":       {`{"data":[{"id":"claude-haiku-6","lifecycle":"retired"}]}`, provider.Unknown, ""},
		"the same again":       {`{"data":[{"id":"claude-haiku-5-5","lifecycle":"active"}]}`, provider.Unknown, ""},
		"odd names":            {`{"data":[{"id":"../../x haiku","lifecycle":"active"}]}`, provider.Unknown, ""},
		"garbage":              {`{{`, provider.Unknown, ""},
	} {
		var used []string
		p := admin(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" {
				write(w, 200, tc.list)
				return
			}
			var body struct{ Model string }
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			if body.Model == anthropic.DefaultModel {
				write(w, 404, `{"type":"error","error":{"type":"not_found_error","message":"model"}}`)
				return
			}
			used = append(used, body.Model)
			write(w, 200, `{"type":"message","input_tokens":3}`)
		})
		v := secrettest.Fake(t)
		for method, ask := range map[string]func(context.Context, secret.Value) (provider.Verdict, error){"Count": p.Count, "Message": p.Message} {
			used = nil
			got, err := ask(t.Context(), v)
			if err != nil || got.Answer != tc.want || strings.Join(used, " ") != tc.used {
				t.Errorf("%s, %s: %+v, %v, asked %q", name, method, got, err, used)
			}
		}
	}
}

func TestKeysOfBothVersions(t *testing.T) {
	const common = `"type":"api_key","name":"billing","created_at":"2026-10-02T08:15:00Z","partial_key_hint":"abc...xyz"`
	for _, tc := range []struct {
		name, fields                             string
		workspace, principal, createdBy, expires string
	}{
		{"new, workspace", `"scope":{"type":"workspace","workspace_id":"wrkspc_01A"},"principal":null,"created_by":{"type":"user","id":"user_01A"},"expires_at":null`, "wrkspc_01A", "", "user_01A", ""},
		{"new, organization", `"scope":{"type":"organization"},"principal":{"type":"user_actor","user_id":"user_01A"},"created_by":null`, "", "user", "", ""},
		{"new, service account", `"scope":{"type":"organization"},"principal":{"type":"service_account_actor","service_account_id":"svac_01A"},"created_by":{"type":"service_account","id":"svac_01A"},"expires_at":"2027-01-02T08:15:00Z"`, "", "service_account", "svac_01A", "2027-01-02T08:15:00Z"},
		{"old, workspace", `"workspace_id":"wrkspc_01A","principal":{"type":"user","id":"user_01A"},"created_by":{"type":"user","id":"user_01A"}`, "wrkspc_01A", "user", "user_01A", ""},
		{"old, default workspace", `"workspace_id":null,"principal":{"type":"service_account","id":"svac_01A"}`, "", "service_account", "", ""},
		{"unfamiliar principal", `"principal":{"type":"robot_actor","robot_id":"x"},"more":{"a":[1]}`, "", "robot_actor", "", ""},
		{"principal without type", `"principal":{"user_id":"user_01A"}`, "", "user", "", ""},
		{"principal of odd form", `"principal":{"type":"A Robot"}`, "", "unfamiliar", "", ""},
	} {
		p := admin(t, func(w http.ResponseWriter, _ *http.Request) {
			write(w, 200, `{"data":[{"id":"apikey_01A","status":"inactive",`+common+`,`+tc.fields+`}],"has_more":false,"first_id":"a","last_id":"a"}`)
		})
		keys, err := p.List(t.Context(), "")
		if err != nil || len(keys) != 1 {
			t.Errorf("%s: %d keys, %v", tc.name, len(keys), err)
			continue
		}
		k := keys[0]
		expires := ""
		if !k.ExpiresAt.IsZero() {
			expires = k.ExpiresAt.Format(time.RFC3339)
		}
		if k.Workspace != tc.workspace || k.Principal != tc.principal || k.CreatedBy != tc.createdBy || expires != tc.expires || k.Status != provider.Inactive || k.Name != "billing" || !k.Matches(secret.New([]byte("abc and more xyz"))) {
			t.Errorf("%s: %+v", tc.name, k)
		}
	}
}

func TestClockNeedsADate(t *testing.T) {
	p := admin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = nil
		write(w, 401, `{}`)
	})
	if at, err := p.Clock(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Clock: %v, %v", at, err)
	}
}

func TestConfiguration(t *testing.T) {
	for name, c := range map[string]anthropic.Config{
		"plain http": {BaseURL: "http://api.example"}, "model": {Model: "no model"}, "no URL": {BaseURL: "api.example"},
	} {
		if _, err := anthropic.New(c); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, err := anthropic.New(anthropic.Config{})
	if _, ok := p.(*anthropic.Keys); err != nil || !ok {
		t.Errorf("New without an admin key: %T, %v", p, err)
	}
	denied := fault.New(fault.NotFound, "read env:NAME: the environment variable is not set", fault.Hint("export NAME"))
	p, err = anthropic.New(anthropic.Config{BaseURL: "http://127.0.0.1:1", AdminKey: func(context.Context) (secret.Value, error) { return secret.Value{}, denied }})
	if err != nil {
		t.Fatal(err)
	}
	a := p.(*anthropic.Admin)
	for name, call := range map[string]func() error{
		"List":         func() error { _, err := a.List(t.Context(), ""); return err },
		"Organization": func() error { _, _, err := a.Organization(t.Context()); return err },
		"SetStatus":    func() error { _, err := a.SetStatus(t.Context(), "apikey_1", provider.Active); return err },
	} {
		if err := call(); !fault.Is(err, fault.NotFound) || fault.HintOf(err) != "export NAME" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusedAdminKeyHasAHint(t *testing.T) {
	for status, want := range map[int]fault.Kind{401: fault.Unauthenticated, 403: fault.Forbidden} {
		p := admin(t, func(w http.ResponseWriter, _ *http.Request) {
			write(w, status, `{"type":"error","error":{"type":"authentication_error","message":"secret words"}}`)
		})
		_, err := p.List(t.Context(), "")
		if !fault.Is(err, want) || !strings.Contains(fault.HintOf(err), "admin key") || strings.Contains(err.Error(), "secret words") {
			t.Errorf("%d: %v, hint %q", status, err, fault.HintOf(err))
		}
		if _, _, err := p.Organization(t.Context()); !fault.Is(err, want) || !strings.Contains(fault.HintOf(err), "admin key") {
			t.Errorf("%d: %v, hint %q", status, err, fault.HintOf(err))
		}
	}
}

func TestSettingWhatTheProviderRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, refusal, shown string
		set                  provider.Status
		want                 fault.Kind
	}{
		{"it is so already", `{}`, "archived", provider.Archived, fault.Unknown},
		{"archived for good", `{}`, "archived", provider.Active, fault.Conflict},
		{"expired", `{}`, "expired", provider.Active, fault.Conflict},
		{"no reason", `{}`, "inactive", provider.Active, fault.Invalid},
		{"organization cap", `{"type":"error","error":{"type":"invalid_request_error","details":{"error_code":"org_api_key_limit_exceeded"}}}`, "inactive", provider.Active, fault.Forbidden},
		{"workspace cap", `{"type":"error","error":{"type":"invalid_request_error","details":{"error_code":"workspace_api_key_limit_exceeded"}}}`, "inactive", provider.Active, fault.Forbidden},
	} {
		p := admin(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				write(w, 400, tc.refusal)
				return
			}
			write(w, 200, fmt.Sprintf(`{"id":"apikey_01A","status":%q,"name":"x","created_at":"2026-10-02T08:15:00Z"}`, tc.shown))
		})
		k, err := p.SetStatus(t.Context(), "apikey_01A", tc.set)
		if tc.want == fault.Unknown {
			if err != nil || k.Status != tc.set {
				t.Errorf("%s: %+v, %v", tc.name, k, err)
			}
			continue
		}
		if !fault.Is(err, tc.want) {
			t.Errorf("%s: %v (%v), want %v", tc.name, err, fault.KindOf(err), tc.want)
		}
	}
	for body, want := range map[string]fault.Kind{
		`{"id":"apikey_01B","status":"inactive","created_at":"2026-10-02T08:15:00Z"}`: fault.Indeterminate,
		`{"id":"apikey_01A","status":"active","created_at":"2026-10-02T08:15:00Z"}`:   fault.Conflict,
	} {
		p := admin(t, func(w http.ResponseWriter, _ *http.Request) { write(w, 200, body) })
		if _, err := p.SetStatus(t.Context(), "apikey_01A", provider.Inactive); !fault.Is(err, want) {
			t.Errorf("%s: %v, want %v", body, err, want)
		}
	}
}
