package report

import (
	"fmt"
	"slices"
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
}

// ModelUsage is the part of one model; an empty Model is one that the report does not name.
type ModelUsage struct {
	Model string `json:"model,omitempty"`
	Count int64  `json:"count"`
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
	for i := range u.Models {
		if u.Models[i].Model == model {
			u.Models[i].Count += n
			return
		}
	}
	u.Models = append(u.Models, ModelUsage{Model: model, Count: n})
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
		lines = append(lines, fmt.Sprintf("  %s: %s", name, count(int(m.Count), unit)))
	}
	switch {
	case u.FreshTo.IsZero():
		lines = append(lines, "the report does not say how fresh it is: there may be more")
	case u.FreshTo.Before(u.To):
		lines = append(lines, "the report is complete up to "+stamp(u.FreshTo)+": there may be more since")
	default:
		lines = append(lines, "the report is complete")
	}
	return lines
}
