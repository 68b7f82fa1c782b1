package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/rotation"
)

// Box is one box of a checklist. A box is ticked by evidence, or by a signature; never by default. Evidence is the fact that ticks
// it, or the reason why it is open; Source says where that is from, and At when it was so (zero when there is no time to tell).
type Box struct {
	// ID is the last part of the subject by which a person signs for the box: checklist/ID or preflight/ID.
	ID       string    `json:"id"`
	Text     string    `json:"text"`
	Done     bool      `json:"done"`
	Evidence string    `json:"evidence"`
	Source   string    `json:"source"`
	At       time.Time `json:"at,omitzero"`
	// Signed is true when a person's word ticks the box.
	Signed bool `json:"signed,omitempty"`
	// Against is true for an open box that evidence speaks against: no signature ticks it.
	Against bool `json:"against,omitempty"`
}

// The subjects by which a person signs for every open box of a list; SUBJECT/ID signs for one.
const (
	SubjectChecklist = "checklist"
	SubjectPreflight = "preflight"
)

func done(source string, at time.Time, format string, args ...any) Box {
	return Box{Done: true, Source: source, At: at, Evidence: clean(fmt.Sprintf(format, args...))}
}

func open(source, format string, args ...any) Box {
	return Box{Source: source, Evidence: clean(fmt.Sprintf(format, args...))}
}

func against(source string, at time.Time, format string, args ...any) Box {
	b := open(source, format, args...)
	b.At, b.Against = at, true
	return b
}

// entitle names a box and lets signatures tick it.
func (f facts) entitle(subject, id, text string, b Box) Box {
	b.ID, b.Text = id, text
	if b.Done || b.Against {
		return b
	}
	if w, ok := f.signature(subject, subject+"/"+id); ok {
		why := b.Evidence
		b = done("signature", w.At, "signed by %s", w.By)
		if w.Note != "" {
			b.Evidence += ": " + w.Note
		}
		b.Evidence += " (" + why + ")"
		b.ID, b.Text, b.Signed = id, text, true
	}
	return b
}

// Checklist gives the ten boxes of the runbook's verification checklist, in its order and words.
func Checklist(in Input) []Box {
	f := digest(in)
	box := func(id, text string, b Box) Box { return f.entitle(SubjectChecklist, id, text, b) }
	return []Box{
		box("created", "New key created in Anthropic Console", f.created()),
		box("tested", "New key tested successfully", f.tested()),
		box("updated", "All environments updated with new key", f.updated()),
		box("verified", "Production verified working", f.verified()),
		box("revoked", "Old key revoked after wait period", f.revoked()),
		box("removed", "Old key removed from all locations", f.removed()),
		box("documented", "Rotation documented", f.documented()),
		box("scheduled", "Next rotation scheduled", f.scheduled()),
		box("notified", "Team notified", f.notified()),
		box("undisturbed", "No service disruptions", f.undisturbed()),
	}
}

func (f facts) created() Box {
	v, ok := f.Versions[rotation.New]
	switch {
	case !ok || v.ID == "":
		return open("journal", "no new version was chosen yet")
	case v.ProviderID != "" && !v.Created.IsZero():
		return done("provider's list of keys", v.Created, "%s (%s), created there, %s", v.ProviderID, v.Fingerprint(), bindingWords(string(v.Binding)))
	case v.CreatedBy != "":
		return done("inventory", v.Added, "%s was handed in by %s; its id at the provider is not known", v.Fingerprint(), v.CreatedBy)
	}
	return open("inventory", "%s is in the inventory, and who made it is not known", v.Fingerprint())
}

func bindingWords(binding string) string {
	switch binding {
	case "proved":
		return "and proved to be this value"
	case "":
		return "not matched to the value"
	}
	return "matched by " + binding
}

func (f facts) tested() Box {
	l, ok := f.latest(rotation.TestValue, nil)
	if !ok {
		if l, ok = f.latest(rotation.AwaitAccepted, role(rotation.New)); ok {
			return done("provider", l.At, "the provider accepts the value")
		}
		if l, ok = f.latest(rotation.Choose, nil); ok {
			return done("provider", l.At, "the provider accepted the value when it was chosen")
		}
		return open("journal", "it was not tested yet")
	}
	ran := f.made(rotation.TestRun)
	if n := len(f.Row.Plan.Tests); len(ran) < n {
		return open("journal", "the provider accepts it; %d of %d tests of the owner went well", len(ran), n)
	}
	text := "models, token count and a message"
	if len(ran) > 0 {
		l = ran[len(ran)-1]
		text += fmt.Sprintf(", and %d test(s) of the owner", len(ran))
	}
	return done("journal", l.At, "%s", text)
}

// tally divides the places of the plan by what is known of them.
func (f facts) tally() (lines map[Mark][]string, newest time.Time) {
	lines = map[Mark][]string{}
	for _, p := range f.places() {
		l := f.placeLine(p)
		lines[l.Mark] = append(lines[l.Mark], l.Name)
		if l.At.After(newest) {
			newest = l.At
		}
	}
	return lines, newest
}

func (f facts) updated() Box {
	if _, back := f.turned(); back {
		return against("journal", f.lines[string(rotation.Turn)].At, "the rotation was turned back")
	}
	lines, at := f.tally()
	lent := f.lent()
	missing := slices.DeleteFunc(slices.Concat(lines[Untouched], lines[Restored]), func(name string) bool { return slices.Contains(lent, name) })
	switch {
	case len(lines[Other]) > 0:
		return against("places", at, "%s: another value is there", strings.Join(lines[Other], ", "))
	case len(missing) > 0:
		return open("places", "not updated: %s", strings.Join(missing, ", "))
	case len(f.Row.Plan.Places) == 0:
		return open("plan", "the plan has no place")
	}
	var parts []string
	for _, m := range []struct {
		mark Mark
		text string
	}{{InPlace, "seen in %s"}, {Vouched, "signed for %s"}, {Written, "written to %s, not readable"}} {
		if names := lines[m.mark]; len(names) > 0 {
			parts = append(parts, fmt.Sprintf(m.text, strings.Join(names, ", ")))
		}
	}
	if len(lines[Written]) > 0 {
		return open("places", "%s: a person vouches for what cannot be read", strings.Join(parts, "; "))
	}
	return done("places", at, "%s", strings.Join(parts, "; "))
}

// lent names the places that were used for the test alone.
func (f facts) lent() []string {
	var names []string
	for _, p := range f.Row.Plan.Places {
		if p.Home != "" {
			names = append(names, p.Name)
		}
	}
	return names
}

func (f facts) verified() Box {
	if _, back := f.turned(); back {
		return against("journal", f.lines[string(rotation.Turn)].At, "the rotation was turned back")
	}
	var by, blind []string
	var at time.Time
	for _, w := range f.Row.Plan.Waves {
		for _, name := range slices.Concat(w.Batches...) {
			if !w.Production && f.anyProduction() {
				continue
			}
			l, ok := f.latest(rotation.Probe, about(name))
			how := "probe"
			if !ok {
				l, ok = f.latest(rotation.Confirm, func(l rotation.Line) bool { return l.Effect.Place == name && l.Effect.Role == rotation.New })
				how = "running consumers have it"
			}
			if !ok {
				blind = append(blind, name)
				continue
			}
			by = append(by, name+" ("+how+")")
			if l.At.After(at) {
				at = l.At
			}
		}
	}
	switch {
	case len(blind) > 0:
		return open("journal", "nothing checked the consumers of %s", strings.Join(blind, ", "))
	case len(by) == 0:
		return open("plan", "the plan has no wave")
	}
	return done("probes", at, "%s", strings.Join(by, ", "))
}

func (f facts) anyProduction() bool {
	return slices.ContainsFunc(f.Row.Plan.Waves, func(w rotation.Wave) bool { return w.Production })
}

func (f facts) revoked() Box {
	plan := f.Row.Plan
	if plan.Old == "" {
		return done("plan", plan.Created, "there was no earlier key")
	}
	if f.Row.Kind == rotation.Rollback {
		return open("plan", "a rollback revokes nothing: the version that was taken out is %s", f.Versions[rotation.Old].State)
	}
	refused, ok := f.latest(rotation.AwaitRefused, role(rotation.Old))
	if !ok {
		return open("journal", "the provider was not seen to refuse the old value")
	}
	if back, ok := f.latest(rotation.Activate, role(rotation.Old)); ok && back.At.After(refused.At) {
		return against("journal", back.At, "it was made active again")
	}
	if f.Row.Kind == rotation.Emergency {
		return done("provider", refused.At, "the provider refuses the old value; an emergency does not wait")
	}
	flip := f.lines[string(rotation.Flip)]
	if flip.State != "done" || refused.At.Sub(flip.At) < plan.Soak {
		return open("journal", "the provider refuses the old value, and the wait of %s was not kept", plan.Soak)
	}
	return done("provider", refused.At, "the provider refuses the old value, %s after the change (wait: %s)", passed(refused.At.Sub(flip.At)), plan.Soak)
}

func (f facts) removed() Box {
	plan := f.Row.Plan
	if plan.Old == "" {
		return done("plan", plan.Created, "there was no earlier key")
	}
	old := f.fingerprint(rotation.Old)
	var still, blind, kept []string
	at := f.last.At
	for _, p := range f.places() {
		seen, looked := f.seen(p.Name)
		fact, gathered := f.placeFact(p.Name)
		_, vouched := f.signature(p.Name)
		strong := looked && (seen.How == readBack || seen.How == label)
		switch {
		case strong && old != "" && seen.Held == old || !strong && gathered && fact.HoldsOld:
			still = append(still, p.Name)
		case strong, gathered && fact.Known, vouched:
		default:
			blind = append(blind, p.Name)
		}
		if strong && seen.At.After(at) {
			at = seen.At
		}
		if _, purged := f.latest(rotation.PurgePlace, about(p.Name)); p.Can.Remove && !purged {
			kept = append(kept, p.Name)
		}
	}
	purge, purged := f.latest(rotation.PurgeValue, nil)
	switch {
	case len(still) > 0:
		return against("places", at, "%s holds the old value", strings.Join(still, ", "))
	case len(blind) > 0:
		return open("places", "cannot be read: %s", strings.Join(blind, ", "))
	case len(kept) > 0:
		return open("journal", "copies beside the current value were not removed from %s", strings.Join(kept, ", "))
	case !purged:
		return open("journal", "custody still holds the old value, for a rollback")
	}
	return done("places and custody", purge.At, "no place holds it, and custody erased it")
}

func (f facts) documented() Box {
	if l, ok := f.latest(rotation.Record, nil); ok {
		return done("journal", l.At, "%s", strings.TrimSpace("recorded in "+orWord(f.Documented, "the rotation log")))
	}
	if !f.DocumentedAt.IsZero() {
		return done("file", f.DocumentedAt, "recorded in %s", orWord(f.Documented, "the rotation log"))
	}
	return open("journal", "it is not recorded yet")
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

// passed gives a duration to the minute, and below an hour to the second.
func passed(d time.Duration) time.Duration {
	if d < time.Hour {
		return d.Round(time.Second)
	}
	return d.Round(time.Minute)
}

func (f facts) scheduled() Box {
	switch {
	case f.NextDue.IsZero():
		return open("policy", "the next due date is not known")
	case f.ScheduledIn == "":
		return open("policy", "due %s; no calendar was written", day(f.NextDue))
	}
	at := f.DocumentedAt
	if l, ok := f.latest(rotation.Record, nil); ok {
		at = l.At
	}
	if at.IsZero() {
		return open("policy", "due %s; the calendar is written with the record", day(f.NextDue))
	}
	return done("calendar", at, "due %s, in %s", day(f.NextDue), f.ScheduledIn)
}

func (f facts) notified() Box {
	if n := len(f.Told); n > 0 {
		last := slices.MaxFunc(f.Told, func(a, b Told) int { return a.At.Compare(b.At) })
		return done("notifications", last.At, "told %q by %s", last.What, last.Channel)
	}
	for _, step := range []rotation.Step{rotation.Recording, rotation.Undo} {
		if l, ok := f.latest(rotation.Tell, inStep(step)); ok {
			return done("journal", l.At, "told %q", l.Effect.Arg)
		}
	}
	if !f.Row.Plan.Tell {
		return open("configuration", "no channel is configured")
	}
	return open("journal", "nobody was told of the end yet")
}

func (f facts) undisturbed() Box {
	if t, ok := f.turned(); ok && t.Status == rotation.RolledBack {
		return against("journal", f.lines[string(rotation.Turn)].At, "turned back: %s", t.Why)
	}
	watched, watchAt := 0, time.Time{}
	for _, l := range f.made(rotation.WatchLook) {
		var w rotation.WatchState
		if json.Unmarshal(l.Data, &w) != nil {
			continue
		}
		if len(w.Refused) > 0 {
			return against("watch", l.At, "refused with the old value: %s", strings.Join(w.Refused, ", "))
		}
		watched, watchAt = watched+1, l.At
	}
	for _, l := range f.order {
		if missed := f.missed[l.Effect.ID]; l.Effect.Verb == rotation.Probe && len(missed) > 0 {
			return against("probes", missed[0].At, "the probe of %s failed %d time(s)", l.Effect.Place, len(missed))
		}
	}
	probes := f.made(rotation.Probe)
	var blind []string
	for _, p := range f.Row.Plan.Places {
		if !slices.ContainsFunc(probes, about(p.Name)) {
			blind = append(blind, p.Name)
		}
	}
	switch {
	case len(probes) == 0:
		return open("journal", "no probe watched the consumers")
	case len(blind) > 0:
		return open("probes", "no probe watched the consumers of %s", strings.Join(blind, ", "))
	}
	at := probes[len(probes)-1].At
	text := fmt.Sprintf("%d probe(s) went well", len(probes))
	if watched > 0 {
		at, text = watchAt, text+fmt.Sprintf(", and %d look(s) in the watch found nobody refused", watched)
	}
	return done("probes", at, "%s", text)
}
