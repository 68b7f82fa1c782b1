//go:build real

package runner_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/keywright/keywright/internal/location/memory"
	"github.com/keywright/keywright/internal/rotation"
)

// course is one way in which a rotation goes; together they reach every step.
type course struct {
	name   string
	kind   rotation.Kind
	cancel string // the effect during which a person cancels
}

var courses = []course{
	{name: "manual", kind: rotation.Manual},
	{name: "rollback", kind: rotation.Rollback},
	{name: "emergency", kind: rotation.Emergency},
	{name: "cancelled", kind: rotation.Manual, cancel: "observe/drift"},
}

// meeting is a call, and an effect that really makes it.
type meeting struct {
	effect string // its ID
	label  string // its step and verb
	place  memory.Method
	op     string // of the provider, or custody; one of op and place is empty
}

func (m meeting) call() string {
	switch {
	case m.place != "":
		return string(m.place)
	case m.op == custody:
		return m.op
	}
	return "provider: " + m.op
}

// custody stands for opening a value, which is no call of the provider.
const custody = "custody"

// failure is a way in which a call goes wrong.
type failure struct {
	name string
	trial
}

func (m meeting) failures() (list []failure) {
	switch {
	case m.place != "":
		for _, a := range answers {
			list = append(list, failure{a.name, breakPlaces(m.place, a.f)})
		}
	case m.op == custody:
		for _, h := range happenings {
			if strings.HasPrefix(h.name, custody) {
				list = append(list, failure{"locked", h.trial})
			}
		}
	default:
		for _, a := range providerAnswers {
			list = append(list, failure{a.name, breakIssuer(m.op, a.name, a.err)})
		}
	}
	return list
}

// meetings drives a rotation undisturbed, one effect after the other, and lists which calls each step and verb makes. Places are alike: the
// first effect of a step and verb that makes a call stands for the others. Of a cancelled rotation only the way back counts.
func (c course) meetings(t *testing.T) (list []meeting) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		prepare(w, c.kind)
		before := map[string]int{}
		var asked map[string]bool
		opened, cancelled := 0, false
		w.issuer.trouble = func(op string) error {
			if asked != nil {
				asked[op] = true
			}
			return nil
		}
		w.fault = func(point string, e rotation.Effect) error {
			switch point {
			case "before":
				for _, name := range w.places.Names() {
					before[name] = len(w.places.Place(name).Calls())
				}
				asked, opened = map[string]bool{}, w.vault.openings()
			case "made":
				var here []meeting
				for _, name := range w.places.Names() {
					for _, call := range w.places.Place(name).Calls()[before[name]:] {
						here = append(here, meeting{place: call.Method})
					}
				}
				if w.vault.openings() > opened {
					here = append(here, meeting{op: custody})
				}
				for _, op := range slices.Sorted(maps.Keys(asked)) {
					here = append(here, meeting{op: op})
				}
				step, _, _ := strings.Cut(e.ID, "/")
				for _, m := range here {
					m.effect, m.label = e.ID, step+"/"+string(e.Verb)
					alike := func(o meeting) bool { return o.label == m.label && o.place == m.place && o.op == m.op }
					if (c.cancel == "" || step == string(rotation.Undo)) && !slices.ContainsFunc(list, alike) {
						list = append(list, m)
					}
				}
				if e.ID == c.cancel && !cancelled {
					cancelled = true
					w.signal("r-1", rotation.SignalCancel, rotation.SignalData{})
				}
			}
			return nil
		}
		plan := w.plan(c.kind)
		plan.Parallel = 1
		want := rotation.Done
		if c.cancel != "" {
			want = rotation.Cancelled
		}
		if row := w.finish(w.begin(plan).ID, nil); row.Status != want {
			t.Fatalf("undisturbed %s ended %q: %s", c.name, row.Status, row.Note)
		}
	})
	return list
}

// product counts the cases of one line of the table, and how they went.
type product struct {
	calls, stood, ended map[string]bool
	cases               int
}

type productTable struct {
	mu    sync.Mutex
	lines map[string]*product
}

func (p *productTable) add(line, call string, s standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lines[line]
	if l == nil {
		l = &product{calls: map[string]bool{}, stood: map[string]bool{}, ended: map[string]bool{}}
		p.lines[line] = l
	}
	l.calls[call], l.ended[string(s.end)] = true, true
	if s.healed {
		l.stood["healed by itself"] = true
	} else {
		l.stood[string(s.status)] = true
	}
	l.cases++
}

func (p *productTable) markdown() string {
	words := func(set map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(set)), ", ") }
	var b strings.Builder
	b.WriteString("| Effect | Calls | Cases | How they stood | How they ended |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(p.lines)) {
		l := p.lines[name]
		fmt.Fprintf(&b, "| %s | %s | %d | %s | %s |\n", name, words(l.calls), l.cases, words(l.stood), words(l.ended))
	}
	return b.String()
}

// points are where a process dies around an effect.
var points = []string{"before", "made", "after"}

// TestRealProduct is the cross product of crashes and failures: each call that an effect really makes fails with each answer from that effect
// on, and around that effect the process dies as well.
func TestRealProduct(t *testing.T) {
	table := productTable{lines: map[string]*product{}}
	t.Run("cases", func(t *testing.T) {
		for _, c := range courses {
			list := c.meetings(t)
			if len(list) < 5 {
				t.Fatalf("%s: only %d calls: %+v", c.name, len(list), list)
			}
			for _, m := range list {
				for _, f := range m.failures() {
					for _, point := range points {
						if passedOver() {
							continue
						}
						tr := f.trial
						tr.kind, tr.cancel, tr.when, tr.crash = c.kind, c.cancel, m.effect, point+" "+m.effect
						t.Run(fmt.Sprintf("%s/%s/%s/%s/%s", c.name, m.effect, m.call(), f.name, point), func(t *testing.T) {
							t.Parallel()
							s := tr.run(t)
							if s.end != rotation.Done {
								t.Errorf("ended %q", s.end)
							}
							table.add(c.name+": "+m.label, m.call(), s)
						})
					}
				}
			}
		}
	})
	if !t.Failed() && sample == 1 {
		fresh(t, "product", table.markdown())
	}
}

// TestRealProductHappenings lets the process die around the effect that first meets each of the other troubles. It changes nothing about how the
// rotation stands and ends.
func TestRealProductHappenings(t *testing.T) {
	met := make([]string, len(happenings))
	t.Run("cases", func(t *testing.T) {
		for i, h := range happenings {
			if passedOver() {
				continue
			}
			t.Run(h.name, func(t *testing.T) {
				t.Parallel()
				tr := h.trial
				tr.kind = rotation.Manual
				met[i] = tr.run(t).met
				for _, point := range points {
					tr.crash = point + " " + met[i]
					t.Run(tr.crash, func(t *testing.T) {
						s := tr.run(t)
						if s.end != rotation.Done || s.healed != (h.want == "") || !s.healed && s.status != h.want || !strings.Contains(s.note, h.says) {
							t.Errorf("%s: %q, want %s: %q", s, s.note, h.want, h.says)
						}
					})
				}
			})
		}
	})
	if t.Failed() || sample != 1 {
		return
	}
	var b strings.Builder
	b.WriteString("| What happens | The process dies around |\n|---|---|\n")
	for i, h := range happenings {
		fmt.Fprintf(&b, "| %s | %s |\n", h.name, met[i])
	}
	fresh(t, "product-happenings", b.String())
}
