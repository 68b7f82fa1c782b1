package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/scan"
)

// Name gives the kind in words, such as "Anthropic API key".
func (k *Key) Name() string {
	family := k.Family
	switch family {
	case "anthropic":
		family = "Anthropic"
	case "openai":
		family = "OpenAI"
	case "inventory":
		family = "" // its kind says it
	}
	return strings.TrimSpace(family + " " + string(k.Kind))
}

// Standing says in a phrase whether the key is alive, and how that is known.
func (k *Key) Standing() string {
	switch {
	case k.Verdict == nil:
		return "not verified"
	case k.Verdict.State == Live:
		return "LIVE (" + k.Verdict.Reason + ")"
	default:
		return string(k.Verdict.State) + " (" + k.Verdict.Reason + ")"
	}
}

// Whose says which key of the inventory it is, or nothing.
func (k *Key) Whose() string {
	if k.Known == nil {
		return ""
	}
	s := string(k.Known.Key) + " (" + string(k.Known.State)
	if k.Known.Compromised {
		s += ", compromised"
	}
	if !k.Known.Retired.IsZero() {
		s += " since " + day(k.Known.Retired)
	}
	return s + ")"
}

// Where gives a place as people write it: path, line, and what the key is wrapped in.
func (p Place) Where() string {
	var b strings.Builder
	if !p.Repository.IsZero() {
		b.WriteString(p.Repository.s + ": ")
	}
	switch {
	case !p.Path.IsZero():
		b.WriteString(p.Path.s)
	case p.Source == "stdin":
		b.WriteString("standard input")
	case p.Part != "":
		b.WriteString(p.Part)
	default:
		b.WriteString(p.Source)
	}
	switch {
	case !p.Inner.IsZero():
		b.WriteString("!/" + brief(p.Inner, longName))
	case p.Line > 0:
		b.WriteString(":" + strconv.Itoa(p.Line))
	case p.Offset > 0:
		b.WriteString(" at byte " + strconv.FormatInt(p.Offset, 10))
	}
	return b.String()
}

// Detail says what else is known about a place, or nothing.
func (p Place) Detail() string {
	var parts []string
	if p.Layer != nil {
		parts = append(parts, p.Layer.words())
	}
	if p.Form != "" {
		parts = append(parts, "in "+strings.ReplaceAll(p.Form, ">", " in "))
	}
	if p.Part != "" && !p.Path.IsZero() {
		parts = append(parts, p.Part)
	}
	if p.Source != "file" && p.Source != "stdin" {
		parts = append(parts, p.Source)
	}
	if p.Object != "" {
		parts = append(parts, "object "+shortID(p.Object))
	}
	if p.Allowed {
		parts = append(parts, "marked as allowed")
	}
	return strings.Join(parts, ", ")
}

func (l *Layer) words() string {
	s := "configuration"
	if l.Number > 0 {
		s = fmt.Sprintf("layer %d of %d", l.Number, l.Of)
	}
	if !l.Image.IsZero() {
		s += " of " + l.Image.s
	}
	if !l.Command.IsZero() {
		s += ", made by " + brief(l.Command, 80)
	}
	return s
}

// Story tells an exposure in sentences without full stops, the most important first.
func (e Exposure) Story() []string {
	var lines []string
	var first []string
	if e.First != nil {
		first = append(first, "added "+e.First.words())
	}
	switch n := len(e.Removed); {
	case n == 1:
		first = append(first, "removed "+e.Removed[0].words())
	case n > 1:
		first = append(first, fmt.Sprintf("removed %d times, last %s", n, e.Removed[n-1].words()))
	}
	switch n := len(e.Reintroduced); {
	case n == 1:
		first = append(first, "brought back "+e.Reintroduced[0].words())
	case n > 1:
		first = append(first, fmt.Sprintf("brought back %d times, last %s", n, e.Reintroduced[n-1].words()))
	}
	if len(first) > 0 {
		lines = append(lines, strings.Join(first, ", "))
	}
	var reach []string
	switch {
	case e.Only != "":
		reach = append(reach, "only in "+e.Only)
	case e.InHead:
		reach = append(reach, "in HEAD")
	case len(e.Tips) > 0:
		reach = append(reach, "still at the tip of "+names(e.Tips))
	case len(e.Refs) > 0:
		reach = append(reach, "at no tip, in the history of "+names(e.Refs))
	}
	switch e.Pushed {
	case "yes":
		s := "pushed"
		if len(e.PushedTo) > 0 {
			s += " to " + names(e.PushedTo)
		}
		if !e.PushedAt.IsZero() {
			s += " " + day(e.PushedAt)
		}
		reach = append(reach, s)
	case "never":
		reach = append(reach, "never pushed from here")
	}
	if len(reach) > 0 {
		lines = append(lines, strings.Join(reach, ", "))
	}
	if d := e.duration(); d != "" {
		lines = append(lines, d)
	}
	return lines
}

func (e Exposure) duration() string {
	if e.From.IsZero() {
		return ""
	}
	what := "exposed"
	if e.Pushed == "never" {
		what = "in this repository for"
	}
	s := what + " " + days(e.Days)
	if !e.To.IsZero() {
		s += ", until " + day(e.To)
	} else {
		s += ", and still"
	}
	return s
}

func (c Commit) words() string {
	s := shortID(c.ID)
	at := c.Committed
	if at.IsZero() {
		at = c.Authored
	}
	if !at.IsZero() {
		s += " " + day(at)
	}
	if !c.Author.IsZero() {
		s += " by " + c.Author.s
	}
	return s
}

// Next gives what to do about the key, in the right order: first what ends its use, last what tidies up.
func (k *Key) Next() []string {
	var steps []string
	dead := k.Verdict != nil && k.Verdict.State == Dead
	pushed, inFiles := false, false
	for _, e := range k.Exposure {
		pushed = pushed || e.Pushed != "never"
	}
	for _, p := range k.Places {
		inFiles = inFiles || p.Source != "history"
	}
	known := k.Known != nil && k.Known.State.Live()
	switch {
	case dead:
		steps = append(steps, "It is refused by the provider: nothing has to be rotated.")
	case known:
		steps = append(steps, fmt.Sprintf("Replace it everywhere and set it inactive now: keywright emergency %s --reason \"found by scan\"", k.Known.Key))
	case k.Family == "anthropic" && (k.Kind == "API key" || k.Kind == "scoped key" || k.Grade == scan.Near):
		steps = append(steps, "Make a new key in the Console, put it where this one is used, then set this one inactive in the Console. Rewriting files first leaves the key usable by whoever has it.")
	case k.Kind == "admin key":
		steps = append(steps, "Delete this admin key in the Console and make a new one. It can create users and change keys: look at the activity log since it was exposed.")
	case k.Kind == "OAuth access token" || k.Kind == "OAuth refresh token" || k.Kind == "session key":
		steps = append(steps, "End the session that it belongs to: log out everywhere, then log in again.")
	case k.Kind == "webhook secret":
		steps = append(steps, "Rotate the webhook's secret where the webhook is set up.")
	default:
		steps = append(steps, "Make a new key with its provider, put it where this one is used, then revoke this one.")
	}
	if !dead && k.Verdict == nil && checkable(k) {
		steps = append(steps, "See whether it is alive: add --verify.")
	}
	switch {
	case k.Usage != nil && k.Usage.Why == "" && (k.Usage.Count > 0 || !dead):
		steps = append(steps, "Compare its usage, above, to what you know of: unexpected models, hours or amounts mean that somebody else used it.")
	case !dead:
		steps = append(steps, "Look at its usage since it was exposed: unexpected models, hours or amounts mean that somebody else used it.")
	}
	if inFiles {
		steps = append(steps, "Take it out of the files above, and read it from the environment or a place made for it instead.")
	}
	if len(k.Exposure) > 0 {
		if pushed {
			steps = append(steps, "Only then think about rewriting history: clones, forks, caches and pull requests keep the old objects, so a rewrite hides the key and does not take it back.")
		} else {
			steps = append(steps, "It was never pushed from here: rewrite the commits before they are (git rebase, or git filter-repo), then let git forget them (git reflog expire --expire=now --all, git gc --prune=now).")
		}
	}
	if dead {
		steps = append(steps, fmt.Sprintf("Keep later scans quiet about it: add a line to a baseline: %s never YOU@EXAMPLE rotated", k.Fingerprint))
	}
	return steps
}

func checkable(k *Key) bool {
	return k.Grade == scan.Exact && k.Family == "anthropic" && (k.Kind == "API key" || k.Kind == "admin key" || k.Kind == "OAuth access token")
}

// Summary gives the last line of the table.
func (r *Report) Summary() string {
	parts := []string{count(r.Counts.Keys, "key") + " in " + count(r.Counts.Places, "place")}
	if r.Counts.Keys == 0 {
		parts[0] = "no key"
	}
	var searched []string
	if r.Scanned.Objects > 0 {
		searched = append(searched, count(r.Scanned.Objects, "object"))
	}
	if r.Scanned.Files > 0 || len(searched) == 0 {
		searched = append(searched, count(r.Scanned.Files, "file"))
	}
	parts = append(parts, strings.Join(searched, " + ")+fmt.Sprintf(" in %.1f s", r.Seconds))
	if n := r.Counts.Placeholders; n > 0 {
		parts = append(parts, count(n, "placeholder")+" not counted")
	}
	if n := r.Counts.Ignored; n > 0 {
		parts = append(parts, fmt.Sprintf("%d ignored", n))
	}
	if n := r.Counts.AllowMarksRefused; n > 0 {
		parts = append(parts, count(n, "allow mark")+" not honoured")
	}
	if n := r.Counts.BaselineRefused; n > 0 {
		parts = append(parts, count(n, "baseline entry")+" not honoured")
	}
	if n := len(r.Unopened) + r.MoreUnopened; n > 0 {
		parts = append(parts, count(n, "part")+" not looked into")
	}
	if r.Complete {
		parts = append(parts, "complete")
	} else {
		parts = append(parts, fmt.Sprintf("INCOMPLETE: %s not searched", count(len(r.Gaps)+r.MoreGaps, "part")))
	}
	return strings.Join(parts, " · ")
}

// What gives what a gap is about.
func (g Gap) What() string {
	var parts []string
	if !g.Repository.IsZero() {
		parts = append(parts, g.Repository.s)
	}
	if !g.Path.IsZero() {
		parts = append(parts, g.Path.s)
	}
	if g.Object != "" {
		parts = append(parts, "object "+shortID(g.Object))
	}
	if !g.Inner.IsZero() {
		parts = append(parts, brief(g.Inner, longName))
	}
	return strings.Join(parts, ", ")
}

// Why gives the reason of a gap, and how often it holds.
func (g Gap) Why() string {
	if g.Times > 1 {
		return g.Reason + fmt.Sprintf(" (%d times)", g.Times)
	}
	return g.Reason
}

// longName is how much of a name within an archive is worth a reader's time: a damaged archive can have any.
const longName = 200

// brief gives at most so many characters of a text.
func brief(t Text, most int) string {
	if all := []rune(t.s); len(all) > most {
		return string(all[:most]) + "…"
	}
	return t.s
}

func names(all []Text) string {
	const most = 3
	var s []string
	for i, t := range all {
		if i == most {
			return strings.Join(s, ", ") + fmt.Sprintf(" and %d more", len(all)-most)
		}
		s = append(s, t.s)
	}
	return strings.Join(s, ", ")
}

func shortID(id string) string { return id[:min(len(id), 9)] }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func days(d float64) string {
	switch {
	case d < 1.0/24:
		return "less than an hour"
	case d < 2:
		return count(int(math.Round(d*24)), "hour")
	default:
		return count(int(math.Round(d)), "day")
	}
}

// count gives a number with its noun, thousands apart.
func count(n int, noun string) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "ry"):
		noun = strings.TrimSuffix(noun, "y") + "ies"
	default:
		noun += "s"
	}
	return s + " " + noun
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "time not known"
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}
