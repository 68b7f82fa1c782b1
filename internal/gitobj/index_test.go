package gitobj

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// oldIndex writes an index of version 1.
func oldIndex(names [][]byte, offsets []uint64) []byte {
	var fanout [256]uint32
	for _, n := range names {
		for k := int(n[0]); k < 256; k++ {
			fanout[k]++
		}
	}
	var b []byte
	for _, n := range fanout {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	for i, n := range names {
		b = append(binary.BigEndian.AppendUint32(b, uint32(offsets[i])), n...)
	}
	return append(b, make([]byte, 40)...)
}

// someNames draws names in order, many with the same beginning.
func someNames(r *rand.Rand, n, width int) [][]byte {
	names := make([][]byte, n)
	for i := range names {
		names[i] = make([]byte, width)
		for k := range names[i] {
			if k > r.IntN(width) || r.IntN(3) == 0 {
				names[i][k] = byte(r.Uint32())
			}
		}
	}
	slices.SortFunc(names, bytes.Compare)
	return slices.CompactFunc(names, bytes.Equal)
}

// A name is found where it is, and nowhere when it is not there, whatever the number of names and their distribution.
func TestIndexFindsEveryName(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 20))
	for _, n := range []int{0, 1, 2, 3, 7, 64, 1000, 20000} {
		for _, f := range []Format{SHA1, SHA256} {
			names := someNames(r, n, f.Size())
			oids, offsets := make([]OID, len(names)), make([]uint64, len(names))
			for i, name := range names {
				oids[i], offsets[i] = MakeOID(name), uint64(12+i)
			}
			for version, b := range map[int][]byte{1: oldIndex(names, offsets), 2: makeIndex(oids, offsets, f.Size())} {
				if version == 1 && f == SHA256 {
					b = append(b, make([]byte, 24)...)
				}
				x, err := openIndex(b, f)
				if err != nil || x.n != len(names) {
					t.Fatalf("version %d, %d names: %v", version, n, err)
				}
				for i, name := range names {
					if x.find(name) != i || x.offset(i) != int64(12+i) || !bytes.Equal(x.name(i), name) {
						t.Fatalf("version %d, %d names: name %d is found at %d, offset %d", version, n, i, x.find(name), x.offset(i))
					}
				}
				for _, other := range someNames(r, 200, f.Size()) {
					want, ok := slices.BinarySearchFunc(names, other, bytes.Compare)
					if !ok {
						want = -1
					}
					if got := x.find(other); got != want {
						t.Fatalf("version %d, %d names: found %x at %d, want %d", version, n, other, got, want)
					}
				}
			}
		}
	}
}

// An entry of 8 bytes for an offset is used, and one that is missing is corrupt and no panic.
func TestIndexOffsetsOfEightBytes(t *testing.T) {
	names := []OID{MakeOID(bytes.Repeat([]byte{1}, 20)), MakeOID(bytes.Repeat([]byte{2}, 20)), MakeOID(bytes.Repeat([]byte{3}, 20))}
	offsets := []uint64{12, 5 << 32, 1<<31 - 1}
	x, err := openIndex(makeIndex(names, offsets, 20), SHA1)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range offsets {
		if got := x.offset(i); got != int64(want) {
			t.Errorf("offset %d is %d, want %d", i, got, want)
		}
	}
	binary.BigEndian.PutUint32(x.small[4:], 1<<31|7)
	if got := x.offset(1); got >= 0 {
		t.Errorf("an offset that the index lacks is %d", got)
	}
}

// FuzzIndex reads what may be an index: nothing panics, a name that is found is the one that was asked for, and in an index in order every name
// is found.
func FuzzIndex(f *testing.F) {
	r := rand.New(rand.NewPCG(21, 22))
	for _, n := range []int{0, 1, 5, 40} {
		names := someNames(r, n, 20)
		oids, offsets := make([]OID, len(names)), make([]uint64, len(names))
		for i, name := range names {
			oids[i], offsets[i] = MakeOID(name), uint64(r.IntN(1<<20))
			if r.IntN(4) == 0 {
				offsets[i] <<= 20
			}
		}
		f.Add(makeIndex(oids, offsets, 20), []byte("a name of twenty byt"))
		for i := range offsets {
			offsets[i] &= 1<<31 - 1
		}
		f.Add(oldIndex(names, offsets), bytes.Repeat([]byte{0}, 20))
	}
	f.Fuzz(func(t *testing.T, b, other []byte) {
		for _, format := range []Format{SHA1, SHA256} {
			x, err := openIndex(b, format)
			if err != nil {
				continue
			}
			ordered := true
			for i := range x.n {
				x.offset(i)
				ordered = ordered && (i == 0 || bytes.Compare(x.name(i-1), x.name(i)) < 0)
			}
			asked := slices.Concat(other, make([]byte, format.Size()))[:format.Size()]
			there := false
			for i := range x.n {
				there = there || bytes.Equal(x.name(i), asked)
				if at := x.find(x.name(i)); ordered && at != i || at >= 0 && !bytes.Equal(x.name(at), x.name(i)) {
					t.Fatalf("name %d of %d is found at %d", i, x.n, at)
				}
			}
			if at := x.find(asked); at >= 0 && !there || ordered && there != (at >= 0) {
				t.Fatalf("%x is there: %v, found at %d", asked, there, at)
			}
		}
	})
}
