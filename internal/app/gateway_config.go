package app

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os/user"
	"slices"
	"strconv"
	"time"

	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/keysource"
)

// oldPrices is how old a table of prices may be before it is said.
const oldPrices = 180 * 24 * time.Hour

// ConfiguredGateway gives the options of the gateway that a configuration describes. Kinds: NotFound (it describes none, or names a user that this
// host does not have), Invalid, and those of reading the prices.
func ConfiguredGateway(ctx context.Context, c *config.Config, log *slog.Logger) (GatewayOptions, error) {
	g := c.Gateway
	if g == nil {
		return GatewayOptions{}, fault.New(fault.NotFound, "start gateway: the configuration has no section gateway",
			fault.Hint("add it, or name a key: --key file:PATH, a file of mode 0600 that holds the value alone"))
	}
	o := GatewayOptions{
		Listen: g.Listen, Upstream: g.Upstream, Open: g.Open, Tokens: g.Identities.Tokens, StateDir: g.StateDir, AccessLog: g.AccessLog, Grace: g.Grace, Log: log,
		Source: gateway.Source{Dir: c.Dir, Development: g.Development, Groups: map[string]gateway.Group{}},
		Rules: gateway.Rules{
			Hosts: g.Hosts, Origins: g.Origins, Allow: g.Allow, Apps: map[string]gateway.App{},
			CacheBytes: int64(g.Cache.Mebibytes) << 20, CacheTime: g.Cache.Keep, ReturnStep: g.ReturnStep,
		},
	}
	for name, group := range g.Groups {
		o.Source.Groups[name] = gateway.Group{On401: group.On401, OnLimits: group.OnLimits, On403: group.On403, AllowBreak: group.AllowBreak}
	}
	for _, k := range g.Keys {
		o.Source.Keys = append(o.Source.Keys, gateway.SourceKey{Name: k.Key, Ref: keysource.Ref(k.Source), Group: k.Group})
	}
	if g.TLS != nil {
		o.Certificate, o.CertificateKey, o.ClientCA = g.TLS.Certificate, g.TLS.Key, g.TLS.ClientCA
	}
	if q := g.Queue; q != nil {
		o.Queue = &GatewayQueue{Master: q.MasterKey, Entries: q.Entries, PerApp: q.PerApp, Parallel: q.Parallel, Keep: q.Keep, Wait: q.Wait}
	}
	if t := g.Traces; t != nil {
		o.Collector, o.TraceUpstream = t.Endpoint, t.Upstream
	}
	var prices map[string]gateway.Price
	if g.Prices != "" {
		table, err := config.ReadPrices(ctx, g.Prices)
		if err != nil {
			return o, err
		}
		if age := table.Age(time.Now()); age > oldPrices {
			log.Warn("the prices are old; budgets may be wrong", "file", g.Prices, "date", table.Date)
		}
		prices = map[string]gateway.Price{}
		for name, p := range table.Models {
			prices[name] = gateway.Price{Input: p.Input, Output: p.Output, Batch: table.Batch}
		}
	}
	for name, a := range g.Apps {
		o.Rules.Apps[name] = guards(a, prices)
	}
	o.Rules.Default = guards(g.Others, prices)
	var err error
	o.Rules.Identify, err = identities(g.Identities)
	return o, err
}

func guards(a config.App, prices map[string]gateway.Price) gateway.App {
	return gateway.App{
		Models: a.Models, Routes: a.Routes, RequestsPerMinute: int64(a.RequestsPerMinute), TokensPerMinute: int64(a.TokensPerMinute), Concurrent: int64(a.Concurrent),
		Cache: a.Cache, CostPerDay: a.CostPerDay, Prices: prices,
	}
}

// identities gives the ways in which callers are known besides tokens.
func identities(c config.Identities) ([]identity.Identifier, error) {
	var ids []identity.Identifier
	if len(c.Certificates) > 0 {
		ids = append(ids, identity.Certificates{Apps: c.Certificates})
	}
	if len(c.Users) > 0 {
		peers := identity.Peers{Apps: map[int]string{}}
		for _, name := range slices.Sorted(maps.Keys(c.Users)) {
			uid, err := strconv.Atoi(name)
			if err != nil {
				u, err := user.Lookup(name)
				if err != nil {
					return nil, fault.New(fault.NotFound, fmt.Sprintf("start gateway: this host has no user %q", name), fault.Hint("mend identities.users in the section gateway"))
				}
				if uid, err = strconv.Atoi(u.Uid); err != nil {
					return nil, fault.Newf(fault.Unsupported, "start gateway: the user %q has no number", name)
				}
			}
			if other, twice := peers.Apps[uid]; twice && other != c.Users[name] {
				return nil, fault.Newf(fault.Invalid, "start gateway: the user %q stands in identities.users twice", name)
			}
			peers.Apps[uid] = c.Users[name]
		}
		ids = append(ids, peers)
	}
	for _, o := range c.OIDC {
		id, err := identity.NewOIDC(identity.OIDC{Issuer: o.Issuer, Audience: o.Audience, JWKS: o.JWKS, Algorithms: o.Algorithms, Apps: o.Subjects})
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
