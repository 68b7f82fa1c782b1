package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// more is what is measured beside git's own programs.
type more struct {
	ctx         context.Context
	out         io.Writer
	dir, binary string
	runs        int
}

func (m *more) program(name string, args ...string) *exec.Cmd {
	return program(m.ctx, m.dir, name, args...)
}

// all prints a line for each comparison.
func (m *more) all(rows []row, trees []string, slow bool) error {
	for _, r := range rows {
		m.say(r.name, "wall to own processor seconds", "%.2f", r.wall/r.processor)
	}
	if len(rows) > 1 {
		few := slices.MinFunc(rows, func(a, b row) int { return int(a.packs - b.packs) })
		many := slices.MaxFunc(rows, func(a, b row) int { return int(a.packs - b.packs) })
		m.say(few.name+" to "+many.name, "growth of processor seconds, of packs", "%.1f, %.1f", many.processor/few.processor, many.packs/few.packs)
	}
	for _, r := range rows {
		if err := m.again(r); err != nil {
			return fmt.Errorf("%s: %w", r.path, err)
		}
		if slow {
			if err := m.gitleaks(r); err != nil {
				return fmt.Errorf("%s: %w", r.path, err)
			}
		}
	}
	if err := m.hook(); err != nil {
		return fmt.Errorf("hook: %w", err)
	}
	for _, t := range trees {
		if err := m.tree(t); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
	}
	return nil
}

func (m *more) say(what, how, format string, figures ...any) {
	fmt.Fprintf(m.out, "%-24s %-48s %s\n", what, how, fmt.Sprintf(format, figures...))
}

// again measures a scan of a history that was scanned before. What the first one remembers goes into the temporary directory; as root it would go
// into the machine's.
func (m *more) again(r row) error {
	const how = "second scan, nothing new: processor seconds"
	if os.Getuid() == 0 {
		m.say(r.name, how, "- (not as root)")
		return nil
	}
	var spent []float64
	for i := range m.runs + 1 {
		x, err := run([]int{0, 8, 9}, m.program(m.binary, "scan", "--history-only", r.path))
		if err != nil {
			return err
		}
		if i > 0 {
			spent = append(spent, x.processor)
		}
	}
	m.say(r.name, how, "%.3f", median(spent))
	return nil
}

// rules are those of gitleaks for the provider's keys alone.
const rules = `title = "one provider"
[[rules]]
id = "api-key"
description = "API key"
regex = '''\b(sk-ant-api03-[a-zA-Z0-9_\-]{93}AA)'''
keywords = ["sk-ant-api03"]
[[rules]]
id = "admin-key"
description = "admin key"
regex = '''\b(sk-ant-admin01-[a-zA-Z0-9_\-]{93}AA)'''
keywords = ["sk-ant-admin01"]
`

// gitleaks measures that program, where it is installed.
func (m *more) gitleaks(r row) error {
	const how = "scan to gitleaks with one provider's rules"
	if _, err := exec.LookPath("gitleaks"); err != nil {
		m.say(r.name, how, "- (gitleaks is not installed)")
		return nil //nolint:nilerr // it need not be there
	}
	config := filepath.Join(m.dir, "gitleaks.toml")
	if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
		return err
	}
	cmd := m.program("gitleaks", "git", "--config", config, "--no-banner", "--log-level", "error", r.path)
	cmd.Env = append(cmd.Env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	x, err := run([]int{0, 1}, cmd) // 1 is a key that was found
	if err != nil {
		return err
	}
	m.say(r.name, how, "%.2f s to %.2f s: %.3f", r.processor, x.processor, r.processor/x.processor)
	return nil
}

// hook measures what a hook before a commit does, with one staged file.
func (m *more) hook() error {
	repository := filepath.Join(m.dir, "staged")
	text := strings.Builder{}
	for i := range 500 {
		text.WriteString("line " + strconv.Itoa(i) + " of a file\n")
	}
	for _, args := range [][]string{{"init", "-q", repository}, {"-C", repository, "add", "a.txt"}} {
		if _, err := run([]int{0}, m.program("git", args...)); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(repository, "a.txt"), []byte(text.String()), 0o600); err != nil {
			return err
		}
	}
	var spent []float64
	for range max(m.runs, 5) {
		cmd := m.program(m.binary, "scan", "--staged")
		cmd.Dir = repository
		x, err := run([]int{0}, cmd)
		if err != nil {
			return err
		}
		spent = append(spent, x.processor)
	}
	m.say("hook", "one staged file: processor seconds", "%.3f", median(spent))
	return nil
}

// tree compares a scan of files with rg, in turn; the ratio is the median of those of the pairs.
func (m *more) tree(path string) error {
	const how = "files, scan to rg -uuu"
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath("rg"); err != nil {
		m.say(filepath.Base(path), how, "- (rg is not installed)")
		return nil //nolint:nilerr // it need not be there
	}
	var ours, theirs, ratios []float64
	for i := range max(m.runs, 5) + 1 {
		x, err := run([]int{0, 8, 9}, m.program(m.binary, "scan", "--no-history", path))
		if err != nil {
			return err
		}
		y, err := run([]int{0, 1, 2}, m.program("rg", "-uuu", "-c", "sk-ant-", path)) // 1 when there is nothing
		if err != nil {
			return err
		}
		if i > 0 { // the first pair fills the cache of the disk
			ours, theirs, ratios = append(ours, x.processor), append(theirs, y.processor), append(ratios, x.processor/max(y.processor, 0.001))
		}
	}
	m.say(filepath.Base(path), how, "%.2f s to %.2f s: %.2f", median(ours), median(theirs), median(ratios))
	return nil
}
