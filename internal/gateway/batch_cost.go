package gateway

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/verdict"
)

// maxBatchCosts bounds the batches whose cost can still be settled. The reservation of what is beyond it stands.
const maxBatchCosts = 10_000

// batchCost is what the budget of an application holds for a batch that was made today, in UTC.
type batchCost struct {
	app    string
	day    int64
	cost   float64
	items  int64
	prices map[string]Price // by the models that the batch names, as a batch pays them
}

// batchCosts are those of one day, by the id of the batch. The budget of another day cannot change any more, nor that of a gateway that was restarted: they
// are in memory, as the budgets are.
type batchCosts struct {
	mu  sync.Mutex
	day int64
	by  map[string]batchCost
}

func (b *batchCosts) put(id string, c batchCost) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.day > b.day {
		b.day, b.by = c.day, map[string]batchCost{}
	}
	if c.day == b.day && len(b.by) < maxBatchCosts {
		b.by[id] = c
	}
}

// of gives the cost of a batch, if its day is that of now.
func (b *batchCosts) of(id string, now time.Time) (batchCost, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.by[id]
	return c, ok && c.day == dayOf(now)
}

// take removes it. It is true for one caller.
func (b *batchCosts) take(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.by[id]
	delete(b.by, id)
	return ok
}

// dayOf numbers the days of UTC.
func dayOf(t time.Time) int64 { return t.Unix() / 86400 }

// price finds the price of a model that answered. It may answer under a longer name than that which it was asked for by.
func (c batchCost) price(model string, of map[string]Price) (Price, bool) {
	if p, ok := c.prices[model]; ok {
		return p, true
	}
	longest := ""
	for asked := range c.prices {
		if strings.HasPrefix(model, asked+"-") && len(asked) > len(longest) {
			longest = asked
		}
	}
	if p, ok := c.prices[longest]; ok {
		return p, true
	}
	if len(c.prices) == 1 {
		for p := range maps.Values(c.prices) {
			return p, true
		}
	}
	p, ok := of[model]
	if !ok {
		p, ok = of[verdict.Class(model)]
	}
	return p.inBatch(), ok
}

// batchBill adds up what the lines of a batch's results say, and settles the batch at their end.
type batchBill struct {
	g  *Gateway
	id string
	batchCost

	lines int64
	spent float64
	odd   bool // something cannot be understood, so that the reservation stands
}

// bill gives nil when there is nothing to settle.
func (g *Gateway) bill(x *exchange) *batchBill {
	c, ok := g.batches.of(x.object, time.Now())
	if !ok || c.app != x.app.name {
		return nil
	}
	return &batchBill{g: g, id: x.object, batchCost: c}
}

// line counts one line of the results. Only a message that was answered has usage.
func (b *batchBill) line(text []byte) {
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return
	}
	b.lines++
	var line struct {
		Result struct {
			Type    string `json:"type"`
			Message *struct {
				Model string `json:"model"`
				Usage *struct {
					Input      int64 `json:"input_tokens"`
					CacheRead  int64 `json:"cache_read_input_tokens"`
					CacheWrite int64 `json:"cache_creation_input_tokens"`
					Output     int64 `json:"output_tokens"`
				} `json:"usage"`
			} `json:"message"`
		} `json:"result"`
	}
	if json.Unmarshal(text, &line) != nil || line.Result.Type == "" {
		b.odd = true
		return
	}
	m := line.Result.Message
	if m == nil || m.Usage == nil {
		b.odd = b.odd || line.Result.Type == "succeeded"
		return
	}
	u := *m.Usage
	p, ok := b.price(m.Model, b.g.app(b.app).Prices)
	if !ok || min(u.Input, u.Output, u.CacheRead, u.CacheWrite) < 0 {
		b.odd = true
		return
	}
	b.spent += p.of(u.Input+u.CacheRead+u.CacheWrite, u.Output)
}

// end settles the batch, when there was a line for each of its messages.
func (b *batchBill) end() {
	if !b.odd && b.lines == b.items && b.g.batches.take(b.id) {
		b.g.app(b.app).refund(b.day, b.cost-b.spent)
	}
}
