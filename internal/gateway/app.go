package gateway

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/gateway/identity"
	"github.com/keywright/keywright/internal/gateway/inspect"
	"github.com/keywright/keywright/internal/gateway/wire"
	"github.com/keywright/keywright/internal/verdict"
)

// App is what one application may do. Zero fields do not limit.
type App struct {
	// Models lists the models that it may name, exact or with a trailing "*".
	Models []string
	// Routes lists what it may call: messages, count_tokens, models, batches, files, skills, and allowed for the routes of Options.Allow.
	// Empty means all but batches, files and skills.
	Routes []string
	// RequestsPerMinute and TokensPerMinute bound the rate; tokens are reserved from the size of the request and max_tokens, and settled by
	// what the provider counts. After a cut the reservation stands.
	RequestsPerMinute, TokensPerMinute int64
	// Concurrent bounds the requests at one time.
	Concurrent int64
	// Cache lists the routes whose answers are kept for a short time, and given to an identical request while the provider is down: messages,
	// count_tokens, models. Empty means none.
	Cache []string
	// CostPerDay bounds the cost of a day in UTC, in the currency of Prices.
	CostPerDay float64
	// Prices gives the price of models, exact or by class ("haiku"). A model without a price is refused where CostPerDay is set.
	Prices map[string]Price
}

// Price is what a million tokens cost.
type Price struct {
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
	// Batch is the part of it that messages of a batch cost, such as 0.5; zero means all of it.
	Batch float64 `json:"batch,omitempty"`
}

// of gives the cost of tokens.
func (p Price) of(input, output int64) float64 {
	return (float64(input)*p.Input + float64(output)*p.Output) / 1e6
}

// inBatch gives the price of a message of a batch.
func (p Price) inBatch() Price {
	if p.Batch > 0 {
		p.Input, p.Output = p.Input*p.Batch, p.Output*p.Batch
	}
	p.Batch = 0
	return p
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
	batch  *batchCost // its items and prices
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
	if len(a.Routes) == 0 {
		return !granted(name)
	}
	return slices.Contains(a.Routes, name)
}

// guarded reports whether the content of a request matters to a guard.
func (a *appState) guarded() bool {
	return len(a.Models) > 0 || a.TokensPerMinute > 0 || a.CostPerDay > 0
}

// guard admits a request and counts it as running, or says why not.
func (a *appState) guard(x *exchange, l *inspect.Body, caller identity.Caller) *refusal {
	if refused := a.guardModel(x, l, caller); refused != nil {
		return refused
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

// guardModel refuses models that an application or a caller may not name.
func (a *appState) guardModel(x *exchange, l *inspect.Body, caller identity.Caller) *refusal {
	if l != nil && !l.Batch && (!matches(a.Models, x.model) || !matches(caller.Models, x.model)) {
		return &refusal{status: 403, message: "this application may not use this model", row: "guard model"}
	}
	if l != nil && l.Batch {
		for model := range l.Items {
			if !matches(a.Models, model) || !matches(caller.Models, model) {
				return &refusal{status: 403, message: "a request of the batch names a model that this application may not use", row: "guard model"}
			}
		}
	}
	return nil
}

// reserve sets aside what a request may use at most. Each message of a batch counts as a request of its own.
func (a *appState) reserve(x *exchange, l *inspect.Body) *refusal {
	now := time.Now()
	requests := int64(1)
	if l != nil && l.Batch {
		requests = 0
		for _, s := range l.Items {
			requests += s.Items
		}
	}
	if wait := a.requests.take(float64(max(requests, 1)), now); wait > 0 {
		return &refusal{status: 429, message: "this application has made too many requests in a minute", retryAfter: wait, row: "guard requests"}
	}
	if l == nil || x.route.name != "messages" && !l.Batch {
		return nil
	}
	r := reservation{made: true, day: dayOf(now)}
	priced := true
	if l.Batch {
		r.batch = &batchCost{items: requests, prices: make(map[string]Price, len(l.Items))}
		for model, s := range l.Items {
			priced = a.expect(&r, model, *s) && priced
		}
	} else {
		priced = a.expect(&r, x.model, inspect.Share{Items: 1, Size: l.Size, MaxTokens: l.MaxTokens})
	}
	if !priced {
		return &refusal{status: 403, message: "the model has no price, and this application has a budget", row: "guard price"}
	}
	if a.CostPerDay > 0 {
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

// expect adds to a reservation what messages may use at most. It is false for a model that needs a price and has none.
func (a *appState) expect(r *reservation, model string, s inspect.Share) bool {
	// About four bytes make a token, and never fewer than one.
	input, output := s.Size/3+s.Items, s.MaxTokens
	r.tokens += input + output
	if a.CostPerDay <= 0 {
		return true
	}
	price, ok := a.Prices[model]
	if !ok {
		price, ok = a.Prices[verdict.Class(model)]
	}
	if r.batch != nil {
		price = price.inBatch()
		r.batch.prices[model] = price
	}
	r.price = price
	r.cost += price.of(input, output)
	return ok
}

// settle replaces the reservation by what the provider counted. Where it did not count, because the request failed, all of it goes back;
// after a cut or a hang-up in the middle of an answer it stands, and for a batch until its results are read.
func (a *appState) settle(x *exchange) {
	r := x.reserved
	if !r.made {
		return
	}
	u := x.usage
	counted := u.Input + u.CacheRead + u.CacheWrite
	switch {
	case x.cached: // the provider saw nothing of it
		counted, u = 0, wire.Usage{}
	case fine(x.status) && (counted == 0 && u.Output == 0 || x.cut || x.row == "hung up"):
		return
	case x.route.does == doesMake && x.attempts > 0 && x.status >= 500:
		return // the batch may have been made
	case !fine(x.status):
		counted, u = 0, wire.Usage{}
	}
	a.tokens.give(float64(r.tokens - counted - u.Output))
	if a.CostPerDay > 0 {
		a.refund(r.day, r.cost-r.price.of(counted, u.Output))
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
