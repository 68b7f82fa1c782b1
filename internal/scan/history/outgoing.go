package history

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gitobj"
)

// SearchNew searches the objects that are reachable from want and not from have: what a push would send. Names in have that are not there are
// passed over. The Result has no Exposure and no State; each object stands under the first path that leads to it. Commits with clocks that
// lie may make it search more than is sent, never less. Open the repository with Done reporting true, so that its packs are not
// read as a whole. The error is that of ctx.
func SearchNew(ctx context.Context, repo *gitobj.Repo, want, have []gitobj.OID, o Options) (*Result, error) {
	n := &outgoing{
		r:      &run{o: o, repo: repo, from: repo.Store, width: repo.Format.Size()},
		states: map[gitobj.OID]*coming{}, seen: map[gitobj.OID]bool{},
	}
	n.f = &finder{r: n.r, ctx: ctx}
	n.res = &Result{}
	for _, oid := range have {
		n.start(oid, true)
	}
	for _, oid := range want {
		n.start(oid, false)
	}
	n.paint()
	if err := n.search(ctx); err != nil {
		return nil, err
	}
	n.res.Gaps = n.f.gaps
	slices.SortFunc(n.res.Places, func(a, b Place) int {
		return cmp.Or(a.Object.Compare(b.Object), cmp.Compare(a.Match.Offset, b.Match.Offset), strings.Compare(a.Path, b.Path), strings.Compare(a.Part, b.Part))
	})
	n.res.Problems, n.res.ProblemCount = repo.Problems.Named(), repo.Problems.Total()
	n.res.Complete = n.res.ProblemCount == 0 && len(n.res.Gaps) == 0
	return n.res, nil
}

// outgoing is one SearchNew.
type outgoing struct {
	r      *run
	f      *finder
	res    *Result
	states map[gitobj.OID]*coming
	queue  queue
	fresh  int // entries of the queue that are not had
	order  []*coming
	loose  []gitobj.OID        // wanted objects that are not commits: tags, and what they name
	seen   map[gitobj.OID]bool // objects that are had, or were searched
	had    []gitobj.OID        // trees that are had
}

// coming is a commit on the way.
type coming struct {
	oid    gitobj.OID
	info   gitobj.CommitInfo
	data   []byte
	had    bool
	queued bool
}

// queue gives the newest commit first.
type queue []*coming

// Len implements heap.Interface.
func (q queue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q queue) Less(i, j int) bool { return q[i].info.Committer.When.After(q[j].info.Committer.When) }

// Swap implements heap.Interface.
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(*coming)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// start begins with one object: a commit, or a tag that leads to one, or anything else.
func (n *outgoing) start(oid gitobj.OID, had bool) {
	for range 100 { // tags of tags
		number := n.r.from.Lookup(oid)
		if number < 0 {
			if !had && !oid.IsZero() {
				n.r.missing(oid)
			}
			return
		}
		switch n.r.from.TypeOf(number) {
		case gitobj.Commit:
			n.add(oid, had)
			return
		case gitobj.Tag:
			if had {
				n.seen[oid] = true
			} else {
				n.loose = append(n.loose, oid)
			}
			_, data, err := n.r.from.Read(number)
			if err != nil {
				return // it is read again when it is searched
			}
			tag, err := gitobj.ParseTag(data)
			if err != nil {
				return
			}
			oid = tag.Object
		default:
			if had {
				n.had = append(n.had, oid)
			} else {
				n.loose = append(n.loose, oid)
			}
			return
		}
	}
}

// add puts a commit into the queue, or marks one that is had now.
func (n *outgoing) add(oid gitobj.OID, had bool) {
	c := n.states[oid]
	if c == nil {
		number := n.r.from.Lookup(oid)
		if number < 0 {
			if !had && len(n.r.repo.Shallow) == 0 { // of a shallow clone parents are missing by intent
				n.r.missing(oid)
			}
			return
		}
		c = &coming{oid: oid, had: had}
		n.states[oid] = c
		_, data, err := n.r.from.Read(number)
		if err == nil {
			c.info, err = gitobj.ParseCommit(data)
		}
		if err != nil {
			n.r.repo.Problems.Add(gitobj.ProblemObject, oid.String(), "a commit that is not understood")
			return
		}
		c.data = data
		n.push(c)
		return
	}
	if had && !c.had {
		c.had = true
		if c.queued {
			n.fresh--
		} else {
			n.push(c)
		}
	}
}

func (n *outgoing) push(c *coming) {
	c.queued = true
	if !c.had {
		n.fresh++
	}
	heap.Push(&n.queue, c)
}

// paint goes from the newest commit to older ones until all that are left are had.
func (n *outgoing) paint() {
	for n.fresh > 0 {
		c, _ := heap.Pop(&n.queue).(*coming) // nothing else is in it
		c.queued = false
		if !c.had {
			n.fresh--
			n.order = append(n.order, c)
		}
		for _, p := range c.info.Parents {
			n.add(p, c.had)
		}
	}
}

// search searches what is new.
func (n *outgoing) search(ctx context.Context) error {
	for _, c := range n.states {
		if c.had && !c.info.Tree.IsZero() {
			n.had = append(n.had, c.info.Tree)
		}
	}
	for _, tree := range n.had {
		n.skip(tree, 0)
	}
	for _, oid := range n.loose {
		n.object(oid, "", "")
	}
	for _, c := range n.order {
		if ctx.Err() != nil {
			return fault.Wrap(fault.Canceled, context.Cause(ctx), "search new objects")
		}
		if c.had {
			continue
		}
		n.res.Commits++
		n.match(c.oid, gitobj.Commit, c.data, "", "")
		n.object(c.info.Tree, "", "")
	}
	return nil
}

// skip marks a tree and all that is below as had.
func (n *outgoing) skip(tree gitobj.OID, depth int) {
	if n.seen[tree] || depth > 5000 {
		return
	}
	n.seen[tree] = true
	typ, data, err := n.r.from.Read(n.r.from.Lookup(tree))
	if err != nil || typ != gitobj.Tree {
		return // a tree that is had need not be here
	}
	for _, e := range gitobj.Entries(data, n.r.width) {
		if e.Mode.IsTree() {
			n.skip(gitobj.MakeOID(e.Raw), depth+1)
		} else {
			n.seen[gitobj.MakeOID(e.Raw)] = true
		}
	}
}

// object searches an object and all that is below.
func (n *outgoing) object(oid gitobj.OID, path, part string) {
	if n.seen[oid] || strings.Count(path, "/") > 5000 {
		return
	}
	n.seen[oid] = true
	number := n.r.from.Lookup(oid)
	if number < 0 {
		n.r.missing(oid)
		return
	}
	typ, data, err := n.r.from.Read(number)
	if err != nil {
		n.r.repo.Problems.Add(gitobj.ProblemObject, oid.String(), "cannot be read")
		return
	}
	n.match(oid, typ, data, path, part)
	if typ != gitobj.Tree {
		return
	}
	if path != "" {
		path += "/"
	}
	for name, e := range gitobj.Entries(data, n.r.width) {
		switch {
		case e.Mode.IsModule():
		case e.Mode.IsLink():
			n.object(gitobj.MakeOID(e.Raw), path+string(name), PartLink)
		default:
			n.object(gitobj.MakeOID(e.Raw), path+string(name), "")
		}
	}
}

// match searches the bytes of one object.
func (n *outgoing) match(oid gitobj.OID, typ gitobj.Type, data []byte, path, part string) {
	n.res.Objects++
	if typ == gitobj.Blob && !n.r.o.Searcher.Anchored(data) {
		return
	}
	n.f.places = n.f.places[:0]
	n.f.find(n.r.from.Lookup(oid), typ, data)
	for _, f := range n.f.places {
		p := Place{Match: f.match, Object: oid, Type: typ, Path: path, Part: cmp.Or(f.part, part)}
		if f.part == PartName {
			p.Path = strings.TrimPrefix(path+"/"+f.name, "/")
		}
		n.res.Places = append(n.res.Places, p)
	}
}
