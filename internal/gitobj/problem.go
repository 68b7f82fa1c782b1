package gitobj

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"github.com/keywright/keywright/internal/fault"
)

// ProblemKind says what could not be read.
type ProblemKind string

// The kinds of problems. Each makes a reading incomplete.
const (
	ProblemObject   ProblemKind = "object"   // an object that is corrupt or too large; Name is its name
	ProblemMissing  ProblemKind = "missing"  // an object that is named somewhere and is not there; Name is its name
	ProblemPack     ProblemKind = "pack"     // a pack or its index as a whole; Name is its file
	ProblemRefs     ProblemKind = "refs"     // refs or reflogs; Name is the file or the ref
	ProblemExternal ProblemKind = "external" // a pointer out of the given path that was not followed; Name is where it leads
	ProblemDir      ProblemKind = "dir"      // a directory; Name is its path
	ProblemPartial  ProblemKind = "partial"  // objects that only the remote of a partial clone has; Name is empty
)

// Problem is something that could not be read.
type Problem struct {
	Kind ProblemKind
	Name string
	// Why is a sentence part without foreign text.
	Why string
}

// maxNamed is how many problems of a kind are kept with their names.
const maxNamed = 200

// Problems counts problems and keeps the first of each kind by name. The zero value is ready; it is safe for concurrent use.
type Problems struct {
	mu    sync.Mutex
	count map[ProblemKind]int
	seen  map[Problem]bool
}

// Add counts a problem. The same one twice counts once as long as it is among those kept by name.
func (p *Problems) Add(kind ProblemKind, name, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == nil {
		p.count, p.seen = map[ProblemKind]int{}, map[Problem]bool{}
	}
	x := Problem{kind, name, why}
	if p.seen[x] {
		return
	}
	if p.count[kind]++; p.count[kind] <= maxNamed {
		p.seen[x] = true
	}
}

// Drop forgets the problems of a kind, and gives those that were kept by name.
func (p *Problems) Drop(kind ProblemKind) []Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	var dropped []Problem
	for x := range p.seen {
		if x.Kind == kind {
			dropped = append(dropped, x)
			delete(p.seen, x)
		}
	}
	delete(p.count, kind)
	slices.SortFunc(dropped, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Why, b.Why)) })
	return dropped
}

// Count gives the number of problems of a kind.
func (p *Problems) Count(kind ProblemKind) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[kind]
}

// Total gives the number of all problems.
func (p *Problems) Total() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, c := range p.count {
		n += c
	}
	return n
}

// Named gives the problems that were kept by name (at most 200 of a kind), by kind and name.
func (p *Problems) Named() []Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Problem, 0, len(p.seen))
	for x := range p.seen {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Why, b.Why))
	})
	return all
}

// TooLarge is the Why of an object that is larger than may be held in memory, where it cannot be streamed.
func TooLarge() string { return errLimit.Error() }

// reason gives the words for an error that hold nothing foreign.
func reason(err error) string {
	for _, known := range []error{errInflate, errTooLong, errTooShort, errTruncated, errChecksum, errIndex, errPack, errDelta, errNoBase, errCyclic, errLimit, errMissing, errCut, errLoose} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	switch fault.KindOf(err) {
	case fault.NotFound:
		return "not found"
	case fault.Unsupported:
		return "not supported"
	default:
		return "cannot be read"
	}
}
