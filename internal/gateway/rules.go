package gateway

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gateway/identity"
)

// Rules are the options that may change while a Gateway runs: who may call, from where, and what.
type Rules struct {
	Hosts, Origins, Allow []string
	Identify              []identity.Identifier
	Apps                  map[string]App
	Default               App
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
