// Package run puts a scan together: it searches files, histories, standard input, or what a hook brings, asks providers about what was found,
// sets aside what a baseline or a mark ignores, and gives one report with one entry per key.
//
// It loads no configuration and no baseline of its own accord, runs nothing, writes nothing into what it searches, and shows nothing. Called
// by the command line.
package run

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/baseline"
	"github.com/keywright/keywright/internal/scan/image"
	"github.com/keywright/keywright/internal/scan/report"
	"github.com/keywright/keywright/internal/scan/verify"
	"github.com/keywright/keywright/internal/secret"
)

// History says whether histories of repositories are searched.
type History uint8

// The choices.
const (
	WithHistory History = iota // files and histories
	NoHistory
	OnlyHistory
)

// Hook says on whose behalf a scan runs.
type Hook uint8

// The hooks.
const (
	NoHook     Hook = iota
	Staged          // what the next commit takes in
	PrePush         // what a push sends; Input holds git's lines
	PreReceive      // what a push brings; Input holds git's lines
)

// Inventory is what is known about keys. It is safe for concurrent use.
type Inventory interface {
	scan.Known
	// Find says which key has a value.
	Find(apikey.Digest) (report.Known, bool)
}

// States keeps the state of each repository, by its absolute path. A state holds no value.
type States interface {
	// Load gives what Save kept, or nil. Only files that nobody else can write count.
	Load(repository string) []byte
	Save(repository string, state []byte) error
}

// Options says what a scan does. The zero Options search nothing.
type Options struct {
	// Paths are files, directories, repositories and bundles; "-" is standard input.
	Paths []string
	Stdin io.Reader

	History          History
	RespectGitignore bool
	// FollowExternal follows pointers of repositories out of the paths.
	FollowExternal bool

	Hook Hook
	// Input is what git hands to the hook, and Remote the name of the remote that is pushed to.
	Input  io.Reader
	Remote string
	// Index and Objects are git's own variables in a hook: the index in use, and the directories of incoming objects.
	Index   string
	Objects []string

	// Inventory may be nil. Mark names what it holds, value-free: what was remembered of a history under another mark does not count.
	Inventory Inventory
	Mark      string
	// Known searches histories for known keys of unfamiliar shape too, which reads every object whole. Elsewhere they are searched for always.
	Known bool
	// StoreKey makes the names of values that could be guessed back. Zero gives names that last for this scan.
	StoreKey secret.Value

	// Verify lists the families to ask about, with VerifyURLs in the place of their own hosts. Empty asks nobody.
	Verify     []string
	VerifyURLs map[string]string

	// Baseline may be nil. Distrusted is a baseline that lies in what is searched and must not count; it is counted.
	Baseline, Distrusted *baseline.Baseline
	// IgnoreMarks says that allow marks do not count; they are counted.
	IgnoreMarks bool

	// Strict makes a report incomplete by what could not be looked into: damaged and encrypted archives, and what lies behind a limit. In hooks
	// limits always count so.
	Strict bool

	// Hint adds the public prefix and the last four characters of each value.
	Hint bool

	// States keeps what was searched of histories, so that the next scan reads only what is new. Nil keeps nothing. Detectors names the
	// detectors in use: a state of others does not count.
	States    States
	Detectors string

	Workers int
	Version string // of Keywright
	Now     func() time.Time
	// Progress, when it is not nil, is kept up to date while the scan runs.
	Progress *Progress
	// Stream, when it is not nil, is told of places as they are found. The caller ends it.
	Stream *report.Stream
}

// Remembers reports whether the scan keeps states of histories.
func (o *Options) Remembers() bool {
	return o.States != nil && o.Detectors != "" && o.History != NoHistory && o.Hook == NoHook
}

// Progress is how far a scan has come. It may be read at any time.
type Progress struct {
	phase atomic.Pointer[string]
	files atomic.Int64
	bytes atomic.Int64
	keys  atomic.Int64
}

// Now gives the present phase in words, and what was searched so far.
func (p *Progress) Now() (phase string, files, bytes, keys int64) {
	if s := p.phase.Load(); s != nil {
		phase = *s
	}
	return phase, p.files.Load(), p.bytes.Load(), p.keys.Load()
}

func (p *Progress) enter(phase string) { p.phase.Store(&phase) }

// scanner is one scan.
type scanner struct {
	o        Options
	search   *scan.Searcher // for contents
	names    *report.Masker
	sink     *report.Collector
	progress *Progress
	verifier *verify.Verifier
	keep     *keeper
	// several says that the report is about more than one repository.
	several bool

	// images holds the archives that were looked at for layers. It is used by one goroutine at a time, as sightings come.
	images map[string]*image.Image

	spotsMu sync.Mutex
	spots   map[spot]bool
}

// Run scans. The report is nil only with an error: of kind Invalid for paths or options that make no sense, NotFound for a path that does not
// exist, Forbidden or Corrupt for a repository that a hook cannot read, and Canceled. What could not be searched otherwise is in the
// report, which is then incomplete.
func Run(ctx context.Context, o Options) (*report.Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	began := o.Now()
	if len(o.Verify) > 0 && o.Hook == PreReceive {
		return nil, fault.New(fault.Invalid, "scan: keys are not verified in a pre-receive hook", fault.Hint("whoever pushes would decide what this host sends"))
	}
	s := &scanner{o: o, progress: o.Progress, spots: map[spot]bool{}, images: map[string]*image.Image{}}
	if len(o.Verify) > 0 {
		v, err := verify.New(verify.Options{Families: o.Verify, URLs: o.VerifyURLs, UserAgent: "keywright/" + o.Version, Now: o.Now})
		if err != nil {
			return nil, err
		}
		defer v.Close()
		s.verifier = v
	}
	s.build()
	defer s.keep.destroy()
	if err := s.all(ctx); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.In(err, "scan")
	}
	r := s.sink.Report()
	s.identify(r)
	s.ignore(r)
	if err := s.ask(ctx, r); err != nil {
		return nil, err
	}
	r.Finish(o.Version, began, o.Now().Sub(began))
	return r, nil
}

// build makes the searchers.
func (s *scanner) build() {
	so := scan.Options{Keep: s.verifier != nil || s.o.Hint, StoreKey: s.o.StoreKey, Now: s.o.Now}
	if s.o.Inventory != nil {
		so.Known = s.o.Inventory
	}
	s.search = scan.New(so)
	so.Keep = false
	s.names = report.NewMasker(scan.New(so))
	strict := report.Lenient
	switch {
	case s.o.Strict:
		strict = report.StrictAll
	case s.o.Hook != NoHook:
		strict = report.StrictLimits
	}
	s.sink = report.NewCollector(s.names, s.o.Stream, strict)
	s.keep = &keeper{values: map[scan.ID]scan.Match{}}
}

// historySearcher is the searcher for histories, where known keys of unfamiliar shape are searched for only when that is asked: every object
// has to be searched whole.
func (s *scanner) historySearcher() *scan.Searcher {
	if s.o.Inventory == nil || s.o.Known || len(s.o.Inventory.Shapes()) == 0 {
		return s.search
	}
	s.sink.Note("histories were not searched for known keys of an unfamiliar shape; --known searches them")
	return scan.New(scan.Options{Keep: s.verifier != nil || s.o.Hint, StoreKey: s.o.StoreKey, Known: shapeless{s.o.Inventory}, Now: s.o.Now})
}

// shapeless is an inventory whose values are recognised where a family shows them.
type shapeless struct{ Inventory }

// Shapes implements scan.Known.
func (shapeless) Shapes() []scan.Shape { return nil }

var _ scan.Known = shapeless{}

// all searches everything that the options name.
func (s *scanner) all(ctx context.Context) error {
	switch s.o.Hook {
	case Staged, PrePush, PreReceive:
		return s.hook(ctx)
	default:
		return s.paths(ctx)
	}
}

// match takes in what was found.
func (s *scanner) match(m scan.Match, at report.At) {
	if s.again(m, at) {
		if !m.Value.IsZero() {
			m.Value.Destroy()
		}
		return
	}
	first := s.sink.Match(m, at)
	if first {
		s.progress.keys.Add(1)
		if s.o.Hint {
			if h := hint(m); h != "" {
				s.sink.Hint(m.ID, h)
			}
		}
		if s.verifier != nil && s.keep.take(m) {
			return
		}
	}
	if !m.Value.IsZero() {
		m.Value.Destroy()
	}
}

// stdin searches standard input to its end.
func (s *scanner) stdin(ctx context.Context) error {
	if s.o.Stdin == nil {
		return fault.New(fault.Invalid, "scan: there is no standard input")
	}
	s.progress.enter("standard input")
	in := &counter{r: newPatient(ctx, s.o.Stdin), n: &s.progress.bytes, ctx: ctx}
	for _, g := range s.search.Stream(ctx, in, func(m scan.Match) { s.match(m, report.At{Source: "stdin"}) }) {
		s.sink.Gap(report.Gap{Path: s.names.Text("standard input"), Inner: s.names.Text(g.Inner), Reason: g.Reason})
	}
	s.sink.Scanned(report.Scanned{Files: 1, Bytes: in.total})
	return nil
}

// counter counts what is read, and ends when its context does.
type counter struct {
	r     io.Reader
	n     *atomic.Int64
	ctx   context.Context
	total int64
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.total += int64(n)
	c.n.Add(int64(n))
	return n, err
}

// patient reads in a goroutine of its own, so that a reader which never answers does not hold up the end of its context. That goroutine
// ends with the read that it waits for.
type patient struct {
	ctx   context.Context
	parts chan part
	have  part
}

type part struct {
	b   []byte
	err error
}

func newPatient(ctx context.Context, r io.Reader) *patient {
	p := &patient{ctx: ctx, parts: make(chan part, 1)}
	go func() {
		for {
			b := make([]byte, 256<<10)
			n, err := r.Read(b)
			select {
			case p.parts <- part{b[:n], err}:
			case <-ctx.Done():
				clear(b)
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return p
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	for len(p.have.b) == 0 {
		if p.have.err != nil {
			return 0, p.have.err
		}
		select {
		case p.have = <-p.parts:
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		}
	}
	n := copy(b, p.have.b)
	p.have.b = p.have.b[n:]
	return n, nil
}

// identify says which keys the inventory knows.
func (s *scanner) identify(r *report.Report) {
	if s.o.Inventory == nil {
		return
	}
	for i := range r.Keys {
		if k, ok := s.o.Inventory.Find(r.Keys[i].Digest); ok {
			r.Keys[i].Known = &k
		}
	}
}

// ignore sets aside keys that a baseline names, and those of which every place is marked.
func (s *scanner) ignore(r *report.Report) {
	now := s.o.Now()
	for i := range r.Keys {
		k := &r.Keys[i]
		if s.o.Distrusted != nil && s.o.Distrusted.Has(k.Fingerprint) {
			r.Counts.BaselineRefused++
		}
		if s.o.Baseline != nil {
			if e, ok := s.o.Baseline.Ignores(k.Fingerprint, now); ok {
				k.Ignored = &report.Ignored{By: "baseline", Reason: s.names.Text(e.Reason), Author: s.names.Text(e.Author), Expires: e.Expires}
			} else if s.o.Baseline.Has(k.Fingerprint) {
				r.Notes = append(r.Notes, fmt.Sprintf("the baseline's entry for %s has expired", k.Fingerprint))
			}
		}
		marked := 0
		for _, p := range k.Places {
			if p.Allowed {
				marked++
			}
		}
		switch {
		case s.o.IgnoreMarks:
			r.Counts.AllowMarksRefused += marked
		case k.Ignored == nil && marked > 0 && marked == len(k.Places) && k.MorePlaces == 0:
			k.Ignored = &report.Ignored{By: "mark", Reason: s.names.Text("every place is marked keywright:allow")}
		}
	}
}

// ask asks providers about the keys that were kept.
func (s *scanner) ask(ctx context.Context, r *report.Report) error {
	if s.verifier == nil {
		return nil
	}
	s.progress.enter("asking providers")
	done := make(chan struct{})
	slots := make(chan struct{}, 8)
	waiting := 0
	for i := range r.Keys {
		k := &r.Keys[i]
		m, ok := s.keep.values[k.Fingerprint]
		if !ok {
			m = scan.Match{Family: k.Family, Kind: k.Kind, Grade: k.Grade}
			if s.keep.full && k.Grade == scan.Exact {
				k.Verdict = &report.Verdict{State: report.Unknown, Reason: fmt.Sprintf("not asked: one scan asks about %d keys at most", verify.MaxValues)}
				continue
			}
		}
		waiting++
		go func() {
			slots <- struct{}{}
			v := s.verifier.Check(ctx, m)
			k.Verdict = &report.Verdict{State: report.State(v.State), Reason: v.Reason, At: v.At}
			<-slots
			done <- struct{}{}
		}()
	}
	for range waiting {
		<-done
	}
	return fault.In(ctx.Err(), "scan")
}

// keeper holds the values that will be asked about.
type keeper struct {
	mu     sync.Mutex
	values map[scan.ID]scan.Match
	full   bool
}

// take keeps a match whose key can be asked about, and reports whether it did. The value is then the keeper's.
func (k *keeper) take(m scan.Match) bool {
	if m.Grade != scan.Exact || m.Value.IsZero() {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.values) >= verify.MaxValues {
		k.full = true
		return false
	}
	k.values[m.ID] = m
	return true
}

func (k *keeper) destroy() {
	for _, m := range k.values {
		m.Value.Destroy()
	}
}

// hint gives the public prefix and the last four characters, where at least forty stay hidden.
func hint(m scan.Match) string {
	const shown, hidden = 4, 40
	if m.Value.IsZero() || m.Size-len(m.Prefix)-shown < hidden {
		return ""
	}
	var tail string
	m.Value.Reveal(func(b []byte) {
		if len(b) >= shown {
			tail = strings.Map(func(r rune) rune {
				if r > ' ' && r < 0x7f {
					return r
				}
				return '?'
			}, string(b[len(b)-shown:]))
		}
	})
	if tail == "" {
		return ""
	}
	return m.Prefix + "…" + tail
}

// order gives the paths without repetitions.
func order(paths []string) []string {
	var all []string
	for _, p := range paths {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}
