package history

import (
	"bytes"
	"context"
	"encoding/gob"
	"maps"
	"slices"
	"sort"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan"
)

// State is what a run leaves for the next one: which packs and loose objects were searched, which objects hold something, which could not
// be read, and what the graph says about them. It holds no value: objects that hold keys are read again.
type State struct {
	s stored
}

// stored is a State as it is written. Names of objects stand one after the other, raw.
type stored struct {
	Format  int
	Version string
	Width   int
	Packs   []string
	Counts  []int // of commits, by pack
	Loose   []byte
	Commits []byte // those among Loose
	Held    []byte
	Spots   [][]string // of each object in Held: kind and path, in which keys were hidden
	Keys    []scan.ID
	Sets    [][]uint32 // of places in Keys
	// The graph, parents before children.
	Graph   []byte
	Times   []int64
	InTree  []uint32 // places in Sets
	Fan     []uint32 // number of parents
	Parents []uint32 // of one commit after the other
	// Trees that hold keys.
	Trees   []byte
	TreeSet []uint32
	// Problems with single objects.
	Problems []gitobj.Problem
	// Tags and what they name.
	Tags []byte
}

// stateFormat changes when an older State cannot be understood.
const stateFormat = 2

// MarshalBinary implements encoding.BinaryMarshaler.
func (s *State) MarshalBinary() ([]byte, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(s.s); err != nil {
		return nil, fault.Wrap(fault.Unknown, err, "write state of a scan")
	}
	return b.Bytes(), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. Kinds: Corrupt. The bytes must be the caller's own: a file that nobody else can write.
func (s *State) UnmarshalBinary(b []byte) error {
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&s.s); err != nil {
		return fault.Wrap(fault.Corrupt, err, "read state of a scan")
	}
	return nil
}

// Done reports whether a pack was searched under the version, for gitobj.Options.
func (s *State) Done(version string) func(pack string) bool {
	if s == nil || s.s.Version != version || version == "" || s.s.Format != stateFormat {
		return nil
	}
	set := map[string]bool{}
	for _, p := range s.s.Packs {
		set[p] = true
	}
	return func(pack string) bool { return set[pack] }
}

// names is a list of raw names.
type names struct {
	b     []byte
	width int
}

func (n names) len() int        { return len(n.b) / n.width }
func (n names) at(i int) []byte { return n.b[i*n.width:][:n.width] }
func (n names) has(raw []byte) bool {
	i := sort.Search(n.len(), func(i int) bool { return bytes.Compare(n.at(i), raw) >= 0 })
	return i < n.len() && bytes.Equal(n.at(i), raw)
}

// earlier is the State of an earlier run, as this run uses it. A nil one knows nothing.
type earlier struct {
	s        *stored
	done     func(string) bool
	r        *run
	loose    names
	count    int
	spots    map[int32][]spot
	sets     []setID
	treeSets map[int32]setID
}

// recall takes over the State of the options, if it fits.
func (r *run) recall() *earlier {
	done := r.o.State.Done(r.o.Version)
	if done == nil || r.o.Child || r.o.Only != nil || r.o.State.s.Width != r.width {
		return nil
	}
	s := &r.o.State.s
	if len(s.Times) != len(s.Graph)/s.Width || len(s.InTree) != len(s.Times) || len(s.Fan) != len(s.Times) || len(s.TreeSet) != len(s.Trees)/s.Width ||
		len(s.Spots) != len(s.Held)/s.Width || len(s.Counts) != len(s.Packs) {
		return nil
	}
	e := &earlier{s: s, done: done, r: r, loose: names{s.Loose, s.Width}, spots: map[int32][]spot{}}
	// All objects with keys that were searched must be readable; one that is gone is gone.
	held := names{s.Held, s.Width}
	for i := range held.len() {
		if n := r.from.LookupRaw(held.at(i)); n >= 0 && e.skipped1(n) {
			if _, _, err := r.from.Read(n); err != nil {
				return nil
			}
		}
	}
	for _, p := range s.Problems {
		// What was missing may be held by trees that were read without it.
		if o, ok := gitobj.ParseOID(p.Name); p.Kind != gitobj.ProblemObject && (!ok || r.from.Lookup(o) >= 0) {
			return nil
		}
	}
	for _, p := range r.repo.Packs() {
		if done(p.ID) {
			e.count += p.Objects
		}
	}
	return e
}

// complain repeats the problems of the earlier run with objects that this one does not walk.
func (e *earlier) complain() {
	if e == nil {
		return
	}
	for _, p := range e.s.Problems {
		o, _ := gitobj.ParseOID(p.Name)
		if n := e.r.from.Lookup(o); p.Kind != gitobj.ProblemObject || n >= 0 && e.skipped1(n) {
			e.r.repo.Problems.Add(p.Kind, p.Name, p.Why)
		}
	}
}

func (e *earlier) skipPack(id string) bool { return e != nil && e.done(id) }

func (e *earlier) skip(number int) bool {
	if e == nil || !e.skipLoose(number) {
		return false
	}
	return true
}

func (e *earlier) skipLoose(number int) bool {
	o := e.r.from.Name(number)
	return e.loose.has(o.Bytes())
}

// skipped1 reports whether this run will not walk the object.
func (e *earlier) skipped1(number int) bool {
	if id := e.r.repo.PackOf(number); id != "" {
		return e.done(id)
	}
	return e.skipLoose(number)
}

func (e *earlier) skipped() int {
	if e == nil {
		return 0
	}
	return e.count + e.loose.len()
}

// search reads the objects again that held something, as far as this run does not walk them.
func (e *earlier) search(ctx context.Context, r *run) error {
	if e == nil {
		return nil
	}
	f := &finder{r: r, ctx: ctx}
	held := names{e.s.Held, e.s.Width}
	for i := range held.len() {
		n := r.from.LookupRaw(held.at(i))
		if n < 0 || !e.skipped1(n) {
			continue
		}
		if ctx.Err() != nil {
			return fault.Wrap(fault.Canceled, context.Cause(ctx), "read objects again")
		}
		typ, data, err := r.from.Read(n)
		if err != nil {
			r.repo.Problems.Add(gitobj.ProblemObject, r.from.Name(n).String(), "cannot be read again")
			continue
		}
		f.find(n, typ, data)
		for _, s := range e.s.Spots[i] {
			if s != "" {
				e.spots[int32(n)] = append(e.spots[int32(n)], spot{s[1:], entryKind(s[0] - '0')}) //nolint:gosec // a number of an object
			}
		}
	}
	r.places, r.gaps = append(r.places, f.places...), append(r.gaps, f.gaps...)
	tags := names{e.s.Tags, e.s.Width}
	for i := 0; i+1 < tags.len(); i += 2 {
		if n := r.from.LookupRaw(tags.at(i)); n >= 0 {
			r.tags[int32(n)] = gitobj.MakeOID(tags.at(i + 1)) //nolint:gosec // a number of an object
		}
	}
	return nil
}

// set gives the set of this run for a set of the State.
func (e *earlier) set(i uint32) setID {
	if e.sets == nil {
		for _, set := range e.s.Sets {
			var keys []uint32
			for _, k := range set {
				if int(k) < len(e.s.Keys) {
					if now, ok := e.r.keyOf[e.s.Keys[k]]; ok {
						keys = append(keys, now)
					}
				}
			}
			slices.Sort(keys)
			e.sets = append(e.sets, e.r.sets.make(keys))
		}
	}
	if int(i) >= len(e.sets) {
		return 0
	}
	return e.sets[i]
}

// trees gives the sets of the trees that the State knows.
func (e *earlier) trees() map[int32]setID {
	if e == nil || e.treeSets != nil {
		return nil
	}
	e.treeSets = map[int32]setID{}
	all := names{e.s.Trees, e.s.Width}
	for i := range all.len() {
		if n := e.r.from.LookupRaw(all.at(i)); n >= 0 {
			e.treeSets[int32(n)] = e.set(e.s.TreeSet[i]) //nolint:gosec // a number of an object
		}
	}
	return e.treeSets
}

// commits gives the commits that the State knows and that are still there, parents before their children; parents are places in the list.
func (e *earlier) commits() []commit {
	if e == nil {
		return nil
	}
	all := names{e.s.Graph, e.s.Width}
	places := make([]int32, all.len())
	out := make([]commit, 0, all.len())
	flat := make([]int32, 0, len(e.s.Parents))
	left := e.s.Parents
	for i := range places {
		places[i] = -1
		n := e.r.from.LookupRaw(all.at(i))
		from := len(flat)
		for k := e.s.Fan[i]; k > 0 && len(left) > 0; k-- {
			if p := left[0]; int(p) < i && places[p] >= 0 {
				flat = append(flat, places[p])
			}
			left = left[1:]
		}
		if n < 0 {
			continue
		}
		places[i] = int32(len(out)) //nolint:gosec // memory ends before
		out = append(out, commit{
			number: int32(n), tree: -1, known: true, set: e.set(e.s.InTree[i]), time: e.s.Times[i], //nolint:gosec // a number of an object
			parents: flat[from:len(flat):len(flat)],
		})
	}
	return out
}

// commitCount gives the number of commits that this run does not walk.
func (e *earlier) commitCount() int {
	if e == nil {
		return 0
	}
	count := 0
	for _, p := range e.r.repo.Packs() {
		if i := slices.Index(e.s.Packs, p.ID); i >= 0 {
			count += e.s.Counts[i]
		}
	}
	loose := names{e.s.Commits, e.s.Width}
	for i := range loose.len() {
		if n := e.r.from.LookupRaw(loose.at(i)); n >= 0 && e.r.repo.PackOf(n) == "" {
			count++
		}
	}
	return count
}

// remember makes the State of this run; nil when there are more problems than are known by name.
func (r *run) remember(spots map[int32]map[spot]bool) *State {
	s := stored{Format: stateFormat, Version: r.o.Version, Width: r.width}
	left := 0
	for _, kind := range []gitobj.ProblemKind{gitobj.ProblemObject, gitobj.ProblemMissing, gitobj.ProblemPartial} {
		left += r.repo.Problems.Count(kind)
	}
	for _, p := range r.repo.Problems.Named() {
		switch p.Kind {
		case gitobj.ProblemObject, gitobj.ProblemMissing, gitobj.ProblemPartial:
			s.Problems = append(s.Problems, p)
			left--
		}
	}
	if left != 0 {
		return nil
	}
	counts := map[string]int{}
	for i := range r.commits.list {
		if c := &r.commits.list[i]; !c.known {
			if id := r.repo.PackOf(int(c.number)); id != "" {
				counts[id]++
			} else {
				o := r.from.Name(int(c.number))
				s.Commits = append(s.Commits, o.Bytes()...)
			}
		}
	}
	if e := r.earlier; e != nil {
		for i, id := range e.s.Packs {
			counts[id] = e.s.Counts[i]
		}
		s.Commits = append(s.Commits, e.s.Commits...)
	}
	s.Commits = sortedNames(s.Commits, r.width)
	for _, p := range r.repo.Packs() {
		s.Packs, s.Counts = append(s.Packs, p.ID), append(s.Counts, counts[p.ID])
	}
	s.Loose = sortedNames(r.repo.LooseNames(), r.width)
	held := map[int32]bool{}
	for i := range r.places {
		held[r.places[i].number] = true
	}
	for _, g := range r.gaps {
		held[int32(r.from.Lookup(g.Object))] = true //nolint:gosec // a number of an object
	}
	for _, number := range slices.Sorted(maps.Keys(held)) {
		o := r.from.Name(int(number))
		s.Held = append(s.Held, o.Bytes()...)
		var at []string
		for sp := range spots[number] {
			at = append(at, string(rune('0'+sp.kind))+sp.path)
		}
		slices.Sort(at)
		s.Spots = append(s.Spots, at)
	}
	for number, named := range r.tags {
		o := r.from.Name(int(number))
		s.Tags = append(append(s.Tags, o.Bytes()...), named.Bytes()...)
	}
	if len(r.keys) == 0 {
		return &State{s}
	}
	if e := r.earlier; e != nil && r.commits.walked == 0 && r.searched == 0 && slices.Equal(r.keys, e.s.Keys) { // the graph is as it was
		s.Keys, s.Sets, s.Graph, s.Times, s.InTree, s.Fan, s.Parents = e.s.Keys, e.s.Sets, e.s.Graph, e.s.Times, e.s.InTree, e.s.Fan, e.s.Parents
		s.Trees, s.TreeSet = e.s.Trees, e.s.TreeSet
		return &State{s}
	}
	s.Keys = r.keys
	for n, w := range r.trees.where {
		if w != 0 {
			r.trees.setOf(int32(n))
		}
	}
	for n, set := range r.trees.set {
		if set != 0 {
			o := r.from.Name(int(n))
			s.Trees = append(s.Trees, o.Bytes()...)
			s.TreeSet = append(s.TreeSet, uint32(set))
		}
	}
	for i := range r.commits.list {
		c := &r.commits.list[i]
		o := r.from.Name(int(c.number))
		s.Graph = append(s.Graph, o.Bytes()...)
		s.Times = append(s.Times, c.time)
		s.InTree = append(s.InTree, uint32(r.commits.inTree(i)))
		s.Fan = append(s.Fan, uint32(len(c.parents))) //nolint:gosec // few
		for _, p := range c.parents {
			s.Parents = append(s.Parents, uint32(p)) //nolint:gosec // a place in the list
		}
	}
	s.Sets = r.sets.list
	return &State{s}
}

// sortedNames sorts raw names.
func sortedNames(b []byte, width int) []byte {
	all := make([]string, len(b)/width)
	for i := range all {
		all[i] = string(b[i*width:][:width])
	}
	slices.Sort(all)
	out := make([]byte, 0, len(b))
	for _, n := range slices.Compact(all) {
		out = append(out, n...)
	}
	return out
}
