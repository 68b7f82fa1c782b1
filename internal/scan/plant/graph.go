package plant

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Exposure is the truth about one key in a repository: the objects, refs and times that a scan must name. It is worked out the slow way, for
// each key by a look at every commit.
type Exposure struct {
	First        string   `json:"first,omitempty"`
	Last         string   `json:"last,omitempty"`
	Removed      []string `json:"removed,omitempty"`      // sorted
	Reintroduced []string `json:"reintroduced,omitempty"` // sorted
	Refs         []string `json:"refs,omitempty"`         // sorted
	Tips         []string `json:"tips,omitempty"`         // sorted
	InHead       bool     `json:"in_head"`
	Pushed       string   `json:"pushed"`
	PushedTo     []string `json:"pushed_to,omitempty"` // sorted
	// PushedAt is when a remote first had it, as far as a reflog says.
	PushedAt time.Time `json:"pushed_at,omitzero"`
	Only     string    `json:"only,omitempty"`
	From     time.Time `json:"from,omitzero"`
	// To is zero while a ref holds the key.
	To time.Time `json:"to,omitzero"`
}

// Days is how long the key was exposed up to now.
func (e *Exposure) Days(now time.Time) float64 {
	if e.From.IsZero() {
		return 0
	}
	if !e.To.IsZero() {
		now = e.To
	}
	return max(0, now.Sub(e.From).Hours()/24)
}

// Spot is a place of a key in a repository: a path, or the part of an object that has none.
type Spot struct {
	Path string `json:"path,omitempty"`
	Part string `json:"part,omitempty"`
}

// set is a set of keys, by number.
type set map[int]bool

func (s set) join(o set) {
	for k := range o {
		s[k] = true
	}
}

// object is something that a ref can name. Of a commit tree, own and ever are known: the keys in its tree, in itself, and in it and all its
// ancestors. Of others own holds the keys, and to what a tag names.
type object struct {
	id              string
	commit          bool
	time            int64
	parents         []*object
	tree, own, ever set
	to              *object
}

func (o *object) has(k int) bool { return o.tree[k] || o.own[k] }

// reach reports whether the key is in the history of what a ref names, and whether it is at its tip.
func (o *object) reach(k int) (ever, tip bool) {
	for ; o != nil; o = o.to {
		ever, tip = ever || o.own[k] || o.ever[k], tip || o.has(k)
	}
	return ever, tip
}

// move is a line of a reflog.
type move struct {
	ref      string
	old, new *object
	at       int64
}

// graph is all that is in a repository.
type graph struct {
	commits []*object
	refs    map[string]*object
	moves   []move
	head    string // the ref that HEAD names
}

// classOf says what a ref is: strong ones are those that people see.
func classOf(ref string) string {
	for _, c := range []struct{ prefix, word string }{
		{"HEAD", ""}, {"refs/heads/", ""}, {"refs/tags/", ""}, {"refs/remotes/", ""}, {"worktrees/", ""}, {"refs/stash", "stash"}, {"refs/notes/", "notes"},
		{"refs/replace/", "replace refs"}, {"refs/", "other refs"},
	} {
		if strings.HasPrefix(ref, c.prefix) {
			return c.word
		}
	}
	return "reflog"
}

// exposure looks at every commit and ref for one key.
func (g *graph) exposure(k int) *Exposure {
	e := &Exposure{Pushed: "never"}
	order := func(a, b *object) int { return cmp.Or(cmp.Compare(a.time, b.time), strings.Compare(a.id, b.id)) }
	var first, last *object
	var ended int64
	for _, c := range g.commits {
		fresh, kept, lost, adopted, back := c.has(k), false, false, false, false
		for _, p := range c.parents {
			fresh = fresh && !p.ever[k]
			lost = lost || p.tree[k] && !c.tree[k]
			adopted = adopted || !p.tree[k] && p.ever[k]
			back = back || c.tree[k] && !p.tree[k] && p.ever[k]
		}
		for _, other := range g.commits {
			kept = kept || slices.Contains(other.parents, c) && other.has(k)
		}
		if fresh && (first == nil || order(c, first) < 0) {
			first = c
		}
		if c.has(k) && !kept && (last == nil || order(last, c) < 0) {
			last = c
		}
		if lost && !adopted {
			if len(e.Removed) == 0 || c.time > ended {
				ended = c.time
			}
			e.Removed = append(e.Removed, c.id)
		}
		if back {
			e.Reintroduced = append(e.Reintroduced, c.id)
		}
	}
	slices.Sort(e.Removed)
	slices.Sort(e.Reintroduced)
	held, strong := g.held(k, e)
	if !strong {
		e.Only = g.only(k)
	}
	if first != nil {
		e.First, e.Last, e.From = first.id, last.id, time.Unix(first.time, 0).UTC()
		if !held && len(e.Removed) > 0 {
			e.To = time.Unix(ended, 0).UTC()
		}
	}
	return e
}

// held fills what the refs and the reflogs of remotes say. It reports whether a ref's own commit holds the key, and whether one that people see
// has it in its history.
func (g *graph) held(k int, e *Exposure) (held, strong bool) {
	remotes := map[string]bool{}
	remote := func(ref string) string {
		rest, ok := strings.CutPrefix(ref, "refs/remotes/")
		if !ok {
			return ""
		}
		name, _, _ := strings.Cut(rest, "/")
		return name
	}
	for ref, o := range g.refs {
		ever, tip := o.reach(k)
		isHead := strings.HasSuffix(ref, "/HEAD") && strings.HasPrefix(ref, "worktrees/")
		if ever && !isHead {
			e.Refs = append(e.Refs, ref)
		}
		if tip && !isHead {
			e.Tips = append(e.Tips, ref)
		}
		held, strong = held || tip, strong || ever && classOf(ref) == ""
		if r := remote(ref); ever && r != "" {
			remotes[r] = true
		}
		e.InHead = e.InHead || tip && ref == g.head
	}
	for _, m := range g.moves {
		r := remote(m.ref)
		if r == "" {
			continue
		}
		for i, o := range []*object{m.new, m.old} {
			if ever, _ := o.reach(k); ever {
				remotes[r] = true
				if at := time.Unix(m.at, 0).UTC(); i == 0 && (e.PushedAt.IsZero() || at.Before(e.PushedAt)) {
					e.PushedAt = at
				}
			}
		}
	}
	for r := range remotes {
		e.PushedTo = append(e.PushedTo, r)
		e.Pushed = "yes"
	}
	slices.Sort(e.Refs)
	slices.Sort(e.Tips)
	slices.Sort(e.PushedTo)
	return held, strong
}

// only says what alone holds a key that no ref that people see has.
func (g *graph) only(k int) string {
	words := map[string]bool{}
	for ref, o := range g.refs {
		if ever, _ := o.reach(k); ever {
			words[classOf(ref)] = true
		}
	}
	for _, m := range g.moves {
		word := classOf(m.ref)
		if word == "" || word == "other refs" {
			word = "reflog"
		}
		for _, o := range []*object{m.old, m.new} {
			if ever, _ := o.reach(k); ever {
				words[word] = true
			}
		}
	}
	var all []string
	for w := range words {
		all = append(all, w)
	}
	slices.Sort(all)
	if len(all) == 0 {
		return "dangling"
	}
	return strings.Join(all, ", ")
}
