package tree

import (
	"io"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The walk uses the system's calls where it reads millions of files: the files of package os tell the runtime's poller of each, and look at each
// entry of a folder once more. Every name is opened in the folder that was read, one component at a time and without following a link, so
// that what is swapped for a link meanwhile leads nowhere.

// folder is an open folder, closed when the walker and all jobs have let go of it.
type folder struct {
	fd   int
	mu   sync.Mutex
	uses int
}

func (f *folder) hold() {
	f.mu.Lock()
	f.uses++
	f.mu.Unlock()
}

func (f *folder) release() {
	f.mu.Lock()
	f.uses--
	last := f.uses == 0
	f.mu.Unlock()
	if last {
		_ = unix.Close(f.fd)
	}
}

// sort is what an entry of a folder is.
type sort uint8

const (
	isFile sort = iota
	isFolder
	isLink
	isSpecial
	isGone // it was there when the folder was read
)

// entry is one name in a folder.
type entry struct {
	name string
	sort sort
	rank int
}

func sortOf(mode uint32) sort {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return isFile
	case unix.S_IFDIR:
		return isFolder
	case unix.S_IFLNK:
		return isLink
	}
	return isSpecial
}

// openAt opens a name in a folder, or a path.
func openAt(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// openFolder opens the folder at a path, following links.
func openFolder(path string) (*folder, error) {
	fd, err := openAt(unix.AT_FDCWD, path, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return &folder{fd: fd, uses: 1}, nil
}

// folder opens a folder in f.
func (f *folder) folder(name string) (*folder, error) {
	fd, err := openAt(f.fd, name, unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	return &folder{fd: fd, uses: 1}, nil
}

// file opens a file in f; in folders below f where name has slashes. It does not wait for a pipe that has taken the place of a file.
func (f *folder) file(name string) (openedFile, error) {
	dir := f.fd
	for {
		first, rest, deeper := strings.Cut(name, "/")
		flags := unix.O_NONBLOCK | unix.O_NOFOLLOW
		if deeper {
			flags |= unix.O_DIRECTORY
		}
		fd, err := openAt(dir, first, flags)
		if dir != f.fd {
			_ = unix.Close(dir)
		}
		if err != nil || !deeper {
			return openedFile(fd), err
		}
		dir, name = fd, rest
	}
}

// readlink gives the text of a symbolic link in f.
func (f *folder) readlink(name string) (string, error) {
	for n := 256; ; n *= 4 {
		b := make([]byte, n)
		k, err := unix.Readlinkat(f.fd, name, b)
		if err != nil {
			return "", err
		}
		if k < n {
			return string(b[:k]), nil
		}
	}
}

// look asks what an entry is.
func (f *folder) look(name string) sort {
	var st unix.Stat_t
	for {
		switch err := unix.Fstatat(f.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err {
		case nil:
			return sortOf(uint32(st.Mode)) //nolint:unconvert // other systems have 16 bits
		case unix.EINTR:
		default:
			return isGone
		}
	}
}

// openedFile is an open file.
type openedFile int

var _ io.ReadCloser = openedFile(0)

// openFile opens the file at a path, following links.
func openFile(path string) (openedFile, error) {
	fd, err := openAt(unix.AT_FDCWD, path, unix.O_NONBLOCK)
	return openedFile(fd), err
}

// stat gives the size of a file, and whether it is one.
func (f openedFile) stat() (size int64, regular bool, err error) {
	var st unix.Stat_t
	for {
		if err = unix.Fstat(int(f), &st); err != unix.EINTR {
			return st.Size, sortOf(uint32(st.Mode)) == isFile, err //nolint:unconvert // as above
		}
	}
}

// Read implements io.Reader.
func (f openedFile) Read(p []byte) (int, error) {
	const most = 1 << 30
	for len(p) > 0 {
		n, err := unix.Read(int(f), p[:min(len(p), most)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n <= 0:
			return 0, io.EOF
		}
		return n, nil
	}
	return 0, nil
}

// Close implements io.Closer.
func (f openedFile) Close() error { return unix.Close(int(f)) }
