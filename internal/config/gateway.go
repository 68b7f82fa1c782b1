package config

import (
	"encoding"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/location/gateway"
)

// Gateway is the proxy that holds keys of this configuration, so that applications hold none.
type Gateway struct {
	Serve       bool                     `yaml:"serve" default:"false" help:"Whether keywright serve runs the gateway inside. Without it the gateway is a process of its own: keywright gateway."`
	Listen      string                   `yaml:"listen" default:"127.0.0.1:8787" help:"Loopback host and port, or unix:PATH for a socket of mode 0600. Any other address needs tls."`
	Upstream    string                   `yaml:"upstream" help:"Address of the provider. Without it provider.url."`
	Keys        []GatewayKey             `yaml:"keys" required:"true" help:"The keys that it uses, in order: the first one serves, the others are backups."`
	Groups      map[string]FailoverGroup `yaml:"failover_groups" help:"Why a request may move between keys of different organizations or workspaces, by the names that failover_group gives."`
	Identities  Identities               `yaml:"identities" help:"Who may call, and as which application. The first that knows a caller decides: certificate, user of this host, OIDC, token."`
	Open        bool                     `yaml:"open" default:"false" help:"Serve every process of the gateway's own user without an identity, on loopback or a Unix socket."`
	Apps        map[string]App           `yaml:"apps" help:"What an application may do, by its name."`
	Others      App                      `yaml:"other_apps" help:"What an application may do that apps does not name. Without it there are no limits."`
	Cache       GatewayCache             `yaml:"cache" help:"How much is kept of the answers that the cache of an application names, and for how long."`
	ReturnStep  time.Duration            `yaml:"return_step" help:"How long each of the two steps lasts by which a gateway that was degraded lets callers through again, 10 of a hundred and 50. Without it a tenth of the time that it was degraded, between 1s and 30s, and no step after an outage of less than ten seconds."`
	Queue       *GatewayQueue            `yaml:"queue" help:"Keep requests of callers that prefer not to wait (Prefer: respond-async), encrypted, in the state directory of the gateway. Without it there is no queue."`
	Traces      *GatewayTraces           `yaml:"traces" help:"Where spans of requests and attempts go. Without it the OTEL_* variables of the environment say."`
	Prices      string                   `yaml:"prices" help:"File with a dated table of prices, for cost_per_day."`
	TLS         *GatewayTLS              `yaml:"tls" help:"Certificate to serve with, and whose certificates of callers are believed."`
	Hosts       []string                 `yaml:"hosts" help:"Names that the Host header may have besides the address of the listener, with or without a port."`
	Origins     []string                 `yaml:"origins" help:"Web pages that may call, as scheme://host. Without any no page may."`
	Allow       []string                 `yaml:"allow" help:"Further routes of the provider, as METHOD /v1/PATH. Its administration can never be listed."`
	Development bool                     `yaml:"development" default:"false" help:"Accept keys from the environment, for development alone."`
	AccessLog   string                   `yaml:"access_log" help:"File that receives a line of JSON for each request, without bodies and values."`
	Grace       time.Duration            `yaml:"grace" default:"30s" help:"How long requests under way may take to end when it stops."`
	StateDir    string                   `yaml:"state_dir" help:"The gateway's own directory, mode 0700: signing key of its tokens, generation of its keys, status socket. Without it gateway in the state directory. One gateway per directory."`
}

// GatewayKey is a key that a gateway uses.
type GatewayKey struct {
	Key    apikey.Name `yaml:"key" required:"true" help:"Name of a key of this configuration."`
	Source KeySource   `yaml:"source" required:"true" help:"Where its value is read: file:PATH, a file of mode 0600 that holds the value alone, the one source that a rotation can change through the gateway; or store:KEY, daemon:SOCKET#KEY and the others of docs/gateway.md; env:NAME with development."`
	Group  string      `yaml:"failover_group" help:"Keys of one group may stand in for each other across organizations and workspaces, as failover_groups says. Within a workspace they need none."`
}

// FailoverGroup says when a request may leave the organization or workspace of a key.
type FailoverGroup struct {
	On401      bool `yaml:"on_401" default:"true" help:"When the key is dead."`
	OnLimits   bool `yaml:"on_limits" default:"false" help:"When it is at a limit. The other key may have other spend limits."`
	On403      bool `yaml:"on_403" default:"false" help:"When it may not do what is asked."`
	AllowBreak bool `yaml:"allow_break" default:"false" help:"Let also a request leave a dead key that names files, containers, skills or signed thinking, which the other one may not know."`
}

// Identities are the ways in which callers are known.
type Identities struct {
	Tokens       bool              `yaml:"tokens" default:"true" help:"Believe the tokens of keywright token issue."`
	Users        map[string]string `yaml:"users" help:"On a Unix socket: the application of a user of this host, by name or number."`
	Certificates map[string]string `yaml:"certificates" help:"With tls.client_ca: the application of a name in the certificate of a caller: URI, DNS name or common name."`
	OIDC         []OIDC            `yaml:"oidc" help:"Whose JSON web tokens are believed, such as those of Kubernetes service accounts."`
}

// OIDC is an issuer of JSON web tokens.
type OIDC struct {
	Issuer     string            `yaml:"issuer" required:"true" help:"The issuer that a token must name."`
	Audience   string            `yaml:"audience" required:"true" help:"The audience that a token must name."`
	JWKS       string            `yaml:"jwks" required:"true" help:"Address of the issuer's keys: https, or http on this host."`
	Algorithms []string          `yaml:"algorithms" help:"RS256, RS384, RS512, ES256, ES384, ES512 or EdDSA. Without it RS256 and ES256."`
	Subjects   map[string]string `yaml:"subjects" required:"true" help:"The application of a subject, exact or with * at the end."`
}

// App is what an application may do. What is zero does not limit.
type App struct {
	Models            []string `yaml:"models" help:"Models that it may name, exact or with * at the end."`
	Routes            []string `yaml:"routes" help:"What it may call: messages, count_tokens, models, batches, files, skills, or allowed for what allow lists. Without it all but batches, files and skills."`
	RequestsPerMinute int      `yaml:"requests_per_minute" help:"How many requests it may make in a minute."`
	Concurrent        int      `yaml:"concurrent" help:"How many requests it may have at one time."`
	TokensPerMinute   int      `yaml:"tokens_per_minute" help:"How many tokens it may use in a minute, in and out; reserved before a request, settled after it."`
	Cache             []string `yaml:"cache" help:"Routes whose answers are kept for a time and given to an identical request while the provider is down: messages, count_tokens, models. Without it none."`
	CostPerDay        float64  `yaml:"cost_per_day" help:"What it may cost in a day of UTC, in the currency of prices."`
}

// GatewayCache bounds the answers that are kept in memory, for all applications together.
type GatewayCache struct {
	Mebibytes int           `yaml:"mebibytes" default:"64" help:"How much memory they take, in MiB. One answer may take an eighth of it, and 1 MiB at most."`
	Keep      time.Duration `yaml:"keep" default:"10m" help:"How old an answer may become."`
}

// GatewayQueue bounds the queue. What is zero has the default of the gateway.
type GatewayQueue struct {
	MasterKey string        `yaml:"master_key" help:"What it is encrypted under: file:PATH, systemd:NAME, passphrase:REFERENCE, age:PATH or aws-kms:KEY?region=REGION. Without it the file gateway-queue.key in Keywright's configuration directory."`
	Entries   int           `yaml:"entries" help:"How many requests wait in all; without it 20000."`
	PerApp    int           `yaml:"per_app" help:"How many requests of one application wait; without it 10000."`
	Parallel  int           `yaml:"parallel" help:"How many queued requests run at a time; without it 4."`
	Keep      time.Duration `yaml:"keep" help:"How long an answer is kept; without it a day."`
	Wait      time.Duration `yaml:"wait" help:"How long a request may wait for an answer; without it a day."`
}

// GatewayTraces says where spans go.
type GatewayTraces struct {
	Endpoint string `yaml:"endpoint" required:"true" help:"Base address of an OTLP collector, such as https://collector.example:4318."`
	Upstream bool   `yaml:"upstream" default:"false" help:"Send the provider the W3C trace context of each call. Without it none goes out."`
}

// GatewayTLS is what a gateway proves itself with.
type GatewayTLS struct {
	Certificate string `yaml:"certificate" required:"true" help:"The certificate and its chain, PEM."`
	Key         string `yaml:"key" required:"true" help:"File with the certificate's key, PEM, that only its owner may read."`
	ClientCA    string `yaml:"client_ca" help:"Certificate authorities whose certificates callers may show, PEM. A caller without one needs another identity."`
}

// KeySource is where a gateway reads the value of a key.
type KeySource string

var (
	_ encoding.TextUnmarshaler = (*KeySource)(nil)
	_ described                = KeySource("")
)

// UnmarshalText checks the form.
func (s *KeySource) UnmarshalText(b []byte) error {
	ref, err := keysource.ParseRef(string(b))
	if err != nil {
		return err
	}
	*s = KeySource(ref)
	return nil
}

func (KeySource) schema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: `^(file|env|store|daemon|aws|vault|kubernetes):.+`}
}
func (KeySource) words() string { return "place of a value" }

// resolveGateway makes paths absolute and fills in what follows from the rest.
func (c *Config) resolveGateway(abs func(string) string) {
	dir := filepath.Join(c.State.Dir, "gateway")
	if g := c.Gateway; g != nil {
		if g.Upstream == "" {
			g.Upstream = c.Provider.URL
		}
		if path, ok := strings.CutPrefix(g.Listen, "unix:"); ok {
			g.Listen = "unix:" + abs(path)
		}
		for i, k := range g.Keys {
			if path, ok := strings.CutPrefix(string(k.Source), "file:"); ok {
				g.Keys[i].Source = KeySource("file:" + abs(path))
			}
		}
		if g.StateDir != "" {
			dir = abs(g.StateDir)
		}
		g.StateDir, g.AccessLog, g.Prices = dir, abs(g.AccessLog), abs(g.Prices)
		if q := g.Queue; q != nil {
			if scheme, path, ok := strings.Cut(q.MasterKey, ":"); ok && (scheme == "file" || scheme == "age") {
				q.MasterKey = scheme + ":" + abs(path)
			}
		}
		if g.TLS != nil {
			g.TLS.Certificate, g.TLS.Key, g.TLS.ClientCA = abs(g.TLS.Certificate), abs(g.TLS.Key), abs(g.TLS.ClientCA)
		}
	}
	// A place that names no gateway is the one of this configuration.
	for _, l := range c.Locations {
		if place, ok := l.Fields.(*gateway.Config); ok {
			if place.StateDir = abs(place.StateDir); place.StateDir == "" {
				place.StateDir = dir
			}
		}
	}
}

// maxCache is the largest cache of a gateway, in MiB.
const maxCache = 16 << 10

var (
	appNameRE = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	allowRE   = regexp.MustCompile(`^(GET|POST) /v1/[A-Za-z0-9._/-]*[A-Za-z0-9_-]$`)
	originRE  = regexp.MustCompile(`^https?://[A-Za-z0-9.:\[\]-]+$`)
)

func (c *Config) judgeGateway(r *reader) {
	c.judgeGatewayPlaces(r)
	g := c.Gateway
	if g == nil {
		return
	}
	const what = `"gateway"`
	if why := badURL(g.Upstream); why != "" {
		r.badAt(".gateway.upstream", "https://api.anthropic.com", `"upstream" in %s: %s`, what, why)
	}
	c.judgeGatewayKeys(r, g)
	for name, app := range g.Apps {
		app.judge(r, ".gateway.apps."+name, "app "+quote(name)+" of "+what, g.Prices)
		if !appNameRE.MatchString(name) {
			r.badAt(".gateway.apps."+name, "1 to 64 letters, digits, - and _", "an application cannot be called %s", quote(name))
		}
	}
	g.Others.judge(r, ".gateway.other_apps", `"other_apps" in `+what, g.Prices)
	g.judgeIdentities(r, what)
	for i, route := range g.Allow {
		if !allowRE.MatchString(route) || strings.Contains(route, "..") || strings.Contains(route, "//") {
			r.badAt(fmt.Sprintf(".gateway.allow[%d]", i), `such as "POST /v1/complete"`, `"allow" in %s: %s is no METHOD and path`, what, quote(route))
		}
	}
	for i, origin := range g.Origins {
		if !originRE.MatchString(origin) {
			r.badAt(fmt.Sprintf(".gateway.origins[%d]", i), "such as https://console.example", `"origins" in %s: %s is no scheme and host`, what, quote(origin))
		}
	}
	if q := g.Queue; q != nil {
		if scheme, rest, _ := strings.Cut(q.MasterKey, ":"); q.MasterKey != "" && (rest == "" || !slices.Contains([]string{"file", "systemd", "passphrase", "age", "aws-kms"}, scheme)) {
			r.badAt(".gateway.queue.master_key", "file:PATH, systemd:NAME, passphrase:REFERENCE, age:PATH or aws-kms:KEY?region=REGION", `"master_key" in "queue" names no way to a key`)
		}
		if min(q.Entries, q.PerApp, q.Parallel) < 0 {
			r.badAt(".gateway.queue", "leave it out for the default", `a bound of "queue" cannot be less than nothing`)
		}
	}
	if n := g.Cache.Mebibytes; n < 1 || n > maxCache {
		r.badAt(".gateway.cache.mebibytes", "64", `"mebibytes" in "cache" is 1 to %d; an application keeps nothing without a cache of its own`, maxCache)
	}
	if g.Cache.Keep <= 0 {
		r.badAt(".gateway.cache.keep", "10m", `"keep" in "cache" must be longer than nothing`)
	}
	if t := g.Traces; t != nil {
		if why := badURL(t.Endpoint); why != "" {
			r.badAt(".gateway.traces.endpoint", "", `"endpoint" in "traces": %s`, why)
		}
	}
	if g.Grace <= 0 {
		r.badAt(".gateway.grace", "30s", `"grace" in %s must be longer than nothing`, what)
	}
}

func (c *Config) judgeGatewayKeys(r *reader, g *Gateway) {
	const what = `"gateway"`
	seen, sources := map[apikey.Name]bool{}, map[KeySource]apikey.Name{}
	for i, k := range g.Keys {
		at := fmt.Sprintf(".gateway.keys[%d]", i)
		if c.Keys[k.Key] == nil {
			r.badAt(at+".key", meant(string(k.Key), c.keyNames(), "keys: "), "unknown key %s in %s", quote(string(k.Key)), what)
		}
		if seen[k.Key] {
			r.badAt(at+".key", "name it once", "key %s stands in %s twice", quote(string(k.Key)), what)
		}
		if other, twice := sources[k.Source]; twice {
			r.badAt(at+".source", "give each key a source of its own", "key %s has the same source as %s in %s", quote(string(k.Key)), quote(string(other)), what)
		}
		seen[k.Key], sources[k.Source] = true, k.Key
		if strings.HasPrefix(string(k.Source), "env:") && !g.Development {
			r.badAt(at+".source", "file:PATH with mode 0600; the environment is for development: true alone", "key %s in %s comes from the environment", quote(string(k.Key)), what)
		}
		if _, known := g.Groups[k.Group]; k.Group != "" && !known {
			r.badAt(at+".failover_group", meant(k.Group, slices.Collect(maps.Keys(g.Groups)), "failover_groups: "), "unknown failover group %s in %s", quote(k.Group), what)
		}
	}
	for name := range g.Groups {
		if !validName(name) {
			r.badAt(".gateway.failover_groups."+name, nameHint, "a failover group cannot be called %s", quote(name))
		}
	}
}

func (g *Gateway) judgeIdentities(r *reader, what string) {
	const path = ".gateway.identities"
	id := g.Identities
	if !id.Tokens && len(id.Users)+len(id.Certificates)+len(id.OIDC) == 0 && !g.Open {
		r.badAt(path, "tokens: true, or name users, certificates or oidc", "nobody could call the gateway: %s has no identities", what)
	}
	check := func(path string, apps map[string]string) {
		for _, name := range slices.Sorted(maps.Keys(apps)) {
			if !appNameRE.MatchString(apps[name]) {
				r.badAt(path+"."+name, "1 to 64 letters, digits, - and _", "an application cannot be called %s", quote(apps[name]))
			}
		}
	}
	check(path+".users", id.Users)
	check(path+".certificates", id.Certificates)
	if len(id.Certificates) > 0 && (g.TLS == nil || g.TLS.ClientCA == "") {
		r.badAt(path+".certificates", "name the authority under tls.client_ca", "certificates of callers in %s can never be believed", what)
	}
	if len(id.Users) > 0 && !strings.HasPrefix(g.Listen, "unix:") {
		r.badAt(path+".users", "listen: unix:PATH", "users in %s are known on a Unix socket alone", what)
	}
	for i, o := range id.OIDC {
		at := fmt.Sprintf("%s.oidc[%d]", path, i)
		check(at+".subjects", o.Subjects)
		if why := badURL(o.JWKS); why != "" {
			r.badAt(at+".jwks", "", `"jwks" in %s: %s`, what, why)
		}
		for j, a := range o.Algorithms {
			all := []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"}
			if !slices.Contains(all, a) {
				r.badAt(fmt.Sprintf("%s.algorithms[%d]", at, j), meant(a, all, "allowed here: "), `"algorithms" in %s cannot be %s`, what, quote(a))
			}
		}
	}
}

// gatewayRoutes are the names of routes that an application may be given.
var gatewayRoutes = []string{"messages", "count_tokens", "models", "batches", "files", "skills", "allowed"}

func (a App) judge(r *reader, path, what, prices string) {
	for i, name := range a.Cache {
		if all := []string{"messages", "count_tokens", "models"}; !slices.Contains(all, name) {
			r.badAt(fmt.Sprintf("%s.cache[%d]", path, i), meant(name, all, "allowed here: "), "answers of the route %s are never kept for %s", quote(name), what)
		}
	}
	for i, name := range a.Routes {
		if !slices.Contains(gatewayRoutes, name) {
			r.badAt(fmt.Sprintf("%s.routes[%d]", path, i), meant(name, gatewayRoutes, "allowed here: "), "unknown route %s of %s", quote(name), what)
		}
	}
	for name, n := range map[string]float64{
		"requests_per_minute": float64(a.RequestsPerMinute), "tokens_per_minute": float64(a.TokensPerMinute), "concurrent": float64(a.Concurrent), "cost_per_day": a.CostPerDay,
	} {
		if n < 0 {
			r.badAt(path+"."+name, "leave it out for no limit", "%q of %s cannot be less than nothing", name, what)
		}
	}
	if a.CostPerDay > 0 && prices == "" {
		r.badAt(path+".cost_per_day", "name a table of prices under gateway.prices", "%s has a budget, and there are no prices", what)
	}
}

// judgeGatewayPlaces looks at places that are the gateway of this configuration.
func (c *Config) judgeGatewayPlaces(r *reader) {
	for _, name := range slices.Sorted(maps.Keys(c.Locations)) {
		place, ok := c.Locations[name].Fields.(*gateway.Config)
		if !ok || c.Gateway == nil || place.StateDir != c.Gateway.StateDir {
			continue
		}
		var served []string
		var source KeySource
		for _, k := range c.Gateway.Keys {
			served = append(served, string(k.Key))
			if string(k.Key) == place.Key {
				source = k.Source
			}
		}
		path := ".locations." + name
		switch {
		case source == "":
			r.badAt(path+".key", meant(place.Key, served, "its keys: "), "location %q: the gateway of this configuration has no key %s", name, quote(place.Key))
		case !strings.HasPrefix(string(source), "file:"):
			r.badAt(path+".key", "source: file:PATH", "location %q: the gateway reads key %s from a place that it cannot write", name, quote(place.Key))
		}
	}
}
