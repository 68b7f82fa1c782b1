package demo_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/cli"
)

// TestMain makes this binary the program: the demo starts itself, with arguments that are none of a test's.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// show is a running demo.
type show struct {
	t     *testing.T
	cmd   *exec.Cmd
	tmp   string // its temporary directory
	lines chan string
	done  chan struct{}
	err   *bytes.Buffer // stderr; to be read after done
	all   *bytes.Buffer // stdout; to be read after lines is closed
}

// begin starts a demo without Moto, which takes long to start.
func begin(t *testing.T, program string, environment ...string) *show {
	t.Helper()
	s := &show{t: t, tmp: t.TempDir(), lines: make(chan string, 10_000), done: make(chan struct{}), err: &bytes.Buffer{}, all: &bytes.Buffer{}}
	s.cmd = exec.Command(program, "demo")
	s.cmd.Env = append([]string{"PATH=/nowhere", "TMPDIR=" + s.tmp, "HOME=" + s.tmp, "GORACE=" + os.Getenv("GORACE")}, environment...)
	s.cmd.Stderr = s.err
	// A pipe of our own: that of the package would be closed as soon as the process ends.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout = w
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go func() {
		defer close(s.lines)
		defer r.Close()
		for in := bufio.NewScanner(io.TeeReader(r, s.all)); in.Scan(); {
			s.lines <- in.Text()
		}
	}()
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // the exit code is asked for
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // an error means that it has ended
		<-s.done
	})
	return s
}

// see waits for a line of output with a text in it.
func (s *show) see(text string) {
	s.t.Helper()
	patience := time.NewTimer(2 * time.Minute)
	defer patience.Stop()
	for {
		select {
		case line, open := <-s.lines:
			if !open {
				<-s.done
				s.t.Fatalf("the demo ended before it said %q\n%s\n%s", text, s.all, s.err)
			}
			if strings.Contains(line, text) {
				return
			}
		case <-patience.C:
			s.t.Fatalf("the demo did not say %q", text)
		}
	}
}

// end waits for the end and gives the exit code.
func (s *show) end() int {
	s.t.Helper()
	patience := time.NewTimer(2 * time.Minute)
	defer patience.Stop()
	select {
	case <-s.done:
	case <-patience.C:
		s.t.Fatal("the demo does not end")
	}
	for range s.lines {
	}
	return s.cmd.ProcessState.ExitCode()
}

// nothingLeft waits until no process has its working directory below dir or was started from the demo's own: children of a killed parent end a
// moment later.
func (s *show) nothingLeft(dir string) {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	patience := time.NewTimer(30 * time.Second)
	defer patience.Stop()
	for {
		left := processes(s.t, dir)
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-patience.C:
			s.t.Fatalf("still running: %q", left)
		}
	}
}

// processes lists the command lines of processes that work below dir, or name it.
func processes(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		cwd, _ := os.Readlink(filepath.Join(filepath.Dir(path), "cwd")) // not readable for ordinary users
		if strings.HasPrefix(cwd, dir+"/") || bytes.Contains(line, []byte(dir+"/")) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}

func needProc(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/cmdline"); errors.Is(err, os.ErrNotExist) {
		t.Skip("this system does not show processes under /proc")
	}
}

func TestCtrlCLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	needProc(t)
	s := begin(t, os.Args[0])
	s.see("key adopt")
	if left := processes(t, s.tmp); len(left) < 4 {
		t.Errorf("the applications are not seen, so their end would not be: %q", left)
	}
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := s.end(); code != 130 {
		t.Errorf("exit code %d, want 130\n%s", code, s.err)
	}
	if !strings.Contains(s.err.String(), "interrupted") || strings.Contains(s.err.String(), "goroutine") {
		t.Errorf("stderr: %s", s.err)
	}
	s.nothingLeft(s.tmp)
	empty(t, s.tmp)
}

func TestKilledDemoTakesItsProcessesAlong(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends the children of a killed process")
	}
	needProc(t)
	s := begin(t, os.Args[0])
	s.see("key adopt")
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.end()
	s.nothingLeft(s.tmp)
}

func TestTroubleIsSaidAndCleanedUp(t *testing.T) {
	t.Parallel()
	needProc(t)
	// A directory that others can write to is one that the program refuses to take its configuration from.
	keep := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(keep, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(keep, 0o777); err != nil { // the point of the test
		t.Fatal(err)
	}
	s := begin(t, os.Args[0], "KEYWRIGHT_DEMO_KEEP="+keep)
	if code := s.end(); code == 0 || code == 130 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(s.err.String(), "run keywright key adopt prod-primary: exit code") {
		t.Errorf("stderr: %s", s.err)
	}
	s.nothingLeft(keep)
}

// run is begin and end, with a function that is called all the time in between.
func (s *show) run(ctx context.Context, watch func()) int {
	s.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return s.end()
		case <-ctx.Done():
			s.t.Fatal("the demo does not end")
		case <-tick.C:
			watch()
		}
	}
}
