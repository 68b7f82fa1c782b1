package history

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan"
)

var now = time.Unix(1800000000, 0).UTC()

// aKey makes a key of the usual layout that is nobody's.
func aKey() string {
	return strings.Join([]string{"sk", "ant", "api03", (rand.Text() + rand.Text() + rand.Text() + rand.Text())[:93] + "AA"}, "-")
}

var searcher = scan.New(scan.Options{})

// idOf gives the ID under which the searcher reports a key.
func idOf(t testing.TB, key string) scan.ID {
	t.Helper()
	var id scan.ID
	searcher.Find(context.Background(), []byte(" "+key+"\n"), func(m scan.Match) { id = m.ID })
	if id == "" {
		t.Fatal("the searcher does not find a key of the usual layout")
	}
	return id
}

type repository struct {
	t    testing.TB
	dir  string
	time int64 // of the next command
}

func newRepository(t testing.TB, args ...string) *repository {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("git is missing")
		}
		t.Skip("git is missing")
	}
	r := &repository{t, t.TempDir(), 1700000000}
	r.git(append([]string{"init", "-q", "-b", "main"}, args...)...)
	return r
}

func (r *repository) git(args ...string) string {
	r.t.Helper()
	return r.gitIn(nil, args...)
}

func (r *repository) gitIn(in []byte, args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@example.com"}
	r.time += 60
	cmd.Env = append(cmd.Env, fmt.Sprintf("GIT_COMMITTER_DATE=@%d +0000", r.time))
	cmd.Stdin = bytes.NewReader(in)
	var text bytes.Buffer
	cmd.Stderr = &text
	out, err := cmd.Output()
	if err != nil && !(args[0] == "grep" && cmd.ProcessState.ExitCode() == 1) { // which says that nothing matches
		r.t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, text.String())
	}
	return string(out)
}

func (r *repository) write(name, data string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repository) commit(message string) {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
}

func search(t testing.TB, path string, o Options) *Result {
	t.Helper()
	g, err := gitobj.Open(path, gitobj.Options{Done: o.State.Done(o.Version)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if o.Searcher == nil {
		o.Searcher = searcher
	}
	o.Now = now
	res, err := Search(context.Background(), g, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// said writes a result down so that two can be compared.
func said(res *Result) string {
	var b strings.Builder
	for _, p := range res.Places {
		fmt.Fprintf(&b, "place %s %s %q %q %d %d %s %s %s\n", p.Object, p.Type, p.Path, p.Part, p.Match.Offset, p.Match.Line, p.Match.ID, p.Match.Form, p.Match.Grade)
	}
	var ids []scan.ID
	for id := range res.Exposure {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		e := *res.Exposure[id]
		first, last := e.First, e.Last
		e.First, e.Last = nil, nil
		fmt.Fprintf(&b, "key %s %+v first %+v last %+v\n", id, e, first, last)
	}
	fmt.Fprintf(&b, "gaps %v problems %v %d complete %v commits %d more %d\n", res.Gaps, res.Problems, res.ProblemCount, res.Complete, res.Commits, res.MorePlaces)
	return b.String()
}

// alike fails with the first line in which two results differ.
func alike(t testing.TB, got, want *Result) {
	t.Helper()
	a, b := strings.Split(said(got), "\n"), strings.Split(said(want), "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("line %d of %d and %d: got\n%s\nwant\n%s", i, len(a), len(b), strings.Join(a[min(i, len(a)):min(i+1, len(a))], ""), strings.Join(b[min(i, len(b)):min(i+1, len(b))], ""))
		}
	}
}

// TestEveryPlaceIsFound plants one key in each place that a repository has.
func TestEveryPlaceIsFound(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		r := newRepository(t, "--object-format="+format)
		want := map[scan.ID]string{} // path, part and Only
		plant := func(what string) string {
			key := aKey()
			want[idOf(t, key)] = what
			return key
		}
		r.write("a/b/c.env", "KEY="+plant("a/b/c.env||")+"\n")
		r.commit("plain")
		r.write("m", "1")
		r.commit("message " + plant("|commit message|"))
		r.write("n", "1")
		r.git("add", "-A")
		r.git("commit", "-qm", "x", "--author", plant("|author|")+" <a@example.com>")
		name := plant("?")
		want[idOf(t, name)] = "dir/" + name + ".txt|file name|"
		r.write("dir/"+name+".txt", "nothing")
		r.commit("name")
		link := plant("link|symbolic link|")
		if err := os.Symlink("../"+link, filepath.Join(r.dir, "link")); err != nil {
			t.Fatal(err)
		}
		r.commit("link")
		r.git("tag", "-a", "-m", "tag "+plant("|tag message|"), "v1")
		blob := strings.TrimSpace(r.gitIn([]byte(plant("|unreferenced object|")), "hash-object", "-w", "--stdin"))
		r.git("tag", "blob", blob)
		r.gitIn([]byte(plant("|unreferenced object|dangling")), "hash-object", "-w", "--stdin")
		r.git("notes", "add", "-m", plant("?"))
		for id, what := range want {
			if what == "?" {
				want[id] = r.git("rev-parse", "HEAD")[:len(blob)] + "||notes"
			}
		}
		r.write("m", plant("m||stash"))
		r.git("stash", "-q")
		r.write("gone", plant("gone||reflog"))
		r.commit("to be dropped")
		r.git("reset", "-q", "--hard", "HEAD~1")
		r.git("checkout", "-q", "--orphan", "replaced")
		r.write("r", plant("r||"))
		r.commit("replaced")
		r.git("checkout", "-q", "main")
		for range 2 {
			for _, child := range []bool{false, true} {
				res := search(t, r.dir, Options{Workers: 2, Child: child})
				got := map[scan.ID]string{}
				for _, p := range res.Places {
					e := res.Exposure[p.Match.ID]
					if e == nil {
						t.Fatalf("place without a key: %+v", p)
					}
					got[p.Match.ID] = p.Path + "|" + p.Part + "|" + e.Only
				}
				for id, what := range want {
					if got[id] != what {
						t.Errorf("%s, child %v: %q, want %q", format, child, got[id], what)
					}
				}
				if len(got) != len(want) || !res.Complete {
					t.Errorf("%d keys of %d; problems %v", len(got), len(want), res.Problems)
				}
			}
			r.git("-c", "gc.pruneExpire=never", "repack", "-qdfA", "--depth=30")
		}
	}
}

// TestWindowsFindWhatWholeObjectsHold edits a file at random, cuts a key over the seams of the edits at every byte, repacks at random depth
// and window, and compares with the search of whole objects.
func TestWindowsFindWhatWholeObjectsHold(t *testing.T) {
	rnd := mrand.New(mrand.NewPCG(1, 1))
	for round := range 3 {
		r := newRepository(t)
		key := aKey()
		var in bytes.Buffer
		filler := func(n int) []byte {
			b := make([]byte, n)
			for i := range b {
				b[i] = " abcdefghijklmnop-\n"[rnd.IntN(19)]
			}
			return b
		}
		data := filler(3000)
		// The file holds the tail, or the head, of the key; an edit completes it.
		n := 0
		commit := func(content []byte) {
			fmt.Fprintf(&in, "commit refs/heads/main\ncommitter C <c@example.com> %d +0000\ndata 0\nM 100644 inline f\ndata %d\n%s\n", 1700000000+n, len(content), content)
			n++
		}
		for cut := range len(key) + 1 {
			at := 40 + rnd.IntN(len(data)-80)
			head, tail := append([]byte{}, data[:at]...), append([]byte{}, data[at:]...)
			halfA := slices.Concat(head, []byte(key[:cut]), tail)
			halfB := slices.Concat(head, []byte(key[cut:]), tail)
			whole := slices.Concat(head, []byte(key), tail)
			commit(halfA)
			commit(whole)
			commit(halfB)
			if cut%3 == 0 { // both halves are there, what is between them goes
				commit(slices.Concat(head, []byte(key[:cut]), filler(30), []byte(key[cut:]), tail))
				commit(whole)
			}
			data = slices.Concat(data[:at], filler(rnd.IntN(20)), data[at:])
			if k := rnd.IntN(len(data) - 600); rnd.IntN(2) == 0 {
				data = slices.Concat(data[k:k+500], data[:k], data[k+500:]) // a block moves
			}
		}
		r.gitIn(in.Bytes(), "fast-import", "--quiet")
		r.git("repack", "-adfq", "--depth="+strconv.Itoa(1+rnd.IntN(60)), "--window="+strconv.Itoa(2+rnd.IntN(40)))
		if round == 2 {
			r.git("-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq")
		}
		g, err := gitobj.Open(r.dir, gitobj.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{}
		for i := range g.Len() {
			typ, data, err := g.Read(i)
			if err != nil {
				t.Fatal(err)
			}
			if typ == gitobj.Blob {
				searcher.Find(context.Background(), data, func(m scan.Match) { want[fmt.Sprint(g.Name(i), m.Offset, m.ID, m.Grade)] = true })
			}
		}
		g.Close()
		deltas := strings.Count(r.git("cat-file", "--batch-all-objects", "--batch-check=%(deltabase)"), "\n") - strings.Count(r.git("cat-file", "--batch-all-objects", "--batch-check=%(deltabase)"), strings.Repeat("0", 40))
		if deltas < n/2 {
			t.Fatalf("only %d deltas", deltas)
		}
		for _, p := range search(t, r.dir, Options{Workers: 2}).Places {
			delete(want, fmt.Sprint(p.Object, p.Match.Offset, p.Match.ID, p.Match.Grade))
		}
		if len(want) > 0 {
			t.Errorf("round %d: %d places were not found: %v", round, len(want), want)
		}
	}
}

// TestIncrementalSaysTheSame grows a history step by step: each time the run with the State of the one before must say what a run without
// says, having read only what is new.
func TestIncrementalSaysTheSame(t *testing.T) {
	rnd := mrand.New(mrand.NewPCG(21, 21))
	r := newRepository(t)
	keys := []string{aKey(), aKey(), aKey()}
	var state *State
	for step := range 8 {
		if step > 0 { // the first round has no key
			for range 3 {
				name := fmt.Sprintf("d%d/f%d", rnd.IntN(2), rnd.IntN(2))
				if rnd.IntN(3) == 0 {
					r.write(name, "nothing")
				} else {
					r.write(name, "KEY="+keys[rnd.IntN(len(keys))]+"\n"+strings.Repeat("y\n", rnd.IntN(3)))
				}
				r.commit("step " + strconv.Itoa(step))
			}
			if step == 4 {
				r.git("mv", "d0", "d9") // trees that are known, at another place
				r.commit("move " + keys[0])
				r.git("tag", "-a", "-m", "tagged", "v1")
			}
			if step == 2 { // names that hold keys, of a file and of a directory
				r.write("d7/"+keys[1]+".txt", "KEY="+keys[2]+"\n")
				r.write("d7/"+keys[2]+"/a", "KEY="+keys[0]+"\n")
				r.commit("names")
			}
			if step == 6 {
				r.git("mv", "d9", "d8")
				r.git("mv", "d7", "d6")
				r.commit("move")
				r.git("rm", "-rqf", "d6/"+keys[1]+".txt")
				r.commit("remove")
			}
		} else {
			r.write("a", "nothing yet")
			r.commit("start")
		}
		if step%2 == 1 {
			r.git("repack", "-qd")
		}
		run := func(s *State) *Result {
			t.Helper()
			g, err := gitobj.Open(r.dir, gitobj.Options{Done: s.Done("v1")})
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			res, err := Search(context.Background(), g, Options{Searcher: searcher, Now: now, Workers: 2, State: s, Version: "v1"})
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		fresh := run(nil)
		if !fresh.Complete || fresh.State == nil {
			t.Fatalf("step %d: not complete: %v", step, fresh.Problems)
		}
		res := run(state)
		alike(t, res, fresh)
		b, err := res.State.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if bytes.Contains(b, []byte(key[20:60])) {
				t.Fatal("the state holds a key")
			}
		}
		state = &State{}
		if err := state.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		again := run(state)
		alike(t, again, fresh)
		if again.Objects != 0 || again.Skipped == 0 {
			t.Errorf("step %d: %d objects were read again", step, again.Objects)
		}
		if step > 0 && step%2 == 0 && res.Objects >= fresh.Objects {
			t.Errorf("step %d: all %d objects were read", step, res.Objects)
		}
	}
	other := search(t, r.dir, Options{State: state, Version: "v2"})
	if other.Skipped != 0 {
		t.Error("a state of other detectors counted")
	}
}

// TestNothingIsWritten makes the whole repository read-only and compares it afterwards.
func TestNothingIsWritten(t *testing.T) {
	r := newRepository(t)
	r.write("a", aKey())
	r.commit("one")
	r.write("b", "b")
	r.git("stash", "-qu")
	r.git("config", "core.fsmonitor", "touch "+filepath.Join(r.dir, "ran"))
	look := func() string {
		var b strings.Builder
		err := filepath.WalkDir(r.dir, func(path string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := e.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %s %d %s\n", path, st.Mode(), st.Size(), st.ModTime())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	before := look()
	for _, child := range []bool{false, true} {
		if res := search(t, r.dir, Options{Child: child, Version: "v1"}); len(res.Exposure) != 1 {
			t.Errorf("%d keys", len(res.Exposure))
		}
		if look() != before {
			t.Error("something was written")
		}
	}
}

// TestMissingAndCorruptObjectsAreNamed removes and damages objects one at a time.
func TestMissingAndCorruptObjectsAreNamed(t *testing.T) {
	r := newRepository(t)
	key := aKey()
	r.write("a", key)
	r.write("d/b", "b")
	r.commit("one")
	r.write("d/b", "c")
	r.commit("two")
	for _, what := range []string{"HEAD~1", "HEAD^{tree}", "HEAD:d", "HEAD:d/b", "HEAD~1:d/b"} {
		name := strings.TrimSpace(r.git("rev-parse", what))
		path := filepath.Join(r.dir, ".git/objects", name[:2], name[2:])
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []gitobj.ProblemKind{gitobj.ProblemMissing, gitobj.ProblemObject} {
			var state *State
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if kind == gitobj.ProblemObject {
				if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, child := range []bool{false, true} {
				res := search(t, r.dir, Options{Version: "v1", Child: child})
				if res.Complete || !slices.ContainsFunc(res.Problems, func(p gitobj.Problem) bool { return p.Kind == kind && p.Name == name }) {
					t.Errorf("%s %s, child %v: complete %v, problems %v", what, kind, child, res.Complete, res.Problems)
				}
				if !child { // a later run says it again
					alike(t, search(t, r.dir, Options{Version: "v1", State: res.State}), res)
					state = res.State
				}
				if len(res.Exposure) != 1 {
					t.Errorf("%s %s, child %v: the key is not found", what, kind, child)
				}
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if kind == gitobj.ProblemMissing { // it is back
				alike(t, search(t, r.dir, Options{Version: "v1", State: state}), search(t, r.dir, Options{}))
			}
		}
	}
}

// TestArchivesAmongDeltas makes an object an archive by an edit of its first bytes.
func TestArchivesAmongDeltas(t *testing.T) {
	r := newRepository(t)
	key := aKey()
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	noise := make([]byte, 10000)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(hex.EncodeToString(noise) + " " + key + "\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		r.write("f", strings.Repeat("#", 3-i)+gz.String()) // the last one begins with the magic
		if i == 2 {
			r.write("f", gz.String())
		}
		r.commit("x")
	}
	r.git("repack", "-adfq")
	if bytes.Contains(gz.Bytes(), []byte(key[20:60])) {
		t.Fatal("the archive holds the key in plain")
	}
	if res := search(t, r.dir, Options{}); len(res.Exposure) != 1 || res.Places[0].Match.Form == "" {
		t.Errorf("%+v, %v", res.Places, res.Gaps)
	}
}

func TestPushTimesAndShallowClones(t *testing.T) {
	r := newRepository(t)
	bare := filepath.Join(t.TempDir(), "remote.git")
	r.git("init", "-q", "--bare", bare)
	r.git("remote", "add", "origin", bare)
	r.write("a", "a")
	r.commit("clean")
	r.git("push", "-q", "origin", "main")
	pushed, kept := aKey(), aKey()
	r.write("a", pushed)
	r.commit("leak")
	r.git("push", "-q", "origin", "main")
	r.write("a", "clean again")
	r.commit("removed")
	r.git("push", "-q", "origin", "main")
	r.write("b", kept)
	r.commit("not pushed")
	res := search(t, r.dir, Options{})
	p, k := res.Exposure[idOf(t, pushed)], res.Exposure[idOf(t, kept)]
	log := strings.Split(strings.TrimSpace(r.git("log", "-g", "--format=%gd", "--date=unix", "refs/remotes/origin/main")), "\n")
	_, want, _ := strings.Cut(strings.TrimSuffix(log[1], "}"), "@{") // the second of three
	if p == nil || p.Pushed != PushedYes || strconv.FormatInt(p.PushedAt.Unix(), 10) != want || p.InHead || p.To.IsZero() || len(p.Removed) != 1 {
		t.Errorf("pushed: %+v, want %s", p, want)
	}
	if k == nil || k.Pushed != PushedNever || !k.InHead || !k.To.IsZero() || !k.PushedAt.IsZero() {
		t.Errorf("kept: %+v", k)
	}
	if e := search(t, bare, Options{}).Exposure[idOf(t, pushed)]; e == nil || e.Pushed != PushedUnknown {
		t.Errorf("bare: %+v", e)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	r.git("clone", "-q", "--depth=1", "file://"+r.dir, clone)
	res = search(t, clone, Options{})
	if !res.Complete || res.Commits != 1 || len(res.Exposure) != 1 {
		t.Errorf("shallow: %d commits, %v", res.Commits, res.Problems)
	}
	file := filepath.Join(t.TempDir(), "b.bundle")
	r.git("bundle", "create", "-q", file, "main")
	if res = search(t, file, Options{}); len(res.Exposure) != 2 || !res.Complete {
		t.Errorf("bundle: %d keys, %v", len(res.Exposure), res.Problems)
	}
}
