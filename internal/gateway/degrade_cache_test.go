package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestCachedAnswers(t *testing.T) {
	inBubble(t, func(o *Options) {
		o.Apps = map[string]App{"a": {Cache: []string{"messages", "models"}}, "b": {Cache: []string{"messages"}}, "poor": {Cache: []string{"messages"}, TokensPerMinute: 200}}
	}, func(b *bubble) {
		t := b.t
		n := 0
		b.answers(func(_ *http.Request, body string) (int, string) {
			n++
			return 200, fmt.Sprintf(`{"n":%d}`, n)
		})
		first := b.want(200, "POST", "/v1/messages", "a", hello)
		if second := b.want(200, "POST", "/v1/messages", "a", hello); second.Body.String() == first.Body.String() || second.Header().Get("Age") != "" {
			t.Error("the cache answered while nothing was degraded")
		}
		last := b.want(200, "POST", "/v1/messages", "a", hello, "Anthropic-Beta", "x").Body.String()
		newest := b.want(200, "POST", "/v1/messages", "a", hello).Body.String()
		models := b.want(200, "GET", "/v1/models?limit=5", "a", "").Body.String()
		b.want(200, "POST", "/v1/messages/count_tokens", "a", hello)
		b.want(200, "POST", "/v1/messages", "c", hello)
		stream := strings.Replace(hello, `"max_tokens"`, `"stream":true,"max_tokens"`, 1)
		tools := strings.Replace(hello, `"max_tokens"`, `"tools":[],"max_tokens"`, 1)
		b.want(200, "POST", "/v1/messages", "a", stream)
		b.want(200, "POST", "/v1/messages", "a", tools)
		b.want(200, "POST", "/v1/messages", "poor", hello)
		calls := len(b.messages())
		<-time.After(3 * time.Second)
		if err := b.g.Declare(t.Context(), "maintenance", time.Time{}); err != nil {
			t.Fatal(err)
		}
		w := b.want(200, "POST", "/v1/messages", "a", hello)
		h := w.Header()
		if w.Body.String() != newest || h.Get("Age") != "3" || !strings.HasPrefix(h.Get("Warning"), "110 ") || h.Get("Content-Type") != "application/json" || h.Get("Request-Id") != "req_1" ||
			h.Get("Anthropic-Organization-Id") != "org" || h.Get("Anthropic-Ratelimit-Requests-Limit") != "" {
			t.Errorf("%s, %v", w.Body, h)
		}
		if w := b.want(200, "POST", "/v1/messages", "a", hello, "Anthropic-Beta", "x"); w.Body.String() != last {
			t.Errorf("%s, want %s", w.Body, last)
		}
		if w := b.want(200, "GET", "/v1/models?limit=5", "a", ""); w.Body.String() != models {
			t.Errorf("%s, want %s", w.Body, models)
		}
		for name, r := range map[string][]string{
			"another app":      {"POST", "/v1/messages", "b", hello},
			"no opt-in":        {"POST", "/v1/messages", "c", hello},
			"another route":    {"POST", "/v1/messages/count_tokens", "a", hello},
			"another body":     {"POST", "/v1/messages", "a", hello + " "},
			"another query":    {"GET", "/v1/models?limit=6", "a", ""},
			"another beta":     {"POST", "/v1/messages", "a", hello, "Anthropic-Beta", "y"},
			"a further header": {"POST", "/v1/messages", "a", hello, "Anthropic-Version", "2024-01-01"},
			"a stream":         {"POST", "/v1/messages", "a", stream},
			"tools":            {"POST", "/v1/messages", "a", tools},
		} {
			if w := b.do(r[0], r[1], r[2], r[3], r[4:]...); w.Code != 503 {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
		// It costs nothing: what was reserved is given back.
		for range 10 {
			b.want(200, "POST", "/v1/messages", "poor", hello)
		}
		if len(b.messages()) != calls {
			t.Error("the provider was asked")
		}
		if m := b.metrics(); !strings.Contains(m, "keywright_gateway_cache_hits_total 13\n") {
			t.Errorf("metrics:\n%s", m)
		}
		// An answer of one workspace is none of another's.
		b.mu.Lock()
		b.domain = domain{"org", "other"}
		b.mu.Unlock()
		b.swap()
		b.want(503, "POST", "/v1/messages", "a", hello)
		b.mu.Lock()
		b.domain = domain{"org", "ws"}
		b.mu.Unlock()
		b.swap()
		b.want(200, "POST", "/v1/messages", "a", hello)
		<-time.After(DefaultCacheTime)
		b.want(503, "POST", "/v1/messages", "a", hello)
	})
}

// TestCacheKeepsWholeAnswersAlone: errors, and answers that broke off or that the caller did not read to their end, are not kept.
func TestCacheKeepsWholeAnswersAlone(t *testing.T) {
	inBubble(t, func(o *Options) { o.Default = App{Cache: []string{"messages"}} }, func(b *bubble) {
		t := b.t
		b.answers(func(*http.Request, string) (int, string) {
			return 400, `{"type":"error","error":{"type":"invalid_request_error"}}`
		})
		b.want(400, "POST", "/v1/messages", "a", hello)
		if n, _ := b.g.cache.Size(); n != 0 {
			t.Error("an error is kept")
		}
		k := &keeping{ReadCloser: io.NopCloser(io.MultiReader(strings.NewReader("half"), broken{errCut})), c: b.g.cache}
		if _, err := io.ReadAll(k); err == nil {
			t.Error("it did not break off")
		}
		if n, _ := b.g.cache.Size(); n != 0 {
			t.Error("half an answer is kept")
		}
	})
}
