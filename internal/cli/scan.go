package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/baseline"
	"github.com/keywright/keywright/internal/scan/change"
	"github.com/keywright/keywright/internal/scan/report"
	"github.com/keywright/keywright/internal/scan/run"
)

// baselineName is the baseline that lies beside the user's own configuration.
const baselineName = "scan-baseline"

// scanFlags are what a person asks of a scan.
type scanFlags struct {
	noHistory, historyOnly, gitignore, external bool
	verify                                      []string
	urls                                        []string
	baselines, knownKeys                        []string
	trust, hint, all, again, known, strict      bool
	format, output                              string
	also                                        []string
	staged, preReceive                          bool
	prePush                                     string
	workers                                     int
}

func (f *scanFlags) where(fs *pflag.FlagSet) {
	fs.BoolVar(&f.noHistory, "no-history", false, "search the files of repositories, and not their history")
	fs.BoolVar(&f.historyOnly, "history-only", false, "search the history of repositories, and not their files")
	fs.BoolVar(&f.gitignore, "respect-gitignore", false, "leave out files that .gitignore names; leaks often lie in them")
	fs.BoolVar(&f.external, "follow-external", false, "follow pointers of a repository out of PATH: linked work trees, alternates")
	fs.StringSliceVar(&f.verify, "verify", nil, "ask the provider whether each key is alive, by the free request: anthropic (when nothing follows), openai")
	fs.Lookup("verify").NoOptDefVal = "anthropic"
	fs.StringArrayVar(&f.urls, "provider-url", nil, "ask at this `[FAMILY=]URL` instead of the provider's own host; https, or http to loopback")
	fs.StringArrayVar(&f.baselines, "baseline", nil, "`FILE` that names keys to leave alone; may be given several times")
	fs.StringArrayVar(&f.knownKeys, "known-keys", nil, "`FILE` that names keys of an unfamiliar shape to look for; may be given several times")
	fs.BoolVar(&f.known, "known", false, "search histories too for known keys of an unfamiliar shape, which reads every object whole")
	fs.BoolVar(&f.trust, "trust-repo-ignores", false, "in hooks and CI, let allow marks and a baseline in what is scanned count")
	fs.BoolVar(&f.strict, "strict", false, "count archives that cannot be opened, and limits that are reached, as not searched")
	fs.BoolVar(&f.hint, "hint", false, "show the public prefix and the last four characters of each key")
	fs.BoolVar(&f.again, "again", false, "search all of a history, not only what is new since the last scan of it, and remember nothing")
	fs.IntVar(&f.workers, "workers", 0, "how many goroutines search (default one for each processor)")
}

const scanLong = `Scan searches files, directories, git repositories with their whole history, bundles and archives for keys, and says of each key where it is,
how long it was exposed, whether it was pushed, and with --verify whether it is alive. It needs no configuration and no account.

PATH is a directory, a file, a repository or a bundle; "-" is standard input, and nothing means the current directory. Hidden, ignored and
untracked files are searched too. Nothing of what is searched is run or obeyed, and nothing is written into it. No value is ever shown.

Exit codes: 0 no key · 8 a key was found · 9 none was found, and something was not searched · 2 wrong usage. docs/scan.md says more.`

func (c *console) scanCommand() *cobra.Command {
	var f scanFlags
	cmd := &cobra.Command{
		Use: "scan [PATH...]", Short: "find every leaked key in files and git histories", GroupID: "keys", Args: cobra.ArbitraryArgs,
		Annotations: map[string]string{takesArguments: "yes"},
		Long:        scanLong,
		Example: `  keywright scan
  keywright scan ~/src/support --verify
  keywright scan --format sarif --output scan.sarif
  kubectl logs deploy/web | keywright scan -
  keywright scan show kf_0123456789abcdef ~/src/support`,
		RunE: func(cmd *cobra.Command, args []string) error { return c.scan(cmd, args, f) },
	}
	f.where(cmd.Flags())
	fl := cmd.Flags()
	fl.BoolVar(&f.all, "all", false, "list ignored keys, and every place")
	fl.StringVar(&f.format, "format", "", "how to write the report: "+strings.Join(formats(), ", ")+" (default table)")
	fl.StringVarP(&f.output, "output", "o", "", "write the report into `FILE`, of mode 0600, whole or not at all")
	fl.StringArrayVar(&f.also, "also", nil, "write the same report in another form too: `FORMAT=FILE`, as --output does; may be given several times")
	fl.BoolVar(&f.staged, "staged", false, "search what the next commit takes in: the staged blobs that HEAD lacks")
	fl.StringVar(&f.prePush, "pre-push", "", "search what a push to this `REMOTE` sends; reads what git hands to a pre-push hook")
	fl.BoolVar(&f.preReceive, "pre-receive", false, "search what a push brings; reads what git hands to a pre-receive hook")
	cmd.AddCommand(c.scanShow(), c.scanKnown())
	return cmd
}

// takesArguments marks a command that has subcommands and takes arguments of its own.
const takesArguments = "takes arguments"

func formats() []string {
	return []string{"table", "json", "jsonl", "sarif", "github", "markdown", "html"}
}

// written are the formats that are written once a scan has ended, and need no terminal.
func written() map[string]func(*report.Report, io.Writer) error {
	return map[string]func(*report.Report, io.Writer) error{
		"json": (*report.Report).JSON, "sarif": (*report.Report).SARIF, "github": (*report.Report).Annotations, "markdown": (*report.Report).Markdown,
		"html": (*report.Report).HTML,
	}
}

func (c *console) scan(cmd *cobra.Command, args []string, f scanFlags) error {
	if c.json {
		if f.format != "" && f.format != "json" {
			return usageError{fault.New(fault.Invalid, "--json and --format "+fmt.Sprintf("%q", f.format)+" exclude each other")}
		}
		f.format = "json"
	}
	if f.format == "" {
		f.format = "table"
	}
	if !slices.Contains(formats(), f.format) {
		return usageError{fault.New(fault.Invalid, fmt.Sprintf("--format: there is no %q", f.format), fault.Hint("one of %s", strings.Join(formats(), ", ")))}
	}
	for _, a := range f.also {
		format, file, _ := strings.Cut(a, "=")
		if _, ok := written()[format]; !ok || file == "" {
			return usageError{fault.New(fault.Invalid, "--also: it must be FORMAT=FILE", fault.Hint("json, sarif, github, markdown or html; a table and jsonl are written by --format"))}
		}
	}
	s, err := c.newScan(cmd, args, f)
	if err != nil {
		return err
	}
	w, done := c.scanOutput(f.output)
	if f.format == "jsonl" {
		s.o.Stream = report.NewStream(w)
	}
	r, err := s.run(cmd.Context())
	if err != nil {
		return err
	}
	table := report.TableOptions{Colour: f.output == "" && c.coloured(), All: f.all, Next: s.o.Hook == run.NoHook}
	switch f.format {
	case "table":
		if quiet := s.o.Hook != run.NoHook && r.Complete && !r.Found(); !quiet {
			err = r.Table(w, table)
		}
	case "jsonl":
		err = s.o.Stream.End(r)
	default:
		err = written()[f.format](r, w)
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "write report")
	}
	if err := done(); err != nil {
		return err
	}
	for _, a := range f.also {
		format, file, _ := strings.Cut(a, "=")
		w, done := c.scanOutput(file)
		if err := written()[format](r, w); err != nil {
			return fault.Wrap(fault.Unavailable, err, "write report")
		}
		if err := done(); err != nil {
			return err
		}
	}
	if f.output != "" {
		fmt.Fprintf(c.err, "keywright: %s\n", r.Summary())
	}
	return outcome(r)
}

// outcome is the exit code of a report: found wins over incomplete.
func outcome(r *report.Report) error {
	switch {
	case r.Found():
		return silent(fault.Findings)
	case !r.Complete:
		return silent(fault.Incomplete)
	}
	return nil
}

func (c *console) scanShow() *cobra.Command {
	var f scanFlags
	cmd := &cobra.Command{
		Use: "show FINGERPRINT [PATH...]", Short: "tell the story of one key, and what to do next", Args: cobra.MinimumNArgs(1),
		Long: `Show scans again and tells what is known about one key: its exposure with the commits, every place, and what to do, in the right order. The
fingerprint may be cut short while it is unique.`,
		Example: "  keywright scan show kf_0123456789abcdef\n  keywright scan show kf_0123 ~/src/support --verify",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.newScan(cmd, args[1:], f)
			if err != nil {
				return err
			}
			r, err := s.run(cmd.Context())
			if err != nil {
				return err
			}
			var found []*report.Key
			for i := range r.Keys {
				if want := strings.TrimSuffix(args[0], "…"); len(want) > 3 && strings.HasPrefix(string(r.Keys[i].Fingerprint), want) {
					found = append(found, &r.Keys[i])
				}
			}
			switch len(found) {
			case 0:
				return fault.New(fault.NotFound, fmt.Sprintf("find %s: the scan found no such key", s.masker.Text(args[0])), fault.Hint("keywright scan lists what is found; give the same paths"))
			case 1:
			default:
				return fault.New(fault.Conflict, fmt.Sprintf("find %s: %d keys begin so", s.masker.Text(args[0]), len(found)), fault.Hint("give more of the fingerprint"))
			}
			if c.json {
				return c.printJSON(struct {
					Format   string      `json:"format"`
					Complete bool        `json:"complete"`
					Key      *report.Key `json:"key"`
					Next     []string    `json:"next"`
				}{r.Format, r.Complete, found[0], found[0].Next()})
			}
			return r.Story(c.out, found[0], report.TableOptions{Colour: c.coloured(), All: true})
		},
	}
	f.where(cmd.Flags())
	return cmd
}

// scanning is a scan that is ready to run.
type scanning struct {
	c      *console
	o      run.Options
	store  string // where the key of local names is kept, and empty where nowhere
	fresh  bool   // the key of local names is new
	key    []byte
	masker *report.Masker
	known  *inventory // nil without --config
}

// newScan turns flags into options.
func (c *console) newScan(cmd *cobra.Command, args []string, f scanFlags) (*scanning, error) {
	bad := func(message, hint string) error {
		return usageError{fault.New(fault.Invalid, message, fault.Hint("%s", hint))}
	}
	s := &scanning{c: c, masker: report.NewMasker(scan.New(scan.Options{}))}
	s.o = run.Options{
		Paths: args, Stdin: c.in, RespectGitignore: f.gitignore, FollowExternal: f.external,
		Verify: f.verify, Hint: f.hint, Strict: f.strict, Workers: f.workers, Version: Version(), Progress: &run.Progress{},
	}
	if f.workers <= 0 {
		s.o.Workers = runtime.GOMAXPROCS(0)
	}
	switch {
	case f.noHistory && f.historyOnly:
		return nil, bad("--no-history and --history-only exclude each other", "give one of them")
	case f.noHistory:
		s.o.History = run.NoHistory
	case f.historyOnly:
		s.o.History = run.OnlyHistory
	}
	if err := s.hook(cmd, f); err != nil {
		return nil, err
	}
	if len(s.o.Paths) == 0 {
		s.o.Paths = []string{"."}
	}
	var err error
	if s.o.VerifyURLs, err = providerURLs(f.urls); err != nil {
		return nil, err
	}
	dirs, dirsErr := config.UserDirs()
	if err := s.baselines(f, dirs, dirsErr == nil); err != nil {
		return nil, err
	}
	if err = s.inventory(cmd.Context(), f, dirs, dirsErr == nil); err != nil {
		return nil, err
	}
	if dirsErr == nil {
		s.store = filepath.Join(dirs.State, "scan", "local-names.key")
		if !f.again && s.o.Hook == run.NoHook && !inCI() {
			s.o.States, s.o.Detectors = states{filepath.Join(dirs.State, "scan", "histories")}, detectors()
		}
	}
	s.localNames()
	return s, nil
}

// hook sets the options of a hook, and where it looks.
func (s *scanning) hook(cmd *cobra.Command, f scanFlags) error {
	n := 0
	if f.staged {
		s.o.Hook = run.Staged
		n++
	}
	if cmd.Flags().Changed("pre-push") {
		s.o.Hook, s.o.Remote, s.o.Input = run.PrePush, f.prePush, s.c.in
		n++
	}
	if f.preReceive {
		s.o.Hook, s.o.Input = run.PreReceive, s.c.in
		n++
	}
	switch {
	case n == 0:
		return nil
	case n > 1:
		return usageError{fault.New(fault.Invalid, "--staged, --pre-push and --pre-receive exclude each other")}
	case len(s.o.Paths) > 1 || len(s.o.Paths) == 1 && s.o.Paths[0] == "-":
		return usageError{fault.New(fault.Invalid, "a hook looks at one repository")}
	case f.noHistory || f.historyOnly || f.gitignore:
		return usageError{fault.New(fault.Invalid, "--no-history, --history-only and --respect-gitignore mean nothing in a hook")}
	}
	switch dir := os.Getenv("GIT_DIR"); {
	case len(s.o.Paths) == 1:
	case dir != "":
		s.o.Paths = []string{dir}
	default:
		found, err := change.Find(".")
		if err != nil {
			return err
		}
		s.o.Paths = []string{found}
	}
	if s.o.Hook == run.Staged {
		s.o.Index = os.Getenv("GIT_INDEX_FILE")
	}
	if objects := os.Getenv("GIT_OBJECT_DIRECTORY"); s.o.Hook == run.PreReceive && os.Getenv("GIT_QUARANTINE_PATH") != "" && objects != "" {
		s.o.Objects = []string{objects}
	}
	return nil
}

// providerURLs reads --provider-url.
func providerURLs(all []string) (map[string]string, error) {
	urls := map[string]string{}
	for _, u := range all {
		family, url, ok := strings.Cut(u, "=")
		if !ok || strings.Contains(family, ":") {
			family, url = "anthropic", u
		}
		if urls[family] != "" {
			return nil, usageError{fault.New(fault.Invalid, fmt.Sprintf("--provider-url: two for %q", family))}
		}
		urls[family] = url
	}
	return urls, nil
}

// inCI reports whether a scan runs unattended on what others wrote.
func inCI() bool {
	v := os.Getenv("CI")
	return v != "" && v != "false" && v != "0"
}

// baselines reads the user's own baseline and those that are named. In hooks and CI one that lies in what is scanned counts only when asked.
func (s *scanning) baselines(f scanFlags, dirs config.Dirs, haveDirs bool) error {
	strict := (s.o.Hook != run.NoHook || inCI()) && !f.trust
	s.o.IgnoreMarks = strict
	trusted, distrusted := &baseline.Baseline{}, &baseline.Baseline{}
	add := func(to *baseline.Baseline, name string, text []byte) error {
		b, err := baseline.Parse(name, text)
		if err != nil {
			return err
		}
		for _, e := range b.Entries() {
			if err := to.Add(e); err != nil {
				return err
			}
		}
		return nil
	}
	if haveDirs {
		own := filepath.Join(dirs.Config, baselineName)
		text, err := keyfile.Read(own, keyfile.Public, baseline.MaxSize)
		if err == nil {
			err = add(trusted, own, text)
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	for _, name := range f.baselines {
		text, err := readNamed(name, "baseline", baseline.MaxSize)
		if err != nil {
			return err
		}
		to := trusted
		if strict && s.inside(name) {
			to = distrusted
		}
		if err := add(to, name, text); err != nil {
			return err
		}
	}
	s.o.Baseline, s.o.Distrusted = trusted, distrusted
	return nil
}

// inside reports whether a file lies in what is scanned.
func (s *scanning) inside(name string) bool {
	for _, p := range s.o.Paths {
		if p == "-" {
			continue
		}
		if s.o.Hook != run.NoHook {
			p = strings.TrimSuffix(strings.TrimSuffix(p, "/"), ".git")
			if p == "" {
				p = "."
			}
		}
		if keyfile.Outside(name, p) != nil {
			return true
		}
	}
	return false
}

func readBounded(name string, most int64) ([]byte, error) { return readNamed(name, "baseline", most) }

// readNamed reads a file that a person named. what says in an error what it is.
func readNamed(name, what string, most int64) ([]byte, error) {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.Newf(fault.NotFound, "read %s %q: no such file", what, name)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Forbidden, err, "read "+what)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "read "+what)
	}
	return text, nil
}

// run scans, and shows how far it is while a person waits.
func (s *scanning) run(ctx context.Context) (*report.Report, error) {
	stop := s.c.scanProgress(s.o.Progress)
	r, err := run.Run(ctx, s.o)
	stop()
	if err != nil {
		if ctx.Err() != nil {
			return nil, fault.New(fault.Canceled, "scan: interrupted, nothing was written")
		}
		return nil, err
	}
	s.keepLocalNames(r)
	if err := s.usage(ctx, r); err != nil {
		return nil, err
	}
	return r, nil
}

// scanProgress draws a line on the terminal once a scan has taken a second. The function that it gives ends that.
func (c *console) scanProgress(p *run.Progress) (stop func()) {
	if !isTerminal(c.err) {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		began, drawn := time.Now(), false
		for {
			select {
			case <-done:
				if drawn {
					fmt.Fprint(c.err, "\r\x1b[K")
				}
				return
			case <-tick.C:
				if time.Since(began) < time.Second {
					continue
				}
				phase, files, bytes, keys := p.Now()
				if len(phase) > 40 {
					phase = phase[:40] + "…"
				}
				fmt.Fprintf(c.err, "\r\x1b[K%s  %d files  %.1f MB  %d keys", phase, files, float64(bytes)/1e6, keys)
				drawn = true
			}
		}
	}()
	return func() { close(done); <-ended }
}

// scanOutput gives where a report goes. With a name that is memory until done, which puts a whole file of mode 0600 in the place of the named
// one, so that a scan that is stopped leaves nothing behind.
func (c *console) scanOutput(name string) (w io.Writer, done func() error) {
	if name == "" {
		return c.out, func() error { return nil }
	}
	var b bytes.Buffer
	return &b, func() error {
		if err := replaceFile(name, b.Bytes()); err != nil {
			return fault.Wrap(fault.Forbidden, err, "write report")
		}
		return nil
	}
}
