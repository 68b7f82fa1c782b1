package tree_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/plant"
	"github.com/keywright/keywright/internal/scan/tree"
)

func walkAll(t *testing.T, dir string, o tree.Options) (map[string][]tree.Sighting, tree.Result) {
	t.Helper()
	if o.Searcher == nil {
		o.Searcher = scan.New(scan.Options{})
	}
	all := map[string][]tree.Sighting{}
	r, err := tree.Walk(t.Context(), dir, o, func(s tree.Sighting) { all[s.Path] = append(all[s.Path], s) })
	if err != nil {
		t.Fatal(err)
	}
	return all, r
}

func put(t *testing.T, dir, path, content string) {
	t.Helper()
	full := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func key() string {
	body := rand.Text() + strings.ToLower(rand.Text()) + rand.Text() + strings.ToLower(rand.Text())
	return strings.Join([]string{"sk", "ant", "api03", body[:86], rand.Text()[:6] + "AA"}, "-")
}

func TestPlantedTree(t *testing.T) {
	for _, seed := range []uint64{1, 77} {
		dir := t.TempDir()
		truth, err := plant.Tree(dir, seed)
		if err != nil {
			t.Fatal(err)
		}
		found, result := walkAll(t, dir, tree.Options{})
		want := map[scan.ID]bool{}
		for _, row := range truth.Keys {
			id := scan.ID(row.Fingerprint)
			want[id] = true
			if !slices.ContainsFunc(found[row.Path], func(s tree.Sighting) bool { return s.Match.ID == id }) &&
				!slices.ContainsFunc(found[filepath.Dir(row.Path)], func(s tree.Sighting) bool { return s.Match.ID == id }) {
				t.Errorf("seed %d: %s is not found at its path", seed, row.Place)
			}
		}
		for _, list := range found {
			for _, s := range list {
				if !want[s.Match.ID] {
					t.Errorf("seed %d: %s holds a key that was not planted: %v %s", seed, s.Path, s.Match.Grade, s.Match.Kind)
				}
			}
		}
		if len(result.Unread) > 0 {
			t.Errorf("seed %d: incomplete: %+v", seed, result.Unread)
		}
		if n := int64(len(truth.Keys) + len(truth.Negatives)); result.Files != n || result.Placeholders == 0 {
			t.Errorf("seed %d: %d files, want %d; %d placeholders", seed, result.Files, n, result.Placeholders)
		}
	}
}

func TestGitDirectoriesAreReadButForObjects(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{".git/refs", ".git/objects/ab"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put(t, dir, ".git/HEAD", "ref: refs/heads/main\n")
	put(t, dir, ".git/objects/ab/cd", key())
	put(t, dir, ".git/COMMIT_EDITMSG", key())
	put(t, dir, "objects/a", key())
	found, result := walkAll(t, dir, tree.Options{})
	if len(found) != 2 || found[".git/COMMIT_EDITMSG"] == nil || found["objects/a"] == nil {
		t.Errorf("found in %v", found)
	}
	if !slices.Equal(result.Repositories, []string{".git"}) {
		t.Errorf("repositories %q", result.Repositories)
	}
}

func TestLinksAndSpecialFilesAreNotFollowed(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	put(t, outside, "a", key())
	put(t, outside, "b/c", key())
	in := key()
	for name, to := range map[string]string{"file": outside + "/a", "folder": outside + "/b", "loop": ".", "text": "/nowhere/" + in} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	found, result := walkAll(t, dir, tree.Options{})
	if len(found) != 1 || len(found["text"]) != 1 || found["text"][0].In != tree.Link {
		t.Errorf("found %+v", found)
	}
	if result.Links != 4 || result.Special != 1 || result.Files != 0 || len(result.Unread) != 0 {
		t.Errorf("result %+v", result)
	}
}

func TestUnreadableIsNamed(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := t.TempDir()
	put(t, dir, "shut", key())
	put(t, dir, "closed/a", key())
	put(t, dir, "open", key())
	for _, p := range []string{"shut", "closed"} {
		if err := os.Chmod(filepath.Join(dir, p), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "closed"), 0o700) })
	found, result := walkAll(t, dir, tree.Options{})
	want := []tree.Unread{{Path: "closed", Reason: "no permission"}, {Path: "shut", Reason: "no permission"}}
	if len(found) != 1 || !slices.Equal(result.Unread, want) {
		t.Errorf("found %v, unread %+v", found, result.Unread)
	}
}

func TestDamagedArchiveIsNamed(t *testing.T) {
	dir := t.TempDir()
	packed := plant.Gzip([]byte(strings.Repeat("text that is not random at all, "+rand.Text(), 500)))
	put(t, dir, "a.gz", string(packed[:len(packed)/2]))
	_, result := walkAll(t, dir, tree.Options{})
	if want := []tree.Unread{{Path: "a.gz", Reason: scan.ReasonDamaged}}; !slices.Equal(result.Unread, want) {
		t.Errorf("unread %+v", result.Unread)
	}
}

func TestGitignoreNarrows(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, ".gitignore", "*.log\n!keep.log\n/build/\ndeep/**/x.txt\n# a comment\nfoo/bar\n")
	put(t, dir, "sub/.gitignore", "local\n!other.log\n")
	put(t, dir, ".git/info/exclude", "private\n")
	seen := []string{"keep.log", "sub/build/a", "deep/y.txt", "sub/other.log", "local", "sub/foo/bar"}
	hidden := []string{"a.log", "sub/b.log", "build/a", "deep/x.txt", "deep/1/2/x.txt", "sub/local", "private", "foo/bar"}
	for _, p := range append(slices.Clone(seen), hidden...) {
		put(t, dir, p, key())
	}
	if found, _ := walkAll(t, dir, tree.Options{}); len(found) != len(seen)+len(hidden) {
		t.Errorf("without narrowing %d of %d", len(found), len(seen)+len(hidden))
	}
	found, result := walkAll(t, dir, tree.Options{RespectGitignore: true})
	for _, p := range seen {
		if found[p] == nil {
			t.Errorf("%s is left out", p)
		}
	}
	for _, p := range hidden {
		if found[p] != nil {
			t.Errorf("%s is searched", p)
		}
	}
	if result.Ignored == 0 {
		t.Error("nothing counted as ignored")
	}
}

func TestSingleFile(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "x\ny "+key()+"\n")
	found, result := walkAll(t, filepath.Join(dir, "f"), tree.Options{})
	if len(found["."]) != 1 || found["."][0].Match.Line != 2 || result.Files != 1 {
		t.Errorf("found %+v, result %+v", found, result)
	}
	_, err := tree.Walk(t.Context(), filepath.Join(dir, "none"), tree.Options{Searcher: scan.New(scan.Options{})}, func(tree.Sighting) {})
	if !fault.Is(err, fault.NotFound) || strings.Contains(err.Error(), dir) {
		t.Errorf("a missing path: %v", err)
	}
}
