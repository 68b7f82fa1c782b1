package rotation_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/rotation"
)

// variant is one state of one fact: what it says of invariant I2, and how it is written into Facts.
type variant struct {
	name string
	says string // "for", "against", "later", or "unseen"
	// seen is true where something else would notice a consumer that still has the old value, once it is inactive.
	seen bool
	set  func(*rotation.Facts)
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// facts lists every state of every fact. The product of the lists is the table.
func factStates() [][]variant {
	usage := func(u rotation.UsageFact) func(*rotation.Facts) {
		u.Source = "analytics"
		return func(f *rotation.Facts) { f.Usage = u }
	}
	window := rotation.UsageFact{Available: true, From: noon.Add(-24 * time.Hour), To: noon, FreshTo: noon, Alive: true}
	with := func(change func(*rotation.UsageFact)) rotation.UsageFact {
		u := window
		change(&u)
		return u
	}
	place := func(p rotation.PlaceFact) func(*rotation.Facts) {
		p.Name = "place"
		return func(f *rotation.Facts) { f.Places = append(f.Places, p) }
	}
	return [][]variant{
		{ // wanted somewhere
			{name: "nowhere", says: "for", set: func(*rotation.Facts) {}},
			{name: "elsewhere", says: "against", set: func(f *rotation.Facts) { f.Elsewhere = []string{"staging"} }},
		},
		{ // places that came late
			{name: "same places", says: "for", set: func(*rotation.Facts) {}},
			{name: "added", says: "against", set: func(f *rotation.Facts) { f.Added = []string{"late"} }},
		},
		{
			{name: "soaked", says: "for", set: func(f *rotation.Facts) { f.SoakOver = true }},
			{name: "soaking", says: "later", set: func(*rotation.Facts) {}},
		},
		{
			{name: "admin", says: "for", set: func(f *rotation.Facts) { f.Admin = true }},
			{name: "no admin", says: "unseen", set: func(*rotation.Facts) {}},
		},
		{
			{name: "unused", says: "for", set: usage(window)},
			{name: "used", says: "against", set: usage(with(func(u *rotation.UsageFact) { u.Seen = 1 }))},
			{name: "used and stale", says: "against", set: usage(with(func(u *rotation.UsageFact) { u.Seen, u.FreshTo = 1, noon.Add(-time.Hour) }))},
			{name: "empty window", says: "against", set: usage(with(func(u *rotation.UsageFact) { u.From = u.To }))},
			{name: "stale", says: "later", set: usage(with(func(u *rotation.UsageFact) { u.FreshTo = noon.Add(-time.Second) }))},
			{name: "dead report", says: "later", set: usage(with(func(u *rotation.UsageFact) { u.Alive = false }))},
			{name: "unread", says: "later", set: usage(with(func(u *rotation.UsageFact) { u.Trouble = "status 500" }))},
			{name: "no report", says: "unseen", set: usage(rotation.UsageFact{})},
		},
		{
			{name: "no gateway", says: "for", set: func(*rotation.Facts) {}},
			{name: "quiet gateway", says: "for", set: func(f *rotation.Facts) { f.Gateway = rotation.GatewayFact{Configured: true} }},
			{name: "gateway used it", says: "against", set: func(f *rotation.Facts) { f.Gateway = rotation.GatewayFact{Configured: true, Seen: 3} }},
			{name: "silent gateway", says: "against", set: func(f *rotation.Facts) { f.Gateway = rotation.GatewayFact{Configured: true, Silent: []string{"g"}} }},
		},
		{
			{name: "holds new", says: "for", set: place(rotation.PlaceFact{Known: true, HoldsNew: true})},
			{name: "holds old", says: "against", set: place(rotation.PlaceFact{Known: true, HoldsOld: true})},
			{name: "holds old beyond doubt", says: "against", set: place(rotation.PlaceFact{HoldsOld: true, Signal: true, Signed: true})},
			{name: "holds a stranger", says: "against", set: place(rotation.PlaceFact{Known: true, Signal: true})},
			{name: "unread place", says: "later", set: place(rotation.PlaceFact{Trouble: "status 503", Signal: true})},
			{name: "write-only", says: "unseen", set: place(rotation.PlaceFact{})},
			{name: "write-only, dated", says: "unseen", set: place(rotation.PlaceFact{Changed: noon})},
			{name: "write-only, watched", says: "unseen", seen: true, set: place(rotation.PlaceFact{Signal: true})},
			{name: "write-only, dated, watched", says: "unseen", seen: true, set: place(rotation.PlaceFact{Changed: noon, Signal: true})},
			{name: "signed", says: "for", set: place(rotation.PlaceFact{Signed: true, By: "ann"})},
		},
		{
			{name: "one place", says: "for", set: func(*rotation.Facts) {}},
			{name: "and a write-only one", says: "unseen", set: place(rotation.PlaceFact{})},
			{name: "and an old one", says: "against", set: place(rotation.PlaceFact{Known: true, HoldsOld: true})},
		},
	}
}

// i2 is invariant I2 and decisions 10 to 12, written down without a look at Rule: whatever speaks against retiring holds it; what the world
// will tell later is waited for; what nobody can see is signed for by a person, unless a consumer that is refused would be noticed.
func i2(says []variant, signed bool) rotation.Verdict {
	count := map[string]int{}
	for _, v := range says {
		if v.says == "unseen" && (signed || v.seen) {
			continue
		}
		count[v.says]++
	}
	switch {
	case count["against"] > 0:
		return rotation.Holds
	case count["later"] > 0:
		return rotation.Early
	case count["unseen"] > 0:
		return rotation.WantsSignature
	}
	return rotation.Allowed
}

// TestRuleIsI2InEveryCombination walks the full product of the states of all facts.
func TestRuleIsI2InEveryCombination(t *testing.T) {
	verdicts, rows := map[rotation.Verdict]int{}, 0
	var walk func(states [][]variant, chosen []variant)
	walk = func(states [][]variant, chosen []variant) {
		if len(states) > 0 {
			for _, v := range states[0] {
				walk(states[1:], append(chosen[:len(chosen):len(chosen)], v))
			}
			return
		}
		for _, signed := range []bool{false, true} {
			f := rotation.Facts{At: noon, SoakUntil: noon, Signed: signed}
			for _, v := range chosen {
				v.set(&f)
			}
			got, want := rotation.Rule(f), i2(chosen, signed)
			rows++
			verdicts[got.Verdict]++
			if got.Verdict != want {
				var names []string
				for _, v := range chosen {
					names = append(names, v.name)
				}
				t.Fatalf("%s, signed %v: %s, want %s", strings.Join(names, ", "), signed, got.Verdict, want)
			}
			if (got.Summary() == "") != (want == rotation.Allowed) {
				t.Fatalf("summary of %s: %q", want, got.Summary())
			}
			for _, line := range got.Findings {
				if line.Source == "" || line.Text == "" || line.At.IsZero() && !strings.Contains(line.Text, "was used") && !strings.Contains(line.Text, "used the old") {
					t.Fatalf("a finding lacks its source or time: %+v", line)
				}
			}
		}
	}
	walk(factStates(), nil)
	if rows != 2*2*2*2*2*8*4*10*3 || len(verdicts) != 4 {
		t.Errorf("%d rows, verdicts %v", rows, verdicts)
	}
}

// TestOneFactDecides names, for each state of each fact, what a person reads when it alone is not in order.
func TestOneFactDecides(t *testing.T) {
	good := []int{0, 0, 0, 0, 0, 0, 0, 0}
	for i, states := range factStates() {
		for j, v := range states {
			at := append([]int(nil), good...)
			at[i] = j
			f := rotation.Facts{At: noon, SoakUntil: noon}
			var chosen []variant
			for k, list := range factStates() {
				list[at[k]].set(&f)
				chosen = append(chosen, list[at[k]])
			}
			t.Run(v.name, func(t *testing.T) {
				r := rotation.Rule(f)
				if want := i2(chosen, false); r.Verdict != want {
					t.Errorf("%s, want %s", r.Verdict, want)
				}
			})
		}
	}
	if s := fmt.Sprint(rotation.Rule(rotation.Facts{At: noon, SoakOver: true}).Summary()); !strings.Contains(s, "admin key") || !strings.Contains(s, "usage") {
		t.Errorf("summary: %q", s)
	}
}

func TestLastFacts(t *testing.T) {
	if _, ok := rotation.LastFacts(nil); ok {
		t.Error("facts out of nothing")
	}
	d := newDriver(t, plan())
	d.run()
	f, ok := rotation.LastFacts(d.journal)
	if !ok || f.Signed || !f.Usage.Alive {
		t.Errorf("facts: %+v %v", f, ok)
	}
	d.signal(rotation.SignalSign, "ann", rotation.SignalData{Subject: "evidence"})
	if f, _ = rotation.LastFacts(d.journal); !f.Signed {
		t.Error("the signature is not seen")
	}
	if !rotation.Flipped(d.journal) || rotation.Flipped(nil) {
		t.Error("flipped")
	}
	if got := rotation.Chosen(d.plan, d.journal); got != "v_new" {
		t.Errorf("chosen %q", got)
	}
	if got := rotation.Chosen(rotation.Plan{New: "v_x"}, []rotation.Entry{{Type: rotation.Made, Effect: "acquire/acquire", Data: []byte("{")}}); got != "v_x" {
		t.Errorf("chosen from garbage: %q", got)
	}
}
