package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const maxBatchRequests = 100_000

// batch holds its answers from the start; they are shown when it has ended.
type batch struct {
	id, workspace, keyID string
	created, ended       time.Time
	cancelled            time.Time
	items                []batchItem
	billed               bool
}

type batchItem struct {
	customID string
	id       string
	plan     planned
}

type batchCounts struct {
	Processing int `json:"processing"`
	Succeeded  int `json:"succeeded"`
	Errored    int `json:"errored"`
	Canceled   int `json:"canceled"`
	Expired    int `json:"expired"`
}

type batchObject struct {
	ID                string      `json:"id"`
	Type              string      `json:"type"`
	ProcessingStatus  string      `json:"processing_status"`
	RequestCounts     batchCounts `json:"request_counts"`
	CreatedAt         string      `json:"created_at"`
	ExpiresAt         string      `json:"expires_at"`
	EndedAt           *string     `json:"ended_at"`
	CancelInitiatedAt *string     `json:"cancel_initiated_at"`
	ArchivedAt        *string     `json:"archived_at"`
	ResultsURL        *string     `json:"results_url"`
}

// settle ends the batches whose time has come and bills them. The caller holds the lock.
func (s *Simulator) settle(now time.Time) {
	for _, b := range s.batches {
		if b.billed || now.Before(b.ended) {
			continue
		}
		b.billed = true
		if !b.cancelled.IsZero() {
			continue
		}
		for _, it := range b.items {
			s.spend(usageKey{Second: b.ended.Unix(), KeyID: b.keyID, Workspace: b.workspace, Model: it.plan.model.id, Tier: "batch"},
				usageSum{Requests: 1, Input: it.plan.input, Output: int64(len(it.plan.pieces))})
		}
	}
}

func (b *batch) object(c *call, status string) batchObject {
	o := batchObject{
		ID: b.id, Type: "message_batch", ProcessingStatus: status, CreatedAt: stamp(b.created),
		ExpiresAt: stamp(b.created.Add(24 * time.Hour)), CancelInitiatedAt: stampOrNil(b.cancelled),
	}
	switch {
	case status != "ended":
		o.RequestCounts.Processing = len(b.items)
		return o
	case b.cancelled.IsZero():
		o.RequestCounts.Succeeded = len(b.items)
	default:
		o.RequestCounts.Canceled = len(b.items)
	}
	o.EndedAt = stampOrNil(b.ended)
	scheme := "http"
	if c.r.TLS != nil {
		scheme = "https"
	}
	url := scheme + "://" + c.r.Host + "/v1/messages/batches/" + b.id + "/results"
	o.ResultsURL = &url
	return o
}

func (b *batch) status(now time.Time) string {
	switch {
	case !now.Before(b.ended):
		return "ended"
	case !b.cancelled.IsZero():
		return "canceling"
	}
	return "in_progress"
}

func (s *Simulator) createBatch(c *call) (reply, *apiError) {
	var in struct {
		Requests []struct {
			CustomID string          `json:"custom_id"`
			Params   json.RawMessage `json:"params"`
		} `json:"requests"`
	}
	if fail := decode(c.body, &in); fail != nil {
		return reply{}, fail
	}
	if len(in.Requests) == 0 || len(in.Requests) > maxBatchRequests {
		return reply{}, invalid(fmt.Sprintf("requests: must have 1 to %d entries", maxBatchRequests))
	}
	b := &batch{workspace: c.who.workspace, keyID: c.who.keyID, created: c.now, ended: c.now.Add(s.opts.BatchDuration)}
	seen := map[string]bool{}
	for i, r := range in.Requests {
		if r.CustomID == "" || seen[r.CustomID] {
			return reply{}, invalid(fmt.Sprintf("requests.%d.custom_id: must be present and unique", i))
		}
		seen[r.CustomID] = true
		p, fail := s.plan(c, r.Params, false)
		if fail != nil {
			fail.message = fmt.Sprintf("requests.%d.params.%s", i, fail.message)
			return reply{}, fail
		}
		b.items = append(b.items, batchItem{customID: r.CustomID, plan: p})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.id = s.id("msgbatch_")
	for i := range b.items {
		b.items[i].id = s.id("msg_")
		s.work(c, &b.items[i].plan)
	}
	s.batches = append(s.batches, b)
	return reply{json: b.object(c, "in_progress")}, nil
}

// batch finds a batch of the caller's workspace. The caller holds the lock.
func (s *Simulator) batch(c *call) (*batch, *apiError) {
	s.settle(c.now)
	id := c.r.PathValue("id")
	i := slices.IndexFunc(s.batches, func(b *batch) bool { return b.id == id && b.workspace == c.who.workspace })
	if i < 0 {
		return nil, notFound("Message batch not found")
	}
	return s.batches[i], nil
}

func (s *Simulator) listBatches(c *call) (reply, *apiError) {
	q, fail := query(c.r, "limit", "after_id", "before_id")
	if fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(c.now)
	var all []batchObject
	for _, b := range slices.Backward(s.batches) {
		if b.workspace == c.who.workspace {
			all = append(all, b.object(c, b.status(c.now)))
		}
	}
	page, fail := cursorPage(q, all, func(b batchObject) string { return b.ID }, 20, 1000)
	return reply{json: page}, fail
}

func (s *Simulator) getBatch(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, fail := s.batch(c)
	if fail != nil {
		return reply{}, fail
	}
	return reply{json: b.object(c, b.status(c.now))}, nil
}

// cancelBatch lets the batch end at its time with every request canceled.
func (s *Simulator) cancelBatch(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, fail := s.batch(c)
	if fail != nil {
		return reply{}, fail
	}
	if b.status(c.now) == "in_progress" {
		b.cancelled = c.now
	}
	return reply{json: b.object(c, b.status(c.now))}, nil
}

func (s *Simulator) deleteBatch(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, fail := s.batch(c)
	if fail != nil {
		return reply{}, fail
	}
	if b.status(c.now) != "ended" {
		return reply{}, invalid("a message batch can be deleted only after it has ended")
	}
	s.batches = slices.DeleteFunc(s.batches, func(o *batch) bool { return o == b })
	return reply{json: map[string]string{"id": b.id, "type": "message_batch_deleted"}}, nil
}

func (s *Simulator) batchResults(c *call) (reply, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, fail := s.batch(c)
	if fail != nil {
		return reply{}, fail
	}
	if b.status(c.now) != "ended" {
		return reply{}, notFound("the results of the message batch are not available yet")
	}
	var out bytes.Buffer
	lines := json.NewEncoder(&out)
	for _, it := range b.items {
		result := map[string]any{"type": "canceled"}
		if b.cancelled.IsZero() {
			result = map[string]any{"type": "succeeded", "message": it.plan.object(it.id, "batch")}
		}
		if err := lines.Encode(map[string]any{"custom_id": it.customID, "result": result}); err != nil {
			return reply{}, &apiError{status: 500, kind: "api_error", message: "Internal server error"}
		}
	}
	return reply{raw: out.Bytes(), kind: "application/x-jsonl"}, nil
}
