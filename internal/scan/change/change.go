// Package change searches what a commit or a push would bring: staged files, the commits that a remote lacks, and the commits that a push hands
// in. It reads git's objects, refs and index itself and searches whole blobs, not patches.
//
// It never runs a program, never honours a setting of the repository, writes nothing, and shows nothing: what it finds goes to a Sink. Called
// by scan/run for hooks.
package change

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan"
)

// Sink takes what is found. Its methods are called from one goroutine. Paths and names are foreign text.
type Sink interface {
	// Match takes a match in an object; part says which part of it where that is not its content.
	Match(m scan.Match, path, part, object string)
	// Gap takes what was not searched.
	Gap(path, object, reason string, inner string)
}

// Options says what is searched, and with what.
type Options struct {
	Search *scan.Searcher
	Sink   Sink
	// GitDir is git's directory, or a work tree.
	GitDir string
	// Index replaces the index file of GitDir, as git's own GIT_INDEX_FILE does. Empty keeps it.
	Index string
	// Objects names further directories of objects, as the quarantine of a push has them.
	Objects []string
	// FollowExternal follows pointers out of GitDir.
	FollowExternal bool
}

// Stats counts what was searched.
type Stats struct {
	Objects int
	Bytes   int64
	Commits int
}

// Find gives the directory that holds the repository of dir: dir itself or the nearest one above it. Kind: NotFound.
func Find(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fault.Wrap(fault.NotFound, err, "find repository")
	}
	for at := abs; ; at = filepath.Dir(at) {
		if gitobj.IsRepository(at) {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fault.New(fault.NotFound, "find repository: there is none here and none above", fault.Hint("run it in a repository, or name one"))
		}
	}
}

// walker is one search.
type walker struct {
	ctx   context.Context
	o     Options
	repo  *gitobj.Repo
	stats Stats
	seen  map[gitobj.OID]bool
	named map[string]bool
}

func open(ctx context.Context, o Options) (*walker, error) {
	repo, err := gitobj.Open(o.GitDir, gitobj.Options{FollowExternal: o.FollowExternal, Objects: o.Objects})
	if err != nil {
		return nil, err
	}
	return &walker{ctx: ctx, o: o, repo: repo, seen: map[gitobj.OID]bool{}, named: map[string]bool{}}, nil
}

// end reports what the repository could not read.
func (w *walker) end() {
	for _, p := range w.repo.Problems.Named() {
		if p.Kind == gitobj.ProblemObject || p.Kind == gitobj.ProblemMissing {
			w.o.Sink.Gap("", p.Name, p.Why, "")
			continue
		}
		w.o.Sink.Gap(p.Name, "", p.Why, "")
	}
	w.repo.Close()
}

// read gives an object, or reports that it cannot be read.
func (w *walker) read(oid gitobj.OID, path string) (gitobj.Type, []byte, bool) {
	n := w.repo.Lookup(oid)
	if n < 0 {
		w.o.Sink.Gap(path, oid.String(), "the object is missing", "")
		return 0, nil, false
	}
	t, data, err := w.repo.Read(n)
	if err != nil {
		w.o.Sink.Gap(path, oid.String(), "the object cannot be read: "+fault.KindOf(err).String(), "")
		return 0, nil, false
	}
	w.stats.Objects++
	w.stats.Bytes += int64(len(data))
	return t, data, true
}

// search searches bytes that belong to an object.
func (w *walker) search(data []byte, path, part, object string) {
	if !w.o.Search.Anchored(data) {
		return
	}
	for _, g := range w.o.Search.Find(w.ctx, data, func(m scan.Match) { w.o.Sink.Match(m, path, part, object) }) {
		w.o.Sink.Gap(path, object, g.Reason, g.Inner)
	}
}

// blob searches a blob once, and its path once.
func (w *walker) blob(oid gitobj.OID, path string) {
	if !w.named[path] {
		w.named[path] = true
		w.search([]byte(path), path, "file name", "")
	}
	if w.seen[oid] {
		return
	}
	w.seen[oid] = true
	if _, data, ok := w.read(oid, path); ok {
		w.search(data, path, "", oid.String())
	}
}

// tree gives the entries of a tree by name; of the zero name none.
func (w *walker) tree(oid gitobj.OID, path string) (map[string]gitobj.Entry, bool) {
	if oid.IsZero() {
		return nil, true
	}
	t, data, ok := w.read(oid, path)
	if !ok {
		return nil, false
	}
	all := map[string]gitobj.Entry{}
	width := w.repo.Format.Size()
	for len(data) > 0 && t == gitobj.Tree {
		mode, name, raw, rest, ok := gitobj.NextEntry(data, width)
		if !ok {
			w.o.Sink.Gap(path, oid.String(), "the tree is corrupt", "")
			break
		}
		all[string(name)] = gitobj.Entry{Mode: mode, Raw: bytes.Clone(raw)}
		data = rest
	}
	return all, true
}

// Staged searches the staged blobs that HEAD does not hold at the same path, and their paths. Kinds: those of gitobj.Open, Canceled, and
// Corrupt or Unsupported for the index.
func Staged(ctx context.Context, o Options) (Stats, error) {
	w, err := open(ctx, o)
	if err != nil {
		return Stats{}, err
	}
	defer w.end()
	file := o.Index
	if file == "" {
		file = filepath.Join(w.repo.GitDir, "index")
	}
	x, err := readIndex(file, w.repo.Format)
	if err != nil {
		return Stats{}, err
	}
	var root gitobj.OID
	if head := w.head(); !head.IsZero() {
		if _, data, ok := w.read(head, "HEAD"); ok {
			if c, err := gitobj.ParseCommit(data); err == nil {
				root = c.Tree
			}
		}
	}
	w.staged("", x.entries, root, x.trees, 0)
	return w.stats, fault.In(ctx.Err(), "search staged files")
}

// head gives the commit that HEAD holds, or the zero name.
func (w *walker) head() gitobj.OID {
	b, err := os.ReadFile(filepath.Join(w.repo.GitDir, "HEAD"))
	if err != nil {
		return gitobj.OID{}
	}
	text := strings.TrimSpace(string(b))
	to, symbolic := strings.CutPrefix(text, "ref:")
	if !symbolic {
		oid, _ := gitobj.ParseOID(text)
		return oid
	}
	to = strings.TrimSpace(to)
	for _, r := range w.repo.Refs() {
		if r.Name == to {
			return r.OID
		}
	}
	return gitobj.OID{}
}

// staged compares the index's entries below a directory with a tree, and searches what differs.
func (w *walker) staged(dir string, entries []entry, tree gitobj.OID, known *cached, depth int) {
	if known != nil && !known.oid.IsZero() && known.oid == tree || w.ctx.Err() != nil {
		return
	}
	if depth > 4096 {
		w.o.Sink.Gap(dir, "", "directories nest too deeply", "")
		return
	}
	held, _ := w.tree(tree, dir)
	for i := 0; i < len(entries); {
		e := entries[i]
		name, _, below := strings.Cut(e.path[len(dir):], "/")
		old := held[name]
		var was gitobj.OID
		if old.Raw != nil {
			was = gitobj.MakeOID(old.Raw)
		}
		if below {
			n := i + 1
			prefix := dir + name + "/"
			for n < len(entries) && strings.HasPrefix(entries[n].path, prefix) {
				n++
			}
			if !old.Mode.IsTree() {
				was = gitobj.OID{}
			}
			if e.mode.IsTree() && e.path == prefix { // of a sparse index
				if e.oid != was {
					w.differ(e.oid, []gitobj.OID{was}, prefix, depth)
				}
			} else {
				w.staged(prefix, entries[i:n], was, known.child(name), depth+1)
			}
			i = n
			continue
		}
		i++
		if !e.mode.IsModule() && !e.oid.IsZero() && e.oid != was {
			w.blob(e.oid, e.path)
		}
	}
}

// differ searches what a tree holds and none of the others does at the same path.
func (w *walker) differ(tree gitobj.OID, others []gitobj.OID, path string, depth int) {
	if tree.IsZero() || w.ctx.Err() != nil {
		return
	}
	if depth > 4096 {
		w.o.Sink.Gap(path, tree.String(), "directories nest too deeply", "")
		return
	}
	for _, o := range others {
		if o == tree {
			return
		}
	}
	if len(others) == 0 || onlyZero(others) {
		// A tree of which nothing is known is searched once, wherever it hangs.
		if w.seen[tree] {
			return
		}
		w.seen[tree] = true
	}
	now, ok := w.tree(tree, path)
	if !ok {
		return
	}
	before := make([]map[string]gitobj.Entry, len(others))
	for i, o := range others {
		before[i], _ = w.tree(o, path)
	}
	for name, e := range now {
		oid := gitobj.MakeOID(e.Raw)
		same := false
		var below []gitobj.OID
		for _, b := range before {
			old := b[name]
			same = same || old.Raw != nil && bytes.Equal(old.Raw, e.Raw)
			if e.Mode.IsTree() && old.Mode.IsTree() {
				below = append(below, gitobj.MakeOID(old.Raw))
			}
		}
		switch {
		case same || e.Mode.IsModule():
		case e.Mode.IsTree():
			w.differ(oid, below, path+name+"/", depth+1)
		default:
			w.blob(oid, path+name)
		}
	}
}

func onlyZero(all []gitobj.OID) bool {
	for _, o := range all {
		if !o.IsZero() {
			return false
		}
	}
	return true
}
