package anthropic

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/httpx"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret"
)

// Inspect asks for one entry of the list of models, which is free and leaves no usage.
func (k *Keys) Inspect(ctx context.Context, v secret.Value) (provider.Verdict, error) {
	return k.ask(ctx, v, httpx.Request{Path: "/v1/models", Query: url.Values{"limit": {"1"}}}, func(r httpx.Reply) bool {
		var list struct {
			Data *[]any `json:"data"`
		}
		return r.Decode(&list) == nil && list.Data != nil
	})
}

// turn is one turn of a conversation.
type turn struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// smoke is the smallest body of count_tokens and messages. It has no sampling parameters, which the version refuses.
type smoke struct {
	Model     string `json:"model"`
	MaxTokens int    `json:"max_tokens,omitempty"`
	Messages  []turn `json:"messages"`
}

// maxTokens leaves room for the model to think before it answers.
const maxTokens = 64

// Count asks for a token count. When the model is unknown to the provider, it asks once more with the cheapest active one.
func (k *Keys) Count(ctx context.Context, v secret.Value) (provider.Verdict, error) {
	return k.try(ctx, v, "/v1/messages/count_tokens", 0, func(r httpx.Reply) bool {
		var count struct {
			InputTokens *int64 `json:"input_tokens"`
		}
		return r.Decode(&count) == nil && count.InputTokens != nil
	})
}

// Message sends the smallest message. When the model is unknown to the provider, it asks once more with the cheapest active one.
func (k *Keys) Message(ctx context.Context, v secret.Value) (provider.Verdict, error) {
	return k.try(ctx, v, "/v1/messages", maxTokens, func(r httpx.Reply) bool { return r.Word("type", "message") != "" })
}

func (k *Keys) try(ctx context.Context, v secret.Value, path string, limit int, proof func(httpx.Reply) bool) (provider.Verdict, error) {
	send := func(model string) (provider.Verdict, error) {
		return k.ask(ctx, v, httpx.Request{Method: "POST", Path: path, JSON: smoke{
			Model: model, MaxTokens: limit, Messages: []turn{{Role: "user", Content: "Reply with the word OK."}},
		}}, proof)
	}
	verdict, err := send(k.model)
	if err != nil || verdict.Status != 404 || verdict.Type != "not_found_error" {
		return verdict, err
	}
	other := k.cheapest(ctx, v)
	switch {
	case ctx.Err() != nil:
		return provider.Verdict{}, fault.In(ctx.Err(), "list models")
	case other == "" || other == k.model:
		return verdict, nil
	}
	return send(other)
}

// ask sends a request with the value and judges the reply.
func (k *Keys) ask(ctx context.Context, v secret.Value, r httpx.Request, proof func(httpx.Reply) bool) (provider.Verdict, error) {
	reply, err := k.fetch(ctx, v, r)
	if err != nil && reply.Status == 0 {
		if ctx.Err() != nil {
			return provider.Verdict{}, fault.In(ctx.Err(), "ask about "+string(v.Fingerprint()))
		}
		if fault.Is(err, fault.Invalid) {
			return provider.Verdict{}, fault.In(err, "ask about the value")
		}
	}
	return judge(reply, err, proof), nil
}

func (k *Keys) fetch(ctx context.Context, v secret.Value, r httpx.Request) (httpx.Reply, error) {
	r.Header, r.Auth = versionHeader(), httpx.Header("x-api-key", v)
	return k.http.Do(ctx, r)
}

// cheapest gives the id of the cheapest active model that the value may see, or "" when that cannot be told. The list has no prices:
// the names of the lines say which are small.
func (k *Keys) cheapest(ctx context.Context, v secret.Value) string {
	type model struct {
		ID        string    `json:"id"`
		Lifecycle string    `json:"lifecycle"`
		CreatedAt time.Time `json:"created_at"`
	}
	var list struct {
		Data []model `json:"data"`
	}
	reply, err := k.fetch(ctx, v, httpx.Request{Path: "/v1/models", Query: url.Values{"limit": {"1000"}}})
	if err != nil || reply.Decode(&list) != nil {
		return ""
	}
	active := slices.DeleteFunc(list.Data, func(m model) bool { return m.Lifecycle != "active" || !modelPattern().MatchString(m.ID) })
	if len(active) == 0 {
		return ""
	}
	size := func(m model) int {
		for i, line := range []string{"haiku", "sonnet"} {
			if strings.Contains(m.ID, line) {
				return i
			}
		}
		return 2
	}
	slices.SortStableFunc(active, func(a, b model) int {
		return cmp.Or(cmp.Compare(size(a), size(b)), b.CreatedAt.Compare(a.CreatedAt))
	})
	return active[0].ID
}

// Clock gives the provider's time from the Date of a reply, with a resolution of one second. It asks without any value; the refusal
// carries the date. Errors: Unavailable, Canceled.
func (k *Keys) Clock(ctx context.Context) (time.Time, error) {
	reply, err := k.http.Do(ctx, httpx.Request{Path: "/v1/models", Query: url.Values{"limit": {"1"}}, Header: versionHeader()})
	switch {
	case !reply.Date.IsZero():
		return reply.Date, nil
	case err != nil && reply.Status == 0:
		return time.Time{}, fault.In(err, "read the provider's clock")
	}
	return time.Time{}, fault.New(fault.Unavailable, "read the provider's clock: the reply has no date")
}

// CloseIdle closes connections that no call uses. The provider stays usable.
func (k *Keys) CloseIdle() { k.http.CloseIdle() }
