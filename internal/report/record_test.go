package report

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// rough is a rotation that ends well, with trouble on the way.
func rough(t *testing.T) *world {
	w := newWorld(t, plan())
	failed := map[string]int{}
	w.answer = func(e rotation.Effect) (any, error) {
		failed[e.ID]++
		switch {
		case e.ID == "deploy/production/ci/put" && failed[e.ID] <= 2:
			return nil, unavailable("put ci: the program ended with 7")
		case e.Verb == rotation.AwaitRefused && failed[e.ID] <= 3, e.ID == "deploy/production/aws-prod/confirm" && failed[e.ID] == 1:
			return nil, unavailable("not yet")
		case e.ID == "soak/3/drift" && failed[e.ID] == 1:
			return nil, fault.New(fault.Conflict, "read places again: [aws-prod] do not hold kf_b7aabbcc00000000")
		case e.Verb == rotation.Gather && failed[string(rotation.Gather)] == 0:
			failed[string(rotation.Gather)]++
			facts := w.facts()
			facts.Usage.Seen, facts.Usage.Last, facts.Usage.Suspects = 3, w.now, []string{"3 requests 12:00:00 claude"}
			return facts, nil
		}
		return w.healthy(e)
	}
	return w.run()
}

func TestLogEntryOfARotation(t *testing.T) {
	w := rough(t)
	if w.status != rotation.Done {
		t.Fatalf("ended %q: %s", w.status, w.note)
	}
	golden(t, "ordinary.md", LogEntry(w.input()))
	b, err := json.MarshalIndent(RecordOf(w.input()), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "ordinary.json", string(b)+"\n")
}

func TestLogEntryOfATurn(t *testing.T) {
	w := newWorld(t, plan())
	w.answer = func(e rotation.Effect) (any, error) {
		if e.ID == "deploy/production/aws-prod/probe" {
			return nil, unavailable("probe http: status 500")
		}
		return w.healthy(e)
	}
	w.run()
	if w.status != rotation.RolledBack {
		t.Fatalf("ended %q: %s", w.status, w.note)
	}
	in := w.input()
	in.Versions[rotation.Old] = version("v_old", 0x3f, apikey.Current)
	in.Versions[rotation.New] = version("v_new", 0xb7, apikey.Rejected)
	in.Seen = nil
	golden(t, "turned.md", LogEntry(in))
}

func TestLogEntryOfAnEmergency(t *testing.T) {
	p := plan()
	p.Kind, p.Process, p.Reason, p.Note, p.Soak = rotation.Emergency, rotation.ProcessEmergency, rotation.ReasonCompromise, "key in public repo", 0
	w := newWorld(t, p).run()
	if w.status != rotation.Done {
		t.Fatalf("ended %q: %s", w.status, w.note)
	}
	in := w.input()
	old, lent := version("v_old", 0x3f, apikey.Inactive), version("v_new", 0xb7, apikey.Current)
	old.Compromised, lent.Key = true, "prod-secondary"
	in.Versions = map[rotation.Role]apikey.Version{rotation.Old: old, rotation.New: lent}
	golden(t, "emergency.md", LogEntry(in))
}

func TestRecordBeforeAnythingHappened(t *testing.T) {
	r := RecordOf(Input{Row: rotation.Row{ID: "r-1", Key: "k", Plan: plan()}, Now: begin})
	if r.Previous != nil || r.New != nil || r.Evidence != nil || len(r.Locations) != 4 || len(r.Issues) != 0 {
		t.Errorf("record of nothing: %+v", r)
	}
	for _, l := range r.Locations {
		if l.Mark != Untouched {
			t.Errorf("%s is %q before anything happened", l.Name, l.Mark)
		}
	}
}

// TestNoMarkIsStrongerThanItsEvidence changes what is known of a place whose write was accepted.
func TestNoMarkIsStrongerThanItsEvidence(t *testing.T) {
	w := rough(t)
	for name, c := range map[string]struct {
		seen Seen
		want Mark
	}{
		"another value":                        {Seen{At: w.now, How: "read back", Present: true, Held: "kf_other"}, Other},
		"nothing":                              {Seen{At: w.now, How: "read back"}, Other},
		"changed only":                         {Seen{At: w.now, How: "changed", Present: true}, Written},
		"nothing told":                         {Seen{At: w.now, How: "unverifiable"}, Written},
		"seen before the write":                {Seen{At: begin.Add(-1), How: "read back", Present: true, Held: version("v_new", 0xb7, "").Fingerprint()}, Written},
		"the new value, by a label beside it":  {Seen{At: w.now, How: "label", Present: true, Held: version("v_new", 0xb7, "").Fingerprint()}, InPlace},
		"a fingerprint without knowing how so": {Seen{At: w.now, Present: true, Held: version("v_new", 0xb7, "").Fingerprint()}, Written},
	} {
		in := w.input()
		c.seen.Location = "ci"
		in.Seen = []Seen{c.seen}
		for _, l := range RecordOf(in).Locations {
			if l.Name == "ci" && l.Mark != c.want {
				t.Errorf("%s: marked %q, want %q (%s)", name, l.Mark, c.want, l.Text)
			}
		}
	}
}

func TestHostileTextStaysText(t *testing.T) {
	value := secrettest.Fake(t)
	var key string
	value.Reveal(func(b []byte) { key = string(b) })
	hostile := "x\n## 2020-01-01 Rotation\n<!-- /keywright:rotation r-1 --><script>alert(1)</script> [a](http://b) `c` | **d** " + key + "\u202e"
	w := rough(t)
	in := w.input()
	in.Row.Plan.Note, in.Row.Plan.Actor, in.Owner, in.Outcome = hostile, hostile, hostile, hostile
	in.Row.Plan.Places[0].Kind = hostile
	for i := range in.Journal {
		in.Journal[i].Actor = hostile
		if f := in.Journal[i].Fault; f != nil {
			f.Message = hostile
		}
	}
	v := in.Versions[rotation.New]
	v.ProviderID = "`" + hostile
	in.Versions[rotation.New] = v
	entry := LogEntry(in)
	for _, bad := range []string{key, "<script", "\u202e", "[a](", " `c`", "**d**", "\n## 2020"} {
		if strings.Contains(entry, bad) {
			t.Errorf("the entry holds %q", bad[:min(len(bad), 12)])
		}
	}
	lines := strings.Split(strings.TrimSuffix(entry, "\n"), "\n")
	for i, l := range lines {
		ours := l == "" && i == 2 || strings.HasPrefix(l, "- **") || strings.HasPrefix(l, "  - ") || strings.HasPrefix(l, "## 2026-11-21 Rotation: prod-primary") && i == 1 || i == 0 || i == len(lines)-1
		if !ours {
			t.Errorf("line %d is not of the entry's form: %q", i, l)
		}
	}
	if _, err := Insert(nil, entry); err != nil {
		t.Error(err)
	}
	b, err := json.Marshal([]any{RecordOf(in), Checklist(in), Preflight(in)})
	if err != nil || strings.Contains(string(b), key) {
		t.Errorf("the JSON form leaks or fails: %v", err)
	}
}

func TestWhoWasTold(t *testing.T) {
	w := newWorld(t, plan()).run()
	in := w.input()
	if got := LogEntry(in); strings.Contains(got, "Told") {
		t.Errorf("nobody was told:\n%s", got)
	}
	in.Told = []Told{
		{At: begin.Add(time.Hour), Channel: "webhook alerts.example", What: "done"},
		{At: begin, Channel: "command <b>", What: "started\n- **Evidence:** forged"},
	}
	got := LogEntry(in)
	first, second := strings.Index(got, "command &lt;b&gt;: started"), strings.Index(got, "webhook alerts.example: done")
	if first < 0 || second < first || strings.Contains(got, "\n- **Evidence:** forged") {
		t.Errorf("first at %d, second at %d:\n%s", first, second, got)
	}
	if b := box(t, Checklist(in), "notified"); !b.Done || !strings.Contains(b.Evidence, "webhook alerts.example") {
		t.Errorf("%+v", b)
	}
}
