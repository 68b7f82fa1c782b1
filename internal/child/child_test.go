package child_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
)

// script makes a program of this test's own and gives its path.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunHandsOverStdinAndTheDeclaredEnvironmentAlone(t *testing.T) {
	t.Setenv("CHILD_TEST_HIDDEN", "no")
	t.Setenv("CHILD_TEST_PASSED", "yes")
	dir := t.TempDir()
	p := script(t, `cat; pwd; env; exit 0`)
	res, err := child.Run(t.Context(), child.Command{
		Argv: []string{p}, Dir: dir, Env: []string{"CHILD_TEST_ADDED=also"}, Pass: []string{"CHILD_TEST_PASSED"}, Stdin: []byte("in\n"),
	})
	if err != nil || res.Code != 0 {
		t.Fatalf("Run: %+v, %v", res, err)
	}
	out := string(res.Stdout)
	if !strings.HasPrefix(out, "in\n"+dir+"\n") {
		t.Errorf("stdin or directory: %q", out)
	}
	for text, want := range map[string]bool{"CHILD_TEST_ADDED=also\n": true, "CHILD_TEST_PASSED=yes\n": true, "PATH=": true, "CHILD_TEST_HIDDEN": false} {
		if strings.Contains(out, text) != want {
			t.Errorf("environment has %q = %v", text, !want)
		}
	}
}

func TestRunFailures(t *testing.T) {
	for name, c := range map[string]struct {
		argv []string
		kind fault.Kind
		code int
		out  string
	}{
		"exit code":      {[]string{script(t, `echo part; echo private >&2; exit 7`)}, fault.Unknown, 7, "part\n"},
		"signal":         {[]string{script(t, `kill -9 $$`)}, fault.Unknown, -1, ""},
		"too much":       {[]string{script(t, `head -c 65537 /dev/zero`)}, fault.Invalid, 0, strings.Repeat("\x00", child.MaxOutput)},
		"no argv":        {nil, fault.Invalid, -1, ""},
		"empty program":  {[]string{""}, fault.Invalid, -1, ""},
		"not in PATH":    {[]string{"no-such-program-anywhere"}, fault.NotFound, -1, ""},
		"no such file":   {[]string{"/no/such/program"}, fault.NotFound, -1, ""},
		"not a program":  {[]string{t.TempDir()}, fault.Invalid, -1, ""},
		"relative, none": {[]string{"./none"}, fault.NotFound, -1, ""},
	} {
		res, err := child.Run(t.Context(), child.Command{Argv: c.argv, Dir: t.TempDir()})
		if err == nil || fault.KindOf(err) != c.kind || res.Code != c.code || string(res.Stdout) != c.out {
			t.Errorf("%s: code %d, %d bytes, %v (%v)", name, res.Code, len(res.Stdout), err, fault.KindOf(err))
			continue
		}
		if strings.Contains(err.Error(), "private") || strings.Contains(err.Error(), "part") {
			t.Errorf("%s: the error quotes the output: %v", name, err)
		}
	}
	res, err := child.Run(t.Context(), child.Command{Argv: []string{script(t, `head -c 65536 /dev/zero`)}})
	if err != nil || len(res.Stdout) != child.MaxOutput {
		t.Errorf("as much as is allowed: %d bytes, %v", len(res.Stdout), err)
	}
}

func TestRunKillsTheWholeGroup(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// The grandchild holds both ends of stdout and the fifo open: only its death ends the fifo.
	p := script(t, `exec 3>"$1"; sleep 600 & echo ready >&3; wait`)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopping")
	rest := make(chan error, 1)
	go func() {
		f, err := os.Open(fifo)
		if err == nil {
			_, err = io.ReadFull(f, make([]byte, len("ready\n")))
		}
		cancel(stop)
		if err == nil {
			_, err = io.Copy(io.Discard, f)
		}
		rest <- err
	}()
	_, err := child.Run(ctx, child.Command{Argv: []string{p, fifo}})
	if !fault.Is(err, fault.Canceled) || !errors.Is(err, stop) {
		t.Errorf("Run: %v", err)
	}
	if err := <-rest; err != nil {
		t.Errorf("read the fifo to its end: %v", err)
	}
}

func TestRunTimesOut(t *testing.T) {
	p := script(t, `exec sleep 600`)
	_, err := child.Run(t.Context(), child.Command{Argv: []string{p}, Timeout: time.Millisecond})
	if !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" {
		t.Errorf("own limit: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := child.Run(ctx, child.Command{Argv: []string{p}}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the caller's limit: %v", err)
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "program")
	if err := os.WriteFile(p, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, argv0 := range []string{p, "./program", "../" + filepath.Base(dir) + "/program"} {
		if got, err := child.Resolve([]string{argv0}, dir); err != nil || got != p {
			t.Errorf("Resolve(%q) = %q, %v", argv0, got, err)
		}
	}
	if got, err := child.Resolve([]string{"sh"}, dir); err != nil || !filepath.IsAbs(got) {
		t.Errorf("Resolve(sh) = %q, %v", got, err)
	}
}

func TestTrusted(t *testing.T) {
	root := t.TempDir()
	mk := func(name string, mode os.FileMode) string {
		p := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			if err := os.Mkdir(p, 0o700); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(p, 0o700) })
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	link := func(name, to string) string {
		p := filepath.Join(root, name)
		if err := os.Symlink(to, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	fine := mk("fine", 0o755)
	mk("open/", 0o700)
	inOpen := mk("open/file", 0o755)
	linkInOpen := link("open/link", "../fine")
	if err := os.Chmod(filepath.Join(root, "open"), 0o777); err != nil {
		t.Fatal(err)
	}
	mk("sticky/", 0o700)
	inSticky := mk("sticky/file", 0o755)
	if err := os.Chmod(filepath.Join(root, "sticky"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]fault.Kind{
		fine:                           fault.Unknown,
		inSticky:                       fault.Unknown,
		link("link", "fine"):           fault.Unknown,
		link("absolute", fine):         fault.Unknown,
		link("up", "sticky/../fine"):   fault.Unknown,
		mk("group", 0o775):             fault.Forbidden,
		mk("others", 0o757):            fault.Forbidden,
		inOpen:                         fault.Forbidden,
		link("to-open", "open/file"):   fault.Forbidden,
		linkInOpen:                     fault.Forbidden, // the link itself could be replaced
		link("via", "open/link"):       fault.Forbidden,
		link("loop", "loop"):           fault.Invalid,
		link("dangling", "none"):       fault.NotFound,
		filepath.Join(root, "none"):    fault.NotFound,
		filepath.Join(fine, "further"): fault.Forbidden,
	} {
		err := child.Trusted(path)
		if (err == nil) != (kind == fault.Unknown) || fault.KindOf(err) != kind {
			t.Errorf("Trusted(%q): %v (%v)", strings.TrimPrefix(path, root), err, fault.KindOf(err))
		}
	}
	foreign := mk("foreign", 0o755)
	if os.Chown(foreign, 12345, -1) == nil {
		if err := child.Trusted(foreign); !fault.Is(err, fault.Forbidden) || fault.HintOf(err) == "" {
			t.Errorf("a file of another user: %v", err)
		}
		other := link("other-link", "fine")
		if err := os.Lchown(other, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if err := child.Trusted(other); !fault.Is(err, fault.Forbidden) {
			t.Errorf("a link of another user: %v", err)
		}
	}
}

func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		"":                     nil,
		"  \t ":                nil,
		"a":                    {"a"},
		" a  b\tc ":            {"a", "b", "c"},
		`a 'b c' "d e"`:        {"a", "b c", "d e"},
		`a''b "c"'d'`:          {"ab", "cd"},
		`'' ""`:                {"", ""},
		`a\ b \' '\' "\""`:     {"a b", "'", `\`, `"`},
		`$HOME *.go ~ $(x) ;|`: {"$HOME", "*.go", "~", "$(x)", ";|"},
	} {
		got, err := child.Split(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Split(%q) = %q, %v", line, got, err)
		}
	}
	for _, line := range []string{`'`, `"a`, `a\`, `"\`} {
		if got, err := child.Split(line); !fault.Is(err, fault.Invalid) {
			t.Errorf("Split(%q) = %q, %v", line, got, err)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("a b")
	f.Add(`it's \"`)
	f.Fuzz(func(t *testing.T, word string) {
		if !strings.Contains(word, "'") { // single quotes keep everything else as it is
			if got, err := child.Split("'" + word + "' x"); err != nil || len(got) != 2 || got[0] != strings.ToValidUTF8(word, "\uFFFD") && got[0] != string([]rune(word)) {
				t.Errorf("Split quoted %q = %q, %v", word, got, err)
			}
		}
		if _, err := child.Split(word); err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("Split(%q): %v", word, err)
		}
	})
}
