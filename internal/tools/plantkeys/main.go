// Command plantkeys plants made-up keys in a throw-away folder and a throw-away repository, and compares what a scan says of them with the truth.
// Without an argument it does so for -seeds seeds with the program that it builds, or with -binary, and ends with 1 when one key is missed, one
// too many is told, or one word about an exposure is wrong. With a folder as argument it plants there, writes the truth beside it, and ends, so
// that another scanner can be tried on the same keys. "make plant-scan" calls it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"

	"github.com/keywright/keywright/internal/scan/plant"
)

func main() {
	seeds := flag.Int("seeds", 3, "how many seeds to plant and compare")
	first := flag.Uint64("seed", 1, "the first seed, or the only one when a folder is given")
	binary := flag.String("binary", "", "run this program instead of building one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, *binary, flag.Arg(0), *first, *seeds)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "plantkeys:", err)
		os.Exit(1) //nolint:forbidigo // This is main.
	}
}

func run(ctx context.Context, out io.Writer, binary, folder string, first uint64, seeds int) error {
	if folder != "" {
		_, _, err := sow(folder, first, false)
		return err
	}
	dir, err := os.MkdirTemp("", "keywright-plant-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // It is a temporary directory.
	if binary == "" {
		binary = filepath.Join(dir, "keywright")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/keywright/keywright/cmd/keywright")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build keywright: %w\n%s", err, text)
		}
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	wrong := 0
	for i := range seeds {
		n, err := compare(ctx, out, dir, binary, first+uint64(i), i)
		if err != nil {
			return fmt.Errorf("seed %d: %w", first+uint64(i), err)
		}
		wrong += n
	}
	if wrong > 0 {
		return fmt.Errorf("%d differences from the truth", wrong)
	}
	return nil
}

// sow plants both below folder, and writes the truth beside each.
func sow(folder string, seed uint64, wide bool) (files, repository plant.Truth, err error) {
	for _, sub := range []string{"files", "repository"} {
		if err = os.MkdirAll(filepath.Join(folder, sub), 0o700); err != nil {
			return files, repository, err
		}
		if rest, err := os.ReadDir(filepath.Join(folder, sub)); err != nil || len(rest) > 0 {
			return files, repository, errors.Join(err, fmt.Errorf("plant in %s: it is not empty", filepath.Join(folder, sub)))
		}
	}
	if files, err = plant.Tree(filepath.Join(folder, "files"), seed); err != nil {
		return files, repository, err
	}
	if repository, err = plant.Repository(filepath.Join(folder, "repository"), seed, wide); err != nil {
		return files, repository, err
	}
	if err = files.Write(filepath.Join(folder, "files.json")); err == nil {
		err = repository.Write(filepath.Join(folder, "repository.json"))
	}
	return files, repository, err
}

// compare plants one seed and compares. The repository of every second seed is packed, where git is there, and that of every third names its
// objects by SHA-256.
func compare(ctx context.Context, out io.Writer, dir, binary string, seed uint64, i int) (wrong int, err error) {
	here := filepath.Join(dir, fmt.Sprint("seed", seed))
	wide := i%3 == 2
	files, repository, err := sow(here, seed, wide)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(here) //nolint:errcheck // It is a temporary directory.
	how := "loose objects"
	if git, err := exec.LookPath("git"); err == nil && i%2 == 1 {
		how = "packed"
		for _, args := range [][]string{{"repack", "-qadfk", "--depth=40"}, {"prune-packed", "-q"}} {
			cmd := exec.CommandContext(ctx, git, append([]string{"-C", filepath.Join(here, "repository")}, args...)...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1"}
			if text, err := cmd.CombinedOutput(); err != nil {
				return 0, fmt.Errorf("pack: %w\n%s", err, text)
			}
		}
	}
	if wide {
		how += ", SHA-256"
	}
	for _, part := range []struct {
		name, narrow string
		truth        plant.Truth
	}{{"files", "--no-history", files}, {"repository", "--history-only", repository}} {
		r, err := scan(ctx, dir, binary, part.narrow, filepath.Join(here, part.name))
		if err != nil {
			return wrong, err
		}
		bad := differences(part.truth, r)
		for _, line := range bad {
			fmt.Fprintf(out, "seed %d, %s: %s\n", seed, part.name, line)
		}
		wrong += len(bad)
		note := ""
		if part.name == "repository" {
			note = " (" + how + ")"
		}
		fmt.Fprintf(out, "seed %d, %s%s: %d keys planted, %d told, %d negatives, %d differences\n", seed, part.name, note, len(part.truth.Keys), len(r.Keys), len(part.truth.Negatives), len(bad))
	}
	return wrong, nil
}

// scan runs the program and reads its report.
func scan(ctx context.Context, dir, binary, narrow, path string) (r report, err error) {
	cmd := exec.CommandContext(ctx, binary, "scan", "--json", "--all", "--again", narrow, path)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	text, err := cmd.Output()
	// A key that was found is an outcome, and so is a file that holds what no key is and cannot be opened.
	if code := cmd.ProcessState.ExitCode(); !slices.Contains([]int{0, 8, 9}, code) {
		return r, fmt.Errorf("run the scan: %w", err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read the report: %w", err)
	}
	return r, nil
}
