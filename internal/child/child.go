// Package child starts other programs the careful way: an argument array and no shell, an absolute path that
// strangers cannot rewrite, a minimal environment, its own process group, a time-out and bounded output. It never
// shows what a program wrote to stderr. Called by secret (cmd: references), the exec location, tests, reloaders and probes.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// MaxOutput is the number of bytes of stdout that a program may write; one more is an error of kind Invalid.
const MaxOutput = 64 << 10

// DefaultTimeout ends a program that was given no other limit.
const DefaultTimeout = 60 * time.Second

// Command is one program to run. The zero value runs nothing; Argv must not be empty.
type Command struct {
	// Argv is the program and its arguments. A program without a slash is looked up in PATH; a relative path
	// is taken from Dir. Arguments are visible to every user of the host: they never hold a value.
	Argv []string
	// Dir is the working directory: the directory of the configuration file. Empty means the current one.
	Dir string
	// Env holds extra NAME=VALUE entries. The program sees only PATH, HOME, LANG and TZ besides them.
	Env []string
	// Pass names variables of our own environment that the program also sees.
	Pass []string
	// Stdin is handed to the program; it may hold a value.
	Stdin []byte
	// Timeout bounds the run; zero means DefaultTimeout.
	Timeout time.Duration
}

// Result is what a finished program left behind.
type Result struct {
	Stdout []byte
	// Code is the exit code, or -1 when the program was ended by a signal.
	Code int
}

// Run starts the program and waits for it. The error is nil only for exit code 0. Kinds: Invalid (the program
// cannot be used or wrote too much), NotFound (no such program), Unavailable (timed out), Canceled, and Unknown for a
// non-zero exit code, which stands in Result.Code. Stdout is returned in every case where there was any.
func Run(ctx context.Context, c Command) (Result, error) {
	path, err := Resolve(c.Argv, c.Dir)
	if err != nil {
		return Result{Code: -1}, err
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	runCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	cmd := exec.CommandContext(runCtx, path, c.Argv[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append(environment(c.Pass), c.Env...)
	cmd.Stdin = bytes.NewReader(c.Stdin)
	out := &bounded{left: MaxOutput}
	out.buf.Grow(MaxOutput) // one buffer: growing would leave copies of a value behind
	cmd.Stdout = out
	cmd.Stderr = io.Discard
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second

	name := filepath.Base(path)
	err = cmd.Run()
	res := Result{Stdout: out.buf.Bytes(), Code: cmd.ProcessState.ExitCode()}
	switch {
	case err == nil && !out.over:
		return res, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return res, fault.Wrap(fault.Unavailable, context.Cause(ctx), "run "+name)
	case ctx.Err() != nil:
		return res, fault.Wrap(fault.Canceled, context.Cause(ctx), "run "+name)
	case runCtx.Err() != nil:
		return res, fault.New(fault.Unavailable, fmt.Sprintf("run %s: no end after %s", name, timeout), fault.Hint("run it by hand, or raise its timeout in keywright.yaml"))
	case out.over:
		return res, fault.Newf(fault.Invalid, "run %s: it wrote more than %d bytes", name, MaxOutput)
	}
	if _, isExit := errors.AsType[*exec.ExitError](err); isExit {
		return res, fault.New(fault.Unknown, fmt.Sprintf("run %s: exit code %d", name, res.Code), fault.Hint("run it by hand to see what it says; its output is not shown because it may hold a value"))
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return res, fault.Wrap(fault.Invalid, err, "run "+name)
	}
	return res, nil
}

// Resolve gives the absolute path of the program in argv, and refuses one that strangers could rewrite. It starts nothing.
func Resolve(argv []string, dir string) (string, error) {
	if len(argv) == 0 || argv[0] == "" {
		return "", fault.New(fault.Invalid, "run program: no program named")
	}
	path := argv[0]
	switch {
	case filepath.IsAbs(path):
	case strings.ContainsRune(path, '/'):
		abs, err := filepath.Abs(filepath.Join(dir, path))
		if err != nil {
			return "", fault.Wrap(fault.Invalid, err, "find program")
		}
		path = abs
	default:
		found, err := exec.LookPath(path)
		if err != nil {
			return "", fault.New(fault.NotFound, fmt.Sprintf("find program %q: not in PATH", path), fault.Hint("install it, or name it by its absolute path"))
		}
		if path, err = filepath.Abs(found); err != nil {
			return "", fault.Wrap(fault.Invalid, err, "find program")
		}
	}
	return path, Trusted(path)
}

// Trusted reports, as an error of kind Forbidden, that path could come to mean something else by the hand of somebody else:
// that it, a directory above it, or one that holds a symbolic link on the way to it is writable by group or others (a
// sticky directory excepted) or owned by another user than root and ourselves. A path that leads nowhere is NotFound.
func Trusted(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "look at file")
	}
	at, rest := "/", strings.Split(abs, "/")
	if _, err := trusted(at); err != nil {
		return err
	}
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..": // only out of a link; at holds no links, so its parent is its directory
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		mode, err := trusted(next)
		if err != nil {
			return err
		}
		if mode&os.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return fault.Newf(fault.Invalid, "look at %q: too many symbolic links", path)
		}
		to, err := os.Readlink(next)
		if err != nil {
			return fault.Wrap(fault.Forbidden, err, "look at file")
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return nil
}

const maxLinks = 40 // as in Linux

// trusted looks at one name alone. The mode of a symbolic link says nothing and is not judged.
func trusted(p string) (os.FileMode, error) {
	info, err := os.Lstat(p)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return 0, fault.New(fault.NotFound, fmt.Sprintf("look at %q: no such file", p))
		}
		return 0, fault.Wrap(fault.Forbidden, err, "look at file")
	}
	sticky := info.IsDir() && info.Mode()&os.ModeSticky != 0
	link := info.Mode()&os.ModeSymlink != 0
	if info.Mode().Perm()&0o022 != 0 && !sticky && !link {
		return 0, fault.New(fault.Forbidden, fmt.Sprintf("%q can be changed by other users (mode %04o)", p, info.Mode().Perm()), fault.Hint("chmod go-w %s", p))
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return 0, fault.New(fault.Forbidden, fmt.Sprintf("%q belongs to another user (uid %d)", p, st.Uid), fault.Hint("it must belong to you or to root"))
	}
	return info.Mode(), nil
}

// Split turns one line into an argument array: words between blanks, with single or double quotes around a word or a part of
// one, and a backslash before a single character outside single quotes. There is no expansion of any kind.
func Split(line string) ([]string, error) {
	var argv []string
	var word strings.Builder
	var quote rune
	in, escaped := false, false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == ' ' || r == '\t':
			if in {
				argv = append(argv, word.String())
				word.Reset()
			}
			in = false
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 || escaped {
		return nil, fault.New(fault.Invalid, "split command line: a quote or backslash is left open")
	}
	if in {
		argv = append(argv, word.String())
	}
	return argv, nil
}

func environment(pass []string) []string {
	var env []string
	for _, name := range append([]string{"PATH", "HOME", "LANG", "TZ"}, pass...) {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// bounded keeps the first bytes of a stream and remembers whether there were more. It swallows the rest, so that the
// program does not die of a closed pipe before its exit code is known.
type bounded struct {
	buf  bytes.Buffer
	left int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.buf.Write(p[:n])
	b.left -= n
	b.over = b.over || n < len(p)
	return len(p), nil
}
