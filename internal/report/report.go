// Package report turns a rotation into the records that people keep: the rotation log in Markdown, the checklists of the runbooks with the
// evidence of each box, and a calendar of due dates. It works on plain data, can name no value, asks nobody, and claims no more than the
// journal, the evidence and the signatures hold. app gathers the data and calls it; the runner's record step and the screens use it.
package report

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/rotation"
)

// Input is what is known of a rotation. Only Row and Now are required; what is missing here is missing in the records, and said there.
type Input struct {
	Row     rotation.Row
	Journal []rotation.Entry
	// Versions are the versions of the rotation by role, as the inventory has them now.
	Versions map[rotation.Role]apikey.Version
	// Owner is who answers for the key.
	Owner string
	// Seen is the last thing known about each place; make it with SeenAt.
	Seen []Seen
	// Outcome is how the rotation ends, when it is recorded before it has ended; empty means Row.Status.
	Outcome string
	// NextDue is when the key is due next, or zero; ScheduledIn names the calendar that is written with the record.
	NextDue     time.Time
	ScheduledIn string
	// Documented and DocumentedAt name the rotation log and when the entry was written.
	Documented   string
	DocumentedAt time.Time
	// Told are the notices that were delivered about this rotation.
	Told []Told
	// Spares counts the spares of the key; InCustody is true when the old version's value is held for a rollback.
	Spares    int
	InCustody bool
	// Accepted is when the provider last accepted the old version's value, or zero when nobody asked.
	Accepted time.Time
	Now      time.Time
}

// Seen is the last thing known about a place.
type Seen struct {
	Location string    `json:"location"`
	At       time.Time `json:"at,omitzero"`
	// How says how it is known: read back, label, changed, signed or unverifiable.
	How     string             `json:"how,omitempty"`
	Present bool               `json:"present"`
	Held    apikey.Fingerprint `json:"held,omitempty"`
	Changed time.Time          `json:"changed,omitzero"`
	// Running and Taken count the consumers that were asked, and those that have the wanted value.
	Running int `json:"running,omitempty"`
	Taken   int `json:"taken,omitempty"`
	// By is who signed for the place.
	By string `json:"by,omitempty"`
}

// SeenAt reads the value-free JSON of the location contract, as the store keeps it. What cannot be read is left out.
func SeenAt(location string, at time.Time, holding, confirmation json.RawMessage) Seen {
	s := Seen{Location: location, At: at.UTC()}
	var h struct {
		Present     bool
		How         string
		Digest      apikey.Digest
		Fingerprint apikey.Fingerprint
		ChangedAt   time.Time
		Facts       map[string]string
	}
	if len(holding) > 0 && json.Unmarshal(holding, &h) == nil {
		s.How, s.Present, s.Changed = clean(h.How), h.Present, h.ChangedAt
		if s.Held = h.Fingerprint; h.Digest.Known() {
			s.Held = h.Digest.Fingerprint()
		}
		if h.How == signed {
			s.By = clean(h.Facts["by"])
		}
	}
	var c consumers
	if len(confirmation) > 0 && json.Unmarshal(confirmation, &c) == nil {
		s.Running, s.Taken = c.Running, c.Taken
	}
	return s
}

type consumers struct {
	How     string `json:"how"`
	Running int    `json:"running"`
	Taken   int    `json:"taken"`
}

// Told is a notice that people got.
type Told struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"`
	Channel string    `json:"channel"`
}

// The sorts of knowledge, in the words of the location contract.
const (
	readBack  = "read back"
	label     = "label"
	changedAt = "changed"
	signed    = "signed"
)

// Record is the entry of a rotation in the rotation log. Its JSON form is stable.
type Record struct {
	Rotation string          `json:"rotation"`
	Key      apikey.Name     `json:"key"`
	Kind     rotation.Kind   `json:"kind"`
	Status   rotation.Status `json:"status"`
	Outcome  string          `json:"outcome,omitempty"`
	// Date is the day of the change: when the new version became current, else when the rotation began.
	Date      time.Time    `json:"date"`
	Began     time.Time    `json:"began"`
	Ended     time.Time    `json:"ended,omitzero"`
	Previous  *VersionLine `json:"previous,omitempty"`
	New       *VersionLine `json:"new,omitempty"`
	By        string       `json:"by"`
	Owner     string       `json:"owner,omitempty"`
	Reason    string       `json:"reason"`
	Note      string       `json:"note,omitempty"`
	Locations []PlaceLine  `json:"locations"`
	// Issues are the failures, retries, pauses and drift that were met on the way, in the order of time.
	Issues []Issue `json:"issues"`
	// People are the approvals, signatures and other things that people said, in the order of time.
	People []Word `json:"people"`
	// Evidence is what allowed the retiring, or what is known of it so far.
	Evidence *rotation.Ruling `json:"evidence,omitempty"`
	// Told are the notices that people got before this was recorded, in the order of time.
	Told    []Told    `json:"told,omitempty"`
	NextDue time.Time `json:"next_due,omitzero"`
}

// VersionLine names a version and its state.
type VersionLine struct {
	Key         apikey.Name        `json:"key"`
	Version     apikey.VersionID   `json:"version"`
	ProviderID  string             `json:"provider_id,omitempty"`
	Fingerprint apikey.Fingerprint `json:"fingerprint,omitempty"`
	State       apikey.State       `json:"state"`
	Changed     time.Time          `json:"changed,omitzero"`
	Compromised bool               `json:"compromised,omitempty"`
	// Lent is true when it belongs to another key.
	Lent bool `json:"lent,omitempty"`
}

// Mark says how well it is known that a place has the version it should have.
type Mark string

// The marks of a place.
const (
	InPlace   Mark = "seen"    // it was read back, or the label beside it was read
	Vouched   Mark = "signed"  // a person signed for it
	Written   Mark = "written" // the write was accepted, and the place cannot be read back
	Restored  Mark = "put back"
	Other     Mark = "differs"   // it holds something else
	Untouched Mark = "unchanged" // the rotation did not come to it
)

// PlaceLine is what became of one place.
type PlaceLine struct {
	Name string    `json:"name"`
	Kind string    `json:"kind"`
	Mark Mark      `json:"mark"`
	Text string    `json:"text"`
	At   time.Time `json:"at,omitzero"`
	// More says what else is known: that it cannot be read back, and what its running consumers have.
	More string `json:"more,omitempty"`
}

// Issue is trouble that was met on the way.
type Issue struct {
	At    time.Time `json:"at"`
	What  string    `json:"what"`
	Tries int       `json:"tries,omitempty"`
	// Solved is true when it went well later.
	Solved bool `json:"solved"`
}

// Word is what a person said to the rotation.
type Word struct {
	At      time.Time       `json:"at"`
	By      string          `json:"by"`
	Signal  rotation.Signal `json:"signal"`
	Subject string          `json:"subject,omitempty"`
	Note    string          `json:"note,omitempty"`
}

func clean(s string) string { return audit.Clean(s) }

// facts is an Input with the journal read once.
type facts struct {
	Input
	steps  []rotation.Progress
	lines  map[string]rotation.Line // by effect ID
	order  []rotation.Line
	missed map[string][]rotation.Entry
	words  []Word
	last   rotation.Facts
	// gathered is true when there are last facts.
	gathered bool
}

func digest(in Input) facts {
	in.Now = in.Now.UTC()
	f := facts{Input: in, lines: map[string]rotation.Line{}, missed: map[string][]rotation.Entry{}}
	f.steps = rotation.Next(in.Row.Plan, in.Journal, in.Now).Steps
	for _, s := range f.steps {
		for _, l := range s.Lines {
			if _, twice := f.lines[l.Effect.ID]; !twice {
				f.order = append(f.order, l)
			}
			f.lines[l.Effect.ID] = l
		}
	}
	for _, e := range in.Journal {
		f.gather(e)
		switch e.Type {
		case rotation.Missed:
			f.missed[e.Effect] = append(f.missed[e.Effect], e)
		case rotation.Signalled:
			var d rotation.SignalData
			if len(e.Data) > 0 && json.Unmarshal(e.Data, &d) != nil {
				continue
			}
			f.words = append(f.words, Word{At: e.At, By: clean(e.Actor), Signal: e.Signal, Subject: clean(d.Subject), Note: clean(d.Note)})
		}
	}
	f.last, f.gathered = rotation.LastFacts(in.Journal)
	return f
}

// gather adds what the steps do not show: effects outside of a step, such as the decision to turn back, and all effects of a process that
// this program does not know.
func (f *facts) gather(e rotation.Entry) {
	if e.Effect == "" {
		return
	}
	l, ok := f.lines[e.Effect]
	if !ok {
		l = rotation.Line{Effect: f.parse(e.Effect), State: "running"}
		l.Effect.First = e.At
		f.order = append(f.order, l)
	} else if l.State == "done" {
		return
	}
	switch e.Type {
	case rotation.Made:
		l.State, l.At, l.Data = "done", e.At, e.Data
	case rotation.Missed:
		l.State, l.At, l.Fault = "failed", e.At, e.Fault
	}
	f.lines[e.Effect] = l
	if i := slices.IndexFunc(f.order, func(o rotation.Line) bool { return o.Effect.ID == e.Effect }); i >= 0 {
		f.order[i] = l
	}
}

// parse reads an effect's ID: step, what it is about, verb.
func (f *facts) parse(id string) rotation.Effect {
	parts := strings.Split(id, "/")
	verb := parts[len(parts)-1]
	e := rotation.Effect{ID: id}
	for _, suffix := range []string{"-2", "-old", "-watch", "-home"} {
		if short, ok := strings.CutSuffix(verb, suffix); ok {
			verb = short
			if suffix == "-old" {
				e.Role = rotation.Old
			}
		}
	}
	e.Verb = rotation.Verb(verb)
	if len(parts) > 1 {
		if _, ok := f.Row.Plan.Place(parts[len(parts)-2]); ok {
			e.Place = parts[len(parts)-2]
		}
	}
	switch e.Verb {
	case rotation.Deactivate, rotation.AwaitRefused, rotation.WatchLook, rotation.Archive, rotation.PurgePlace, rotation.PurgeValue, rotation.PutBack:
		e.Role = rotation.Old
	case rotation.Put, rotation.Stage, rotation.Promote, rotation.Confirm, rotation.Probe, rotation.TestValue, rotation.AwaitAccepted, rotation.Flip:
		if e.Role == "" {
			e.Role = rotation.New
		}
	}
	return e
}

// made gives the made effects of a verb, in the order of the process.
func (f facts) made(v rotation.Verb) []rotation.Line {
	var out []rotation.Line
	for _, l := range f.order {
		if l.Effect.Verb == v && l.State == "done" {
			out = append(out, l)
		}
	}
	return out
}

// latest gives the newest made effect of a verb that pick accepts; nil accepts all.
func (f facts) latest(v rotation.Verb, pick func(rotation.Line) bool) (newest rotation.Line, ok bool) {
	for _, l := range f.made(v) {
		if (pick == nil || pick(l)) && (!ok || !l.At.Before(newest.At)) {
			newest, ok = l, true
		}
	}
	return newest, ok
}

func about(place string) func(rotation.Line) bool {
	return func(l rotation.Line) bool { return l.Effect.Place == place }
}

func role(r rotation.Role) func(rotation.Line) bool {
	return func(l rotation.Line) bool { return l.Effect.Role == r }
}

func inStep(step rotation.Step) func(rotation.Line) bool {
	return func(l rotation.Line) bool { return strings.HasPrefix(l.Effect.ID, string(step)+"/") }
}

// signature gives the newest signature for one of the subjects.
func (f facts) signature(subjects ...string) (w Word, ok bool) {
	for _, x := range f.words {
		if x.Signal == rotation.SignalSign && slices.Contains(subjects, x.Subject) {
			w, ok = x, true
		}
	}
	return w, ok
}

func (f facts) seen(place string) (Seen, bool) {
	i := slices.IndexFunc(f.Seen, func(s Seen) bool { return s.Location == place })
	if i < 0 {
		return Seen{}, false
	}
	return f.Seen[i], true
}

func (f facts) fingerprint(r rotation.Role) apikey.Fingerprint { return f.Versions[r].Fingerprint() }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
