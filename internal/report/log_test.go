package report

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

func entry(id, note string) string {
	p := plan()
	p.Note = note
	return LogEntry(Input{Row: rotation.Row{ID: id, Key: "k", Plan: p, Created: begin}, Now: begin})
}

func insert(t *testing.T, log, e string) string {
	t.Helper()
	out, err := Insert([]byte(log), e)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestLogGrowsNewestFirstAndReplacesItsOwn(t *testing.T) {
	first, second := entry("r-1", "one"), entry("r-2", "two")
	log := insert(t, insert(t, "", first), second)
	if want := LogTitle + "\n\n" + second + "\n" + first; log != want {
		t.Fatalf("log:\n%s", log)
	}
	if again := insert(t, log, second); again != log {
		t.Errorf("recording the same again changed the log:\n%s", again)
	}
	changed := entry("r-1", "changed")
	if got, want := insert(t, log, changed), strings.Replace(log, first, changed, 1); got != want {
		t.Errorf("replacing an entry touched its neighbours:\n%s", got)
	}
}

func TestLogOfOtherHands(t *testing.T) {
	e := entry("r-1", "one")
	for name, c := range map[string]struct{ log, want string }{
		"text around":              {"intro\n\n" + LogTitle + "\n\n## old\n- x\n", "intro\n\n" + LogTitle + "\n\n" + e + "\n## old\n- x\n"},
		"no blank line":            {LogTitle + "\n## old\n", LogTitle + "\n\n" + e + "\n## old\n"},
		"title without a line end": {LogTitle, LogTitle + "\n\n" + e},
		"no title":                 {"# Notes\nhello", "# Notes\nhello\n\n" + LogTitle + "\n\n" + e},
		"title in a code block":    {"```\n" + LogTitle + "\n```\n", "```\n" + LogTitle + "\n```\n\n" + LogTitle + "\n\n" + e},
		"other line ends":          {LogTitle + "\r\n\r\n## old\r\n", LogTitle + "\r\n\r\n" + strings.ReplaceAll(e, "\n", "\r\n") + "\r\n## old\r\n"},
		"an entry cut off by hand": {LogTitle + "\n\n" + beginMark + "r-1" + closeMark + "\nmine\n", LogTitle + "\n\n" + e + "\n" + beginMark + "r-1" + closeMark + "\nmine\n"},
	} {
		got := insert(t, c.log, e)
		if got != c.want {
			t.Errorf("%s: got\n%q\nwant\n%q", name, got, c.want)
		}
		if again := insert(t, got, e); again != got {
			t.Errorf("%s: recording again changed it", name)
		}
	}
	if _, err := Insert(nil, "## no marks\n"); !fault.Is(err, fault.Invalid) {
		t.Errorf("an entry without marks: %v", err)
	}
}

// FuzzInsert checks that every byte of the log stays, that the entry is in it, and that repeating and replacing touch nothing else.
func FuzzInsert(f *testing.F) {
	e := entry("r-1", "one")
	for _, log := range []string{"", LogTitle, LogTitle + "\n\n" + e, "a\r\n" + LogTitle + "\r\nb", "```\n" + LogTitle, beginMark + "r-1" + closeMark + "\n", endMark + "r-1" + closeMark, e + e, "\r", "\n\n"} {
		f.Add([]byte(log))
	}
	other := entry("r-1", "another")
	f.Fuzz(func(t *testing.T, log []byte) {
		once, err := Insert(log, e)
		if err != nil {
			t.Fatal(err)
		}
		from, to, held := find(log, "r-1")
		if !held {
			from, to = kept(log, once)
		}
		if !bytes.HasPrefix(once, log[:from]) || !bytes.HasSuffix(once, log[to:]) || len(once) < from+len(log)-to {
			t.Fatalf("a neighbour changed:\n%q\n%q", log, once)
		}
		if !bytes.Contains(bytes.ReplaceAll(once, []byte("\r\n"), []byte("\n")), []byte(e)) {
			t.Fatalf("the entry is not in the log: %q", once)
		}
		if twice, err := Insert(once, e); err != nil || !bytes.Equal(twice, once) {
			t.Fatalf("a second time changed it: %v\n%q\n%q", err, once, twice)
		}
		from, to, _ = find(once, "r-1")
		replaced, err := Insert(once, other)
		if err != nil || !bytes.HasPrefix(replaced, once[:from]) || !bytes.HasSuffix(replaced, once[to:]) {
			t.Fatalf("replacing changed a neighbour: %v\n%q\n%q", err, once, replaced)
		}
	})
}

// kept finds where the log was parted: the longest common beginning.
func kept(log, out []byte) (from, to int) {
	for from < len(log) && from < len(out) && log[from] == out[from] {
		from++
	}
	for n := from; n >= 0; n-- {
		if bytes.HasSuffix(out, log[n:]) {
			return n, n
		}
	}
	return from, from
}

func TestWriteLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rotation-log.md")
	if err := WriteLog(t.Context(), path, entry("r-1", "one")); err != nil {
		t.Fatal(err)
	}
	mode := func(path string) os.FileMode {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	if m := mode(path); m != 0o600 {
		t.Errorf("made with mode %v", m)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link.md")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := WriteLog(t.Context(), link, entry("r-2", "two"), entry("r-3", "three")); err != nil {
		t.Fatal(err)
	}
	if m := mode(path); m != 0o644 {
		t.Errorf("the mode became %v", m)
	}
	if mode(link)&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := func(id string) int { return strings.Index(string(b), beginMark+id) }
	if at("r-3") < 0 || at("r-3") > at("r-2") || at("r-2") > at("r-1") {
		t.Errorf("order:\n%s", b)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestWriteLogSideBySide(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.md")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := WriteLog(t.Context(), path, entry(fmt.Sprintf("r-%d", i), "")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	b, err := os.ReadFile(path)
	if err != nil || strings.Count(string(b), endMark) != 20 {
		t.Errorf("%d entries, %v", strings.Count(string(b), endMark), err)
	}
}

func TestWriteLogTrouble(t *testing.T) {
	dir := t.TempDir()
	if err := WriteLog(t.Context(), filepath.Join(dir, "none", "log.md"), entry("r-1", "")); !fault.Is(err, fault.NotFound) {
		t.Errorf("no directory: %v", err)
	}
	unlock, err := lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WriteLog(impatient, filepath.Join(dir, "log.md"), entry("r-9", "")); !fault.Is(err, fault.Canceled) {
		t.Errorf("cancelled while another one writes: %v", err)
	}
	unlock()
	if err := WriteLog(t.Context(), dir, entry("r-1", "")); !fault.Is(err, fault.Invalid) {
		t.Errorf("a directory: %v", err)
	}
	path := filepath.Join(dir, "log.md")
	if err := WriteLog(t.Context(), path, "no marks"); !fault.Is(err, fault.Invalid) {
		t.Errorf("no marks: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a refused entry made a file")
	}
}
