package rotation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

func weekdays(from, to time.Weekday) (days [7]bool) {
	for d := from; d <= to; d++ {
		days[d] = true
	}
	return days
}

func at(t *testing.T, zone, text string) time.Time {
	t.Helper()
	z, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	got, err := time.ParseInLocation("2006-01-02 15:04", text, z)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestWindow drives a rotation that reaches production at a given time, and looks when the first write there happens.
func TestWindow(t *testing.T) {
	office := rotation.Window{Days: weekdays(time.Monday, time.Thursday), From: 9 * 60, To: 16 * 60, Zone: "Europe/Berlin"}
	night := rotation.Window{Days: weekdays(time.Sunday, time.Saturday), From: 2*60 + 30, To: 2*60 + 50, Zone: "Europe/Berlin"}
	long := rotation.Window{Days: weekdays(time.Sunday, time.Sunday), From: 2*60 + 30, To: 4 * 60, Zone: "Europe/Berlin"}
	late := rotation.Window{Days: weekdays(time.Friday, time.Friday), From: 22 * 60, To: 24 * 60}
	berlin := "Europe/Berlin"
	for _, c := range []struct {
		name    string
		windows []rotation.Window
		start   time.Time
		want    time.Time
	}{
		{"none", nil, at(t, berlin, "2026-11-21 03:00"), at(t, berlin, "2026-11-21 03:00")},
		{"inside", []rotation.Window{office}, at(t, berlin, "2026-11-23 15:58"), at(t, berlin, "2026-11-23 15:58")},
		{"before", []rotation.Window{office}, at(t, berlin, "2026-11-23 08:10"), at(t, berlin, "2026-11-23 09:00")},
		{"end is outside", []rotation.Window{office}, at(t, berlin, "2026-11-23 16:00"), at(t, berlin, "2026-11-24 09:00")},
		{"over the weekend", []rotation.Window{office}, at(t, berlin, "2026-11-26 16:30"), at(t, berlin, "2026-11-30 09:00")},
		{"the earliest of several", []rotation.Window{office, late}, at(t, berlin, "2026-11-26 16:30"), at(t, "UTC", "2026-11-27 22:00")},
		{"up to midnight", []rotation.Window{late}, at(t, "UTC", "2026-11-27 23:58"), at(t, "UTC", "2026-11-27 23:58")},
		{"a week later", []rotation.Window{late}, at(t, "UTC", "2026-11-28 00:00"), at(t, "UTC", "2026-12-04 22:00")},
		// Clocks go from 02:00 to 03:00 on 29 March 2026: the window is left out that night.
		{"an hour left out", []rotation.Window{night}, at(t, berlin, "2026-03-29 01:00"), at(t, berlin, "2026-03-30 02:30")},
		{"an hour left out, the rest open", []rotation.Window{long}, at(t, berlin, "2026-03-28 12:00"), at(t, berlin, "2026-03-29 03:00")},
		{"summer offset", []rotation.Window{office}, at(t, berlin, "2026-03-29 20:00"), time.Date(2026, 3, 30, 7, 0, 0, 0, time.UTC)},
		{"winter offset", []rotation.Window{office}, at(t, berlin, "2026-10-25 20:00"), time.Date(2026, 10, 26, 8, 0, 0, 0, time.UTC)},
		// Clocks go from 03:00 back to 02:00 on 25 October 2026: 02:30 comes twice.
		{"an hour twice, first", []rotation.Window{night}, time.Date(2026, 10, 24, 23, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)},
		{"an hour twice, second", []rotation.Window{night}, time.Date(2026, 10, 25, 0, 50, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC)},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan()
			p.Kind, p.Windows, p.Waves[1].Watch = rotation.Scheduled, c.windows, 0
			d := newDriver(t, p)
			d.now = c.start
			var wrote time.Time
			d.answer = func(e rotation.Effect) (any, error) {
				if e.ID == "deploy/production/b/baseline" {
					wrote = d.now
				}
				return healthy(e)
			}
			d.wait = func(m rotation.Move) bool {
				if wrote.IsZero() && (m.Status != rotation.Running || !strings.Contains(m.Note, "until "+c.want.UTC().Format("2006-01-02 15:04"))) {
					t.Errorf("%s: %q, want until %v", m.Status, m.Note, c.want.UTC())
				}
				return wrote.IsZero()
			}
			d.run()
			if got := wrote.Sub(c.want); got < 0 || got > 5*time.Second {
				t.Errorf("production began at %v, want %v", wrote.UTC(), c.want.UTC())
			}
		})
	}
}

// TestWindowIsForScheduledRotationsAlone: what a person asked for does not wait.
func TestWindowIsForScheduledRotationsAlone(t *testing.T) {
	never := []rotation.Window{{Days: weekdays(time.Monday, time.Monday), From: 0, To: 1}}
	for kind, process := range map[rotation.Kind]string{rotation.Manual: rotation.ProcessOrdinary, rotation.Rollback: rotation.ProcessRollback, rotation.Emergency: rotation.ProcessEmergency} {
		p := plan()
		p.Kind, p.Process, p.Windows = kind, process, never
		p.Soak, p.Watch = time.Minute, time.Minute
		d := newDriver(t, p)
		if m := d.run(); m.Status != rotation.Done || d.now.Sub(begin) > 10*time.Minute {
			t.Errorf("%s ended %q after %v", kind, m.Status, d.now.Sub(begin))
		}
	}
}

// TestBegunWaveLeavesTheWindow: a wave that began is not left half done because the window closes.
func TestBegunWaveLeavesTheWindow(t *testing.T) {
	p := plan()
	p.Kind, p.Windows = rotation.Scheduled, []rotation.Window{{Days: weekdays(time.Sunday, time.Saturday), From: 12 * 60, To: 12*60 + 5}}
	p.Soak, p.Watch = time.Minute, time.Minute
	d := newDriver(t, p)
	failed := 0
	d.answer = func(e rotation.Effect) (any, error) {
		if e.Verb == rotation.Promote && failed < 8 {
			failed++
			return nil, fault.New(fault.Unavailable, "busy")
		}
		return healthy(e)
	}
	if m := d.run(); m.Status != rotation.Done || d.now.Sub(begin) > 20*time.Minute || d.now.Sub(begin) < 8*time.Minute {
		t.Errorf("ended %q after %v", m.Status, d.now.Sub(begin))
	}
}

func TestWindowThatNeverOpensPauses(t *testing.T) {
	for _, w := range []rotation.Window{{}, {Days: weekdays(0, 6), To: 60, Zone: "Nowhere/Land"}, {Days: weekdays(0, 6), From: 90, To: 60}} {
		p := plan()
		p.Kind, p.Windows = rotation.Scheduled, []rotation.Window{w}
		d := newDriver(t, p)
		d.wait = func(rotation.Move) bool { return false }
		if m := d.run(); m.Status != rotation.Paused || m.Hint == "" || !strings.Contains(m.Note, "ever opens") {
			t.Errorf("%+v: %s %q %q", w, m.Status, m.Note, m.Hint)
		}
	}
}
