package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/anthropics/anthropic-sdk-go"
	o1 "github.com/anthropics/anthropic-sdk-go/option"
	v2 "github.com/anthropics/anthropic-sdk-go/v2"
	o2 "github.com/anthropics/anthropic-sdk-go/v2/option"

	"github.com/keywright/keywright/internal/simulator"
)

// TestOfficialSDKs has both majors of the official Go library call through the gateway, unmodified and without repeating, while the key
// changes: messages, streams, token counts and models.
func TestOfficialSDKs(t *testing.T) {
	w := start(t, simulator.Options{}, nil)
	k, id := w.key("primary", simulator.CreateKey{})
	w.swap(Set{Keys: []Key{k}})
	one := v1.NewClient(o1.WithBaseURL(w.url), o1.WithAPIKey("gateway"), o1.WithHTTPClient(w.client), o1.WithMaxRetries(0))
	two := v2.NewClient(o2.WithoutEnvironmentDefaults(), o2.WithBaseURL(w.url), o2.WithAPIKey("gateway"), o2.WithHTTPClient(w.client), o2.WithMaxRetries(0))
	ask1 := v1.MessageNewParams{Model: "claude-haiku-5-5", MaxTokens: 64, Messages: []v1.MessageParam{v1.NewUserMessage(v1.NewTextBlock("hi"))}}
	ask2 := v2.MessageNewParams{Model: "claude-haiku-5-5", MaxTokens: 64, Messages: []v2.MessageParam{v2.NewUserMessage(v2.NewTextBlock("hi"))}}
	calls := map[string]func(ctx context.Context) error{
		"v1 message": func(ctx context.Context) error { _, err := one.Messages.New(ctx, ask1); return err },
		"v2 message": func(ctx context.Context) error { _, err := two.Messages.New(ctx, ask2); return err },
		"v1 models":  func(ctx context.Context) error { _, err := one.Models.List(ctx, v1.ModelListParams{}); return err },
		"v2 models":  func(ctx context.Context) error { _, err := two.Models.List(ctx, v2.ModelListParams{}); return err },
		"v1 count": func(ctx context.Context) error {
			_, err := one.Messages.CountTokens(ctx, v1.MessageCountTokensParams{Model: ask1.Model, Messages: ask1.Messages})
			return err
		},
		"v2 count": func(ctx context.Context) error {
			_, err := two.Messages.CountTokens(ctx, v2.MessageCountTokensParams{Model: ask2.Model, Messages: ask2.Messages})
			return err
		},
		"v1 stream": func(ctx context.Context) error {
			s := one.Messages.NewStreaming(ctx, ask1)
			last := ""
			for s.Next() {
				last = s.Current().Type
			}
			if last != "message_stop" && s.Err() == nil {
				t.Errorf("the stream ended with %q", last)
			}
			return s.Err()
		},
		"v2 stream": func(ctx context.Context) error {
			s := two.Messages.NewStreaming(ctx, ask2)
			last := ""
			for s.Next() {
				last = s.Current().Type
			}
			if last != "message_stop" && s.Err() == nil {
				t.Errorf("the stream ended with %q", last)
			}
			return s.Err()
		},
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served atomic.Int64
	for name, call := range calls {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := call(t.Context()); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				served.Add(1)
			}
		})
	}
	for range 5 {
		from := served.Load()
		w.until("traffic", func() bool { return served.Load() > from+50 || t.Failed() })
		old, oldID := k, id
		k, id = w.key("primary", simulator.CreateKey{})
		w.swap(Set{Keys: []Key{k}})
		w.until("the old key is drained", func() bool { return w.drained(old) || t.Failed() })
		if err := w.sim.SetStatus(oldID, simulator.StatusInactive); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
}

// drained reports whether a key was told to have no more requests.
func (w *world) drained(k Key) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Type == KeyDrained && e.Fields["fingerprint"] == string(k.Value.Fingerprint()) {
			return true
		}
	}
	return false
}
