package change_test

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/change"
)

// fresh makes a key that no grade takes for a placeholder.
func fresh() string {
	body := rand.Text() + strings.ToLower(rand.Text()) + rand.Text() + strings.ToLower(rand.Text())
	return strings.Join([]string{"sk", "ant", "api03", body[:86], rand.Text()[:6] + "AA"}, "-")
}

func idOf(key string) scan.ID {
	return scan.ID(apikey.Digest(sha256.Sum256([]byte(key))).Fingerprint())
}

// sink remembers "ID path part".
type sink struct {
	found map[string]bool
	gaps  []string
}

func (s *sink) Match(m scan.Match, path, part, _ string) {
	if s.found == nil {
		s.found = map[string]bool{}
	}
	s.found[strings.TrimSpace(fmt.Sprint(m.ID, " ", path, " ", part))] = true
}

func (s *sink) Gap(path, object, reason, inner string) {
	s.gaps = append(s.gaps, path+object+inner+": "+reason)
}

func (s *sink) want(t *testing.T, want ...string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(s.found))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if len(s.gaps) > 0 {
		t.Errorf("gaps: %q", s.gaps)
	}
}

type repo struct {
	t   *testing.T
	dir string
}

func newRepo(t *testing.T, args ...string) repo {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("git is missing")
		}
		t.Skip("git is missing")
	}
	r := repo{t, t.TempDir()}
	r.git(append([]string{"init", "-q", "-b", "main"}, args...)...)
	return r
}

func (r repo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r repo) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r repo) commit(message string) string {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
	return r.git("rev-parse", "HEAD")
}

func (r repo) options(s *sink) change.Options {
	return change.Options{Search: scan.New(scan.Options{}), Sink: s, GitDir: r.dir}
}

func (r repo) oid(name string) gitobj.OID {
	r.t.Helper()
	o, ok := gitobj.ParseOID(r.git("rev-parse", name))
	if !ok {
		r.t.Fatalf("no object %s", name)
	}
	return o
}

func TestStagedFindsWhatHeadLacks(t *testing.T) {
	for _, version := range []string{"2", "3", "4"} {
		for _, format := range []string{"sha1", "sha256"} {
			t.Run(version+" "+format, func(t *testing.T) {
				r := newRepo(t, "--object-format="+format)
				r.git("config", "index.version", version)
				old, added, changed, gone, unstaged, deep := fresh(), fresh(), fresh(), fresh(), fresh(), fresh()
				r.write("a/b/old.env", old)
				r.write("a/b/changed", "x")
				r.write("a-b", "x")
				r.write("gone", gone)
				for i := range 30 {
					r.write(fmt.Sprintf("dir%d/sub/file", i), "text")
				}
				r.commit("first")
				r.write("a/b/changed", "x\n\nKEY="+changed+"\n")
				r.write("added", added)
				r.write("dir7/sub/deeper/new", deep)
				r.git("rm", "-q", "gone")
				r.git("add", "a/b/changed", "added", "dir7/sub/deeper/new")
				if version == "3" { // a flag that needs the longer form
					r.write("later", "x")
					r.git("add", "-N", "later")
				}
				r.write("unstaged", unstaged)
				r.write("added", "clean again, and not staged")
				s := &sink{}
				stats, err := change.Staged(t.Context(), r.options(s))
				if err != nil {
					t.Fatal(err)
				}
				s.want(t, string(idOf(added))+" added", string(idOf(changed))+" a/b/changed", string(idOf(deep))+" dir7/sub/deeper/new")
				// The tree cache spares the directories that did not change.
				if stats.Objects > 12 {
					t.Errorf("%d objects were read", stats.Objects)
				}
			})
		}
	}
}

func TestStagedBeforeTheFirstCommit(t *testing.T) {
	r := newRepo(t)
	key := fresh()
	s := &sink{}
	if _, err := change.Staged(t.Context(), r.options(s)); err != nil || len(s.found) != 0 {
		t.Error(err, s.found)
	}
	r.write("a", key)
	r.write("named-"+key, "x")
	r.git("add", "-A")
	if _, err := change.Staged(t.Context(), r.options(s)); err != nil {
		t.Fatal(err)
	}
	s.want(t, string(idOf(key))+" a", string(idOf(key))+" named-"+key+" file name")
}

func TestStagedInALinkedWorkTree(t *testing.T) {
	r := newRepo(t)
	r.write("a", "x")
	r.commit("first")
	linked := repo{t, filepath.Join(t.TempDir(), "linked")}
	r.git("worktree", "add", "-q", "-b", "side", linked.dir)
	key := fresh()
	linked.write("b", key)
	linked.git("add", "-A")
	s := &sink{}
	if _, err := change.Staged(t.Context(), linked.options(s)); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a pointer out of the path was followed: %v", err)
	}
	o := linked.options(s)
	o.FollowExternal = true
	if _, err := change.Staged(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	s.want(t, string(idOf(key))+" b")
}

func TestASplitIndexIsRefused(t *testing.T) {
	r := newRepo(t)
	r.write("a", "x")
	r.commit("first")
	r.git("update-index", "--split-index")
	if _, err := change.Staged(t.Context(), r.options(&sink{})); !fault.Is(err, fault.Unsupported) {
		t.Error(err)
	}
}

func TestAMissingBlobIsAGap(t *testing.T) {
	r := newRepo(t)
	r.write("a", "text that is staged")
	r.git("add", "-A")
	name := r.git("hash-object", "a")
	if err := os.Remove(filepath.Join(r.dir, ".git", "objects", name[:2], name[2:])); err != nil {
		t.Fatal(err)
	}
	s := &sink{}
	if _, err := change.Staged(t.Context(), r.options(s)); err != nil || len(s.gaps) != 1 || !strings.Contains(s.gaps[0], "missing") {
		t.Errorf("%v %q", err, s.gaps)
	}
}

func TestPushedFindsWhatTheRemoteLacks(t *testing.T) {
	r := newRepo(t)
	old, removed, message, merged, tagged, side := fresh(), fresh(), fresh(), fresh(), fresh(), fresh()
	r.write("old", old)
	r.write("dir/kept", "x")
	base := r.commit("base")
	r.git("update-ref", "refs/remotes/origin/main", base)
	r.write("dir/leak", removed)
	r.commit("leak")
	r.git("rm", "-q", "dir/leak")
	r.commit("tidy " + message)
	r.git("checkout", "-q", "-b", "side", base)
	r.write("side", side)
	r.commit("side")
	r.git("checkout", "-q", "main")
	r.git("merge", "-q", "--no-commit", "side")
	r.write("evil", merged)
	tip := r.commit("merge")
	r.git("tag", "-a", "v1", "-m", tagged)
	updates, err := change.ReadPrePush(strings.NewReader(fmt.Sprintf("refs/heads/main %s refs/heads/main %s\nrefs/tags/v1 %s refs/tags/v1 %s\n", tip, base, r.git("rev-parse", "v1"), strings.Repeat("0", 40))))
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{}
	stats, err := change.Pushed(t.Context(), r.options(s), updates, []string{"refs/remotes/origin/"})
	if err != nil {
		t.Fatal(err)
	}
	s.want(t, string(idOf(removed))+" dir/leak", string(idOf(message))+"  commit", string(idOf(merged))+" evil", string(idOf(tagged))+"  tag", string(idOf(side))+" side")
	if stats.Commits != 4 {
		t.Errorf("%d commits, want 4", stats.Commits)
	}

	// With nothing known about the other side everything is new, the first commit too.
	s = &sink{}
	if _, err := change.Pushed(t.Context(), r.options(s), []change.Update{{Ref: "refs/heads/main", New: r.oid("main")}}, nil); err != nil {
		t.Fatal(err)
	}
	if !s.found[string(idOf(old))+" old"] || len(s.gaps) > 0 {
		t.Errorf("%v %q", s.found, s.gaps)
	}

	// Nothing new, and a deletion.
	s = &sink{}
	if _, err := change.Pushed(t.Context(), r.options(s), []change.Update{{Ref: "refs/heads/main", Old: r.oid("main"), New: r.oid("main")}, {Ref: "refs/heads/x", Old: r.oid("main")}}, nil); err != nil {
		t.Fatal(err)
	}
	s.want(t)
}

// TestPushedAgainstGit compares with git's own answer on random histories, with clocks that lie.
func TestPushedAgainstGit(t *testing.T) {
	r := newRepo(t)
	var all []string
	pick := func(n int) int {
		var b [4]byte
		rand.Read(b[:])
		return int(uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16) % n
	}
	for i := range 60 {
		args := []string{"commit-tree", "-m", fmt.Sprint("c", i), "4b825dc642cb6eb9a060e54bf8d69288fbee4904"}
		for range min(len(all), pick(3)) {
			args = append(args, "-p", all[max(0, len(all)-1-pick(8))])
		}
		cmd := exec.Command("git", args...)
		cmd.Dir = r.dir
		when := fmt.Sprintf("%d +0000", 1_700_000_000+pick(1_000_000))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "GIT_AUTHOR_DATE=" + when, "GIT_COMMITTER_DATE=" + when}
		if i == 0 {
			r.git("hash-object", "-t", "tree", "-w", "/dev/null")
		}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSpace(string(out)))
	}
	for range 40 {
		old, tip := all[pick(len(all))], all[pick(len(all))]
		want := 0
		if out := r.git("rev-list", tip, "^"+old); out != "" {
			want = len(strings.Fields(out))
		}
		o, _ := gitobj.ParseOID(old)
		n, _ := gitobj.ParseOID(tip)
		stats, err := change.Pushed(t.Context(), r.options(&sink{}), []change.Update{{Ref: "refs/heads/x", Old: o, New: n}}, nil)
		if err != nil || stats.Commits < want {
			t.Fatalf("%s..%s: %d commits, git says %d (%v)", old, tip, stats.Commits, want, err)
		}
	}
}

func TestUpdatesOfAnotherForm(t *testing.T) {
	for _, text := range []string{"x\n", "a b c d\n", strings.Repeat("0", 40) + " " + strings.Repeat("1", 40) + "\n"} {
		if _, err := change.ReadPreReceive(strings.NewReader(text)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if u, err := change.ReadPreReceive(strings.NewReader(strings.Repeat("0", 40) + " " + strings.Repeat("1", 40) + " refs/heads/x\n")); err != nil || len(u) != 1 || u[0].Ref != "refs/heads/x" || !u[0].Old.IsZero() || u[0].New.IsZero() {
		t.Errorf("%v %v", u, err)
	}
}
