package gitobj

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

func deflated(t testing.TB, data []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sample makes data whose bytes are as unequal as real data's: skew 0 gives one byte, large numbers all of them.
func sample(r *rand.Rand, n, skew int) []byte {
	data := make([]byte, 0, n)
	for len(data) < n {
		if len(data) > 0 && r.IntN(4) == 0 {
			from := r.IntN(len(data))
			end := min(len(data), from+r.IntN(300))
			data = append(data, data[from:end]...)
			continue
		}
		data = append(data, byte(int(r.ExpFloat64()*float64(skew)/8)))
	}
	return data[:n]
}

func TestInflateGivesBackWhatWasDeflated(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	z := newInflater()
	for i := range 3000 {
		n := r.IntN(1 << (1 + i%17))
		data := sample(r, n, 1<<(i%9))
		src := deflated(t, data, []int{flate.HuffmanOnly, flate.NoCompression, 1, 6, 9}[i%5])
		// What stands behind the stream must not matter.
		padded := append(append([]byte{}, src...), make([]byte, i%20)...)
		dst := make([]byte, n+slack)
		taken, got, err := z.zlib(dst, n, padded, false)
		if err != nil || taken != len(src) || got != n || !bytes.Equal(dst[:n], data) {
			t.Fatalf("case %d: size %d: taken %d of %d, got %d, %v", i, n, taken, len(src), got, err)
		}
		if n == 0 {
			continue
		}
		if _, _, err := z.zlib(dst, n-1, padded, false); err == nil {
			t.Fatalf("case %d: a stream longer than declared was taken", i)
		}
		if _, _, err := z.zlib(make([]byte, n+1+slack), n+1, padded, false); err == nil {
			t.Fatalf("case %d: a stream shorter than declared was taken", i)
		}
		if _, _, err := z.zlib(dst, n, src[:r.IntN(len(src))], false); err == nil {
			t.Fatalf("case %d: a cut stream was taken", i)
		}
		part := r.IntN(n)
		clear(dst)
		if _, got, err := z.zlib(dst, part, src, true); err != nil || got != part || !bytes.Equal(dst[:part], data[:part]) {
			t.Fatalf("case %d: head of %d: %d, %v", i, part, got, err)
		}
		src[r.IntN(len(src))] ^= 1 << r.IntN(8)
		if _, _, err := z.zlib(dst, n, src, false); err == nil && !bytes.Equal(dst[:n], data) {
			t.Fatalf("case %d: other data with a right checksum", i)
		}
	}
}

// FuzzInflate compares with the standard library: what it takes, we take, with the same bytes; what we take, it takes.
func FuzzInflate(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 12 {
		f.Add(deflated(f, sample(r, 1<<i, 1<<(i%8)), []int{flate.HuffmanOnly, 0, 1, 9}[i%4]))
	}
	z := newInflater()
	f.Fuzz(func(t *testing.T, src []byte) {
		const limit = 1 << 16
		in, err := zlib.NewReader(bytes.NewReader(src))
		var want []byte
		if err == nil {
			want, err = io.ReadAll(io.LimitReader(in, limit+1))
		}
		if len(want) > limit {
			return
		}
		dst := make([]byte, limit+slack)
		for i := range dst {
			dst[i] = 0xa5
		}
		_, got, mine := z.zlib(dst, len(want), src, false)
		for _, b := range dst[len(want)+slack:] {
			if b != 0xa5 {
				t.Fatal("wrote behind the slack")
			}
		}
		if err == nil && mine == nil && (got != len(want) || !bytes.Equal(dst[:got], want)) {
			t.Fatal("other bytes than the standard library")
		}
		if mine == nil && err != nil {
			t.Fatalf("taken, but the standard library says %v", err)
		}
		// The standard library takes a few sets of code lengths that zlib, and git with it, refuses.
		if err == nil && mine != nil && !errors.Is(mine, errInflate) {
			t.Fatalf("refused with %v", mine)
		}
	})
}
