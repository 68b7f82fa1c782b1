package anthropic_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/provider/anthropic"
	"github.com/keywright/keywright/internal/provider/providertest"
	"github.com/keywright/keywright/internal/secret"
)

// wrong is a provider with mistakes: a function that is not nil takes the place of the method.
type wrong struct {
	*anthropic.Admin
	inspect    func(context.Context, secret.Value) (provider.Verdict, error)
	list       func(context.Context, string) ([]provider.Key, error)
	set        func(context.Context, string, provider.Status) (provider.Key, error)
	usage      func(context.Context, provider.UsageQuery) (provider.Usage, error)
	cost       func(context.Context, provider.UsageQuery) (provider.Cost, error)
	activities func(context.Context, time.Time) ([]provider.Activity, error)
	clock      func(context.Context) (time.Time, error)
}

func (w *wrong) Inspect(ctx context.Context, v secret.Value) (provider.Verdict, error) {
	if w.inspect != nil {
		return w.inspect(ctx, v)
	}
	return w.Admin.Inspect(ctx, v)
}

func (w *wrong) List(ctx context.Context, workspace string) ([]provider.Key, error) {
	if w.list != nil {
		return w.list(ctx, workspace)
	}
	return w.Admin.List(ctx, workspace)
}

func (w *wrong) SetStatus(ctx context.Context, id string, s provider.Status) (provider.Key, error) {
	if w.set != nil {
		return w.set(ctx, id, s)
	}
	return w.Admin.SetStatus(ctx, id, s)
}

func (w *wrong) Usage(ctx context.Context, q provider.UsageQuery) (provider.Usage, error) {
	if w.usage != nil {
		return w.usage(ctx, q)
	}
	return w.Admin.Usage(ctx, q)
}

func (w *wrong) Cost(ctx context.Context, q provider.UsageQuery) (provider.Cost, error) {
	if w.cost != nil {
		return w.cost(ctx, q)
	}
	return w.Admin.Cost(ctx, q)
}

func (w *wrong) Activities(ctx context.Context, since time.Time) ([]provider.Activity, error) {
	if w.activities != nil {
		return w.activities(ctx, since)
	}
	return w.Admin.Activities(ctx, since)
}

func (w *wrong) Clock(ctx context.Context) (time.Time, error) {
	if w.clock != nil {
		return w.clock(ctx)
	}
	return w.Admin.Clock(ctx)
}

// pretender has an ability that never works.
type pretender struct{ provider.Provider }

func (pretender) List(context.Context, string) ([]provider.Key, error) {
	return nil, fault.New(fault.Unsupported, "list keys: no admin key")
}

// judging changes what Inspect says.
func judging(w *wrong, change func(v secret.Value, got *provider.Verdict)) {
	w.inspect = func(ctx context.Context, v secret.Value) (provider.Verdict, error) {
		got, err := w.Admin.Inspect(ctx, v)
		change(v, &got)
		return got, err
	}
}

// mistake is one wrong provider and the rules that must find it.
type mistake struct {
	name  string
	rules []string
	make  func(w *wrong, c providertest.Connection)
}

func mistakes() []mistake {
	return []mistake{
		{"forgets the workspace", []string{"a good value is live and says where it belongs"}, func(w *wrong, _ providertest.Connection) {
			judging(w, func(_ secret.Value, got *provider.Verdict) { got.Workspace = "" })
		}},
		{"never says dead", []string{"an unknown or inactive value is dead", "a status is set, and set again, and takes effect"}, func(w *wrong, _ providertest.Connection) {
			judging(w, func(_ secret.Value, got *provider.Verdict) {
				if got.Answer == provider.Dead {
					got.Answer = provider.Unknown
				}
			})
		}},
		{"takes 403 for dead", []string{"every documented refusal gets its answer"}, func(w *wrong, _ providertest.Connection) {
			judging(w, func(_ secret.Value, got *provider.Verdict) {
				if got.Status == 403 {
					got.Answer = provider.Dead
				}
			})
		}},
		{"believes every 401", []string{"a hostile peer proves nothing about a value"}, func(w *wrong, _ providertest.Connection) {
			judging(w, func(_ secret.Value, got *provider.Verdict) {
				if got.Status == 401 {
					got.Answer = provider.Dead
				}
			})
		}},
		{"inspects by sending a message", []string{"asking leaves no usage"}, func(w *wrong, _ providertest.Connection) { w.inspect = w.Message }},
		{"sets a status in its head alone", []string{"a status is set, and set again, and takes effect", "an unknown or inactive value is dead"}, func(w *wrong, _ providertest.Connection) {
			w.set = func(_ context.Context, id string, s provider.Status) (provider.Key, error) {
				return provider.Key{ID: id, Status: s}, nil
			}
		}},
		{"refuses to set what is set", []string{"a status is set, and set again, and takes effect"}, func(w *wrong, _ providertest.Connection) {
			last := map[string]provider.Status{}
			w.set = func(ctx context.Context, id string, s provider.Status) (provider.Key, error) {
				if last[id] == s {
					return provider.Key{}, fault.New(fault.Conflict, "set key: it is so already")
				}
				last[id] = s
				return w.Admin.SetStatus(ctx, id, s)
			}
		}},
		{"hides the cap", []string{"a status that cannot be set says why"}, func(w *wrong, _ providertest.Connection) {
			w.set = func(ctx context.Context, id string, s provider.Status) (provider.Key, error) {
				k, err := w.Admin.SetStatus(ctx, id, s)
				if fault.Is(err, fault.Forbidden) {
					err = fault.New(fault.Invalid, "set key: refused")
				}
				return k, err
			}
		}},
		{"drops the hints", []string{"hints match their own value alone"}, func(w *wrong, _ providertest.Connection) {
			w.list = func(ctx context.Context, workspace string) ([]provider.Key, error) {
				keys, err := w.Admin.List(ctx, workspace)
				for i := range keys {
					keys[i].Hint = provider.Hint{}
				}
				return keys, err
			}
		}},
		{"reads one page", []string{"a list is whole and by workspace"}, func(w *wrong, _ providertest.Connection) {
			w.list = func(ctx context.Context, workspace string) ([]provider.Key, error) {
				keys, err := w.Admin.List(ctx, workspace)
				return keys[:min(len(keys), 1000)], err
			}
		}},
		{"claims to be fresh", []string{"usage is counted per key and says how fresh it is", "usage falls back to the older source"}, func(w *wrong, _ providertest.Connection) {
			w.usage = func(ctx context.Context, q provider.UsageQuery) (provider.Usage, error) {
				u, err := w.Admin.Usage(ctx, q)
				u.FreshTo = q.To
				return u, err
			}
		}},
		{"charges the whole hour", []string{"cost is counted per key and says how fresh it is"}, func(w *wrong, _ providertest.Connection) {
			w.cost = func(ctx context.Context, q provider.UsageQuery) (provider.Cost, error) {
				if q.To.After(q.From) {
					q.To = q.To.Add(time.Hour)
				}
				return w.Admin.Cost(ctx, q)
			}
		}},
		{"gives the newest activity first", []string{"activities come oldest first"}, func(w *wrong, _ providertest.Connection) {
			w.activities = func(ctx context.Context, since time.Time) ([]provider.Activity, error) {
				all, err := w.Admin.Activities(ctx, since)
				slices.Reverse(all)
				return all, err
			}
		}},
		{"reads its own clock", []string{"organization and clock are the provider's"}, func(w *wrong, _ providertest.Connection) {
			w.clock = func(context.Context) (time.Time, error) { return time.Now(), nil }
		}},
		{"does not stop", []string{"a cancelled call says so"}, func(w *wrong, _ providertest.Connection) {
			w.inspect = func(ctx context.Context, v secret.Value) (provider.Verdict, error) {
				return w.Admin.Inspect(context.WithoutCancel(ctx), v)
			}
		}},
		{"takes an error for an empty list", []string{"a hostile peer never passes for an answer"}, func(w *wrong, _ providertest.Connection) {
			w.list = func(ctx context.Context, workspace string) ([]provider.Key, error) {
				keys, err := w.Admin.List(ctx, workspace)
				if !fault.Is(err, fault.Canceled) {
					err = nil
				}
				return keys, err
			}
		}},
		{"follows redirects", []string{"no redirect is followed"}, func(w *wrong, c providertest.Connection) {
			w.inspect = func(ctx context.Context, v secret.Value) (provider.Verdict, error) {
				req, err := http.NewRequestWithContext(ctx, "GET", c.BaseURL+"/v1/models", nil)
				if err != nil {
					return provider.Verdict{}, err
				}
				req.Header.Set("x-api-key", v.RevealString())
				res, err := http.DefaultClient.Do(req)
				if err == nil {
					res.Body.Close()
				}
				return provider.Verdict{Answer: provider.Unknown, Reason: "none"}, nil
			}
		}},
		{"quotes the value", []string{"a peer that repeats the value does not make it leak", "an unknown or inactive value is dead"}, func(w *wrong, _ providertest.Connection) {
			judging(w, func(v secret.Value, got *provider.Verdict) { got.Reason = "refused: " + v.RevealString() })
		}},
		{"logs half of the value", []string{"a peer that repeats the value does not make it leak"}, func(w *wrong, c providertest.Connection) {
			judging(w, func(v secret.Value, _ *provider.Verdict) { c.Log.Debug("asked", "value", v.RevealString()[v.Len()/2:]) })
		}},
	}
}

// TestEveryRuleCanFail runs wrong providers: each must break its rules, and each rule must be broken by one.
func TestEveryRuleCanFail(t *testing.T) {
	broken := map[string]bool{}
	for _, m := range mistakes() {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			h := harness()
			h.Connect = func(tb testing.TB, c providertest.Connection) provider.Provider {
				p := connect(tb, c)
				admin, ok := p.(*anthropic.Admin)
				if !ok {
					return p
				}
				w := &wrong{Admin: admin}
				m.make(w, c)
				return w
			}
			for _, rule := range m.rules {
				if !providertest.Breaks(t, rule, h) {
					t.Errorf("the rule %q does not notice", rule)
				}
				broken[rule] = true
			}
		})
	}
	t.Run("pretends-abilities", func(t *testing.T) {
		h := harness()
		h.Connect = func(tb testing.TB, c providertest.Connection) provider.Provider {
			if p := connect(tb, c); c.Admin.IsZero() {
				return pretender{p}
			} else {
				return p
			}
		}
		const rule = "abilities are those that work"
		if !providertest.Breaks(t, rule, h) {
			t.Errorf("the rule %q does not notice", rule)
		}
		broken[rule] = true
	})
	for _, rule := range providertest.Rules() {
		if !broken[rule] {
			t.Errorf("no wrong provider breaks the rule %q", rule)
		}
	}
	if rule := providertest.Rules()[0]; providertest.Breaks(t, rule, harness()) {
		t.Errorf("the right provider breaks %q", rule)
	}
}
