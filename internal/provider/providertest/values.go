package providertest

import (
	"context"
	"slices"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// question is one way to ask about a value.
type question struct {
	name string
	ask  func(ctx context.Context, v secret.Value) (provider.Verdict, error)
}

func questions(p provider.Provider) []question {
	all := []question{{"Inspect", p.Inspect}}
	if t, ok := p.(provider.Tester); ok {
		all = append(all, question{"Count", t.Count}, question{"Message", t.Message})
	}
	return all
}

func live(x *run) {
	p := x.provider()
	for _, workspace := range x.peer.Workspaces {
		_, v := x.keyIn(workspace)
		for _, q := range questions(p) {
			got, err := q.ask(x.Context(), v)
			x.record(got, err)
			if err != nil || got.Answer != provider.Live {
				x.Errorf("%s: %+v, %v", q.name, got, err)
			}
			if got.Organization != x.peer.Organization || got.Workspace != workspace {
				x.Errorf("%s: organization %q and workspace %q, want %q and %q", q.name, got.Organization, got.Workspace, x.peer.Organization, workspace)
			}
			if got.RequestID == "" || got.Date.IsZero() || got.Reason == "" || got.Status == 0 {
				x.Errorf("%s: request id, date, reason or status is missing: %+v", q.name, got)
			}
		}
	}
}

func dead(x *run) {
	p := x.provider()
	foreign := secrettest.Fake(x.TB)
	x.values = append(x.values, foreign)
	for _, q := range questions(p) {
		got, err := q.ask(x.Context(), foreign)
		x.record(got, err)
		if err != nil || got.Answer != provider.Dead {
			x.Errorf("%s of an unknown value: %+v, %v", q.name, got, err)
		}
	}
	setter := ability[provider.StatusSetter](x, p)
	id, v := x.key()
	if _, err := setter.SetStatus(x.Context(), id, provider.Inactive); err != nil {
		x.Fatalf("SetStatus: %v", err)
	}
	x.settle()
	for _, q := range questions(p) {
		got, err := q.ask(x.Context(), v)
		x.record(got, err)
		if err != nil || got.Answer != provider.Dead {
			x.Errorf("%s of an inactive value: %+v, %v", q.name, got, err)
		}
	}
	if _, err := p.Inspect(x.Context(), secret.Value{}); !fault.Is(err, fault.Invalid) {
		x.Errorf("Inspect of no value: %v", err)
	}
}

func refusals(x *run) {
	p := x.provider()
	_, v := x.key()
	for _, r := range x.peer.Refusals {
		disarm := r.Arm()
		for _, q := range questions(p) {
			got, err := q.ask(x.Context(), v)
			x.record(got, err)
			if err != nil || got.Answer != r.Want {
				x.Errorf("%s, %s: %+v, %v, want %s", r.Name, q.name, got, err, r.Want)
			}
			if got.RetryAfter != r.RetryAfter {
				x.Errorf("%s, %s: retry after %v, want %v", r.Name, q.name, got.RetryAfter, r.RetryAfter)
			}
			if got.Reason == "" {
				x.Errorf("%s, %s: no reason", r.Name, q.name)
			}
		}
		disarm()
	}
	if got := x.inspect(p, v); got.Answer != provider.Live {
		x.Errorf("afterwards: %+v", got)
	}
}

func freeOfUsage(x *run) {
	p := x.provider()
	id, v := x.key()
	for _, q := range questions(p) {
		if q.name == "Message" {
			continue
		}
		if _, err := q.ask(x.Context(), v); err != nil {
			x.Fatalf("%s: %v", q.name, err)
		}
	}
	if n := x.peer.Requests(id); n != 0 {
		x.Errorf("asking used the key %d times", n)
	}
	if t, ok := p.(provider.Tester); ok {
		if _, err := t.Message(x.Context(), v); err != nil {
			x.Fatalf("Message: %v", err)
		}
		if n := x.peer.Requests(id); n != 1 {
			x.Errorf("a message used the key %d times", n)
		}
	}
}

func hints(x *run) {
	p := x.provider()
	lister := ability[provider.Lister](x, p)
	values := map[string]secret.Value{}
	for range 5 {
		id, v := x.key()
		values[id] = v
	}
	keys, err := lister.List(x.Context(), "")
	x.record(keys, err)
	if err != nil {
		x.Fatalf("List: %v", err)
	}
	found := 0
	for _, k := range keys {
		if _, ours := values[k.ID]; !ours {
			continue
		}
		found++
		for id, v := range values {
			if k.Matches(v) != (id == k.ID) {
				x.Errorf("record %s: Matches = %v for the value of %s", k.ID, k.Matches(v), id)
			}
		}
	}
	if found != len(values) {
		x.Errorf("the list has %d of %d keys", found, len(values))
	}
}

func cancelled(x *run) {
	p := x.provider()
	_, v := x.key()
	ctx, cancel := context.WithCancel(x.Context())
	cancel()
	for _, q := range questions(p) {
		got, err := q.ask(ctx, v)
		x.record(got, err)
		if !fault.Is(err, fault.Canceled) {
			x.Errorf("%s: %+v, %v", q.name, got, err)
		}
	}
	for name, call := range calls(p) {
		err := call(ctx)
		x.record(err)
		if !fault.Is(err, fault.Canceled) {
			x.Errorf("%s: %v", name, err)
		}
	}
}

// calls gives every ability that takes no value, by name.
func calls(p provider.Provider) map[string]func(context.Context) error {
	all := map[string]func(context.Context) error{}
	now := time.Now()
	if a, ok := p.(provider.Lister); ok {
		all["List"] = func(ctx context.Context) error { _, err := a.List(ctx, ""); return err }
	}
	if a, ok := p.(provider.StatusSetter); ok {
		all["SetStatus"] = func(ctx context.Context) error {
			_, err := a.SetStatus(ctx, "apikey_01EXAMPLE", provider.Inactive)
			return err
		}
	}
	if a, ok := p.(provider.UsageReporter); ok {
		all["Usage"] = func(ctx context.Context) error {
			_, err := a.Usage(ctx, provider.UsageQuery{IDs: []string{"apikey_01EXAMPLE"}, From: now.Add(-time.Hour), To: now})
			return err
		}
	}
	if a, ok := p.(provider.CostReporter); ok {
		all["Cost"] = func(ctx context.Context) error {
			_, err := a.Cost(ctx, provider.UsageQuery{IDs: []string{"apikey_01EXAMPLE"}, From: now.Add(-time.Hour), To: now})
			return err
		}
	}
	if a, ok := p.(provider.ActivityReporter); ok {
		all["Activities"] = func(ctx context.Context) error { _, err := a.Activities(ctx, now.Add(-time.Hour)); return err }
	}
	if a, ok := p.(provider.Organizer); ok {
		all["Organization"] = func(ctx context.Context) error { _, _, err := a.Organization(ctx); return err }
	}
	if a, ok := p.(provider.Clock); ok {
		all["Clock"] = func(ctx context.Context) error { _, err := a.Clock(ctx); return err }
	}
	return all
}

// adminAbilities are those that need an admin key.
func adminAbilities() []string {
	return []string{"List", "SetStatus", "Usage", "Cost", "Activities", "Organization"}
}

func abilities(x *run) {
	without := x.h.Connect(x.TB, Connection{BaseURL: x.peer.URL, Timeout: time.Minute, Log: x.log})
	for name := range calls(without) {
		if slices.Contains(adminAbilities(), name) {
			x.Errorf("without an admin key there is %s", name)
		}
	}
	for name, call := range calls(x.provider()) {
		err := call(x.Context())
		x.record(err)
		// The key of SetStatus does not exist; everything else must work.
		if err != nil && (name != "SetStatus" || !fault.Is(err, fault.NotFound)) {
			x.Errorf("%s: %v", name, err)
		}
	}
}
