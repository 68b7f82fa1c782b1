package envfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/fault"
)

// limit is the number of bytes of the largest file that is edited.
const limit = 1 << 20

// siblingName gives the name of the file that a replacement is written to before it takes the name of base. It is fixed, so that one
// that a killed process left behind is found and erased, and so that it serves as the lock of all writers.
func siblingName(base string) string { return "." + base + ".keywright-new" }

// place is the resolved file: an open directory and a name in it. Nothing is followed out of that directory.
type place struct {
	path string // absolute, links resolved; for people and for the address
	base string
	dir  *os.Root
}

func (p *place) close() { _ = p.dir.Close() } // It was only read and searched.

// resolve follows links to the file, or to the name in an existing directory where it would be made.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "resolve file")
	}
	real, err := filepath.EvalSymlinks(abs)
	if err == nil {
		return real, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", named(err, "resolve file", abs)
	}
	if info, err := os.Lstat(abs); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", fault.New(fault.Invalid, fmt.Sprintf("resolve %q: the link leads to no file", abs), fault.Hint("make the file that it points to, or remove the link"))
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", errNoFile
		}
		return "", named(err, "resolve file", abs)
	}
	return filepath.Join(dir, filepath.Base(abs)), nil
}

// errNoFile says that neither the file nor its directory is there.
var errNoFile = fault.New(fault.NotFound, "open file: its directory does not exist", fault.Hint("make the directory, or correct the path"))

func openPlace(path string) (*place, error) {
	real, err := resolve(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Dir(real))
	if err != nil {
		return nil, named(err, "open directory", filepath.Dir(real))
	}
	return &place{path: real, base: filepath.Base(real), dir: root}, nil
}

// content is a file as it was read.
type content struct {
	text []byte
	info fs.FileInfo
	stat *syscall.Stat_t
}

// read gives the file, or nil when there is none.
func (p *place) read() (*content, error) {
	f, err := p.dir.OpenFile(p.base, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // No file is a state, not an error.
	}
	if err != nil {
		if info, look := p.dir.Lstat(p.base); look == nil && !info.Mode().IsRegular() {
			return nil, irregular(p.path)
		}
		return nil, named(err, "read file", p.path)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, named(err, "read file", p.path)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || !ok || synthetic(f) {
		return nil, irregular(p.path)
	}
	b := make([]byte, min(info.Size(), limit)+512)
	n, err := io.ReadFull(f, b)
	switch {
	case err == nil && n > limit || info.Size() > limit:
		clear(b)
		return nil, fault.Newf(fault.Invalid, "read %q: larger than %d bytes", p.path, limit)
	case err == nil:
		clear(b)
		return nil, fault.Newf(fault.Conflict, "read %q: it grew while it was read", p.path)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		clear(b)
		return nil, named(err, "read file", p.path)
	}
	if bytes.IndexByte(b[:n], 0) >= 0 {
		clear(b)
		return nil, fault.New(fault.Invalid, fmt.Sprintf("read %q: it is no text file in UTF-8", p.path), fault.Hint("save it as UTF-8 text"))
	}
	return &content{text: b[:n], info: info, stat: st}, nil
}

func irregular(path string) error {
	return fault.New(fault.Invalid, fmt.Sprintf("open %q: not a regular file on a disk", path), fault.Hint("name a file, not a device, pipe, socket or directory"))
}

// sibling is the open and locked file that a replacement is written to.
type sibling struct {
	*os.File
	name string
	dir  *os.Root
	// moved is true once the name is no longer ours.
	moved bool
}

// lock opens the sibling and waits for the right to write it, which the kernel takes back from a process that ends. Nothing was
// changed in the place when it fails: Canceled, Unavailable, or what the directory answers.
func (p *place) lock(ctx context.Context) (*sibling, error) {
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		s, err := p.tryLock(os.O_CREATE)
		if err != nil || s != nil {
			return s, err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return nil, stopped(ctx, fmt.Sprintf("write %q: another process is writing it", p.path))
		}
	}
}

// tryLock gives nil when another process holds the lock.
func (p *place) tryLock(create int) (*sibling, error) {
	name := siblingName(p.base)
	if info, err := p.dir.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, planted(p.path, name)
	}
	f, err := p.dir.OpenFile(name, os.O_RDWR|create|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, named(err, "write beside the file", p.path)
	}
	giveUp := func(err error) (*sibling, error) {
		_ = f.Close() // Nothing was written.
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			return giveUp(nil)
		}
		return giveUp(named(err, "lock beside the file", p.path))
	}
	// The name may have moved on while we opened: then this is somebody's finished file, or an erased one.
	mine, err := f.Stat()
	if err != nil {
		return giveUp(named(err, "lock beside the file", p.path))
	}
	now, err := p.dir.Lstat(name)
	if err != nil || !os.SameFile(mine, now) {
		return giveUp(nil)
	}
	if st, ok := mine.Sys().(*syscall.Stat_t); !ok || st.Nlink != 1 || int(st.Uid) != os.Geteuid() || mine.Mode().Perm()&0o077 != 0 {
		return giveUp(planted(p.path, name))
	}
	return &sibling{File: f, name: name, dir: p.dir}, nil
}

func planted(path, name string) error {
	return fault.New(fault.Conflict, fmt.Sprintf("write %q: %q beside it was not made by us", path, name), fault.Hint("find out who made it, and remove it"))
}

// release erases the sibling, unless it has taken the file's name, and gives up the lock. It may be called twice.
func (s *sibling) release() {
	if s.moved {
		return
	}
	s.moved = true
	_ = s.dir.Remove(s.name) // The next writer erases what is left.
	_ = s.Close()
}

// sweep erases what a killed process left beside the file, unless a living one is writing it. It is quiet about failures: a place
// that we may not write is not ours to sweep.
func (p *place) sweep() {
	if _, err := p.dir.Lstat(siblingName(p.base)); err != nil {
		return
	}
	if s, err := p.tryLock(0); err == nil && s != nil {
		s.release()
	}
}

// replace gives the file the new text by way of the locked sibling, keeping owner, permissions and attributes. before is what was
// read, or nil for a file to make with mode. An error of kind Indeterminate means that the new text is in place, and may not
// survive a power failure; after any other the old file is as it was.
func (p *place) replace(ctx context.Context, s *sibling, before *content, text []byte, mode fs.FileMode) error {
	if err := s.fill(text); err != nil {
		return named(err, "write beside the file", p.path)
	}
	if before != nil {
		mode = before.info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
		if own, err := s.Stat(); err != nil || !sameOwner(own, before.stat) {
			if err := s.Chown(int(before.stat.Uid), int(before.stat.Gid)); err != nil {
				return fault.New(fault.Forbidden, fmt.Sprintf("write %q: it belongs to uid %d, gid %d, and the replacement could not be given to them", p.path, before.stat.Uid, before.stat.Gid),
					fault.Hint("run Keywright as that user, or as root"))
			}
		}
		if err := p.copyAttributes(s.File); err != nil {
			return err
		}
	}
	if err := s.Chmod(mode); err != nil {
		return named(err, "set the permissions beside the file", p.path)
	}
	if err := s.Sync(); err != nil {
		return named(err, "write beside the file", p.path)
	}
	// The last look before the change. Editors do not take our lock.
	if !p.still(before) {
		return fault.New(fault.Conflict, fmt.Sprintf("write %q: it was changed at the same time", p.path), fault.Hint("look at it, then try again"))
	}
	if ctx.Err() != nil {
		return stopped(ctx, fmt.Sprintf("write %q", p.path))
	}
	if err := p.dir.Rename(s.name, p.base); err != nil {
		return named(err, "replace file", p.path)
	}
	s.moved = true
	_ = s.Close() // The content is synced.
	if err := p.syncDir(); err != nil {
		return fault.New(fault.Indeterminate, fmt.Sprintf("replace %q: done, and the directory could not be synced", p.path))
	}
	return nil
}

func (s *sibling) fill(text []byte) error {
	if err := s.Truncate(0); err != nil {
		return err
	}
	_, err := s.WriteAt(text, 0)
	return err
}

func sameOwner(info fs.FileInfo, st *syscall.Stat_t) bool {
	own, ok := info.Sys().(*syscall.Stat_t)
	return ok && own.Uid == st.Uid && own.Gid == st.Gid
}

// still reports whether the file is the one that was read. Times alone do not say: a clock tick is longer than a write.
func (p *place) still(before *content) bool {
	now, err := p.read()
	if err != nil || now == nil {
		return err == nil && before == nil
	}
	defer clear(now.text)
	return before != nil && os.SameFile(now.info, before.info) && now.info.Mode() == before.info.Mode() && now.info.ModTime().Equal(before.info.ModTime()) && bytes.Equal(now.text, before.text)
}

func (p *place) syncDir() error {
	d, err := p.dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func stopped(ctx context.Context, what string) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fault.New(fault.Canceled, what+": stopped before anything was changed")
	}
	return fault.New(fault.Unavailable, what+": out of time before anything was changed")
}

// named gives an error of the operating system its kind and a hint. Nothing was changed.
func named(err error, verb, path string) error {
	what := fmt.Sprintf("%s %q", verb, path)
	// The causes name the file alone; they are kept for their words.
	cause := err
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		cause = errno
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.Wrap(fault.Unavailable, cause, what, fault.Hint("free some space; the file is as it was"))
	case errors.Is(err, syscall.EROFS):
		return fault.Wrap(fault.Forbidden, cause, what, fault.Hint("the file system is mounted read-only; the file is as it was"))
	case errors.Is(err, syscall.EBUSY):
		return fault.Wrap(fault.Invalid, cause, what, fault.Hint("the file is a mount point of its own, which cannot be replaced; mount its directory instead"))
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Forbidden, cause, what, fault.Hint("Keywright must be able to read the file, and to write in its directory"))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fault.Wrap(fault.NotFound, cause, what)
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENAMETOOLONG):
		return fault.Wrap(fault.Invalid, cause, what)
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return fault.Wrap(fault.Unavailable, cause, what)
	}
	return fault.Wrap(fault.Unknown, cause, what)
}
