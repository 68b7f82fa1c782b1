package script

import (
	"encoding/binary"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan/plant"
	"github.com/keywright/keywright/internal/secret"
)

// plantKey writes a key that nobody issued and no detector takes for a placeholder: plantkey FILE. $KF_NAME is its fingerprint.
func plantKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: plantkey FILE")
	}
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(ts.Name() + " " + args[0]))
	text := plant.New(seed.Sum64()).Key()
	v := secret.New([]byte(text))
	s := in(ts)
	s.values = append(s.values, v)
	write(ts, args[0], text+"\n")
	ts.Setenv("KF_"+variable(args[0]), string(v.Fingerprint()))
}

// plantRepo makes a repository with keys in every place that the scanner promises to find: plantrepo DIR SEED sha1|sha256.
func plantRepo(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: plantrepo DIR SEED sha1|sha256")
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	truth, err := plant.Repository(dir, seed, args[2] == "sha256")
	ts.Check(err)
	if len(truth.Keys) < 200 {
		ts.Fatalf("%d keys are planted", len(truth.Keys))
	}
}

// oddIndex writes into each pack of a repository an index that git reads and keywright's own reader refuses: oddindex REPOSITORY. Git allows for
// offsets of 64 bits that are cut short.
func oddIndex(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: oddindex REPOSITORY")
	}
	dir := ts.MkAbs(args[0])
	files, err := filepath.Glob(filepath.Join(dir, ".git", "objects", "pack", "*.idx"))
	ts.Check(err)
	repo, err := gitobj.Open(dir, gitobj.Options{})
	ts.Check(err)
	width := repo.Format.Size()
	repo.Close()
	for _, file := range files {
		b, err := os.ReadFile(file)
		ts.Check(err)
		if n := binary.BigEndian.Uint32(b[8+255*4:]); n < 2 {
			ts.Fatalf("%s holds %d objects", file, n)
		}
		at := len(b) - 2*width
		odd := append(append(append([]byte{}, b[:at]...), 0, 0, 0, 0), b[at:]...)
		ts.Check(os.Chmod(file, 0o644))
		ts.Check(os.WriteFile(file, odd, 0o644))
	}
	if repo, err = gitobj.Open(dir, gitobj.Options{}); err != nil {
		ts.Fatalf("open: %v", err)
	}
	defer repo.Close()
	if n := repo.Problems.Count(gitobj.ProblemPack); n != len(files) || n == 0 {
		ts.Fatalf("%d of %d packs are refused", n, len(files))
	}
}
