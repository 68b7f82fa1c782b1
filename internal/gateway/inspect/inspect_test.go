package inspect

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/keywright/keywright/internal/gateway/object"
)

func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`,
		`{"model":"claude-haiku-5-5","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hello"}]}`,
		`{"a":[1,"x",{"b":null}],"model":"m"}`, `{"model":"a\"b","max_tokens":1e3}`, `{"a":"\\"}`,
	} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, body []byte, cut int) {
		whole := New(false)
		_, _ = whole.Write(body)
		parts := New(false)
		if cut = max(cut, 1); cut > len(body) {
			cut = len(body)
		}
		_, _ = parts.Write(body[:cut])
		_, _ = parts.Write(body[cut:])
		if whole.Problem() != parts.Problem() || whole.Model != parts.Model || whole.Stream != parts.Stream || whole.Sticky != parts.Sticky || whole.Varied != parts.Varied || whole.Server != parts.Server || !maps.Equal(whole.Named, parts.Named) || whole.MaxTokens != parts.MaxTokens {
			t.Fatalf("in pieces it reads otherwise: %+v, %+v", whole, parts)
		}
		if whole.Problem() != "" {
			return
		}
		var ref map[string]any
		if err := json.Unmarshal(body, &ref); err != nil {
			return // looser than a parser in the inside of strings, and never about names
		}
		if m, ok := ref["model"].(string); ok && len(m) < maxString/6 && m != whole.Model {
			t.Fatalf("model %q, want %q", whole.Model, m)
		}
		if s, ok := ref["stream"].(bool); ok && s != whole.Stream {
			t.Fatalf("stream %v, want %v", whole.Stream, s)
		}
	})
}

// FuzzNamedObjects: whatever a body looks like, no id of a file that a parser finds outside of a tool's own data is missed, alone or in a batch, and
// a body is read alike in one piece and in two.
func FuzzNamedObjects(f *testing.F) {
	for _, s := range []string{
		`{"model":"m","max_tokens":64,"messages":[{"role":"user","content":[{"type":"document","source":{"file_id":"file_1"}}]}]}`,
		`{"requests":[{"custom_id":"c0","params":{"model":"m","max_tokens":64,"messages":[{"role":"user","content":"hello"}]}},` +
			`{"custom_id":"c1","params":{"container":{"id":"c","skills":[{"skill_id":"s","type":"anthropic"}]},"model":"m","max_tokens":64,"messages":[]}}]}`,
		`{"tools":[{"input_schema":{"file_id":"x"}}],"model":"m","max_tokens":64,"messages":[]}`,
		`{"model":"m","max_tokens":64,"messages":[{"role":"user","content":[{"type":"tool_use","input":{"a":{"file_id":"f"}}},{"file\u005fid":"g"}]}]}`,
		`{"a":[["file_id"],{"file_id":"\u0066"}]}`,
	} {
		f.Add([]byte(s), 9, true)
		f.Add([]byte(s), 40, false)
	}
	f.Fuzz(func(t *testing.T, body []byte, cut int, batch bool) {
		one, two := New(batch), New(batch)
		_, _ = one.Write(body)
		cut = min(max(cut, 0), len(body))
		_, _ = two.Write(body[:cut])
		_, _ = two.Write(body[cut:])
		if one.Problem() != two.Problem() || one.Odd != two.Odd || !maps.Equal(one.Named, two.Named) || len(one.Items) != len(two.Items) {
			t.Fatalf("in pieces it reads otherwise: %+v, %+v", one, two)
		}
		var v any
		if one.Problem() != "" || json.Unmarshal(body, &v) != nil {
			return
		}
		var walk func(v any)
		walk = func(v any) {
			switch v := v.(type) {
			case []any:
				for _, e := range v {
					walk(e)
				}
			case map[string]any:
				for k, e := range v {
					if id, ok := e.(string); ok && k == "file_id" && !one.Odd {
						if _, found := one.Named[object.Name{Kind: object.File, ID: id}]; !found {
							t.Fatalf("%q is not seen", id)
						}
					}
					if k != "input" && k != "input_schema" && k != "input_examples" && k != "schema" {
						walk(e)
					}
				}
			}
		}
		walk(v)
	})
}

// TestVaried: only what is known to be answered alike each time is not varied.
func TestVaried(t *testing.T) {
	for body, want := range map[string]bool{
		`{"model":"m","max_tokens":64,"messages":[{"role":"user","content":"hello"}]}`:                           true,
		`{"model":"m","messages":[],"temperature":0}`:                                                            true,
		`{"model":"m","messages":[],"temperature":0.0,"metadata":{"user_id":"u"}}`:                               true,
		`{"model":"m","messages":[],"temperature":1}`:                                                            false,
		`{"model":"m","messages":[],"temperature":null}`:                                                         false,
		`{"model":"m","messages":[],"thinking":{"type":"adaptive"}}`:                                             false,
		`{"model":"m","messages":[],"container":"c"}`:                                                            false,
		`{"model":"m","messages":[],"something_new":1}`:                                                          false,
		`{"model":"m","messages":[{"role":"assistant","content":[{"type":"redacted_thinking","data":"x"}]}]}`:    false,
		`{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t"}]}]}`:        false,
		`{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64"}}]}]}`:     true,
		`{"model":"m","messages":[],"tools":[{"name":"n"}]}`:                                                     false,
		`{"model":"m","messages":[],"temperature":0,"temperature":1}`:                                            false,
		`{"model":"m","messages":[],"temperature":1,"temperature":0}`:                                            false,
		`{"model":"m","messages":[],"temperature":"0"}`:                                                          false,
		`{"model":"m","messages":[],"temperature":[0]}`:                                                          false,
		`{"model":"m","messages":[],"temperature":{"type":"text"},"top_p":0}`:                                    false,
		`{"temperature":0,"something_new":1}`:                                                                    false,
		`{"model":"m","messages":[{"role":"user","content":[{"type":"tool\u005fresult"}]}]}`:                     false,
		`{"model":"m","messages":[{"role":"user","content":"it is about a tool_result and of thinking"}]}`:       true,
		`{"model":"m","system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}],"messages":[]}`: true,
	} {
		b := New(false)
		if _, _ = b.Write([]byte(body)); b.Problem() != "" || b.Varied == want {
			t.Errorf("%s: %q, varied %v", body, b.Problem(), b.Varied)
		}
	}
}
