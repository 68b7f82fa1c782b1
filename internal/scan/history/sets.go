package history

import "slices"

// setID names a set of keys. Sets are interned: equal sets have equal names. Zero is the empty set.
type setID uint32

// sets holds the sets of keys of a run. It is for one goroutine.
type sets struct {
	list  [][]uint32
	index map[string]setID
	memo  map[[3]uint32]setID
}

func newSets() *sets {
	return &sets{list: [][]uint32{nil}, index: map[string]setID{"": 0}, memo: map[[3]uint32]setID{}}
}

// make gives the name of the set of keys, which must be sorted. It keeps keys.
func (s *sets) make(keys []uint32) setID {
	b := make([]byte, 0, 4*len(keys))
	for _, k := range keys {
		b = append(b, byte(k>>24), byte(k>>16), byte(k>>8), byte(k)) //nolint:gosec // the bytes of a number
	}
	if id, ok := s.index[string(b)]; ok {
		return id
	}
	id := setID(len(s.list)) //nolint:gosec // memory ends before
	s.list = append(s.list, keys)
	s.index[string(b)] = id
	return id
}

func (s *sets) one(key uint32) setID { return s.make([]uint32{key}) }

// keys gives the members of a set, in order. They must not be changed.
func (s *sets) keys(a setID) []uint32 { return s.list[a] }

func (s *sets) has(a setID, key uint32) bool {
	_, ok := slices.BinarySearch(s.list[a], key)
	return ok
}

// The operations.
const (
	opUnion = iota
	opIntersect
	opMinus
)

func (s *sets) union(a, b setID) setID {
	switch {
	case a == b || b == 0:
		return a
	case a == 0:
		return b
	}
	return s.combine(opUnion, min(a, b), max(a, b))
}

func (s *sets) intersect(a, b setID) setID {
	switch {
	case a == b:
		return a
	case a == 0 || b == 0:
		return 0
	}
	return s.combine(opIntersect, min(a, b), max(a, b))
}

// minus gives the members of a that are not in b.
func (s *sets) minus(a, b setID) setID {
	switch {
	case a == b || a == 0:
		return 0
	case b == 0:
		return a
	}
	return s.combine(opMinus, a, b)
}

func (s *sets) combine(op uint32, a, b setID) setID {
	key := [3]uint32{op, uint32(a), uint32(b)}
	if id, ok := s.memo[key]; ok {
		return id
	}
	x, y := s.list[a], s.list[b]
	var out []uint32
	for len(x) > 0 && len(y) > 0 {
		switch {
		case x[0] == y[0]:
			if op != opMinus {
				out = append(out, x[0])
			}
			x, y = x[1:], y[1:]
		case x[0] < y[0]:
			if op != opIntersect {
				out = append(out, x[0])
			}
			x = x[1:]
		default:
			if op == opUnion {
				out = append(out, y[0])
			}
			y = y[1:]
		}
	}
	if op != opIntersect {
		out = append(out, x...)
	}
	if op == opUnion {
		out = append(out, y...)
	}
	id := s.make(out)
	s.memo[key] = id
	return id
}
