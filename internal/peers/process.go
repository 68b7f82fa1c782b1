package peers

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// process is one running peer process.
type process struct {
	name string
	pid  int
	log  string        // path of the file that gets its stdout and stderr
	done chan struct{} // closed when it has ended
}

// stopGrace is how long a peer may take to end after SIGTERM before it is killed. Docker needs the most: it stops its
// containers first.
const stopGrace = 30 * time.Second

// start runs argv with the environment env and ends it when the test ends: SIGTERM, then SIGKILL after stopGrace. Should
// the test process die first, the kernel sends orphaned: SIGKILL, or SIGTERM to a process with something to clean up
// outside its folder. Output goes to NAME.log in dir, of which the end is shown when the
// test has failed.
func start(t testing.TB, dir, name string, orphaned syscall.Signal, env []string, argv ...string) *process {
	t.Helper()
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	output, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = env
	cmd.Stdout = output
	cmd.Stderr = output
	cmd.SysProcAttr = attributes(orphaned)

	started := make(chan error, 1)
	go func() {
		// The kernel's promise to signal the child hangs on the thread that made it, so this one lives as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer output.Close()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // The exit status of a process that was told to end says nothing.
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start peer %s: %v", name, err)
	}
	t.Cleanup(func() { p.stop(t) })
	return p
}

func (p *process) stop(t testing.TB) {
	t.Helper()
	if t.Failed() {
		t.Logf("end of the log of peer %s:\n%s", p.name, tail(p.log))
	}
	if p.end(syscall.SIGTERM, stopGrace) || p.end(syscall.SIGKILL, stopGrace) {
		return
	}
	t.Errorf("peer %s (pid %d) did not end", p.name, p.pid)
}

// end sends sig and reports whether the process ended within limit.
func (p *process) end(sig syscall.Signal, limit time.Duration) bool {
	select {
	case <-p.done:
		return true
	default:
	}
	// The process has not been waited for, so its id is still its own.
	if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return false
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// ready waits until try succeeds and fails the test when it does not within limit or the process ends before.
func (p *process) ready(t testing.TB, limit time.Duration, try func(context.Context) error) {
	t.Helper()
	if err := poll(limit, p.done, try); err != nil {
		t.Fatalf("wait for peer %s: %v\n%s", p.name, err, tail(p.log))
	}
}

// tail returns the last lines of a log, at most 4 KiB.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if extra := len(data) - 4096; extra > 0 {
		data = data[extra:]
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			data = data[i+1:]
		}
	}
	return string(data)
}
