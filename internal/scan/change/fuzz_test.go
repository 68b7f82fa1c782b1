package change

import (
	"encoding/binary"
	"testing"
)

func FuzzIndex(f *testing.F) {
	head := func(version, n uint32) []byte {
		b := append([]byte("DIRC"), make([]byte, 8)...)
		binary.BigEndian.PutUint32(b[4:], version)
		binary.BigEndian.PutUint32(b[8:], n)
		return b
	}
	one := append(head(2, 1), make([]byte, 72+20)...)
	one[12+62] = 'a'
	f.Add(one)
	f.Add(append(head(4, 1), make([]byte, 70+20)...))
	f.Add(append(append(head(2, 0), "TREE\x00\x00\x00\x06\x00-1 0\n"...), make([]byte, 20)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, width := range []int{20, 32} {
			x, err := parseIndex(b, width)
			if err != nil {
				continue
			}
			for _, e := range x.entries {
				if e.path == "" {
					t.Fatal("an entry without a path")
				}
			}
		}
	})
}
