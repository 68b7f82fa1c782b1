package history

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/keywright/keywright/internal/gitobj"
)

// trees holds what of the trees matters: for each tree, its entries that are trees or hold keys. An entry is a number in entries, since
// most entries stand in many trees.
type trees struct {
	r *run

	mu      sync.Mutex
	entries []entry
	numbers map[entry]uint32
	names   []string
	nameOf  map[string]uint32

	// where gives, for the number of a tree, the worker whose lists hold its entries, the part, and the place there plus one.
	where []uint64
	lists [][][]uint32

	set   map[int32]setID
	going map[int32]bool
	again *content // of trees that are read a second time
}

// entry is one entry of a tree: what it names, and how.
type entry struct {
	child int32
	name  uint32
	kind  entryKind
}

type entryKind uint8

const (
	entryTree entryKind = iota
	entryFile
	entryLink
)

const (
	listPart    = 1 << 18 // numbers in one part of a list, which need not grow so
	partShift   = 32
	workerShift = 52
)

func newTrees(r *run) *trees {
	t := &trees{
		r: r, numbers: map[entry]uint32{}, nameOf: map[string]uint32{}, where: make([]uint64, r.from.Len()), lists: make([][][]uint32, r.workers),
		set: map[int32]setID{}, going: map[int32]bool{},
	}
	if known := r.earlier.trees(); known != nil {
		t.set = known
	}
	return t
}

// node is what a tree leaves for those that are built on it: where its entries begin, and which of them matter.
type node struct {
	starts []uint32 // of each entry, and the end
	marks  []mark
	valid  bool
}

// mark is an entry that matters: where it begins in the tree, and which it is.
type mark struct {
	start uint32
	entry uint32
}

// content is the bytes of a tree: whole, or the stretches that it takes from another one and its own between them, so that a tree on which none is
// built need not be put together.
type content struct {
	whole []byte
	parts []gitobj.Stretch
	size  int
	width int
	buf   []byte // an entry that lies in several stretches
	memo  []memo
}

// memo is what a worker remembers of a look-up: most objects are named again soon, by another version of the tree, and the index of a large
// pack is far from the processor.
type memo struct {
	name   [32]byte
	number int32
	known  bool
}

const memos = 1 << 13

// lookup gives the number of an object, or -1.
func (c *content) lookup(from objects, raw []byte) int32 {
	m := &c.memo[binary.LittleEndian.Uint16(raw)%memos]
	if !m.known || string(m.name[:len(raw)]) != string(raw) {
		m.number, m.known = int32(from.LookupRaw(raw)), true //nolint:gosec // a number of an object
		copy(m.name[:], raw)
	}
	return m.number
}

func newContent(width int) *content { return &content{width: width, memo: make([]memo, memos)} }

// entry reads the entry that begins at pos, which is not in front of the first of parts, and gives its length.
func (c *content) entry(pos int) (mode gitobj.Mode, name, raw []byte, n int, ok bool) {
	if c.whole != nil {
		mode, name, raw, rest, ok := gitobj.NextEntry(c.whole[pos:], c.width)
		return mode, name, raw, len(c.whole) - pos - len(rest), ok
	}
	some := c.parts[0].Data[pos-c.parts[0].At:]
	if mode, name, raw, rest, ok := gitobj.NextEntry(some, c.width); ok {
		return mode, name, raw, len(some) - len(rest), true
	}
	// Of a long stretch only the start belongs to the entry.
	c.buf = append(c.buf[:0], some...)
	want := len(c.buf) + 256
	for _, p := range c.parts[1:] {
		for more := p.Data; len(more) > 0; {
			k := min(len(more), want-len(c.buf))
			c.buf, more = append(c.buf, more[:k]...), more[k:]
			if len(c.buf) < want {
				break
			}
			if mode, name, raw, rest, ok := gitobj.NextEntry(c.buf, c.width); ok {
				return mode, name, raw, len(c.buf) - len(rest), true
			}
			want *= 2
		}
	}
	mode, name, raw, rest, ok := gitobj.NextEntry(c.buf, c.width)
	return mode, name, raw, len(c.buf) - len(rest), ok
}

// visitor reads the entries of trees. Of a tree that is built on another one it reads only the entries that differ.
func (t *trees) visitor(worker int) func(*gitobj.Object) error {
	c := newContent(t.r.width)
	var stretches []gitobj.Stretch
	return func(o *gitobj.Object) error {
		if o.Large() {
			t.r.repo.Problems.Add(gitobj.ProblemObject, t.r.from.Name(o.Number).String(), "a tree that is larger than the limit")
			return nil
		}
		n, _ := o.Own.(*node) // ours or none
		if n == nil {
			n = &node{}
			o.Own = n
		}
		n.starts, n.marks, n.valid = n.starts[:0], n.marks[:0], false
		var base *node
		if o.Base != nil {
			if base, _ = o.Base.Own.(*node); base != nil && !base.valid {
				base = nil
			}
		}
		var err error
		c.whole, c.parts, c.size = nil, nil, int(o.Size)
		if base != nil {
			if stretches, err = o.Stretches(stretches[:0]); err != nil {
				return err
			}
			c.parts = stretches
		} else if c.whole, err = o.Data(); err != nil {
			return err
		}
		n.valid = t.read(n, base, c, !o.Leaf)
		if !n.valid {
			t.r.repo.Problems.Add(gitobj.ProblemObject, t.r.from.Name(o.Number).String(), "a tree that ends in the middle of an entry")
		}
		switch {
		case o.Dup:
		case base != nil && slices.EqualFunc(n.marks, base.marks, func(a, b mark) bool { return a.entry == b.entry }):
			if t.where[o.Number] = t.where[o.Base.Number]; t.where[o.Number] == 0 { // of a base that is elsewhere, too, nothing was kept
				t.keep(worker, int32(o.Number), n.marks) //nolint:gosec // a number of an object
			}
		default:
			t.keep(worker, int32(o.Number), n.marks) //nolint:gosec // a number of an object
		}
		return nil
	}
}

// keep notes the entries of a tree that matter.
func (t *trees) keep(worker int, tree int32, marks []mark) {
	if len(marks) == 0 {
		return
	}
	parts := t.lists[worker]
	if k := len(parts) - 1; k < 0 || cap(parts[k])-len(parts[k]) < len(marks)+1 {
		parts = append(parts, make([]uint32, 0, max(listPart, len(marks)+1)))
		t.lists[worker] = parts
	}
	k := len(parts) - 1
	list := append(parts[k], uint32(len(marks)))                                           //nolint:gosec // entries of a tree
	t.where[tree] = uint64(worker)<<workerShift | uint64(k)<<partShift | uint64(len(list)) //nolint:gosec // none is negative
	for _, m := range marks {
		list = append(list, m.entry)
	}
	parts[k] = list
}

// end lets go of what only the reading needed, and, when no tree leads to anything, of the entries.
func (t *trees) end() {
	if t.r.earlier != nil { // trees that it read may be read again
		return
	}
	t.numbers, t.nameOf = nil, nil
	if !slices.ContainsFunc(t.r.places, func(p found) bool { return p.typ == gitobj.Blob || p.typ == gitobj.Tree }) {
		clear(t.where)
		t.lists = make([][][]uint32, len(t.lists))
	}
}

// read fills n with the entries of c, taking over from base, which is nil where c is whole, what the stretches say is the same. Where an entry
// begins in both, what follows is the same up to the last entry that ends within the stretch.
func (t *trees) read(n, base *node, c *content, starts bool) bool {
	pos := 0
	for pos < c.size {
		for len(c.parts) > 0 && c.parts[0].At+len(c.parts[0].Data) <= pos {
			c.parts = c.parts[1:]
		}
		if len(c.parts) > 0 && c.parts[0].From >= 0 {
			s := c.parts[0]
			from := uint32(s.From + pos - s.At) //nolint:gosec // within an object
			if i, ok := slices.BinarySearch(base.starts, from); ok {
				j, exact := slices.BinarySearch(base.starts, uint32(s.From+len(s.Data))) //nolint:gosec // as above
				if !exact {
					j--
				}
				if j > i {
					shift := uint32(pos) - from
					if starts {
						for _, at := range base.starts[i:j] {
							n.starts = append(n.starts, at+shift)
						}
					}
					k, _ := slices.BinarySearchFunc(base.marks, from, func(m mark, at uint32) int { return int(m.start) - int(at) })
					for ; k < len(base.marks) && base.marks[k].start < base.starts[j]; k++ {
						n.marks = append(n.marks, mark{base.marks[k].start + shift, base.marks[k].entry})
					}
					pos += int(base.starts[j] - from)
					continue
				}
			}
		}
		mode, name, raw, long, ok := c.entry(pos)
		if !ok {
			return false
		}
		if starts {
			n.starts = append(n.starts, uint32(pos))
		}
		if e, ok := t.entry(c, mode, name, raw); ok {
			n.marks = append(n.marks, mark{uint32(pos), e})
		}
		pos += long
	}
	if starts {
		n.starts = append(n.starts, uint32(pos))
	}
	return true
}

// entry gives the number of an entry that matters. It counts objects that are named and not there.
func (t *trees) entry(c *content, mode gitobj.Mode, name, raw []byte) (uint32, bool) {
	if mode.IsModule() {
		return 0, false
	}
	number := c.lookup(t.r.from, raw)
	if number < 0 {
		t.r.missing(gitobj.MakeOID(raw))
		return 0, false
	}
	e := entry{child: number}
	switch {
	case mode.IsTree():
	case !t.r.hit.has(int(number)):
		return 0, false
	case mode.IsLink():
		e.kind = entryLink
	default:
		e.kind = entryFile
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	id, ok := t.nameOf[string(name)]
	if !ok {
		id = uint32(len(t.names)) //nolint:gosec // memory ends before
		t.names = append(t.names, string(name))
		t.nameOf[string(name)] = id
	}
	e.name = id
	k, ok := t.numbers[e]
	if !ok {
		k = uint32(len(t.entries)) //nolint:gosec // memory ends before
		t.entries = append(t.entries, e)
		t.numbers[e] = k
	}
	return k, true
}

// missing counts an object that is named and not there. In a partial clone that is as it should be, and still not searched.
func (r *run) missing(o gitobj.OID) {
	if r.o.Only != nil {
		return
	}
	if r.repo.Partial {
		r.repo.Problems.Add(gitobj.ProblemPartial, o.String(), "only the remote has it")
		return
	}
	r.repo.Problems.Add(gitobj.ProblemMissing, o.String(), "it is named and not there")
}

// list gives the entries of a tree that matter, by number in entries.
func (t *trees) list(tree int32) []uint32 {
	w := t.where[tree]
	if w == 0 && t.r.earlier != nil && t.set[tree] != 0 { // of an earlier run, and wanted now
		typ, data, err := t.r.from.Read(int(tree))
		if err != nil || typ != gitobj.Tree {
			return nil
		}
		if t.again == nil {
			t.again = newContent(t.r.width)
		}
		var n node
		t.again.whole, t.again.size = data, len(data)
		t.read(&n, nil, t.again, false)
		t.keep(0, tree, n.marks)
		w = t.where[tree]
	}
	if w == 0 {
		return nil
	}
	list := t.lists[w>>workerShift][w>>partShift&(1<<(workerShift-partShift)-1)]
	at := w & (1<<partShift - 1)
	return list[at : at+uint64(list[at-1])]
}

// setOf gives the keys that a tree holds, in its names and in all that is below.
func (t *trees) setOf(tree int32) setID {
	if s, ok := t.set[tree]; ok {
		return s
	}
	if t.going[tree] { // only a wrongly named object can hold itself
		return 0
	}
	t.going[tree] = true
	s := t.r.hits[tree]
	for _, k := range t.list(tree) {
		e := &t.entries[k]
		if e.kind == entryTree {
			s = t.r.sets.union(s, t.setOf(e.child))
		} else {
			s = t.r.sets.union(s, t.r.hits[e.child])
		}
	}
	delete(t.going, tree)
	t.set[tree] = s
	return s
}
