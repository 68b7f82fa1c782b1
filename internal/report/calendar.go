package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	ical "github.com/arran4/golang-ical"

	"github.com/keywright/keywright/internal/apikey"
)

// Due is the next due date of a key.
type Due struct {
	Key   apikey.Name `json:"key"`
	At    time.Time   `json:"at"`
	Class string      `json:"class,omitempty"`
	Owner string      `json:"owner,omitempty"`
	// Current is the version that is due.
	Current apikey.Fingerprint `json:"current,omitempty"`
}

// Calendar gives an RFC 5545 file with one all-day event per key on the day (UTC) of its due date, and a reminder seven days before.
// The events keep their identifiers for the life of a key, so that a calendar program moves them. Keys without a due
// date are left out. organization tells the calendars of several organizations apart; now stands in the file as the time of its making.
func Calendar(organization string, dues []Due, now time.Time) string {
	dues = slices.DeleteFunc(slices.Clone(dues), func(d Due) bool { return d.At.IsZero() })
	slices.SortStableFunc(dues, func(a, b Due) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Key, b.Key)) })
	c := ical.NewCalendarFor("Keywright")
	c.SetProductId("-//Keywright//Key rotation//EN")
	c.SetMethod(ical.MethodPublish)
	c.SetXWRCalName("Key rotation, " + clean(organization))
	for _, d := range dues {
		e := c.AddEvent(uid(organization, d.Key))
		start := d.At.UTC().Truncate(24 * time.Hour)
		e.SetDtStampTime(now.UTC().Truncate(time.Second))
		e.SetAllDayStartAt(start)
		e.SetAllDayEndAt(start.AddDate(0, 0, 1))
		e.SetSummary("Rotate Anthropic API key " + clean(string(d.Key)))
		e.SetDescription(d.description())
		e.SetTimeTransparency(ical.TransparencyTransparent)
		a := e.AddAlarm()
		a.SetAction(ical.ActionDisplay)
		a.SetTrigger("-P7D")
		a.SetProperty(ical.ComponentPropertyDescription, fmt.Sprintf("keywright rotate %s: due in 7 days", clean(string(d.Key))))
	}
	return c.Serialize(ical.WithNewLineWindows)
}

func (d Due) description() string {
	text := "keywright rotate " + clean(string(d.Key))
	for _, line := range []struct{ name, value string }{{"Class", d.Class}, {"Owner", d.Owner}, {"Key now", string(d.Current)}} {
		if line.value != "" {
			text += "\n" + line.name + ": " + clean(line.value)
		}
	}
	return text
}

// uid is stable for a key of an organization and shows neither.
func uid(organization string, key apikey.Name) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", organization, key))
	return hex.EncodeToString(sum[:12]) + "@keywright"
}
