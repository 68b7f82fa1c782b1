package gateway

import (
	"bufio"
	"io"
	"sync"
	"time"
)

// Lines gathers the lines of a log and writes them together, at the latest after a fifth of a second, so that a line does not cost a system
// call. A process that is killed loses that much. It is safe for concurrent use; Close writes the rest.
type Lines struct {
	mu     sync.Mutex
	w      *bufio.Writer
	timer  *time.Timer
	armed  bool
	closed bool
}

var _ io.WriteCloser = (*Lines)(nil)

// linesWait is how long a line may wait.
const linesWait = 200 * time.Millisecond

// NewLines makes Lines in front of w.
func NewLines(w io.Writer) *Lines {
	l := &Lines{w: bufio.NewWriterSize(w, 64<<10)}
	l.timer = time.AfterFunc(time.Hour, l.flush)
	l.timer.Stop()
	return l
}

// Write takes one line. Errors of the writer behind show at the next Write or at Close.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, io.ErrClosedPipe
	}
	if !l.armed {
		l.armed = true
		l.timer.Reset(linesWait)
	}
	return l.w.Write(p)
}

func (l *Lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
	_ = l.w.Flush() // bufio keeps the error for the next Write
}

// Close writes what is left. It does not close the writer behind, and may be called twice.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.timer.Stop()
	return l.w.Flush()
}
