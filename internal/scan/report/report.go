// Package report is what a scan says: one entry per key, with its places, its exposure and its verdict, what was left out, and what was not
// searched. It renders a report as a table for people, JSON, JSON Lines, SARIF, workflow annotations, Markdown and HTML.
//
// It never holds a value, and shows foreign text (paths, names, messages) only as a Text, which was masked. It reads no file and asks nobody.
// Called by scan/run, which fills it, and by the command line, which writes it.
package report

import (
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/scan"
)

// Format names the form of the JSON; a change that breaks readers changes its number.
const Format = "keywright-scan/1"

// Report is the outcome of one scan. Times are UTC; a zero time means "not known".
type Report struct {
	Format  string    `json:"format"`
	Version string    `json:"version"` // of Keywright
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// Complete is false when a file, an object or a repository was not searched; Gaps says which.
	Complete bool    `json:"complete"`
	Scanned  Scanned `json:"scanned"`
	Counts   Counts  `json:"counts"`
	// Keys are sorted: what wants a person first. Ignored ones are among them, with the reason.
	Keys []Key `json:"keys"`
	Gaps []Gap `json:"gaps"`
	// MoreGaps counts gaps beyond those listed.
	MoreGaps int `json:"more_gaps,omitempty"`
	// Unopened is what was read and could not be looked into: archives that are damaged or encrypted, and what lies behind a limit. It leaves
	// the report complete, unless Strict asked for more.
	Unopened []Gap `json:"unopened"`
	// MoreUnopened counts those beyond the ones that are listed.
	MoreUnopened int `json:"more_unopened,omitempty"`
	// Notes are remarks in Keywright's own words.
	Notes []string `json:"notes,omitempty"`
}

// Scanned counts what was searched.
type Scanned struct {
	Files        int   `json:"files"`
	Bytes        int64 `json:"bytes"`
	Repositories int   `json:"repositories"`
	Objects      int   `json:"objects"`
	Commits      int   `json:"commits"`
}

// Counts sums up the report.
type Counts struct {
	// Keys counts the keys that are not ignored, and Places theirs.
	Keys   int `json:"keys"`
	Places int `json:"places"`
	// Ignored counts the keys that are ignored by a baseline or by marks.
	Ignored int `json:"ignored"`
	// Placeholders counts places.
	Placeholders int `json:"placeholders"`
	// AllowMarks counts places whose line asks to be allowed, and AllowMarksRefused those whose wish did not count.
	AllowMarks        int `json:"allow_marks"`
	AllowMarksRefused int `json:"allow_marks_refused"`
	// BaselineRefused counts keys in a baseline that did not count, since it lies in what was scanned.
	BaselineRefused int `json:"baseline_refused"`
	Live            int `json:"live"`
	Dead            int `json:"dead"`
	Unknown         int `json:"unknown"` // asked about, without a certain answer
}

// Key is everything that is known about one key.
type Key struct {
	// Fingerprint is "kf_…", or "kl_…" for a value that could be guessed back from a hash.
	Fingerprint scan.ID    `json:"fingerprint"`
	Family      string     `json:"family"`
	Kind        scan.Kind  `json:"kind"`
	Grade       scan.Grade `json:"grade"`
	// Hint is the public prefix and the last four characters; empty unless asked for.
	Hint    string   `json:"hint,omitempty"`
	Known   *Known   `json:"known,omitempty"`
	Verdict *Verdict `json:"verdict,omitempty"`
	Ignored *Ignored `json:"ignored,omitempty"`
	Places  []Place  `json:"places"`
	// MorePlaces counts places beyond those listed.
	MorePlaces int        `json:"more_places,omitempty"`
	Exposure   []Exposure `json:"exposure,omitempty"`
	// Usage is nil where nobody was asked about it.
	Usage  *Usage        `json:"usage,omitempty"`
	Digest apikey.Digest `json:"-"`
}

// Counts reports whether the key wants a person: it is not ignored, or it is ignored and live.
func (k *Key) Counts() bool { return k.Ignored == nil || k.Live() }

// Live reports whether the provider accepted the key.
func (k *Key) Live() bool { return k.Verdict != nil && k.Verdict.State == Live }

// Known says which key of the inventory it is.
type Known struct {
	Key         apikey.Name      `json:"key"`
	Version     apikey.VersionID `json:"version"`
	State       apikey.State     `json:"state"`
	Compromised bool             `json:"compromised,omitempty"`
	// Retired is when the version ceased to be accepted, as far as the inventory knows.
	Retired time.Time `json:"retired,omitzero"`
}

// State is what is known about a key's life.
type State string

// The states.
const (
	Live    State = "live"
	Dead    State = "dead"
	Unknown State = "unknown"
)

// Verdict is the provider's answer about a key.
type Verdict struct {
	State State `json:"state"`
	// Reason says on what the state rests, in Keywright's own words.
	Reason string    `json:"reason"`
	At     time.Time `json:"at,omitzero"`
}

// Ignored says who asked to leave a key alone, and why.
type Ignored struct {
	By      string    `json:"by"` // "baseline" or "mark"
	Reason  Text      `json:"reason,omitzero"`
	Author  Text      `json:"author,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
}

// Place is one spot that holds a key.
type Place struct {
	// Source is where the place lies: "file", "stdin", "history", "staged", "outgoing" or "incoming".
	Source string `json:"source"`
	// Repository is set where several were scanned.
	Repository Text `json:"repository,omitzero"`
	Path       Text `json:"path,omitzero"`
	// Part says which part of a repository holds it where that is no file: "commit message", "author", "file name" and so on.
	Part string `json:"part,omitempty"`
	// Object is the id of the git object, and empty for files.
	Object string `json:"object,omitempty"`
	Line   int    `json:"line,omitempty"`
	// Offset counts bytes from the start of the file or object.
	Offset int64 `json:"offset"`
	// Form is the chain of decodings, outermost first, such as "base64>gzip".
	Form string `json:"form,omitempty"`
	// Inner is the path within an archive.
	Inner Text `json:"inner,omitzero"`
	// Layer is set within the archive of a container image.
	Layer   *Layer `json:"layer,omitempty"`
	Allowed bool   `json:"allowed,omitempty"`
}

// Layer says what part of a container image holds a place. A later layer may delete the file: who has the image has this layer too.
type Layer struct {
	Image Text `json:"image,omitzero"`
	// Number counts from 1 to Of, lowest first. It is 0 in the image's configuration, which holds its environment and the history of commands.
	Number int `json:"number"`
	Of     int `json:"of"`
	// Command is what made the layer, as the image's history has it.
	Command Text `json:"command,omitzero"`
}

// Exposure is what the history of one repository says about a key.
type Exposure struct {
	Repository Text `json:"repository,omitzero"`
	// First is the commit that brought the key in, Last the newest commit whose tree holds it.
	First *Commit `json:"first,omitempty"`
	Last  *Commit `json:"last,omitempty"`
	// Removed are commits that took it out, Reintroduced those that brought it back.
	Removed      []Commit `json:"removed,omitempty"`
	Reintroduced []Commit `json:"reintroduced,omitempty"`
	// Refs are those whose history holds the key; Tips those whose newest commit does.
	Refs     []Text `json:"refs,omitempty"`
	Tips     []Text `json:"tips,omitempty"`
	MoreRefs int    `json:"more_refs,omitempty"`
	InHead   bool   `json:"in_head"`
	// Pushed is "yes", "never" or "unknown". PushedTo names the remotes; PushedAt is when the first of them got it.
	Pushed   string    `json:"pushed"`
	PushedTo []Text    `json:"pushed_to,omitempty"`
	PushedAt time.Time `json:"pushed_at,omitzero"`
	// Only is "stash", "reflog", "dangling" and so on where no branch or tag holds the key.
	Only string `json:"only,omitempty"`
	// From and To bound the exposure; a zero To means that it goes on. Days counts it up to the time of the scan.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	Days float64   `json:"days"`
}

// Commit names one commit.
type Commit struct {
	ID        string    `json:"id"`
	Author    Text      `json:"author,omitzero"`
	Authored  time.Time `json:"authored,omitzero"`
	Committer Text      `json:"committer,omitzero"`
	Committed time.Time `json:"committed,omitzero"`
	Subject   Text      `json:"subject,omitzero"`
}

// Gap is something that was not searched.
type Gap struct {
	Repository Text   `json:"repository,omitzero"`
	Path       Text   `json:"path,omitzero"`
	Object     string `json:"object,omitempty"`
	Inner      Text   `json:"inner,omitzero"`
	Reason     string `json:"reason"`
	// Times counts parts of it that were left out for the same reason; zero means one.
	Times int `json:"times,omitempty"`
}

// Found reports whether any key wants a person.
func (r *Report) Found() bool {
	for i := range r.Keys {
		if r.Keys[i].Counts() {
			return true
		}
	}
	return false
}
