package history

import (
	"bytes"
	"cmp"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

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
		n, logged := len(w.names), 0
		// What the trees hold is asked of git, too.
		for i := range n {
			text := r.git("grep", "-h", "-F", "-e", "KEY=", w.names[i], "--")
			for k, key := range w.keys {
				if strings.Contains(text, key) != w.holds[i][k] {
					t.Fatalf("seed %d: the oracle and git differ about commit %d", seed, i)
				}
			}
		}
		// And so are the graph, the clocks and the messages.
		for line := range strings.Lines(r.gitIn([]byte(strings.Join(w.names, "\n")+"\n"), "log", "--no-walk=unsorted", "--stdin", "--format=%H|%ct|%P|%s")) {
			part := strings.Split(strings.TrimSuffix(line, "\n"), "|")
			i := slices.Index(w.names, part[0])
			var parents []string
			for _, p := range w.parents[i] {
				parents = append(parents, w.names[p])
			}
			if part[1] != strconv.FormatInt(w.times[i], 10) || part[2] != strings.Join(parents, " ") {
				t.Fatalf("seed %d: the oracle and git log differ about commit %d: %v", seed, i, part)
			}
			for k, key := range w.keys {
				if strings.Contains(part[3], key) != w.says[i][k] {
					t.Fatalf("seed %d: the oracle and git log differ about the message of commit %d", seed, i)
				}
			}
			logged++
		}
		if logged != n {
			t.Fatalf("seed %d: git log told %d commits of %d", seed, logged, n)
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
