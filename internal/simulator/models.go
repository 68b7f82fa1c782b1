package simulator

import (
	"slices"
	"time"
)

// model is one entry of the catalogue. Prices are cents per million tokens.
type model struct {
	id, name, line string
	created        string // date, empty = unknown
	deprecated     string // date, empty = never
	retires        string // date, empty = not scheduled
	in, out        int64
	maxInput       int64
	maxOutput      int64
}

// catalogue is in the order of the list endpoint: newest first. Prices that
// the provider's pages do not name are those of the nearest model of the line.
func catalogue() []model {
	m := func(id, name, line, created string, in, out int64) model {
		most := int64(64_000)
		if line == "opus" {
			most = 128_000
		}
		return model{id: id, name: name, line: line, created: created, in: in, out: out, maxInput: 1_000_000, maxOutput: most}
	}
	end := func(m model, deprecated, retires string) model {
		m.deprecated, m.retires, m.maxInput, m.maxOutput = deprecated, retires, 200_000, 64_000
		return m
	}
	return []model{
		m("claude-fable-5-2", "Claude Fable 5.2", "fable", "", 800, 4000),
		m("claude-mythos-5-2", "Claude Mythos 5.2", "mythos", "", 1000, 5000),
		m("claude-haiku-5-5", "Claude Haiku 5.5", "haiku", "2026-10-07", 10, 50),
		m("claude-sonnet-5-5", "Claude Sonnet 5.5", "sonnet", "", 200, 1000),
		m("claude-fable-5-1", "Claude Fable 5.1", "fable", "", 1000, 5000),
		m("claude-opus-5-5", "Claude Opus 5.5", "opus", "", 400, 2000),
		m("claude-sonnet-5", "Claude Sonnet 5", "sonnet", "", 300, 1500),
		m("claude-fable-5", "Claude Fable 5", "fable", "", 1000, 5000),
		m("claude-opus-5", "Claude Opus 5", "opus", "", 500, 2500),
		m("claude-opus-4-8", "Claude Opus 4.8", "opus", "", 500, 2500),
		m("claude-opus-4-7", "Claude Opus 4.7", "opus", "", 500, 2500),
		m("claude-opus-4-6", "Claude Opus 4.6", "opus", "", 500, 2500),
		m("claude-sonnet-4-6", "Claude Sonnet 4.6", "sonnet", "", 300, 1500),
		m("claude-opus-4-5-20251101", "Claude Opus 4.5", "opus", "2025-11-01", 500, 2500),
		m("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "haiku", "2025-10-01", 100, 500),
		end(m("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", "sonnet", "2025-09-29", 300, 1500), "2026-08-01", "2026-11-30"),
		end(m("claude-mythos-preview", "Claude Mythos Preview", "mythos", "", 1000, 5000), "2026-05-01", "2026-06-30"),
		end(m("claude-opus-4-1-20250805", "Claude Opus 4.1", "opus", "2025-08-05", 1500, 7500), "2026-06-05", "2026-08-05"),
		end(m("claude-opus-4-20250514", "Claude Opus 4", "opus", "2025-05-14", 1500, 7500), "2026-04-15", "2026-06-15"),
		end(m("claude-sonnet-4-20250514", "Claude Sonnet 4", "sonnet", "2025-05-14", 300, 1500), "2026-04-15", "2026-06-15"),
		end(m("claude-3-7-sonnet-20250219", "Claude Sonnet 3.7", "sonnet", "2025-02-19", 300, 1500), "2025-10-28", "2026-02-19"),
		end(m("claude-3-5-haiku-20241022", "Claude Haiku 3.5", "haiku", "2024-10-22", 80, 400), "2025-12-19", "2026-02-19"),
		end(m("claude-3-haiku-20240307", "Claude Haiku 3", "haiku", "2024-03-07", 25, 125), "2026-02-19", "2026-04-20"),
		end(m("claude-3-sonnet-20240229", "Claude Sonnet 3", "sonnet", "2024-02-29", 300, 1500), "2025-01-21", "2025-07-21"),
	}
}

// aliases are short ids of dated models.
func aliases() map[string]string {
	return map[string]string{
		"claude-opus-4-5":   "claude-opus-4-5-20251101",
		"claude-haiku-4-5":  "claude-haiku-4-5-20251001",
		"claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
	}
}

func day(v string) time.Time {
	t, err := time.Parse(time.DateOnly, v)
	if err != nil {
		return time.Time{}
	}
	return t
}

func (m model) lifecycle(now time.Time) string {
	switch {
	case m.retires != "" && !now.Before(day(m.retires)):
		return "retired"
	case m.deprecated != "" && !now.Before(day(m.deprecated)):
		return "deprecated"
	}
	return "active"
}

// index maps every id and alias to its model, retired or not.
func index(all []model) map[string]model {
	out := map[string]model{}
	for _, m := range all {
		out[m.id] = m
	}
	for short, id := range aliases() {
		out[short] = out[id]
	}
	return out
}

// usableModel returns a model that answers requests at now.
func (s *Simulator) usableModel(id string, now time.Time) (model, *apiError) {
	m, ok := s.modelIndex[id]
	if !ok || m.lifecycle(now) == "retired" {
		return model{}, notFound("model: " + clip(id))
	}
	return m, nil
}

type supported struct {
	Supported bool `json:"supported"`
}

type modelObject struct {
	Type           string         `json:"type"`
	ID             string         `json:"id"`
	DisplayName    string         `json:"display_name"`
	CreatedAt      string         `json:"created_at"`
	Lifecycle      string         `json:"lifecycle"`
	DeprecatedAt   *string        `json:"deprecated_at"`
	RetiresAt      *string        `json:"retires_at"`
	Line           string         `json:"line"`
	MaxInputTokens int64          `json:"max_input_tokens"`
	MaxTokens      int64          `json:"max_tokens"`
	Capabilities   map[string]any `json:"capabilities"`
}

func (m model) object(now time.Time) modelObject {
	yes, no := supported{true}, supported{false}
	o := modelObject{
		Type: "model", ID: m.id, DisplayName: m.name, CreatedAt: "1970-01-01T00:00:00Z", Lifecycle: m.lifecycle(now),
		Line: m.line, MaxInputTokens: m.maxInput, MaxTokens: m.maxOutput,
		Capabilities: map[string]any{
			"batch": yes, "citations": no, "code_execution": no, "image_input": no, "pdf_input": no, "structured_outputs": no,
			"context_management": map[string]any{"supported": false, "clear_thinking_20251015": no, "clear_tool_uses_20250919": no, "compact_20260112": no},
			"effort":             map[string]any{"supported": false, "low": no, "medium": no, "high": no, "xhigh": no, "max": no},
			"server_tools":       map[string]any{"supported": false, "code_execution": no, "web_search": no},
			"thinking":           map[string]any{"supported": false, "types": map[string]any{"adaptive": no, "between_tools": no, "disabled": yes, "enabled": no}},
		},
	}
	if m.created != "" {
		o.CreatedAt = stamp(day(m.created))
	}
	if o.Lifecycle != "active" {
		o.DeprecatedAt = stampOrNil(day(m.deprecated))
		o.RetiresAt = stampOrNil(day(m.retires))
	}
	return o
}

func (s *Simulator) listModels(c *call) (reply, *apiError) {
	q, fail := query(c.r, "limit", "after_id", "before_id", "lifecycle[]")
	if fail != nil {
		return reply{}, fail
	}
	want := q["lifecycle[]"]
	for _, w := range want {
		if !slices.Contains([]string{"active", "deprecated", "retired"}, w) {
			return reply{}, invalid("lifecycle: must be active, deprecated or retired")
		}
	}
	if len(want) == 0 {
		want = []string{"active", "deprecated"}
	}
	var all []modelObject
	for _, m := range s.models {
		if slices.Contains(want, m.lifecycle(c.now)) {
			all = append(all, m.object(c.now))
		}
	}
	page, fail := cursorPage(q, all, func(m modelObject) string { return m.ID }, 20, 1000)
	return reply{json: page}, fail
}

func (s *Simulator) getModel(c *call) (reply, *apiError) {
	m, fail := s.usableModel(c.r.PathValue("id"), c.now)
	if fail != nil {
		return reply{}, fail
	}
	return reply{json: m.object(c.now)}, nil
}
