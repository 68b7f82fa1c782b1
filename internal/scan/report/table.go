package report

import (
	"fmt"
	"io"
	"strings"
)

// TableOptions says how a table looks.
type TableOptions struct {
	// Colour marks what is alive and what is incomplete.
	Colour bool
	// All lists ignored keys and all places; otherwise the first places of each key are shown.
	All bool
	// Next ends with the command that tells more.
	Next bool
}

const (
	somePlaces = 6
	someGaps   = 10
)

// Table writes the report for people.
func (r *Report) Table(w io.Writer, o TableOptions) error {
	p := &printer{w: w}
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.Counts() || o.All {
			p.key(k, o)
		}
	}
	p.gaps(r, o)
	for _, n := range r.Notes {
		p.line("note: " + n)
	}
	summary := r.Summary()
	if !r.Complete {
		summary = o.paint(summary, "33")
	}
	p.line(summary)
	if k := r.first(); k != nil && o.Next {
		p.line("next: keywright scan show " + string(k.Fingerprint))
	}
	return p.err
}

func (r *Report) first() *Key {
	for i := range r.Keys {
		if r.Keys[i].Counts() {
			return &r.Keys[i]
		}
	}
	return nil
}

func (o TableOptions) paint(s, colour string) string {
	if !o.Colour {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// printer remembers the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(s string) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, s)
	}
}

func (p *printer) key(k *Key, o TableOptions) {
	p.line(k.headline(o))
	shown := k.Places
	if !o.All && len(shown) > somePlaces {
		shown = shown[:somePlaces]
	}
	for _, pl := range shown {
		s := "  " + pl.Where()
		if d := pl.Detail(); d != "" {
			s += "  (" + d + ")"
		}
		p.line(s)
	}
	if n := len(k.Places) - len(shown) + k.MorePlaces; n > 0 {
		p.line(fmt.Sprintf("  and %s more", count(n, "place")))
	}
	for _, e := range k.Exposure {
		for _, l := range e.Story() {
			if !e.Repository.IsZero() {
				l = e.Repository.s + ": " + l
			}
			p.line("    " + l)
		}
	}
	if k.Usage != nil {
		p.line("    " + k.Usage.Phrase())
	}
	if k.Ignored != nil {
		p.line("    " + k.Ignored.words())
	}
	p.line("")
}

func (k *Key) headline(o TableOptions) string {
	parts := []string{k.Name(), k.Grade.String()}
	if k.Hint != "" {
		parts = append(parts, k.Hint)
	}
	if s := k.Whose(); s != "" {
		parts = append(parts, s)
	}
	standing := k.Standing()
	if k.Live() {
		standing = o.paint(standing, "31;1")
	}
	return string(k.Fingerprint) + "  " + strings.Join(append(parts, standing), " · ")
}

func (i *Ignored) words() string {
	s := "ignored by " + i.By
	if !i.Reason.IsZero() {
		s += ": " + i.Reason.s
	}
	if !i.Author.IsZero() {
		s += " (" + i.Author.s + ")"
	}
	if !i.Expires.IsZero() {
		s += " until " + day(i.Expires)
	}
	return s
}

func (p *printer) gaps(r *Report, o TableOptions) {
	p.missed("not searched:", r.Gaps, r.MoreGaps, o)
	p.missed("not looked into:", r.Unopened, r.MoreUnopened, o)
}

func (p *printer) missed(title string, gaps []Gap, more int, o TableOptions) {
	if len(gaps) == 0 {
		return
	}
	p.line(title)
	shown := gaps
	if !o.All && len(shown) > someGaps {
		shown = shown[:someGaps]
	}
	for _, g := range shown {
		s := "  " + g.Why()
		if what := g.What(); what != "" {
			s = "  " + what + ": " + g.Why()
		}
		p.line(s)
	}
	if n := len(gaps) - len(shown) + more; n > 0 {
		p.line(fmt.Sprintf("  and %s more", count(n, "part")))
	}
	p.line("")
}

// Story writes one page about one key: what it is, where it was, and what to do next.
func (r *Report) Story(w io.Writer, k *Key, o TableOptions) error {
	p := &printer{w: w}
	p.line(k.headline(o))
	if k.Ignored != nil {
		p.line(k.Ignored.words())
	}
	if len(k.Exposure) > 0 {
		p.line("\nexposure")
		for _, e := range k.Exposure {
			p.exposure(e)
		}
	}
	if k.Usage != nil {
		p.line("\nusage since it was exposed")
		for _, l := range k.Usage.Story() {
			p.line("  " + l)
		}
	}
	p.line("\nplaces")
	for _, pl := range k.Places {
		s := "  " + pl.Where()
		if d := pl.Detail(); d != "" {
			s += "  (" + d + ")"
		}
		p.line(s)
	}
	if k.MorePlaces > 0 {
		p.line(fmt.Sprintf("  and %s more", count(k.MorePlaces, "place")))
	}
	p.line("\nwhat to do, in this order")
	for i, s := range k.Next() {
		p.line(fmt.Sprintf("  %d. %s", i+1, s))
	}
	if !r.Complete || len(r.Unopened) > 0 {
		p.line("")
		p.gaps(r, o)
	}
	if !r.Complete {
		p.line(o.paint("the search was incomplete: there may be more places", "33"))
	}
	return p.err
}

func (p *printer) exposure(e Exposure) {
	if !e.Repository.IsZero() {
		p.line("  " + e.Repository.s)
	}
	for _, l := range e.Story() {
		p.line("  " + l)
	}
	commit := func(what string, c *Commit) {
		if c == nil {
			return
		}
		p.line(fmt.Sprintf("    %-12s %s", what, c.ID))
		if !c.Author.IsZero() {
			p.line(fmt.Sprintf("    %-12s %s, %s", "", c.Author.s, stamp(c.Authored)))
		}
		if !c.Committer.IsZero() && (c.Committer != c.Author || !c.Committed.Equal(c.Authored)) {
			p.line(fmt.Sprintf("    %-12s committed by %s, %s", "", c.Committer.s, stamp(c.Committed)))
		}
		if !c.Subject.IsZero() {
			p.line(fmt.Sprintf("    %-12s %s", "", c.Subject.s))
		}
	}
	commit("added", e.First)
	for i := range e.Removed {
		commit("removed", &e.Removed[i])
	}
	for i := range e.Reintroduced {
		commit("brought back", &e.Reintroduced[i])
	}
	if e.First == nil || e.Last == nil || e.Last.ID != e.First.ID {
		commit("last seen", e.Last)
	}
	for _, ref := range e.Refs {
		p.line(fmt.Sprintf("    %-12s %s", "in", ref.s))
	}
	if e.MoreRefs > 0 {
		p.line(fmt.Sprintf("    %-12s and %s more", "", count(e.MoreRefs, "ref")))
	}
}
