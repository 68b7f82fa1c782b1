package rotation

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Facts is the evidence about the old version at one moment. Every fact is three-valued: nothing was seen, something was seen, or it is not
// available. What is not available is said, and never passes for "nothing".
type Facts struct {
	At time.Time `json:"at"`
	// Elsewhere names keys, places and gateways where the version is current, pending or wanted, asked by fingerprint.
	Elsewhere []string `json:"elsewhere,omitempty"`
	// Added names places that came into the configuration during the rotation and were not verified.
	Added []string `json:"added,omitempty"`
	// SoakOver is true when the soak, in provider time, is over.
	SoakOver  bool        `json:"soak_over"`
	SoakUntil time.Time   `json:"soak_until,omitzero"`
	Admin     bool        `json:"admin"` // status can be set by API
	Usage     UsageFact   `json:"usage"`
	Gateway   GatewayFact `json:"gateway"`
	Places    []PlaceFact `json:"places"`
	// Signed is true when a person vouched for what cannot be seen.
	Signed bool `json:"signed"`
}

// UsageFact is what the provider's usage report says about the window [From, To).
type UsageFact struct {
	Available bool      `json:"available"`
	Source    string    `json:"source,omitempty"`
	From      time.Time `json:"from,omitzero"`
	To        time.Time `json:"to,omitzero"`
	FreshTo   time.Time `json:"fresh_to,omitzero"`
	// Seen counts requests (or tokens) of the old version in the window; Last is the end of the newest bucket with any, and Suspects
	// describes them (model, hour).
	Seen     int64     `json:"seen"`
	Last     time.Time `json:"last,omitzero"`
	Suspects []string  `json:"suspects,omitempty"`
	// Alive is true when our own heartbeat with the new version, sent after the window's end, is in the same report.
	Alive bool `json:"alive"`
	// New counts the new version's requests in the report.
	New int64 `json:"new"`
	// Trouble says why an available report could not be read this time.
	Trouble string `json:"trouble,omitempty"`
}

// GatewayFact is what the gateways say about the old version.
type GatewayFact struct {
	Configured bool      `json:"configured"`
	Silent     []string  `json:"silent,omitempty"` // enrolled and did not report in the window
	Seen       int64     `json:"seen"`
	Last       time.Time `json:"last,omitzero"`
}

// PlaceFact is what a place says.
type PlaceFact struct {
	Name     string    `json:"name"`
	How      string    `json:"how"`       // location.Knowledge
	Known    bool      `json:"known"`     // it is known which value it holds
	HoldsOld bool      `json:"holds_old"` // the old version
	HoldsNew bool      `json:"holds_new"`
	Changed  time.Time `json:"changed,omitzero"`
	// Signal is true when the watch after a deactivation would notice that a consumer of this place is refused.
	Signal bool `json:"signal"`
	// Signed is true when a person signed for this place.
	Signed bool   `json:"signed"`
	By     string `json:"by,omitempty"`
	// Trouble says why a place that can be read could not be read this time.
	Trouble string `json:"trouble,omitempty"`
}

// Verdict is what the evidence allows.
type Verdict string

// The verdicts.
const (
	Allowed        Verdict = "allowed"
	Holds          Verdict = "holds"           // a fact speaks against it
	Early          Verdict = "early"           // no fact speaks against it, and one is not there yet
	WantsSignature Verdict = "wants signature" // no fact speaks against it, and something cannot be seen
)

// Mark is how one finding weighs.
type Mark string

// The marks.
const (
	For     Mark = "for"
	Against Mark = "against"
	Pending Mark = "pending" // will be known later: the report is not fresh enough yet
	Missing Mark = "missing" // not available: a person signs, or the watch decides
)

// Finding is one line of evidence.
type Finding struct {
	Mark   Mark      `json:"mark"`
	Text   string    `json:"text"`
	Source string    `json:"source"`
	At     time.Time `json:"at,omitzero"`
	// Watch is true when the reversible inactive-and-watch step decides what is missing here.
	Watch bool `json:"watch,omitempty"`
}

// Ruling is a verdict with its reasons.
type Ruling struct {
	Verdict  Verdict   `json:"verdict"`
	Findings []Finding `json:"findings"`
}

// Summary names what speaks against retiring, or what is missing, in one line.
func (r Ruling) Summary() string {
	var parts []string
	for _, f := range r.Findings {
		speaks := map[Verdict]bool{Holds: f.Mark == Against, Early: f.Mark == Pending, WantsSignature: f.Mark == Missing && !f.Watch}
		if speaks[r.Verdict] {
			parts = append(parts, f.Text)
		}
	}
	return strings.Join(parts, "; ")
}

// Rule says whether the old version may be retired. It is invariant I2: current or pending nowhere, soak over, no use in a report that is
// fresh and alive, no gateway saw it, and no place holds it. One fact against holds; a missing fact needs a signature, unless the watch
// after a reversible deactivation would notice. A fact that is not there yet makes it early, and never passes for "nothing".
func Rule(f Facts) Ruling {
	var r Ruling
	add := func(m Mark, source string, at time.Time, format string, args ...any) {
		r.Findings = append(r.Findings, Finding{Mark: m, Text: fmt.Sprintf(format, args...), Source: source, At: at})
	}

	if len(f.Elsewhere) == 0 {
		add(For, "inventory", f.At, "current or pending nowhere")
	} else {
		add(Against, "inventory", f.At, "still wanted by %s", strings.Join(f.Elsewhere, ", "))
	}
	for _, name := range f.Added {
		add(Against, "configuration", f.At, "%s was added during the rotation and is not verified", name)
	}
	if f.SoakOver {
		add(For, "clock", f.SoakUntil, "soak is over")
	} else {
		add(Pending, "clock", f.At, "soak is not over before %s", stamp(f.SoakUntil))
	}
	if !f.Admin {
		add(Missing, "provider", f.At, "there is no admin key: the id and status of the old key cannot be seen")
	}
	ruleUsage(f.Usage, f.At, add)
	ruleGateway(f.Gateway, f.At, add)
	for _, p := range f.Places {
		rulePlace(p, f.At, add)
		if n := len(r.Findings) - 1; r.Findings[n].Mark == Missing && p.Signal {
			r.Findings[n].Watch = true
		}
	}

	r.Verdict = Allowed
	for _, x := range r.Findings {
		switch {
		case x.Mark == Against:
			r.Verdict = Holds
			return r
		case x.Mark == Pending:
			r.Verdict = Early
		case x.Mark == Missing && !x.Watch && !f.Signed && r.Verdict != Early:
			r.Verdict = WantsSignature
		}
	}
	return r
}

type adder func(m Mark, source string, at time.Time, format string, args ...any)

func ruleUsage(u UsageFact, at time.Time, add adder) {
	switch {
	case !u.Available:
		add(Missing, "usage report", at, "usage per key cannot be read")
	case u.Trouble != "":
		add(Pending, u.Source, at, "the usage report could not be read: %s", u.Trouble)
	case u.Seen > 0:
		add(Against, u.Source, u.Last, "the old version was used until %s (%s)", stamp(u.Last), strings.Join(u.Suspects, ", "))
	case !u.From.Before(u.To):
		add(Against, u.Source, at, "no full minute has passed since the last change")
	case u.FreshTo.Before(u.To):
		add(Pending, u.Source, u.FreshTo, "the usage report is fresh only to %s, and the window ends at %s", stamp(u.FreshTo), stamp(u.To))
	case !u.Alive:
		add(Pending, u.Source, u.FreshTo, "the usage report does not show our own request with the new version yet")
	default:
		add(For, u.Source, u.FreshTo, "no use from %s to %s; the report is fresh to %s and shows the new version", stamp(u.From), stamp(u.To), stamp(u.FreshTo))
	}
}

func ruleGateway(g GatewayFact, at time.Time, add adder) {
	switch {
	case !g.Configured:
		// Not having a gateway is no gap: nothing passes through one.
	case len(g.Silent) > 0:
		add(Against, "gateway", at, "no word from %s", strings.Join(g.Silent, ", "))
	case g.Seen > 0:
		add(Against, "gateway", g.Last, "the gateway used the old version until %s", stamp(g.Last))
	default:
		add(For, "gateway", at, "no gateway used the old version in the window")
	}
}

func rulePlace(p PlaceFact, at time.Time, add adder) {
	switch {
	case p.HoldsOld:
		add(Against, p.Name, at, "%s holds the old version (%s)", p.Name, p.How)
	case p.Trouble != "":
		add(Pending, p.Name, at, "%s could not be read: %s", p.Name, p.Trouble)
	case p.Known && p.HoldsNew:
		add(For, p.Name, at, "%s holds the new version (%s)", p.Name, p.How)
	case p.Known:
		add(Against, p.Name, at, "%s holds neither the old nor the new version", p.Name)
	case p.Signed:
		add(For, p.Name, at, "%s was signed for by %s", p.Name, p.By)
	case !p.Changed.IsZero():
		add(Missing, p.Name, p.Changed, "%s cannot be read back; it was changed at %s", p.Name, stamp(p.Changed))
	default:
		add(Missing, p.Name, at, "%s cannot be read back", p.Name)
	}
}

// LastFacts gives the newest facts that a rotation gathered; ok is false when it gathered none yet.
func LastFacts(journal []Entry) (facts Facts, ok bool) {
	for i := len(journal) - 1; i >= 0; i-- {
		e := journal[i]
		if e.Type == Made && strings.Contains(e.Effect, "/"+string(Gather)) && json.Unmarshal(e.Data, &facts) == nil {
			for _, later := range journal {
				if later.Type == Signalled && later.Signal == SignalSign && later.signal().Subject == "evidence" {
					facts.Signed = true
				}
			}
			return facts, true
		}
	}
	return Facts{}, false
}
