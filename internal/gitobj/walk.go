package gitobj

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/keywright/keywright/internal/fault"
)

// Walk is how the objects of a store are shown.
type Walk struct {
	// Workers is the number of goroutines; at least one.
	Workers int
	// SkipPack reports, when it is not nil, packs, by their ID, that are not to be shown.
	SkipPack func(id string) bool
	// Skip reports, when it is not nil, loose objects that are not to be shown.
	Skip func(number int) bool
	// Visitor makes the visitor of one worker. A visitor is called by one goroutine; an error that it returns is counted
	// as a problem of that object, of which what it is built on it remains readable.
	Visitor func(worker int) func(*Object) error
}

// chunk is how many trees of deltas a worker takes at once.
const chunk = 32

// Walk shows every object of type t once, each after the one it is built on. What cannot be read becomes a problem. The error is
// that of ctx, or nil.
func (s *Store) Walk(ctx context.Context, t Type, w Walk) error {
	type job struct {
		pack  *pack
		loose *loose
		roots []int32
	}
	var jobs []job
	for k, p := range s.packs {
		if w.SkipPack != nil && w.SkipPack(p.id) {
			continue
		}
		s.prepare(k)
		var roots []int32
		for i := range p.heads {
			switch h := &p.heads[i]; {
			case h.typ == 0 && t == Blob:
				s.broken(p, int32(i))
			case h.typ == t && h.base < 0:
				roots = append(roots, int32(i))
				if len(roots) == chunk {
					jobs = append(jobs, job{pack: p, roots: roots})
					roots = nil
				}
			}
		}
		if len(roots) > 0 {
			jobs = append(jobs, job{pack: p, roots: roots})
		}
	}
	for _, l := range s.loose {
		var some []int32
		for i := range l.len() {
			if k := l.typeAt(i); l.dup[i] || k != 0 && k != t || w.Skip != nil && w.Skip(l.start+i) {
				continue
			}
			if some = append(some, int32(i)); len(some) == chunk {
				jobs = append(jobs, job{loose: l, roots: some})
				some = nil
			}
		}
		if len(some) > 0 {
			jobs = append(jobs, job{loose: l, roots: some})
		}
	}
	var next atomic.Int64
	var wait sync.WaitGroup
	for k := range max(1, w.Workers) {
		wait.Go(func() {
			me := &walker{s: s, z: newInflater(), visit: w.Visitor(k), limit: s.limits.Bases}
			for {
				j := int(next.Add(1)) - 1
				if j >= len(jobs) {
					return
				}
				for _, root := range jobs[j].roots {
					if ctx.Err() != nil {
						return
					}
					if p := jobs[j].pack; p != nil {
						me.family(ctx, p, root)
					} else {
						me.single(jobs[j].loose, root, t)
					}
					me.unbulk()
				}
			}
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return fault.Wrap(fault.KindOf(ctx.Err()), context.Cause(ctx), "walk objects")
	}
	return nil
}

// broken counts an entry that no type could be found for.
func (s *Store) broken(p *pack, i int32) {
	err := errPack
	for at, n := i, 0; ; n++ {
		b := p.heads[at].base
		if b == outsideBase {
			err = errNoBase
		} else if n > 10000 {
			err = errCyclic
		} else if b >= 0 {
			at = b
			continue
		}
		break
	}
	s.problem(p, i, err)
}

func (s *Store) problem(p *pack, i int32, err error) {
	name := MakeOID(p.index.name(int(p.at[i])))
	s.Problems.Add(ProblemObject, name.String(), reason(err))
}

// walker is one goroutine of a walk.
type walker struct {
	s     *Store
	z     *inflater
	visit func(*Object) error
	limit int64

	stack []*Object // those with children yet to be shown; each is the base of the next but for those that were let go
	next  []int32   // the next child of each
	delta []byte
	free  [][]byte
	held  int64
	spare []*Object
	bulk  bool
}

// get gives a buffer of n bytes and slack behind it.
func (w *walker) get(n int) ([]byte, error) {
	if n > bulky && !w.bulk {
		w.s.bulk.Lock()
		w.bulk = true
	}
	for i := len(w.free) - 1; i >= 0; i-- {
		if b := w.free[i]; cap(b) >= n+slack {
			w.free[i] = w.free[len(w.free)-1]
			w.free = w.free[:len(w.free)-1]
			w.held += int64(cap(b))
			return b[:n], nil
		}
	}
	b := make([]byte, n, n+n/8+slack)
	w.held += int64(cap(b))
	return b, nil
}

// put takes a buffer back.
func (w *walker) put(b []byte) {
	if b == nil {
		return
	}
	w.held -= int64(cap(b))
	if cap(b) > 2<<20 {
		return
	}
	if len(w.free) >= 6 {
		// The smallest goes, so that the buffers grow to what is needed.
		small := 0
		for i := range w.free {
			if cap(w.free[i]) < cap(w.free[small]) {
				small = i
			}
		}
		if cap(w.free[small]) >= cap(b) {
			return
		}
		w.free[small] = b
		return
	}
	w.free = append(w.free, b)
}

// unbulk ends the time in which no other goroutine may hold large objects.
func (w *walker) unbulk() {
	if w.bulk {
		w.delta = nil
		w.bulk = false
		w.s.bulk.Unlock()
	}
}

func (w *walker) object() *Object {
	if n := len(w.spare); n > 0 {
		o := w.spare[n-1]
		w.spare = w.spare[:n-1]
		*o = Object{w: w, Own: o.Own}
		return o
	}
	return &Object{w: w}
}

func (w *walker) release(o *Object) {
	w.put(o.data)
	o.data = nil
	w.spare = append(w.spare, o)
}

// single shows a loose object, if it is of type t.
func (w *walker) single(l *loose, i int32, t Type) {
	name := MakeOID(l.name(int(i))).String()
	o := w.object()
	err := guard(func() error {
		f, err := openLoose(w.z, l, int(i))
		if err != nil {
			return err
		}
		defer f.Close()
		l.types[i].Store(uint32(f.typ))
		if f.typ != t {
			return nil
		}
		o.Number, o.Type, o.Size, o.loose, o.rank, o.Leaf = l.start+int(i), t, f.size, l, i, true
		if o.large = f.size > LargeObject; !o.large {
			buf, err := w.get(f.skip + int(f.size))
			if err != nil {
				return err
			}
			o.data = buf
			if _, _, err := w.z.zlib(buf[:cap(buf)], f.skip+int(f.size), f.data, false); err != nil {
				return err
			}
			o.data = buf[f.skip:]
			w.held -= int64(f.skip)
		}
		return w.visit(o)
	})
	if err != nil {
		w.s.Problems.Add(ProblemObject, name, reason(err))
	}
	w.release(o)
}

// family shows the object at rank root, which is not built on one of its pack, and all that is built on it.
func (w *walker) family(ctx context.Context, p *pack, root int32) {
	if p.child[root] < 0 && p.heads[root].dup {
		return
	}
	if !w.step(p, root, nil) {
		return
	}
	for len(w.stack) > 0 {
		top := w.stack[len(w.stack)-1]
		child := w.next[len(w.next)-1]
		if ctx.Err() != nil {
			for _, o := range w.stack {
				w.release(o)
			}
			w.stack, w.next = w.stack[:0], w.next[:0]
			return
		}
		after := p.sibling[child]
		w.next[len(w.next)-1] = after
		if after < 0 {
			w.stack, w.next = w.stack[:len(w.stack)-1], w.next[:len(w.next)-1]
		}
		if p.child[child] >= 0 || !p.heads[child].dup {
			w.step(p, child, top)
		}
		if after < 0 {
			w.release(top)
		}
	}
}

// step shows one entry and puts it on the stack if others are built on it.
func (w *walker) step(p *pack, i int32, base *Object) bool {
	h := p.heads[i]
	o := w.object()
	o.Number, o.Type, o.Base, o.Dup, o.pack, o.rank = p.start+int(p.at[i]), h.typ, base, h.dup, p, i
	parent := p.child[i] >= 0
	o.Leaf = !parent
	err := guard(func() error {
		if err := w.load(p, i, o, base, parent); err != nil {
			return err
		}
		if err := w.visit(o); err != nil {
			w.s.problem(p, i, err)
		}
		if parent {
			_, err := o.Data()
			return err
		}
		return nil
	})
	o.Base, o.ops = nil, nil
	if err != nil || !parent {
		if err != nil {
			w.lost(p, i, err)
		}
		w.release(o)
		return false
	}
	w.stack = append(w.stack, o)
	w.next = append(w.next, p.child[i])
	// Over the budget the bases that are needed last are let go; they are made again when their turn comes.
	for k := 0; k < len(w.stack)-1 && w.held > w.limit; k++ {
		w.put(w.stack[k].data)
		w.stack[k].data = nil
	}
	return true
}

// load makes o ready for its visit.
func (w *walker) load(p *pack, i int32, o, base *Object, parent bool) (err error) {
	h := p.heads[i]
	if base == nil {
		if h.base == outsideBase {
			if _, o.data, err = w.s.read(w.z, o.Number, 0); err == nil {
				o.Size = int64(len(o.data))
				w.held += int64(cap(o.data))
			}
			return err
		}
		b := p.entry(int(i))
		if len(b) <= int(h.skip) {
			return errPack
		}
		o.Size = entrySize(b)
		if !plausible(o.Size, len(b)) {
			return errPack
		}
		if o.large = o.Size > LargeObject && !parent; o.large {
			return nil
		}
		if o.Size > w.s.limits.Object {
			return errLimit
		}
		buf, err := w.get(int(o.Size))
		if err != nil {
			return err
		}
		o.data = buf
		_, _, err = w.z.zlib(buf[:cap(buf)], int(o.Size), b[h.skip:], false)
		return err
	}
	if base.data == nil && base.Size > 0 {
		if err := w.again(p, base); err != nil {
			return err
		}
	}
	var delta []byte
	if delta, w.delta, err = p.inflateEntry(w.z, w.delta, int(i), w.s.limits.Object); err != nil {
		return err
	}
	from, to, ops, err := deltaHeader(delta)
	switch {
	case err != nil:
		return err
	case from != base.Size || to > int64(len(ops))<<24:
		return errDelta
	case to > w.s.limits.Object:
		return errLimit
	}
	o.Size, o.ops = to, ops
	if ops == nil || to == 0 {
		o.ops = []byte{}
	}
	return nil
}

// again makes the data of an object that was let go.
func (w *walker) again(p *pack, o *Object) error {
	var chain []int32
	from := o.rank
	var data []byte
	owned := true
	for data == nil {
		for k := len(w.stack) - 1; k >= 0; k-- {
			if w.stack[k].rank == from && w.stack[k].data != nil {
				data, owned = w.stack[k].data, false
			}
		}
		if data != nil {
			break
		}
		if p.heads[from].base < 0 {
			var err error
			if _, data, err = w.s.read(w.z, p.start+int(p.at[from]), 0); err != nil {
				return err
			}
			break
		}
		chain = append(chain, from)
		from = p.heads[from].base
	}
	if owned {
		w.held += int64(cap(data))
	}
	for k := len(chain) - 1; k >= 0; k-- {
		delta, grown, err := p.inflateEntry(w.z, w.delta, int(chain[k]), w.s.limits.Object)
		w.delta = grown
		if err != nil {
			return err
		}
		_, size, _, err := deltaHeader(delta)
		if err != nil || size > w.s.limits.Object {
			return errDelta
		}
		buf, err := w.get(int(size))
		if err != nil {
			return err
		}
		made, err := w.s.patched(buf[:0], data, delta)
		if err != nil {
			return err
		}
		if owned {
			w.put(data)
		}
		data, owned = made, true
	}
	o.data = data
	return nil
}

// lost counts an entry that cannot be read, and all that is built on it.
func (w *walker) lost(p *pack, i int32, err error) {
	w.s.problem(p, i, err)
	for at := p.child[i]; at >= 0; {
		w.s.problem(p, at, errNoBase)
		if p.child[at] >= 0 {
			at = p.child[at]
			continue
		}
		for p.sibling[at] < 0 {
			if at = p.heads[at].base; at == i {
				return
			}
		}
		at = p.sibling[at]
	}
}
