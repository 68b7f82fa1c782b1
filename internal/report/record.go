package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// RecordOf gives the rotation's entry for the rotation log as data. It is pure: the same input gives the same record.
func RecordOf(in Input) Record {
	f := digest(in)
	row, plan := in.Row, in.Row.Plan
	r := Record{
		Rotation: row.ID, Key: row.Key, Kind: row.Kind, Status: row.Status, Outcome: clean(in.Outcome), Began: row.Created, Ended: row.Ended, Date: row.Created,
		Previous: f.versionLine(rotation.Old), New: f.versionLine(rotation.New), By: clean(plan.Actor), Owner: clean(in.Owner),
		Reason: clean(string(plan.Reason)), Note: clean(plan.Note), NextDue: in.NextDue, Issues: f.issues(), People: f.people(), Locations: []PlaceLine{},
	}
	if flip, ok := f.lines[string(rotation.Flip)]; ok && flip.State == "done" {
		r.Date = flip.At
	}
	for _, p := range f.places() {
		r.Locations = append(r.Locations, f.placeLine(p))
	}
	if f.gathered {
		ruling := rotation.Rule(f.last)
		r.Evidence = &ruling
	}
	for _, t := range in.Told {
		r.Told = append(r.Told, Told{At: t.At.UTC(), What: clean(t.What), Channel: clean(t.Channel)})
	}
	slices.SortStableFunc(r.Told, func(a, b Told) int { return a.At.Compare(b.At) })
	return r
}

func (f facts) versionLine(role rotation.Role) *VersionLine {
	v, ok := f.Versions[role]
	if !ok || v.ID == "" {
		return nil
	}
	return &VersionLine{
		Key: v.Key, Version: v.ID, ProviderID: clean(v.ProviderID), Fingerprint: v.Fingerprint(), State: v.State, Changed: v.Changed, Compromised: v.Compromised,
		Lent: v.Key != f.Row.Key,
	}
}

// places gives the places of the plan in the order of the waves, and those of no wave at the end.
func (f facts) places() []rotation.Place {
	var names []string
	for _, w := range f.Row.Plan.Waves {
		for _, b := range w.Batches {
			names = append(names, b...)
		}
	}
	at := func(p rotation.Place) int {
		if i := slices.Index(names, p.Name); i >= 0 {
			return i
		}
		return len(names)
	}
	places := slices.Clone(f.Row.Plan.Places)
	slices.SortStableFunc(places, func(a, b rotation.Place) int { return cmp.Compare(at(a), at(b)) })
	return places
}

// turned gives the decision to turn back, if it was taken.
func (f facts) turned() (t rotation.Turned, ok bool) {
	l, ok := f.lines[string(rotation.Turn)]
	if !ok || l.State != "done" || json.Unmarshal(l.Data, &t) != nil {
		return t, false
	}
	return t, true
}

// written gives the newest made write of the new version into a place.
func (f facts) written(place string) (newest rotation.Line, ok bool) {
	for _, v := range []rotation.Verb{rotation.Put, rotation.Promote} {
		if l, found := f.latest(v, about(place)); found && (!ok || l.At.After(newest.At)) {
			newest, ok = l, true
		}
	}
	return newest, ok
}

// placeLine says what became of a place, and how that is known.
func (f facts) placeLine(p rotation.Place) PlaceLine {
	line := PlaceLine{Name: clean(p.Name), Kind: clean(p.Kind)}
	wrote, touched := f.written(p.Name)
	if _, back := f.turned(); back {
		if l, ok := f.latest(rotation.PutBack, about(p.Name)); ok {
			line.Mark, line.At, line.Text = Restored, l.At, "the previous version was put back"
			return line
		}
		if w, ok := f.signature(p.Name + " back"); ok {
			line.Mark, line.At, line.Text = Restored, w.At, "the previous version was put back, signed by "+w.By
			return line
		}
		if !touched {
			line.Mark, line.Text = Untouched, "not changed"
			return line
		}
	}
	if l, ok := f.latest(rotation.PutHome, about(p.Name)); ok && p.Home != "" {
		line.Mark, line.At, line.Text = Restored, l.At, fmt.Sprintf("used for the test; the value of its own key, %s, was put back", p.Home)
		return line
	}
	f.holds(p, wrote, touched, &line)
	if l, ok := f.latest(rotation.Confirm, func(l rotation.Line) bool { return l.Effect.Place == p.Name && l.Effect.Role == rotation.New }); ok && line.Mark != Other {
		var c consumers
		if json.Unmarshal(l.Data, &c) == nil && c.Running > 0 {
			line.more("%d of %d running consumers have it (%s)", c.Taken, c.Running, clean(c.How))
		}
	}
	return line
}

// holds fills in what is known of the place's content, from the strongest and newest source.
func (f facts) holds(p rotation.Place, wrote rotation.Line, touched bool, line *PlaceLine) {
	want, place := f.fingerprint(rotation.New), p.Name
	seen, looked := f.seen(place)
	looked = looked && (!touched || wrote.Effect.First.IsZero() || !seen.At.Before(wrote.Effect.First))
	strong := looked && (seen.How == readBack || seen.How == label)
	fact, gathered := f.placeFact(place)
	sign, vouched := f.signature(place)
	switch {
	case strong && seen.Present && want != "" && seen.Held == want:
		line.Mark, line.At, line.Text = InPlace, seen.At, seen.How
	case strong && touched:
		line.Mark, line.At, line.Text = Other, seen.At, "holds "+cmp.Or(string(seen.Held), "nothing")+" ("+seen.How+")"
	case gathered && fact.Known && fact.HoldsNew:
		line.Mark, line.At, line.Text = InPlace, f.last.At, clean(fact.How)
	case p.Can.Manual && vouched:
		line.Mark, line.At, line.Text = Vouched, sign.At, "signed by "+sign.By
	case touched:
		line.Mark, line.At, line.Text = Written, wrote.At, "written"
		if looked && !seen.Changed.IsZero() {
			line.more("it cannot be read back, and says that it was changed %s", stamp(seen.Changed))
		} else {
			line.more("it was not read back")
		}
		if vouched {
			line.Mark = Vouched
			line.more("signed by %s %s", sign.By, stamp(sign.At))
		}
	default:
		line.Mark, line.Text = Untouched, "not changed"
	}
}

func (l *PlaceLine) more(format string, args ...any) {
	l.More = strings.TrimPrefix(l.More+"; "+fmt.Sprintf(format, args...), "; ")
}

func (f facts) placeFact(place string) (rotation.PlaceFact, bool) {
	i := slices.IndexFunc(f.last.Places, func(p rotation.PlaceFact) bool { return p.Name == place })
	if !f.gathered || i < 0 {
		return rotation.PlaceFact{}, false
	}
	return f.last.Places[i], true
}

// patient lists the verbs that wait for the world: while they wait nothing is wrong.
var patient = []rotation.Verb{rotation.AwaitRefused, rotation.AwaitAccepted, rotation.Confirm, rotation.TakePair}

// issues lists the trouble on the way, in the order of time.
func (f facts) issues() []Issue {
	issues := []Issue{}
	solved := map[string]bool{}
	open := map[string]bool{}
	for _, e := range f.Journal {
		switch e.Type {
		case rotation.Made:
			solved[e.Effect], open[e.Effect] = true, false
		case rotation.Missed:
			open[e.Effect] = false
		case rotation.Intended:
			if open[e.Effect] {
				issues = append(issues, Issue{At: e.At, What: clean(e.Effect) + ": interrupted; looked at again before it was repeated", Solved: true})
			}
			open[e.Effect] = true
		case rotation.Signalled:
			if i, ok := f.said(e); ok {
				issues = append(issues, i)
			}
		}
	}
	for effect, missed := range f.missed {
		last := missed[len(missed)-1]
		kind := fault.ParseKind(last.Fault.Kind)
		waits := slices.Contains(patient, f.lines[effect].Effect.Verb)
		if waits && solved[effect] && kind == fault.Unavailable {
			continue
		}
		_, back := f.turned()
		moot := back && !strings.HasPrefix(effect, string(rotation.Undo)+"/")
		issues = append(issues, Issue{At: missed[0].At, What: clean(effect) + ": " + clean(last.Fault.Message), Tries: len(missed), Solved: solved[effect] || moot})
	}
	issues = append(issues, f.doubts()...)
	slices.SortStableFunc(issues, func(a, b Issue) int { return cmp.Or(a.At.Compare(b.At), strings.Compare(a.What, b.What)) })
	return issues
}

// said turns signals that stopped or turned the rotation into issues.
func (f facts) said(e rotation.Entry) (Issue, bool) {
	resumed := func() bool {
		return slices.ContainsFunc(f.words, func(w Word) bool { return w.Signal == rotation.SignalResume && !w.At.Before(e.At) })
	}
	switch e.Signal {
	case rotation.SignalPause:
		return Issue{At: e.At, What: "paused by " + clean(e.Actor), Solved: resumed() || f.Row.Status.Ended()}, true
	case rotation.SignalResume:
		return Issue{At: e.At, What: "resumed by " + clean(e.Actor), Solved: true}, true
	case rotation.SignalCancel:
		return Issue{At: e.At, What: "cancelled by " + clean(e.Actor), Solved: f.Row.Status.Ended()}, true
	}
	return Issue{}, false
}

// doubts lists what effects that went well had to tell.
func (f facts) doubts() []Issue {
	var issues []Issue
	if t, ok := f.turned(); ok && t.Status != rotation.Cancelled {
		issues = append(issues, Issue{At: f.lines[string(rotation.Turn)].At, What: "turned back: " + clean(t.Why), Solved: f.Row.Status.Ended() || f.Outcome != ""})
	}
	if f.Row.Status == rotation.Superseded {
		issues = append(issues, Issue{At: f.Row.Ended, What: "superseded: " + clean(f.Row.Note)})
	}
	for _, l := range f.made(rotation.WatchLook) {
		var w rotation.WatchState
		if json.Unmarshal(l.Data, &w) == nil && len(w.Refused) > 0 {
			what := "refused with the old value: " + clean(strings.Join(w.Refused, ", "))
			_, back := f.latest(rotation.Activate, func(a rotation.Line) bool { return a.Effect.Role == rotation.Old && !a.At.Before(l.At) })
			if back {
				what += "; the old version was made active again"
			}
			issues = append(issues, Issue{At: l.At, What: what, Solved: back})
		}
	}
	for _, l := range f.made(rotation.Baseline) {
		var p rotation.ProbeState
		if json.Unmarshal(l.Data, &p) == nil && !p.Passed {
			issues = append(issues, Issue{At: l.At, What: clean(l.Effect.Place) + " did not work before the change: " + clean(p.Note)})
		}
	}
	return append(issues, f.held()...)
}

// held tells of evidence that spoke against retiring, once, with how often it did.
func (f facts) held() []Issue {
	var first, last rotation.Line
	var text string
	n := 0
	gathered := f.made(rotation.Gather)
	for _, l := range gathered {
		var facts rotation.Facts
		if json.Unmarshal(l.Data, &facts) != nil {
			continue
		}
		if r := rotation.Rule(facts); r.Verdict == rotation.Holds {
			if n++; n == 1 {
				first = l
			}
			last, text = l, r.Summary()
		}
	}
	if n == 0 {
		return nil
	}
	return []Issue{{At: first.At, What: "evidence held: " + clean(text), Tries: n, Solved: last.Effect.ID != gathered[len(gathered)-1].Effect.ID}}
}

// people lists approvals that count, signatures and cancels.
func (f facts) people() []Word {
	words := []Word{}
	plan := f.Row.Plan
	i := 0
	for _, e := range f.Journal {
		if e.Type != rotation.Signalled {
			continue
		}
		var d rotation.SignalData
		if len(e.Data) > 0 && json.Unmarshal(e.Data, &d) != nil {
			continue
		}
		w := f.words[i]
		i++
		switch e.Signal {
		case rotation.SignalApprove:
			if d.UID != plan.UID && d.PlanHash == plan.Hash() {
				words = append(words, w)
			}
		case rotation.SignalSign, rotation.SignalCancel:
			words = append(words, w)
		}
	}
	return words
}

// stateWords says what a state means to a reader of the log.
func (v VersionLine) stateWords() string {
	on := ""
	if !v.Changed.IsZero() {
		on = " " + day(v.Changed)
	}
	words := map[apikey.State]string{
		apikey.Current: "ACTIVE", apikey.Pending: "ACTIVE (pending)", apikey.Previous: "STILL ACCEPTED (previous)", apikey.Inactive: "REVOKED (inactive" + on + ")",
		apikey.Archived: "REVOKED (archived" + on + ")", apikey.Spare: "SPARE", apikey.Rejected: "REJECTED" + strings.Replace(on, " ", " on ", 1), apikey.Expired: "EXPIRED",
	}[v.State]
	if words == "" {
		words = strings.ToUpper(string(v.State))
	}
	if v.Compromised {
		words += ", COMPROMISED"
	}
	return words
}
