package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/rotation"
)

// marks are the signs in front of a line, with the colour that carries the same meaning.
var marks = map[string]struct{ sign, colour string }{
	"done":    {"✓", "32"},
	"active":  {"▸", "36"},
	"running": {"·", "36"},
	"next":    {"·", ""},
	"retry":   {"!", "33"},
	"failed":  {"✗", "31"},
	"stopped": {"✗", "31"},
	"skipped": {"-", ""},
	"todo":    {" ", ""},
}

func (c *console) mark(state string) string {
	m := marks[state]
	if m.colour == "" || !c.coloured() {
		return m.sign
	}
	return "\x1b[" + m.colour + "m" + m.sign + "\x1b[0m"
}

// stepLines draws a rotation: a line for each step, and the effects of the active one.
func (c *console) stepLines(v app.View) []string {
	var lines []string
	for _, p := range v.Move.Steps {
		took := ""
		if d := p.To.Sub(p.From); p.State == "done" && !p.From.IsZero() && d >= noticed {
			took = short(d)
		}
		lines = append(lines, fmt.Sprintf(" %s %-10s %s", c.mark(p.State), p.Step, strings.TrimSpace(summary(v, p)+"  "+took)))
		if p.State != "active" && p.State != "stopped" {
			continue
		}
		for _, l := range p.Lines {
			lines = append(lines, fmt.Sprintf("     %s %s", c.mark(l.State), lineText(v, l)))
		}
	}
	return lines
}

// summary says in one phrase what a step brought, from the results of its effects.
func summary(v app.View, p rotation.Progress) string {
	if p.State == "todo" || p.State == "skipped" {
		return ""
	}
	var parts []string
	places := 0
	for _, l := range p.Lines {
		if l.State != "done" {
			continue
		}
		switch l.Effect.Verb {
		case rotation.CheckPlace:
			places++
		case rotation.Acquire, rotation.Choose:
			var got rotation.Acquired
			if json.Unmarshal(l.Data, &got) == nil {
				parts = append(parts, fmt.Sprintf("%s %s", got.Fingerprint, got.How))
			}
		case rotation.TestValue:
			parts = append(parts, "live, organization and workspace as expected")
		case rotation.Confirm:
			parts = append(parts, l.Effect.Place+" "+lineText(v, l))
		case rotation.Put, rotation.Promote:
			parts = append(parts, l.Effect.Place+" ✓")
		case rotation.Gather:
			var f rotation.Facts
			if json.Unmarshal(l.Data, &f) == nil {
				parts = []string{string(rotation.Rule(f).Verdict)}
			}
		case rotation.AwaitRefused:
			parts = append(parts, "inactive, and refused")
		case rotation.Archive:
			parts = append(parts, "archived")
		}
	}
	if places > 0 {
		parts = append([]string{fmt.Sprintf("%d places reachable, in sync, writable", places)}, parts...)
	}
	return audit.Clean(strings.Join(parts, " · "))
}

// verbs says in words what an effect does; the done form is what screens show.
var verbs = map[rotation.Verb][2]string{
	rotation.CheckPlace: {"look at", "reachable, in sync, writable"}, rotation.CheckBackup: {"ask about backup", "backup is alive"},
	rotation.CheckClock: {"compare clocks", "clocks agree"}, rotation.Tell: {"tell people", "people told"},
	rotation.Acquire: {"claim a spare", "claimed"}, rotation.Choose: {"choose a version", "chosen"}, rotation.TestValue: {"test with the provider", "accepted by the provider"},
	rotation.TestRun: {"run test", "test passed"}, rotation.TakePair: {"wait for the pair", "pair is free"}, rotation.FreePair: {"free the pair", "pair freed"},
	rotation.Baseline: {"probe before the change", "probed before the change"}, rotation.Stage: {"stage", "staged"}, rotation.Promote: {"promote", "in force"},
	rotation.Put: {"write", "written"}, rotation.PutHome: {"give its own value back", "has its own value back"}, rotation.PutBack: {"put the old version back", "old version is back"},
	rotation.Reload: {"reload", "reloaded"}, rotation.Confirm: {"confirm the running consumers", "confirmed"}, rotation.Probe: {"probe", "works"},
	rotation.Judge: {"find out what is to blame", "judged"}, rotation.Flip: {"make the new version current", "new version is current"},
	rotation.Drift: {"read all places again", "all places hold the new version"}, rotation.Heartbeat: {"send a heartbeat", "heartbeat sent"},
	rotation.Gather: {"gather evidence", "evidence gathered"}, rotation.Deactivate: {"set the old version inactive", "set inactive"},
	rotation.AwaitRefused: {"wait until the old value is refused", "the old value is refused"}, rotation.Activate: {"set active", "set active"},
	rotation.AwaitAccepted: {"wait until the value is accepted", "the value is accepted"}, rotation.WatchLook: {"look whether anybody is refused", "nobody is refused"},
	rotation.Archive: {"archive the old version", "archived"}, rotation.PurgePlace: {"remove old copies", "old copies removed"},
	rotation.PurgeValue: {"remove the old value from custody", "old value removed from custody"}, rotation.Record: {"write the record", "recorded"},
	rotation.Settle: {"settle the versions", "versions settled"}, rotation.Open: {"open an incident", "incident opened"}, rotation.Turn: {"turn back", "turned back"},
}

// lineText says one effect in words.
func lineText(v app.View, l rotation.Line) string {
	words := verbs[l.Effect.Verb]
	where := l.Effect.Place
	if where == "" {
		where = l.Effect.Arg
		if l.Effect.Verb != rotation.TestRun && l.Effect.Verb != rotation.Tell && l.Effect.Verb != rotation.Record {
			where = ""
		}
	}
	text := words[0]
	if l.State == "done" {
		text = words[1]
		if how := howKnown(v, l); how != "" {
			text += " (" + how + ")"
		}
		if l.Took >= noticed {
			text += "  " + short(l.Took)
		}
	}
	if where != "" {
		text = where + "  " + text
	}
	if l.Fault != nil && l.State != "done" {
		text += ": " + l.Fault.Message
	}
	return audit.Clean(text)
}

// howKnown says on what evidence a result rests.
func howKnown(v app.View, l rotation.Line) string {
	switch l.Effect.Verb {
	case rotation.Confirm:
		var c location.Confirmation
		if json.Unmarshal(l.Data, &c) == nil && c.Running > 0 {
			return fmt.Sprintf("%d of %d running, %s", c.Taken, c.Running, c.How)
		}
	case rotation.Put, rotation.Promote, rotation.PutBack:
		if p, ok := v.Row.Plan.Place(l.Effect.Place); ok && !p.Can.Read {
			return "cannot be read back"
		}
		return "read back"
	case rotation.Reload:
		if p, ok := v.Row.Plan.Place(l.Effect.Place); ok && !p.Can.Confirm {
			return "consumers cannot be asked"
		}
	}
	return ""
}

// noticed is the shortest time that is worth a place on the screen.
const noticed = 100 * time.Millisecond

// short gives a duration in the largest unit that says something.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0fm", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0fh", d.Hours())
	default:
		return fmt.Sprintf("%.0fd", d.Hours()/24)
	}
}

// age gives a duration as people count it: whole days that have passed, as status does, or less than two of them in the largest unit.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	if d < 2*day {
		return short(d)
	}
	return fmt.Sprintf("%d days", d/day)
}

// dueWords says when something is due, or since when.
func dueWords(due, now time.Time) string {
	if d := now.Sub(due); d > 0 {
		return "due " + age(d) + " ago"
	}
	return "due in " + age(due.Sub(now))
}

// relative gives a time as people say it, beside the absolute one where both are wanted.
func relative(t, now time.Time) string {
	switch d := t.Sub(now); {
	case t.IsZero():
		return "-"
	case d >= 0:
		return "in " + short(d)
	default:
		return short(-d) + " ago"
	}
}
