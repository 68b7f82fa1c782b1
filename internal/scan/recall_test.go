package scan_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/plant"
)

func TestEveryPlaceIsFoundAndNothingElse(t *testing.T) {
	s := scan.New(scan.Options{})
	for seed := range uint64(3) {
		g := plant.New(seed)
		for i, p := range plant.Places() {
			path, content, row := p.Draw(g, i)
			if strings.HasPrefix(path, "names/") {
				continue // in the name, not in the content
			}
			if !s.Anchored(content) {
				t.Errorf("seed %d, %s: not anchored", seed, row.Place)
			}
			expect(t, row, "whole", content, func(yield func(scan.Match)) []scan.Gap { return s.Find(t.Context(), content, yield) })
			expect(t, row, "stream", content, func(yield func(scan.Match)) []scan.Gap {
				return s.Stream(t.Context(), iotest.HalfReader(bytes.NewReader(content)), yield)
			})
		}
	}
}

func expect(t *testing.T, row plant.Row, how string, content []byte, find func(func(scan.Match)) []scan.Gap) {
	t.Helper()
	want := scan.ID(row.Fingerprint)
	found := false
	gaps := find(func(m scan.Match) {
		if m.Grade == scan.Placeholder {
			return
		}
		if m.ID != want {
			t.Errorf("%s, %s: found another key: %+v", row.Place, how, m)
			return
		}
		found = true
		grade := scan.Exact
		if row.Near {
			grade = scan.Near
		}
		if m.Grade != grade || m.Family != row.Family || string(m.Kind) != row.Kind {
			t.Errorf("%s, %s: %v %s %s, want %v %s %s", row.Place, how, m.Grade, m.Family, m.Kind, grade, row.Family, row.Kind)
		}
	})
	if !found {
		t.Errorf("%s, %s: not found in %q", row.Place, how, content[:min(len(content), 300)])
	}
	if len(gaps) > 0 && row.Place != "behind a gzip" {
		t.Errorf("%s, %s: gaps %+v", row.Place, how, gaps)
	}
}

func TestNegativesAreNotReported(t *testing.T) {
	s := scan.New(scan.Options{})
	for seed := range uint64(3) {
		g := plant.New(seed)
		for _, n := range plant.Negatives() {
			content := n.Make(g)
			gaps := s.Find(t.Context(), content, func(m scan.Match) {
				if m.Grade != scan.Placeholder {
					t.Errorf("seed %d, %s: %+v", seed, n.Name, m)
				}
			})
			if len(gaps) > 0 {
				t.Errorf("seed %d, %s: gaps %+v", seed, n.Name, gaps)
			}
		}
	}
}

func TestPlacesAreMany(t *testing.T) {
	if p, n := len(plant.Places()), len(plant.Negatives()); p < 80 || n < 20 {
		t.Errorf("%d places and %d negatives", p, n)
	}
}
