package gitobj

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// makeDelta makes a random delta over base with its result.
func makeDelta(r *rand.Rand, base []byte) (delta, result []byte) {
	var ops []byte
	for range r.IntN(12) {
		if r.IntN(2) == 0 && len(base) > 0 {
			off := r.IntN(len(base))
			n := 1 + r.IntN(len(base)-off)
			if r.IntN(2) == 0 {
				n = min(n, 1+r.IntN(6))
			}
			ops = appendCopy(ops, off, n)
			result = append(result, base[off:off+n]...)
			if r.IntN(3) == 0 && off+n < len(base) { // go on where it ended
				m := 1 + r.IntN(len(base)-off-n)
				ops = appendCopy(ops, off+n, m)
				result = append(result, base[off+n:off+n+m]...)
			}
			continue
		}
		lit := make([]byte, 1+r.IntN(9))
		for i := range lit {
			lit[i] = 'a' + byte(r.IntN(3))
		}
		ops = append(append(ops, byte(len(lit))), lit...)
		result = append(result, lit...)
	}
	return append(appendSize(appendSize(nil, len(base)), len(result)), ops...), result
}

func appendSize(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func appendCopy(b []byte, off, n int) []byte {
	at := len(b)
	b = append(b, 0x80)
	for i := range 4 {
		if c := byte(off >> (8 * i)); c != 0 {
			b[at] |= 1 << i
			b = append(b, c)
		}
	}
	for i := range 3 {
		if c := byte(n >> (8 * i)); c != 0 && n != 0x10000 {
			b[at] |= 0x10 << i
			b = append(b, c)
		}
	}
	return b
}

// TestWindowsHoldWhatTheBaseDoesNot searches for every string of up to margin+1 bytes: one that the result holds is in the base or in
// the windows.
func TestWindowsHoldWhatTheBaseDoesNot(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	smaller := 0
	for i := range 4000 {
		base := make([]byte, r.IntN(80))
		for j := range base {
			base[j] = 'a' + byte(r.IntN(3))
		}
		delta, want := makeDelta(r, base)
		from, to, ops, err := deltaHeader(delta)
		if err != nil || from != int64(len(base)) || to != int64(len(want)) {
			t.Fatal(from, to, err)
		}
		got := make([]byte, to)
		if err := applyDelta(got, base, ops); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("case %d: %v", i, err)
		}
		margin := 1 + r.IntN(8)
		windows, err := deltaWindows(nil, base, ops, to, margin)
		if err != nil {
			t.Fatal(err)
		}
		if len(windows) < len(want) {
			smaller++
		}
		for n := 1; n <= margin+1; n++ {
			for at := 0; at+n <= len(want); at++ {
				if s := want[at : at+n]; !bytes.Contains(base, s) && !bytes.Contains(windows, s) {
					t.Fatalf("case %d: margin %d: %q at %d of %q over %q is not in %q", i, margin, s, at, want, base, windows)
				}
			}
		}
		n := r.IntN(20)
		head, err := deltaHead(nil, base, ops, n)
		if err != nil || !bytes.Equal(head, want[:min(n, len(want))]) {
			t.Fatalf("case %d: head %q of %q: %v", i, head, want, err)
		}
	}
	if smaller < 1000 {
		t.Errorf("only %d windows were smaller than the whole", smaller)
	}
}

// FuzzDelta checks that nothing panics, and that all readers of a delta agree about it.
func FuzzDelta(f *testing.F) {
	r := rand.New(rand.NewPCG(15, 16))
	for range 10 {
		base := sample(r, r.IntN(200), 16)
		delta, _ := makeDelta(r, base)
		f.Add(base, delta)
	}
	f.Fuzz(func(t *testing.T, base, delta []byte) {
		from, to, ops, err := deltaHeader(delta)
		if err != nil || from != int64(len(base)) || to > 1<<20 {
			return
		}
		dst := make([]byte, to)
		applied := applyDelta(dst, base, ops)
		windows, windowed := deltaWindows(nil, base, ops, to, 5)
		if (applied == nil) != (windowed == nil) {
			t.Fatalf("apply says %v, windows say %v", applied, windowed)
		}
		if applied != nil {
			return
		}
		for at := 0; at+6 <= len(dst) && at < 1000; at++ {
			if s := dst[at : at+6]; !bytes.Contains(base, s) && !bytes.Contains(windows, s) {
				t.Fatalf("%q is lost", s)
			}
		}
		if head, err := deltaHead(nil, base, ops, len(dst)); err != nil || !bytes.Equal(head, dst) {
			t.Fatal("head differs")
		}
	})
}

// FuzzPack reads a pack and an index that fit to nothing, or nearly.
func FuzzPack(f *testing.F) {
	r := rand.New(rand.NewPCG(17, 18))
	for i := range 4 {
		pack, offsets := smallPack(f, r, 3+i)
		names := make([]OID, len(offsets))
		for k := range names {
			names[k] = MakeOID(bytes.Repeat([]byte{byte(r.IntN(256))}, 20))
		}
		f.Add(pack, makeIndex(names, offsets, 20))
	}
	f.Fuzz(func(t *testing.T, data, idx []byte) {
		p, err := newPack("pack-fuzz", data, idx, SHA1)
		if err != nil {
			return
		}
		s := &Store{Problems: &Problems{}, limits: Limits{Object: 1 << 16, Bases: 1 << 10}}
		s.open.New = func() any { return newInflater() }
		s.addPack(p)
		s.resolve()
		for _, typ := range []Type{Blob, Tree, Commit, Tag} {
			_ = s.Walk(t.Context(), typ, Walk{Workers: 1, Visitor: func(int) func(*Object) error {
				return func(o *Object) error {
					if o.Base != nil {
						_, err := o.Windows(nil, 4)
						return err
					}
					return nil
				}
			}})
		}
		for n := range min(s.Len(), 50) {
			_, _, _ = s.Read(n)
			s.Lookup(s.Name(n))
		}
	})
}

// smallPack makes a pack of n blobs, each a delta over the one before.
func smallPack(t testing.TB, r *rand.Rand, n int) (data []byte, offsets []uint64) {
	data = append([]byte("PACK"), 0, 0, 0, 2, 0, 0, 0, byte(n))
	base := sample(r, 100, 16)
	for i := range n {
		offsets = append(offsets, uint64(len(data)))
		typ, body := byte(Blob), base
		if i > 0 {
			typ = ofsDelta
			body, base = makeDelta(r, base)
		}
		data = append(data, 0x80|typ<<4|byte(len(body)&15))
		data = appendSize(data, len(body)>>4)
		if i > 0 {
			back := offsets[i] - offsets[i-1]
			if back >= 0x80 {
				data = append(data, byte((back>>7)-1)|0x80)
			}
			data = append(data, byte(back&0x7f))
		}
		data = append(data, deflated(t, body, 6)...)
	}
	return append(data, make([]byte, 20)...), offsets
}
