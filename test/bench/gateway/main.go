// Command gateway measures the built program "keywright gateway" from outside, in front of an imitation of the provider, on loopback. It asks
// nothing of any network, and makes its own keys. "soak" runs it for long: a steady load with streams, a new key each minute, and what the
// process holds over time. It ends with 1 when a request failed, when a former key was used, or when memory grew.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	child, err := serveBare()
	if !child {
		err = run(ctx, os.Stdout, os.Args[1:])
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/gateway:", err)
		os.Exit(1) //nolint:forbidigo // This is main.
	}
}

func run(ctx context.Context, out io.Writer, args []string) error {
	if len(args) > 0 && args[0] == "soak" {
		return runSoak(ctx, out, args[1:])
	}
	f := flag.NewFlagSet("gateway", flag.ContinueOnError)
	var c cost
	f.IntVar(&c.rounds, "rounds", 10, "how often each proxy has its turn")
	f.IntVar(&c.requests, "requests", 3000, "how many requests a turn has")
	binary := f.String("binary", "", "measure this program instead of building one")
	if err := f.Parse(args); err != nil {
		return err
	}
	return within(ctx, *binary, func(ctx context.Context, binary, dir string) error {
		machine(out)
		return c.run(ctx, binary, dir, func(s scene) {
			fmt.Fprintf(out, "%4d connections: bare %s, gateway %s, ratio %.2f (rounds %.2f to %.2f, middle %.2f), p50 %s and %s, added %s, PSS %.1f MiB\n", s.connections, s.bare, s.ours, s.ratio,
				s.ratios[0], s.ratios[len(s.ratios)-1], s.ratios[len(s.ratios)/2], s.bareP50, s.oursP50, s.added, mib(s.pss))
		})
	})
}

func runSoak(ctx context.Context, out io.Writer, args []string) error {
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	s := soak{out: out}
	f.DurationVar(&s.duration, "duration", time.Hour, "how long the load lasts")
	f.DurationVar(&s.swapEvery, "swap-every", time.Minute, "how often the key changes")
	f.DurationVar(&s.sampleEvery, "sample-every", 0, "how often a line is printed (default a 60th of the duration)")
	f.IntVar(&s.rate, "rate", 200, "requests per second")
	f.IntVar(&s.streams, "streams", 30, "how many requests of a hundred are streams")
	binary := f.String("binary", "", "measure this program instead of building one")
	if err := f.Parse(args); err != nil {
		return err
	}
	return within(ctx, *binary, s.run)
}

// within gives work a program and a folder that is removed at the end.
func within(ctx context.Context, binary string, work func(ctx context.Context, binary, dir string) error) error {
	dir, err := os.MkdirTemp("", "keywright-bench-gateway-")
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
	return work(ctx, binary, dir)
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

func machine(out io.Writer) {
	fmt.Fprintf(out, "%s/%s, %d processors, %s, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
}
