package report

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// LogTitle is the heading under which entries stand, newest first.
const LogTitle = "# Anthropic API Key Rotation Log"

// The marks around an entry. They say which rotation it is of, so that recording it again replaces it.
const (
	beginMark = "<!-- keywright:rotation "
	endMark   = "<!-- /keywright:rotation "
	closeMark = " -->"
)

// LogEntry gives the rotation's entry for the rotation log in the runbook's Markdown form, between two comment lines that name the
// rotation. Everything that people or other systems wrote is escaped: it cannot make Markdown or HTML of its own.
func LogEntry(in Input) string { return RecordOf(in).Markdown() }

// Markdown gives the entry's Markdown; see LogEntry.
func (r Record) Markdown() string {
	id := markID(r.Rotation)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s%s%s", beginMark, id, closeMark)
	line("## %s Rotation: %s", day(r.Date), md(string(r.Key)))
	line("")
	line("- **Previous Key:** %s", r.Previous.markdown("none was known"))
	line("- **New Key:** %s", r.New.markdown("none was chosen"))
	line("- **Rotated By:** %s", md(r.By))
	reason := md(r.Reason)
	if r.Note != "" {
		reason = strings.TrimPrefix(reason+": "+md(r.Note), ": ")
	}
	line("- **Reason:** %s", reason)
	outcome := md(string(r.Status))
	if r.Outcome != "" && r.Outcome != string(r.Status) {
		outcome = md(r.Outcome)
	}
	line("- **Rotation:** %s, %s, began %s: %s", code(r.Rotation), md(string(r.Kind)), stamp(r.Began), outcome)
	line("- **Locations Updated:**")
	for _, p := range r.Locations {
		at, more := "", ""
		if !p.At.IsZero() {
			at = " " + stamp(p.At)
		}
		if p.More != "" {
			more = "; " + md(p.More)
		}
		line("  - %s %s (%s): %s%s%s", placeMarks[p.Mark], md(p.Name), md(p.Kind), md(p.Text), at, more)
	}
	if len(r.Locations) == 0 {
		line("  - none")
	}
	r.evidence(line)
	r.issues(line)
	r.people(line)
	r.told(line)
	next := "not known"
	if !r.NextDue.IsZero() {
		next = day(r.NextDue)
	}
	line("- **Next Rotation Due:** %s", next)
	line("%s%s%s", endMark, id, closeMark)
	return b.String()
}

var placeMarks = map[Mark]string{InPlace: "✅", Vouched: "(signed)", Written: "(not verified)", Restored: "(put back)", Other: "❌", Untouched: "(unchanged)"}

func (v *VersionLine) markdown(none string) string {
	if v == nil {
		return none
	}
	id := "id not known"
	if v.ProviderID != "" {
		id = code(v.ProviderID)
	}
	lent := ""
	if v.Lent {
		lent = " (lent)"
	}
	return fmt.Sprintf("%s%s %s %s - %s", md(string(v.Key)), lent, id, code(string(v.Fingerprint)), md(v.stateWords()))
}

func (r Record) evidence(line func(string, ...any)) {
	switch {
	case r.Kind == rotation.Emergency:
		line("- **Evidence:** skipped: an emergency does not wait for it, and the previous key is taken for compromised")
		return
	case r.Kind == rotation.Rollback:
		line("- **Evidence:** none is needed: nothing was retired")
		return
	case r.Evidence == nil:
		line("- **Evidence:** none was gathered")
		return
	}
	line("- **Evidence:** %s", md(string(r.Evidence.Verdict)))
	words := map[rotation.Mark]string{rotation.For: "for", rotation.Against: "AGAINST", rotation.Pending: "not there yet", rotation.Missing: "MISSING"}
	for _, f := range r.Evidence.Findings {
		watch := ""
		if f.Watch {
			watch = "; the watch decided"
		}
		line("  - %s: %s (%s%s)", words[f.Mark], md(f.Text), md(f.Source), watch)
	}
}

func (r Record) issues(line func(string, ...any)) {
	if len(r.Issues) == 0 {
		line("- **Issues:** None")
		return
	}
	line("- **Issues:**")
	for _, i := range r.Issues {
		tries := ""
		if i.Tries > 1 {
			tries = fmt.Sprintf(" (%d times)", i.Tries)
		}
		solved := ""
		if !i.Solved {
			solved = " - NOT SOLVED"
		}
		line("  - %s %s%s%s", stamp(i.At), md(i.What), tries, solved)
	}
}

func (r Record) people(line func(string, ...any)) {
	if len(r.People) == 0 {
		line("- **Approvals and Signatures:** none")
		return
	}
	line("- **Approvals and Signatures:**")
	words := map[rotation.Signal]string{rotation.SignalApprove: "approved by", rotation.SignalSign: "signed by", rotation.SignalCancel: "cancelled by"}
	for _, w := range r.People {
		subject, note := "", ""
		if w.Subject != "" {
			subject = " for " + md(w.Subject)
		}
		if w.Note != "" {
			note = ": " + md(w.Note)
		}
		line("  - %s %s %s%s%s", stamp(w.At), words[w.Signal], md(w.By), subject, note)
	}
}

// told lists who was told. An entry that is written before anybody was told, or where no channel is configured, has no such line.
func (r Record) told(line func(string, ...any)) {
	if len(r.Told) == 0 {
		return
	}
	line("- **Told:**")
	for _, t := range r.Told {
		line("  - %s %s: %s", stamp(t.At), md(t.Channel), md(t.What))
	}
}

// md escapes text for the middle of a line of Markdown.
func md(s string) string {
	var b strings.Builder
	for _, c := range clean(s) {
		switch c {
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '&':
			b.WriteString("&amp;")
		case '\\', '`', '*', '_', '[', ']', '|', '~', '#', '!', '$':
			b.WriteByte('\\')
			b.WriteRune(c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

var plainID = regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`)

// code sets an identifier as code, or escapes it when it is of no such form.
func code(s string) string {
	if plainID.MatchString(s) && clean(s) == s {
		return "`" + s + "`"
	}
	return md(s)
}

// markID gives the form of a rotation's id that can stand in a comment.
func markID(id string) string {
	id = strings.Map(func(c rune) rune {
		if c < 0x80 && plainID.MatchString(string(c)) {
			return c
		}
		return '.'
	}, id)
	return strings.ReplaceAll(id, "--", "-.")
}

// Insert gives the log with the entry in it: in place of the entry of the same rotation, or else as the first under LogTitle, which is
// added at the end when it is missing. Every other byte of the log stays as it is. The line ends of the entry follow the log's. Invalid
// when the entry is not of LogEntry's form.
func Insert(log []byte, entry string) ([]byte, error) {
	first, _, _ := strings.Cut(entry, "\n")
	id, ok := strings.CutPrefix(first, beginMark)
	if id, ok = cutSuffix(id, closeMark, ok); !ok || id != markID(id) || !strings.HasSuffix(entry, "\n"+endMark+id+closeMark+"\n") {
		return nil, fault.New(fault.Invalid, "add to rotation log: the entry lacks its marks")
	}
	if from, to, ok := find(log, id); ok {
		return splice(log, from, to, ends(log[from:to], entry)), nil
	}
	if at, ok := title(log); ok {
		head, rest := log[:at], log[at:]
		entry = ends(head, "\n"+entry)
		if !bytes.HasSuffix(head, []byte("\n")) {
			entry = "\n" + entry
		}
		if len(rest) > 0 && rest[0] != '\n' && !bytes.HasPrefix(rest, []byte("\r\n")) {
			entry += ends(head, "\n")
		}
		return splice(log, at, at, entry), nil
	}
	entry = LogTitle + "\n\n" + entry
	if len(log) > 0 {
		entry = "\n" + entry
		if log[len(log)-1] != '\n' {
			entry = "\n" + entry
		}
	}
	return splice(log, len(log), len(log), ends(log, entry)), nil
}

func cutSuffix(s, suffix string, before bool) (string, bool) {
	s, ok := strings.CutSuffix(s, suffix)
	return s, ok && before
}

func splice(log []byte, from, to int, entry string) []byte {
	out := make([]byte, 0, len(log)+len(entry))
	out = append(out, log[:from]...)
	out = append(out, entry...)
	return append(out, log[to:]...)
}

// ends gives text the line ends of what stands around it.
func ends(around []byte, text string) string {
	if i := bytes.IndexByte(around, '\n'); i > 0 && around[i-1] == '\r' {
		return strings.ReplaceAll(text, "\n", "\r\n")
	}
	return text
}

// find gives the bytes of a rotation's entry, from its first mark to the end of the line of its last. Of several marks at the
// beginning the one nearest to the end counts; an entry without its last mark is none.
func find(log []byte, id string) (from, to int, ok bool) {
	from = -1
	for at := 0; at < len(log); at = to {
		to = lineEnd(log, at)
		line := strings.TrimRight(string(log[at:to]), "\r\n")
		switch {
		case line == beginMark+id+closeMark:
			from = at
		case strings.HasPrefix(line, beginMark):
			from = -1
		case line == endMark+id+closeMark && from >= 0:
			return from, to, true
		}
	}
	return 0, 0, false
}

// title gives the end of the line of LogTitle, outside of code blocks.
func title(log []byte) (end int, ok bool) {
	fence := ""
	for at := 0; at < len(log); at = end {
		end = lineEnd(log, at)
		line := strings.TrimRight(string(log[at:end]), " \t\r\n")
		switch {
		case fence != "":
			if strings.HasPrefix(line, fence) {
				fence = ""
			}
		case strings.HasPrefix(line, "```"), strings.HasPrefix(line, "~~~"):
			fence = line[:3]
		case line == LogTitle:
			return end, true
		}
	}
	return 0, false
}

func lineEnd(log []byte, at int) int {
	if i := bytes.IndexByte(log[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(log)
}
