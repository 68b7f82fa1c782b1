// Package history searches every object of a git repository once, reachable or not, and says of each key how long and where it was
// exposed: which commits brought it in, took it out and brought it back, which refs hold it, and whether it was pushed.
//
// It goes by object, not by difference between commits: of an object that is stored as a delta it searches only what the delta
// brings in. It never runs anything of the repository, never writes into it, and takes clocks in commits for claims: order comes from the
// graph first. Called by scan/run.
package history

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan"
)

// Searcher finds keys in bytes. The methods are those of scan.Searcher and must be safe for concurrent use.
type Searcher interface {
	// Margin is the length of the longest anchor.
	Margin() int
	// Anchored and AnchoredPart report whether a whole object, or a part of one, may hold a key.
	Anchored(b []byte) bool
	AnchoredPart(b []byte) bool
	Find(ctx context.Context, b []byte, yield func(scan.Match)) []scan.Gap
	Stream(ctx context.Context, r io.Reader, yield func(scan.Match)) []scan.Gap
}

var _ Searcher = (*scan.Searcher)(nil)

// Options says how a history is searched.
type Options struct {
	Searcher Searcher
	// Now is the time of the scan, to which an exposure that goes on is counted.
	Now time.Time
	// Workers is the number of goroutines; 0 means one.
	Workers int
	// Child reads the objects with the git program in place of our own reader.
	Child bool
	// State is what an earlier run left, or nil. It counts only if it was made with the same Version, and if the repository was opened with its
	// Done.
	State *State
	// Version names all that decides what is found: the detectors, the inventory, the limits. Without it no State is made.
	Version string
	// Hide masks the keys in a path, and must leave alone what it gave. Nil hides a path that may hold one as a whole.
	Hide func(path string) string
	// Only, if not nil, restricts the search to the objects for which it reports true, as a hook before a push needs it. Exposure is then left out.
	Only func(gitobj.OID) bool
}

// The values of Place.Part. A key in the content of a file has none.
const (
	PartMessage    = "commit message"
	PartAuthor     = "author"
	PartCommitter  = "committer"
	PartTag        = "tag message"
	PartTagger     = "tagger"
	PartName       = "file name"
	PartLink       = "symbolic link"
	PartUnassigned = "unreferenced object" // no tree holds the object
)

// Place is one key in one object under one path. Path and Match.Inner are foreign text. In Path the names of directories and of files were hidden
// by Options.Hide, but for the name that the key was found in.
type Place struct {
	Match  scan.Match
	Object gitobj.OID
	Type   gitobj.Type
	Path   string
	Part   string
}

// Gap is a part of an object that was not searched.
type Gap struct {
	Object gitobj.OID
	scan.Gap
}

// Result is what was found. It holds values only where the Searcher keeps them.
type Result struct {
	// Places are sorted by object, offset and path. Placeholders are among them.
	Places []Place
	// MorePlaces counts places beyond the paths that are listed for one object.
	MorePlaces int
	// Exposure holds an entry for each key that is not a placeholder.
	Exposure map[scan.ID]*Exposure
	Gaps     []Gap
	// Objects counts the objects that were searched, Commits the commits among all.
	Objects, Commits int
	// Skipped counts objects that an earlier run searched.
	Skipped int
	// Problems are what could not be read, by name as far as they were kept; ProblemCount is their number.
	Problems     []gitobj.Problem
	ProblemCount int
	// Complete is false when there are problems or gaps.
	Complete bool
	// State is for the next run; nil when Version is empty, or when more objects are missing or corrupt than are kept by name. It holds no
	// value.
	State *State
}

// objects is what Store and Child have in common.
type objects interface {
	Len() int
	Lookup(gitobj.OID) int
	LookupRaw([]byte) int
	Name(int) gitobj.OID
	TypeOf(int) gitobj.Type
	Read(int) (gitobj.Type, []byte, error)
	Walk(context.Context, gitobj.Type, gitobj.Walk) error
}

var (
	_ objects = (*gitobj.Store)(nil)
	_ objects = (*gitobj.Child)(nil)
)

// run is one search.
type run struct {
	o       Options
	repo    *gitobj.Repo
	from    objects
	width   int
	workers int

	mu       sync.Mutex
	places   []found
	gaps     []Gap
	searched int

	keys    []scan.ID
	keyOf   map[scan.ID]uint32
	hits    map[int32]setID // keys in an object's own bytes; of a tree: in its names
	hit     bitmap          // the objects in hits
	names   map[int32][]int // of a tree: its places, by number in places
	sets    *sets
	trees   *trees
	commits *commits
	tags    map[int32]gitobj.OID // what a tag names
	earlier *earlier
}

// found is a place whose path is not known yet. name is set for one in a name of a tree.
type found struct {
	number int32
	typ    gitobj.Type
	match  scan.Match
	part   string
	name   string
}

// Search searches the repository. What it cannot read is in the Result; the error is that of ctx, or of starting git when Options.Child
// asks for it.
func Search(ctx context.Context, repo *gitobj.Repo, o Options) (*Result, error) {
	r := &run{
		o: o, repo: repo, from: repo.Store, width: repo.Format.Size(), workers: max(1, o.Workers),
		keyOf: map[scan.ID]uint32{}, hits: map[int32]setID{}, names: map[int32][]int{}, sets: newSets(), tags: map[int32]gitobj.OID{},
	}
	if o.Child {
		c, err := gitobj.OpenChild(ctx, repo)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		r.from, r.workers = c, 1
	}
	r.earlier = r.recall()
	r.earlier.complain()
	if err := r.walk(ctx); err != nil {
		return nil, err
	}
	res := &Result{Gaps: r.gaps, Objects: r.searched, Skipped: r.earlier.skipped(), Exposure: map[scan.ID]*Exposure{}}
	res.Commits = r.commits.walked + r.earlier.commitCount()
	if len(r.keys) > 0 && o.Only == nil {
		r.expose(res)
	}
	spots := r.place(res)
	slices.SortFunc(res.Gaps, func(a, b Gap) int {
		return cmp.Or(a.Object.Compare(b.Object), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Inner, b.Inner), cmp.Compare(a.Reason, b.Reason))
	})
	res.Problems, res.ProblemCount = repo.Problems.Named(), repo.Problems.Total()
	res.Complete = res.ProblemCount == 0 && len(res.Gaps) == 0
	if o.Version != "" && !o.Child && o.Only == nil {
		res.State = r.remember(spots)
	}
	return res, nil
}

// walk searches blobs, then trees, then commits and tags.
func (r *run) walk(ctx context.Context) error {
	if err := r.earlier.search(ctx, r); err != nil {
		return err
	}
	if err := r.search(ctx, gitobj.Blob, nil); err != nil {
		return err
	}
	r.settle()
	r.trees = newTrees(r)
	if err := r.search(ctx, gitobj.Tree, r.trees.visitor); err != nil {
		return err
	}
	r.settle()
	r.trees.end()
	r.commits = newCommits(r)
	if err := r.search(ctx, gitobj.Commit, r.commits.visitor); err != nil {
		return err
	}
	r.commits.link(r)
	if err := r.search(ctx, gitobj.Tag, r.tagVisitor); err != nil {
		return err
	}
	r.settle()
	return nil
}

// settle gives numbers to the keys found so far, and notes which objects hold them. Numbers come in the order of IDs within a pass, so
// that they do not depend on which goroutine was faster.
func (r *run) settle() {
	slices.SortFunc(r.places, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.match.Offset, b.match.Offset), strings.Compare(a.name, b.name),
			strings.Compare(a.match.Inner, b.match.Inner), strings.Compare(string(a.match.ID), string(b.match.ID)), strings.Compare(a.match.Form, b.match.Form))
	})
	var fresh []scan.ID
	for i := range r.places {
		if id := r.places[i].match.ID; id != "" {
			if _, ok := r.keyOf[id]; !ok {
				r.keyOf[id] = 0
				fresh = append(fresh, id)
			}
		}
	}
	slices.Sort(fresh)
	for _, id := range fresh {
		r.keyOf[id] = uint32(len(r.keys)) //nolint:gosec // memory ends before
		r.keys = append(r.keys, id)
	}
	if r.hit == nil {
		r.hit = newBitmap(r.from.Len())
	}
	clear(r.hits)
	clear(r.names)
	for i := range r.places {
		p := &r.places[i]
		if p.typ == gitobj.Tree {
			r.names[p.number] = append(r.names[p.number], i)
		}
		if p.match.ID == "" {
			if p.typ == gitobj.Blob {
				r.hit.set(int(p.number)) // its path is wanted
			}
			continue
		}
		r.hits[p.number] = r.sets.union(r.hits[p.number], r.sets.one(r.keyOf[p.match.ID]))
		r.hit.set(int(p.number))
	}
}

// bitmap is a set of numbers.
type bitmap []uint64

func newBitmap(n int) bitmap { return make(bitmap, n/64+1) }

func (b bitmap) set(n int)      { b[n/64] |= 1 << (n % 64) }
func (b bitmap) has(n int) bool { return b[n/64]&(1<<(n%64)) != 0 }
