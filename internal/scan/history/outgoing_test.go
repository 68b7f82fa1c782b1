package history

import (
	"context"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/gitobj"
)

// TestNewObjectsAgainstGit compares what SearchNew reads with what git says is reachable from one commit and not from another.
func TestNewObjectsAgainstGit(t *testing.T) {
	for seed := range uint64(6) {
		rnd := mrand.New(mrand.NewPCG(seed, 5))
		r, w := build(t, rnd, 40)
		want, have := rnd.IntN(40), rnd.IntN(40)
		r.git("tag", "-a", "-m", "t", "tagged", w.names[want])
		tag := strings.TrimSpace(r.git("rev-parse", "tagged"))
		g, err := gitobj.Open(r.dir, gitobj.Options{Done: func(string) bool { return true }})
		if err != nil {
			t.Fatal(err)
		}
		wantOID, _ := gitobj.ParseOID(tag)
		haveOID, _ := gitobj.ParseOID(w.names[have])
		res, err := SearchNew(context.Background(), g, []gitobj.OID{wantOID}, []gitobj.OID{haveOID}, Options{Searcher: searcher})
		g.Close()
		if err != nil || !res.Complete {
			t.Fatal(err, res.Problems)
		}
		got := map[string]bool{}
		for _, p := range res.Places {
			got[p.Object.String()+" "+string(p.Match.ID)] = true
		}
		there := map[string]bool{}
		for line := range strings.Lines(r.git("rev-list", "--objects", w.names[have])) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			there[name] = true
		}
		objects := 0
		for line := range strings.Lines(r.git("rev-list", "--objects", "tagged")) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if there[name] {
				continue
			}
			objects++
			text := r.git("cat-file", "-p", name)
			for _, key := range w.keys {
				if strings.Contains(text, key) && !got[name+" "+string(idOf(t, key))] {
					t.Errorf("seed %d: the key in %s is not found", seed, name)
				}
			}
		}
		if res.Objects < objects {
			t.Errorf("seed %d: %d objects searched, %d are new", seed, res.Objects, objects)
		}
	}
}

// TestQuarantineAlone searches one objects directory and nothing else.
func TestQuarantineAlone(t *testing.T) {
	r := newRepository(t)
	r.write("a", aKey())
	r.commit("old")
	quarantine := t.TempDir()
	key := aKey()
	blob := strings.TrimSpace(r.gitIn([]byte(key), "hash-object", "-w", "--stdin"))
	if err := os.Mkdir(filepath.Join(quarantine, blob[:2]), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(r.dir, ".git/objects", blob[:2], blob[2:]), filepath.Join(quarantine, blob[:2], blob[2:])); err != nil {
		t.Fatal(err)
	}
	g := gitobj.OpenObjects(gitobj.SHA1, gitobj.Options{Objects: []string{quarantine}})
	defer g.Close()
	res, err := Search(context.Background(), g, Options{Searcher: searcher, Only: func(gitobj.OID) bool { return true }})
	if err != nil || !res.Complete || res.Objects != 1 || len(res.Places) != 1 || res.Places[0].Match.ID != idOf(t, key) {
		t.Errorf("%+v, %v", res, err)
	}
}
