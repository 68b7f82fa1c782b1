package history

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan"
)

// Pushed says whether a remote has a key.
type Pushed string

// The answers.
const (
	// PushedYes means that a remote-tracking ref, now or as its reflog says, has the key in its history.
	PushedYes Pushed = "yes"
	// PushedNever means that no remote-tracking ref ever had it. A push to a bare address leaves no such ref.
	PushedNever Pushed = "never"
	// PushedUnknown means that the repository cannot say: it has no remote-tracking refs and is itself what others push to.
	PushedUnknown Pushed = "unknown"
)

// The values of Exposure.Only. Several are joined by ", ".
const (
	OnlyStash    = "stash"
	OnlyReflog   = "reflog" // or what git leaves beside HEAD, as ORIG_HEAD
	OnlyNotes    = "notes"
	OnlyReplace  = "replace refs"
	OnlyOther    = "other refs"
	OnlyDangling = "dangling"
)

// Exposure is what the history says about one key. Author, committer, subject and ref names are foreign text.
type Exposure struct {
	Family string
	Kind   scan.Kind
	Grade  scan.Grade // the strongest of its places
	Digest apikey.Digest
	// First is the commit that brought the key in: of those without an ancestor that had it, the one with the earliest committer
	// time. Nil when no commit has it.
	First *Commit
	// Last is a commit that holds the key and has no child that does: the one with the latest committer time.
	Last *Commit
	// Removed are the commits whose tree lacks the key while a parent's has it, unless another parent's history had lost it before.
	// Reintroduced are those whose tree has it while a parent's lacks it and that parent's history had it. Both in the order of the graph.
	Removed, Reintroduced []Commit
	// Refs are those whose history has the key, Tips those whose own commit does. Sorted; HEAD and reflogs are not among them.
	Refs, Tips []string
	// InHead reports that HEAD's commit holds it.
	InHead bool
	Pushed Pushed
	// PushedTo are the remotes. PushedAt is the earliest time at which a reflog of a remote-tracking ref shows it there, zero if none does.
	PushedTo []string
	PushedAt time.Time
	// Only says what alone holds the key, when neither HEAD, nor a branch, tag or remote-tracking ref has it; else it is empty.
	Only string
	// From and To bound the time in which a ref's own commit held it, by committer times; To is zero while it goes on. Days is their
	// distance, or that to the time of the scan.
	From, To time.Time
	Days     float64
}

// Commit is one commit as it says itself.
type Commit struct {
	OID                 gitobj.OID
	Author, Committer   string
	Authored, Committed time.Time
	Subject             string
}

// graph holds sets of keys for each commit, by its place in the list.
type graph struct {
	r    *run
	list []commit
	tree []setID // in its tree
	own  []setID // in itself: message, author
	ever []setID // in it or any ancestor
}

// trace is what the graph says about one key, as places in the list.
type trace struct {
	first, last           int32
	removed, reintroduced []int32
}

func (r *run) newGraph() *graph {
	g := &graph{r: r, list: r.commits.list}
	n := len(g.list)
	g.tree, g.own, g.ever = make([]setID, n), make([]setID, n), make([]setID, n)
	for i := range g.list {
		c := &g.list[i]
		g.tree[i] = r.commits.inTree(i)
		g.own[i] = r.hits[c.number]
		ever := r.sets.union(g.tree[i], g.own[i])
		for _, p := range c.parents {
			ever = r.sets.union(ever, g.ever[p])
		}
		g.ever[i] = ever
	}
	return g
}

// traces follows every key through the graph.
func (g *graph) traces(n int) []trace {
	s := g.r.sets
	all := make([]trace, n)
	for i := range all {
		all[i].first, all[i].last = -1, -1
	}
	covered := make([]setID, len(g.list)) // what a child holds, too
	for i := range g.list {
		has := s.union(g.tree[i], g.own[i])
		var inherited, hadBefore setID
		parents := g.list[i].parents
		for _, p := range parents {
			inherited = s.union(inherited, g.tree[p])
			hadBefore = s.union(hadBefore, g.ever[p])
			covered[p] = s.union(covered[p], s.intersect(s.union(g.tree[p], g.own[p]), has))
		}
		for _, k := range s.keys(s.minus(has, hadBefore)) {
			if t := &all[k]; t.first < 0 || g.before(int32(i), t.first) {
				t.first = int32(i)
			}
		}
		for _, k := range s.keys(s.minus(inherited, g.tree[i])) {
			adopted := false
			for _, p := range parents {
				adopted = adopted || !s.has(g.tree[p], k) && s.has(g.ever[p], k)
			}
			if !adopted {
				all[k].removed = append(all[k].removed, int32(i))
			}
		}
		var back setID
		for _, p := range parents {
			back = s.union(back, s.intersect(g.tree[i], s.minus(g.ever[p], g.tree[p])))
		}
		for _, k := range s.keys(back) {
			all[k].reintroduced = append(all[k].reintroduced, int32(i))
		}
	}
	for i := range g.list {
		for _, k := range s.keys(s.minus(s.union(g.tree[i], g.own[i]), covered[i])) {
			if t := &all[k]; t.last < 0 || g.before(t.last, int32(i)) {
				t.last = int32(i)
			}
		}
	}
	return all
}

// before orders commits that the graph does not order: by committer time, then by name.
func (g *graph) before(a, b int32) bool {
	x, y := &g.list[a], &g.list[b]
	if x.time != y.time {
		return x.time < y.time
	}
	p, q := g.r.from.Name(int(x.number)), g.r.from.Name(int(y.number))
	return p.Compare(q) < 0
}

// reached is what a ref or a line of a reflog leads to: the keys in the history, and those at the tip.
type reached struct{ ever, tip setID }

// reach follows tags and gives what the object has.
func (g *graph) reach(o gitobj.OID) reached {
	var out reached
	for range 100 { // tags of tags
		n := g.r.from.Lookup(o)
		if n < 0 {
			if !o.IsZero() {
				g.r.missing(o)
			}
			return out
		}
		number := int32(n) //nolint:gosec // a number of an object
		if i, ok := g.r.commits.at.get(number); ok {
			out.ever = g.r.sets.union(out.ever, g.ever[i])
			out.tip = g.r.sets.union(out.tip, g.r.sets.union(g.tree[i], g.own[i]))
			return out
		}
		own := g.r.hits[number]
		next, isTag := g.r.tags[number]
		if !isTag {
			own = g.r.sets.union(own, g.r.trees.setOf(number))
		}
		out.ever, out.tip = g.r.sets.union(out.ever, own), g.r.sets.union(out.tip, own)
		if !isTag {
			return out
		}
		o = next
	}
	return out
}

// expose fills the Exposure of every key.
func (r *run) expose(res *Result) {
	g := r.newGraph()
	traces := g.traces(len(r.keys))
	all := make([]*Exposure, len(r.keys))
	for k := range all {
		all[k] = &Exposure{Pushed: PushedNever}
		res.Exposure[r.keys[k]] = all[k]
	}
	for i := range r.places {
		if m := &r.places[i].match; m.ID != "" {
			e := all[r.keyOf[m.ID]]
			if m.Grade > e.Grade {
				e.Grade, e.Family, e.Kind = m.Grade, m.Family, m.Kind
			}
			if m.Digest != (apikey.Digest{}) {
				e.Digest = m.Digest
			}
		}
	}
	h := holders{anchored: make([]bool, len(all)), weak: make([]map[string]bool, len(all)), tip: make([]bool, len(all)), remotes: make([]map[string]bool, len(all))}
	tracking := r.refs(g, all, &h)
	r.reflogs(g, all, &h)
	for k, e := range all {
		t := &traces[k]
		e.First, e.Last = r.commit(g, t.first), r.commit(g, t.last)
		for _, i := range t.removed {
			e.Removed = append(e.Removed, *r.commit(g, i))
		}
		for _, i := range t.reintroduced {
			e.Reintroduced = append(e.Reintroduced, *r.commit(g, i))
		}
		if !h.anchored[k] {
			e.Only = strings.Join(sorted(h.weak[k]), ", ")
			if e.Only == "" {
				e.Only = OnlyDangling
			}
		}
		e.PushedTo = sorted(h.remotes[k])
		if len(e.PushedTo) > 0 {
			e.Pushed = PushedYes
		} else if !tracking && r.repo.Bare {
			e.Pushed = PushedUnknown
		}
		e.bound(r.o.Now, h.tip[k])
	}
}

// bound fills From, To and Days.
func (e *Exposure) bound(now time.Time, goesOn bool) {
	if e.First == nil {
		return
	}
	e.From = e.First.Committed
	end := now
	if !goesOn && len(e.Removed) > 0 {
		for i := range e.Removed {
			if at := e.Removed[i].Committed; at.After(e.To) {
				e.To = at
			}
		}
		end = e.To
	}
	e.Days = max(0, end.Sub(e.From).Hours()/24)
}

func sorted(set map[string]bool) []string {
	var out []string
	for s := range set {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// holders gathers what holds each key.
type holders struct {
	anchored []bool            // HEAD, a branch, a tag or a remote-tracking ref has it in its history
	weak     []map[string]bool // what else has, in the words of Only
	tip      []bool            // a ref holds it now
	remotes  []map[string]bool
}

func mark1(sets []map[string]bool, k uint32, word string) {
	if sets[k] == nil {
		sets[k] = map[string]bool{}
	}
	sets[k][word] = true
}

// refs follows all refs. It reports whether there are remote-tracking ones.
func (r *run) refs(g *graph, all []*Exposure, h *holders) (tracking bool) {
	for _, ref := range r.repo.Refs() {
		if ref.OID.IsZero() {
			continue
		}
		remote, isRemote := remoteOf(ref.Name)
		tracking = tracking || isRemote
		word, strong := classOf(ref.Name)
		at := g.reach(ref.OID)
		isHead := ref.Name == "HEAD" || strings.HasPrefix(ref.Name, "worktrees/") && strings.HasSuffix(ref.Name, "/HEAD")
		for _, k := range r.sets.keys(at.ever) {
			if strong {
				h.anchored[k] = true
			} else {
				mark1(h.weak, k, word)
			}
			if isRemote {
				mark1(h.remotes, k, remote)
			}
			if !isHead {
				all[k].Refs = append(all[k].Refs, ref.Name)
			}
		}
		for _, k := range r.sets.keys(at.tip) {
			h.tip[k] = true
			if ref.Name == "HEAD" {
				all[k].InHead = true
			}
			if !isHead {
				all[k].Tips = append(all[k].Tips, ref.Name)
			}
		}
	}
	return tracking
}

// reflogs follows all lines of reflogs.
func (r *run) reflogs(g *graph, all []*Exposure, h *holders) {
	seen := map[gitobj.OID]reached{}
	for _, line := range r.repo.Reflogs() {
		word, strong := classOf(line.Ref)
		if strong || word == OnlyOther {
			word = OnlyReflog
		}
		remote, isRemote := remoteOf(line.Ref)
		for i, o := range []gitobj.OID{line.New, line.Old} {
			if o.IsZero() || r.from.Lookup(o) < 0 {
				continue // a line may outlive what it names
			}
			at, ok := seen[o]
			if !ok {
				at = g.reach(o)
				seen[o] = at
			}
			for _, k := range r.sets.keys(at.ever) {
				mark1(h.weak, k, word)
				if !isRemote {
					continue
				}
				mark1(h.remotes, k, remote)
				if e := all[k]; i == 0 && (e.PushedAt.IsZero() || line.When.Before(e.PushedAt)) {
					e.PushedAt = line.When.UTC()
				}
			}
		}
	}
}

// remoteOf gives the remote of a remote-tracking ref.
func remoteOf(ref string) (string, bool) {
	rest, ok := strings.CutPrefix(ref, "refs/remotes/")
	if !ok {
		return "", false
	}
	if i := strings.IndexByte(rest, '/'); i > 0 {
		rest = rest[:i]
	}
	return rest, true
}

// classOf says what a ref is: one that people see, or in the words of Only.
func classOf(ref string) (word string, strong bool) {
	switch {
	case ref == "HEAD", strings.HasPrefix(ref, "refs/heads/"), strings.HasPrefix(ref, "refs/tags/"), strings.HasPrefix(ref, "refs/remotes/"),
		strings.HasPrefix(ref, "worktrees/") && strings.HasSuffix(ref, "/HEAD"):
		return "", true
	case ref == "refs/stash":
		return OnlyStash, false
	case strings.HasPrefix(ref, "refs/notes/"):
		return OnlyNotes, false
	case strings.HasPrefix(ref, "refs/replace/"):
		return OnlyReplace, false
	case !strings.Contains(ref, "refs/"):
		return OnlyReflog, false
	}
	return OnlyOther, false
}

// commit reads the commit at place i of the list; nil for none.
func (r *run) commit(g *graph, i int32) *Commit {
	if i < 0 {
		return nil
	}
	n := int(g.list[i].number)
	c := &Commit{OID: r.from.Name(n)}
	_, data, err := r.from.Read(n)
	if err != nil {
		return c
	}
	info, err := gitobj.ParseCommit(data)
	if err != nil {
		return c
	}
	c.Author, c.Authored = info.Author.Who, utc(info.Author.When)
	c.Committer, c.Committed = info.Committer.Who, utc(info.Committer.When)
	line, _, _ := bytes.Cut(bytes.TrimLeft(info.Message, "\n"), []byte{'\n'})
	c.Subject = string(line)
	return c
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}
