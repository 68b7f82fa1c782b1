// Command scan measures the scan of git histories from outside: on each repository it runs "keywright scan", "git cat-file" over all objects, and
// "git log -p" into grep, in turn, and prints the processor time of the whole processes and the ratios; with gitleaks on the PATH, that, too. It
// compares work trees with rg, times a hook with one staged file, and a second scan with nothing new. It judges nothing, since machines
// differ. It reads the repositories that BENCH_REPOS and the folders that BENCH_TREES names, writes into none, and asks nothing of any network.
// "make bench-scan" calls it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	runs := flag.Int("runs", 3, "how often the scan and git cat-file run on each repository")
	logs := flag.Int("logs", 1, "how often git log -p, and gitleaks, run, which take minutes on a long history")
	binary := flag.String("binary", "", "measure this program instead of building one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := bench(ctx, os.Stdout, *binary, strings.Fields(os.Getenv("BENCH_REPOS")), strings.Fields(os.Getenv("BENCH_TREES")), *runs, *logs)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // This is main.
	}
}

func bench(ctx context.Context, out io.Writer, binary string, repositories, trees []string, runs, logs int) error {
	switch {
	case len(repositories)+len(trees) == 0:
		return errors.New("BENCH_REPOS and BENCH_TREES name nothing; they take paths, with spaces between them")
	case runs < 1 || logs < 0 || logs > runs:
		return errors.New("runs must be 1 at least, and logs no more than runs")
	}
	dir, err := os.MkdirTemp("", "keywright-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // It is a temporary directory.
	if binary == "" {
		binary = filepath.Join(dir, "keywright")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "github.com/keywright/keywright/cmd/keywright")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build keywright: %w\n%s", err, text)
		}
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s/%s, %d processors, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	fmt.Fprintln(out, "median processor seconds; of the scan also wall seconds, and peak MiB beyond the packs")
	fmt.Fprintf(out, "%-14s %8s %8s %8s %6s %6s %9s %9s %9s\n", "history", "pack MiB", "scan", "cat-file", "wall", "MiB", "log|grep", "scan/cat", "scan/log")
	var rows []row
	for _, r := range repositories {
		one, err := measure(ctx, out, dir, binary, r, runs, logs)
		if err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		rows = append(rows, one)
	}
	m := more{ctx: ctx, out: out, dir: dir, binary: binary, runs: runs}
	return m.all(rows, trees, logs > 0)
}

// row is what the other comparisons take over from the first table.
type row struct {
	name, path             string
	packs, processor, wall float64
}

// measure runs the three in turn, so that a machine that grows slower does so for all.
func measure(ctx context.Context, out io.Writer, dir, binary, repository string, runs, logs int) (r row, err error) {
	if repository, err = filepath.Abs(repository); err != nil {
		return r, err
	}
	packs, err := packed(ctx, dir, repository)
	if err != nil {
		return r, err
	}
	program := func(name string, args ...string) *exec.Cmd { return program(ctx, dir, name, args...) }
	git := func(args ...string) *exec.Cmd {
		return program("git", append([]string{"-c", "safe.directory=*", "-C", repository}, args...)...)
	}
	var scan, cat, log, wall, beyond []float64
	incomplete := ""
	for i := range runs {
		// A key that is found, and a part that is missing, are outcomes.
		x, err := run([]int{0, 8, 9}, program(binary, "scan", "--again", "--history-only", repository))
		if err != nil {
			return r, err
		}
		if x.code == 9 {
			incomplete = "  (parts are missing)"
		}
		scan, wall, beyond = append(scan, x.processor), append(wall, x.wall), append(beyond, max(0, x.peak-packs))
		if x, err = run([]int{0}, git("cat-file", "--batch-all-objects", "--batch", "--unordered", "--buffer")); err != nil {
			return r, err
		}
		cat = append(cat, x.processor)
		if i < logs {
			// grep answers 1 when there is nothing.
			if x, err = run([]int{0, 1}, git("log", "-p", "--all"), program("grep", "-c", "sk-ant-")); err != nil {
				return r, err
			}
			log = append(log, x.processor)
		}
	}
	ours := median(scan)
	r = row{strings.TrimSuffix(filepath.Base(repository), ".git"), repository, packs, ours, median(wall)}
	fmt.Fprintf(out, "%-14s %8.0f %8.2f %8.2f %6.2f %6.0f", r.name, packs, ours, median(cat), median(wall), slices.Max(beyond))
	if len(log) == 0 {
		fmt.Fprintf(out, " %9s %9.2f %9s%s\n", "-", ours/median(cat), "-", incomplete)
		return r, nil
	}
	fmt.Fprintf(out, " %9.2f %9.2f %9.3f%s\n", median(log), ours/median(cat), ours/median(log), incomplete)
	return r, nil
}

// program is a command with little in its environment, in a folder that nobody needs.
func program(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1"}
	return cmd
}

// packed gives the size of a repository's packs in MiB.
func packed(ctx context.Context, dir, repository string) (mib float64, err error) {
	cmd := exec.CommandContext(ctx, "git", "-c", "safe.directory=*", "-C", repository, "rev-parse", "--git-path", "objects/pack")
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1"}
	text, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("ask git for the packs: %w", err)
	}
	path := strings.TrimSpace(string(text))
	if !filepath.IsAbs(path) {
		path = filepath.Join(repository, path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return float64(sum) / (1 << 20), nil
}

// spent is what a row of processes took: seconds, and MiB of the one that took most.
type spent struct {
	processor, wall, peak float64
	code                  int // of the last one
}

// run starts one process, or several with a pipe between each and the next, and waits for all. The output of the last goes nowhere, and it
// must end with one of the codes; the others must end with 0.
func run(codes []int, cmds ...*exec.Cmd) (s spent, err error) {
	var ends []*os.File
	closeEnds := func() {
		for _, f := range ends {
			f.Close()
		}
	}
	errs := make([]strings.Builder, len(cmds))
	for i, c := range cmds {
		c.Stderr = &errs[i]
		if i > 0 {
			r, w, err := os.Pipe()
			if err != nil {
				closeEnds()
				return s, err
			}
			ends = append(ends, r, w)
			cmds[i-1].Stdout, c.Stdin = w, r //nolint:gosec // i is not 0
		}
	}
	begin := time.Now()
	started := 0
	for _, c := range cmds {
		if err = c.Start(); err != nil {
			break
		}
		started++
	}
	closeEnds() // the processes have their own
	for i, c := range cmds[:started] {
		_ = c.Wait() // its code is looked at
		s.code = c.ProcessState.ExitCode()
		if err == nil && (i < len(cmds)-1 && s.code != 0 || i == len(cmds)-1 && !slices.Contains(codes, s.code)) {
			err = fmt.Errorf("run %s: exit %d\n%s", filepath.Base(c.Path), s.code, errs[i].String())
		}
		s.processor += (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
		if u, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
			kib := float64(u.Maxrss)
			if runtime.GOOS == "darwin" { // which counts bytes
				kib /= 1 << 10
			}
			s.peak = max(s.peak, kib/(1<<10))
		}
	}
	s.wall = time.Since(begin).Seconds()
	return s, err
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
