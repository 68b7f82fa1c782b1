package simulator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keywright/keywright/internal/simulator"
)

func TestMessageValidation(t *testing.T) {
	w := start(t, simulator.Options{})
	id, value := w.key(simulator.CreateKey{})
	msg := func(extra string) string { return strings.Replace(hello, `{"model"`, `{`+extra+`"model"`, 1) }
	turns := func(t string) string { return `{"model":"claude-haiku-5-5","max_tokens":64,"messages":` + t + `}` }
	const v1, v2 = "2023-06-01", "2026-10-21"
	tests := []struct {
		name, version, body string
		status              int
	}{
		{"plain", v2, hello, 200},
		{"unknown fields are let through", v2, msg(`"metadata":{"user_id":"x"},"tools":[],`), 200},
		{"blocks", v2, turns(`[{"role":"user","content":[{"type":"text","text":"hi"}]}]`), 200},
		{"temperature, new version", v2, msg(`"temperature":1,`), 400},
		{"top_p, new version", v2, msg(`"top_p":0.9,`), 400},
		{"top_k, new version", v2, msg(`"top_k":5,`), 400},
		{"temperature null, new version", v2, msg(`"temperature":null,`), 400},
		{"temperature, old version", v1, msg(`"temperature":1,`), 200},
		{"assistant document, new version", v2, turns(`[{"role":"assistant","content":[{"type":"document"}]}]`), 400},
		{"assistant document, old version", v1, turns(`[{"role":"assistant","content":[{"type":"document"}]}]`), 200},
		{"user citations, new version", v2, turns(`[{"role":"user","content":[{"type":"text","text":"x","citations":[{}]}]}]`), 400},
		{"empty user citations, new version", v2, turns(`[{"role":"user","content":[{"type":"text","text":"x","citations":[]}]}]`), 200},
		{"user citations, old version", v1, turns(`[{"role":"user","content":[{"type":"text","text":"x","citations":[{}]}]}]`), 200},
		{"no model", v2, `{"max_tokens":1,"messages":[{"role":"user","content":"x"}]}`, 400},
		{"unknown model", v2, strings.Replace(hello, "haiku-5-5", "none", 1), 404},
		{"retired model", v2, strings.Replace(hello, "claude-haiku-5-5", "claude-3-sonnet-20240229", 1), 404},
		{"no max_tokens", v2, `{"model":"claude-haiku-5-5","messages":[{"role":"user","content":"x"}]}`, 400},
		{"max_tokens 0", v2, strings.Replace(hello, "64", "0", 1), 400},
		{"max_tokens too large", v2, strings.Replace(hello, "64", "640000", 1), 400},
		{"no messages", v2, turns(`[]`), 400},
		{"bad role", v2, turns(`[{"role":"tool","content":"x"}]`), 400},
		{"system turn", v2, turns(`[{"role":"user","content":"x"},{"role":"system","content":"y"},{"role":"user","content":"z"}]`), 200},
		{"empty content", v2, turns(`[{"role":"user","content":""}]`), 400},
		{"empty block", v2, turns(`[{"role":"user","content":[{"type":"text","text":""}]}]`), 400},
		{"block without type", v2, turns(`[{"role":"user","content":[{"text":"x"}]}]`), 400},
		{"no JSON", v2, `hello`, 400},
		{"empty body", v2, ``, 400},
	}
	var billed int64
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := w.want(tt.status, "POST", "/v1/messages?beta=true", value, tt.body, version(tt.version))
			if tt.status == 200 {
				billed++
			} else if kind, _ := a.errorOf(t); tt.status == 404 && kind != "not_found_error" || tt.status == 400 && kind != "invalid_request_error" {
				t.Errorf("error.type %q", kind)
			}
		})
	}
	if got := w.RequestsOf(id); got != billed {
		t.Errorf("%d billed requests, want %d: refused calls must leave no usage", got, billed)
	}
	w.want(413, "POST", "/v1/messages", value, strings.Repeat("x", 32<<20+1))
	a := w.want(400, "POST", "/v1/messages", value, hello, header("Content-Encoding", "gzip"))
	if _, code := a.errorOf(t); code != "request_body_encoding_unsupported" {
		t.Errorf("error_code %q", code)
	}
}

func TestMessageReply(t *testing.T) {
	w := start(t, simulator.Options{Reply: func(p simulator.Prompt) string { return "you said " + p.Text }})
	_, value := w.key(simulator.CreateKey{})
	got := w.want(200, "POST", "/v1/messages", value, hello).json(t)
	if id, _ := got["id"].(string); !strings.HasPrefix(id, "msg_01") {
		t.Errorf("id %q", id)
	}
	usage := got["usage"].(map[string]any)
	if got["stop_reason"] != "end_turn" || got["role"] != "assistant" || got["model"] != "claude-haiku-5-5" || usage["output_tokens"] != 3.0 || usage["input_tokens"].(float64) < 1 {
		t.Errorf("message: %v", got)
	}
	if d := cmp.Diff([]any{map[string]any{"type": "text", "text": "you said hello"}}, got["content"]); d != "" {
		t.Error(d)
	}
	short := w.want(200, "POST", "/v1/messages", value, strings.Replace(hello, "64", "2", 1)).json(t)
	if short["stop_reason"] != "max_tokens" || short["usage"].(map[string]any)["output_tokens"] != 2.0 {
		t.Errorf("short message: %v", short)
	}
	count := w.want(200, "POST", "/v1/messages/count_tokens", value, strings.Replace(hello, `"max_tokens":64,`, "", 1)).json(t)
	if count["input_tokens"] != usage["input_tokens"] {
		t.Errorf("count_tokens says %v, the message used %v", count["input_tokens"], usage["input_tokens"])
	}
	w.want(400, "POST", "/v1/messages/count_tokens", value, `{"model":"claude-haiku-5-5"}`)
}

// events splits a stream into names and data.
func events(t *testing.T, body []byte) (names []string, data []map[string]any) {
	t.Helper()
	for _, e := range strings.Split(strings.TrimSuffix(string(body), "\n\n"), "\n\n") {
		name, raw, ok := strings.Cut(e, "\n")
		if !ok {
			t.Fatalf("malformed event %q", e)
		}
		var v map[string]any
		if err := json.Unmarshal([]byte(strings.TrimPrefix(raw, "data: ")), &v); err != nil {
			v = nil
		}
		names, data = append(names, strings.TrimPrefix(name, "event: ")), append(data, v)
	}
	return names, data
}

func TestStream(t *testing.T) {
	w := start(t, simulator.Options{Reply: func(simulator.Prompt) string { return "one two three" }})
	id, value := w.key(simulator.CreateKey{})
	body := strings.Replace(hello, `"max_tokens"`, `"stream":true,"max_tokens"`, 1)
	a := w.want(200, "POST", "/v1/messages", value, body)
	if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Errorf("content type %q", got)
	}
	names, data := events(t, a.body)
	want := []string{"message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
	if d := cmp.Diff(want, names); d != "" {
		t.Fatal(d)
	}
	text := ""
	for i, d := range data {
		if d["type"] != names[i] {
			t.Errorf("event %s has type %v", names[i], d["type"])
		}
		if names[i] == "content_block_delta" {
			text += d["delta"].(map[string]any)["text"].(string)
		}
	}
	end := data[7]
	if text != "one two three" || end["usage"].(map[string]any)["output_tokens"] != 3.0 || end["delta"].(map[string]any)["stop_reason"] != "end_turn" {
		t.Errorf("text %q, end %v", text, end)
	}
	if w.RequestsOf(id) != 1 {
		t.Error("the stream was not billed once")
	}

	f := w.Fail(simulator.Fault{Path: "/v1/messages", Kind: simulator.FaultStreamError, Status: 529, Message: "Overloaded", After: 1, Times: 1})
	names, data = events(t, w.want(200, "POST", "/v1/messages", value, body).body)
	last := data[len(data)-1]
	if names[len(names)-1] != "error" || names[len(names)-2] != "content_block_delta" || last["error"].(map[string]any)["type"] != "overloaded_error" {
		t.Errorf("events %v, last %v", names, last)
	}
	if f.Hits() != 1 {
		t.Errorf("hits %d", f.Hits())
	}
	w.Fail(simulator.Fault{Kind: simulator.FaultStreamError, Times: 1})
	if names, _ = events(t, w.want(200, "POST", "/v1/messages", value, body).body); names[len(names)-2] != "ping" {
		t.Errorf("error before the first delta: events %v", names)
	}
	w.Fail(simulator.Fault{Kind: simulator.FaultCutBody, Times: 1})
	if a := w.do("POST", "/v1/messages", value, body); a.err == nil || !strings.Contains(string(a.body), "content_block_delta") || strings.Contains(string(a.body), "message_stop") {
		t.Errorf("cut stream: %v %s", a.err, a.body)
	}
	w.Fail(simulator.Fault{Kind: simulator.FaultGarbageBody, Times: 1})
	if a := w.do("POST", "/v1/messages", value, body); !strings.Contains(string(a.body), "not json") {
		t.Errorf("garbage stream: %v %s", a.err, a.body)
	}
	w.Fail(simulator.Fault{Kind: simulator.FaultDropAfter, Times: 1})
	if a := w.do("POST", "/v1/messages", value, body); a.err == nil || a.status != 0 {
		t.Errorf("dropped stream: %v %d", a.err, a.status)
	}
	w.Fail(simulator.Fault{Kind: simulator.FaultReplyAfter, Status: 504, Times: 1})
	if a := w.want(504, "POST", "/v1/messages", value, body); !strings.Contains(string(a.body), "timeout_error") {
		t.Errorf("reply after: %s", a.body)
	}
}

func TestLongStreamHasPings(t *testing.T) {
	w := start(t, simulator.Options{Reply: func(simulator.Prompt) string { return strings.Repeat("word ", 120) }})
	_, value := w.key(simulator.CreateKey{})
	body := strings.Replace(strings.Replace(hello, "64", "500", 1), `"max_tokens"`, `"stream":true,"max_tokens"`, 1)
	names, _ := events(t, w.want(200, "POST", "/v1/messages", value, body).body)
	pings := 0
	for _, n := range names {
		if n == "ping" {
			pings++
		}
	}
	if pings != 3 {
		t.Errorf("%d pings, want 3", pings)
	}
}

func TestRateLimits(t *testing.T) {
	w := start(t, simulator.Options{})
	ws := w.AddWorkspace("small").ID
	id, value := w.key(simulator.CreateKey{Workspace: ws})
	_, other := w.key(simulator.CreateKey{})
	w.SetRateLimit(ws, 2)
	w.clock.Add(20 * time.Second)
	for i := range 2 {
		a := w.want(200, "POST", "/v1/messages", value, hello)
		if got := a.header.Get("anthropic-ratelimit-requests-remaining"); got != fmt.Sprint(1-i) {
			t.Errorf("remaining %q after %d requests", got, i+1)
		}
		if got := a.header.Get("anthropic-ratelimit-requests-limit"); got != "2" {
			t.Errorf("limit %q", got)
		}
	}
	a := w.want(429, "POST", "/v1/messages", value, hello)
	if a.header.Get("retry-after") != "40" || a.header.Get("anthropic-ratelimit-requests-reset") != "2026-11-20T10:01:00Z" {
		t.Errorf("retry-after %q, reset %q", a.header.Get("retry-after"), a.header.Get("anthropic-ratelimit-requests-reset"))
	}
	w.want(200, "GET", "/v1/models", value, "")
	w.want(200, "POST", "/v1/messages", other, hello)
	if got := w.RequestsOf(id); got != 2 {
		t.Errorf("%d billed, want 2", got)
	}
	w.clock.Add(40 * time.Second)
	w.want(200, "POST", "/v1/messages", value, hello)
	w.SetRateLimit("", 1)
	w.want(429, "POST", "/v1/messages", other, hello)
	w.SetRateLimit("", 0)
	w.want(200, "POST", "/v1/messages", other, hello)
}

func TestBatches(t *testing.T) {
	w := start(t, simulator.Options{BatchDuration: time.Minute})
	id, value := w.key(simulator.CreateKey{})
	_, foreign := w.key(simulator.CreateKey{Workspace: w.AddWorkspace("other").ID})
	item := func(custom string) string { return `{"custom_id":"` + custom + `","params":` + hello + `}` }
	create := func() string {
		return w.want(200, "POST", "/v1/messages/batches", value, `{"requests":[`+item("a")+`,`+item("b")+`]}`).json(t)["id"].(string)
	}
	one := create()
	path := "/v1/messages/batches/" + one
	got := w.want(200, "GET", path, value, "").json(t)
	if got["processing_status"] != "in_progress" || got["results_url"] != nil || got["request_counts"].(map[string]any)["processing"] != 2.0 {
		t.Errorf("batch: %v", got)
	}
	w.want(404, "GET", path, foreign, "")
	w.want(404, "GET", path+"/results", value, "")
	w.want(400, "DELETE", path, value, "")
	if w.RequestsOf(id) != 0 {
		t.Error("an unfinished batch was billed")
	}
	w.clock.Add(time.Minute)
	got = w.want(200, "GET", path, value, "").json(t)
	if got["processing_status"] != "ended" || got["results_url"] != w.url+path+"/results" || got["request_counts"].(map[string]any)["succeeded"] != 2.0 {
		t.Errorf("batch: %v", got)
	}
	lines := strings.Split(strings.TrimSpace(string(w.want(200, "GET", path+"/results", value, "").body)), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"custom_id":"a"`) || !strings.Contains(lines[1], `"type":"succeeded"`) {
		t.Errorf("results: %q", lines)
	}
	if w.RequestsOf(id) != 2 {
		t.Errorf("%d billed, want 2", w.RequestsOf(id))
	}
	two := create()
	if got := w.want(200, "POST", "/v1/messages/batches/"+two+"/cancel", value, "").json(t); got["processing_status"] != "canceling" {
		t.Errorf("canceled batch: %v", got)
	}
	w.clock.Add(time.Minute)
	if body := w.want(200, "GET", "/v1/messages/batches/"+two+"/results", value, "").body; strings.Count(string(body), `"canceled"`) != 2 {
		t.Errorf("results of a canceled batch: %s", body)
	}
	if w.RequestsOf(id) != 2 {
		t.Error("a canceled batch was billed")
	}
	if got := list(t, w.want(200, "GET", "/v1/messages/batches", value, "")); len(got) != 2 || got[0]["id"] != two {
		t.Errorf("list: %v", got)
	}
	if got := list(t, w.want(200, "GET", "/v1/messages/batches", foreign, "")); len(got) != 0 {
		t.Errorf("list in another workspace: %v", got)
	}
	w.want(200, "DELETE", path, value, "")
	w.want(404, "GET", path, value, "")
	for _, bad := range []string{
		`{"requests":[]}`, `{}`, `{"requests":[` + item("a") + `,` + item("a") + `]}`, `{"requests":[{"params":` + hello + `}]}`,
		`{"requests":[{"custom_id":"a","params":` + strings.Replace(hello, "{", `{"top_k":1,`, 1) + `}]}`,
	} {
		w.want(400, "POST", "/v1/messages/batches", value, bad)
	}
}
