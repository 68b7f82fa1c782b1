package gitobj

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

var errLoose = errors.New("corrupt loose object")

// Limits bounds what reading may take. The zero value means the defaults.
type Limits struct {
	// Object is the largest object, in bytes, that is held in memory; 0 means 128 MiB. A larger one is streamed if it is
	// stored whole, else it is a problem.
	Object int64
	// Bases is how many bytes of bases may be held per goroutine; 0 means 24 MiB. At least two are held, whatever their size.
	Bases int64
}

const (
	defaultObject = 128 << 20
	defaultBases  = 24 << 20
	// LargeObject is the size from which an object that is stored whole is not held in memory but streamed by Object.Open.
	LargeObject = 32 << 20
	// bulky is the size from which only one goroutine at a time holds objects.
	bulky = 16 << 20
)

// Store is the objects of a repository, each under a number from 0 to Len()-1. An object that is there more than once has
// several numbers; Lookup gives the lowest. It is safe for concurrent use.
type Store struct {
	Format   Format
	Problems *Problems

	limits Limits
	packs  []*pack
	loose  []*loose
	n      int
	bulk   sync.Mutex
	open   sync.Pool // *inflater
}

// openStore opens the objects directories dirs. Packs for which done reports true come first.
func openStore(f Format, dirs []string, limits Limits, done func(pack string) bool, problems *Problems) *Store {
	if limits.Object == 0 {
		limits.Object = defaultObject
	}
	if limits.Bases == 0 {
		limits.Bases = defaultBases
	}
	s := &Store{Format: f, Problems: problems, limits: limits}
	s.open.New = func() any { return newInflater() }
	var packs []*pack
	for _, dir := range dirs {
		for _, file := range s.packFiles(filepath.Join(dir, "pack")) {
			if p := s.openPack(file); p != nil {
				p.done = done != nil && done(p.id)
				packs = append(packs, p)
			}
		}
	}
	slices.SortStableFunc(packs, func(a, b *pack) int { return boolOrder(a.done, b.done) })
	for _, p := range packs {
		s.addPack(p)
	}
	for _, dir := range dirs {
		s.addLoose(dir)
	}
	s.resolve()
	return s
}

// boolOrder puts what is true first.
func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// packFiles gives the packs of a directory that have an index, without their ending, by name.
func (s *Store) packFiles(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			s.Problems.Add(ProblemDir, dir, "cannot be read")
		}
		return nil
	}
	var files []string
	for _, e := range entries {
		name, isPack := strings.CutSuffix(e.Name(), ".pack")
		if !isPack {
			continue
		}
		// git reads a pack of any name that has an index, and names those "pack-…" that are whole.
		if _, err := os.Lstat(filepath.Join(dir, name+".idx")); err != nil && !strings.HasPrefix(name, "pack-") {
			continue
		}
		files = append(files, filepath.Join(dir, name))
	}
	return files
}

// openPack maps a pack and its index; nil when that cannot be done, which is a problem.
func (s *Store) openPack(file string) *pack {
	name := filepath.Base(file)
	idx, err := mapFile(file + ".idx")
	if err != nil {
		s.Problems.Add(ProblemPack, name, "its index: "+reason(err))
		return nil
	}
	data, err := mapFile(file + ".pack")
	if err == nil {
		var p *pack
		if p, err = newPack(name, data, idx, s.Format); err == nil {
			p.maps = [][]byte{data, idx}
			if _, err := os.Lstat(file + ".promisor"); err == nil {
				p.promisor = true
			}
			return p
		}
	}
	s.Problems.Add(ProblemPack, name, reason(err))
	for _, m := range [][]byte{data, idx} {
		if m != nil {
			_ = syscall.Munmap(m) // it was mapped
		}
	}
	return nil
}

func (s *Store) addPack(p *pack) {
	p.start = s.n
	s.n += p.index.n
	s.packs = append(s.packs, p)
}

// addLoose lists the loose objects of an objects directory.
func (s *Store) addLoose(dir string) {
	l := &loose{dir: dir, start: s.n, width: s.Format.Size()}
	for first := range 256 {
		two := hex.EncodeToString([]byte{byte(first)})
		st, err := os.Lstat(filepath.Join(dir, two))
		if err != nil || !st.IsDir() {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(dir, two))
		if err != nil {
			s.Problems.Add(ProblemDir, filepath.Join(dir, two), "cannot be read")
		}
		for _, e := range entries {
			if o, ok := ParseOID(two + e.Name()); ok && len(o.Bytes()) == l.width {
				l.names = append(l.names, o.Bytes()...)
			}
		}
	}
	n := len(l.names) / l.width
	l.types, l.dup = make([]atomic.Uint32, n), make([]bool, n)
	s.n += n
	if n > 0 {
		s.loose = append(s.loose, l)
	}
}

// resolve reads the headers of the packs that will be walked, and finds the objects that are there twice and the types of deltas whose
// bases are in other packs.
func (s *Store) resolve() {
	for k, p := range s.packs {
		if !p.done {
			s.prepare(k)
		}
	}
	if len(s.packs)+len(s.loose) < 2 {
		return
	}
	for _, l := range s.loose {
		for i := range l.dup {
			l.dup[i] = s.lookup(l.name(i)) != l.start+i
		}
	}
}

// prepare makes pack k ready to be walked.
func (s *Store) prepare(k int) {
	p := s.packs[k]
	if p.heads != nil {
		return
	}
	if err := p.ready(); err != nil {
		s.Problems.Add(ProblemPack, p.name, reason(err))
		p.heads = []head{}
		return
	}
	for i := range p.heads {
		h := &p.heads[i]
		if h.base == outsideBase && h.typ == 0 {
			if t := s.TypeOf(s.Lookup(p.baseName(i))); t != 0 {
				p.spread(int32(i), t)
			}
		}
		name := p.index.name(int(p.at[i]))
		for _, q := range s.packs[:k] {
			if q.index.find(name) >= 0 {
				h.dup = true
				break
			}
		}
	}
}

// Close unmaps the packs. No data of objects may be used afterwards.
func (s *Store) Close() {
	for _, p := range s.packs {
		for _, m := range p.maps {
			_ = syscall.Munmap(m) // it was mapped, and is unmapped once
		}
	}
	s.packs, s.loose, s.n = nil, nil, 0
}

// Len gives the number of stored objects; one that is there twice counts twice.
func (s *Store) Len() int { return s.n }

// Pack is what names a pack.
type Pack struct {
	// ID is the name of its file, without ending, and its checksum.
	ID      string
	Objects int
}

// Packs gives the packs in the order of their numbers.
func (s *Store) Packs() []Pack {
	all := make([]Pack, len(s.packs))
	for i, p := range s.packs {
		all[i] = Pack{p.id, p.index.n}
	}
	return all
}

// LooseNames gives the raw names of all loose objects, one after the other.
func (s *Store) LooseNames() []byte {
	var all []byte
	for _, l := range s.loose {
		all = append(all, l.names...)
	}
	return all
}

// PackedSize gives the number of bytes of all packs.
func (s *Store) PackedSize() int64 {
	n := 0
	for _, p := range s.packs {
		n += len(p.data)
	}
	return int64(n)
}

// Promisor reports whether a pack belongs to a partial clone: objects may be missing by intent.
func (s *Store) Promisor() bool {
	return slices.ContainsFunc(s.packs, func(p *pack) bool { return p.promisor })
}

// Lookup gives the number of an object, or -1.
func (s *Store) Lookup(o OID) int {
	if int(o.n) != s.Format.Size() {
		return -1
	}
	return s.lookup(o.sum[:o.n])
}

// LookupRaw is Lookup for the raw bytes of a name, which must have the format's size.
func (s *Store) LookupRaw(raw []byte) int { return s.lookup(raw) }

func (s *Store) lookup(raw []byte) int {
	for _, p := range s.packs {
		if n := p.number(raw); n >= 0 {
			return n
		}
	}
	for _, l := range s.loose {
		if n := l.number(raw); n >= 0 {
			return n
		}
	}
	return -1
}

// packOf gives the pack and rank of a number, or the loose set and position.
func (s *Store) packOf(n int) (*pack, *loose, int) {
	for _, p := range s.packs {
		if n < p.start+p.index.n {
			return p, nil, n - p.start
		}
	}
	for _, l := range s.loose {
		if n < l.start+l.len() {
			return nil, l, n - l.start
		}
	}
	return nil, nil, 0
}

// Name gives the name of the object with number n.
func (s *Store) Name(n int) OID {
	p, l, i := s.packOf(n)
	switch {
	case n < 0:
		return OID{}
	case p != nil:
		return MakeOID(p.index.name(i))
	case l != nil:
		return MakeOID(l.name(i))
	}
	return OID{}
}

// PackOf gives the ID of the pack that holds object n; of a loose object the empty string.
func (s *Store) PackOf(n int) string {
	if p, _, _ := s.packOf(n); p != nil {
		return p.id
	}
	return ""
}

// TypeOf gives the type of the object with number n; zero when it cannot be known.
func (s *Store) TypeOf(n int) Type {
	if n < 0 {
		return 0
	}
	p, l, i := s.packOf(n)
	switch {
	case p != nil:
		var t Type
		_ = guard(func() error { // what cannot be read has no type
			c, err := s.chain(p, i, 0)
			t = c.typ
			return err
		})
		return t
	case l != nil:
		if l.typeAt(i) == 0 {
			z, _ := s.open.Get().(*inflater) // it holds nothing else
			if f, err := openLoose(z, l, i); err == nil {
				l.types[i].Store(uint32(f.typ))
				f.Close()
			}
			s.open.Put(z)
		}
		return l.typeAt(i)
	}
	return 0
}
