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

// width is where lines of programs are folded.
const width = 108

// fold breaks a line at blanks. What follows stands below the last column that begins in the line's first half.
func fold(text string) []string {
	var folded []string
	hang := column([]rune(text))
	for {
		r := []rune(text)
		if len(r) <= width {
			return append(folded, text)
		}
		at := width
		for at > hang && r[at] != ' ' {
			at--
		}
		if at <= hang {
			return append(folded, text) // a word that is longer than a line
		}
		folded = append(folded, strings.TrimRight(string(r[:at]), " "))
		text = strings.Repeat(" ", hang) + strings.TrimLeft(string(r[at:]), " ")
	}
}

// column finds where the last column that begins in the first half of a line begins: behind two blanks.
func column(r []rune) int {
	begin := 0
	for begin < len(r) && r[begin] == ' ' {
		begin++
	}
	for i := width / 2; i > begin+1; i-- {
		if i < len(r) && r[i] != ' ' && r[i-1] == ' ' && r[i-2] == ' ' {
			return i
		}
	}
	return min(begin+4, width/2)
}

// feed is the output of one program: printed as it comes, or held back while another act is on.
type feed struct {
	screen *screen
	known  func(string) bool // lines that need not be read again are counted, not printed; nil means none

	mu      sync.Mutex
	held    bool
	waiting []string
	seen    []string
	again   int
	more    chan struct{} // closed and replaced with each line
}

func newFeed(s *screen, known func(string) bool) *feed {
	return &feed{screen: s, known: known, more: make(chan struct{})}
}

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
	f.print(text)
}

// print prints a line. The caller holds the lock.
func (f *feed) print(text string) {
	if f.known != nil && f.known(text) {
		f.again++
		return
	}
	if f.again > 0 {
		f.screen.line(fmt.Sprintf("  … %d lines as above", f.again))
		f.again = 0
	}
	for _, l := range fold("  " + text) {
		f.screen.line(l)
	}
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
		f.print(text)
	}
	f.waiting = nil
}

// after gives the lines from position n on, and a channel that is closed when there are more.
func (f *feed) after(n int) ([]string, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[min(n, len(f.seen)):], f.more
}
