package gitobj

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
)

// memory opens a store over one pack that lies in memory.
func memory(t *testing.T, data []byte, names []OID, offsets []uint64, limits Limits) *Store {
	t.Helper()
	p, err := newPack("pack-test", data, makeIndex(names, offsets, 20), SHA1)
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{Problems: &Problems{}, limits: limits}
	s.open.New = func() any { return newInflater() }
	s.addPack(p)
	s.resolve()
	return s
}

// TestDeepChains reads a chain of 1500 deltas, each over the one before, from its start and from its end, with memory for its bases and without.
func TestDeepChains(t *testing.T) {
	const depth = 1500
	data, offsets := smallPack(t, rand.New(rand.NewPCG(23, 24)), depth)
	names := make([]OID, depth)
	for i := range names {
		raw := make([]byte, 20)
		raw[0], raw[1], raw[19] = byte(i>>8), byte(i), 1
		names[i] = MakeOID(raw)
	}
	for _, bases := range []int64{defaultBases, 1} {
		s := memory(t, data, names, offsets, Limits{Object: 1 << 20, Bases: bases})
		var last []byte
		seen := 0
		err := s.Walk(context.Background(), Blob, Walk{Workers: 1, Visitor: func(int) func(*Object) error {
			return func(o *Object) error {
				seen++
				b, err := o.Data()
				if o.Number == depth-1 {
					last = bytes.Clone(b)
				}
				return err
			}
		}})
		if err != nil || seen != depth || s.Problems.Total() != 0 {
			t.Fatalf("%d objects, %v, %v", seen, err, s.Problems.Named())
		}
		if _, b, err := s.Read(depth - 1); err != nil || !bytes.Equal(b, last) {
			t.Errorf("the last of the chain: %d bytes, then %d, %v", len(last), len(b), err)
		}
	}
}

// TestDeltasWithoutABase names a delta whose base is nowhere, with all that is built on it, and reads what stands beside it.
func TestDeltasWithoutABase(t *testing.T) {
	data := append([]byte("PACK"), 0, 0, 0, 2, 0, 0, 0, 3)
	var offsets []uint64
	entry := func(typ byte, base, body []byte) {
		offsets = append(offsets, uint64(len(data)))
		data = append(data, typ<<4|byte(len(body)))
		data = append(append(data, base...), deflated(t, body, 6)...)
	}
	absent := bytes.Repeat([]byte{9}, 20)
	delta := append(appendSize(appendSize(nil, 4), 3), 3, 'a', 'b', 'c')
	entry(refDelta, absent, delta)
	entry(ofsDelta, []byte{byte(uint64(len(data)) - offsets[0])}, append(appendSize(appendSize(nil, 3), 1), 1, 'x'))
	entry(byte(Blob), nil, []byte("alone"))
	data = append(data, make([]byte, 20)...)
	names := []OID{MakeOID(bytes.Repeat([]byte{1}, 20)), MakeOID(bytes.Repeat([]byte{2}, 20)), MakeOID(bytes.Repeat([]byte{3}, 20))}
	s := memory(t, data, names, offsets, Limits{Object: 1 << 20, Bases: 1 << 20})
	var seen []int
	err := s.Walk(context.Background(), Blob, Walk{Workers: 1, Visitor: func(int) func(*Object) error {
		return func(o *Object) error {
			seen = append(seen, o.Number)
			return nil
		}
	}})
	if err != nil || len(seen) != 1 || seen[0] != 2 || s.Problems.Count(ProblemObject) != 2 {
		t.Errorf("seen %v, problems %v, %v", seen, s.Problems.Named(), err)
	}
	if _, _, err := s.Read(0); err == nil {
		t.Error("a delta without a base was read")
	}
}
