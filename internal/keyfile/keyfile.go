// Package keyfile reads and makes the small files that hold key material of Keywright itself: the master key, the key that
// signs checkpoints. A file is used only when nobody but its owner can read or replace it, and is made whole or not at all.
// It never interprets the content and never overwrites a file. Called by custody and audit.
package keyfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
)

// Public, Private and Delivered are the permission bits that a file may have at most.
const (
	Private   fs.FileMode = 0o600 // read and written by its owner alone
	Delivered fs.FileMode = 0o640 // handed over by systemd, whose access list shows as group bits
	Public    fs.FileMode = 0o644 // holds nothing secret, and must not be changed by others
)

// Read gives the content of the regular file at path, which must have no permission bits beyond most, belong to root or to
// us, and lie where others cannot replace it. The caller overwrites the content after use. Kinds: NotFound, Forbidden, and
// Invalid for a file that is not regular or larger than limit bytes. The content is in no error.
func Read(path string, most fs.FileMode, limit int) ([]byte, error) {
	if err := child.Trusted(path); fault.Is(err, fault.NotFound) {
		return nil, fault.Newf(fault.NotFound, "read %q: no such file", path)
	} else if err != nil {
		return nil, fault.In(err, fmt.Sprintf("read %q", path))
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.Newf(fault.NotFound, "read %q: no such file", path)
	case err != nil:
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
	if extra := info.Mode().Perm() &^ most; extra&0o077 != 0 {
		return nil, fault.New(fault.Forbidden, fmt.Sprintf("read %q: mode %04o lets other users at it", path, info.Mode().Perm()), fault.Hint("chmod %o %s", most, path))
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil, fault.New(fault.Forbidden, fmt.Sprintf("read %q: it belongs to another user (uid %d)", path, st.Uid), fault.Hint("it must belong to you or to root"))
	}
	// One buffer of the final size leaves no copies behind.
	b := make([]byte, limit+1)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(b)
		return nil, fault.Wrap(fault.Unavailable, err, "read file")
	}
	if n > limit {
		clear(b)
		return nil, fault.Newf(fault.Invalid, "read %q: larger than %d bytes", path, limit)
	}
	return b[:n], nil
}

// Create makes the file path of the given mode with the given content, or nothing: it writes and syncs a sibling and links it
// to path. Missing directories are made with mode 0700. A path that exists is left as it is, with an error of kind Conflict.
// Other kinds: Forbidden (place not writable, or writable by others) and Unavailable (disk).
func Create(path string, mode fs.FileMode, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(fault.Forbidden, err, "make directory")
	}
	if err := child.Trusted(dir); err != nil {
		return fault.In(err, fmt.Sprintf("make %q", path))
	}
	sibling := filepath.Join(dir, "."+filepath.Base(path)+"."+rand.Text()[:8])
	f, err := os.OpenFile(sibling, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_CLOEXEC, mode)
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "make file")
	}
	defer os.Remove(sibling)
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "make file")
	}
	switch err := os.Link(sibling, path); {
	case errors.Is(err, fs.ErrExist):
		return fault.Newf(fault.Conflict, "make %q: it exists already", path)
	case err != nil:
		return fault.Wrap(fault.Unavailable, err, "make file")
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "sync directory")
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fault.Wrap(fault.Unavailable, err, "sync directory")
	}
	return nil
}

// Outside refuses, as Forbidden, a path that lies in dir or below it once symbolic links are followed. An empty dir holds
// nothing. Neither needs to exist.
func Outside(path, dir string) error {
	if dir == "" {
		return nil
	}
	p, err := physical(path)
	if err != nil {
		return err
	}
	d, err := physical(dir)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(d, p)
	if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return fault.New(fault.Forbidden, fmt.Sprintf("use %q: it lies in the data directory %q", path, dir),
			fault.Hint("keep it elsewhere: a backup of the data must not hold what opens it"))
	}
	return nil
}

// physical follows the symbolic links of the part of path that exists.
func physical(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "look at path")
	}
	for head, tail := abs, ""; ; head, tail = filepath.Dir(head), filepath.Join(filepath.Base(head), tail) {
		switch real, err := filepath.EvalSymlinks(head); {
		case err == nil:
			return filepath.Join(real, tail), nil
		case !errors.Is(err, fs.ErrNotExist) || head == filepath.Dir(head):
			return "", fault.Wrap(fault.Forbidden, err, "look at path")
		}
	}
}
