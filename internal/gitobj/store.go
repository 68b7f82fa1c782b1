package gitobj

import (
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/keywright/keywright/internal/fault"
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
		if !isPack || !strings.HasPrefix(name, "pack-") {
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

// Read gives type and data of the object with number n; the caller owns the data. Kinds: NotFound, Corrupt, Unsupported (too large).
func (s *Store) Read(n int) (Type, []byte, error) {
	z, _ := s.open.Get().(*inflater) // it holds nothing else
	defer s.open.Put(z)
	var t Type
	var data []byte
	err := guard(func() (err error) {
		t, data, err = s.read(z, n, 0)
		return err
	})
	if err != nil {
		kind := fault.Corrupt
		switch {
		case errors.Is(err, errMissing):
			kind = fault.NotFound
		case errors.Is(err, errLimit):
			kind = fault.Unsupported
		}
		return 0, nil, fault.Wrap(kind, errors.New(reason(err)), "read object")
	}
	return t, data, nil
}

// read is Read within guard. Deltas over bases in other packs nest.
func (s *Store) read(z *inflater, n, depth int) (Type, []byte, error) {
	if n < 0 || n >= s.n {
		return 0, nil, errMissing
	}
	if depth > 1000 {
		return 0, nil, errCyclic
	}
	p, l, i := s.packOf(n)
	if l != nil {
		return s.readLoose(z, l, i)
	}
	c, err := s.chain(p, i, depth)
	if err != nil {
		return 0, nil, err
	}
	var data []byte
	if c.outside >= 0 {
		if _, data, err = s.read(z, c.outside, depth+1); err != nil {
			return 0, nil, err
		}
	}
	for k, off := range slices.Backward(c.offsets) {
		body, err := p.inflateAt(z, off, c.heads[k], s.limits.Object)
		if err != nil {
			return 0, nil, err
		}
		if c.outside < 0 && k == len(c.offsets)-1 {
			data = body
			continue
		}
		if data, err = s.patched(nil, data, body); err != nil {
			return 0, nil, err
		}
	}
	return c.typ, data, nil
}

// chain is the way from an entry to its root: the entry first. outside is the number of a base in another pack, or -1.
type chain struct {
	typ     Type
	offsets []uint64
	heads   []entryHead
	outside int
}

// maxChain is longer than any chain that git makes.
const maxChain = 1 << 16

// chain follows the bases of the object at position i of p's index.
func (s *Store) chain(p *pack, i, depth int) (chain, error) {
	c := chain{outside: -1}
	if depth > 1000 {
		return c, errCyclic
	}
	off := uint64(p.index.offset(i)) //nolint:gosec // a negative one is out of bounds
	for {
		h, ok := p.headAt(off)
		if !ok {
			return c, errPack
		}
		c.offsets, c.heads = append(c.offsets, off), append(c.heads, h)
		switch {
		case len(c.offsets) > maxChain:
			return c, errCyclic
		case h.stored == ofsDelta:
			off = h.base
			continue
		case h.stored != refDelta:
			c.typ = Type(h.stored)
			return c, nil
		}
		if k := p.index.find(h.name); k >= 0 {
			off = uint64(p.index.offset(k)) //nolint:gosec // as above
			continue
		}
		if c.outside = s.lookup(h.name); c.outside < 0 {
			return c, errNoBase
		}
		q, l, at := s.packOf(c.outside)
		if l != nil {
			c.typ = s.TypeOf(c.outside)
			return c, nil
		}
		next, err := s.chain(q, at, depth+1)
		c.typ = next.typ
		return c, err
	}
}

// patched applies a delta to base into buf, grown as needed.
func (s *Store) patched(buf, base, delta []byte) ([]byte, error) {
	from, to, ops, err := deltaHeader(delta)
	if err != nil || from != int64(len(base)) {
		return nil, errDelta
	}
	if to > s.limits.Object {
		return nil, errLimit
	}
	// An instruction of at most 8 bytes gives at most 16 MiB.
	if to > int64(len(ops))<<24 {
		return nil, errDelta
	}
	if int64(cap(buf)) < to {
		buf = make([]byte, to)
	}
	buf = buf[:to]
	return buf, applyDelta(buf, base, ops)
}

// looseFile is an open loose object whose header was read.
type looseFile struct {
	io.Closer
	typ  Type
	size int64
	data []byte // the file
	skip int    // bytes of the header
}

// openLoose maps a loose object and reads its header.
func openLoose(z *inflater, l *loose, i int) (*looseFile, error) {
	name := hex.EncodeToString(l.name(i))
	data, err := mapFile(filepath.Join(l.dir, name[:2], name[2:]))
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			return nil, errMissing
		}
		return nil, err
	}
	f := &looseFile{Closer: mapped(data), data: data}
	err = guard(func() error {
		const enough = 64
		var head [enough + slack]byte
		_, got, err := z.zlib(head[:], enough, data, true)
		if err != nil && got == 0 {
			return err
		}
		text := string(head[:got])
		end := strings.IndexByte(text, 0)
		if end < 0 {
			return errLoose
		}
		word, number, _ := strings.Cut(text[:end], " ")
		f.typ = ParseType(word)
		f.size, err = strconv.ParseInt(number, 10, 64)
		if f.typ == 0 || err != nil || f.size < 0 || !plausible(f.size, len(data)) {
			return errLoose
		}
		f.skip = end + 1
		return nil
	})
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// mapped is a mapped file to be closed.
type mapped []byte

// Close implements io.Closer.
func (m mapped) Close() error {
	if m == nil {
		return nil
	}
	return syscall.Munmap(m)
}

func (s *Store) readLoose(z *inflater, l *loose, i int) (Type, []byte, error) {
	f, err := openLoose(z, l, i)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	if f.size > s.limits.Object {
		return 0, nil, errLimit
	}
	buf := make([]byte, f.skip+int(f.size)+slack)
	if _, _, err = z.zlib(buf, f.skip+int(f.size), f.data, false); err != nil {
		return 0, nil, err
	}
	return f.typ, buf[f.skip : f.skip+int(f.size)], nil
}
