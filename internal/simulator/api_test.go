package simulator_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keywright/keywright/internal/simulator"
)

func TestValuesHaveTheRealLayout(t *testing.T) {
	w := start(t, simulator.Options{})
	id, value := w.key(simulator.CreateKey{})
	if len(value) != 108 || !strings.HasPrefix(value, "sk-ant-"+"api03-") || !strings.HasSuffix(value, "AA") {
		t.Errorf("key value has the wrong layout (length %d)", len(value))
	}
	if len(w.admin) != 110 || !strings.HasPrefix(w.admin, "sk-ant-"+"admin01-") || !strings.HasSuffix(w.admin, "AA") {
		t.Errorf("admin key has the wrong layout (length %d)", len(w.admin))
	}
	if !strings.HasPrefix(id, "apikey_01") {
		t.Errorf("id %q", id)
	}
	if got := w.KeyID(value); got != id {
		t.Errorf("KeyID = %q, want %q", got, id)
	}
	_, other := w.key(simulator.CreateKey{})
	if other == value {
		t.Error("two keys have one value")
	}
	a, b := simulator.New(simulator.Options{Seed: 7}), simulator.New(simulator.Options{Seed: 7})
	if a.AdminKey() != b.AdminKey() {
		t.Error("the same seed made different values")
	}
	if a.AdminKey() == simulator.New(simulator.Options{Seed: 8}).AdminKey() {
		t.Error("different seeds made the same value")
	}
}

func TestAuthentication(t *testing.T) {
	w := start(t, simulator.Options{})
	id, value := w.key(simulator.CreateKey{})
	other := w.AddWorkspace("other").ID
	_, unbound := w.key(simulator.CreateKey{Unbound: true, Principal: simulator.Principal{Kind: simulator.PrincipalUser}})
	dev := w.AddUser("dev@simulation.invalid", "developer")
	_, devKey := w.key(simulator.CreateKey{Unbound: true, Principal: simulator.Principal{Kind: simulator.PrincipalUser, ID: dev}})
	bearer := func(v string) option { return header("Authorization", "Bearer "+v) }
	none := header("x-api-key", "")
	tests := []struct {
		name, path, key string
		opts            []option
		status          int
		kind            string
	}{
		{"x-api-key", "/v1/models", value, nil, 200, ""},
		{"bearer", "/v1/models", "", []option{none, bearer(value)}, 200, ""},
		{"no key", "/v1/models", "", nil, 401, "authentication_error"},
		{"unknown key", "/v1/models", value[:107] + "B", nil, 401, "authentication_error"},
		{"no version", "/v1/models", value, []option{version("")}, 400, "invalid_request_error"},
		{"old version", "/v1/models", value, []option{version("2023-06-01")}, 200, ""},
		{"unknown version", "/v1/models", value, []option{version("2024-01-01")}, 400, "invalid_request_error"},
		{"dead key wins over missing version", "/v1/models", "x", []option{version("")}, 401, "authentication_error"},
		{"browser origin", "/v1/models", value, []option{header("Origin", "https://example.com")}, 401, "authentication_error"},
		{"admin key on models", "/v1/models", w.admin, nil, 401, "authentication_error"},
		{"workspace key on admin", "/v1/organizations/me", value, nil, 403, "permission_error"},
		{"admin", "/v1/organizations/me", w.admin, nil, 200, ""},
		{"admin by bearer", "/v1/organizations/me", "", []option{none, bearer(w.admin)}, 200, ""},
		{"unbound key of an admin", "/v1/organizations/me", unbound, nil, 200, ""},
		{"unbound key of a developer", "/v1/organizations/me", devKey, nil, 403, "permission_error"},
		{"matching workspace", "/v1/models", value, []option{header("anthropic-workspace-id", w.DefaultWorkspace())}, 200, ""},
		{"foreign workspace", "/v1/models", value, []option{header("anthropic-workspace-id", other)}, 400, "invalid_request_error"},
		{"unbound chooses", "/v1/models", unbound, []option{header("anthropic-workspace-id", other)}, 200, ""},
		{"unbound, unknown workspace", "/v1/models", unbound, []option{header("anthropic-workspace-id", "wrkspc_none")}, 400, "invalid_request_error"},
		{"unknown path", "/v1/nothing", value, nil, 404, "not_found_error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := w.want(tt.status, "GET", tt.path, tt.key, "", tt.opts...)
			if tt.kind != "" {
				if kind, _ := a.errorOf(t); kind != tt.kind {
					t.Errorf("error.type = %q, want %q", kind, tt.kind)
				}
			}
			wantOrg := w.Organization()
			if tt.status == 401 {
				wantOrg = ""
			}
			if got := a.header.Get("anthropic-organization-id"); got != wantOrg {
				t.Errorf("anthropic-organization-id = %q, want %q", got, wantOrg)
			}
			if strings.HasPrefix(tt.path, "/v1/organizations") || tt.status == 401 {
				if got := a.header.Get("anthropic-workspace-id"); got != "" {
					t.Errorf("anthropic-workspace-id = %q on admin or 401", got)
				}
			}
		})
	}
	if a := w.want(200, "GET", "/v1/models", unbound, "", header("anthropic-workspace-id", other)); a.header.Get("anthropic-workspace-id") != other {
		t.Error("an unbound key did not act in the chosen workspace")
	}
	if a := w.want(200, "GET", "/v1/models", value, ""); a.header.Get("anthropic-workspace-id") != w.DefaultWorkspace() {
		t.Error("the default workspace has no id in the reply")
	}
	log := w.Requests()
	if last := log[len(log)-1]; last.KeyID != id || last.Status != 200 || last.Workspace != w.DefaultWorkspace() {
		t.Errorf("provider log: %+v", last)
	}
}

func TestStatusSemantics(t *testing.T) {
	w := start(t, simulator.Options{})
	probe := func(value string) int { return w.do("GET", "/v1/models?limit=1", value, "").status }
	set := func(id, status string) answer {
		return w.do("POST", "/v1/organizations/api_keys/"+id, w.admin, `{"status":"`+status+`"}`)
	}
	id, value := w.key(simulator.CreateKey{})
	for _, step := range []struct {
		status      string
		code, probe int
	}{
		{"active", 200, 200}, {"inactive", 200, 401}, {"inactive", 200, 401}, {"active", 200, 200},
		{"expired", 400, 200}, {"nonsense", 400, 200}, {"archived", 200, 401}, {"active", 400, 401}, {"inactive", 400, 401}, {"archived", 200, 401},
	} {
		if a := set(id, step.status); a.status != step.code {
			t.Fatalf("set %s: got %d %s", step.status, a.status, a.body)
		}
		if got := probe(value); got != step.probe {
			t.Fatalf("after %s: probe got %d, want %d", step.status, got, step.probe)
		}
	}
	if len(w.Refused()) == 0 {
		t.Error("Refused does not show the probes of a dead key")
	}

	id, value = w.key(simulator.CreateKey{ExpiresAt: w.Now().Add(time.Hour)})
	w.clock.Add(59 * time.Minute)
	if got := probe(value); got != 200 {
		t.Fatalf("before expiry: %d", got)
	}
	w.Advance(time.Minute)
	if got := probe(value); got != 401 {
		t.Fatalf("after expiry: %d", got)
	}
	if got := w.want(200, "GET", "/v1/organizations/api_keys/"+id, w.admin, "").json(t)["status"]; got != "expired" {
		t.Errorf("status %v, want expired", got)
	}
	if a := set(id, "active"); a.status != 400 {
		t.Errorf("reviving an expired key: %d", a.status)
	}
	if a := set(id, "archived"); a.status != 200 {
		t.Errorf("archiving an expired key: %d %s", a.status, a.body)
	}
}

func TestStatusDelay(t *testing.T) {
	w := start(t, simulator.Options{StatusDelay: 3 * time.Second})
	id, value := w.key(simulator.CreateKey{})
	probe := func() int { return w.do("GET", "/v1/models", value, "").status }
	if err := w.SetStatus(id, simulator.StatusInactive); err != nil {
		t.Fatal(err)
	}
	if got := w.want(200, "GET", "/v1/organizations/api_keys/"+id, w.admin, "").json(t)["status"]; got != "inactive" {
		t.Errorf("the Admin API shows %v at once, want inactive", got)
	}
	if got := probe(); got != 200 {
		t.Errorf("within the delay: %d", got)
	}
	w.clock.Add(3 * time.Second)
	if got := probe(); got != 401 {
		t.Errorf("after the delay: %d", got)
	}
	if w.Accepts(id) {
		t.Error("Accepts is true for a dead key")
	}
	if err := w.SetStatus(id, simulator.StatusActive); err != nil {
		t.Fatal(err)
	}
	if got := probe(); got != 401 {
		t.Errorf("reactivated, within the delay: %d", got)
	}
	w.clock.Add(3 * time.Second)
	if got := probe(); got != 200 {
		t.Errorf("reactivated, after the delay: %d", got)
	}
}

func TestKeyLimits(t *testing.T) {
	w := start(t, simulator.Options{})
	id, _ := w.key(simulator.CreateKey{})
	if err := w.SetStatus(id, "inactive"); err != nil {
		t.Fatal(err)
	}
	w.key(simulator.CreateKey{})
	for _, tt := range []struct {
		ws, org int
		code    string
	}{{1, 0, "workspace_api_key_limit_exceeded"}, {0, 1, "org_api_key_limit_exceeded"}} {
		w.SetKeyLimits(tt.ws, tt.org)
		a := w.want(400, "POST", "/v1/organizations/api_keys/"+id, w.admin, `{"status":"active"}`)
		if _, code := a.errorOf(t); code != tt.code {
			t.Errorf("error_code %q, want %q", code, tt.code)
		}
		if _, _, err := w.CreateKey(simulator.CreateKey{Name: "one more"}); err == nil {
			t.Error("CreateKey went beyond the cap")
		}
	}
	w.SetKeyLimits(0, 0)
	w.want(200, "POST", "/v1/organizations/api_keys/"+id, w.admin, `{"status":"active"}`)
}

func TestKeyObject(t *testing.T) {
	w := start(t, simulator.Options{})
	ws := w.AddWorkspace("prod").ID
	expires := w.Now().Add(90 * 24 * time.Hour)
	id, value := w.key(simulator.CreateKey{
		Name: "billing", Workspace: ws, ExpiresAt: expires,
		Principal: simulator.Principal{Kind: simulator.PrincipalServiceAccount, ID: "svac_01X"},
	})
	got := w.want(200, "GET", "/v1/organizations/api_keys/"+id, w.admin, "").json(t)
	person := w.Keys()[0].CreatedBy
	want := map[string]any{
		"type": "api_key", "id": id, "name": "billing", "status": "active",
		"partial_key_hint": value[:16] + "..." + value[104:], "created_at": "2026-11-20T10:00:00Z",
		"expires_at": expires.Format(time.RFC3339),
		"created_by": map[string]any{"id": person, "type": "user"},
		"principal":  map[string]any{"type": "service_account_actor", "service_account_id": "svac_01X"},
		"scope":      map[string]any{"type": "workspace", "workspace_id": ws},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("key object (-want +got):\n%s", d)
	}
	want["workspace_id"] = ws
	if d := cmp.Diff(want, w.want(200, "GET", "/v1/organizations/api_keys/"+id, w.admin, "", version("2023-06-01")).json(t)); d != "" {
		t.Errorf("old key object (-want +got):\n%s", d)
	}
	plain, _ := w.key(simulator.CreateKey{})
	old := w.want(200, "GET", "/v1/organizations/api_keys/"+plain, w.admin, "", version("2023-06-01")).json(t)
	if v, ok := old["workspace_id"]; !ok || v != nil {
		t.Errorf("workspace_id of a key in the default workspace: %v", v)
	}
	if s := old["scope"].(map[string]any); s["workspace_id"] != w.DefaultWorkspace() {
		t.Errorf("scope of a key in the default workspace: %v", s)
	}
	if old["principal"] != nil || old["expires_at"] != nil {
		t.Errorf("principal %v, expires_at %v, want null", old["principal"], old["expires_at"])
	}
	unbound, _ := w.key(simulator.CreateKey{Unbound: true, Principal: simulator.Principal{Kind: simulator.PrincipalUser}})
	o := w.want(200, "GET", "/v1/organizations/api_keys/"+unbound, w.admin, "").json(t)
	if d := cmp.Diff(map[string]any{"type": "organization"}, o["scope"]); d != "" {
		t.Error(d)
	}
}

func TestKeyListAndUpdate(t *testing.T) {
	w := start(t, simulator.Options{})
	ws := w.AddWorkspace("prod").ID
	by := w.AddUser("dev@simulation.invalid", "")
	var ids []string // newest first
	for i := range 5 {
		c := simulator.CreateKey{Name: "k"}
		if i%2 == 0 {
			c.Workspace = ws
		}
		if i == 3 {
			c.CreatedBy = by
		}
		id, _ := w.key(c)
		ids = append([]string{id}, ids...)
	}
	if err := w.SetStatus(ids[0], "inactive"); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		query string
		want  []string
		more  bool
	}{
		{"", ids, false},
		{"?limit=2", ids[:2], true},
		{"?limit=2&after_id=" + ids[1], ids[2:4], true},
		{"?limit=2&after_id=" + ids[3], ids[4:], false},
		{"?limit=2&before_id=" + ids[4], ids[2:4], true},
		{"?limit=5&before_id=" + ids[1], ids[:1], false},
		{"?status=inactive", ids[:1], false},
		{"?status=expired", nil, false},
		{"?workspace_id=" + ws, []string{ids[0], ids[2], ids[4]}, false},
		{"?workspace_id=" + ws + "&status=active", []string{ids[2], ids[4]}, false},
		{"?created_by_user_id=" + by, []string{ids[1]}, false},
	}
	for _, tt := range tests {
		a := w.want(200, "GET", "/v1/organizations/api_keys"+tt.query, w.admin, "")
		var got []string
		for _, k := range list(t, a) {
			got = append(got, k["id"].(string))
		}
		v := a.json(t)
		if d := cmp.Diff(tt.want, got); d != "" || v["has_more"] != tt.more {
			t.Errorf("%q: has_more %v, ids (-want +got):\n%s", tt.query, v["has_more"], d)
		}
		if len(got) > 0 && (v["first_id"] != got[0] || v["last_id"] != got[len(got)-1]) {
			t.Errorf("%q: first_id or last_id is wrong", tt.query)
		}
		if len(got) == 0 && (v["first_id"] != nil || v["data"] == nil) {
			t.Errorf("%q: an empty page must have data [] and first_id null: %s", tt.query, a.body)
		}
	}
	for _, bad := range []string{"?limit=0", "?limit=1001", "?limit=x", "?status=dead", "?after_id=none", "?after_id=a&before_id=b", "?state=active", "?status=active&status=inactive"} {
		w.want(400, "GET", "/v1/organizations/api_keys"+bad, w.admin, "")
	}
	path := "/v1/organizations/api_keys/" + ids[2]
	if got := w.want(200, "POST", path, w.admin, `{"name":"new-name"}`).json(t); got["name"] != "new-name" || got["status"] != "active" {
		t.Errorf("renamed key: %v", got)
	}
	for _, bad := range []string{`{"workspace_id":"x"}`, `{"expires_at":null}`, `{"name":""}`, `{`, `[]`, `{} {}`} {
		w.want(400, "POST", path, w.admin, bad)
	}
	w.want(404, "POST", "/v1/organizations/api_keys/apikey_none", w.admin, `{"status":"inactive"}`)
	w.want(404, "GET", "/v1/organizations/api_keys/apikey_none", w.admin, "")
	w.want(404, "DELETE", path, w.admin, "")
	w.want(404, "POST", "/v1/organizations/api_keys", w.admin, `{"name":"x"}`)
}

func TestAdminKeyRevocation(t *testing.T) {
	w := start(t, simulator.Options{})
	id, value := w.CreateAdminKey("second")
	w.want(200, "GET", "/v1/organizations/me", value, "")
	if !w.RevokeAdminKey(id) || w.RevokeAdminKey("apikey_none") {
		t.Error("RevokeAdminKey reports the wrong thing")
	}
	w.want(401, "GET", "/v1/organizations/me", value, "")
}

func TestWorkspaces(t *testing.T) {
	w := start(t, simulator.Options{})
	made := w.want(200, "POST", "/v1/organizations/workspaces", w.admin, `{"name":"prod","tags":{"owner":"platform"}}`).json(t)
	id := made["id"].(string)
	if made["type"] != "workspace" || made["archived_at"] != nil || made["tags"].(map[string]any)["owner"] != "platform" {
		t.Errorf("workspace: %v", made)
	}
	if n := len(list(t, w.want(200, "GET", "/v1/organizations/workspaces", w.admin, ""))); n != 1 {
		t.Errorf("%d workspaces without the default one, want 1", n)
	}
	if n := len(list(t, w.want(200, "GET", "/v1/organizations/workspaces?include_default=true", w.admin, ""))); n != 2 {
		t.Errorf("%d workspaces with the default one, want 2", n)
	}
	if n := len(list(t, w.want(200, "GET", "/v1/organizations/workspaces?ids[]=none", w.admin, ""))); n != 0 {
		t.Errorf("%d workspaces with a foreign id, want 0", n)
	}
	if got := w.want(200, "POST", "/v1/organizations/workspaces/"+id, w.admin, `{"name":"production"}`).json(t)["name"]; got != "production" {
		t.Errorf("name %v", got)
	}
	w.want(400, "POST", "/v1/organizations/workspaces", w.admin, `{"tags":{}}`)
	w.want(400, "POST", "/v1/organizations/workspaces", w.admin, `{"name":"x","tags":{"anthropic.x":"y"}}`)
	w.want(404, "GET", "/v1/organizations/workspaces/wrkspc_none", w.admin, "")
	w.want(400, "POST", "/v1/organizations/workspaces/"+w.DefaultWorkspace()+"/archive", w.admin, "")

	keyID, value := w.key(simulator.CreateKey{Workspace: id})
	w.want(200, "GET", "/v1/models", value, "")
	if got := w.want(200, "POST", "/v1/organizations/workspaces/"+id+"/archive", w.admin, "").json(t); got["archived_at"] == nil {
		t.Error("archived_at is null after archiving")
	}
	w.want(401, "GET", "/v1/models", value, "")
	if got := w.want(200, "GET", "/v1/organizations/api_keys/"+keyID, w.admin, "").json(t)["status"]; got != "archived" {
		t.Errorf("key of an archived workspace: %v", got)
	}
	w.want(400, "POST", "/v1/organizations/workspaces/"+id, w.admin, `{"name":"x"}`)
	if n := len(list(t, w.want(200, "GET", "/v1/organizations/workspaces", w.admin, ""))); n != 0 {
		t.Errorf("%d live workspaces, want 0", n)
	}
	if n := len(list(t, w.want(200, "GET", "/v1/organizations/workspaces?include_archived=true", w.admin, ""))); n != 1 {
		t.Errorf("%d workspaces with archived ones, want 1", n)
	}
	if _, _, err := w.CreateKey(simulator.CreateKey{Name: "x", Workspace: id}); err == nil {
		t.Error("a key was made in an archived workspace")
	}
}

func TestRemovedUser(t *testing.T) {
	w := start(t, simulator.Options{})
	dev := w.AddUser("dev@simulation.invalid", "developer")
	_, personal := w.key(simulator.CreateKey{Principal: simulator.Principal{Kind: simulator.PrincipalUser, ID: dev}})
	_, legacy := w.key(simulator.CreateKey{CreatedBy: dev})
	_, code := w.key(simulator.CreateKey{CreatedBy: dev, ClaudeCode: true})
	for _, v := range []string{personal, legacy, code} {
		w.want(200, "GET", "/v1/models", v, "")
	}
	if got := list(t, w.want(200, "GET", "/v1/organizations/users?email=dev@simulation.invalid", w.admin, "")); len(got) != 1 || got[0]["id"] != dev {
		t.Errorf("users: %v", got)
	}
	w.want(200, "GET", "/v1/organizations/users/"+dev, w.admin, "")
	w.want(200, "DELETE", "/v1/organizations/users/"+dev, w.admin, "")
	w.want(404, "GET", "/v1/organizations/users/"+dev, w.admin, "")
	w.want(401, "GET", "/v1/models", personal, "")
	w.want(200, "GET", "/v1/models", legacy, "")
	if _, got := w.want(400, "GET", "/v1/models", code, "").errorOf(t); got != "claude_code_key_creator_not_member" {
		t.Errorf("error_code %q", got)
	}
	admin := list(t, w.want(200, "GET", "/v1/organizations/users?roles[]=admin", w.admin, ""))[0]["id"].(string)
	w.want(400, "DELETE", "/v1/organizations/users/"+admin, w.admin, "")
}

func TestModels(t *testing.T) {
	w := start(t, simulator.Options{})
	_, value := w.key(simulator.CreateKey{})
	states := map[string]string{}
	for _, m := range list(t, w.want(200, "GET", "/v1/models?limit=1000", value, "")) {
		states[m["id"].(string)] = m["lifecycle"].(string)
	}
	if states["claude-haiku-5-5"] != "active" || states["claude-sonnet-4-5-20250929"] != "deprecated" || states["claude-3-haiku-20240307"] != "" {
		t.Errorf("models: %v", states)
	}
	retired := list(t, w.want(200, "GET", "/v1/models?lifecycle[]=retired", value, ""))
	for _, m := range retired {
		if m["lifecycle"] != "retired" || m["retires_at"] == nil || m["deprecated_at"] == nil {
			t.Errorf("retired model: %v", m)
		}
	}
	if len(retired) == 0 {
		t.Error("no retired models on request")
	}
	if a := w.want(200, "GET", "/v1/models?limit=1", value, ""); a.json(t)["has_more"] != true {
		t.Error("limit=1 has no more")
	}
	w.want(400, "GET", "/v1/models?lifecycle[]=new", value, "")
	w.want(200, "GET", "/v1/models/claude-haiku-5-5", value, "")
	w.want(200, "GET", "/v1/models/claude-sonnet-4-5", value, "")
	w.want(404, "GET", "/v1/models/claude-3-haiku-20240307", value, "")
	w.want(404, "GET", "/v1/models/claude-none", value, "")
	w.clock.Add(30 * 24 * time.Hour)
	w.want(404, "GET", "/v1/models/claude-sonnet-4-5", value, "")
}

func TestDateFollowsTheClock(t *testing.T) {
	w := start(t, simulator.Options{})
	w.Advance(-26 * time.Hour)
	a := w.do("GET", "/v1/models", "", "")
	got, err := http.ParseTime(a.header.Get("Date"))
	if err != nil || !got.Equal(w.clock.Now().Add(-26*time.Hour)) {
		t.Errorf("Date %q (%v), want %v", a.header.Get("Date"), err, w.clock.Now().Add(-26*time.Hour))
	}
}

func TestActivityFeed(t *testing.T) {
	w := start(t, simulator.Options{ActivityLag: time.Minute})
	id, _ := w.key(simulator.CreateKey{})
	w.clock.Add(time.Second)
	w.want(200, "POST", "/v1/organizations/api_keys/"+id, w.admin, `{"status":"inactive","name":"renamed"}`)
	if n := len(list(t, w.want(200, "GET", "/v1/compliance/activities", w.admin, ""))); n != 0 {
		t.Errorf("%d activities within the lag", n)
	}
	w.clock.Add(time.Minute)
	all := list(t, w.want(200, "GET", "/v1/compliance/activities?activity_types[]=platform_api_key_created&activity_types[]=platform_api_key_updated", w.admin, ""))
	if len(all) != 2 || all[0]["type"] != "platform_api_key_updated" || all[1]["type"] != "platform_api_key_created" {
		t.Fatalf("activities: %v", all)
	}
	if all[0]["api_key_id"] != id || all[0]["actor"].(map[string]any)["type"] != "admin_api_key_actor" || all[1]["actor"].(map[string]any)["type"] != "user_actor" {
		t.Errorf("activities: %v", all)
	}
	want := []any{
		map[string]any{"type": "status", "previous_value": "active", "current_value": "inactive"},
		map[string]any{"type": "name", "previous_value": "test-key", "current_value": "renamed"},
	}
	if d := cmp.Diff(want, all[0]["updates"]); d != "" {
		t.Error(d)
	}
	// An update that changes nothing leaves no trace.
	w.want(200, "POST", "/v1/organizations/api_keys/"+id, w.admin, `{"status":"inactive"}`)
	w.clock.Add(time.Hour)
	for query, n := range map[string]int{
		"?exclude_activity_types[]=admin_api_key_created":                                2,
		"?activity_types[]=platform_api_key_updated":                                     1,
		"?created_at.gt=2026-11-20T10:00:00Z":                                            1,
		"?created_at.lte=2026-11-20T10:00:00Z&activity_types[]=platform_api_key_created": 1,
		"?actor_ids[]=" + all[1]["actor"].(map[string]any)["user_id"].(string):           2,
		"?organization_ids[]=none":                                                       0,
		"?limit=1&after_id=" + all[0]["id"].(string):                                     1,
	} {
		if got := len(list(t, w.want(200, "GET", "/v1/compliance/activities"+query, w.admin, ""))); got != n {
			t.Errorf("%s: %d activities, want %d", query, got, n)
		}
	}
	w.want(400, "GET", "/v1/compliance/activities?created_at.gt=yesterday", w.admin, "")
}
