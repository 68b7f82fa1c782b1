package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ical "github.com/arran4/golang-ical"
)

func TestCalendar(t *testing.T) {
	due := time.Date(2027, 2, 19, 23, 30, 0, 0, time.UTC)
	dues := []Due{
		{Key: "staging", At: due.AddDate(0, 1, 0)}, {Key: "no-date"},
		{Key: "prod-primary", At: due, Class: "production-primary", Owner: "a;b,c\\d\nBEGIN:VEVENT " + strings.Repeat("long ", 40), Current: "kf_b7aabbcc00000000"},
	}
	text := Calendar("zen", dues, begin)
	for i, line := range strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n") {
		if len(line) > 75 || strings.ContainsAny(line, "\r\n") {
			t.Errorf("line %d has %d octets: %q", i, len(line), line)
		}
	}
	c, err := ical.ParseCalendar(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	events := c.Events()
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	e := events[0]
	start, err := e.GetAllDayStartAt()
	if err != nil || start.Format(time.DateOnly) != "2027-02-19" {
		t.Errorf("start %v %v", start, err)
	}
	end, err := e.GetAllDayEndAt()
	if err != nil || end.Format(time.DateOnly) != "2027-02-20" {
		t.Errorf("end %v %v", end, err)
	}
	if p := e.GetProperty(ical.ComponentPropertyDtStart); p.ICalParameters["VALUE"][0] != "DATE" {
		t.Errorf("start is no day: %+v", p)
	}
	if d := e.GetProperty(ical.ComponentPropertyDescription).Value; !strings.HasPrefix(d, "keywright rotate prod-primary") || !strings.Contains(d, `a;b,c\d BEGIN:VEVENT`) {
		t.Errorf("description %q", d)
	}
	if a := e.Alarms(); len(a) != 1 || a[0].GetProperty(ical.ComponentPropertyTrigger).Value != "-P7D" {
		t.Errorf("alarms %+v", a)
	}
	moved, err := ical.ParseCalendar(strings.NewReader(Calendar("zen", []Due{{Key: "prod-primary", At: due.AddDate(1, 0, 0)}}, begin.AddDate(1, 0, 0))))
	if err != nil || moved.Events()[0].Id() != e.Id() || e.Id() == events[1].Id() {
		t.Errorf("identifiers: %q, %q, %v", e.Id(), events[1].Id(), err)
	}
	if Calendar("zen", dues, begin) != text {
		t.Error("the same dues gave another calendar")
	}
	if _, err := ical.ParseCalendar(strings.NewReader(Calendar("zen", nil, begin))); err != nil {
		t.Errorf("no dues: %v", err)
	}
}

func TestWriteCalendar(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.ics")
	for _, text := range []string{"one", "two"} {
		if err := WriteCalendar(t.Context(), path, text); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("%q %v", b, err)
		}
	}
}
