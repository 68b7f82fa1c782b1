package gitobj

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/fault"
)

// Options says how a repository is opened. The zero value follows no pointer out of the path.
type Options struct {
	// Root is the directory that pointers (`gitdir:`, `commondir`, alternates, symbolic links) may not lead out of. Empty means the
	// path that is opened.
	Root string
	// FollowExternal follows pointers wherever they lead.
	FollowExternal bool
	// Objects names further directories of objects, as the quarantine of a push has them. They are read as they are.
	Objects []string
	Limits  Limits
	// Done reports, if not nil, packs, by their ID, that will not be walked; they get the lowest numbers.
	Done func(id string) bool
}

// Repo is an open repository: its objects, and where its refs are. It is read only, and safe for concurrent use.
type Repo struct {
	*Store
	// GitDir is the directory of HEAD; CommonDir that of refs and objects. They differ in a linked work tree. Of a bundle both
	// are empty.
	GitDir, CommonDir string
	// WorkTree is the directory whose .git led to GitDir, or empty.
	WorkTree string
	// Bare is set when the configuration says so, or there is neither a work tree nor a word about it.
	Bare bool
	// Shallow holds the commits whose parents were not fetched.
	Shallow []OID
	// Grafted is set when info/grafts changes the parents of commits. It is not honoured.
	Grafted bool
	// Partial is set when the repository expects that a remote has objects that are missing here.
	Partial bool

	objects  []string
	reftable bool
	bundle   *bundle // set where there are no directories to look for refs in
}

// small bounds the files beside objects that are read whole: packed-refs and reflogs grow to many megabytes.
const small = 256 << 20

// errExternal is a pointer that was not followed.
var errExternal = errors.New("leads out of the given path")

// Open opens the repository at path: a work tree, a bare repository, a .git directory, or a bundle. It does not look in the
// directories above. What cannot be read inside it is among its Problems. Kinds: NotFound (no repository there), Forbidden (a pointer out of the path
// that is not followed), Unsupported, Corrupt, Unavailable.
func Open(path string, o Options) (*Repo, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "open repository")
	}
	problems := &Problems{}
	if !st.IsDir() {
		return openBundle(path, o, problems)
	}
	if o.Root == "" {
		o.Root = path
	}
	in := inside{all: o.FollowExternal}
	if in.root, err = filepath.EvalSymlinks(o.Root); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "open repository")
	}
	if in.root, err = filepath.Abs(in.root); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "open repository")
	}
	r := &Repo{}
	if err := r.locate(path, in); err != nil {
		return nil, err
	}
	format, err := r.config()
	if err != nil {
		return nil, err
	}
	r.readShallow(problems)
	if _, err := os.Lstat(filepath.Join(r.CommonDir, "info", "grafts")); err == nil {
		r.Grafted = true
	}
	r.objects = append(r.objects, o.Objects...)
	dir, err := in.follow(filepath.Join(r.CommonDir, "objects"))
	if err != nil {
		problems.Add(ProblemExternal, filepath.Join(r.CommonDir, "objects"), errExternal.Error())
	} else {
		r.addObjects(dir, in, problems, 0)
	}
	r.Store = openStore(format, r.objects, o.Limits, o.Done, problems)
	r.Partial = r.Partial || r.Promisor()
	if r.reftable {
		problems.Add(ProblemRefs, filepath.Join(r.CommonDir, "reftable"), "refs are stored as a reftable, which is not read")
	}
	return r, nil
}

// inside decides about pointers.
type inside struct {
	root string
	all  bool
}

// follow gives the real path behind path, if it may be followed.
func (in inside) follow(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	if real, err = filepath.Abs(real); err != nil {
		return "", err
	}
	if in.all || real == in.root || strings.HasPrefix(real, strings.TrimSuffix(in.root, "/")+"/") {
		return real, nil
	}
	return "", errExternal
}

// external makes the error for a pointer that leads to path.
func external(err error, path string) error {
	if errors.Is(err, errExternal) {
		return fault.New(fault.Forbidden, "open repository: it lies outside the given path, at "+quoted(path), fault.Hint("--follow-external reads it there"))
	}
	return fault.Wrap(fault.NotFound, err, "open repository")
}

// locate finds the directories of the repository at path.
func (r *Repo) locate(path string, in inside) error {
	dot := filepath.Join(path, ".git")
	st, err := os.Lstat(dot)
	switch {
	case err != nil && isGitDir(path):
		r.GitDir = path
	case err != nil:
		return fault.New(fault.NotFound, "open repository: no repository at "+quoted(path))
	default:
		r.WorkTree = path
		r.GitDir = dot
		if st.Mode()&os.ModeSymlink != 0 {
			if r.GitDir, err = in.follow(dot); err != nil {
				return external(err, dot)
			}
			if st, err = os.Lstat(r.GitDir); err != nil {
				return fault.Wrap(fault.NotFound, err, "open repository")
			}
		}
		if st.Mode().IsRegular() {
			to, err := pointer(r.GitDir, "gitdir: ")
			if err != nil {
				return err
			}
			if r.GitDir, err = in.follow(to); err != nil {
				return external(err, to)
			}
		}
		if !isGitDir(r.GitDir) {
			return fault.New(fault.NotFound, "open repository: no repository at "+quoted(r.GitDir))
		}
	}
	r.CommonDir = r.GitDir
	if to, err := pointer(filepath.Join(r.GitDir, "commondir"), ""); err == nil {
		if r.CommonDir, err = in.follow(to); err != nil {
			return external(err, to)
		}
	}
	return nil
}

// isGitDir reports whether dir looks like git's directory: it has a HEAD, and objects or a pointer to where they are.
func isGitDir(dir string) bool {
	if _, err := os.Lstat(filepath.Join(dir, "HEAD")); err != nil {
		return false
	}
	if st, err := os.Stat(filepath.Join(dir, "objects")); err == nil && st.IsDir() {
		return true
	}
	_, err := os.Lstat(filepath.Join(dir, "commondir"))
	return err == nil
}

// IsRepository reports whether Open would find a repository at the directory path. It follows no pointer.
func IsRepository(path string) bool {
	if _, err := os.Lstat(filepath.Join(path, ".git")); err == nil {
		return true
	}
	return isGitDir(path)
}

// pointer reads a file that holds a path, after a prefix, relative to the file's directory.
func pointer(file, prefix string) (string, error) {
	b, err := readFile(file, 1<<16)
	if err != nil {
		return "", fault.In(err, "open repository")
	}
	to, ok := strings.CutPrefix(strings.TrimRight(string(b), "\r\n"), prefix)
	if !ok || to == "" {
		return "", fault.New(fault.Corrupt, "open repository: no path in "+quoted(file))
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(file), to)
	}
	return to, nil
}

// config reads the few settings that say how the repository is stored. Nothing else in it is looked at, and no include followed.
// The error is Unsupported, for a format of objects that is not known.
func (r *Repo) config() (Format, error) {
	format := SHA1
	var unknown error
	r.Bare = r.WorkTree == "" && filepath.Base(r.GitDir) != ".git"
	b, err := readFile(filepath.Join(r.CommonDir, "config"), 16<<20)
	if err != nil {
		return format, nil //nolint:nilerr // without a configuration everything is as usual
	}
	section := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			end := strings.IndexByte(line, ']')
			if end < 0 {
				continue
			}
			section, line = strings.ToLower(strings.TrimSpace(line[1:end])), strings.TrimSpace(line[end+1:])
		}
		name, value, _ := strings.Cut(line, "=")
		value, _, _ = strings.Cut(value, "#")
		value, _, _ = strings.Cut(value, ";")
		value = strings.ToLower(strings.Trim(strings.TrimSpace(value), `"`))
		switch section + "." + strings.ToLower(strings.TrimSpace(name)) {
		case "extensions.objectformat":
			switch value {
			case "sha256":
				format, unknown = SHA256, nil
			case "sha1":
				format, unknown = SHA1, nil
			default:
				unknown = fault.New(fault.Unsupported, "open repository: its objects have a format that is not known")
			}
		case "extensions.refstorage":
			r.reftable = value == "reftable"
		case "extensions.partialclone":
			r.Partial = true
		case "core.bare":
			r.Bare = value == "true" || value == "yes" || value == "on" || value == "1" || value == ""
		}
	}
	return format, unknown
}

func (r *Repo) readShallow(problems *Problems) {
	b, err := readFile(filepath.Join(r.CommonDir, "shallow"), small)
	if err != nil {
		if !fault.Is(err, fault.NotFound) {
			problems.Add(ProblemRefs, "shallow", reason(err))
		}
		return
	}
	for line := range strings.Lines(string(b)) {
		if o, ok := ParseOID(strings.TrimSpace(line)); ok {
			r.Shallow = append(r.Shallow, o)
		}
	}
}

// addObjects adds an objects directory and those that its alternates name.
func (r *Repo) addObjects(dir string, in inside, problems *Problems, depth int) {
	if slices.Contains(r.objects, dir) {
		return
	}
	r.objects = append(r.objects, dir)
	file := filepath.Join(dir, "info", "alternates")
	b, err := readFile(file, 1<<20)
	if err != nil {
		if !fault.Is(err, fault.NotFound) {
			problems.Add(ProblemExternal, file, reason(err))
		}
		return
	}
	for line := range strings.Lines(string(b)) {
		to := strings.TrimRight(line, "\r\n")
		if to == "" || to[0] == '#' {
			continue
		}
		if to[0] == '"' {
			to = unquote(to)
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		real, err := in.follow(to)
		switch {
		case errors.Is(err, errExternal):
			problems.Add(ProblemExternal, to, "alternates name it; it "+err.Error())
		case err != nil:
			problems.Add(ProblemExternal, to, "alternates name it; it cannot be read")
		case depth >= 5:
			problems.Add(ProblemExternal, to, "alternates nest too deeply")
		default:
			r.addObjects(real, in, problems, depth+1)
		}
	}
}

// unquote undoes git's quoting of a path.
func unquote(s string) string {
	s = strings.TrimSuffix(strings.TrimPrefix(s, `"`), `"`)
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if k := strings.IndexByte("abtnvfr", s[i]); k >= 0 {
			b.WriteByte("\a\b\t\n\v\f\r"[k])
			continue
		}
		if i+2 < len(s) && s[i] >= '0' && s[i] <= '3' {
			b.WriteByte((s[i]-'0')<<6 | (s[i+1]-'0')&7<<3 | (s[i+2]-'0')&7)
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// ObjectDirs gives the objects directories that are read: the repository's own, and alternates that were followed.
func (r *Repo) ObjectDirs() []string { return slices.Clone(r.objects) }

// Modules gives the git directories of submodules that the repository keeps below its own, also of those not checked out.
func (r *Repo) Modules() []string {
	if r.CommonDir == "" {
		return nil
	}
	var found []string
	var look func(dir string, depth int)
	look = func(dir string, depth int) {
		entries, err := os.ReadDir(dir)
		if err != nil || depth > 20 {
			return
		}
		for _, e := range entries {
			sub := filepath.Join(dir, e.Name())
			if !e.IsDir() {
				continue
			}
			if isGitDir(sub) {
				found = append(found, sub)
				look(filepath.Join(sub, "modules"), depth+1)
				continue
			}
			look(sub, depth+1)
		}
	}
	look(filepath.Join(r.CommonDir, "modules"), 0)
	return found
}
