package consumer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// scene is a log file, a clock and a probe that is opened anew for each look, as after a restart.
type scene struct {
	t    *testing.T
	path string
	env  location.Env
	now  time.Time
	keep *logProbe // one probe for all looks, where there is no state directory
}

func newScene(t *testing.T, state bool) *scene {
	s := &scene{t: t, now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	dir := t.TempDir()
	s.path = filepath.Join(dir, "app.log")
	s.env = location.Env{Name: "place", Dir: dir, Now: func() time.Time { return s.now }}
	if state {
		s.env.StateDir = filepath.Join(dir, "state")
	} else {
		s.keep = s.open()
	}
	return s
}

func (s *scene) open() *logProbe {
	s.t.Helper()
	p, err := newLogProbe(LogConfig{File: "app.log", Fail: `refused|status=401$`}, s.env)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *scene) write(text string) {
	s.t.Helper()
	f, err := os.OpenFile(s.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// look probes ten seconds later.
func (s *scene) look() error {
	s.t.Helper()
	s.now = s.now.Add(10 * time.Second)
	if s.keep != nil {
		return s.keep.Probe(s.t.Context())
	}
	return s.open().Probe(s.t.Context())
}

func (s *scene) want(what string, fails bool) {
	s.t.Helper()
	err := s.look()
	if fails && !fault.Is(err, fault.Unavailable) || !fails && err != nil {
		s.t.Errorf("%s: %v, want a failure: %v", what, err, fails)
	}
}

func TestLog(t *testing.T) {
	for name, state := range map[string]bool{"state directory": true, "memory": false} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, state)
			s.write("refused before we looked\n")
			s.want("first look", false)
			s.want("nothing new", false)
			s.write("started\nstatus=4010\nstatus=200\n")
			s.want("harmless lines", false)
			v := secrettest.Fake(t)
			s.write("status=401\r\nkey " + v.RevealString() + " refused\n")
			s.want("a matching line", true)
			err := s.look()
			wantKind(t, "later", err, fault.Unavailable)
			secrettest.NoLeak(t, "error", []byte(err.Error()+fault.HintOf(err)), v)
			s.now = s.now.Add(9*time.Minute + 30*time.Second)
			s.want("still within", true)
			s.now = s.now.Add(2 * time.Minute)
			s.want("over", false)
			s.now = s.now.Add(time.Hour)
			s.write("refused while nobody looked\n")
			s.want("after a long pause", false)
			s.write("refused again\n")
			s.want("soon after", true)
		})
	}
}

func TestLogRotation(t *testing.T) {
	rename := func(s *scene) {
		if err := os.Rename(s.path, s.path+".1"); err != nil {
			s.t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		do    func(*scene)
		fails bool
	}{
		"tail of the renamed file": {func(s *scene) { s.write("refused\n"); rename(s); s.write("new\n") }, true},
		"harmless":                 {func(s *scene) { s.write("fine\n"); rename(s); s.write("new\n") }, false},
		"new file":                 {func(s *scene) { rename(s); s.write("refused\n") }, true},
		"between the two":          {func(s *scene) { s.write("refused\n"); rename(s); s.want("no file", false); s.write("new\n") }, true},
		"old lines do not count":   {func(s *scene) { rename(s); s.write("") }, false},
		"another file named so": {func(s *scene) {
			rename(s)
			if err := os.Remove(s.path + ".1"); err != nil {
				s.t.Fatal(err)
			}
			s.write("new\n")
			other := strings.Repeat("refused\n", 100)
			if err := os.WriteFile(s.path+".1", []byte(other), 0o600); err != nil {
				s.t.Fatal(err)
			}
		}, false},
		"emptied": {func(s *scene) {
			if err := os.Truncate(s.path, 0); err != nil {
				s.t.Fatal(err)
			}
			s.write("refused\n")
		}, true},
		"renamed away": {func(s *scene) {
			rename(s)
			if err := os.Rename(s.path+".1", s.path+".2.gz"); err != nil {
				s.t.Fatal(err)
			}
			s.write("refused\n")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, true)
			s.write("refused long ago, and a line that makes the file longer than what follows\n")
			s.want("first look", false)
			c.do(s)
			s.want(name, c.fails)
		})
	}
}

func TestLogLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for name, c := range map[string]struct {
		parts []string // a look after each
		fails []bool
	}{
		"line in two parts":           {[]string{"ref", "used\n"}, []bool{false, true}},
		"end of line in two parts":    {[]string{"status=40", "10\n", "status=401\n"}, []bool{false, false, true}},
		"beginning of a long line":    {[]string{"refused " + long + "\n"}, []bool{true}},
		"end of a long line":          {[]string{long + long + "refused\n"}, []bool{false}},
		"line after a long line":      {[]string{long + long + "\nrefused\n"}, []bool{true}},
		"without a line end":          {[]string{"refused"}, []bool{true}},
		"binary":                      {[]string{"\x00\xff\xfe\n\x00refused\x00\n"}, []bool{true}},
		"many lines":                  {[]string{strings.Repeat("fine\n", 50000) + "refused\n"}, []bool{true}},
		"blank lines and no new text": {[]string{"\n\n", ""}, []bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, true)
			s.write("first\n")
			s.want("first look", false)
			for i, part := range c.parts {
				s.write(part)
				s.want(fmt.Sprintf("part %d", i), c.fails[i])
			}
		})
	}
}

func TestLogTrouble(t *testing.T) {
	s := newScene(t, true)
	wantKind(t, "no file", s.look(), fault.NotFound)
	if err := os.Mkdir(s.path, 0o700); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "directory", s.look(), fault.Invalid)
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	s.write("one\n")
	s.want("first look", false)
	note := s.open().note
	b, err := os.ReadFile(note)
	if err != nil || strings.Contains(string(b), "one") {
		t.Errorf("note %q, %v", b, err)
	}
	if info, err := os.Stat(note); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the note: %v, %v", info, err)
	}
	// A broken note counts as none.
	if err := os.WriteFile(note, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.write("refused\n")
	s.want("after a broken note", false)
	s.write("refused\n")
	s.want("and then", true)
	// A clock that went back starts anew, too.
	s.now = s.now.Add(-time.Hour)
	s.want("clock", false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantKind(t, "cancelled", s.open().Probe(ctx), fault.Canceled)
	// Other expressions have notes of their own.
	other, err := newLogProbe(LogConfig{File: "app.log", Fail: "x"}, s.env)
	if err != nil || other.note == note {
		t.Errorf("note %q, %v", other.note, err)
	}
}
