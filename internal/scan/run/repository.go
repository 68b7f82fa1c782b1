package run

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/gitobj"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/history"
	"github.com/keywright/keywright/internal/scan/report"
)

// repository searches the history of the repository at path. root is the directory that its pointers may not leave.
func (s *scanner) repository(ctx context.Context, path, root string) error {
	s.progress.enter("history of " + s.names.Text(path).String())
	version, state := s.remembered(path)
	options := gitobj.Options{Root: root, FollowExternal: s.o.FollowExternal}
	ours := options
	ours.Done = state.Done(version)
	repo, err := gitobj.Open(path, ours)
	if err != nil {
		if ctx.Err() != nil {
			return fault.In(ctx.Err(), "scan")
		}
		reason := "the repository cannot be opened: " + fault.KindOf(err).String()
		switch {
		case fault.Is(err, fault.Forbidden):
			reason = "its history lies outside of what was given; --follow-external reads it there"
		case fault.Is(err, fault.Unsupported):
			reason = "its objects have a format that is not known"
		}
		s.sink.Gap(report.Gap{Path: s.names.Text(path), Reason: reason})
		return nil
	}
	defer repo.Close()
	search := &counted{Searcher: s.historySearcher(), p: s.progress}
	with := history.Options{Searcher: search, Now: s.o.Now(), Workers: s.o.Workers, State: state, Version: version, Hide: s.names.Hide}
	res, err := history.Search(ctx, repo, with)
	if err != nil {
		return err
	}
	if unread(res) && repo.CommonDir != "" {
		if res, err = s.byGit(ctx, path, options, with, res); err != nil {
			return err
		}
	}
	s.remember(ctx, path, res.State)
	s.sink.Scanned(report.Scanned{Repositories: 1, Objects: res.Objects + res.Skipped, Commits: res.Commits})
	for i := range res.Places {
		p := &res.Places[i]
		at := report.At{Source: "history", Part: p.Part, Object: p.Object.String()}
		// A path stands beside the files of a work tree; a bare repository is named apart.
		switch bare := repo.WorkTree == "" && path != "."; {
		case p.Path != "" && !bare:
			at.Path = filepath.Join(path, p.Path)
		case p.Path != "":
			at.Repository, at.Path = strings.TrimSuffix(path, "/"), p.Path
		case s.several:
			at.Repository = path
		}
		s.match(p.Match, at)
	}
	for id, e := range res.Exposure {
		s.sink.Expose(id, s.exposure(path, e))
	}
	for _, g := range res.Gaps {
		s.sink.Gap(report.Gap{Repository: s.names.Text(path), Object: g.Object.String(), Inner: s.names.Text(g.Inner), Reason: g.Reason})
	}
	for _, p := range res.Problems {
		s.problem(path, p)
	}
	if n := res.ProblemCount - len(res.Problems); n > 0 {
		s.sink.MoreGaps(n)
	}
	return nil
}

// unread reports whether our own reader failed where git's may not: at a pack, or at an object that is too large to be held.
func unread(r *history.Result) bool {
	return slices.ContainsFunc(r.Problems, func(p gitobj.Problem) bool {
		return p.Kind == gitobj.ProblemPack || p.Kind == gitobj.ProblemObject && p.Why == gitobj.TooLarge()
	})
}

// byGit searches a repository through the git program, and gives what it found if it could read more than we did.
func (s *scanner) byGit(ctx context.Context, path string, o gitobj.Options, with history.Options, ours *history.Result) (*history.Result, error) {
	repo, err := gitobj.Open(path, o)
	if err != nil {
		return ours, fault.In(ctx.Err(), "scan")
	}
	defer repo.Close()
	with.Child, with.State, with.Version = true, nil, ""
	res, err := history.Search(ctx, repo, with)
	if ctx.Err() != nil {
		return ours, fault.In(ctx.Err(), "scan")
	}
	if err != nil {
		s.sink.Note("git could not be asked for what keywright cannot read: " + fault.KindOf(err).String())
		return ours, nil
	}
	if res.ProblemCount >= ours.ProblemCount {
		res, ours = ours, res
	}
	for i := range ours.Places {
		if v := ours.Places[i].Match.Value; !v.IsZero() {
			v.Destroy()
		}
	}
	return res, nil
}

// remembered gives the state that an earlier scan left of a repository, or nil, and the version that it must have.
func (s *scanner) remembered(path string) (version string, state *history.State) {
	if s.o.States == nil || s.o.Detectors == "" {
		return "", nil
	}
	// Names of keys that could be guessed depend on the key that makes them.
	version = s.o.Detectors + " " + hex.EncodeToString(s.o.StoreKey.HMAC([]byte("names in states of scans"))[:8])
	if s.o.Inventory != nil {
		version += fmt.Sprintf(" %s %t", s.o.Mark, s.o.Known)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return version, nil
	}
	if b := s.o.States.Load(abs); b != nil {
		var old history.State
		if old.UnmarshalBinary(b) == nil {
			return version, &old
		}
	}
	return version, nil
}

// remember keeps the state of a repository. Keys in paths are hidden in it; one that holds a key all the same is not kept.
func (s *scanner) remember(ctx context.Context, path string, state *history.State) {
	if state == nil || s.o.States == nil {
		return
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return
	}
	b, err := state.MarshalBinary()
	if err != nil {
		return
	}
	holds := false
	s.names.Find(ctx, b, func() { holds = true })
	if holds || ctx.Err() != nil {
		return
	}
	if s.o.States.Save(abs, b) != nil {
		s.sink.Note("what was searched could not be remembered: the next scan reads all of it again")
	}
}

func (s *scanner) problem(path string, p gitobj.Problem) {
	g := report.Gap{Repository: s.names.Text(path), Reason: p.Why}
	switch p.Kind {
	case gitobj.ProblemObject, gitobj.ProblemMissing:
		g.Object = s.names.Text(p.Name).String()
	default:
		g.Path = s.names.Text(p.Name)
	}
	s.sink.Gap(g)
}

// mostNames is how many refs of an exposure are listed.
const mostNames = 100

func (s *scanner) exposure(path string, e *history.Exposure) report.Exposure {
	x := report.Exposure{
		InHead: e.InHead, Pushed: string(e.Pushed), PushedAt: e.PushedAt.UTC(), Only: e.Only, From: e.From.UTC(), To: e.To.UTC(), Days: e.Days,
		First: s.commit(e.First), Last: s.commit(e.Last), Removed: s.commits(e.Removed), Reintroduced: s.commits(e.Reintroduced),
		PushedTo: s.texts(e.PushedTo),
	}
	if e.PushedAt.IsZero() {
		x.PushedAt = e.PushedAt
	}
	if e.To.IsZero() {
		x.To = e.To
	}
	if s.several {
		x.Repository = s.names.Text(path)
	}
	x.MoreRefs = max(0, len(e.Refs)-mostNames)
	x.Refs = s.texts(e.Refs[:min(len(e.Refs), mostNames)])
	x.Tips = s.texts(e.Tips[:min(len(e.Tips), mostNames)])
	return x
}

func (s *scanner) texts(all []string) []report.Text {
	var out []report.Text
	for _, a := range all {
		out = append(out, s.names.Text(short(a)))
	}
	return out
}

// short gives a ref as people call it.
func short(ref string) string {
	for _, p := range []string{"refs/heads/", "refs/remotes/", "refs/"} {
		if s, ok := strings.CutPrefix(ref, p); ok {
			return s
		}
	}
	return ref
}

func (s *scanner) commit(c *history.Commit) *report.Commit {
	if c == nil {
		return nil
	}
	return &report.Commit{
		ID: c.OID.String(), Author: s.names.Text(c.Author), Authored: c.Authored.UTC(), Committer: s.names.Text(c.Committer), Committed: c.Committed.UTC(),
		Subject: s.names.Text(c.Subject),
	}
}

// mostCommits is how many commits that took a key out, or brought it back, are listed.
const mostCommits = 100

func (s *scanner) commits(all []history.Commit) []report.Commit {
	var out []report.Commit
	// The last ones say more than the first.
	for i := max(0, len(all)-mostCommits); i < len(all); i++ {
		out = append(out, *s.commit(&all[i]))
	}
	return out
}

// counted is a Searcher that counts what it looks at.
type counted struct {
	*scan.Searcher
	p *Progress
}

// Anchored implements history.Searcher.
func (c *counted) Anchored(b []byte) bool {
	c.p.bytes.Add(int64(len(b)))
	return c.Searcher.Anchored(b)
}

// AnchoredPart implements history.Searcher.
func (c *counted) AnchoredPart(b []byte) bool {
	c.p.bytes.Add(int64(len(b)))
	return c.Searcher.AnchoredPart(b)
}

// Stream implements history.Searcher.
func (c *counted) Stream(ctx context.Context, r io.Reader, yield func(scan.Match)) []scan.Gap {
	return c.Searcher.Stream(ctx, &counter{r: r, n: &c.p.bytes, ctx: ctx}, yield)
}

var _ history.Searcher = (*counted)(nil)
