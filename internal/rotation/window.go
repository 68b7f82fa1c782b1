package rotation

import "time"

// Window is a weekly time in which a scheduled rotation may begin to change production: on some days, from From up to and not including To, on
// the clocks of a time zone. The zero Window is never open.
type Window struct {
	Days [7]bool `json:"days"` // by time.Weekday
	// From and To are minutes after midnight; To may be 1440.
	From int `json:"from"`
	To   int `json:"to"`
	// Zone is a name of the IANA database, such as Europe/Berlin; empty means UTC.
	Zone string `json:"zone,omitempty"`
}

func (w Window) open(local time.Time) bool {
	m := local.Hour()*60 + local.Minute()
	return w.Days[local.Weekday()] && m >= w.From && m < w.To
}

// opens gives the first moment, not before now, in which the window is open, or the zero time when there is none. Clocks decide: an hour that
// occurs twice is open twice, and one that is left out is not.
func (w Window) opens(now time.Time) time.Time {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil || w.From < 0 || w.To > 24*60 {
		return time.Time{}
	}
	local := now.In(zone)
	if w.open(local) {
		return now
	}
	for d := range 9 {
		// Where the clocks are changed around that time, the first minute on the day that counts is looked for.
		begin := time.Date(local.Year(), local.Month(), local.Day()+d, 0, w.From, 0, 0, zone).Add(-2 * time.Hour)
		for range 5 * 60 {
			if !begin.Before(now) && w.open(begin) {
				return begin.UTC()
			}
			begin = begin.Add(time.Minute)
		}
	}
	return time.Time{}
}

// nextOpen gives the first moment, not before now, in which one of the windows is open; the zero time when none ever opens.
func nextOpen(windows []Window, now time.Time) time.Time {
	var first time.Time
	for _, w := range windows {
		if at := w.opens(now); !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}
