package history

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan"
)

// mostPaths is how many paths are listed for one object.
const mostPaths = 50

// spot is one path of an object.
type spot struct {
	path string
	kind entryKind
}

// place finds the paths of all places.
func (r *run) place(res *Result) map[int32]map[spot]bool {
	spots := map[int32]map[spot]bool{}
	r.paths(spots)
	r.hide(spots)
	if r.earlier != nil {
		for n, at := range r.earlier.spots {
			for _, s := range at {
				if spots[n] == nil {
					spots[n] = map[spot]bool{}
				}
				spots[n][s] = true
			}
		}
	}
	for i := range r.places {
		f := &r.places[i]
		p := Place{Match: f.match, Object: r.from.Name(int(f.number)), Type: f.typ, Part: f.part}
		var at []spot
		for s := range spots[f.number] {
			at = append(at, s)
		}
		slices.SortFunc(at, func(a, b spot) int { return cmp.Or(strings.Compare(a.path, b.path), cmp.Compare(a.kind, b.kind)) })
		if len(at) > mostPaths {
			res.MorePlaces += len(at) - mostPaths
			at = at[:mostPaths]
		}
		switch f.typ {
		case gitobj.Tree:
			if len(at) == 0 {
				at = []spot{{}}
			}
			for _, s := range at {
				p.Path = s.path + f.name
				res.Places = append(res.Places, p)
			}
			continue
		case gitobj.Blob:
			if len(at) == 0 {
				p.Part = PartUnassigned
			}
			for _, s := range at {
				p.Path, p.Part = s.path, ""
				if s.kind == entryLink {
					p.Part = PartLink
				}
				res.Places = append(res.Places, p)
			}
		}
		if len(at) == 0 {
			res.Places = append(res.Places, p)
		}
	}
	slices.SortFunc(res.Places, func(a, b Place) int {
		return cmp.Or(a.Object.Compare(b.Object), cmp.Compare(a.Match.Offset, b.Match.Offset), strings.Compare(a.Path, b.Path), strings.Compare(a.Part, b.Part),
			strings.Compare(a.Match.Inner, b.Match.Inner), strings.Compare(string(a.Match.ID), string(b.Match.ID)), strings.Compare(a.Match.Form, b.Match.Form))
	})
	return spots
}

// hide masks the keys in paths, which a State may then keep.
func (r *run) hide(spots map[int32]map[spot]bool) {
	for _, at := range spots {
		for _, s := range slices.Collect(maps.Keys(at)) {
			if !r.o.Searcher.AnchoredPart([]byte(s.path)) {
				continue
			}
			hidden := s
			if r.o.Hide != nil {
				hidden.path = r.o.Hide(s.path)
			} else {
				r.o.Searcher.Find(context.Background(), []byte(s.path), func(m scan.Match) {
					hidden.path = "[hidden]"
					if !m.Value.IsZero() {
						m.Value.Destroy()
					}
				})
			}
			if s.kind == entryTree && hidden.path != "" && !strings.HasSuffix(hidden.path, "/") {
				hidden.path += "/" // a key at its end may have taken it
			}
			delete(at, s)
			at[hidden] = true
		}
	}
}

// paths finds the paths of the objects that hold keys: from the trees of commits downwards, and then from trees that no other tree
// names. A directory's path, which is that of a tree with a key in a name, ends with a slash or is empty.
func (r *run) paths(spots map[int32]map[spot]bool) {
	if !slices.ContainsFunc(r.places, func(p found) bool { return p.typ == gitobj.Blob || p.typ == gitobj.Tree }) {
		return
	}
	t := r.trees
	// Trees that were looked at, or are being looked at; and those that lead to a place.
	known, wanted := newBitmap(r.from.Len()), newBitmap(r.from.Len())
	var leads func(tree int32) bool
	leads = func(tree int32) bool {
		if known.has(int(tree)) {
			return wanted.has(int(tree))
		}
		known.set(int(tree))
		yes := len(r.names[tree]) > 0
		for _, k := range t.list(tree) {
			e := &t.entries[k]
			yes = e.kind != entryTree || leads(e.child) || yes
		}
		if yes {
			wanted.set(int(tree))
		}
		return yes
	}
	type visit struct {
		tree int32
		path string
	}
	seen := map[visit]bool{}
	add := func(n int32, s spot) {
		if spots[n] == nil {
			spots[n] = map[spot]bool{}
		}
		if len(spots[n]) < 100*mostPaths {
			spots[n][s] = true
		}
	}
	var down func(v visit, depth int)
	down = func(v visit, depth int) {
		if seen[v] || depth > 5000 || len(v.path) > 1<<16 || len(seen) > 1<<22 {
			return
		}
		seen[v] = true
		if len(r.names[v.tree]) > 0 {
			add(v.tree, spot{v.path, entryTree})
		}
		for _, k := range t.list(v.tree) {
			e := &t.entries[k]
			switch {
			case e.kind != entryTree:
				add(e.child, spot{v.path + t.names[e.name], e.kind})
			case leads(e.child):
				down(visit{e.child, v.path + t.names[e.name] + "/"}, depth+1)
			}
		}
	}
	for i := range r.commits.list {
		if tree := r.commits.list[i].tree; tree >= 0 && leads(tree) {
			down(visit{tree, ""}, 0)
		}
	}
	// What only trees outside every commit hold.
	below := map[int32]bool{}
	var rest []int32
	for n, w := range t.where {
		if w == 0 && len(r.names[int32(n)]) == 0 {
			continue
		}
		tree := int32(n)
		if r.earlier != nil && len(r.earlier.spots[tree]) > 0 {
			continue // the trees above it were walked by an earlier run
		}
		if leads(tree) && !seen[visit{tree, ""}] {
			rest = append(rest, tree)
			for _, k := range t.list(tree) {
				if e := &t.entries[k]; e.kind == entryTree {
					below[e.child] = true
				}
			}
		}
	}
	reached := map[int32]bool{}
	for v := range seen {
		reached[v.tree] = true
	}
	for _, tree := range rest {
		if !below[tree] && !reached[tree] {
			down(visit{tree, ""}, 0)
		}
	}
}
