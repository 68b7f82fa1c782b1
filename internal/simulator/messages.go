package simulator

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// messageRequest holds the fields that the simulator acts on. All other fields
// are accepted and ignored.
type messageRequest struct {
	Model       string          `json:"model"`
	MaxTokens   *int64          `json:"max_tokens"`
	Messages    []turn          `json:"messages"`
	System      json.RawMessage `json:"system"`
	Stream      bool            `json:"stream"`
	Temperature json.RawMessage `json:"temperature"`
	TopP        json.RawMessage `json:"top_p"`
	TopK        json.RawMessage `json:"top_k"`
	Container   json.RawMessage `json:"container"`
	Tools       []tool          `json:"tools"`
}

type tool struct {
	Type string `json:"type"`
}

type turn struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

type block struct {
	Type      string          `json:"type"`
	Text      string          `json:"text"`
	Citations json.RawMessage `json:"citations"`
}

type usageObject struct {
	InputTokens              int64         `json:"input_tokens"`
	OutputTokens             int64         `json:"output_tokens"`
	CacheCreationInputTokens int64         `json:"cache_creation_input_tokens"`
	CacheReadInputTokens     int64         `json:"cache_read_input_tokens"`
	CacheCreation            cacheCreation `json:"cache_creation"`
	ServerToolUse            *struct{}     `json:"server_tool_use"`
	ServiceTier              string        `json:"service_tier"`
	InferenceGeo             string        `json:"inference_geo"`
}

type cacheCreation struct {
	Ephemeral5m int64 `json:"ephemeral_5m_input_tokens"`
	Ephemeral1h int64 `json:"ephemeral_1h_input_tokens"`
}

type textBlock struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type messageObject struct {
	ID           string           `json:"id"`
	Type         string           `json:"type"`
	Role         string           `json:"role"`
	Model        string           `json:"model"`
	Content      []any            `json:"content"`
	StopReason   *string          `json:"stop_reason"`
	StopSequence *string          `json:"stop_sequence"`
	Usage        usageObject      `json:"usage"`
	Container    *containerObject `json:"container"`
}

// planned is a checked request and the answer that it gets.
type planned struct {
	model  model
	input  int64
	pieces []string
	stop   string
	stream bool

	code      bool       // the code tool is offered, and used
	container *container // the one that is named
	shown     *containerObject
	skills    []containerSkill
	blocks    []any // what stands before the text
}

func (p planned) object(id, tier string) messageObject {
	return messageObject{
		ID: id, Type: "message", Role: "assistant", Model: p.model.id,
		Content: append(slices.Clone(p.blocks), textBlock{"text", strings.Join(p.pieces, "")}), StopReason: &p.stop,
		Usage: p.usage(int64(len(p.pieces)), tier), Container: p.shown,
	}
}

func (p planned) usage(output int64, tier string) usageObject {
	return usageObject{InputTokens: p.input, OutputTokens: output, ServiceTier: tier, InferenceGeo: "global"}
}

// plan checks a Messages body. counting relaxes what count_tokens does not need.
func (s *Simulator) plan(c *call, body []byte, counting bool) (planned, *apiError) {
	var m messageRequest
	if err := json.Unmarshal(body, &m); err != nil {
		return planned{}, invalid("The request body is not valid JSON")
	}
	if c.version == Version20261021 {
		for name, v := range map[string]json.RawMessage{"temperature": m.Temperature, "top_p": m.TopP, "top_k": m.TopK} {
			if v != nil {
				return planned{}, invalid(name + ": sampling parameters are not accepted under version " + Version20261021)
			}
		}
	}
	if m.Model == "" {
		return planned{}, invalid("model: Field required")
	}
	known, fail := s.usableModel(m.Model, c.now)
	if fail != nil {
		return planned{}, fail
	}
	if !counting {
		switch {
		case m.MaxTokens == nil:
			return planned{}, invalid("max_tokens: Field required")
		case *m.MaxTokens < 1 || *m.MaxTokens > known.maxOutput:
			return planned{}, invalid(fmt.Sprintf("max_tokens: must be between 1 and %d", known.maxOutput))
		}
	}
	if len(m.Messages) == 0 {
		return planned{}, invalid("messages: Field required")
	}
	size := len(m.System)
	text := ""
	for i, t := range m.Messages {
		blocks, fail := t.read(i, c.version)
		if fail != nil {
			return planned{}, fail
		}
		size += len(t.Content)
		if t.Role == "user" {
			text = ""
			for _, b := range blocks {
				text += b.Text
			}
		}
	}
	p := planned{model: known, input: int64(size+3)/4 + 3, stop: "end_turn", stream: m.Stream}
	if p.container, p.skills, fail = s.resources(c, m); fail != nil {
		return planned{}, fail
	}
	if counting {
		return p, nil
	}
	p.code = slices.ContainsFunc(m.Tools, func(t tool) bool { return strings.HasPrefix(t.Type, "code_execution_") })
	p.pieces = strings.SplitAfter(s.opts.Reply(Prompt{Model: known.id, Text: text}), " ")
	if int64(len(p.pieces)) > *m.MaxTokens {
		p.pieces, p.stop = p.pieces[:*m.MaxTokens], "max_tokens"
	}
	return p, nil
}

// read checks one turn and returns its blocks; a string is one text block.
func (t turn) read(i int, version string) ([]block, *apiError) {
	where := fmt.Sprintf("messages.%d", i)
	if t.Role != "user" && t.Role != "assistant" && t.Role != "system" {
		return nil, invalid(where + ".role: must be user, assistant or system")
	}
	var text string
	if json.Unmarshal(t.Content, &text) == nil {
		if text == "" {
			return nil, invalid(where + ".content: must not be empty")
		}
		return []block{{Type: "text", Text: text}}, nil
	}
	var blocks []block
	if json.Unmarshal(t.Content, &blocks) != nil || len(blocks) == 0 {
		return nil, invalid(where + ".content: must be text or a list of blocks")
	}
	for j, b := range blocks {
		at := fmt.Sprintf("%s.content.%d", where, j)
		if b.Type == "" {
			return nil, invalid(at + ".type: Field required")
		}
		if b.Type == "text" && b.Text == "" {
			return nil, invalid(at + ".text: must not be empty")
		}
		if version != Version20261021 {
			continue
		}
		if t.Role == "assistant" && b.Type == "document" {
			return nil, invalid(at + ": document blocks are not accepted in assistant turns")
		}
		if t.Role == "user" && b.Type == "text" && !slices.Contains([]string{"", "null", "[]"}, strings.TrimSpace(string(b.Citations))) {
			return nil, invalid(at + ".citations: not accepted on user text blocks")
		}
	}
	return blocks, nil
}

func (s *Simulator) createMessage(c *call) (reply, *apiError) {
	p, fail := s.plan(c, c.body, false)
	if fail != nil {
		return reply{}, fail
	}
	s.mu.Lock()
	id := s.id("msg_")
	s.work(c, &p)
	s.spend(usageKey{Second: c.now.Unix(), KeyID: c.who.keyID, Workspace: c.who.workspace, Model: p.model.id, Tier: "standard"},
		usageSum{Requests: 1, Input: p.input, Output: int64(len(p.pieces))})
	s.mu.Unlock()
	if !p.stream {
		return reply{json: p.object(id, "standard")}, nil
	}
	return reply{stream: func(w *streamWriter) error { return s.streamMessage(w, id, p) }}, nil
}

func (s *Simulator) countTokens(c *call) (reply, *apiError) {
	p, fail := s.plan(c, c.body, true)
	if fail != nil {
		return reply{}, fail
	}
	return reply{json: map[string]int64{"input_tokens": p.input}}, nil
}
