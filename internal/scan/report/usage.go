package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Usage is what the provider reports about a key since it was exposed. A removal from the files does not end the window, since who has seen the
// key can still use it.
type Usage struct {
	// From is when the key was exposed, as its first commit claims, and no earlier than the key was made. To is when the provider was asked,
	// or when the version was retired.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Cut says that the exposure began before From, and the report was asked for its last part alone.
	Cut bool `json:"cut,omitempty"`
	// Why says in Keywright's own words why the usage is not known; all that follows is then empty.
	Why string `json:"why,omitempty"`
	// Count is in units of Counts, "requests" or "tokens".
	Count  int64        `json:"count"`
	Counts string       `json:"counts,omitempty"`
	Models []ModelUsage `json:"models,omitempty"`
	// First is the start of the first minute with use, and Last the end of the last one.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	// FreshTo is up to when the report is complete by the provider's own word. Zero means that it does not say: then no use means nothing.
	FreshTo time.Time `json:"fresh_to,omitzero"`
	// Source is the report that was read: "analytics" or "usage report".
	Source string `json:"source,omitempty"`
	// Cost is nil where nobody was asked about it.
	Cost *Cost `json:"cost,omitempty"`
}

// ModelUsage is the part of one model; an empty Model is one that the report does not name.
type ModelUsage struct {
	Model string `json:"model,omitempty"`
	Count int64  `json:"count"`
	// Cost is the model's part of Usage.Cost.
	Cost Dollars `json:"usd,omitempty"`
}

// Cost is what the provider charges for the usage.
type Cost struct {
	// Amount is charged, before credits; List is the price without a discount.
	Amount Dollars `json:"usd"`
	List   Dollars `json:"list_usd"`
	// FreshTo is as in Usage.
	FreshTo time.Time `json:"fresh_to,omitzero"`
	// Why says in Keywright's own words why the cost is not known; all else is then empty.
	Why string `json:"why,omitempty"`
}

// Dollars is an amount of money in billionths of a US dollar.
type Dollars int64

const dollar = 1_000_000_000

// MarshalText gives the exact amount in dollars as a decimal number, such as "12.3456".
func (d Dollars) MarshalText() ([]byte, error) { return []byte(d.decimal(9)), nil }

// String gives the amount for people: to the cent, and less than one to two digits that are not zero.
func (d Dollars) String() string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	places, unit := 2, Dollars(dollar/100)
	for small := d < unit && d != 0; small && d < 10*unit && places < 9; {
		places, unit = places+1, unit/10
	}
	d += unit / 2
	return sign + "$" + d.decimal(places)
}

// decimal writes the amount with at most so many places, and at least two.
func (d Dollars) decimal(places int) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	cents := fmt.Sprintf("%09d", d%dollar)[:places]
	for len(cents) > 2 && cents[len(cents)-1] == '0' {
		cents = cents[:len(cents)-1]
	}
	return sign + strconv.FormatInt(int64(d/dollar), 10) + "." + cents
}

// Charge adds what the use of one model cost. Cost must not be nil.
func (u *Usage) Charge(model string, amount, list Dollars) {
	u.Cost.Amount += amount
	u.Cost.List += list
	u.model(model).Cost += amount
}

// model gives the part of a model.
func (u *Usage) model(name string) *ModelUsage {
	for i := range u.Models {
		if u.Models[i].Model == name {
			return &u.Models[i]
		}
	}
	u.Models = append(u.Models, ModelUsage{Model: name})
	return &u.Models[len(u.Models)-1]
}

// Add counts the use of one model in [from, to).
func (u *Usage) Add(model string, n int64, from, to time.Time) {
	u.Count += n
	if u.First.IsZero() || from.Before(u.First) {
		u.First = from
	}
	if to.After(u.Last) {
		u.Last = to
	}
	u.model(model).Count += n
}

// Exposed gives the time at which the key was first exposed by the histories that hold it, or zero where none does.
func (k *Key) Exposed() (from time.Time) {
	for _, e := range k.Exposure {
		if !e.From.IsZero() && (from.IsZero() || e.From.Before(from)) {
			from = e.From
		}
	}
	return from
}

// Story gives the usage in a few lines.
func (u *Usage) Story() []string {
	window := stamp(u.From) + " to " + stamp(u.To)
	if u.Cut {
		window += ", the last part of the exposure"
	}
	lines := []string{window}
	if u.Why != "" {
		return append(lines, "not known: "+u.Why)
	}
	// A noun that count understands: requests and tokens are plural.
	unit := strings.TrimSuffix(u.Counts, "s")
	switch {
	case u.Count > 0:
		lines = append(lines, fmt.Sprintf("%s between %s and %s", count(int(u.Count), unit), stamp(u.First), stamp(u.Last)))
	case u.FreshTo.IsZero():
		lines = append(lines, "no use is reported")
	default:
		lines = append(lines, "no use")
	}
	if c := u.Cost; c != nil {
		lines = append(lines, c.words())
	}
	models := slices.Clone(u.Models)
	slices.SortFunc(models, func(a, b ModelUsage) int {
		if a.Count != b.Count {
			return int(max(-1, min(1, b.Count-a.Count)))
		}
		return strings.Compare(a.Model, b.Model)
	})
	for _, m := range models {
		name := m.Model
		if name == "" {
			name = "a model that the report does not name"
		}
		line := fmt.Sprintf("  %s: %s", name, count(int(m.Count), unit))
		if m.Cost != 0 {
			line += ", " + m.Cost.String()
		}
		lines = append(lines, line)
	}
	switch {
	case u.FreshTo.IsZero():
		lines = append(lines, "the report does not say how fresh it is: there may be more")
	case u.FreshTo.Before(u.To):
		lines = append(lines, "the report is complete up to "+stamp(u.FreshTo)+": there may be more since")
	default:
		lines = append(lines, "the report is complete")
	}
	if c := u.Cost; c != nil && c.Why == "" && !c.FreshTo.Equal(u.FreshTo) {
		if c.FreshTo.IsZero() {
			lines = append(lines, "the report of the cost does not say how fresh it is: there may be more")
		} else if c.FreshTo.Before(u.To) {
			lines = append(lines, "the cost is complete up to "+stamp(c.FreshTo)+": there may be more since")
		}
	}
	return lines
}

func (c *Cost) words() string {
	switch {
	case c.Why != "":
		return "cost not known: " + c.Why
	case c.List != c.Amount:
		return "cost " + c.Amount.String() + ", at list price " + c.List.String()
	default:
		return "cost " + c.Amount.String()
	}
}

// Phrase gives the usage in one line.
func (u *Usage) Phrase() string {
	if u.Why != "" {
		return "use since it was exposed not known: " + u.Why
	}
	s := "no use since it was exposed"
	if u.Count > 0 {
		s = "used since it was exposed: " + count(int(u.Count), strings.TrimSuffix(u.Counts, "s")) + ", last " + stamp(u.Last)
	}
	if c := u.Cost; c != nil && c.Why == "" && (u.Count > 0 || c.Amount != 0) {
		s += ", " + c.words()
	}
	switch {
	case u.FreshTo.IsZero():
		s += "; there may be more"
	case u.FreshTo.Before(u.To):
		s += "; known up to " + stamp(u.FreshTo)
	}
	return s
}
