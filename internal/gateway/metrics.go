package gateway

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/verdict"
)

// metrics are counted in memory and written in the text format of Prometheus. Labels are bounded: fingerprints of keys in use, words of our
// own tables, classes of models, and at most maxLabels applications.
type metrics struct {
	probes, cuts, eventsLost atomic.Int64
	sourceFailures           atomic.Int64
	cacheHits                atomic.Int64

	mu       sync.RWMutex
	requests map[requestLabels]*cell
	retries  map[[2]string]*atomic.Int64
	cools    map[string]*atomic.Int64
	apps     map[string]bool
	added    histogram
	first    histogram
}

type requestLabels struct{ app, model, status, fingerprint, role string }

// cell counts the requests of one set of labels.
type cell struct {
	n, input, output atomic.Int64
}

// maxLabels bounds how many applications have a label of their own, and maxCells the sets of labels.
const (
	maxLabels = 100
	maxCells  = 10_000
)

func newMetrics() *metrics {
	bounds := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	return &metrics{
		requests: map[requestLabels]*cell{}, retries: map[[2]string]*atomic.Int64{}, cools: map[string]*atomic.Int64{}, apps: map[string]bool{},
		added: newHistogram(bounds), first: newHistogram(bounds),
	}
}

// modelLabel keeps labels bounded: the class stands for the model.
func (g *Gateway) modelLabel(model string) string {
	if model == "" {
		return ""
	}
	return verdict.Class(model)
}

func (m *metrics) observe(g *Gateway, x *exchange, _ time.Duration) {
	l := requestLabels{model: x.class, fingerprint: string(x.key), role: x.role, status: statusClass(x.status)}
	if x.app != nil {
		l.app = x.app.name
	}
	m.mu.RLock()
	c, known := m.requests[l], m.apps[l.app]
	m.mu.RUnlock()
	if c == nil {
		c = m.cell(l, known)
	}
	c.n.Add(1)
	if x.usage.Input != 0 || x.usage.Output != 0 {
		c.input.Add(x.usage.Input + x.usage.CacheRead + x.usage.CacheWrite)
		c.output.Add(x.usage.Output)
	}
	if x.attempts > 0 {
		m.added.observe(x.added)
	}
	if x.first > 0 {
		m.first.observe(x.first)
	}
}

func (m *metrics) cell(l requestLabels, known bool) *cell {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !known {
		if len(m.apps) >= maxLabels {
			l.app = "other"
		}
		m.apps[l.app] = true
	}
	if len(m.requests) >= maxCells {
		l = requestLabels{app: "other", status: l.status}
	}
	c := m.requests[l]
	if c == nil {
		c = &cell{}
		m.requests[l] = c
	}
	return c
}

func statusClass(s int) string {
	switch {
	case s == 499:
		return "hung up"
	case s >= 100 && s <= 599:
		return [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}[s/100-1]
	}
	return "none"
}

func (m *metrics) retried(row, way string) { m.count(m.retries, row, way) }

func (m *metrics) count(in map[[2]string]*atomic.Int64, a, b string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := [2]string{a, b}
	if in[k] == nil {
		in[k] = &atomic.Int64{}
	}
	in[k].Add(1)
}

func (m *metrics) cooled(row string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cools[row] == nil {
		m.cools[row] = &atomic.Int64{}
	}
	m.cools[row].Add(1)
}

// histogram has fixed bounds, in seconds.
type histogram struct {
	bounds []float64
	counts []atomic.Int64
	nanos  *atomic.Int64
}

func newHistogram(bounds []float64) histogram {
	return histogram{bounds: bounds, counts: make([]atomic.Int64, len(bounds)+1), nanos: &atomic.Int64{}}
}

func (h *histogram) observe(d time.Duration) {
	i, _ := slices.BinarySearch(h.bounds, d.Seconds())
	h.counts[i].Add(1)
	h.nanos.Add(int64(d))
}

func (h *histogram) write(w io.Writer, name, help string) {
	head(w, name, help, "histogram")
	var n int64
	for i := range h.counts {
		n += h.counts[i].Load()
		le := "+Inf"
		if i < len(h.bounds) {
			le = fmt.Sprint(h.bounds[i])
		}
		fmt.Fprintf(w, "%s_bucket{le=%q} %d\n", name, le, n)
	}
	fmt.Fprintf(w, "%s_sum %g\n%s_count %d\n", name, float64(h.nanos.Load())/1e9, name, n)
}

func head(w io.Writer, name, help, kind string) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// label quotes a value as the format wants it.
func label(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(s) + `"`
}

// WriteMetrics writes all metrics in the text format of Prometheus, version 0.0.4.
func (g *Gateway) WriteMetrics(w io.Writer) {
	m := g.metrics
	m.mu.RLock()
	cells := maps.Clone(m.requests)
	retries, cools := maps.Clone(m.retries), maps.Clone(m.cools)
	m.mu.RUnlock()
	keys := slices.SortedFunc(maps.Keys(cells), func(a, b requestLabels) int {
		return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.model, b.model), cmp.Compare(a.status, b.status), cmp.Compare(a.fingerprint, b.fingerprint), cmp.Compare(a.role, b.role))
	})
	head(w, "keywright_gateway_requests_total", "Requests by application, class of model, class of status, key and its role.", "counter")
	for _, l := range keys {
		fmt.Fprintf(w, "keywright_gateway_requests_total{app=%s,model=%s,status=%s,fingerprint=%s,role=%s} %d\n",
			label(l.app), label(l.model), label(l.status), label(l.fingerprint), label(l.role), cells[l].n.Load())
	}
	head(w, "keywright_gateway_tokens_total", "Tokens that the provider counted.", "counter")
	for _, l := range keys {
		for dir, n := range map[string]int64{"input": cells[l].input.Load(), "output": cells[l].output.Load()} {
			if n > 0 {
				fmt.Fprintf(w, "keywright_gateway_tokens_total{app=%s,model=%s,status=%s,fingerprint=%s,role=%s,direction=%s} %d\n",
					label(l.app), label(l.model), label(l.status), label(l.fingerprint), label(l.role), label(dir), n)
			}
		}
	}
	head(w, "keywright_gateway_retries_total", "Further attempts by the row of the verdict table and by way: same key or other.", "counter")
	for k, n := range retries {
		fmt.Fprintf(w, "keywright_gateway_retries_total{row=%s,way=%s} %d\n", label(k[0]), label(k[1]), n.Load())
	}
	head(w, "keywright_gateway_cooled_total", "How often a limit or a breaker began to keep requests away.", "counter")
	for k, n := range cools {
		fmt.Fprintf(w, "keywright_gateway_cooled_total{row=%s} %d\n", label(k), n.Load())
	}
	m.added.write(w, "keywright_gateway_added_seconds", "Time that a request spent in the gateway before its first attempt, without the wait for its body.")
	m.first.write(w, "keywright_gateway_first_event_seconds", "Time until the first content of a stream.")
	status := g.Status()
	head(w, "keywright_gateway_key_state", "1 for the state that a key is in.", "gauge")
	for _, k := range status.Keys {
		fmt.Fprintf(w, "keywright_gateway_key_state{fingerprint=%s,key=%s,role=%s,state=%s} 1\n", label(string(k.Fingerprint)), label(string(k.Key)), label(k.Role), label(k.State))
	}
	head(w, "keywright_gateway_key_in_flight", "Requests on a key.", "gauge")
	for _, k := range status.Keys {
		fmt.Fprintf(w, "keywright_gateway_key_in_flight{fingerprint=%s} %d\n", label(string(k.Fingerprint)), k.InFlight)
	}
	head(w, "keywright_gateway_breaker_open", "1 while a breaker keeps requests from the upstream, by class of model.", "gauge")
	open := map[string]int{}
	for _, b := range status.Breakers {
		open[verdict.Class(b.Model)] = 1
	}
	for _, class := range slices.Sorted(maps.Keys(open)) {
		fmt.Fprintf(w, "keywright_gateway_breaker_open{model=%s} 1\n", label(class))
	}
	g.writeDegraded(w)
	for _, c := range []struct {
		name, help, kind string
		n                int64
	}{
		{"go_goroutines", "Number of goroutines that currently exist.", "gauge", int64(runtime.NumGoroutine())},
		{"keywright_gateway_generation", "Generation of the key set.", "gauge", int64(min(status.Generation, math.MaxInt64))},
		{"keywright_gateway_active", "Requests that are served now.", "gauge", g.active.Load()},
		{"keywright_gateway_probes_total", "Probes of keys.", "counter", m.probes.Load()},
		{"keywright_gateway_cut_streams_total", "Streams that the provider broke off after their first content.", "counter", m.cuts.Load()},
		{"keywright_gateway_events_lost_total", "Events that nobody took in time.", "counter", m.eventsLost.Load()},
		{"keywright_gateway_source_failures_total", "Times that a source gave no usable key.", "counter", m.sourceFailures.Load()},
	} {
		head(w, c.name, c.help, c.kind)
		fmt.Fprintf(w, "%s %d\n", c.name, c.n)
	}
}
