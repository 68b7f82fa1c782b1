package history

import (
	"bytes"
	"cmp"
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

// world is a random history, with what is true of it.
type world struct {
	keys    []string
	parents [][]int
	holds   []map[int]bool // by commit, the keys in its files
	says    []map[int]bool // and in its message
	times   []int64
	names   []string
	heads   map[string]int // refs
}

// build makes a random history of n commits: merges of up to four parents, clocks that lie, files that move, change type and vanish.
func build(t *testing.T, rnd *mrand.Rand, n int) (*repository, *world) {
	r := newRepository(t)
	w := &world{heads: map[string]int{}}
	for range 6 {
		w.keys = append(w.keys, aKey())
	}
	var in bytes.Buffer
	trees := make([]map[string]string, n)
	for i := range n {
		files := map[string]string{}
		var parents []int
		if i > 0 && rnd.IntN(12) > 0 {
			for range 1 + max(0, rnd.IntN(6)-2) {
				if p := max(0, i-1-rnd.IntN(6)); !slices.Contains(parents, p) {
					parents = append(parents, p)
				}
			}
		}
		for k, p := range parents { // a merge takes files of any side, or of none
			for name, data := range trees[p] {
				if k == 0 || rnd.IntN(3) == 0 {
					files[name] = data
				}
			}
		}
		for range rnd.IntN(4) {
			name := fmt.Sprintf("d%d/e%d/f%d", rnd.IntN(2), rnd.IntN(2), rnd.IntN(3))
			switch rnd.IntN(5) {
			case 0:
				delete(files, name)
			case 1:
				for old, data := range files { // a rename
					delete(files, old)
					files[name] = data
					break
				}
			case 2:
				files[name] = fmt.Sprintf("text %d\n", rnd.IntN(5))
			default:
				files[name] = "KEY=" + w.keys[rnd.IntN(len(w.keys))] + "\n" + strings.Repeat("x\n", rnd.IntN(3))
			}
		}
		trees[i] = files
		at := 1700000000 + int64(i)*3600
		if rnd.IntN(4) == 0 {
			at = 1600000000 + rnd.Int64N(300000000)
		}
		message := "m" + strconv.Itoa(i)
		holds, says := map[int]bool{}, map[int]bool{}
		if rnd.IntN(15) == 0 {
			k := rnd.IntN(len(w.keys))
			message += " " + w.keys[k]
			says[k] = true
		}
		fmt.Fprintf(&in, "commit refs/heads/b%d\nmark :%d\ncommitter C <c@example.com> %d +0100\ndata %d\n%s\n", i, i+1, at, len(message), message)
		if len(parents) == 0 {
			fmt.Fprintf(&in, "deleteall\n")
		}
		for k, p := range parents {
			fmt.Fprintf(&in, "%s :%d\n", []string{"from", "merge"}[min(k, 1)], p+1)
		}
		fmt.Fprintf(&in, "deleteall\n")
		names := make([]string, 0, len(files))
		for name, data := range files {
			names = append(names, name)
			for k, key := range w.keys {
				if strings.Contains(data, key) {
					holds[k] = true
				}
			}
		}
		slices.Sort(names)
		for _, name := range names {
			mode := "100644"
			if len(files[name])%2 == 0 && !strings.Contains(files[name], "\nx") {
				mode = "100755"
			}
			fmt.Fprintf(&in, "M %s inline %s\ndata %d\n%s\n", mode, name, len(files[name]), files[name])
		}
		w.parents, w.holds, w.says, w.times = append(w.parents, parents), append(w.holds, holds), append(w.says, says), append(w.times, at)
	}
	r.gitIn(in.Bytes(), "fast-import", "--quiet", "--export-marks="+filepath.Join(r.dir, "marks"))
	marks, err := os.ReadFile(filepath.Join(r.dir, "marks"))
	if err != nil {
		t.Fatal(err)
	}
	w.names = make([]string, n)
	for line := range strings.Lines(string(marks)) {
		var i int
		var name string
		if _, err := fmt.Sscanf(line, ":%d %s", &i, &name); err != nil {
			t.Fatal(err)
		}
		w.names[i-1] = name
	}
	// A few refs stay, the other commits are reachable from them or dangle.
	var update strings.Builder
	for i := range n {
		if rnd.IntN(8) != 0 && i != n-1 {
			fmt.Fprintf(&update, "delete refs/heads/b%d\n", i)
			continue
		}
		w.heads[fmt.Sprintf("refs/heads/b%d", i)] = i
	}
	w.heads["refs/remotes/origin/main"] = n / 2
	fmt.Fprintf(&update, "create refs/remotes/origin/main %s\n", w.names[n/2])
	r.gitIn([]byte(update.String()), "update-ref", "--stdin")
	r.git("symbolic-ref", "HEAD", fmt.Sprintf("refs/heads/b%d", n-1))
	r.git("repack", "-qadfk", "--depth=20")
	return r, w
}

// ancestors gives i and all its ancestors, as git says.
func (w *world) ancestors(r *repository, i int) map[int]bool {
	set := map[int]bool{}
	at := map[string]int{}
	for k, name := range w.names {
		at[name] = k
	}
	for line := range strings.Lines(r.git("rev-list", w.names[i])) {
		set[at[strings.TrimSpace(line)]] = true
	}
	return set
}

func TestExposureAgainstGit(t *testing.T) {
	for seed := range uint64(4) {
		rnd := mrand.New(mrand.NewPCG(seed, 99))
		r, w := build(t, rnd, 60)
		n := len(w.names)
		// What the trees hold is asked of git, too.
		for i := range n {
			text := r.git("grep", "-h", "-F", "-e", "KEY=", w.names[i], "--")
			for k, key := range w.keys {
				if strings.Contains(text, key) != w.holds[i][k] {
					t.Fatalf("seed %d: the oracle and git differ about commit %d", seed, i)
				}
			}
		}
		up := make([]map[int]bool, n)
		for i := range n {
			up[i] = w.ancestors(r, i)
		}
		res := search(t, r.dir, Options{Workers: 2})
		if !res.Complete || res.Commits != n {
			t.Fatalf("seed %d: %d commits, problems %v", seed, res.Commits, res.Problems)
		}
		for k, key := range w.keys {
			has := func(i int) bool { return w.holds[i][k] || w.says[i][k] }
			ever := func(i int) bool {
				for a := range up[i] {
					if has(a) {
						return true
					}
				}
				return false
			}
			var firsts, lasts []int
			removed, back := map[string]bool{}, map[string]bool{}
			any := false
			for i := range n {
				any = any || has(i)
				fresh, kept := has(i), false
				for _, p := range w.parents[i] {
					fresh = fresh && !ever(p)
					if w.holds[i][k] && !w.holds[p][k] && ever(p) {
						back[w.names[i]] = true
					}
				}
				for c := range n {
					kept = kept || slices.Contains(w.parents[c], i) && has(c)
				}
				if fresh {
					firsts = append(firsts, i)
				}
				if has(i) && !kept {
					lasts = append(lasts, i)
				}
				if !w.holds[i][k] && slices.ContainsFunc(w.parents[i], func(p int) bool { return w.holds[p][k] }) &&
					!slices.ContainsFunc(w.parents[i], func(p int) bool { return !w.holds[p][k] && ever(p) }) {
					removed[w.names[i]] = true
				}
			}
			e := res.Exposure[idOf(t, key)]
			if !any {
				if e != nil {
					t.Errorf("seed %d key %d: found what is nowhere", seed, k)
				}
				continue
			}
			if e == nil {
				t.Fatalf("seed %d key %d: not found", seed, k)
			}
			order := func(a, b int) int {
				return cmp.Or(cmp.Compare(w.times[a], w.times[b]), strings.Compare(w.names[a], w.names[b]))
			}
			if first := slices.MinFunc(firsts, order); e.First.OID.String() != w.names[first] || e.First.Committed.Unix() != w.times[first] {
				t.Errorf("seed %d key %d: first is %s, want %s of %v", seed, k, e.First.OID, w.names[first], firsts)
			}
			if last := slices.MaxFunc(lasts, order); e.Last.OID.String() != w.names[last] {
				t.Errorf("seed %d key %d: last is %s, want %s", seed, k, e.Last.OID, w.names[last])
			}
			compare := func(what string, got []Commit, want map[string]bool) {
				left := map[string]bool{}
				for name := range want {
					left[name] = true
				}
				for _, c := range got {
					if !left[c.OID.String()] {
						t.Errorf("seed %d key %d: %s names %s", seed, k, what, c.OID)
					}
					delete(left, c.OID.String())
				}
				if len(left) > 0 {
					t.Errorf("seed %d key %d: %s lacks %v", seed, k, what, left)
				}
			}
			compare("removed", e.Removed, removed)
			compare("reintroduced", e.Reintroduced, back)
			var refs, tips []string
			for ref, i := range w.heads {
				if ever(i) {
					refs = append(refs, ref)
				}
				if has(i) {
					tips = append(tips, ref)
				}
			}
			slices.Sort(refs)
			slices.Sort(tips)
			if !slices.Equal(refs, e.Refs) || !slices.Equal(tips, e.Tips) {
				t.Errorf("seed %d key %d: refs %v tips %v, want %v %v", seed, k, e.Refs, e.Tips, refs, tips)
			}
			if e.InHead != has(n-1) {
				t.Errorf("seed %d key %d: in HEAD %v", seed, k, e.InHead)
			}
			pushed := PushedNever
			if ever(n / 2) {
				pushed = PushedYes
			}
			if e.Pushed != pushed || (pushed == PushedYes) != slices.Equal(e.PushedTo, []string{"origin"}) {
				t.Errorf("seed %d key %d: pushed %s to %v, want %s", seed, k, e.Pushed, e.PushedTo, pushed)
			}
			if (e.Only == "") != (len(refs) > 0) || e.Only != "" && e.Only != OnlyDangling {
				t.Errorf("seed %d key %d: only %q with refs %v", seed, k, e.Only, refs)
			}
		}
		alike(t, search(t, r.dir, Options{Child: true}), res)
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
			if step == 6 {
				r.git("mv", "d9", "d8")
				r.commit("move")
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
