package report

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/scan"
)

// What a report holds at most, so that no input can fill the memory.
const (
	mostKeys   = 100_000
	mostPlaces = 1000
	mostGaps   = 10_000
)

// At says where a Match was found, in foreign words. The Collector masks them.
type At struct {
	Source     string
	Repository string
	Path       string
	Part       string
	Object     string
	// Layer is the zero AtLayer outside of the archives of container images.
	Layer AtLayer
}

// AtLayer is a Layer in foreign words.
type AtLayer struct {
	Image, Command string
	Number, Of     int
}

// Strict says what of that which could not be looked into makes a report incomplete.
type Strict uint8

// The choices.
const (
	Lenient      Strict = iota // nothing
	StrictLimits               // what lies behind a limit, since whoever wrote the content chose to exceed it
	StrictAll                  // damaged and encrypted archives too
)

// Collector gathers what a scan finds. Its methods are safe for concurrent use.
type Collector struct {
	mask *Masker
	// Stream is told about each place and gap as it comes, when it is not nil. It is called with the Collector locked.
	stream *Stream

	strict Strict

	mu           sync.Mutex
	keys         map[scan.ID]*Key
	seen         map[seenPlace]bool
	counts       Counts
	gaps         []Gap
	moreGaps     int
	unopened     []Gap
	moreUnopened int
	tooMany      bool
	notes        []string
	scanned      Scanned
}

type seenPlace struct {
	id     scan.ID
	at     At
	offset int64
	inner  string
}

// NewCollector makes an empty Collector. stream may be nil.
func NewCollector(m *Masker, stream *Stream, strict Strict) *Collector {
	return &Collector{mask: m, stream: stream, strict: strict, keys: map[scan.ID]*Key{}, seen: map[seenPlace]bool{}}
}

// Masker gives the Masker of the Collector.
func (c *Collector) Masker() *Masker { return c.mask }

// Match takes a match in and reports whether it is the first of its key. Placeholders are only counted. The value, if any, stays the
// caller's.
func (c *Collector) Match(m scan.Match, at At) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Grade == scan.Placeholder || m.ID == "" {
		c.counts.Placeholders++
		return false
	}
	k := c.keys[m.ID]
	if k == nil {
		if len(c.keys) == mostKeys {
			if !c.tooMany {
				c.tooMany = true
				c.gap(Gap{Reason: "there are more keys than a report can hold"})
			}
			return false
		}
		k = &Key{Fingerprint: m.ID, Family: m.Family, Kind: m.Kind, Grade: m.Grade, Digest: m.Digest, Places: []Place{}}
		c.keys[m.ID] = k
		first = true
	}
	if m.Grade > k.Grade {
		k.Grade, k.Kind, k.Family = m.Grade, m.Kind, m.Family
	}
	if m.Allowed {
		c.counts.AllowMarks++
	}
	if len(k.Places) == mostPlaces {
		k.MorePlaces++
		return first
	}
	s := seenPlace{id: m.ID, at: at, offset: m.Offset, inner: m.Inner}
	if c.seen[s] {
		if m.Allowed {
			c.counts.AllowMarks--
		}
		return first
	}
	c.seen[s] = true
	p := Place{
		Source: at.Source, Repository: c.mask.Text(at.Repository), Path: c.mask.Text(at.Path), Part: at.Part, Object: at.Object,
		Line: m.Line, Offset: m.Offset, Form: m.Form, Inner: c.mask.Text(m.Inner), Allowed: m.Allowed,
	}
	if l := at.Layer; l.Of > 0 {
		p.Layer = &Layer{Image: c.mask.Text(l.Image), Number: l.Number, Of: l.Of, Command: c.mask.Text(l.Command)}
	}
	k.Places = append(k.Places, p)
	c.stream.place(k, p)
	return first
}

// Hint sets the hint of a key.
func (c *Collector) Hint(id scan.ID, hint string) {
	c.with(id, func(k *Key) { k.Hint = hint })
}

// Expose adds what the history of a repository says about a key.
func (c *Collector) Expose(id scan.ID, e Exposure) {
	c.with(id, func(k *Key) { k.Exposure = append(k.Exposure, e) })
}

func (c *Collector) with(id scan.ID, use func(*Key)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.keys[id]; k != nil {
		use(k)
	}
}

// Gap takes in a part that was not searched.
func (c *Collector) Gap(g Gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gap(g)
}

func (c *Collector) gap(g Gap) {
	if scan.Closed(g.Reason) && c.strict < StrictAll || scan.Limited(g.Reason) && c.strict < StrictLimits {
		if len(c.unopened) >= mostGaps {
			c.moreUnopened++
			return
		}
		c.unopened = append(c.unopened, g)
		c.stream.unopened(g)
		return
	}
	if len(c.gaps) >= mostGaps {
		c.moreGaps++
		return
	}
	c.gaps = append(c.gaps, g)
	c.stream.gap(g)
}

// Note adds a remark in Keywright's own words, once.
func (c *Collector) Note(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.notes, text) {
		c.notes = append(c.notes, text)
	}
}

// Scanned adds to what was searched.
func (c *Collector) Scanned(s Scanned) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scanned.Files += s.Files
	c.scanned.Bytes += s.Bytes
	c.scanned.Repositories += s.Repositories
	c.scanned.Objects += s.Objects
	c.scanned.Commits += s.Commits
}

// Keys gives the number of keys so far.
func (c *Collector) Keys() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.keys)
}

// Report gives the report of what came in, unsorted and without sums; Finish ends it. The Collector must not be used afterwards.
func (c *Collector) Report() *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &Report{Format: Format, Scanned: c.scanned, Counts: c.counts, Keys: []Key{}, Gaps: c.gaps, MoreGaps: c.moreGaps, Unopened: c.unopened, MoreUnopened: c.moreUnopened, Notes: c.notes}
	if r.Gaps == nil {
		r.Gaps = []Gap{}
	}
	if r.Unopened == nil {
		r.Unopened = []Gap{}
	}
	for _, k := range c.keys {
		r.Keys = append(r.Keys, *k)
	}
	return r
}

// Finish sorts and sums up a report once verdicts and ignores are in.
func (r *Report) Finish(version string, started time.Time, took time.Duration) {
	r.Version, r.Started, r.Seconds = version, started.UTC(), took.Round(time.Millisecond).Seconds()
	r.Complete = len(r.Gaps) == 0 && r.MoreGaps == 0
	for i := range r.Keys {
		k := &r.Keys[i]
		slices.SortFunc(k.Places, comparePlaces)
		if k.Ignored != nil {
			r.Counts.Ignored++
		}
		if k.Counts() {
			r.Counts.Keys++
			r.Counts.Places += len(k.Places) + k.MorePlaces
		}
		if k.Verdict != nil {
			switch k.Verdict.State {
			case Live:
				r.Counts.Live++
			case Dead:
				r.Counts.Dead++
			case Unknown:
				r.Counts.Unknown++
			}
		}
	}
	slices.SortFunc(r.Keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(urgency(&b), urgency(&a)), cmp.Compare(b.Grade, a.Grade), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	for _, list := range []*[]Gap{&r.Gaps, &r.Unopened} {
		slices.SortFunc(*list, func(a, b Gap) int {
			return cmp.Or(strings.Compare(a.Repository.s, b.Repository.s), strings.Compare(a.Path.s, b.Path.s), strings.Compare(a.Object, b.Object),
				strings.Compare(a.Inner.s, b.Inner.s), strings.Compare(a.Reason, b.Reason))
		})
		*list = alike(*list)
	}
}

// alike joins neighbours that say the same.
func alike(gaps []Gap) []Gap {
	joined := gaps[:0]
	for _, g := range gaps {
		times := max(1, g.Times)
		g.Times = 0
		if n := len(joined); n > 0 {
			last := joined[n-1]
			last.Times = 0
			if last == g {
				joined[n-1].Times = max(1, joined[n-1].Times) + times
				continue
			}
		}
		if times > 1 {
			g.Times = times
		}
		joined = append(joined, g)
	}
	return joined
}

func comparePlaces(a, b Place) int {
	return cmp.Or(cmp.Compare(sourceOrder(a.Source), sourceOrder(b.Source)), strings.Compare(a.Repository.s, b.Repository.s), strings.Compare(a.Path.s, b.Path.s),
		cmp.Compare(a.Line, b.Line), cmp.Compare(a.Offset, b.Offset), strings.Compare(a.Inner.s, b.Inner.s), strings.Compare(a.Form, b.Form),
		strings.Compare(a.Part, b.Part), strings.Compare(a.Object, b.Object))
}

func sourceOrder(s string) int {
	if s == "history" {
		return 1
	}
	return 0
}

// urgency orders keys: live first, then those that nobody knows to be dead, then the dead, then the ignored.
func urgency(k *Key) int {
	switch {
	case k.Live():
		return 4
	case k.Ignored != nil:
		return 0
	case k.Verdict != nil && k.Verdict.State == Dead:
		return 1
	case k.Grade == scan.Exact:
		return 3
	default:
		return 2
	}
}

// MoreGaps counts gaps of which nothing else is known.
func (c *Collector) MoreGaps(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moreGaps += n
}

// Placeholders counts placeholders that were not handed to Match.
func (c *Collector) Placeholders(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Placeholders += n
}
