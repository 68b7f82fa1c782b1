package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
)

// Findings judges the snapshot. Findings that want a person come first, then the worse before the milder, then by key, location, code
// and text. The order is the same whatever the order of the snapshot.
func Findings(s Snapshot, now time.Time) []Finding {
	versions := 0
	for i := range s.Keys {
		versions += len(s.Keys[i].Versions)
	}
	j := &judge{s: s, now: now, owner: make(map[apikey.VersionID]*apikey.Version, versions), digests: make(map[apikey.Digest]holders, versions),
		at: make(map[apikey.Name]int, len(s.Keys)), backs: map[apikey.Name]bool{}}
	j.index()
	for i := range s.Keys {
		j.key(&s.Keys[i])
	}
	j.shared()
	j.whole()
	slices.SortFunc(j.found, order)
	return slices.Compact(j.found)
}

func order(a, b Finding) int {
	wants := func(f Finding) int {
		if f.Wants {
			return 0
		}
		return 1
	}
	if c := cmp.Or(cmp.Compare(wants(a), wants(b)), cmp.Compare(a.Severity.rank(), b.Severity.rank())); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Location, b.Location), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Hint, b.Hint))
}

// rank counts from the worst.
func (s Severity) rank() int {
	switch s {
	case Critical:
		return 0
	case High:
		return 1
	case Medium:
		return 2
	case Low:
		return 3
	}
	return 4
}

// judge collects findings.
type judge struct {
	s       Snapshot
	now     time.Time
	owner   map[apikey.VersionID]*apikey.Version
	digests map[apikey.Digest]holders
	prints  map[apikey.Fingerprint]*apikey.Version // made by print when a place asks for the first time
	at      map[apikey.Name]int                    // the first place of a key in the snapshot
	backs   map[apikey.Name]bool                   // the keys that are somebody's backup
	found   []Finding
}

// holders are the keys that have, or hold, a value: nearly always one.
type holders struct {
	first  apikey.Name
	others []apikey.Name
}

func (j *judge) add(f Finding) { j.found = append(j.found, f) }

// index notes which version is whose.
func (j *judge) index() {
	for i := len(j.s.Keys) - 1; i >= 0; i-- {
		k := &j.s.Keys[i]
		j.at[k.Name] = i
		if k.Backup != "" {
			j.backs[k.Backup] = true
		}
	}
	for i := range j.s.Keys {
		k := &j.s.Keys[i]
		for n := range k.Versions {
			v := &k.Versions[n]
			j.owner[v.ID] = v
			if v.Digest.Known() {
				j.note(v.Digest, k.Name)
			}
		}
	}
	for i := range j.s.Keys {
		k := &j.s.Keys[i]
		for n := range k.Places {
			p := &k.Places[n]
			wanted, known := j.owner[p.Wanted]
			lent := known && wanted.Key != k.Name && p.holds(wanted.Digest)
			if p.Present && p.Digest.Known() && !lent {
				j.note(p.Digest, k.Name)
			}
		}
	}
}

func (j *judge) note(d apikey.Digest, k apikey.Name) {
	switch h, noted := j.digests[d]; {
	case !noted:
		j.digests[d] = holders{first: k}
	case h.first != k && !slices.Contains(h.others, k):
		h.others = append(h.others, k)
		j.digests[d] = h
	}
}

// print finds the version with a fingerprint.
func (j *judge) print(f apikey.Fingerprint) (*apikey.Version, bool) {
	if j.prints == nil {
		j.prints = map[apikey.Fingerprint]*apikey.Version{}
		for i := range j.s.Keys {
			for n := range j.s.Keys[i].Versions {
				if v := &j.s.Keys[i].Versions[n]; v.Digest.Known() {
					j.prints[v.Fingerprint()] = v
				}
			}
		}
	}
	v, ok := j.prints[f]
	return v, ok
}

func (p *Place) known() bool { return p.Digest.Known() || p.Fingerprint != "" }

func (p *Place) holds(d apikey.Digest) bool {
	if !p.Present || !d.Known() {
		return false
	}
	if p.Digest.Known() {
		return p.Digest == d
	}
	return p.Fingerprint != "" && p.Fingerprint == d.Fingerprint()
}

func (p *Place) print() apikey.Fingerprint {
	if p.Digest.Known() {
		return p.Digest.Fingerprint()
	}
	return p.Fingerprint
}

func (j *judge) key(k *Key) {
	current := first(k.Versions, apikey.Current)
	j.compromised(k)
	j.gone(k, current)
	j.age(k, current)
	j.spares(k)
	j.backup(k, current)
	j.rotation(k)
	for i := range k.Places {
		j.place(k, &k.Places[i])
	}
	if k.Environment == apikey.Production {
		for i := range k.Versions {
			if v := &k.Versions[i]; v.State.Live() && personal(v) {
				j.add(Finding{Key: k.Name, Code: PersonalKey, Severity: High, Wants: true,
					Text: fmt.Sprintf("%s acts as a person (%s) and ends when that person leaves", v.Fingerprint().Short(), v.Principal),
					Hint: fmt.Sprintf("make a workspace or service-account key in the Console, then: keywright key add %s --spare", k.Name)})
			}
		}
		if k.Class.RotateEvery > Longest {
			j.add(Finding{Key: k.Name, Code: LongPolicy, Severity: Low,
				Text: fmt.Sprintf("a production key is replaced every %s; the rule is %s at most", days(k.Class.RotateEvery), days(Longest)),
				Hint: "set rotate_every of the key or its class to 90d"})
		}
	}
}

// personal reports whether a version acts as a person, or as something of an unfamiliar sort.
func personal(v *apikey.Version) bool { return v.Principal != "" && v.Principal != "service_account" }

// first gives the first version in a state, or nil.
func first(versions []apikey.Version, s apikey.State) *apikey.Version {
	for i := range versions {
		if versions[i].State == s {
			return &versions[i]
		}
	}
	return nil
}

func (j *judge) compromised(k *Key) {
	for i := range k.Versions {
		if v := &k.Versions[i]; v.Compromised && v.State.Live() {
			hint := "keywright emergency " + string(k.Name)
			if v.State != apikey.Current && v.State != apikey.Pending {
				hint = fmt.Sprintf("keywright key retire %s", v.ID)
			}
			j.add(Finding{Key: k.Name, Code: CompromisedLive, Severity: Critical, Wants: true,
				Text: fmt.Sprintf("%s is compromised and the provider still accepts it (%s)", v.Fingerprint().Short(), v.State), Hint: hint})
		}
	}
}

// gone tells that the provider refuses a version that is in use. Its consumers have trouble now, and whoever ended it may have had a reason:
// it is a person's to decide, and never a rollback.
func (j *judge) gone(k *Key, current *apikey.Version) {
	if k.Gone == "" || current == nil {
		return
	}
	j.add(Finding{Key: k.Name, Code: CurrentGone, Severity: Critical, Wants: true,
		Text: GoneWords(current.Fingerprint(), k.Gone),
		Hint: fmt.Sprintf("set it active again in the Console if that was a mistake; else: keywright emergency %s", k.Name)})
}

// GoneWords says that others ended a version that is in use, and how that is known.
func GoneWords(f apikey.Fingerprint, how string) string {
	return fmt.Sprintf("%s is in use, and others ended it: %s", f.Short(), how)
}

// age tells of due dates, expiry and adoption.
func (j *judge) age(k *Key, v *apikey.Version) {
	rotate := "keywright rotate " + string(k.Name)
	if v == nil {
		if len(k.Places) > 0 && k.Rotation == nil {
			j.add(Finding{Key: k.Name, Code: NotAdopted, Severity: Medium, Wants: true,
				Text: "no version is current: what its places hold was never taken into the inventory", Hint: "keywright key adopt " + string(k.Name)})
		}
		return
	}
	due := Due(k.Class, Since(*v), v.Expires)
	late := !due.IsZero() && !j.now.Before(due)
	soon := !due.IsZero() && !late && due.Sub(j.now) <= Soon
	spare := false
	for i := range k.Versions {
		spare = spare || j.usable(k, &k.Versions[i])
	}
	switch {
	case !v.Expires.IsZero() && !j.now.Before(v.Expires):
		j.add(Finding{Key: k.Name, Code: KeyExpired, Severity: Critical, Wants: true,
			Text: fmt.Sprintf("%s expired at the provider %s", v.Fingerprint().Short(), ago(j.now, v.Expires)), Hint: rotate})
		return
	case !v.Expires.IsZero() && (v.Expires.Sub(j.now) <= Soon+k.Class.Soak+k.Class.Watch || k.Class.RotateEvery > 0 && v.Expires.Before(Since(*v).Add(k.Class.RotateEvery))):
		severity := Medium
		if v.Expires.Sub(j.now) <= Soon {
			severity = High
		}
		j.add(Finding{Key: k.Name, Code: KeyExpiring, Severity: severity, Wants: severity == High && k.Rotation == nil,
			Text: fmt.Sprintf("%s expires at the provider %s, before its interval ends", v.Fingerprint().Short(), in(j.now, v.Expires)), Hint: rotate})
	}
	idle := k.Rotation == nil
	switch {
	case late && k.Automatic && spare && idle && j.now.Sub(due) <= Patience:
		j.add(Finding{Key: k.Name, Code: Overdue, Severity: Medium, Text: "was due " + ago(j.now, due) + ", and keywright serve begins by itself", Hint: rotate})
	case late:
		j.add(Finding{Key: k.Name, Code: Overdue, Severity: High, Wants: idle, Text: "was due " + ago(j.now, due), Hint: rotate})
	case soon:
		j.add(Finding{Key: k.Name, Code: DueSoon, Severity: Medium, Text: "due " + in(j.now, due), Hint: rotate})
	}
	if (late || soon) && !spare && idle {
		j.add(Finding{Key: k.Name, Code: DueNoSpare, Severity: High, Wants: true, Text: "due and no spare: a person has to make a key in the Console",
			Hint: fmt.Sprintf("keywright key add %s --spare", k.Name)})
	}
}

// usable reports whether a rotation could take the version as a spare.
func (j *judge) usable(k *Key, v *apikey.Version) bool {
	return v.State == apikey.Spare && !v.Compromised && (v.Expires.IsZero() || v.Expires.After(j.now.Add(k.Class.Soak+k.Class.Watch)))
}

func (j *judge) spares(k *Key) {
	for i := range k.Versions {
		v := &k.Versions[i]
		if v.State != apikey.Spare {
			continue
		}
		add := "keywright key add " + string(k.Name) + " --spare"
		switch {
		case v.Expires.IsZero():
		case !j.now.Before(v.Expires):
			j.add(Finding{Key: k.Name, Code: SpareExpired, Severity: Medium, Wants: true,
				Text: fmt.Sprintf("the spare %s expired %s", v.Fingerprint().Short(), ago(j.now, v.Expires)), Hint: "keywright key forget " + string(v.ID) + ", then: " + add})
			continue
		case v.Expires.Sub(j.now) <= Soon+k.Class.Soak+k.Class.Watch:
			j.add(Finding{Key: k.Name, Code: SpareExpiring, Severity: Low,
				Text: fmt.Sprintf("the spare %s expires %s", v.Fingerprint().Short(), in(j.now, v.Expires)), Hint: add})
		}
		if tested := v.Tested; tested.IsZero() || j.now.Sub(tested) > Stale {
			text := fmt.Sprintf("the spare %s was never tested", v.Fingerprint().Short())
			if !tested.IsZero() {
				text = fmt.Sprintf("the spare %s was last tested %s", v.Fingerprint().Short(), ago(j.now, tested))
			}
			j.add(Finding{Key: k.Name, Code: SpareUntested, Severity: Low, Text: text, Hint: "keywright key match " + string(k.Name)})
		}
	}
}

// backup tells whether an emergency would find something to take.
func (j *judge) backup(k *Key, current *apikey.Version) {
	if k.Environment != apikey.Production {
		return
	}
	if k.Backup == "" {
		if primary := !j.backs[k.Name]; primary {
			j.add(Finding{Key: k.Name, Code: NoBackup, Severity: Medium, Text: "no backup key is configured for an emergency",
				Hint: fmt.Sprintf("name one as backup of %s in keywright.yaml", k.Name)})
		}
		return
	}
	if k.BackupAlive == Dead {
		j.add(Finding{Key: k.Name, Code: BackupDead, Severity: Critical, Wants: true, Text: fmt.Sprintf("the provider refuses its backup, %s", k.Backup),
			Hint: "keywright rotate " + string(k.Backup)})
	}
	i, known := j.at[k.Backup]
	if !known {
		return
	}
	b := &j.s.Keys[i]
	theirs := first(b.Versions, apikey.Current)
	mine, its := domain(k, current), domain(b, theirs)
	if theirs == nil && k.BackupAlive != Dead && len(b.Places) == 0 && first(b.Versions, apikey.Spare) == nil {
		j.add(Finding{Key: k.Name, Code: BackupDead, Severity: High, Wants: true, Text: fmt.Sprintf("its backup, %s, has no value", k.Backup),
			Hint: fmt.Sprintf("keywright key add %s --spare", k.Backup)})
	}
	if mine != "" && mine == its {
		j.add(Finding{Key: k.Name, Code: BackupSameDomain, Severity: Info,
			Text: fmt.Sprintf("its backup, %s, is in the same workspace: limits of rate and spend hit both, so it helps against a leak and not against a limit", k.Backup),
			Hint: "make the backup's next key in another workspace"})
	}
}

// domain names the limits that a key is under, or is empty when they are not known.
func domain(k *Key, current *apikey.Version) string {
	organization, workspace := k.Organization, k.Workspace
	if current != nil && current.Workspace != "" {
		organization, workspace = current.Organization, current.Workspace
	}
	if organization == "" || workspace == "" {
		return ""
	}
	return organization + "/" + workspace
}

func (j *judge) rotation(k *Key) {
	r := k.Rotation
	if r == nil {
		return
	}
	hint := cmp.Or(r.Hint, "keywright rotation show "+r.ID)
	text := func(what string) string {
		return strings.TrimSuffix(fmt.Sprintf("rotation %s %s%s: %s", r.ID, what, since(j.now, r.Since), r.Note), ": ")
	}
	switch {
	case r.Status == "waiting":
		j.add(Finding{Key: k.Name, Code: RotationWaiting, Severity: High, Wants: true, Text: text("waits for a person"), Hint: hint})
	case r.Status == "paused":
		j.add(Finding{Key: k.Name, Code: RotationPaused, Severity: High, Wants: true, Text: text("is paused"), Hint: hint})
	case r.Held:
		j.add(Finding{Key: k.Name, Code: RotationHeld, Severity: Medium, Text: text("is held"), Hint: hint})
	}
}

// place tells of drift, borrowed versions and what cannot be seen.
func (j *judge) place(k *Key, p *Place) {
	wanted, decided := j.owner[p.Wanted]
	moving := k.Rotation != nil
	const doctor = "keywright status --live"
	if decided && wanted.Key != k.Name {
		j.add(Finding{Key: k.Name, Location: p.Name, Code: Borrowed, Severity: High, Wants: !moving,
			Text: fmt.Sprintf("%s holds %s, borrowed from %s in an emergency: rotate now", p.Name, wanted.Fingerprint().Short(), wanted.Key), Hint: "keywright rotate " + string(k.Name)})
	}
	switch {
	case p.Trouble != "":
		j.add(Finding{Key: k.Name, Location: p.Name, Code: Unreachable, Severity: Medium, Text: fmt.Sprintf("%s could not be looked at: %s", p.Name, p.Trouble), Hint: doctor})
		return
	case p.Seen.IsZero() && !p.Manual:
		return
	case p.Manual || p.How == Signed:
		j.signature(k, p, wanted, decided)
		return
	case !p.Present && p.How == ReadBack:
		if decided {
			j.add(Finding{Key: k.Name, Location: p.Name, Code: Drift, Severity: High, Wants: !moving,
				Text: fmt.Sprintf("%s holds nothing instead of %s", p.Name, wanted.Fingerprint().Short()), Hint: doctor})
		}
		return
	case !p.known():
		if decided {
			j.add(Finding{Key: k.Name, Location: p.Name, Code: Unverifiable, Severity: Info,
				Text: fmt.Sprintf("%s cannot be read back%s", p.Name, changed(p)), Hint: "keywright rotation list"})
		}
		return
	case !decided || p.holds(wanted.Digest):
		return
	}
	held := fmt.Sprintf("an unknown key (%s)", p.print().Short())
	severity := High
	if v, ok := j.print(p.print()); ok {
		held = fmt.Sprintf("%s, the %s version of %s,", v.Fingerprint().Short(), v.State, v.Key)
		if v.Compromised {
			held, severity = fmt.Sprintf("%s, which is compromised,", v.Fingerprint().Short()), Critical
		}
	}
	j.add(Finding{Key: k.Name, Location: p.Name, Code: Drift, Severity: severity, Wants: !moving,
		Text: fmt.Sprintf("%s holds %s instead of %s%s", p.Name, held, wanted.Fingerprint().Short(), changed(p)), Hint: doctor})
}

func changed(p *Place) string {
	if p.Changed.IsZero() {
		return ""
	}
	return ", changed " + p.Changed.UTC().Format("2006-01-02 15:04")
}

// signature tells when a person's word is about another version than the one that is wanted.
func (j *judge) signature(k *Key, p *Place, wanted *apikey.Version, decided bool) {
	if !decided {
		return
	}
	sign := fmt.Sprintf("change it by hand, then: keywright key sign %s %s", k.Name, p.Name)
	if p.SignedFor == wanted.Fingerprint() {
		return
	}
	text := fmt.Sprintf("nobody signed that %s holds %s", p.Name, wanted.Fingerprint().Short())
	if !p.SignedAt.IsZero() {
		text = fmt.Sprintf("the signature for %s, of %s, is older than the rotation to %s", p.Name, p.SignedAt.UTC().Format("2006-01-02"), wanted.Fingerprint().Short())
	}
	j.add(Finding{Key: k.Name, Location: p.Name, Code: SignatureOld, Severity: Medium, Wants: k.Rotation == nil, Text: text, Hint: sign})
}

// shared tells of values in more than one key.
func (j *judge) shared() {
	for d, h := range j.digests {
		if len(h.others) == 0 {
			continue
		}
		names := append([]apikey.Name{h.first}, h.others...)
		slices.Sort(names)
		environments := map[apikey.Environment]bool{}
		for i := range j.s.Keys {
			if k := &j.s.Keys[i]; slices.Contains(names, k.Name) {
				environments[k.Environment] = true
			}
		}
		severity, where := High, ""
		if len(environments) > 1 {
			severity, where = Critical, ", in different environments"
		}
		for _, name := range names {
			others := slices.DeleteFunc(slices.Clone(names), func(o apikey.Name) bool { return o == name })
			j.add(Finding{Key: name, Code: SharedValue, Severity: severity, Wants: true,
				Text: fmt.Sprintf("%s is also in %s%s", d.Fingerprint().Short(), join(others), where), Hint: "give each its own key: keywright rotate " + string(name)})
		}
	}
}

func join(names []apikey.Name) string {
	s := make([]string, len(names))
	for i, n := range names {
		s[i] = string(n)
	}
	return strings.Join(s, ", ")
}

// whole tells what is about no single key.
func (j *judge) whole() {
	for _, i := range j.s.Incidents {
		j.add(Finding{Key: i.Key, Code: IncidentOpen, Severity: High, Wants: true, Text: fmt.Sprintf("incident %s is open%s: %s", i.ID, since(j.now, i.Opened), i.Title),
			Hint: "keywright incident show " + i.ID})
	}
	if j.s.Skew.Abs() > MaxSkew {
		j.add(Finding{Code: ClockSkew, Severity: High, Wants: true, Text: fmt.Sprintf("the clock is %s away from the provider's: retiring is held", j.s.Skew.Abs().Round(time.Second)),
			Hint: "set the clock of this host"})
	}
	if n := len(j.s.Unlisted); n > 0 {
		var names []string
		for _, u := range j.s.Unlisted {
			names = append(names, cmp.Or(u.Name, u.ID))
		}
		slices.Sort(names)
		if len(names) > 3 {
			names = append(names[:3], fmt.Sprintf("%d more", n-3))
		}
		j.add(Finding{Code: UnknownKeys, Severity: Info, Text: fmt.Sprintf("active at the provider and not in the inventory: %d (%s)", n, strings.Join(names, ", ")),
			Hint: "adopt them, or set them inactive in the Console"})
	}
	if !j.s.AdminKey {
		j.add(Finding{Code: NoAdminKey, Severity: Info, Text: "no admin key: ids and usage are not available, and keys are retired by hand", Hint: "set provider.admin_key in keywright.yaml"})
	}
	if !j.s.Witness {
		j.add(Finding{Code: NoWitness, Severity: Info, Text: "the audit record has no witness outside: it is not protected against the owner of this host", Hint: "set state.witness in keywright.yaml"})
	}
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func in(now, t time.Time) string  { return "in " + days(t.Sub(now)) }
func ago(now, t time.Time) string { return days(now.Sub(t)) + " ago" }

func since(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + days(now.Sub(t))
}
