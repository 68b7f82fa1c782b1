package providertest

import (
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
)

func status(x *run) {
	p := x.provider()
	setter := ability[provider.StatusSetter](x, p)
	id, v := x.key()
	for _, step := range []struct {
		set  provider.Status
		want provider.Answer
	}{
		{provider.Active, provider.Live}, {provider.Inactive, provider.Dead}, {provider.Inactive, provider.Dead}, {provider.Active, provider.Live},
		{provider.Active, provider.Live}, {provider.Inactive, provider.Dead}, {provider.Archived, provider.Dead}, {provider.Archived, provider.Dead},
	} {
		k, err := setter.SetStatus(x.Context(), id, step.set)
		x.record(k, err)
		if err != nil || k.ID != id || k.Status != step.set || !k.Matches(v) {
			x.Errorf("set %s: %s %s, %v", step.set, k.ID, k.Status, err)
		}
		x.settle()
		if got := x.inspect(p, v); got.Answer != step.want {
			x.Errorf("after %s the value is %s, want %s", step.set, got.Answer, step.want)
		}
	}
}

func statusRefused(x *run) {
	p := x.provider()
	setter := ability[provider.StatusSetter](x, p)
	id, _ := x.key()
	refuse := func(what, id string, s provider.Status, want fault.Kind, words ...string) {
		x.Helper()
		k, err := setter.SetStatus(x.Context(), id, s)
		x.record(k, err)
		if !fault.Is(err, want) {
			x.Errorf("%s: %v (%v), want %v", what, err, fault.KindOf(err), want)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				x.Errorf("%s: %q lacks %q", what, err, w)
			}
		}
	}
	refuse("an unknown id", "apikey_01UNKNOWN", provider.Inactive, fault.NotFound)
	refuse("a malformed id", "../models", provider.Inactive, fault.Invalid)
	refuse("an empty id", "", provider.Inactive, fault.Invalid)
	refuse("a status of the clock", id, provider.Expired, fault.Invalid)
	if x.peer.Cap != nil {
		if _, err := setter.SetStatus(x.Context(), id, provider.Inactive); err != nil {
			x.Fatalf("SetStatus: %v", err)
		}
		x.key()
		x.peer.Cap(1)
		refuse("a reached cap", id, provider.Active, fault.Forbidden, "limit_exceeded")
		x.peer.Cap(0)
	}
	if _, err := setter.SetStatus(x.Context(), id, provider.Archived); err != nil {
		x.Fatalf("SetStatus: %v", err)
	}
	refuse("an archived key", id, provider.Active, fault.Conflict, "archived")
}

func lists(x *run) {
	lister := ability[provider.Lister](x, x.provider())
	want := map[string]bool{}
	for range x.peer.PageSize + 1 {
		// Values of so many keys would make the search for leaks long.
		id, _ := x.peer.NewKey(x.TB, x.peer.Workspaces[0])
		want[id] = true
	}
	other, v := x.keyIn(x.peer.Workspaces[1])
	check := func(workspace string, n int) []provider.Key {
		x.Helper()
		keys, err := lister.List(x.Context(), workspace)
		x.record(err)
		if err != nil {
			x.Fatalf("List(%q): %v", workspace, err)
		}
		seen := map[string]bool{}
		for _, k := range keys {
			if seen[k.ID] {
				x.Errorf("List(%q): %s stands there twice", workspace, k.ID)
			}
			seen[k.ID] = true
			if !want[k.ID] && k.ID != other {
				x.Errorf("List(%q): nobody made %s", workspace, k.ID)
			}
			if workspace != "" && k.Workspace != workspace {
				x.Errorf("List(%q): %s is of %q", workspace, k.ID, k.Workspace)
			}
		}
		if len(keys) != n {
			x.Errorf("List(%q): %d keys, want %d", workspace, len(keys), n)
		}
		return keys
	}
	check("", len(want)+1)
	check(x.peer.Workspaces[0], len(want))
	keys := check(x.peer.Workspaces[1], 1)
	if len(keys) != 1 {
		return
	}
	if k := keys[0]; k.ID != other || !k.Matches(v) || k.Name == "" || k.Status != provider.Active || k.CreatedAt.IsZero() || k.CreatedBy == "" {
		x.Errorf("the record is not whole: %+v", k)
	}
}

// spend sends a message with each of two keys and gives the first's id and what is asked afterwards.
func (x *run) spend(p provider.Provider) (used, idle string, q provider.UsageQuery) {
	x.Helper()
	tester := ability[provider.Tester](x, p)
	used, v := x.key()
	idle, w := x.key()
	from := x.peer.Now()
	if got, err := tester.Message(x.Context(), v); err != nil || got.Answer != provider.Live {
		x.Fatalf("Message: %+v, %v", got, err)
	}
	// Questions that leave no usage must not show up either.
	if _, err := p.Inspect(x.Context(), w); err != nil {
		x.Fatalf("Inspect: %v", err)
	}
	x.peer.Advance(10 * time.Minute)
	return used, idle, provider.UsageQuery{IDs: []string{used, idle}, From: from, To: x.peer.Now()}
}

func (x *run) wantUse(u provider.Usage, used, idle string, q provider.UsageQuery) {
	x.Helper()
	x.record(u)
	if len(u.Seen[used]) != 1 || len(u.Seen) != 1 {
		x.Fatalf("usage is %+v, want one bucket of %s and none of %s", u.Seen, used, idle)
	}
	b := u.Seen[used][0]
	if b.Count < 1 || b.From.After(q.From) || !b.To.After(q.From) || b.To.Sub(b.From) > time.Minute || b.Model == "" {
		x.Errorf("the bucket is %+v, and the message was at %v", b, q.From)
	}
	if !u.NewestBucket.Equal(b.From) {
		x.Errorf("the newest bucket is %v, want %v", u.NewestBucket, b.From)
	}
	if u.Source == "" || u.Counts == "" {
		x.Error("source or what is counted is missing")
	}
}

func usage(x *run) {
	p := x.provider()
	reporter := ability[provider.UsageReporter](x, p)
	used, idle, q := x.spend(p)
	u, err := reporter.Usage(x.Context(), q)
	if err != nil {
		x.Fatalf("Usage: %v", err)
	}
	x.wantUse(u, used, idle, q)
	if u.Counts == "requests" && u.Seen[used][0].Count != 1 {
		x.Errorf("one message counts %d requests", u.Seen[used][0].Count)
	}
	if u.FreshTo.Before(q.To.Add(-time.Minute)) || u.FreshTo.After(x.peer.Now()) {
		x.Errorf("fresh to %v at %v", u.FreshTo, x.peer.Now())
	}
	// A span of more than a day is asked in parts, and nothing is lost at the seams.
	long := q
	long.From = q.From.Add(-50 * time.Hour)
	if u, err := reporter.Usage(x.Context(), long); err != nil {
		x.Errorf("Usage over 50 hours: %v", err)
	} else {
		x.wantUse(u, used, idle, q)
	}
	x.peer.Lag(8 * time.Hour)
	late, err := reporter.Usage(x.Context(), q)
	x.record(late, err)
	if err != nil {
		x.Fatalf("Usage of a late report: %v", err)
	}
	if len(late.Seen) != 0 || !late.NewestBucket.IsZero() {
		x.Errorf("a report that is hours late shows %+v", late.Seen)
	}
	if limit := x.peer.Now().Add(-8 * time.Hour); late.FreshTo.After(limit) {
		x.Errorf("a report that ends at %v claims to be fresh to %v", limit, late.FreshTo)
	}
	for name, bad := range map[string]provider.UsageQuery{
		"no key": {From: q.From, To: q.To}, "no time": {IDs: q.IDs, From: q.To, To: q.To}, "backwards": {IDs: q.IDs, From: q.To, To: q.From},
		"bad id": {IDs: []string{"a&b=c"}, From: q.From, To: q.To}, "a year": {IDs: q.IDs, From: q.To.AddDate(-1, 0, 0), To: q.To},
	} {
		if _, err := reporter.Usage(x.Context(), bad); !fault.Is(err, fault.Invalid) {
			x.Errorf("%s: %v", name, err)
		}
	}
}

// cost is also where the older source is: it knows no keys, and that is said.
func cost(x *run) {
	p := x.provider()
	reporter := ability[provider.CostReporter](x, p)
	used, idle, q := x.spend(p)
	want := provider.Spend{}
	for _, from := range []time.Duration{0, -50 * time.Minute, -50 * time.Hour} {
		asked := q
		asked.From = q.From.Add(from)
		c, err := reporter.Cost(x.Context(), asked)
		x.record(c, err)
		if err != nil {
			x.Fatalf("Cost: %v", err)
		}
		if len(c.Spent[used]) != 1 || len(c.Spent) != 1 {
			x.Fatalf("cost is %+v, want one charge of %s and none of %s", c.Spent, used, idle)
		}
		s := c.Spent[used][0]
		if s.Amount <= 0 || s.List < s.Amount || s.From.After(q.From) || !s.To.After(q.From) || s.To.Sub(s.From) > time.Hour || s.Model == "" || c.Source == "" {
			x.Errorf("the charge is %+v of %q, and the message was at %v", s, c.Source, q.From)
		}
		if want.Amount != 0 && (want.Amount != s.Amount || want.List != s.List) {
			x.Errorf("the charge depends on the time that is asked for: %+v and %+v", want, s)
		}
		want = s
		if c.FreshTo.Before(q.To.Add(-time.Minute)) || c.FreshTo.After(x.peer.Now()) {
			x.Errorf("fresh to %v at %v", c.FreshTo, x.peer.Now())
		}
	}
	before := q
	before.From, before.To = q.From.Add(-time.Hour), q.From.Truncate(time.Minute)
	if c, err := reporter.Cost(x.Context(), before); err != nil || len(c.Spent) != 0 {
		x.Errorf("before the message it cost %+v, %v", c.Spent, err)
	}
	for name, bad := range map[string]provider.UsageQuery{
		"no key": {From: q.From, To: q.To}, "no time": {IDs: q.IDs, From: q.To, To: q.To}, "bad id": {IDs: []string{"a&b=c"}, From: q.From, To: q.To},
		"a year": {IDs: q.IDs, From: q.To.AddDate(-1, 0, 0), To: q.To},
	} {
		if _, err := reporter.Cost(x.Context(), bad); !fault.Is(err, fault.Invalid) {
			x.Errorf("%s: %v", name, err)
		}
	}
	x.peer.Lag(8 * time.Hour)
	late, err := reporter.Cost(x.Context(), q)
	if err != nil || len(late.Spent) != 0 || late.FreshTo.After(x.peer.Now().Add(-8*time.Hour)) {
		x.Errorf("a report that is hours late: %+v, %v", late, err)
	}
	if x.peer.Older != nil {
		x.peer.Older(x.TB)
		if _, err := reporter.Cost(x.Context(), q); !fault.Is(err, fault.Unsupported) {
			x.Errorf("without a source by key: %v", err)
		}
	}
}

func usageFallback(x *run) {
	if x.peer.Older == nil {
		x.Skip("the peer has one source of usage")
	}
	p := x.provider()
	reporter := ability[provider.UsageReporter](x, p)
	used, idle, q := x.spend(p)
	first, err := reporter.Usage(x.Context(), q)
	if err != nil {
		x.Fatalf("Usage: %v", err)
	}
	x.peer.Older(x.TB)
	u, err := reporter.Usage(x.Context(), q)
	if err != nil {
		x.Fatalf("Usage: %v", err)
	}
	x.wantUse(u, used, idle, q)
	if u.Source == first.Source {
		x.Errorf("both sources are called %q", u.Source)
	}
	if !u.FreshTo.IsZero() {
		x.Errorf("a source that does not say how fresh it is claims %v", u.FreshTo)
	}
}

func activities(x *run) {
	p := x.provider()
	reporter := ability[provider.ActivityReporter](x, p)
	setter := ability[provider.StatusSetter](x, p)
	x.key()
	x.peer.Advance(time.Hour)
	since := x.peer.Now()
	id, _ := x.key()
	x.peer.Advance(time.Minute)
	if _, err := setter.SetStatus(x.Context(), id, provider.Inactive); err != nil {
		x.Fatalf("SetStatus: %v", err)
	}
	x.peer.Advance(time.Minute)
	all, err := reporter.Activities(x.Context(), since)
	x.record(all, err)
	if err != nil {
		x.Fatalf("Activities: %v", err)
	}
	if len(all) != 2 {
		x.Fatalf("%d activities, want 2: %+v", len(all), all)
	}
	for i, a := range all {
		if a.KeyID != id || a.At.Before(since) || a.ID == "" || a.Type == "" || a.Actor == "" || i > 0 && a.At.Before(all[i-1].At) {
			x.Errorf("activity %d: %+v", i, a)
		}
	}
	if !slices.ContainsFunc(all[1].Changes, func(c string) bool { return strings.Contains(c, "inactive") }) {
		x.Errorf("the change is not named: %+v", all[1])
	}
}

func identity(x *run) {
	p := x.provider()
	if o, ok := p.(provider.Organizer); ok {
		id, name, err := o.Organization(x.Context())
		if err != nil || id != x.peer.Organization || name == "" {
			x.Errorf("Organization: %q %q, %v", id, name, err)
		}
	}
	clock := ability[provider.Clock](x, p)
	x.peer.Advance(-30 * 24 * time.Hour)
	before := x.peer.Now().Truncate(time.Second)
	at, err := clock.Clock(x.Context())
	if err != nil || at.Before(before) || at.After(x.peer.Now()) {
		x.Errorf("Clock: %v, %v, want from %v to %v", at, err, before, x.peer.Now())
	}
}
