package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// screen prints the text of the demo, line by line. It is safe for concurrent use.
type screen struct {
	mu      sync.Mutex
	out     io.Writer
	private []string // what helpers said, for the case of trouble
}

func (s *screen) line(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.out, strings.TrimRight(text, " "))
}

// act prints a heading.
func (s *screen) act(title string) {
	s.line("")
	s.line("== " + title + " " + strings.Repeat("=", max(0, 96-len(title))))
}

// say prints words of the demo itself, beside the output of programs.
func (s *screen) say(text string) { s.line("# " + text) }

// log keeps the last lines of helpers.
func (s *screen) log(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.private = append(s.private, text)
	if n := len(s.private); n > 10 {
		s.private = s.private[n-10:]
	}
}

// feed is the output of one program: printed as it comes, or held back while another act is on.
type feed struct {
	screen *screen

	mu      sync.Mutex
	held    bool
	waiting []string
	seen    []string
	more    chan struct{} // closed and replaced with each line
}

func newFeed(s *screen) *feed { return &feed{screen: s, more: make(chan struct{})} }

func (f *feed) add(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, text)
	close(f.more)
	f.more = make(chan struct{})
	if f.held {
		f.waiting = append(f.waiting, text)
		return
	}
	f.screen.line("  " + text)
}

// hold keeps back what comes from now on.
func (f *feed) hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = true
}

// release prints what was kept back, and from then on what comes.
func (f *feed) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = false
	for _, text := range f.waiting {
		f.screen.line("  " + text)
	}
	f.waiting = nil
}

// after gives the lines from position n on, and a channel that is closed when there are more.
func (f *feed) after(n int) ([]string, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[min(n, len(f.seen)):], f.more
}
