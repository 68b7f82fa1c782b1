package demo

import (
	"bytes"
	"io"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// program is a running child process in a process group of its own. On Linux the kernel kills it when the demo dies.
type program struct {
	name string
	cmd  *exec.Cmd
	pid  int
	done chan struct{} // closed when the process has ended and its output was read
	err  error         // how it ended; to be read after done
}

// launch starts cmd. Its standard streams must be set before.
func launch(name string, cmd *exec.Cmd) (*program, error) {
	p := &program{name: name, cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = time.Second
	started := make(chan error, 1)
	go func() {
		// The kernel's promise to kill the child hangs on the thread that made it, so this one lives as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "start "+name)
	}
	return p, nil
}

// signal sends sig to the process, unless it has ended and was waited for.
func (p *program) signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Signal(sig) // an error means that it has ended meanwhile
	}
}

// ended waits for the end for as long as limit.
func (p *program) ended(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
		return false
	}
}

// stop ends the process, and with it what it started: SIGTERM first, SIGKILL after grace.
func (p *program) stop(grace time.Duration) {
	p.signal(syscall.SIGTERM)
	if p.ended(grace) {
		return
	}
	_ = syscall.Kill(-p.pid, syscall.SIGKILL) // the group's leader was not waited for, so its id is still its own
	<-p.done
}

// lines is a writer that hands on whole lines. It is safe for concurrent use; each is called by one goroutine at a time.
type lines struct {
	mu   sync.Mutex
	rest []byte
	each func(string)
}

var _ io.Writer = (*lines)(nil)

// maxLine bounds a line: what is longer is handed on in parts.
const maxLine = 64 << 10

// Write never fails.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 && len(l.rest) < maxLine {
			return len(p), nil
		}
		end := i
		if i < 0 {
			i, end = maxLine-1, maxLine
		}
		l.each(string(l.rest[:end]))
		l.rest = l.rest[i+1:]
	}
}

// flush hands on what came without a line end.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.each(string(l.rest))
		l.rest = nil
	}
}
