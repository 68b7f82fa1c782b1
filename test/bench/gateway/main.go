// Command gateway measures the built program "keywright gateway" from outside, in front of an imitation of the provider, on loopback. It asks
// nothing of any network, and makes its own keys. It prints one table: what the gateway costs beside a bare proxy, and what it does when keys change,
// when one dies, when streams break, and with a canary. It ends with 1 when a row on behaviour is not met.
//
// "soak" runs it for long: a steady load with streams, a new key each minute, and what the
// process holds over time. It ends with 1 when a request failed, when a former key was used, or when memory grew.
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
	b := &bench{}
	f.IntVar(&b.rounds, "rounds", 10, "how often each proxy has its turn in row 1")
	f.IntVar(&b.requests, "requests", 3000, "how many requests a turn has in row 1")
	f.IntVar(&b.size, "size", 100, "how large rows 2 to 8 are, in parts of a hundred")
	rows := f.String("rows", "", "the rows to make, as 2,3,5 (default all)")
	f.StringVar(&b.binary, "binary", "", "measure this program instead of building one")
	if err := f.Parse(args); err != nil {
		return err
	}
	wanted, err := b.parseRows(*rows)
	if err != nil {
		return err
	}
	if b.size < 1 || b.rounds < 1 || b.requests < 3 {
		return errors.New("size, rounds and requests must be more than nothing")
	}
	return within(ctx, b.binary, func(ctx context.Context, binary, dir string) error {
		b.binary, b.dir = binary, dir
		machine(out)
		return b.print(ctx, out, wanted)
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
