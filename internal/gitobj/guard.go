package gitobj

import (
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/keywright/keywright/internal/fault"
)

var errCut = errors.New("the file became shorter while it was read")

// guard runs fn, and turns a read beyond the end of a mapped file, which somebody truncated, into an error.
func guard(fn func() error) (err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			if e, ok := p.(runtime.Error); ok {
				if _, ok := e.(interface{ Addr() uintptr }); ok {
					err = errCut
					return
				}
			}
			panic(p)
		}
	}()
	return fn()
}

// mapFile maps a regular file for reading. The last component of path must not be a symbolic link.
func mapFile(path string) ([]byte, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "look at file")
	}
	if st.Size() == 0 {
		return nil, nil
	}
	if st.Size() != int64(int(st.Size())) {
		return nil, fault.New(fault.Unsupported, "map file: too large")
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(st.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "map file")
	}
	return b, nil
}

// openFile opens a regular file for reading, never through a symbolic link at its end and never one that would block.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		kind := fault.Unavailable
		if errors.Is(err, os.ErrNotExist) {
			kind = fault.NotFound
		}
		return nil, fault.Wrap(kind, err, "open file")
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fault.New(fault.Unsupported, "open file: not a regular file")
	}
	return f, nil
}

// readFile reads a whole regular file of at most limit bytes, under the rules of openFile.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "look at file")
	}
	if st.Size() > limit {
		return nil, fault.Newf(fault.Unsupported, "read file: more than %d bytes", limit)
	}
	b := make([]byte, st.Size())
	for n := 0; n < len(b); {
		m, err := f.Read(b[n:])
		n += m
		if err != nil {
			return b[:n], nil
		}
	}
	return b, nil
}
