package change

import (
	"bufio"
	"container/heap"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gitobj"
)

// Update is one ref that a push changes. Old is the zero name for a new ref, New for one that is deleted.
type Update struct {
	Ref      string
	Old, New gitobj.OID
}

var errUpdate = errors.New("the line has another form")

const maxUpdates = 1 << 20

// ReadPrePush reads what git hands to a pre-push hook: "LOCALREF LOCALNAME REMOTEREF REMOTENAME" in lines. Kind: Invalid.
func ReadPrePush(r io.Reader) ([]Update, error) { return readUpdates(r, 4, 1, 3, 2) }

// ReadPreReceive reads what git hands to a pre-receive hook: "OLDNAME NEWNAME REF" in lines. Kind: Invalid.
func ReadPreReceive(r io.Reader) ([]Update, error) { return readUpdates(r, 3, 1, 0, 2) }

func readUpdates(r io.Reader, words, to, from, ref int) ([]Update, error) {
	var all []Update
	s := bufio.NewScanner(r)
	for s.Scan() {
		f := strings.Split(s.Text(), " ")
		if len(f) < words || len(all) == maxUpdates {
			return nil, fault.Wrap(fault.Invalid, errUpdate, "read updates", fault.Hint("git writes this to the hook; do not run it by hand"))
		}
		// The first word of a pre-push line may hold blanks ("HEAD~1" and the like do not, but nothing forbids them).
		f = f[len(f)-words:]
		o, ok1 := gitobj.ParseOID(f[from])
		n, ok2 := gitobj.ParseOID(f[to])
		if !ok1 || !ok2 {
			return nil, fault.Wrap(fault.Invalid, errUpdate, "read updates", fault.Hint("git writes this to the hook; do not run it by hand"))
		}
		all = append(all, Update{Ref: f[ref], Old: o, New: n})
	}
	if err := s.Err(); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "read updates")
	}
	return all, nil
}

// Pushed searches the commits, trees, blobs and tags that the updates bring and that the other side lacks: it is taken to have the old
// names of the updates, and what the refs in have hold ("refs/remotes/origin/" and the like; an entry that ends in "/" stands for all below it, and
// an empty one for all refs). Kinds: those of gitobj.Open, and Canceled.
func Pushed(ctx context.Context, o Options, updates []Update, have []string) (Stats, error) {
	w, err := open(ctx, o)
	if err != nil {
		return Stats{}, err
	}
	defer w.end()
	g := &graph{w: w, nodes: map[gitobj.OID]*node{}}
	for _, u := range updates {
		if !u.Old.IsZero() && w.repo.Lookup(u.Old) >= 0 {
			g.start(w.peel(u.Old, false), true)
		}
	}
	for _, r := range w.repo.Refs() {
		for _, h := range have {
			if r.Name == h || h == "" || strings.HasSuffix(h, "/") && strings.HasPrefix(r.Name, h) {
				if w.repo.Lookup(r.OID) >= 0 {
					g.start(w.peel(r.OID, false), true)
				}
			}
		}
	}
	for _, u := range updates {
		if u.New.IsZero() {
			continue
		}
		w.search([]byte(u.Ref), u.Ref, "ref name", "")
		g.start(w.peel(u.New, true), false)
	}
	for _, n := range g.fresh() {
		if ctx.Err() != nil {
			break
		}
		w.commit(n, g)
	}
	return w.stats, fault.In(ctx.Err(), "search pushed commits")
}

// peel follows annotated tags to what they name. With search it searches them, and trees and blobs that are named without a commit.
func (w *walker) peel(oid gitobj.OID, search bool) gitobj.OID {
	for range 100 {
		n := w.repo.Lookup(oid)
		if n < 0 {
			if search {
				w.o.Sink.Gap("", oid.String(), "the object is missing", "")
			}
			return gitobj.OID{}
		}
		switch w.repo.TypeOf(n) {
		case gitobj.Tag:
			_, data, ok := w.read(oid, "")
			if !ok {
				return gitobj.OID{}
			}
			if search {
				w.search(data, "", "tag", oid.String())
			}
			t, err := gitobj.ParseTag(data)
			if err != nil {
				return gitobj.OID{}
			}
			oid = t.Object
			continue
		case gitobj.Tree:
			if search {
				w.differ(oid, nil, "", 0)
			}
			return gitobj.OID{}
		case gitobj.Blob:
			if search {
				w.blob(oid, "")
			}
			return gitobj.OID{}
		}
		return oid
	}
	return gitobj.OID{}
}

// commit searches a commit: its text, and what its tree holds that its parents' do not.
func (w *walker) commit(n *node, g *graph) {
	w.stats.Commits++
	w.search(n.text, "", "commit", n.oid.String())
	var trees []gitobj.OID
	for _, p := range n.info.Parents {
		if parent := g.nodes[p]; parent != nil && parent.loaded {
			trees = append(trees, parent.info.Tree)
		}
	}
	w.differ(n.info.Tree, trees, "", 0)
}

// node is a commit on the way.
type node struct {
	oid    gitobj.OID
	info   gitobj.CommitInfo
	text   []byte
	loaded bool
	had    bool // the other side has it
	queued bool
	done   bool
}

// graph walks commits from the newest to the oldest and finds those that the other side lacks. Clocks that lie make it walk further or
// search more than need be, never less.
type graph struct {
	w       *walker
	nodes   map[gitobj.OID]*node
	queue   byTime
	lacking []*node
	live    int // commits in the queue that the other side is not known to have
}

func (g *graph) start(oid gitobj.OID, had bool) {
	if oid.IsZero() {
		return
	}
	n := g.load(oid, had)
	if n == nil {
		return
	}
	g.push(n, had)
}

// load reads a commit once. A missing one is reported unless the other side has it.
func (g *graph) load(oid gitobj.OID, had bool) *node {
	if n := g.nodes[oid]; n != nil {
		return n
	}
	n := &node{oid: oid}
	g.nodes[oid] = n
	if had && g.w.repo.Lookup(oid) < 0 {
		return n
	}
	if g.w.repo.Lookup(oid) < 0 && g.shallow() {
		return n
	}
	_, data, ok := g.w.read(oid, "")
	if !ok {
		return n
	}
	info, err := gitobj.ParseCommit(data)
	if err != nil {
		g.w.o.Sink.Gap("", oid.String(), "the commit is corrupt", "")
		return n
	}
	n.info, n.loaded, n.text = info, true, data
	return n
}

func (g *graph) shallow() bool { return len(g.w.repo.Shallow) > 0 }

// push queues a commit, or marks one that was met before.
func (g *graph) push(n *node, had bool) {
	if had && !n.had {
		n.had = true
		if n.queued {
			g.live--
		}
		if n.done { // its parents were queued as new: mark them too
			g.mark(n)
		}
	}
	if !n.queued && !n.done && n.loaded {
		n.queued = true
		if !n.had {
			g.live++
		}
		heap.Push(&g.queue, n)
	}
}

// mark tells the ancestors of a commit that was walked too early.
func (g *graph) mark(n *node) {
	stack := []*node{n}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, p := range at.info.Parents {
			if parent := g.nodes[p]; parent != nil && !parent.had {
				parent.had = true
				if parent.queued {
					g.live--
				}
				if parent.done {
					stack = append(stack, parent)
				}
			}
		}
	}
}

// fresh gives the commits that the other side lacks, and loads the parents of each.
func (g *graph) fresh() []*node {
	for len(g.queue) > 0 && g.live > 0 && g.w.ctx.Err() == nil {
		n, _ := heap.Pop(&g.queue).(*node)
		n.queued, n.done = false, true
		if !n.had {
			g.live--
			g.lacking = append(g.lacking, n)
		} else {
			n.text = nil
		}
		for _, p := range n.info.Parents {
			parent := g.load(p, n.had)
			g.push(parent, n.had)
		}
	}
	var all []*node
	for _, n := range g.lacking {
		if !n.had {
			all = append(all, n)
		}
	}
	return all
}

// byTime is a heap of commits, the newest on top.
type byTime []*node

func (h byTime) Len() int { return len(h) }
func (h byTime) Less(i, j int) bool {
	return h[i].info.Committer.When.After(h[j].info.Committer.When)
}
func (h byTime) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is called by container/heap.
func (h *byTime) Push(x any) {
	n, _ := x.(*node)
	*h = append(*h, n)
}

// Pop is called by container/heap.
func (h *byTime) Pop() any {
	old := *h
	n := old[len(old)-1]
	*h = old[:len(old)-1]
	return n
}

var _ heap.Interface = (*byTime)(nil)
