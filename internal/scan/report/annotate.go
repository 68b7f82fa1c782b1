package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// mostAnnotations is how many places are annotated; services show a few dozen at most.
const mostAnnotations = 200

// Annotations writes the report as workflow commands of GitHub Actions, one line for each place of each key that counts, and one for the
// summary.
func (r *Report) Annotations(w io.Writer) error {
	p := &printer{w: w}
	n := 0
	for i := range r.Keys {
		k := &r.Keys[i]
		if !k.Counts() {
			continue
		}
		for _, pl := range k.Places {
			if n++; n <= mostAnnotations {
				p.line(k.annotation(pl))
			}
		}
	}
	if n > mostAnnotations {
		p.line("::warning title=keywright::" + message(count(n-mostAnnotations, "place")+" more"))
	}
	for i, g := range r.Gaps {
		if i == someGaps {
			p.line("::warning title=keywright::" + message(count(len(r.Gaps)+r.MoreGaps-i, "part")+" more not searched"))
			break
		}
		p.line("::warning title=keywright::" + message(g.sentence()))
	}
	for i, g := range r.Unopened {
		if i == someGaps {
			p.line("::notice title=keywright::" + message(count(len(r.Unopened)+r.MoreUnopened-i, "part")+" more not looked into"))
			break
		}
		p.line("::notice title=keywright::" + message("not looked into: "+g.phrase()))
	}
	p.line("::notice title=keywright::" + message(r.Summary()))
	return p.err
}

func (k *Key) annotation(p Place) string {
	level := k.level()
	if level == "note" {
		level = "notice"
	}
	props := []string{}
	if !p.Path.IsZero() {
		props = append(props, "file="+property(p.Path.s))
	}
	if p.Line > 0 {
		props = append(props, "line="+strconv.Itoa(p.Line))
	}
	props = append(props, "title="+property(k.Name()+" "+string(k.Fingerprint)))
	return fmt.Sprintf("::%s %s::%s", level, strings.Join(props, ","), message(k.sentence(p)))
}

// message escapes the text of a workflow command, property a property of one. Text has no line ends; they are escaped all the same.
func message(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func property(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}
