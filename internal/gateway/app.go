package gateway

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/verdict"
)

// App is what one application may do. Zero fields do not limit.
type App struct {
	// Models lists the models that it may name, exact or with a trailing "*".
	Models []string
	// Routes lists what it may call: messages, count_tokens, models, and allowed for the routes of Options.Allow. Empty means all.
	Routes []string
	// RequestsPerMinute and TokensPerMinute bound the rate; tokens are reserved from the size of the request and max_tokens, and settled by
	// what the provider counts. After a cut the reservation stands.
	RequestsPerMinute, TokensPerMinute int64
	// Concurrent bounds the requests at one time.
	Concurrent int64
	// CostPerDay bounds the cost of a day in UTC, in the currency of Prices.
	CostPerDay float64
	// Prices gives the price of models, exact or by class ("haiku"). A model without a price is refused where CostPerDay is set.
	Prices map[string]Price
}

// Price is what a million tokens cost.
type Price struct {
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
}

// appState is what requests of one application share.
type appState struct {
	App
	name     string
	running  atomic.Int64
	requests bucket
	tokens   bucket

	mu    sync.Mutex
	day   int64
	spent float64
}

// reservation is what was set aside for a request.
type reservation struct {
	tokens int64
	cost   float64
	price  Price
	day    int64
	made   bool
}

func (g *Gateway) app(name string) *appState {
	if a, ok := g.apps.Load(name); ok {
		return a.(*appState)
	}
	g.rulesMu.Lock()
	defer g.rulesMu.Unlock()
	got, loaded := g.apps.LoadOrStore(name, newAppState(name, g.rules.Load().of(name)))
	if !loaded {
		g.nApps.Add(1)
	}
	return got.(*appState)
}

func newAppState(name string, rules App) *appState {
	return &appState{App: rules, name: name, requests: bucket{perMinute: rules.RequestsPerMinute}, tokens: bucket{perMinute: rules.TokensPerMinute}}
}

func (a *appState) mayRoute(name string) bool {
	return len(a.Routes) == 0 || slices.Contains(a.Routes, name)
}

// guarded reports whether the content of a request matters to a guard.
func (a *appState) guarded() bool {
	return len(a.Models) > 0 || a.TokensPerMinute > 0 || a.CostPerDay > 0
}

// guard admits a request and counts it as running, or says why not.
func (a *appState) guard(x *exchange, l *look, caller Caller) *refusal {
	if l != nil && (!matches(a.Models, x.model) || !matches(caller.Models, x.model)) {
		return &refusal{status: 403, message: "this application may not use this model", row: "guard model"}
	}
	if n := a.running.Add(1); a.Concurrent > 0 && n > a.Concurrent {
		a.running.Add(-1)
		return &refusal{status: 429, message: "this application has too many requests at one time", retryAfter: time.Second, row: "guard concurrent"}
	}
	refused := a.reserve(x, l)
	if refused != nil {
		a.running.Add(-1)
	}
	return refused
}

func (a *appState) reserve(x *exchange, l *look) *refusal {
	now := time.Now()
	if wait := a.requests.take(1, now); wait > 0 {
		return &refusal{status: 429, message: "this application has made too many requests in a minute", retryAfter: wait, row: "guard requests"}
	}
	if l == nil || x.route.name != "messages" {
		return nil
	}
	// About four bytes make a token, and never fewer than one.
	input, output := l.size/3+1, l.maxTokens
	r := reservation{tokens: input + output, made: true, day: now.Unix() / 86400}
	if a.CostPerDay > 0 {
		var ok bool
		if r.price, ok = a.Prices[x.model]; !ok {
			if r.price, ok = a.Prices[verdict.Class(x.model)]; !ok {
				return &refusal{status: 403, message: "the model has no price, and this application has a budget", row: "guard price"}
			}
		}
		r.cost = (float64(input)*r.price.Input + float64(output)*r.price.Output) / 1e6
		a.mu.Lock()
		if a.day != r.day {
			a.day, a.spent = r.day, 0
		}
		over := a.spent+r.cost > a.CostPerDay
		if !over {
			a.spent += r.cost
		}
		a.mu.Unlock()
		if over {
			return &refusal{status: 429, message: "this application has used up its budget of the day", retryAfter: time.Until(time.Unix((r.day+1)*86400, 0)), row: "guard cost"}
		}
	}
	if wait := a.tokens.take(float64(r.tokens), now); wait > 0 {
		a.refund(r.day, r.cost)
		return &refusal{status: 429, message: "this application has used too many tokens in a minute", retryAfter: wait, row: "guard tokens"}
	}
	x.reserved = r
	return nil
}

// settle replaces the reservation by what the provider counted. Where it did not count, because the request failed, all of it goes back;
// after a cut or a hang-up in the middle of an answer it stands.
func (a *appState) settle(x *exchange) {
	r := x.reserved
	if !r.made {
		return
	}
	u := x.usage
	counted := u.input + u.cacheRead + u.cacheWrite
	switch {
	case fine(x.status) && (counted == 0 && u.output == 0 || x.cut || x.row == "hung up"):
		return
	case !fine(x.status):
		counted, u = 0, usage{}
	}
	a.tokens.give(float64(r.tokens - counted - u.output))
	if a.CostPerDay > 0 {
		a.refund(r.day, r.cost-(float64(counted)*r.price.Input+float64(u.output)*r.price.Output)/1e6)
	}
}

func (a *appState) refund(day int64, cost float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.day == day {
		a.spent -= cost
	}
}

func matches(patterns []string, s string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		if n := len(p) - 1; n >= 0 && p[n] == '*' && len(s) >= n && s[:n] == p[:n] || p == s {
			return true
		}
	}
	return false
}

// bucket bounds a rate: it holds a minute's worth, and fills steadily. The zero bucket does not bound.
type bucket struct {
	perMinute int64
	mu        sync.Mutex
	level     float64
	at        time.Time
}

// take takes n and gives zero, or gives how long to wait. More than a whole bucket is let through when the bucket is full.
func (b *bucket) take(n float64, now time.Time) time.Duration {
	if b.perMinute <= 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	most := float64(b.perMinute)
	if b.at.IsZero() {
		b.level = most
	} else {
		b.level = min(most, b.level+now.Sub(b.at).Minutes()*most)
	}
	b.at = now
	need := min(n, most)
	if b.level >= need {
		b.level -= n
		return 0
	}
	return time.Duration((need - b.level) / most * float64(time.Minute))
}

func (b *bucket) give(n float64) {
	if b.perMinute <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.level = min(float64(b.perMinute), b.level+n)
}
