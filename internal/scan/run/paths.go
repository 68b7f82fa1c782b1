package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/image"
	"github.com/keywright/keywright/internal/scan/report"
	"github.com/keywright/keywright/internal/scan/tree"
)

// found is a repository that was met, and the directory that its pointers may not leave.
type found struct{ path, root string }

// paths searches the files of every path, then the histories of the repositories that were met.
func (s *scanner) paths(ctx context.Context) error {
	var repos []found
	met := map[string]bool{}
	for _, p := range order(s.o.Paths) {
		if p == "-" {
			if err := s.stdin(ctx); err != nil {
				return err
			}
			continue
		}
		here, err := s.path(ctx, p)
		if err != nil {
			return err
		}
		for _, r := range here {
			id := r.path
			if abs, err := filepath.Abs(id); err == nil {
				id = abs
			}
			if !met[id] {
				met[id] = true
				repos = append(repos, r)
			}
		}
	}
	if s.o.History == NoHistory {
		return nil
	}
	s.several = len(repos) > 1
	for _, r := range repos {
		if err := s.repository(ctx, r.path, r.root); err != nil {
			return err
		}
	}
	return nil
}

// path searches the files of one path and gives the repositories in it.
func (s *scanner) path(ctx context.Context, root string) ([]found, error) {
	info, err := os.Stat(root)
	if err != nil {
		kind := fault.NotFound
		if !errors.Is(err, fs.ErrNotExist) {
			kind = fault.Forbidden
		}
		return nil, fault.New(kind, "scan "+s.names.Text(root).String()+": "+kind.String())
	}
	var repos []found
	add := func(dir string) { repos = append(repos, found{dir, root}) }
	if !info.IsDir() && isBundle(root) {
		add(root)
	}
	if info.IsDir() && gitobj.IsRepository(root) {
		add(root)
	}
	if s.o.History == OnlyHistory {
		if len(repos) == 0 && !info.IsDir() {
			return nil, fault.New(fault.Invalid, "scan "+s.names.Text(root).String()+": it is no repository and has no history")
		}
		if info.IsDir() {
			return append(repos, s.repositories(ctx, root)...), fault.In(ctx.Err(), "scan")
		}
		return repos, nil
	}
	s.progress.enter("files of " + s.names.Text(root).String())
	res, err := tree.Walk(ctx, root, tree.Options{Searcher: s.search, RespectGitignore: s.o.RespectGitignore, Workers: s.o.Workers, Progress: func(_ string, n int64) {
		s.progress.files.Add(1)
		s.progress.bytes.Add(n)
	}}, func(t tree.Sighting) {
		at := report.At{Source: "file", Path: filepath.Join(root, filepath.FromSlash(t.Path))}
		switch t.In {
		case tree.Name:
			at.Part = "file name"
		case tree.Link:
			at.Part = "symbolic link"
		case tree.Content:
			at.Layer = s.layer(root, t.Path, t.Match.Inner)
		}
		s.match(t.Match, at)
	})
	if err != nil {
		return nil, err
	}
	s.sink.Scanned(report.Scanned{Files: int(res.Files), Bytes: res.Bytes})
	s.sink.Placeholders(int(res.Placeholders))
	for _, u := range res.Unread {
		s.sink.Gap(report.Gap{Path: s.names.Text(filepath.Join(root, filepath.FromSlash(u.Path))), Inner: s.names.Text(u.Inner), Reason: u.Reason})
	}
	for _, r := range res.Repositories {
		add(home(root, r))
	}
	return repos, nil
}

// mostImages is how many archives are remembered that were looked at for layers.
const mostImages = 64

// layer says which part of a container image a member of the archive at path below root is. The archive is read a second time, once a key was
// found in it.
func (s *scanner) layer(root, path, inner string) report.AtLayer {
	if inner == "" {
		return report.AtLayer{}
	}
	name := root + "\x00" + path
	i, known := s.images[name]
	if !known {
		if f, err := within(root, path); err == nil {
			i = image.Read(f)
			_ = f.Close()
		}
		if len(s.images) < mostImages {
			s.images[name] = i
		}
	}
	m, _ := i.Of(inner)
	return report.AtLayer{Image: m.Image, Command: m.Command, Number: m.Layer, Of: m.Layers}
}

// within opens a file below root, and follows no link out of it.
func within(root, path string) (*os.File, error) {
	if path == "." {
		return os.Open(root)
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	return dir.OpenFile(filepath.FromSlash(path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// home gives the path of a repository from that of its git directory below root.
func home(root, git string) string {
	if path.Base(git) == ".git" {
		git = path.Dir(git)
	}
	return filepath.Join(root, filepath.FromSlash(git))
}

// repositories finds the repositories below a directory without reading files. It follows no symbolic link.
func (s *scanner) repositories(ctx context.Context, root string) []found {
	var repos []found
	_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return fs.SkipAll
		case err != nil:
			s.sink.Gap(report.Gap{Path: s.names.Text(p), Reason: "not readable"})
			return fs.SkipDir
		case !d.IsDir():
			return nil
		case d.Name() == "objects" && gitobj.IsRepository(filepath.Dir(p)):
			return fs.SkipDir
		}
		// A linked work tree's part of a git directory is read with the whole.
		if p != root && d.Name() != ".git" && filepath.Base(filepath.Dir(p)) != "worktrees" && gitobj.IsRepository(p) {
			repos = append(repos, found{p, root})
		}
		return nil
	})
	return repos
}

// isBundle reports whether a file starts as a bundle of git's.
func isBundle(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	return (err == nil || errors.Is(err, io.ErrUnexpectedEOF)) && (bytes.HasPrefix(head[:n], []byte("# v2 git bundle")) || bytes.HasPrefix(head[:n], []byte("# v3 git bundle")))
}

// spot is a place by what a person sees of it.
type spot struct {
	id                                  scan.ID
	repository, path, part, form, inner string
	line                                int
}

// again reports whether a place in a history says nothing new: the file still stands there, or another version of it does.
func (s *scanner) again(m scan.Match, at report.At) bool {
	k := spot{m.ID, at.Repository, at.Path, at.Part, m.Form, m.Inner, m.Line}
	if at.Path == "" || m.Grade == scan.Placeholder {
		return false
	}
	s.spotsMu.Lock()
	defer s.spotsMu.Unlock()
	old := s.spots[k]
	s.spots[k] = true
	return old && at.Source == "history"
}
