package config

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location/gateway"
)

const withGateway = `organization: acme
provider: { url: "http://127.0.0.1:1" }
keys:
  app: { class: development, owner: dev@acme.example, locations: [file] }
  spare: { class: development, owner: dev@acme.example, locations: [file2] }
locations:
  file: { kind: env-file, path: a.env, variable: A }
  file2: { kind: env-file, path: b.env, variable: A }
gateway:
  serve: true
  listen: unix:gw.sock
  keys:
    - { key: app, source: "file:app.key", failover_group: pair }
    - { key: spare, source: "file:/keys/spare.key", failover_group: pair }
  failover_groups:
    pair: { on_limits: true }
  identities:
    tokens: false
    users: { www-data: web, "1000": dev }
    certificates: { "spiffe://acme/web": web, host.example: batch }
    oidc:
      - issuer: https://issuer.example
        audience: keywright
        jwks: https://issuer.example/keys
        algorithms: [ES256]
        subjects: { "system:serviceaccount:ai:*": ai }
  apps:
    web: { models: ["claude-haiku-*"], routes: [messages], requests_per_minute: 600, concurrent: 20, tokens_per_minute: 100000, cost_per_day: 12.5 }
  other_apps: { concurrent: 1, cache: [models] }
  cache: { mebibytes: 8, keep: 1h30m }
  return_step: 45s
  queue: { master_key: "file:queue.key", per_app: 10, keep: 1h }
  traces: { endpoint: "http://127.0.0.1:4318" }
  prices: prices.yaml
  tls: { certificate: cert.pem, key: key.pem, client_ca: ca.pem }
  hosts: [gateway.internal]
  origins: ["https://console.example"]
  allow: ["POST /v1/complete"]
  access_log: access.jsonl
  grace: 10s
`

func TestGatewaySection(t *testing.T) {
	g := must(t, withGateway).Gateway
	if !g.Serve || g.Listen != "unix:/dir/gw.sock" || g.Upstream != "http://127.0.0.1:1" || g.StateDir != "/state/acme/gateway" || g.AccessLog != "/dir/access.jsonl" || g.Prices != "/dir/prices.yaml" || g.Grace != 10*time.Second {
		t.Errorf("%+v", g)
	}
	if len(g.Keys) != 2 || g.Keys[0].Source != "file:/dir/app.key" || g.Keys[1].Source != "file:/keys/spare.key" {
		t.Errorf("keys: %+v", g.Keys)
	}
	if p := g.Groups["pair"]; !p.On401 || !p.OnLimits || p.On403 || p.AllowBreak {
		t.Errorf("group: %+v", p)
	}
	if id := g.Identities; id.Tokens || id.Users["1000"] != "dev" || id.Certificates["host.example"] != "batch" || id.OIDC[0].Subjects["system:serviceaccount:ai:*"] != "ai" {
		t.Errorf("identities: %+v", id)
	}
	if a := g.Apps["web"]; a.RequestsPerMinute != 600 || a.TokensPerMinute != 100000 || a.Concurrent != 20 || a.CostPerDay != 12.5 || g.Others.Concurrent != 1 {
		t.Errorf("apps: %+v %+v", g.Apps, g.Others)
	}
	if g.Queue.MasterKey != "file:/dir/queue.key" || g.Queue.PerApp != 10 || g.Queue.Keep != time.Hour || g.Traces.Upstream || g.Others.Cache[0] != "models" {
		t.Errorf("queue %+v, traces %+v, others %+v", g.Queue, g.Traces, g.Others)
	}
	if g.Cache != (GatewayCache{8, 90 * time.Minute}) || g.ReturnStep != 45*time.Second {
		t.Errorf("cache %+v, step %v", g.Cache, g.ReturnStep)
	}
	if g.TLS.ClientCA != "/dir/ca.pem" || g.TLS.Key != "/dir/key.pem" {
		t.Errorf("tls: %+v", g.TLS)
	}
	if must(t, "organization: acme\n").Gateway != nil {
		t.Error("a gateway comes from nowhere")
	}
	small := must(t, "organization: acme\nkeys: { app: { class: development, owner: d@e.example } }\ngateway: { keys: [ { key: app, source: \"file:a.key\" } ] }\n").Gateway
	if small.Listen != "127.0.0.1:8787" || small.Grace != 30*time.Second || !small.Identities.Tokens || small.Serve || small.Upstream != "https://api.anthropic.com" ||
		small.Cache != (GatewayCache{64, 10 * time.Minute}) || small.ReturnStep != 0 {
		t.Errorf("defaults: %+v", small)
	}
	shown, err := Show(must(t, withGateway))
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := load(t, string(shown))
	if err != nil || again.Gateway.Apps["web"].CostPerDay != 12.5 || len(again.Gateway.Keys) != 2 {
		t.Errorf("what is shown cannot be read: %v\n%s", err, shown)
	}
}

func TestGatewayProblems(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"  serve: true", "  serv: true", `:10:3: unknown field "serv" in "gateway" (did you mean "serve"?)`},
		{"key: app, source", "key: ap, source", `:13:14: unknown key "ap" in "gateway" (did you mean "app"?)`},
		{"key: spare,", "key: app,", `key "app" stands in "gateway" twice`},
		{"file:/keys/spare.key", "file:app.key", `key "spare" has the same source as "app" in "gateway"`},
		{"file:/keys/spare.key", "env:SPARE", `key "spare" in "gateway" comes from the environment`},
		{"file:/keys/spare.key", "cmd:pass show spare", "want file:, store:, daemon:"},
		{"failover_group: pair }\n    - ", "failover_group: pare }\n    - ", `unknown failover group "pare" in "gateway" (failover_groups: pair)`},
		{"on_limits: true", "on_limit: true", `unknown field "on_limit"`},
		{"routes: [messages]", "routes: [mesages]", `unknown route "mesages" of app "web" of "gateway" (did you mean "messages"?)`},
		{"cost_per_day: 12.5", "cost_per_day: lots", `"cost_per_day" in "gateway" must be a number`},
		{"concurrent: 20", "concurrent: -1", `"concurrent" of app "web" of "gateway" cannot be less than nothing`},
		{"  prices: prices.yaml\n", "", "has a budget, and there are no prices"},
		{", client_ca: ca.pem", "", "can never be believed"},
		{"listen: unix:gw.sock", "listen: 127.0.0.1:0", "known on a Unix socket alone"},
		{"jwks: https:", "jwks: http:", `"jwks" in "gateway": plain http is allowed to this host alone`},
		{"algorithms: [ES256]", "algorithms: [none]", `"algorithms" in "gateway" cannot be "none"`},
		{"POST /v1/complete", "DELETE /v1/complete", "is no METHOD and path"},
		{"POST /v1/complete", "POST /v1/../x", "is no METHOD and path"},
		{"https://console.example", "console.example", "is no scheme and host"},
		{"    web: {", "    we b: {", "an application cannot be called"},
		{"cache: [models]", "cache: [batches]", "answers of the route \"batches\" are never kept"},
		{"file:queue.key", "queue.key", "names no way to a key"},
		{"mebibytes: 8", "mebibytes: 0", `"mebibytes" in "cache" is 1 to 16384`},
		{"mebibytes: 8", "mebibytes: 16385", `"mebibytes" in "cache" is 1 to 16384`},
		{"keep: 1h30m", "keep: 0s", `"keep" in "cache" must be longer than nothing`},
		{"return_step: 45s", "return_step: -1s", `"return_step" in "gateway" is no length of time`},
		{"per_app: 10", "per_app: -10", "cannot be less than nothing"},
		{"http://127.0.0.1:4318", "http://collector.example", `"endpoint" in "traces": plain http`},
		{"grace: 10s", "grace: 0", "must be longer than nothing"},
		{"  serve: true", "  upstream: http://provider.example", "plain http is allowed to this host alone"},
	} {
		bad := strings.Replace(withGateway, c.from, c.to, 1)
		if bad == withGateway {
			t.Fatalf("the example has no %q", c.from)
		}
		_, _, err := load(t, bad)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q in place of %q: %v, want %q", c.to, c.from, err, c.want)
		}
	}
	lonely := strings.Replace(withGateway[:strings.Index(withGateway, "    users:")], "listen: unix:gw.sock", "listen: 127.0.0.1:0", 1)
	if _, _, err := load(t, lonely); err == nil || !strings.Contains(err.Error(), "nobody could call the gateway") {
		t.Errorf("a gateway without callers: %v", err)
	}
}

func TestPrices(t *testing.T) {
	dir := t.TempDir()
	good := "date: 2026-11-01\ncurrency: USD\nmodels:\n  haiku: { input: 1, output: 5 }\n  claude-opus-4-5: { input: 5, output: 25.5 }\n"
	p, err := ReadPrices(t.Context(), write(t, dir, "prices.yaml", good))
	if err != nil || p.Models["claude-opus-4-5"].Output != 25.5 || p.Currency != "USD" || p.Batch != 1 {
		t.Fatalf("%+v %v", p, err)
	}
	if age := p.Age(time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC)); age != 48*time.Hour {
		t.Errorf("age %v", age)
	}
	for batch, ok := range map[string]bool{"0.5": true, "1": true, "0": false, "1.5": false} {
		if p, err := ReadPrices(t.Context(), write(t, dir, "prices.yaml", good+"batch: "+batch+"\n")); (err == nil) != ok || ok && strconv.FormatFloat(p.Batch, 'g', -1, 64) != batch {
			t.Errorf("batch %s: %v %v", batch, p.Batch, err)
		}
	}
	for from, want := range map[string]string{
		"2026-11-01": `prices.yaml:1:7: "date" in the prices is no day`, "USD": "has not three capital letters", "input: 1,": `"input" is missing`, "output: 25.5": "unknown field",
	} {
		to := map[string]string{"2026-11-01": "soon", "USD": "dollars", "input: 1,": "", "output: 25.5": "output: 25.5, outpt: 3"}[from]
		_, err := ReadPrices(t.Context(), write(t, dir, "prices.yaml", strings.Replace(good, from, to, 1)))
		if err == nil || !strings.Contains(err.Error(), want) || !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v, want %q", to, err, want)
		}
	}
	if _, err := ReadPrices(t.Context(), dir+"/none.yaml"); !fault.Is(err, fault.NotFound) {
		t.Errorf("no file: %v", err)
	}
	if err := os.Chmod(dir+"/prices.yaml", 0o666); err != nil {
		t.Fatal(err)
	}
	var several *Errors
	if _, err := ReadPrices(t.Context(), dir+"/prices.yaml"); err == nil || errors.As(err, &several) {
		t.Errorf("a file that others may write: %v", err)
	}
}

// A place that is the gateway of this configuration must be one of its keys, and in a file.
func TestGatewayPlace(t *testing.T) {
	text := `organization: acme
keys:
  app: { class: development, owner: dev@acme.example, locations: [behind] }
  far: { class: development, owner: dev@acme.example, locations: [other] }
locations:
  behind: { kind: gateway, key: app, canary: {} }
  other: { kind: gateway, key: whatever, state_dir: elsewhere }
gateway:
  keys: [ { key: app, source: "file:app.key" }, { key: far, source: "store:far" } ]
`
	c := must(t, text)
	if got := c.Locations["behind"].Fields.(*gateway.Config); got.StateDir != "/state/acme/gateway" || got.Canary == nil || len(got.Canary.Shares) != 2 || got.Canary.Watch != 5*time.Minute {
		t.Errorf("%+v", got)
	}
	if got := c.Locations["other"].Fields.(*gateway.Config); got.StateDir != "/dir/elsewhere" || got.Canary != nil {
		t.Errorf("%+v", got)
	}
	for from, want := range map[string]string{
		"key: app, canary: {}":                `keywright.yaml:6:33: location "behind": the gateway of this configuration has no key "aap" (did you mean "app"?)`,
		"canary: {}":                          "shares of canary must be growing numbers from 1 to 99",
		"kind: gateway, key: app, canary: {}": `the gateway reads key "far" from a place that it cannot write`,
	} {
		to := map[string]string{"key: app, canary: {}": "key: aap", "canary: {}": "canary: { shares: [50, 10] }", "kind: gateway, key: app, canary: {}": "kind: gateway, key: far"}[from]
		_, _, err := load(t, strings.Replace(text, from, to, 1))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", to, err, want)
		}
	}
}
