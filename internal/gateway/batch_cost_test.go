package gateway

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/simulator"
)

// resultOf is a line of a batch's results.
func resultOf(model string, in, cached, out int) string {
	return fmt.Sprintf(`{"custom_id":"c","result":{"type":"succeeded","message":{"id":"m","model":%q,"content":[{"type":"text","text":"\"usage\":{\"input_tokens\":9}"}],`+
		`"usage":{"input_tokens":%d,"cache_read_input_tokens":%d,"cache_creation_input_tokens":0,"output_tokens":%d}}}}`, model, in, cached, out) + "\n"
}

// TestBatchCost: a batch counts with what it may cost at most until its results were read, and then once with what the provider counted.
func TestBatchCost(t *testing.T) {
	const errored = `{"custom_id":"c","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":"\"usage\""}}}}` + "\n"
	results, made, cut := "", 0, false
	w := upstream(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodPost:
			made++
			fmt.Fprintf(rw, `{"id":"msgbatch_%d","processing_status":"in_progress"}`, made)
		case strings.HasSuffix(r.URL.Path, "/results"):
			if cut {
				rw.Header().Set("Content-Length", strconv.Itoa(len(results)+1))
			}
			fmt.Fprint(rw, results)
		default:
			fmt.Fprint(rw, `{"id":"x"}`)
		}
	}, func(o *Options) {
		o.Default = everything(t)
		o.Default.CostPerDay = 1000
		o.Default.Prices = map[string]Price{"haiku": {Input: 1e6, Output: 2e6, Batch: 0.5}, "claude-sonnet-5": {Input: 4e6, Output: 4e6}, "sonnet": {Input: 1e9, Output: 1e9}}
	})
	k, _ := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	today := dayOf(time.Now())
	spent := func() float64 {
		a := w.g.app(OpenApp)
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.spent
	}
	message := func(model string, most int) string {
		return fmt.Sprintf(`{"model":%q,"max_tokens":%d,"messages":[{"role":"user","content":"hi"}]}`, model, most)
	}
	const haiku, sonnet = "claude-haiku-4-5", "claude-sonnet-5"
	for _, c := range []struct {
		name    string
		batch   []string
		results string
		cut     bool
		want    float64 // negative: the reservation stands
	}{
		{"two messages", []string{message(haiku, 50), message(haiku, 60)}, resultOf(haiku, 6, 4, 10) + resultOf(haiku, 10, 0, 5), false, 10*0.5 + 10 + 10*0.5 + 5},
		{"under its longer name, among others", []string{message(haiku, 50), message(sonnet, 10)}, resultOf(sonnet+"-20260101", 1, 0, 1) + resultOf(haiku+"-20251001", 2, 0, 1), false, 8 + 2},
		{"under a name that nobody asked for", []string{message("claude-haiku-latest", 50)}, resultOf("other-1", 2, 0, 1), false, 2},
		{"under another one, by the table", []string{message("claude-haiku-latest", 50), message(sonnet, 10)}, resultOf(haiku, 2, 0, 1) + resultOf(sonnet, 0, 0, 1), false, 2 + 4},
		{"under one without a price", []string{message("claude-haiku-latest", 50), message(sonnet, 10)}, resultOf("other-1", 2, 0, 1) + resultOf(sonnet, 0, 0, 1), false, -1},
		{"one of them failed", []string{message(haiku, 50), message(haiku, 60)}, errored + resultOf(haiku, 10, 0, 5), false, 10},
		{"more than was expected", []string{message(haiku, 1)}, resultOf(haiku, 200, 0, 50), false, 150},
		{"a message lacks", []string{message(haiku, 50), message(haiku, 60)}, resultOf(haiku, 10, 0, 5), false, -1},
		{"an empty line", []string{message(haiku, 50)}, "\n" + resultOf(haiku, 10, 0, 5), false, 10},
		{"what cannot be read", []string{message(haiku, 50), message(haiku, 60)}, "{]\n" + resultOf(haiku, 10, 0, 5), false, -1},
		{"an answer without usage", []string{message(haiku, 50)}, `{"result":{"type":"succeeded","message":{"model":"` + haiku + `"}}}`, false, -1},
		{"less than nothing", []string{message(haiku, 50)}, resultOf(haiku, 10, 0, -5), false, -1},
		{"cut behind the last line", []string{message(haiku, 50)}, resultOf(haiku, 10, 0, 5), true, -1},
	} {
		before := spent()
		id := w.want(200, "POST", "/v1/messages/batches", batchOf(c.batch...)).id(t)
		reserved := spent() - before
		if reserved < 5 {
			t.Fatalf("%s: %v is reserved", c.name, reserved)
		}
		if c.want < 0 {
			c.want = reserved
		}
		results, cut = c.results, c.cut
		for range 2 {
			w.do("GET", "/v1/messages/batches/"+id+"/results", "")
			if got := spent() - before; math.Abs(got-c.want) > 1e-6 {
				t.Errorf("%s: %v of %v, want %v", c.name, got, reserved, c.want)
			}
		}
		if cut { // the whole of it later
			cut = false
			w.do("GET", "/v1/messages/batches/"+id+"/results", "")
			if got := spent() - before; got != 10 {
				t.Errorf("%s: %v when it was read again", c.name, got)
			}
		}
	}
	if dayOf(time.Now()) != today {
		t.Skip("the day ended meanwhile")
	}
}

// TestBatchCosts: only what was made today can be settled, once, and no more than there is room for.
func TestBatchCosts(t *testing.T) {
	var b batchCosts
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	today := dayOf(now)
	if _, ok := b.of("a", now); ok || b.take("a") {
		t.Error("from nowhere")
	}
	b.put("a", batchCost{day: today, cost: 1})
	if c, ok := b.of("a", now); !ok || c.cost != 1 {
		t.Errorf("%+v %v", c, ok)
	}
	if _, ok := b.of("a", now.Add(12*time.Hour)); ok {
		t.Error("settled on another day")
	}
	if !b.take("a") || b.take("a") {
		t.Error("not taken once")
	}
	for i := range maxBatchCosts + 1 {
		b.put(strconv.Itoa(i), batchCost{day: today})
	}
	if _, ok := b.of(strconv.Itoa(maxBatchCosts), now); ok || len(b.by) != maxBatchCosts {
		t.Errorf("%d are kept", len(b.by))
	}
	b.put("b", batchCost{day: today + 1})
	b.put("late", batchCost{day: today})
	if _, ok := b.of("b", now.Add(24*time.Hour)); !ok || len(b.by) != 1 {
		t.Errorf("%d are kept on the next day", len(b.by))
	}
}
