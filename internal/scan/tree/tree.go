// Package tree searches work trees, single files and streams for keys with a scan.Searcher: every regular file, hidden, ignored and untracked
// ones included, the names of all entries, and the text of symbolic links. Of git directories it reads everything but the objects, which
// belong to package scan/history.
//
// It follows no symbolic link below the path it was given, opens no device, pipe or socket, writes nothing, and runs nothing. What it cannot
// read is counted and named. The command line calls it.
package tree

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/scan"
)

// In says in which text of a file a key was found.
type In string

// The texts.
const (
	Content In = "content"
	Name    In = "name" // of the file or folder
	Link    In = "link" // where a symbolic link points
)

// Sighting is a key in a file. Path is relative to the path that was walked, with slashes, and "." for that path itself. It is foreign text: it
// must be masked and escaped before it is shown, all the more so as it may hold the key.
type Sighting struct {
	Path  string
	In    In
	Match scan.Match
}

// Unread is a file or folder that could not be read, or a part of one that was not searched.
type Unread struct {
	Path   string // as in Sighting
	Inner  string // within an archive
	Reason string // constant text
}

// Result says what was searched. It is complete when Unread is empty.
type Result struct {
	Files        int64 // regular files read
	Bytes        int64 // of these files, as they are stored
	Links        int64 // symbolic links, of which only the text was read
	Special      int64 // devices, pipes and sockets, which were left alone
	Ignored      int64 // files and folders left out by RespectGitignore
	Placeholders int64 // matches of that grade, which are counted here and not yielded
	Unread       []Unread
	// Repositories are the git directories met, as in Sighting, whose objects were left out.
	Repositories []string
}

// Options says how to search. Searcher is required.
type Options struct {
	Searcher *scan.Searcher
	// RespectGitignore leaves out what .gitignore files and .git/info/exclude name. Files that git tracks all the same are left out too.
	RespectGitignore bool
	// Workers is the number of files read at a time. Zero gives the number of processors, at most 8.
	Workers int
	// Progress, when set, hears of every file that was read, from one goroutine at a time.
	Progress func(path string, bytes int64)
}

// smallFile is the size up to which a file is searched in one piece.
const smallFile = 4 << 20

// walk is one Walk.
type walk struct {
	o      Options
	ctx    context.Context
	files  chan job
	mu     sync.Mutex // guards result and serialises yield
	result Result
	yield  func(Sighting)
}

// job is files of one folder.
type job struct {
	in    *folder
	names []string
	path  string // of the folder
}

// jobFiles is how many files a worker takes at once: waking it costs more than reading a small one.
const jobFiles = 16

// Walk searches root, a folder or a file, and yields every key, from one goroutine at a time and in no order that may be relied on; likely
// places come first. A symbolic link given as root is followed. The error is NotFound or Forbidden for root itself; below it everything that
// cannot be read is in Result.Unread. When ctx ends, Walk gives what it has with the error of kind Canceled.
func Walk(ctx context.Context, root string, o Options, yield func(Sighting)) (Result, error) {
	w := &walk{o: o, ctx: ctx, files: make(chan job, 64), yield: yield}
	info, err := os.Stat(root)
	if err != nil {
		return Result{}, rootError(err)
	}
	if !info.IsDir() {
		return w.single(root, info)
	}
	dir, err := openFolder(root)
	if err != nil {
		return Result{}, rootError(err)
	}
	workers := o.Workers
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), 8)
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(w.work)
	}
	w.folder(dir, ".", nil)
	close(w.files)
	wg.Wait()
	return w.done()
}

func rootError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(fault.NotFound, plainError(err), "scan path")
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Forbidden, plainError(err), "scan path", fault.Hint("run as the owner of the files"))
	default:
		return fault.Wrap(fault.Unavailable, plainError(err), "scan path")
	}
}

// plainError takes the path out of an error, since a path may hold a key.
func plainError(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func (w *walk) done() (Result, error) {
	slices.SortFunc(w.result.Unread, func(a, b Unread) int {
		return strings.Compare(a.Path+"\x00"+a.Inner+"\x00"+a.Reason, b.Path+"\x00"+b.Inner+"\x00"+b.Reason)
	})
	slices.Sort(w.result.Repositories)
	if err := w.ctx.Err(); err != nil {
		return w.result, fault.Wrap(fault.Canceled, err, "scan files")
	}
	return w.result, nil
}

func (w *walk) single(path string, info fs.FileInfo) (Result, error) {
	if !info.Mode().IsRegular() {
		return Result{Special: 1}, fault.New(fault.Unsupported, "scan path: neither a file nor a folder", fault.Hint("pipe it into \"keywright scan -\""))
	}
	f, err := openFile(path)
	if err != nil {
		return Result{}, rootError(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	w.text(filepath.Base(path), ".", Name)
	w.file(f, ".", new([]byte))
	return w.done()
}

// folder reads one folder: files go to the workers, folders are entered. It releases dir.
func (w *walk) folder(dir *folder, path string, rules *ignoreRules) {
	defer dir.release()
	if w.ctx.Err() != nil {
		return
	}
	entries, err := dir.entries()
	if err != nil {
		w.unread(path, err)
	}
	git := isGit(entries)
	if git {
		w.mu.Lock()
		w.result.Repositories = append(w.result.Repositories, path)
		w.mu.Unlock()
	}
	if w.o.RespectGitignore && !git {
		rules = rules.enter(dir, path)
	}
	for i := range entries {
		entries[i].rank = rankOf(entries[i])
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Or(a.rank-b.rank, strings.Compare(a.name, b.name)) })
	var files []string
	flush := func() {
		if len(files) > 0 {
			dir.hold()
			w.files <- job{dir, files, path}
			files = nil
		}
	}
	for _, e := range entries {
		if w.ctx.Err() != nil {
			return
		}
		sub := below(path, e.name)
		if git && e.name == "objects" && e.sort == isFolder {
			continue
		}
		if rules.ignored(sub, e.sort == isFolder) {
			w.mu.Lock()
			w.result.Ignored++
			w.mu.Unlock()
			continue
		}
		w.text(e.name, sub, Name)
		if e.sort == isFile {
			if files = append(files, e.name); len(files) == jobFiles {
				flush()
			}
			continue
		}
		flush()
		w.entry(dir, e, sub, rules)
	}
	flush()
}

// below gives the path of a name in a folder.
func below(folder, name string) string {
	if folder == "." {
		return name
	}
	return folder + "/" + name
}

// entry enters a folder, and looks at what is no file.
func (w *walk) entry(dir *folder, e entry, path string, rules *ignoreRules) {
	switch e.sort {
	case isFolder:
		next, err := dir.folder(e.name)
		if err != nil {
			w.unread(path, err)
			return
		}
		w.folder(next, path, rules)
	case isLink:
		to, err := dir.readlink(e.name)
		if err != nil {
			w.unread(path, err)
			return
		}
		w.mu.Lock()
		w.result.Links++
		w.mu.Unlock()
		w.text(to, path, Link)
	case isGone:
		w.unread(path, fs.ErrNotExist)
	default:
		w.mu.Lock()
		w.result.Special++
		w.mu.Unlock()
	}
}

// isGit reports whether a folder is a git directory, with a work tree or without.
func isGit(entries []entry) bool {
	head, objects, refs := false, false, false
	for _, e := range entries {
		switch e.name {
		case "HEAD":
			head = true
		case "objects":
			objects = e.sort == isFolder
		case "refs":
			refs = e.sort == isFolder
		}
	}
	return head && objects && refs
}

// rankOf orders a folder: likely places of keys first, then files, then folders.
func rankOf(e entry) int {
	n := e.name
	if n[0] == '.' || strings.HasSuffix(n, "_history") || strings.HasSuffix(n, "_HISTORY") {
		n = strings.ToLower(n)
		switch {
		case strings.HasPrefix(n, ".env"), strings.HasSuffix(n, "_history"), n == ".claude", n == ".claude.json", n == ".anthropic", n == ".netrc", n == ".git-credentials":
			return 0
		case n == ".vscode", n == ".idea", n == ".cursor", n == ".codex", n == ".continue", n == ".aider.conf.yml", n == ".config", n == ".aws", n == ".git", strings.HasPrefix(n, ".bash"), strings.HasPrefix(n, ".zsh"), strings.HasPrefix(n, ".profile"):
			return 1
		}
	}
	if e.sort != isFolder {
		return 2
	}
	return 3
}

// work searches files until there are no more.
func (w *walk) work() {
	var buf []byte
	for j := range w.files {
		for _, name := range j.names {
			if w.ctx.Err() == nil {
				w.open(j.in, name, below(j.path, name), &buf)
			}
		}
		j.in.release()
	}
}

func (w *walk) open(in *folder, name, path string, buf *[]byte) {
	f, err := in.file(name)
	if err != nil {
		w.unread(path, err)
		return
	}
	defer f.Close() //nolint:errcheck // it was only read
	w.file(f, path, buf)
}

// file searches the content of an open file. buf is the caller's buffer, which grows as needed.
func (w *walk) file(f openedFile, path string, buf *[]byte) {
	size, regular, err := f.stat()
	if err != nil {
		w.unread(path, err)
		return
	}
	if !regular {
		w.mu.Lock()
		w.result.Special++
		w.mu.Unlock()
		return
	}
	yield := func(m scan.Match) { w.found(path, Content, m) }
	if size > smallFile {
		count := &counting{r: f}
		w.gaps(path, w.o.Searcher.Stream(w.ctx, count, yield))
		w.read(path, count.n)
		return
	}
	b, more, err := readSmall(f, int(size), buf)
	if err != nil {
		w.unread(path, err)
	}
	if more {
		// It has grown, or its size is not told beforehand.
		count := &counting{r: f}
		w.gaps(path, w.o.Searcher.Stream(w.ctx, io.MultiReader(strings.NewReader(string(b)), count), yield))
		w.read(path, int64(len(b))+count.n)
		return
	}
	if w.o.Searcher.Anchored(b) {
		w.gaps(path, w.o.Searcher.Find(w.ctx, b, yield))
	}
	w.read(path, int64(len(b)))
}

// readSmall reads a file of the expected size into buf; what is appended meanwhile is left to a later scan. A size of zero is not believed, since
// the files of a kernel have it. more reports that the file goes on.
func readSmall(f io.Reader, size int, buf *[]byte) (b []byte, more bool, err error) {
	if cap(*buf) < size+1 {
		*buf = make([]byte, max(size+1, 64<<10))
	}
	b = (*buf)[:cap(*buf)]
	n := 0
	for n < len(b) {
		if size > 0 && n >= size {
			return b[:n], false, nil
		}
		k, err := f.Read(b[n:])
		n += k
		if errors.Is(err, io.EOF) {
			return b[:n], false, nil
		}
		if err != nil {
			return b[:n], false, err
		}
	}
	return b[:n], true, nil
}

// text searches a short text that belongs to an entry.
func (w *walk) text(s, path string, in In) {
	if b := []byte(s); w.o.Searcher.AnchoredPart(b) {
		w.gaps(path, w.o.Searcher.Find(w.ctx, b, func(m scan.Match) {
			m.Line = 0
			w.found(path, in, m)
		}))
	}
}

func (w *walk) found(path string, in In, m scan.Match) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.Grade == scan.Placeholder {
		w.result.Placeholders++
		return
	}
	w.yield(Sighting{Path: path, In: in, Match: m})
}

func (w *walk) read(path string, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Files++
	w.result.Bytes += n
	if w.o.Progress != nil {
		w.o.Progress(path, n)
	}
}

func (w *walk) gaps(path string, gaps []scan.Gap) {
	if len(gaps) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range gaps {
		w.result.Unread = append(w.result.Unread, Unread{Path: path, Inner: g.Inner, Reason: g.Reason})
	}
}

func (w *walk) unread(path string, err error) {
	reason := "not readable"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		reason = "gone before it was read"
	case errors.Is(err, fs.ErrPermission):
		reason = "no permission"
	case errors.Is(err, syscall.ELOOP):
		reason = "became a symbolic link"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Unread = append(w.result.Unread, Unread{Path: path, Reason: reason})
}

// counting counts what is read.
type counting struct {
	r io.Reader
	n int64
}

// Read reads.
func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

var _ io.Reader = (*counting)(nil)
