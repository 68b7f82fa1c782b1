package run

import (
	"context"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/change"
	"github.com/keywright/keywright/internal/scan/report"
)

// hook searches what a hook asks about, in the one repository of Paths.
func (s *scanner) hook(ctx context.Context) error {
	if len(s.o.Paths) != 1 || s.o.Paths[0] == "-" {
		return fault.New(fault.Invalid, "scan: a hook looks at one repository")
	}
	source := map[Hook]string{Staged: "staged", PrePush: "outgoing", PreReceive: "incoming"}[s.o.Hook]
	s.progress.enter("what is " + source)
	search := s.search
	if s.o.Hook != Staged {
		search = s.historySearcher()
	}
	o := change.Options{
		Search: search, Sink: changes{s, source}, GitDir: s.o.Paths[0], Index: s.o.Index, Objects: s.o.Objects, FollowExternal: s.o.FollowExternal,
	}
	var stats change.Stats
	var err error
	if s.o.Hook == Staged {
		stats, err = change.Staged(ctx, o)
	} else {
		stats, err = s.push(ctx, o)
	}
	if err != nil {
		return err
	}
	s.sink.Scanned(report.Scanned{Repositories: 1, Objects: stats.Objects, Bytes: stats.Bytes, Commits: stats.Commits})
	return nil
}

func (s *scanner) push(ctx context.Context, o change.Options) (change.Stats, error) {
	if s.o.Input == nil {
		return change.Stats{}, fault.New(fault.Invalid, "scan: there is no standard input", fault.Hint("git gives it to the hook"))
	}
	if s.o.Hook == PreReceive {
		updates, err := change.ReadPreReceive(s.o.Input)
		if err != nil {
			return change.Stats{}, err
		}
		return change.Pushed(ctx, o, updates, []string{""})
	}
	updates, err := change.ReadPrePush(s.o.Input)
	if err != nil {
		return change.Stats{}, err
	}
	var have []string
	if s.o.Remote != "" {
		have = append(have, "refs/remotes/"+s.o.Remote+"/")
	}
	return change.Pushed(ctx, o, updates, have)
}

// changes takes in what change finds.
type changes struct {
	s      *scanner
	source string
}

// Match implements change.Sink.
func (c changes) Match(m scan.Match, path, part, object string) {
	c.s.match(m, report.At{Source: c.source, Path: path, Part: part, Object: object})
}

// Gap implements change.Sink.
func (c changes) Gap(path, object, reason, inner string) {
	c.s.sink.Gap(report.Gap{Path: c.s.names.Text(path), Object: object, Inner: c.s.names.Text(inner), Reason: reason})
}

var _ change.Sink = changes{}
