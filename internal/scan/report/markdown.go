package report

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Markdown writes the report as a Markdown document.
func (r *Report) Markdown(w io.Writer) error {
	p := &printer{w: w}
	p.line("# Scan for keys")
	p.line("")
	p.line(md(r.Summary()))
	if !r.Started.IsZero() {
		p.line("")
		p.line(md("Scanned " + stamp(r.Started) + " with keywright " + r.Version + "."))
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.Counts() {
			p.keyMarkdown(k)
		}
	}
	var ignored []string
	for i := range r.Keys {
		if k := &r.Keys[i]; !k.Counts() {
			ignored = append(ignored, "- "+md(string(k.Fingerprint)+" "+k.Name()+": "+k.Ignored.words()))
		}
	}
	p.list("## Ignored", ignored)
	missed := func(title string, gaps []Gap, more int) {
		var lines []string
		for _, g := range gaps {
			lines = append(lines, "- "+md(g.phrase()))
		}
		if more > 0 {
			lines = append(lines, fmt.Sprintf("- and %d more", more))
		}
		p.list(title, lines)
	}
	missed("## Not searched", r.Gaps, r.MoreGaps)
	missed("## Not looked into", r.Unopened, r.MoreUnopened)
	var notes []string
	for _, n := range r.Notes {
		notes = append(notes, "- "+md(n))
	}
	p.list("## Notes", notes)
	return p.err
}

func (p *printer) list(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	p.line("")
	p.line(title)
	p.line("")
	for _, l := range lines {
		p.line(l)
	}
}

func (p *printer) keyMarkdown(k *Key) {
	p.line("")
	p.line("## " + md(string(k.Fingerprint)+" "+k.Name()))
	p.line("")
	parts := []string{k.Grade.String(), k.Standing()}
	if s := k.Whose(); s != "" {
		parts = append(parts, s)
	}
	if k.Hint != "" {
		parts = append(parts, k.Hint)
	}
	p.line(md(strings.Join(parts, " · ")))
	p.line("")
	p.line("| Place | Detail |")
	p.line("|---|---|")
	for _, pl := range k.Places {
		p.line("| " + md(pl.Where()) + " | " + md(pl.Detail()) + " |")
	}
	if k.MorePlaces > 0 {
		p.line("| and " + count(k.MorePlaces, "place") + " more | |")
	}
	var lines []string
	for _, e := range k.Exposure {
		for _, l := range e.Story() {
			if !e.Repository.IsZero() {
				l = e.Repository.s + ": " + l
			}
			lines = append(lines, "- "+md(l))
		}
	}
	p.list("Exposure:", lines)
	if k.Usage != nil {
		lines = nil
		for _, l := range k.Usage.Story() {
			if strings.HasPrefix(l, " ") {
				lines = append(lines, "  - "+md(strings.TrimSpace(l)))
			} else {
				lines = append(lines, "- "+md(l))
			}
		}
		p.list("Usage since it was exposed:", lines)
	}
	lines = nil
	for i, s := range k.Next() {
		lines = append(lines, fmt.Sprintf("%d. %s", i+1, md(s)))
	}
	p.list("What to do, in this order:", lines)
}

var www = regexp.MustCompile(`(?i)(www)\.`)

// md escapes text for any place in a Markdown line, table cells included: every ASCII mark that could begin a construct, and the characters
// of HTML as entities. A mention is broken by an entity, so that nobody is called.
func md(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '@':
			b.WriteString("&#64;")
		case r == '#':
			b.WriteString("&#35;")
		case r == '|':
			b.WriteString("&#124;")
		case r == ':':
			b.WriteString("&#58;") // begins no link by itself
		case r == '\n' || r == '\r':
			b.WriteByte(' ')
		case strings.ContainsRune("\\`*_{}[]()!~^=+$", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	s = b.String()
	// A line must not begin a list, a rule or a quotation; the dots of "www." would make a link.
	if t := strings.TrimLeft(s, " "); strings.HasPrefix(t, "-") {
		s = strings.Repeat(" ", len(s)-len(t)) + "\\" + t
	}
	return www.ReplaceAllString(s, "$1&#46;")
}
