package history

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/plant"
)

// TestEveryPlantedKeyIsTold plants a repository and compares every row of its truth with what the search says: places and exposure. The
// second seed is packed, the third uses the long names and is read with the git program.
func TestEveryPlantedKeyIsTold(t *testing.T) {
	for seed := range uint64(3) {
		dir := t.TempDir()
		truth, err := plant.Repository(dir, seed, seed == 2)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(truth.Keys); n < 250 || len(truth.Negatives) < 20 {
			t.Errorf("seed %d: %d keys and %d negatives", seed, n, len(truth.Negatives))
		}
		o := Options{Workers: 2}
		if seed > 0 {
			if _, err := exec.LookPath("git"); err != nil && os.Getenv("CI") != "true" {
				t.Skip("git is missing")
			}
			r := &repository{t, dir, 1900000000}
			if seed == 1 {
				r.git("repack", "-qadfk", "--depth=30")
				r.git("prune-packed")
			} else {
				o.Child = true
			}
		}
		told(t, fmt.Sprint("seed ", seed), truth, search(t, dir, o))
	}
}

// told compares a result with the truth.
func told(t *testing.T, what string, truth plant.Truth, res *Result) {
	t.Helper()
	if !res.Complete {
		t.Errorf("%s: not complete: %v %v", what, res.Problems, res.Gaps)
	}
	spots := map[scan.ID]map[plant.Spot]bool{}
	for _, p := range res.Places {
		if p.Match.Grade == scan.Placeholder {
			continue
		}
		if spots[p.Match.ID] == nil {
			spots[p.Match.ID] = map[plant.Spot]bool{}
		}
		spots[p.Match.ID][plant.Spot{Path: p.Path, Part: p.Part}] = true
	}
	names := func(list []Commit) (out []string) {
		for _, c := range list {
			out = append(out, c.OID.String())
		}
		slices.Sort(out)
		return out
	}
	one := func(c *Commit) string {
		if c == nil {
			return ""
		}
		return c.OID.String()
	}
	for _, row := range truth.Keys {
		id := scan.ID(row.Fingerprint)
		e := res.Exposure[id]
		if e == nil {
			t.Errorf("%s, %s: not found", what, row.Place)
			continue
		}
		same := func(field string, got, want any) {
			t.Helper()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s, %s: %s is %v, want %v", what, row.Place, field, got, want)
			}
		}
		for _, s := range row.Spots {
			if !spots[id][s] {
				t.Errorf("%s, %s: not told to be in %+v, but in %v", what, row.Place, s, spots[id])
			}
		}
		same("number of places", len(spots[id]), len(row.Spots))
		w := row.Exposure
		grade := scan.Exact
		if row.Near {
			grade = scan.Near
		}
		same("kind", []any{e.Family, e.Kind, e.Grade}, []any{row.Family, row.Kind, grade})
		same("first", one(e.First), w.First)
		same("last", one(e.Last), w.Last)
		same("removed", names(e.Removed), w.Removed)
		same("reintroduced", names(e.Reintroduced), w.Reintroduced)
		same("refs", e.Refs, w.Refs)
		same("tips", e.Tips, w.Tips)
		same("in HEAD", e.InHead, w.InHead)
		same("pushed", string(e.Pushed), w.Pushed)
		same("pushed to", e.PushedTo, w.PushedTo)
		same("pushed at", e.PushedAt, w.PushedAt)
		same("only", e.Only, w.Only)
		same("from", e.From, w.From)
		same("to", e.To, w.To)
		if days := w.Days(now); math.Abs(days-e.Days) > 1e-6 {
			t.Errorf("%s, %s: %v days, want %v", what, row.Place, e.Days, days)
		}
	}
	if len(res.Exposure) != len(truth.Keys) {
		t.Errorf("%s: %d keys, want %d", what, len(res.Exposure), len(truth.Keys))
	}
}

// TestGitReadsThePlantedRepository asks git about what was written without it.
func TestGitReadsThePlantedRepository(t *testing.T) {
	r := newRepository(t) // skips where git is missing
	r.dir = t.TempDir()
	truth, err := plant.Repository(r.dir, 5, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.dir + "/.git/info/grafts"); err != nil { // which would change what git says
		t.Fatal(err)
	}
	r.git("--no-replace-objects", "fsck", "--no-progress", "--no-dangling", "--full")
	for _, row := range truth.Keys {
		e := row.Exposure
		if e.First == "" {
			continue
		}
		at, err := strconv.ParseInt(r.git("--no-replace-objects", "show", "-s", "--format=%ct", e.First)[:10], 10, 64)
		if err != nil || !e.From.Equal(time.Unix(at, 0)) {
			t.Errorf("%s: from %s, and git says %d, %v", row.Place, e.From, at, err)
		}
	}
}
