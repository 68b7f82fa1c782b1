// Command bench measures the built program from outside, as a person meets it: it builds the release binary, fills a store with a thousand
// keys, runs "keywright status" many times, and prints what each run took. It judges nothing about time, since machines differ; the size of
// the binary is the same everywhere, so a binary over the bar ends it with 1. It asks nothing of any network. "make bench" calls it.
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
	"time"
)

// maxBinary is the bar for the stripped binary, in bytes.
const maxBinary = 80 << 20

func main() {
	runs := flag.Int("runs", 20, "how often each command runs")
	keys := flag.Int("keys", 1000, "how many keys there are")
	binary := flag.String("binary", "", "measure this program instead of building one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := bench(ctx, os.Stdout, *binary, *keys, *runs)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // This is main.
	}
}

func bench(ctx context.Context, out io.Writer, binary string, keys, runs int) error {
	if keys < 1 || runs < 1 {
		return errors.New("keys and runs must be 1 at least")
	}
	dir, err := os.MkdirTemp("", "keywright-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // It is a temporary directory.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	if binary == "" {
		binary = filepath.Join(dir, "keywright")
		if err := build(ctx, binary); err != nil {
			return err
		}
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s/%s, %d processors, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	info, err := os.Stat(binary)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "binary: %.1f MiB of %d MiB\n", float64(info.Size())/(1<<20), maxBinary>>20)

	for _, s := range []scene{
		{name: "one key in the file, %d in the store", configured: 1, stored: keys},
		{name: "%d keys in the file and in the store", configured: keys, stored: keys},
	} {
		if err := s.play(ctx, out, dir, binary, runs); err != nil {
			return err
		}
	}
	if info.Size() > maxBinary {
		return errors.New("the binary is larger than its bar")
	}
	return nil
}

// build makes the binary as a release is made.
func build(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/keywright/keywright/cmd/keywright")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build keywright: %w\n%s", err, text)
	}
	return nil
}

// play measures one scene. The two commands run in turn, so that a machine that grows slower does so for both.
func (s scene) play(ctx context.Context, out io.Writer, dir, binary string, runs int) error {
	env, err := s.prepare(ctx, dir)
	if err != nil {
		return fmt.Errorf("prepare scene: %w", err)
	}
	run := func(args ...string) (spent, error) {
		return start(ctx, env, binary, s.stored, args...)
	}
	status := []string{"status", "--config", filepath.Join(env.home, "keywright.yaml")}
	var ours, bare sample
	for i := range runs + 1 {
		a, err := run(status...)
		if err != nil {
			return err
		}
		b, err := run("--version")
		if err != nil {
			return err
		}
		if i > 0 { // the first makes the key files and warms the disk's cache
			ours, bare = append(ours, a), append(bare, b)
		}
	}
	var ratios []float64
	for i := range ours {
		ratios = append(ratios, float64(ours[i].wall)/float64(bare[i].wall))
	}
	slices.Sort(ratios)
	fmt.Fprintf(out, "\n"+s.name+", %d runs\n", s.stored, runs)
	fmt.Fprintf(out, "  %-22s %9s %9s %9s\n", "", "min", "median", "max")
	for _, row := range []struct {
		what string
		list []time.Duration
	}{
		{"status, wall ms", ours.times(spent.byWall)},
		{"status, processor ms", ours.times(spent.byProcessor)},
		{"--version, wall ms", bare.times(spent.byWall)},
		{"--version, processor ms", bare.times(spent.byProcessor)},
	} {
		fmt.Fprintf(out, "  %-24s", row.what)
		for _, d := range []time.Duration{row.list[0], row.list[len(row.list)/2], row.list[len(row.list)-1]} {
			fmt.Fprintf(out, " %8.1f", float64(d)/float64(time.Millisecond))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "  %-24s %8.1f %8.1f %8.1f\n", "status to --version", ratios[0], ratios[len(ratios)/2], ratios[len(ratios)-1])
	fmt.Fprintf(out, "  %-24s %8.1f\n", "status, peak MiB", float64(ours.peak())/(1<<20))
	return nil
}

// spent is what one process took, from its start until it was reaped.
type spent struct {
	wall, processor time.Duration
	peak            int64 // bytes of memory
}

func (s spent) byWall() time.Duration      { return s.wall }
func (s spent) byProcessor() time.Duration { return s.processor }

type sample []spent

func (s sample) times(of func(spent) time.Duration) []time.Duration {
	var list []time.Duration
	for _, x := range s {
		list = append(list, of(x))
	}
	slices.Sort(list)
	return list
}

// peak gives the largest peak of all runs.
func (s sample) peak() (most int64) {
	for _, x := range s {
		most = max(most, x.peak)
	}
	return most
}
