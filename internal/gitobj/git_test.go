package gitobj

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// repository is a throw-away one, made with the real git.
type repository struct {
	t   testing.TB
	dir string
}

func newRepository(t testing.TB, args ...string) *repository {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("git is missing")
		}
		t.Skip("git is missing")
	}
	r := &repository{t, t.TempDir()}
	r.git(append([]string{"init", "-q", "-b", "main"}, args...)...)
	return r
}

func (r *repository) git(args ...string) string { return string(r.gitIn(nil, args...)) }

func (r *repository) gitIn(in []byte, args ...string) []byte {
	r.t.Helper()
	out, err := r.try(in, args...)
	if err != nil {
		r.t.Fatalf("git %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (r *repository) try(in []byte, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@example.com"}
	cmd.Stdin = bytes.NewReader(in)
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, text.String())
	}
	return out.Bytes(), err
}

func (r *repository) write(name string, data []byte) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// edits commits n random edits of a few files to main.
func (r *repository) edits(rnd *rand.Rand, n int) {
	r.t.Helper()
	files := map[string][]byte{}
	var in bytes.Buffer
	for i := range n {
		name := fmt.Sprintf("d%d/f%d", rnd.IntN(3), rnd.IntN(4))
		data := files[name]
		switch {
		case len(data) < 200:
			data = sample(rnd, 2000+rnd.IntN(8000), 64)
		default:
			at := rnd.IntN(len(data))
			end := min(len(data), at+rnd.IntN(200))
			data = append(append(append([]byte{}, data[:at]...), sample(rnd, rnd.IntN(100), 64)...), data[end:]...)
		}
		files[name] = data
		fmt.Fprintf(&in, "commit refs/heads/main\ncommitter C <c@example.com> %d +0200\ndata 4\nedit\n", 1700000000+i)
		if _, err := r.try(nil, "rev-parse", "-q", "--verify", "refs/heads/main"); err == nil && i == 0 {
			in.WriteString("from refs/heads/main^0\n")
		}
		fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", name, len(data), data)
	}
	r.gitIn(in.Bytes(), "-c", "fastimport.unpackLimit=100000", "fast-import", "--quiet")
	r.git("reset", "-q", "--hard")
	r.git("tag", "-a", "-m", "a tag", "v"+strconv.Itoa(rnd.IntN(1<<30)))
}

// truth gives every object that git knows, as "type data".
func (r *repository) truth() map[string]string {
	r.t.Helper()
	in := bufio.NewReader(bytes.NewReader(r.gitIn(nil, "cat-file", "--batch-all-objects", "--batch")))
	all := map[string]string{}
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return all
		}
		f := strings.Fields(line)
		n, err := strconv.Atoi(f[2])
		if err != nil {
			r.t.Fatal(err)
		}
		data := make([]byte, n+1)
		if _, err := io.ReadFull(in, data); err != nil {
			r.t.Fatal(err)
		}
		all[f[0]] = f[1] + " " + string(data[:n])
	}
}

// walked gives every object that a walk shows, and fails if one is shown twice.
func walked(t testing.TB, r *Repo, workers int) map[string]string {
	t.Helper()
	var mu sync.Mutex
	all := map[string]string{}
	for _, typ := range []Type{Blob, Tree, Commit, Tag} {
		err := r.Walk(context.Background(), typ, Walk{Workers: workers, Visitor: func(int) func(*Object) error {
			return func(o *Object) error {
				var b strings.Builder
				if o.Base != nil {
					if _, err := o.Windows(nil, 8); err != nil {
						return err
					}
					head, err := o.Head(nil, 100)
					if err != nil {
						return err
					}
					data, err := o.Data()
					if err != nil {
						return err
					}
					if !bytes.HasPrefix(data, head) || len(head) < min(100, len(data)) {
						t.Errorf("head of %s is wrong", r.Name(o.Number))
					}
				}
				if err := o.copyTo(&b); err != nil {
					return err
				}
				if int64(b.Len()) != o.Size {
					t.Errorf("size of %s is %d, not %d", r.Name(o.Number), b.Len(), o.Size)
				}
				if o.Dup {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				name := r.Name(o.Number).String()
				if _, twice := all[name]; twice {
					t.Errorf("%s was shown twice", name)
				}
				all[name] = typ.String() + " " + b.String()
				return nil
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func open(t testing.TB, path string, o Options) *Repo {
	t.Helper()
	r, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, data := range want {
		if got[name] != data {
			t.Errorf("object %s: got %d bytes, want %d", name, len(got[name]), len(data))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("object %s is not git's", name)
		}
	}
}

func TestWalkShowsWhatGitKnows(t *testing.T) {
	for _, c := range []struct {
		name   string
		format string
		pack   [][]string
	}{
		{"loose", "sha1", nil},
		{"offsets", "sha1", [][]string{{"repack", "-adfq", "--depth=50", "--window=20"}}},
		{"names", "sha1", [][]string{{"-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq", "--depth=20"}}},
		{"deep", "sha256", [][]string{{"repack", "-adfq", "--depth=4000", "--window=60"}}},
		{"sha256 names", "sha256", [][]string{{"-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq"}}},
		{"stored", "sha1", [][]string{{"-c", "core.compression=0", "repack", "-adFq"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(7, uint64(len(c.name))))
			r := newRepository(t, "--object-format="+c.format)
			r.edits(rnd, 25)
			for _, p := range c.pack {
				r.git(p...)
			}
			r.edits(rnd, 5)
			if c.pack != nil {
				r.git("repack", "-q") // a second pack, of the rest
				r.edits(rnd, 3)       // and some loose ones
			}
			g := open(t, r.dir, Options{})
			if len(g.Problems.Named()) > 0 {
				t.Fatal(g.Problems.Named())
			}
			want := r.truth()
			same(t, walked(t, g, 2), want)
			for name, data := range want {
				o, _ := ParseOID(name)
				typ, b, err := g.Read(g.Lookup(o))
				if err != nil || typ.String()+" "+string(b) != data {
					t.Fatalf("read %s: %v", name, err)
				}
				if g.TypeOf(g.Lookup(o)) != typ {
					t.Fatalf("type of %s", name)
				}
			}
			if g.Lookup(MakeOID(make([]byte, g.Format.Size()))) != -1 {
				t.Error("found an object that is not there")
			}
			// With next to no memory for bases each is made again, with the same outcome.
			tight := open(t, r.dir, Options{Limits: Limits{Bases: 1}})
			same(t, walked(t, tight, 1), want)
			if n := tight.Problems.Total(); n != 0 {
				t.Errorf("%d problems", n)
			}
		})
	}
}

func TestIndexVersionsAndLargeOffsets(t *testing.T) {
	r := newRepository(t)
	r.edits(rand.New(rand.NewPCG(8, 8)), 20)
	r.git("repack", "-adfq")
	want := r.truth()
	packs, err := filepath.Glob(filepath.Join(r.dir, ".git/objects/pack/*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	idx := strings.TrimSuffix(packs[0], ".pack") + ".idx"
	for _, version := range []string{"1", "2", "2,0x40", "2,0x1"} {
		if err := os.Remove(idx); err != nil {
			t.Fatal(err)
		}
		r.git("index-pack", "--index-version="+version, "-o", idx, packs[0])
		g := open(t, r.dir, Options{})
		same(t, walked(t, g, 2), want)
	}
}

func TestDuplicatesAreShownOnce(t *testing.T) {
	r := newRepository(t)
	r.edits(rand.New(rand.NewPCG(9, 9)), 10)
	loose := filepath.Join(t.TempDir(), "objects")
	if err := os.CopyFS(loose, os.DirFS(filepath.Join(r.dir, ".git/objects"))); err != nil {
		t.Fatal(err)
	}
	r.git("repack", "-q")
	r.edits(rand.New(rand.NewPCG(9, 10)), 10)
	r.git("repack", "-aq") // all once more, the first pack stays
	if err := os.CopyFS(filepath.Join(r.dir, ".git/objects/x"), os.DirFS(loose)); err != nil {
		t.Fatal(err)
	}
	g := open(t, r.dir, Options{Objects: []string{filepath.Join(r.dir, ".git/objects/x")}})
	want := r.truth()
	if g.Len() < 2*len(want)-50 {
		t.Fatalf("only %d numbers for %d objects", g.Len(), len(want))
	}
	same(t, walked(t, g, 2), want)
}

func TestPointersAreFollowedOnlyWhenAllowed(t *testing.T) {
	r := newRepository(t)
	r.edits(rand.New(rand.NewPCG(10, 10)), 5)
	want := r.truth()
	clone := filepath.Join(t.TempDir(), "clone")
	r.git("clone", "-q", "--shared", r.dir, clone)
	g := open(t, clone, Options{})
	if g.Problems.Count(ProblemExternal) != 1 || len(walked(t, g, 1)) != 0 {
		t.Errorf("alternates: %v", g.Problems.Named())
	}
	same(t, walked(t, open(t, clone, Options{FollowExternal: true}), 1), want)
	same(t, walked(t, open(t, clone, Options{Root: "/"}), 1), want)

	tree := filepath.Join(t.TempDir(), "tree")
	r.git("worktree", "add", "-q", "-b", "other", tree)
	if _, err := Open(tree, Options{}); err == nil {
		t.Error("a work tree led out of the path")
	}
	g = open(t, tree, Options{FollowExternal: true})
	same(t, walked(t, g, 1), want)
	names := map[string]bool{}
	for _, ref := range g.Refs() {
		names[ref.Name] = true
	}
	for _, name := range []string{"HEAD", "refs/heads/main", "refs/heads/other", "worktrees/tree/HEAD"} {
		if !names[name] {
			t.Errorf("ref %s is missing of %v", name, names)
		}
	}
}

func TestBareModulesAndBundles(t *testing.T) {
	r := newRepository(t)
	r.edits(rand.New(rand.NewPCG(11, 11)), 12)
	want := r.truth()
	bare := filepath.Join(t.TempDir(), "bare.git")
	r.git("clone", "-q", "--bare", r.dir, bare)
	g := open(t, bare, Options{})
	if !g.Bare {
		t.Error("a bare repository is not bare")
	}
	same(t, walked(t, g, 2), want)

	outer := newRepository(t)
	outer.write("x", []byte("x"))
	outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", r.dir, "sub")
	outer.git("add", "-A")
	outer.git("commit", "-qm", "sub")
	same(t, walked(t, open(t, filepath.Join(outer.dir, "sub"), Options{Root: outer.dir}), 1), want)
	if m := open(t, outer.dir, Options{}).Modules(); len(m) != 1 || filepath.Base(m[0]) != "sub" {
		t.Errorf("modules: %v", m)
	}

	file := filepath.Join(t.TempDir(), "all.bundle")
	for _, args := range [][]string{{"--version=2"}, {"--version=3"}} {
		r.git(append(append([]string{"bundle", "create", "-q"}, args...), file, "--all")...)
		g = open(t, file, Options{})
		same(t, walked(t, g, 2), want)
		if len(g.Refs()) < 3 || g.Problems.Total() != 0 {
			t.Errorf("refs %v, problems %v", g.Refs(), g.Problems.Named())
		}
	}
	r.git("-c", "pack.useDeltaBaseOffset=false", "bundle", "create", "-q", file, "main~3..main")
	g = open(t, file, Options{})
	if len(g.Shallow) == 0 {
		t.Error("the bundle's prerequisites were not read")
	}
	for name, data := range walked(t, g, 1) {
		if want[name] != data {
			t.Errorf("object %s differs", name)
		}
	}
}

func TestRefsAndReflogs(t *testing.T) {
	r := newRepository(t)
	r.edits(rand.New(rand.NewPCG(12, 12)), 4)
	r.git("branch", "a/b")
	r.git("symbolic-ref", "refs/heads/sym", "refs/heads/a/b")
	r.git("pack-refs", "--all")
	r.git("branch", "-f", "a/b", "HEAD~2")
	r.git("notes", "add", "-m", "a note")
	r.write("d0/f0", []byte("changed"))
	r.git("add", "-A")
	r.git("stash", "-q")
	g := open(t, r.dir, Options{})
	want := map[string]string{}
	for line := range strings.Lines(r.git("for-each-ref", "--format=%(refname) %(objectname)")) {
		name, hex, _ := strings.Cut(strings.TrimSpace(line), " ")
		want[name] = hex
	}
	got := map[string]string{}
	for _, ref := range g.Refs() {
		got[ref.Name] = ref.OID.String()
	}
	for name, hex := range want {
		if got[name] != hex {
			t.Errorf("%s: %s, want %s", name, got[name], hex)
		}
	}
	if got["HEAD"] != want["refs/heads/main"] {
		t.Errorf("HEAD is %s", got["HEAD"])
	}
	lines := 0
	for _, e := range g.Reflogs() {
		if e.Ref == "HEAD" {
			lines++
		}
		if e.When.IsZero() || e.Who != "C <c@example.com>" {
			t.Errorf("entry %+v", e)
		}
	}
	if n := strings.Count(r.git("reflog", "HEAD"), "\n"); n != lines {
		t.Errorf("%d lines of HEAD's reflog, git has %d", lines, n)
	}
}

func TestCorruptPacksAreNeverFatal(t *testing.T) {
	r := newRepository(t)
	r.edits(rand.New(rand.NewPCG(13, 13)), 30)
	r.git("repack", "-adfq")
	want := r.truth()
	packs, err := filepath.Glob(filepath.Join(r.dir, ".git/objects/pack/*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	whole, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		t.Helper()
		if err := os.Remove(packs[0]); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(packs[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rnd := rand.New(rand.NewPCG(14, 14))
	for i := range 40 {
		b := append([]byte{}, whole...)
		if i%2 == 0 {
			b = b[:rnd.IntN(len(b))]
		} else {
			for range 1 + rnd.IntN(3) {
				b[12+rnd.IntN(len(b)-12)] ^= 1 << rnd.IntN(8)
			}
		}
		write(b)
		g := open(t, r.dir, Options{})
		got := walked(t, g, 2)
		for name, data := range got {
			if want[name] != data {
				t.Fatalf("case %d: object %s was read and is wrong", i, name)
			}
		}
		if lost := len(want) - len(got); lost > 0 && g.Problems.Total() == 0 || lost == 0 && g.Problems.Count(ProblemObject) > 0 {
			t.Fatalf("case %d: %d objects lost, %d problems", i, lost, g.Problems.Total())
		} else if g.Problems.Count(ProblemPack) == 0 && g.Problems.Count(ProblemObject) != lost {
			t.Fatalf("case %d: %d objects lost, %d counted", i, lost, g.Problems.Count(ProblemObject))
		}
	}
	// Cut while it is mapped.
	write(whole)
	g := open(t, r.dir, Options{})
	if err := os.Truncate(packs[0], 100); err != nil {
		t.Fatal(err)
	}
	got := walked(t, g, 2)
	if n := g.Problems.Count(ProblemObject); n == 0 || n+len(got) != len(want) {
		t.Errorf("%d problems and %d objects of %d", n, len(got), len(want))
	}
}

func TestLargeObjectsAreStreamed(t *testing.T) {
	r := newRepository(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), (LargeObject+1<<20)/16)
	r.write("big", data)
	r.git("add", "-A")
	r.git("commit", "-qm", "big")
	for range 2 {
		g := open(t, r.dir, Options{Limits: Limits{Object: 1 << 20}})
		if got := walked(t, g, 1); len(got) != 3 || g.Problems.Total() != 0 {
			t.Errorf("%d objects, %v", len(got), g.Problems.Named())
		}
		r.git("repack", "-adq")
	}
}
