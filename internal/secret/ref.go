package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
)

// Ref says where a value can be read: "env:NAME", "file:PATH" or "cmd:PROGRAM ARGUMENT…". It is not secret itself. The zero
// Ref refers to nothing. Relative paths start at the directory given to Resolve.
type Ref string

var (
	envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// keyLike finds a key, or the better part of one, anywhere in a text.
	keyLike = regexp.MustCompile(`(?i)sk-[a-z0-9_-]{20,}`)
)

// ParseRef checks the form of a reference. The error is of kind Invalid and quotes nothing, since people paste values here.
func ParseRef(s string) (Ref, error) {
	byName := fault.Hint("put the value into an environment variable or a file of mode 0600 and name that")
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || sortOf(s) != SortForeign {
		return "", fault.New(fault.Invalid, "parse reference: want env:NAME, file:PATH or cmd:PROGRAM ARGUMENTS, never the value itself", byName)
	}
	if keyLike.MatchString(s) {
		return "", fault.New(fault.Invalid, "parse reference: it holds something that looks like a key", byName)
	}
	switch scheme {
	case "env":
		if !envName.MatchString(rest) {
			return "", fault.New(fault.Invalid, "parse reference: env: needs the name of a variable",
				fault.Hint("letters, digits and _ alone, without a $ in front and not the value itself"))
		}
	case "file":
		if rest == "" {
			return "", fault.New(fault.Invalid, "parse reference: file: without a path")
		}
	case "cmd":
		if argv, err := child.Split(rest); err != nil || len(argv) == 0 || argv[0] == "" {
			return "", fault.New(fault.Invalid, "parse reference: cmd: needs a program and balanced quotes")
		}
	default:
		return "", fault.New(fault.Invalid, "parse reference: unknown scheme in front of the colon", fault.Hint("use env:, file: or cmd:"))
	}
	return Ref(s), nil
}

// UnmarshalText makes Ref usable in configuration; it fails as ParseRef does.
func (r *Ref) UnmarshalText(b []byte) error {
	parsed, err := ParseRef(string(b))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

// Resolve reads the value. One trailing line end is dropped. dir is the directory of the configuration file. Kinds: NotFound,
// Invalid, Forbidden (a file that group or others may read), and those of child.Run.
func (r Ref) Resolve(ctx context.Context, dir string) (Value, error) {
	if _, err := ParseRef(string(r)); err != nil {
		return Value{}, err
	}
	scheme, rest, _ := strings.Cut(string(r), ":")
	var raw []byte
	switch scheme {
	case "env":
		s, ok := os.LookupEnv(rest)
		if !ok || s == "" {
			return Value{}, fault.New(fault.NotFound, fmt.Sprintf("read %s: the environment variable is not set", r), fault.Hint("export %s", rest))
		}
		raw = []byte(s)
	case "file":
		if !filepath.IsAbs(rest) {
			rest = filepath.Join(dir, rest)
		}
		var err error
		if raw, err = readPrivate(rest); err != nil {
			return Value{}, err
		}
	case "cmd":
		argv, err := child.Split(rest)
		if err != nil {
			return Value{}, err
		}
		res, err := child.Run(ctx, child.Command{Argv: argv, Dir: dir})
		raw = res.Stdout
		defer clear(raw)
		if err != nil {
			return Value{}, fault.In(err, "read value")
		}
	}
	defer clear(raw)
	trimmed := bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
	if len(trimmed) == 0 {
		return Value{}, fault.New(fault.NotFound, fmt.Sprintf("read %s: it is empty", r))
	}
	return New(trimmed), nil
}

func readPrivate(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if os.IsNotExist(err) {
			return nil, fault.New(fault.NotFound, fmt.Sprintf("read %q: no such file", path))
		}
		return nil, fault.Wrap(fault.Forbidden, err, "read file")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(fault.Forbidden, err, "read file")
	}
	if !info.Mode().IsRegular() {
		return nil, fault.Newf(fault.Invalid, "read %q: not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fault.New(fault.Forbidden, fmt.Sprintf("read %q: other users may read it (mode %04o)", path, info.Mode().Perm()), fault.Hint("chmod 600 %s", path))
	}
	b := make([]byte, child.MaxOutput+1) // one buffer: growing would leave copies of the value behind
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(b)
		return nil, fault.Wrap(fault.Unavailable, err, "read file")
	}
	if n > child.MaxOutput {
		clear(b)
		return nil, fault.Newf(fault.Invalid, "read %q: larger than any value", path)
	}
	return b[:n], nil
}
