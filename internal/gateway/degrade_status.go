package gateway

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/gateway/queue"
)

// DegradedStatus is one cause that holds.
type DegradedStatus struct {
	Cause  Cause     `json:"cause"`
	Model  string    `json:"model,omitempty"` // its class
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // the next step of the way back, or the end of a declaration
	// Share is how many callers of a hundred are let through: 0, or on the way back 10, 50.
	Share int64 `json:"share"`
}

func (g *Gateway) degradedStatus() []DegradedStatus {
	now := time.Now()
	list := []DegradedStatus{}
	for _, e := range g.degraded.episodes() {
		share, until := e.share(now)
		if share == 100 {
			continue // it is over, and about to be told
		}
		s := DegradedStatus{Cause: e.cause, Reason: e.reason, Since: e.since.UTC(), Share: share}
		if e.model != "" {
			s.Model = g.modelLabel(e.model)
		}
		if !until.IsZero() {
			s.Until = until.UTC()
		}
		list = append(list, s)
	}
	return list
}

// PublicStatus is what everybody who can reach the gateway may know.
type PublicStatus struct {
	// Status is ok, degraded (nobody is let through), returning (some are), or stopping.
	Status   string           `json:"status"`
	Ready    bool             `json:"ready"`
	Degraded []DegradedStatus `json:"degraded"`
	// Queue is off, accepting or full.
	Queue string `json:"queue"`
}

// PublicStatus gives the state of now.
func (g *Gateway) PublicStatus() PublicStatus {
	s := PublicStatus{Status: "ok", Ready: g.Ready(), Degraded: g.degradedStatus(), Queue: g.queueWord()}
	for _, d := range s.Degraded {
		if d.Share == 0 {
			s.Status = "degraded"
			break
		}
		s.Status = "returning"
	}
	if g.draining.Load() {
		s.Status = "stopping"
	}
	return s
}

// writeDegraded writes the metrics of degraded mode.
func (g *Gateway) writeDegraded(w io.Writer) {
	head(w, "keywright_gateway_degraded", "1 for each cause of degraded mode that holds, by class of model.", "gauge")
	for _, d := range g.degradedByClass() {
		fmt.Fprintf(w, "keywright_gateway_degraded{cause=%s,model=%s} 1\n", label(string(d.Cause)), label(d.Model))
	}
	head(w, "keywright_gateway_degraded_share", "Callers of a hundred that are let through, by cause and class of model.", "gauge")
	for _, d := range g.degradedByClass() {
		fmt.Fprintf(w, "keywright_gateway_degraded_share{cause=%s,model=%s} %d\n", label(string(d.Cause)), label(d.Model), d.Share)
	}
	entries, size := g.cache.Size()
	list := []struct {
		name, help, kind string
		n                int64
	}{
		{"keywright_gateway_cache_hits_total", "Answers from the cache, in place of the provider's.", "counter", g.metrics.cacheHits.Load()},
		{"keywright_gateway_cache_entries", "Answers in the cache.", "gauge", int64(entries)},
		{"keywright_gateway_cache_bytes", "Bytes of the answers in the cache.", "gauge", size},
	}
	if g.queue.q != nil {
		depth := g.queue.q.Depth()
		head(w, "keywright_gateway_queue_depth", "Requests in the queue, by state.", "gauge")
		for _, s := range []struct {
			state queue.State
			n     int
		}{{queue.Waiting, depth.Waiting}, {queue.Running, depth.Running}, {queue.Done, depth.Done}} {
			fmt.Fprintf(w, "keywright_gateway_queue_depth{state=%s} %d\n", label(string(s.state)), s.n)
		}
		head(w, "keywright_gateway_queue_attempts_total", "Attempts with queued requests, by result: answered, again, refused.", "counter")
		for _, r := range []struct {
			result string
			n      int64
		}{{"answered", g.queue.answered.Load()}, {"again", g.queue.again.Load()}, {"refused", g.queue.refused.Load()}} {
			fmt.Fprintf(w, "keywright_gateway_queue_attempts_total{result=%s} %d\n", label(r.result), r.n)
		}
		list = append(list, struct {
			name, help, kind string
			n                int64
		}{"keywright_gateway_queue_bytes", "Bytes of all that is in the queue.", "gauge", depth.Bytes})
	}
	for _, c := range list {
		head(w, c.name, c.help, c.kind)
		fmt.Fprintf(w, "%s %d\n", c.name, c.n)
	}
}

// degradedByClass gives the causes with each class of model once: the smallest share counts.
func (g *Gateway) degradedByClass() []DegradedStatus {
	var list []DegradedStatus
	for _, d := range g.degradedStatus() {
		i := slices.IndexFunc(list, func(o DegradedStatus) bool { return o.Cause == d.Cause && o.Model == d.Model })
		switch {
		case i < 0:
			list = append(list, d)
		case d.Share < list[i].Share:
			list[i] = d
		}
	}
	return list
}
