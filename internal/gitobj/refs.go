package gitobj

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

func quoted(s string) string { return strconv.Quote(s) }

// Ref is a name that holds an object.
type Ref struct {
	// Name is the full name, as "refs/heads/main", "HEAD", or "worktrees/x/HEAD" of a linked work tree.
	Name string
	OID  OID
	// Symbolic is the ref that a symbolic one leads to, or empty. OID is what that one holds; zero if it is not born yet.
	Symbolic string
}

// LogEntry is a line of a reflog.
type LogEntry struct {
	Ref      string
	Old, New OID
	Who      string // "name <address>"
	When     time.Time
	Message  string
}

// pseudo are the files beside HEAD that hold objects while git is at work.
var pseudo = []string{"HEAD", "ORIG_HEAD", "FETCH_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "BISECT_HEAD", "AUTO_MERGE"}

// Refs gives all refs, by name. What cannot be read is added to Problems.
func (r *Repo) Refs() []Ref {
	if r.bundle != nil {
		return slices.Clone(r.bundle.refs)
	}
	found := map[string]Ref{}
	r.packedRefs(found)
	r.looseRefs(found, filepath.Join(r.CommonDir, "refs"), "refs")
	r.pseudoRefs(found, r.CommonDir, "")
	trees, err := os.ReadDir(filepath.Join(r.CommonDir, "worktrees"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.Problems.Add(ProblemDir, filepath.Join(r.CommonDir, "worktrees"), "cannot be read")
	}
	for _, e := range trees {
		prefix := "worktrees/" + e.Name()
		dir := filepath.Join(r.CommonDir, "worktrees", e.Name())
		r.pseudoRefs(found, dir, prefix+"/")
		r.looseRefs(found, filepath.Join(dir, "refs"), prefix+"/refs")
	}
	all := make([]Ref, 0, len(found))
	for _, ref := range found {
		for to, n := ref.Symbolic, 0; to != "" && n < 6; n++ {
			next := found[to]
			ref.OID, to = next.OID, next.Symbolic
		}
		if !ref.OID.IsZero() || ref.Symbolic != "" {
			all = append(all, ref)
		}
	}
	slices.SortFunc(all, func(a, b Ref) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (r *Repo) packedRefs(found map[string]Ref) {
	b, err := readFile(filepath.Join(r.CommonDir, "packed-refs"), small)
	if err != nil {
		if !fault.Is(err, fault.NotFound) {
			r.Problems.Add(ProblemRefs, "packed-refs", reason(err))
		}
		return
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' || line[0] == '^' {
			continue
		}
		hex, name, ok := strings.Cut(line, " ")
		o, valid := ParseOID(hex)
		if !ok || !valid {
			r.Problems.Add(ProblemRefs, "packed-refs", "a line is corrupt")
			continue
		}
		found[name] = Ref{Name: name, OID: o}
	}
}

// looseRefs reads the refs below dir. Symbolic links are read as symbolic refs and not followed.
func (r *Repo) looseRefs(found map[string]Ref, dir, prefix string) {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				r.Problems.Add(ProblemDir, path, "cannot be read")
			}
			return nil
		}
		if e.IsDir() || strings.HasSuffix(path, ".lock") {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return nil //nolint:nilerr // it is below dir
		}
		r.looseRef(found, path, prefix+"/"+filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		r.Problems.Add(ProblemDir, dir, "cannot be read")
	}
}

func (r *Repo) looseRef(found map[string]Ref, path, name string) {
	if to, err := os.Readlink(path); err == nil {
		found[name] = Ref{Name: name, Symbolic: filepath.ToSlash(to)}
		return
	}
	b, err := readFile(path, 1<<20)
	if err != nil {
		if !fault.Is(err, fault.NotFound) {
			r.Problems.Add(ProblemRefs, name, reason(err))
		}
		return
	}
	text := strings.TrimSpace(string(b))
	if to, ok := strings.CutPrefix(text, "ref:"); ok {
		found[name] = Ref{Name: name, Symbolic: strings.TrimSpace(to)}
		return
	}
	first, _, _ := strings.Cut(text, "\n")
	first, _, _ = strings.Cut(first, "\t")
	o, ok := ParseOID(strings.TrimSpace(first))
	if !ok {
		r.Problems.Add(ProblemRefs, name, "corrupt ref")
		return
	}
	found[name] = Ref{Name: name, OID: o}
}

// pseudoRefs reads HEAD and its like in a git directory; of FETCH_HEAD every line.
func (r *Repo) pseudoRefs(found map[string]Ref, dir, prefix string) {
	for _, name := range pseudo {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		if name != "FETCH_HEAD" {
			r.looseRef(found, path, prefix+name)
			continue
		}
		b, err := readFile(path, small)
		if err != nil {
			r.Problems.Add(ProblemRefs, prefix+name, reason(err))
			continue
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			hex, _, _ := strings.Cut(line, "\t")
			if o, ok := ParseOID(strings.TrimSpace(hex)); ok {
				one := prefix + name
				if n > 0 {
					one += "@{" + strconv.Itoa(n) + "}"
				}
				found[one] = Ref{Name: one, OID: o}
				n++
			}
		}
	}
}

// Reflogs gives the lines of all reflogs: by ref, and within one from the oldest to the newest.
func (r *Repo) Reflogs() []LogEntry {
	if r.bundle != nil {
		return nil
	}
	var all []LogEntry
	read := func(dir, prefix string) {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil && !errors.Is(err, os.ErrNotExist):
				r.Problems.Add(ProblemDir, path, "cannot be read")
			case err == nil && e.Type().IsRegular():
				if rel, err := filepath.Rel(dir, path); err == nil {
					all = append(all, r.reflog(path, prefix+filepath.ToSlash(rel))...)
				}
			}
			return nil
		})
		if err != nil {
			r.Problems.Add(ProblemDir, dir, "cannot be read")
		}
	}
	read(filepath.Join(r.CommonDir, "logs"), "")
	if trees, err := os.ReadDir(filepath.Join(r.CommonDir, "worktrees")); err == nil {
		for _, e := range trees {
			read(filepath.Join(r.CommonDir, "worktrees", e.Name(), "logs"), "worktrees/"+e.Name()+"/")
		}
	}
	return all
}

func (r *Repo) reflog(path, ref string) []LogEntry {
	b, err := readFile(path, small)
	if err != nil {
		r.Problems.Add(ProblemRefs, "logs/"+ref, reason(err))
		return nil
	}
	var entries []LogEntry
	for line := range strings.Lines(string(b)) {
		head, message, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		from, rest, _ := strings.Cut(head, " ")
		to, who, _ := strings.Cut(rest, " ")
		o, ok1 := ParseOID(from)
		n, ok2 := ParseOID(to)
		if !ok1 || !ok2 {
			r.Problems.Add(ProblemRefs, "logs/"+ref, "a line is corrupt")
			continue
		}
		i := ParseIdent([]byte(who))
		entries = append(entries, LogEntry{Ref: ref, Old: o, New: n, Who: i.Who, When: i.When, Message: message})
	}
	return entries
}
