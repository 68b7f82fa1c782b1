package gitobj

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
)

// Child reads the objects of a repository through the git program: the fall-back for what Store cannot read, and its oracle in tests. git runs in an
// empty git directory of its own with only the objects directories attached: it sees no configuration, hooks or refs of the repository, fetches
// nothing and speaks no protocol. Its methods are those of Store.
type Child struct {
	format   Format
	problems *Problems
	program  string
	dir      string
	env      []string
	names    []OID
	types    []Type
	numbers  map[OID]int32
}

// OpenChild starts git once to list the objects of r. A pack that Store could not read is no longer a problem when git lists every object of its
// index. Kinds: NotFound (no git), Forbidden (a git that strangers could change), Unavailable.
func OpenChild(ctx context.Context, r *Repo) (*Child, error) {
	if r.bundle != nil {
		return nil, fault.New(fault.Unsupported, "read objects with git: a bundle has no objects directory")
	}
	program, err := child.Resolve([]string{"git"}, "")
	if err != nil {
		return nil, fault.In(err, "read objects with git")
	}
	c := &Child{format: r.Format, problems: r.Problems, program: program, numbers: map[OID]int32{}}
	if c.dir, err = os.MkdirTemp("", "keywright-git-"); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "make empty git directory")
	}
	if err := c.prepare(r); err != nil {
		c.Close()
		return nil, fault.Wrap(fault.Unavailable, err, "make empty git directory")
	}
	broken := c.problems.Drop(ProblemPack)
	err = c.list(ctx)
	for _, p := range broken {
		if err != nil || !c.covers(ctx, r.objects, p.Name) {
			c.problems.Add(p.Kind, p.Name, p.Why)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// covers reports whether git knows the type of every object in the index of a pack.
func (c *Child) covers(ctx context.Context, dirs []string, pack string) bool {
	for _, dir := range dirs {
		idx, err := os.Open(filepath.Join(dir, "pack", pack+".idx"))
		if err != nil {
			continue
		}
		whole, some := true, false
		err = c.run(ctx, idx, func(in *bufio.Reader) error {
			lines := bufio.NewScanner(in)
			for lines.Scan() {
				f := strings.Fields(lines.Text())
				if len(f) < 2 {
					return fault.New(fault.Corrupt, "list a pack with git: a line is not understood")
				}
				o, ok := ParseOID(f[1])
				some, whole = true, whole && ok && c.TypeOf(c.Lookup(o)) != 0
			}
			return lines.Err()
		}, "show-index", "--object-format="+c.format.String())
		_ = idx.Close()
		return err == nil && some && whole
	}
	return false
}

func (c *Child) prepare(r *Repo) error {
	config := "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = " + c.format.String() + "\n"
	for _, dir := range []string{"objects", "refs"} {
		if err := os.Mkdir(filepath.Join(c.dir, dir), 0o700); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"HEAD": "ref: refs/heads/none\n", "config": config} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	// git reads the alternates that an objects directory names, also those that are not to be followed. A directory of links to packs
	// and loose objects names none.
	own := filepath.Join(c.dir, "objects")
	attached, err := attach(own, r.objects)
	if err != nil {
		return err
	}
	c.env = []string{"PATH=/usr/bin:/bin", "HOME=" + c.dir, "LANG=C", "LC_ALL=C", "GIT_DIR=" + c.dir, "GIT_OBJECT_DIRECTORY=" + own,
		"GIT_ALTERNATE_OBJECT_DIRECTORIES=" + strings.Join(attached, ":"), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_COUNT=0", "GIT_ATTR_NOSYSTEM=1",
		"GIT_NO_LAZY_FETCH=1", "GIT_NO_REPLACE_OBJECTS=1", "GIT_ALLOW_PROTOCOL=", "GIT_PROTOCOL_FROM_USER=0", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0"}
	return nil
}

// attach makes, below own, one directory for each objects directory, with links to what is in it but for info, and gives their paths.
func attach(own string, objects []string) ([]string, error) {
	var made []string
	for i, dir := range objects {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		to := filepath.Join(filepath.Dir(own), "attached-"+strconv.Itoa(i))
		if err := os.Mkdir(to, 0o700); err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(abs)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() && (e.Name() == "pack" || len(e.Name()) == 2) {
				if err := os.Symlink(filepath.Join(abs, e.Name()), filepath.Join(to, e.Name())); err != nil {
					return nil, err
				}
			}
		}
		made = append(made, to)
	}
	return made, nil
}

// Close removes the empty git directory.
func (c *Child) Close() { _ = os.RemoveAll(c.dir) }

// run starts git with args, gives it in, and its output to read. It waits for its end.
func (c *Child) run(ctx context.Context, in io.Reader, read func(*bufio.Reader) error, args ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, append([]string{"--no-replace-objects"}, args...)...)
	cmd.Dir, cmd.Env, cmd.Stdin = c.dir, c.env, in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "run git")
	}
	if err := cmd.Start(); err != nil {
		return fault.Wrap(fault.Unavailable, err, "run git")
	}
	failed := read(bufio.NewReaderSize(out, 1<<20))
	if failed != nil {
		cancel()
	}
	err = cmd.Wait()
	switch {
	case context.Cause(ctx) != nil && failed == nil:
		return fault.Wrap(fault.Canceled, context.Cause(ctx), "run git")
	case failed != nil:
		return failed
	case err != nil:
		return fault.New(fault.Incomplete, "run git: it ended early")
	}
	return nil
}

func (c *Child) list(ctx context.Context) error {
	return c.run(ctx, nil, func(in *bufio.Reader) error {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return nil //nolint:nilerr // its end
			}
			hex, word, _ := strings.Cut(strings.TrimSpace(line), " ")
			o, ok := ParseOID(hex)
			if !ok {
				return fault.New(fault.Corrupt, "list objects with git: a line is not understood")
			}
			t := ParseType(word)
			if t == 0 {
				c.problems.Add(ProblemObject, hex, "cannot be read")
			}
			c.numbers[o] = int32(len(c.names)) //nolint:gosec // memory ends before
			c.names, c.types = append(c.names, o), append(c.types, t)
		}
	}, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)", "--unordered", "--buffer")
}

// Len is Store.Len.
func (c *Child) Len() int { return len(c.names) }

// Lookup is Store.Lookup.
func (c *Child) Lookup(o OID) int {
	if n, ok := c.numbers[o]; ok {
		return int(n)
	}
	return -1
}

// LookupRaw is Store.LookupRaw.
func (c *Child) LookupRaw(raw []byte) int { return c.Lookup(MakeOID(raw)) }

// Name is Store.Name.
func (c *Child) Name(n int) OID {
	if n < 0 || n >= len(c.names) {
		return OID{}
	}
	return c.names[n]
}

// TypeOf is Store.TypeOf.
func (c *Child) TypeOf(n int) Type {
	if n < 0 || n >= len(c.types) {
		return 0
	}
	return c.types[n]
}

// Read is Store.Read.
func (c *Child) Read(n int) (t Type, data []byte, err error) {
	if n < 0 || n >= len(c.names) {
		return 0, nil, fault.New(fault.NotFound, "read object: it is missing")
	}
	err = c.batch(context.Background(), []int32{int32(n)}, func(o *Object) error { //nolint:gosec // a number
		t = o.Type
		if o.Large() {
			return fault.Wrap(fault.Unsupported, errLimit, "read object")
		}
		d, err := o.Data()
		data = bytes.Clone(d)
		return err
	})
	return t, data, err
}

// Walk is Store.Walk, with one worker.
func (c *Child) Walk(ctx context.Context, t Type, w Walk) error {
	var some []int32
	for i, k := range c.types {
		if k == t && (w.Skip == nil || !w.Skip(i)) {
			some = append(some, int32(i))
		}
	}
	if len(some) == 0 {
		return nil
	}
	visit := w.Visitor(0)
	// git ends at an object that is corrupt: the next one is begun behind it.
	for starts := 0; len(some) > 0; starts++ {
		if starts == mostStarts {
			for _, n := range some {
				c.problems.Add(ProblemObject, c.names[n].String(), "not read: too many others are corrupt")
			}
			return nil
		}
		done := 0
		err := c.batch(ctx, some, func(o *Object) error {
			done++
			if err := visit(o); err != nil {
				c.problems.Add(ProblemObject, c.names[o.Number].String(), reason(err))
			}
			return nil
		})
		if ctx.Err() != nil || err == nil {
			return err
		}
		if done < len(some) {
			c.problems.Add(ProblemObject, c.names[some[done]].String(), "cannot be read")
			done++
		}
		some = some[done:]
	}
	return nil
}

// mostStarts is how often one walk starts git.
const mostStarts = 1000

// batch shows some objects in their order.
func (c *Child) batch(ctx context.Context, some []int32, visit func(*Object) error) error {
	var list bytes.Buffer
	for _, n := range some {
		list.WriteString(c.names[n].String() + "\n")
	}
	var buf []byte
	return c.run(ctx, &list, func(in *bufio.Reader) error {
		for _, n := range some {
			line, err := in.ReadString('\n')
			if err != nil {
				return fault.Wrap(fault.Incomplete, err, "read objects with git")
			}
			f := strings.Fields(line)
			if len(f) != 3 {
				return fault.New(fault.Incomplete, "read objects with git: an object is missing")
			}
			size, err := strconv.ParseInt(f[2], 10, 64)
			if err != nil || size < 0 {
				return fault.New(fault.Corrupt, "read objects with git: a line is not understood")
			}
			o := &Object{Number: int(n), Type: ParseType(f[1]), Size: size, Leaf: true}
			if size > LargeObject {
				o.large = true
				o.pipe = io.LimitReader(in, size)
				err = visit(o)
				if _, rest := io.Copy(io.Discard, o.pipe); rest != nil {
					return fault.Wrap(fault.Incomplete, rest, "read objects with git")
				}
			} else {
				if int64(cap(buf)) < size {
					buf = make([]byte, size+size/4)
				}
				o.data = buf[:size]
				if _, err := io.ReadFull(in, o.data); err != nil {
					return fault.Wrap(fault.Incomplete, err, "read objects with git")
				}
				err = visit(o)
			}
			if err != nil {
				return err
			}
			if b, err := in.ReadByte(); err != nil || b != '\n' {
				return fault.Wrap(fault.Incomplete, errors.Join(err, errTruncated), "read objects with git")
			}
		}
		return nil
	}, "cat-file", "--batch", "--buffer")
}
