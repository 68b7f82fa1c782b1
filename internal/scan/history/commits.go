package history

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/keywright/keywright/internal/gitobj"
)

// commit is what of a commit the graph needs.
type commit struct {
	number  int32
	tree    int32
	time    int64 // the committer's, in Unix seconds: a claim
	parents []int32
	// known is set for a commit of an earlier run, of whose tree only set, its keys, is known.
	known bool
	set   setID
}

// places gives, for the number of an object, its place in a list, plus one.
type places []int32

func (p places) set(number, place int32) { p[number] = place + 1 }

func (p places) get(number int32) (int32, bool) { return p[number] - 1, p[number] > 0 }

// commits is the graph of all commits. After link, list is in an order in which parents come before their children, parents are places
// in list, and at finds the place of an object's number.
type commits struct {
	r       *run
	parts   [][][]commit // of each worker, in pieces that need not grow
	shallow map[gitobj.OID]bool
	list    []commit
	at      places
	// walked counts those that this run walked.
	walked int
}

func newCommits(r *run) *commits {
	c := &commits{r: r, parts: make([][][]commit, r.workers), shallow: map[gitobj.OID]bool{}, at: make(places, r.from.Len())}
	for _, o := range r.repo.Shallow {
		c.shallow[o] = true
	}
	return c
}

func (c *commits) visitor(worker int) func(*gitobj.Object) error {
	var raw [32]byte
	width := c.r.width
	name := func(line []byte) (gitobj.OID, bool) {
		if len(line) != 2*width {
			return gitobj.OID{}, false
		}
		if _, err := hex.Decode(raw[:width], line); err != nil {
			return gitobj.OID{}, false
		}
		return gitobj.MakeOID(raw[:width]), true
	}
	return func(o *gitobj.Object) error {
		if o.Dup {
			return nil
		}
		self := c.r.from.Name(o.Number)
		bad := func() error {
			c.r.repo.Problems.Add(gitobj.ProblemObject, self.String(), "a commit that is not understood")
			return nil
		}
		if o.Large() {
			return bad()
		}
		data, err := o.Data()
		if err != nil {
			return err
		}
		one := commit{number: int32(o.Number), tree: -1} //nolint:gosec // a number of an object
		cut := c.shallow[self]
		for len(data) > 0 {
			line, rest, _ := bytes.Cut(data, []byte{'\n'})
			data = rest
			switch {
			case len(line) == 0:
				data = nil
			case one.tree < 0 && bytes.HasPrefix(line, []byte("tree ")):
				oid, ok := name(line[5:])
				if !ok {
					return bad()
				}
				n := c.r.from.Lookup(oid)
				if n < 0 {
					c.r.missing(oid)
				}
				one.tree = int32(n) //nolint:gosec // a number of an object
			case bytes.HasPrefix(line, []byte("parent ")):
				oid, ok := name(line[7:])
				if !ok {
					return bad()
				}
				n := c.r.from.Lookup(oid)
				if n >= 0 {
					one.parents = append(one.parents, int32(n)) //nolint:gosec // a number of an object
				} else if !cut && !c.shallow[oid] {
					c.r.missing(oid)
				}
			case one.time == 0 && bytes.HasPrefix(line, []byte("committer ")):
				one.time = seconds(line)
			}
		}
		parts := c.parts[worker]
		if n := len(parts); n == 0 || len(parts[n-1]) == commitPart {
			parts = append(parts, make([]commit, 0, commitPart))
			c.parts[worker] = parts
		}
		last := &parts[len(parts)-1]
		*last = append(*last, one)
		return nil
	}
}

// commitPart is how many commits one piece holds.
const commitPart = 1 << 12

// seconds reads the time of an author's or committer's line; 0 if there is none.
func seconds(line []byte) int64 {
	_, rest, _ := bytes.Cut(line, []byte("> "))
	for {
		_, more, ok := bytes.Cut(rest, []byte("> ")) // a name may hold the sign
		if !ok {
			break
		}
		rest = more
	}
	word, _, _ := bytes.Cut(rest, []byte{' '})
	n, err := strconv.ParseInt(string(word), 10, 64)
	if err != nil || n > 1<<40 || n < -1<<40 {
		return 0
	}
	return n
}

// link orders the commits and makes parents places in the list.
func (c *commits) link(r *run) {
	for _, parts := range c.parts {
		for _, p := range parts {
			c.walked += len(p)
		}
	}
	known := r.earlier.commits()
	all := make([]commit, 0, c.walked+len(known))
	for _, parts := range c.parts {
		for _, p := range parts {
			all = append(all, p...)
		}
	}
	c.parts = nil
	if c.walked == 0 { // in order already
		c.list = known
		for k := range c.list {
			c.at.set(c.list[k].number, int32(k))
		}
		return
	}
	for i := range known {
		for k, p := range known[i].parents {
			known[i].parents[k] = known[p].number
		}
	}
	all = append(all, known...)
	// Not by number, which depends on how the objects are stored.
	slices.SortFunc(all, func(a, b commit) int {
		if c := cmp.Compare(a.time, b.time); c != 0 {
			return c
		}
		if a.number == b.number { // walked now, and known: what was walked now comes first
			return cmp.Compare(b.tree, a.tree)
		}
		p, q := r.from.Name(int(a.number)), r.from.Name(int(b.number))
		return p.Compare(q)
	})
	all = slices.CompactFunc(all, func(a, b commit) bool { return a.number == b.number })
	at := c.at // first of places in all, then in the list
	for i := range all {
		at.set(all[i].number, int32(i))
	}
	waits := make([]int32, len(all))
	edges := 0
	for i := range all {
		all[i].parents = slices.DeleteFunc(all[i].parents, func(p int32) bool {
			_, ok := at.get(p)
			return !ok
		})
		waits[i] = int32(len(all[i].parents)) //nolint:gosec // few
		edges += len(all[i].parents)
	}
	// The children of a commit are a list through next, which begins at first; both count from one.
	first, next, child := make([]int32, len(all)), make([]int32, edges+1), make([]int32, edges+1)
	for i := len(all) - 1; i >= 0; i-- { // the last is linked first, so that they come in order
		for _, p := range all[i].parents {
			k, _ := at.get(p)
			next[edges], child[edges], first[k] = first[k], int32(i), int32(edges) //nolint:gosec // memory ends before
			edges--
		}
	}
	order := make([]int32, 0, len(all))
	for i := range all {
		if waits[i] == 0 {
			order = append(order, int32(i))
		}
	}
	for k := 0; k < len(order); k++ {
		for e := first[order[k]]; e > 0; e = next[e] {
			if waits[child[e]]--; waits[child[e]] == 0 {
				order = append(order, child[e])
			}
		}
	}
	c.list = make([]commit, len(order))
	for k, i := range order {
		c.list[k] = all[i]
		c.at.set(all[i].number, int32(k))
	}
	for i := range all {
		if waits[i] > 0 { // only a wrongly named object can be its own ancestor
			r.repo.Problems.Add(gitobj.ProblemObject, r.from.Name(int(all[i].number)).String(), "a commit among its own ancestors")
			c.at.set(all[i].number, -1)
		}
	}
	for k := range c.list {
		parents := c.list[k].parents
		for j, p := range parents {
			parents[j], _ = c.at.get(p)
		}
	}
}

// inTree gives the keys in the tree of the commit at place i.
func (c *commits) inTree(i int) setID {
	one := &c.list[i]
	switch {
	case one.known:
		return one.set
	case one.tree >= 0:
		return c.r.trees.setOf(one.tree)
	}
	return 0
}
