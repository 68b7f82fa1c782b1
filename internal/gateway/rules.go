package gateway

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/identity"
)

// Rules are the options that may change while a Gateway runs: who may call, from where, and what, and how it serves while it is degraded.
type Rules struct {
	Hosts, Origins, Allow []string
	Identify              []identity.Identifier
	Apps                  map[string]App
	Default               App
	// CacheBytes bounds the answers that are kept in memory for App.Cache, CacheTime their age. Zero means the defaults. A smaller bound
	// drops at once what is beyond it.
	CacheBytes int64
	CacheTime  time.Duration
	// ReturnStep is how long each step of the way back from degraded mode lasts; zero means a tenth of the time that it was degraded, between
	// one second and 30, and no step at all after a breaker was open for less than ten seconds. A way back that has begun keeps its step.
	ReturnStep time.Duration
}

// ruleBook is what is in force. It is not changed.
type ruleBook struct {
	Rules
	routes *routeTable
	hosts  map[string]bool // besides the addresses of listeners
}

// Configure puts rules in force for the requests that come from now on. What an application has used of its day and its minute stays; a request
// under way ends by the rules with which it began. The error is of kind Invalid, and then nothing is changed.
func (g *Gateway) Configure(r Rules) error {
	if !g.o.Open && len(r.Identify) == 0 {
		return fault.New(fault.Invalid, "configure gateway: nobody could call it", fault.Hint("configure who may call, or use --open for your own processes alone"))
	}
	if r.CacheBytes < 0 || r.CacheTime < 0 || r.ReturnStep < 0 {
		return fault.New(fault.Invalid, "configure gateway: a bound of degraded mode is less than nothing")
	}
	r.CacheBytes, r.CacheTime = cmp.Or(r.CacheBytes, DefaultCacheBytes), cmp.Or(r.CacheTime, DefaultCacheTime)
	routes, err := routing(r.Allow)
	if err != nil {
		return err
	}
	for _, app := range append(slices.Collect(maps.Values(r.Apps)), r.Default) {
		for _, name := range app.Cache {
			if !slices.Contains(cacheRoutes, name) {
				return fault.New(fault.Invalid, "configure gateway: answers of the route "+strconv.Quote(name)+" cannot be kept", fault.Hint("one of %s", strings.Join(cacheRoutes, ", ")))
			}
		}
	}
	book := &ruleBook{Rules: r, routes: routes, hosts: map[string]bool{}}
	for _, h := range r.Hosts {
		book.hosts[strings.ToLower(h)] = true
	}
	g.rulesMu.Lock()
	defer g.rulesMu.Unlock()
	g.rules.Store(book)
	g.cache.Limit(r.CacheBytes, r.CacheTime)
	g.apps.Range(func(name, state any) bool {
		old := state.(*appState)
		if fresh := book.of(old.name); !reflect.DeepEqual(fresh, old.App) {
			g.apps.Store(name, old.under(fresh))
		}
		return true
	})
	return nil
}

// of gives what an application may do.
func (b *ruleBook) of(name string) App {
	if rules, ok := b.Apps[name]; ok {
		return rules
	}
	return b.Default
}

// under gives the state of an application under other rules. Requests under way are counted by the former state, so that for as long as they last
// the application may have more at one time.
func (a *appState) under(rules App) *appState {
	next := newAppState(a.name, rules)
	a.mu.Lock()
	next.day, next.spent = a.day, a.spent
	a.mu.Unlock()
	next.requests.follow(&a.requests)
	next.tokens.follow(&a.tokens)
	return next
}

// follow takes over the level of a former bucket.
func (b *bucket) follow(old *bucket) {
	old.mu.Lock()
	defer old.mu.Unlock()
	if old.perMinute > 0 {
		b.level, b.at = min(old.level, float64(b.perMinute)), old.at
	}
}
