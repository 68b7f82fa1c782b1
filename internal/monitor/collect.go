package monitor

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// handChange is how long after the end of a rotation a change of an unreadable place may still be that rotation's.
const handChange = 5 * time.Minute

// collector joins what is known into a snapshot and a status.
type collector struct {
	source   Source
	now      time.Time
	inv      inventory
	sight    sight
	versions map[apikey.VersionID]*apikey.Version
	byKey    map[apikey.Name][]apikey.Version
	keys     []Key
	known    map[apikey.Name]bool // configured
}

func newCollector(s Source, inv inventory, seen sight, now time.Time) *collector {
	c := &collector{
		source: s, now: now, inv: inv, sight: seen, keys: slices.Clone(s.Keys), known: map[apikey.Name]bool{},
		versions: make(map[apikey.VersionID]*apikey.Version, len(inv.versions)),
	}
	c.group()
	placed := map[string]bool{}
	for _, k := range s.Keys {
		c.known[k.Name] = true
		for _, p := range k.Locations {
			placed[p.Name] = true
		}
	}
	c.addForgotten(placed)
	return c
}

// group sorts the versions by key, in one piece of memory: there may be thousands.
func (c *collector) group() {
	counts := make(map[apikey.Name]int, len(c.keys))
	for i := range c.inv.versions {
		counts[c.inv.versions[i].Key]++
	}
	all := make([]apikey.Version, len(c.inv.versions))
	c.byKey = make(map[apikey.Name][]apikey.Version, len(counts))
	next := 0
	for i := range c.inv.versions {
		v := &c.inv.versions[i]
		mine, begun := c.byKey[v.Key]
		if !begun {
			mine = all[next : next : next+counts[v.Key]]
			next += counts[v.Key]
		}
		mine = append(mine, *v)
		c.versions[v.ID], c.byKey[v.Key] = &mine[len(mine)-1], mine
	}
}

// addForgotten adds the keys that the inventory alone knows, with the places that nobody configures any more.
func (c *collector) addForgotten(placed map[string]bool) {
	more := map[apikey.Name]*Key{}
	for name, versions := range c.byKey {
		if !c.known[name] {
			more[name] = &Key{Name: name, Environment: versions[0].Environment}
		}
	}
	for _, d := range c.inv.desired {
		if k := more[d.Key]; k != nil && !placed[d.Location] {
			k.Locations = append(k.Locations, Place{Name: d.Location})
		}
	}
	var names []apikey.Name
	for name := range more {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c.keys = append(c.keys, *more[name])
	}
}

func (c *collector) status() Status {
	s := Status{At: c.now, Live: c.source.Live != nil, Wants: []policy.Finding{}, Keys: make([]KeyStatus, 0, len(c.keys)), Locations: make([]PlaceStatus, 0, len(c.inv.desired)), Incidents: []Incident{}}
	snapshot := policy.Snapshot{
		AdminKey: c.source.Admin, Witness: c.source.Witness, Skew: c.sight.skew, Unlisted: c.sight.unlisted, Keys: make([]policy.Key, 0, len(c.keys)),
	}
	for _, i := range c.inv.incidents {
		s.Incidents = append(s.Incidents, Incident{ID: i.ID, Key: i.Key, Rotation: i.Rotation, Title: clean(i.Title), Status: clean(i.Status), Opened: i.Opened})
		snapshot.Incidents = append(snapshot.Incidents, policy.Incident{ID: i.ID, Key: i.Key, Title: clean(i.Title), Opened: i.Opened})
	}
	at := make(map[apikey.Name]int, len(c.keys))
	for i := range c.keys {
		k := &c.keys[i]
		judged, shown, places := c.key(k)
		snapshot.Keys = append(snapshot.Keys, judged)
		at[k.Name] = len(s.Keys)
		s.Keys = append(s.Keys, shown)
		s.Locations = append(s.Locations, places...)
	}
	s.Findings = policy.Findings(snapshot, c.now)
	if s.Findings == nil {
		s.Findings = []policy.Finding{}
	}
	for _, f := range s.Findings {
		if f.Wants {
			s.Wants = append(s.Wants, f)
		}
		if i, ok := at[f.Key]; ok {
			s.Keys[i].Findings = append(s.Keys[i].Findings, f)
		}
	}
	return s
}

// key joins what is known of one key, for the judge and for the screen.
func (c *collector) key(k *Key) (policy.Key, KeyStatus, []PlaceStatus) {
	versions := c.byKey[k.Name]
	p := policy.Key{
		Name: k.Name, Environment: k.Environment, Class: k.Class, Organization: k.Organization, Workspace: k.Workspace, Backup: k.Backup,
		Alive: c.sight.alive[k.Name], BackupAlive: c.sight.alive[k.Backup], Versions: versions, Places: make([]policy.Place, 0, len(k.Locations)),
	}
	s := KeyStatus{
		Name: k.Name, Class: k.Class.Name, Environment: k.Environment, Risk: k.Class.Risk, Owner: k.Owner, Backup: k.Backup, Alive: p.Alive, BackupAlive: p.BackupAlive,
		Configured: c.known[k.Name],
	}
	c.current(&s, k, versions)
	p.Gone = s.Gone
	places := make([]PlaceStatus, 0, len(k.Locations))
	for _, l := range k.Locations {
		judged, shown := c.place(k, l)
		p.Places = append(p.Places, judged)
		places = append(places, shown)
		s.Places.count(shown)
	}
	slices.SortFunc(places, func(a, b PlaceStatus) int { return strings.Compare(a.Name, b.Name) })
	if e, ok := c.inv.last[k.Name]; ok {
		s.LastRotation = &LastRotation{ID: e.ID, Kind: e.Kind, Status: e.Status, Created: e.Created, Ended: e.Ended}
	}
	// After one that turned back or was stopped a person begins the next.
	last := s.LastRotation
	p.Automatic = k.Automatic && (last == nil || last.Status == rotation.Failed || last.Status == rotation.Done && last.Kind != rotation.Rollback)
	if row, ok := c.inv.active[k.Name]; ok {
		p.Rotation, s.Rotation = c.rotation(row, places)
	}
	return p, s, places
}

func (c *collector) current(s *KeyStatus, k *Key, versions []apikey.Version) {
	for i := range versions {
		v := &versions[i]
		switch {
		case v.State == apikey.Current:
			s.Version, s.Fingerprint, s.ProviderID, s.State, s.Binding = v.ID, v.Fingerprint(), v.ProviderID, v.State, v.Binding
			s.Compromised, s.Activated, s.Expires, s.Since = v.Compromised, v.Activated, v.Expires, policy.Since(*v)
			s.Gone = c.sight.gone(*v)
			if !s.Since.IsZero() {
				s.AgeDays = days(c.now.Sub(s.Since))
			}
			if s.Due = policy.Due(k.Class, s.Since, v.Expires); !s.Due.IsZero() {
				s.DueDays = days(s.Due.Sub(c.now))
			}
		case v.State == apikey.Spare && !v.Compromised && (v.Expires.IsZero() || v.Expires.After(c.now.Add(k.Class.Soak+k.Class.Watch))):
			s.Spares++
		}
	}
}

// days gives whole days, rounded down.
func days(d time.Duration) int {
	const day = 24 * time.Hour
	n := int(d / day)
	if d < 0 && d%day != 0 {
		n--
	}
	return n
}

func (n *Places) count(p PlaceStatus) {
	n.Total++
	if !p.InSync {
		return
	}
	n.InSync++
	switch p.How {
	case policy.ReadBack:
		n.How.ReadBack++
	case policy.Label:
		n.How.Label++
	case policy.ChangedAt:
		n.How.Changed++
	case policy.Signed:
		n.How.Signed++
	default:
		n.How.Unverifiable++
	}
}

// place joins what is known of one place.
func (c *collector) place(k *Key, l Place) (policy.Place, PlaceStatus) {
	wanted, decided := c.wanted(k, l.Name)
	o, looked := c.inv.seen[l.Name]
	if !looked {
		o = &store.Observation{}
	}
	h, told := holding(o)
	looked = looked && (told || o.Err != nil)
	p := policy.Place{Name: l.Name, Manual: l.Manual}
	s := PlaceStatus{Name: l.Name, Kind: l.Kind, Key: k.Name, Confirmation: confirmation(o), Sync: NotKnown}
	if decided {
		p.Wanted, s.Desired = wanted.ID, wanted.Fingerprint()
	}
	if looked {
		p.Seen, s.SeenAt = o.At, o.At
	}
	if o.Err != nil {
		p.Trouble = clean(o.Err.Message)
		s.Error, s.Hint = p.Trouble, clean(o.Err.Hint)
	}
	if told {
		p.How, p.Present, p.Digest, p.Fingerprint, p.Changed = policy.Knowledge(h.How), h.Present, h.Digest, h.Fingerprint, h.ChangedAt
		s.How, s.ChangedAt, s.Held = p.How, h.ChangedAt, held(h)
	}
	if g, signed := c.inv.signatures[l.Name]; signed && (l.Manual || p.How == policy.Signed) {
		p.SignedFor, p.SignedAt = g.Fingerprint, g.At
		s.How, s.Held, s.SignedBy, s.SeenAt = policy.Signed, g.Fingerprint, clean(g.By), g.At
	}
	s.Sync = c.sync(k, l, wanted, decided, h, told, &s)
	s.InSync = s.Sync == InSync
	return p, s
}

// wanted gives the version that a place is meant to hold. A place that another key borrows for its tests right now is left undecided.
func (c *collector) wanted(k *Key, place string) (*apikey.Version, bool) {
	d, ok := c.inv.desired[place]
	if !ok {
		return nil, false
	}
	if row, running := c.inv.active[d.Key]; running && row.ID == d.Rotation && d.Key != k.Name {
		if planned, ok := row.Plan.Place(place); ok && planned.Home == k.Name {
			return nil, false
		}
	}
	v, ok := c.versions[d.Version]
	return v, ok
}

func held(h location.Holding) apikey.Fingerprint {
	switch {
	case !h.Present:
		return ""
	case h.Digest.Known():
		return h.Digest.Fingerprint()
	}
	return h.Fingerprint
}

// sync says whether a place holds what it is meant to hold, and no more than is known.
func (c *collector) sync(k *Key, l Place, wanted *apikey.Version, decided bool, h location.Holding, told bool, s *PlaceStatus) Sync {
	switch {
	case !decided:
		return Undecided
	case l.Manual || s.How == policy.Signed:
		g := c.inv.signatures[l.Name]
		fresh := !g.At.IsZero() && !g.At.Before(wanted.Added)
		if fresh && g.Fingerprint != "" && g.Fingerprint == wanted.Fingerprint() {
			return InSync
		}
		return NotKnown
	case s.Error != "" || !told:
		return NotKnown
	case h.Known() && h.Present:
		if h.Holds(wanted.Digest) {
			return InSync
		}
		return Differs
	case h.How == location.ReadBack || h.How == location.Label:
		return Differs // it holds nothing, or nothing with a label
	}
	return c.unreadable(k, l, h, s)
}

// unreadable judges a place that cannot be read back: it was written by a rotation, and nobody is known to have changed it since.
func (c *collector) unreadable(k *Key, l Place, h location.Holding, s *PlaceStatus) Sync {
	d := c.inv.desired[l.Name]
	written := d.Rotation != "" && !s.SeenAt.Before(d.At)
	if !written {
		return NotKnown
	}
	if e, ok := c.inv.last[k.Name]; ok && e.ID == d.Rotation && h.ChangedAt.After(e.Ended.Add(handChange)) {
		s.Error, s.Hint = "changed after rotation "+e.ID+" ended, and not by Keywright", "keywright status --live"
		return NotKnown
	}
	return InSync
}

// rotation tells of the one under way.
func (c *collector) rotation(row rotation.Row, places []PlaceStatus) (*policy.Rotation, *Rotation) {
	journal := c.inv.journals[row.ID]
	move := rotation.Next(row.Plan, journal, c.now)
	since := row.Updated
	if n := len(journal); n > 0 {
		since = journal[n-1].At
	}
	s := &Rotation{ID: row.ID, Kind: row.Kind, Status: row.Status, Created: row.Created, Note: clean(row.Note), Hint: clean(row.Hint)}
	for _, p := range move.Steps {
		if p.State == "active" {
			s.Step = p.Step
		}
	}
	if v, ok := c.versions[rotation.Chosen(row.Plan, journal)]; ok {
		s.New = v.Fingerprint()
	}
	for _, planned := range row.Plan.Places {
		if planned.Home != "" {
			continue
		}
		s.Total++
		moved := func(p PlaceStatus) bool {
			return p.Name == planned.Name && p.InSync && s.New != "" && p.Desired == s.New
		}
		if slices.ContainsFunc(places, moved) {
			s.Moved++
		}
	}
	if row.Status == rotation.Running {
		s.Until = until(row, journal, s.Step, move)
	}
	held := row.Status == rotation.Running && s.Step == rotation.Proving
	return &policy.Rotation{ID: row.ID, Status: string(row.Status), Held: held, Since: since, Note: s.Note, Hint: s.Hint}, s
}

// until gives the end of the soak or of the watch where the rotation is in one, else when it is looked at next.
func until(row rotation.Row, journal []rotation.Entry, step rotation.Step, move rotation.Move) time.Time {
	last := func(verb rotation.Verb) (at time.Time) {
		for _, e := range journal {
			if e.Type == rotation.Made && (e.Effect == string(verb) || strings.HasSuffix(e.Effect, "/"+string(verb))) {
				at = e.At
			}
		}
		return at
	}
	var end time.Time
	switch step {
	case rotation.Soak:
		end = add(last(rotation.Flip), row.Plan.Soak)
	case rotation.Retire:
		end = add(last(rotation.AwaitRefused), row.Plan.Watch)
	}
	if end.After(move.Until) {
		return end
	}
	return cmp.Or(move.Until, row.WakeAt)
}

func add(t time.Time, d time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(d)
}
