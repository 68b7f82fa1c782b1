package history

import (
	"bytes"
	"context"

	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan"
)

// extra is what a pass does with an object beside searching it. It is made for each worker.
type extra func(worker int) func(*gitobj.Object) error

// finder is the search of one worker.
type finder struct {
	r      *run
	ctx    context.Context
	margin int
	window []byte
	places []found
	gaps   []Gap
	n      int
}

// search shows all objects of a type to the Searcher and to more.
func (r *run) search(ctx context.Context, t gitobj.Type, more extra) error {
	finders := make([]*finder, r.workers)
	err := r.from.Walk(ctx, t, gitobj.Walk{
		Workers: r.workers, SkipPack: r.earlier.skipPack, Skip: r.earlier.skip,
		Visitor: func(worker int) func(*gitobj.Object) error {
			f := &finder{r: r, ctx: ctx, margin: max(0, r.o.Searcher.Margin()-1)}
			finders[worker] = f
			if more == nil {
				return f.object
			}
			then := more(worker)
			return func(o *gitobj.Object) error {
				if err := f.object(o); err != nil {
					return err
				}
				return then(o)
			}
		},
	})
	for _, f := range finders {
		if f != nil {
			r.places = append(r.places, f.places...)
			r.gaps = append(r.gaps, f.gaps...)
			r.searched += f.n
		}
	}
	return err
}

// object searches one object. Its Flag says for those that are built on it whether it may hold an anchor.
func (f *finder) object(o *gitobj.Object) error {
	wanted := !o.Dup && (f.r.o.Only == nil || f.r.o.Only(f.r.from.Name(o.Number)))
	if wanted {
		f.n++
	}
	if o.Large() {
		if !wanted {
			return nil
		}
		in, err := o.Open()
		if err != nil {
			return err
		}
		defer in.Close()
		f.gap(o.Number, f.r.o.Searcher.Stream(f.ctx, in, func(m scan.Match) { f.add(o.Number, o.Type, m, "", "") }))
		return nil
	}
	flag, err := f.anchored(o)
	o.Flag = flag
	if err != nil || !flag || !wanted {
		return err
	}
	data, err := o.Data()
	if err != nil {
		return err
	}
	f.find(o.Number, o.Type, data)
	return nil
}

// find matches a whole object.
func (f *finder) find(number int, typ gitobj.Type, data []byte) {
	part := func(scan.Match) string { return "" }
	switch typ {
	case gitobj.Tree:
		f.entries(number, data)
		return
	case gitobj.Commit:
		part = func(m scan.Match) string { return partOf(data, m.Offset, "author ", PartAuthor) }
	case gitobj.Tag:
		part = func(m scan.Match) string { return partOf(data, m.Offset, "tagger ", PartTagger) }
	}
	f.gap(number, f.r.o.Searcher.Find(f.ctx, data, func(m scan.Match) { f.add(number, typ, m, part(m), "") }))
}

// anchored reports whether an object may hold a key. Of one that is built on an object without an anchor it looks only at what is new.
func (f *finder) anchored(o *gitobj.Object) (bool, error) {
	s := f.r.o.Searcher
	if o.Base == nil || o.Base.Flag {
		data, err := o.Data()
		if err != nil {
			return false, err
		}
		if o.Type == gitobj.Blob {
			return s.Anchored(data), nil
		}
		return s.AnchoredPart(data), nil
	}
	var err error
	if f.window, err = o.Windows(f.window[:0], f.margin); err != nil {
		return false, err
	}
	if s.AnchoredPart(f.window) {
		return true, nil
	}
	if o.Type != gitobj.Blob {
		return false, nil
	}
	// An object that becomes an archive by its first bytes has no anchor in what is new.
	if f.window, err = o.Head(f.window[:0], scan.HeadSize); err != nil {
		return false, err
	}
	return scan.Magic(f.window), nil
}

// entries searches the names in a tree, each for itself.
func (f *finder) entries(number int, data []byte) {
	for name := range gitobj.Entries(data, f.r.width) {
		if f.r.o.Searcher.AnchoredPart(name) {
			f.gap(number, f.r.o.Searcher.Find(f.ctx, name, func(m scan.Match) { f.add(number, gitobj.Tree, m, PartName, string(name)) }))
		}
	}
}

// partOf says in which part of a commit or tag the offset lies. who is the word before the line of part.
func partOf(data []byte, offset int64, who, part string) string {
	head := bytes.Index(data, []byte("\n\n"))
	if head >= 0 && offset <= int64(head) {
		line := data[:min(int64(len(data)), offset)]
		line = line[bytes.LastIndexByte(line, '\n')+1:]
		switch {
		case bytes.HasPrefix(line, []byte(who)):
			return part
		case bytes.HasPrefix(line, []byte("committer ")):
			return PartCommitter
		}
	}
	if part == PartTagger {
		return PartTag
	}
	return PartMessage
}

func (f *finder) add(number int, typ gitobj.Type, m scan.Match, part, name string) {
	f.places = append(f.places, found{number: int32(number), typ: typ, match: m, part: part, name: name}) //nolint:gosec // a number of an object
}

func (f *finder) gap(number int, gaps []scan.Gap) {
	for _, g := range gaps {
		f.gaps = append(f.gaps, Gap{Object: f.r.from.Name(number), Gap: g})
	}
}

// tagVisitor notes what tags name.
func (r *run) tagVisitor(int) func(*gitobj.Object) error {
	return func(o *gitobj.Object) error {
		if o.Dup || o.Large() {
			return nil
		}
		data, err := o.Data()
		if err != nil {
			return err
		}
		t, err := gitobj.ParseTag(data)
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tags[int32(o.Number)] = t.Object //nolint:gosec // a number of an object
		return nil
	}
}
