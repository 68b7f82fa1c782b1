package scan_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/plant"
)

// seeds adds the small places and negatives of a garden.
func seeds(f *testing.F, small int) {
	g := plant.New(3)
	for i, p := range plant.Places() {
		if _, content, _ := p.Draw(g, i); len(content) <= small {
			f.Add(content)
		}
	}
	for _, n := range plant.Negatives() {
		if content := n.Make(g); len(content) <= small {
			f.Add(content)
		}
	}
}

// Whatever the bytes: an object that is not anchored has no key, places lie within the object, and a second look sees the same.
func FuzzFind(f *testing.F) {
	seeds(f, 4<<10)
	s := scan.New(scan.Options{Limits: scan.Limits{Output: 8 << 20, Members: 100}})
	f.Fuzz(func(t *testing.T, b []byte) {
		look := func() (all []scan.Match) {
			s.Find(t.Context(), b, func(m scan.Match) {
				if m.Inner == "" && m.Form == "" && (m.Offset < 0 || m.Offset+int64(m.Size) > int64(len(b))) {
					t.Errorf("a key of %d bytes at %d of %d", m.Size, m.Offset, len(b))
				}
				if (m.ID == "") != (m.Grade == scan.Placeholder) {
					t.Errorf("grade %v, id %q", m.Grade, m.ID)
				}
				all = append(all, m)
			})
			return all
		}
		first := look()
		if len(first) > 0 && !s.Anchored(b) {
			t.Error("a key in an object that is not anchored")
		}
		second := look()
		if len(first) != len(second) {
			t.Fatalf("%d keys, then %d", len(first), len(second))
		}
		for i := range first {
			if first[i].ID != second[i].ID || first[i].Offset != second[i].Offset {
				t.Error("another key in the second look")
			}
		}
	})
}

// A key that was planted stays found when anything stands before and behind it.
func FuzzNeighbours(f *testing.F) {
	f.Add([]byte("a"), []byte("b"))
	f.Add([]byte("\xff\xfe"), []byte("AA"))
	f.Add([]byte("sk-ant-"), []byte("\x00"))
	f.Add([]byte("\"sk-\" + \""), []byte("\\"))
	s := scan.New(scan.Options{})
	key := plant.New(4).Key()
	want := idOf(key)
	f.Fuzz(func(t *testing.T, before, behind []byte) {
		text := bytes.Join([][]byte{before, []byte(key), behind}, nil)
		if scan.Magic(text) {
			t.Skip("another sort of object")
		}
		found := false
		s.Find(t.Context(), text, func(m scan.Match) { found = found || m.ID == want })
		if !found {
			t.Errorf("not found between %q and %q", before, behind)
		}
	})
}

// The walker of archives ends, whatever it is given, and gives what a stream gives.
func FuzzArchive(f *testing.F) {
	g := plant.New(6)
	for i, p := range plant.Places() {
		if _, content, _ := p.Draw(g, i); len(content) <= 16<<10 && scan.Magic(content) {
			f.Add(content)
		}
	}
	s := scan.New(scan.Options{Limits: scan.Limits{Output: 4 << 20, Members: 50}})
	f.Fuzz(func(t *testing.T, b []byte) {
		if !scan.Magic(b) {
			return
		}
		found := map[scan.ID]bool{}
		gaps := s.Find(context.Background(), b, func(m scan.Match) { found[m.ID] = true })
		if len(gaps) > 0 {
			return // what could not be opened is searched as it is, which a stream cannot
		}
		s.Stream(context.Background(), bytes.NewReader(b), func(m scan.Match) {
			if !found[m.ID] {
				t.Error("a key in the stream alone")
			}
		})
	})
}
