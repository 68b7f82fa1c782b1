package simulator_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/simulator"
)

func form(r url.Values) (string, option) {
	return r.Encode(), header("Content-Type", "application/x-www-form-urlencoded")
}

func TestConsole(t *testing.T) {
	w := start(t, simulator.Options{})
	ws := w.AddWorkspace("prod & co").ID
	if a := w.do("GET", "/", "", ""); a.status != 303 || a.header.Get("Location") != "/console" {
		t.Errorf("/ answers %d to %q", a.status, a.header.Get("Location"))
	}
	page := w.want(200, "GET", "/console", "", "")
	for _, want := range []string{"Simulation.", "No keys yet.", ws, "prod &amp; co", `<html lang="en">`} {
		if !strings.Contains(string(page.body), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(string(page.body), "<script") || !strings.Contains(page.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error("the page must work without scripts and forbid them")
	}
	if a := w.want(200, "GET", "/console/style.css", "", ""); !strings.HasPrefix(a.header.Get("Content-Type"), "text/css") {
		t.Error("the style sheet has the wrong type")
	}

	if a := w.want(404, "GET", "/none", "", ""); !strings.Contains(string(a.body), "simulation") {
		t.Errorf("404 page: %s", a.body)
	}

	body, ct := form(url.Values{"name": {"from <console>"}, "workspace": {ws}, "kind": {"service"}, "expires": {"7d"}})
	made := w.want(200, "POST", "/console/keys", "", body, ct, header("Origin", w.url))
	m := regexp.MustCompile(`value="(sk-ant-` + `[^"]+)"`).FindSubmatch(made.body)
	if m == nil {
		t.Fatal("the page does not show the value")
	}
	value := html.UnescapeString(string(m[1]))
	w.want(200, "GET", "/v1/models", value, "")
	if made.header.Get("Cache-Control") != "no-store" {
		t.Error("the page with the value may be cached")
	}
	k := w.Keys()[0]
	if k.Name != "from <console>" || k.Workspace != ws || k.Principal.Kind != simulator.PrincipalServiceAccount || k.ExpiresAt.Sub(k.CreatedAt).Hours() != 7*24 {
		t.Errorf("key: %+v", k)
	}
	if again := w.want(200, "GET", "/console", "", ""); strings.Contains(string(again.body), value) || !strings.Contains(string(again.body), "from &lt;console&gt;") {
		t.Error("the value is shown twice, or the name is not escaped")
	}

	for _, step := range []struct{ status, shown string }{{"inactive", "Enable"}, {"active", "Disable"}, {"archived", "none"}} {
		body, ct := form(url.Values{"status": {step.status}})
		if a := w.want(303, "POST", "/console/keys/"+k.ID, "", body, ct); a.header.Get("Location") != "/console" {
			t.Errorf("redirect to %q", a.header.Get("Location"))
		}
		if p := w.want(200, "GET", "/console", "", ""); !strings.Contains(string(p.body), step.shown) {
			t.Errorf("after %s the page lacks %q", step.status, step.shown)
		}
		if w.Accepts(k.ID) != (step.status == "active") {
			t.Errorf("after %s: accepted = %v", step.status, w.Accepts(k.ID))
		}
	}
	body, ct = form(url.Values{"status": {"active"}})
	if a := w.want(400, "POST", "/console/keys/"+k.ID, "", body, ct); !strings.Contains(string(a.body), `role="alert"`) {
		t.Error("the refusal is not announced")
	}
	for _, bad := range []url.Values{{"name": {""}}, {"name": {"x"}, "workspace": {"wrkspc_none"}}, {"name": {"x"}, "kind": {"none"}}, {"name": {"x"}, "expires": {"2y"}}} {
		body, ct := form(bad)
		w.want(400, "POST", "/console/keys", "", body, ct)
	}
	if n := len(w.Keys()); n != 1 {
		t.Errorf("%d keys, want 1", n)
	}
}

func TestConsoleRefusesForeignPages(t *testing.T) {
	w := start(t, simulator.Options{Hosts: []string{"simulator.internal"}})
	body, ct := form(url.Values{"name": {"x"}})
	host := func(h string) option { return func(r *http.Request) { r.Host = h } }
	tests := []struct {
		name   string
		opts   []option
		status int
	}{
		{"no browser", nil, 200},
		{"same origin", []option{header("Origin", w.url)}, 200},
		{"same origin by fetch metadata", []option{header("Sec-Fetch-Site", "same-origin")}, 200},
		{"foreign origin", []option{header("Origin", "https://evil.example")}, 403},
		{"cross-site", []option{header("Sec-Fetch-Site", "cross-site")}, 403},
		{"other port", []option{header("Sec-Fetch-Site", "same-site")}, 403},
		{"rebound name", []option{host("evil.example")}, 403},
		{"rebound name, own origin", []option{host("evil.example"), header("Origin", "http://evil.example")}, 403},
		{"localhost", []option{host("localhost:1234")}, 200},
		{"loopback 6", []option{host("[::1]:1234")}, 200},
		{"name from the options", []option{host("simulator.internal:80")}, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(w.Keys())
			a := w.do("POST", "/console/keys", "", body, append(tt.opts, ct)...)
			if a.status != tt.status {
				t.Errorf("got %d, want %d", a.status, tt.status)
			}
			if !strings.Contains(strings.ToLower(string(a.body)), "simulation") {
				t.Errorf("the page does not say that it is a simulation: %s", a.body)
			}
			if made := len(w.Keys()) > before; made != (tt.status == 200) {
				t.Errorf("key made = %v", made)
			}
		})
	}
}
