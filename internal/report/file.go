package report

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

// maxLog is the largest rotation log in bytes that is read.
const maxLog = 64 << 20

// lockWait is how long a writer waits for another one of the same directory.
const lockWait = 10 * time.Second

// WriteLog puts entries of LogEntry into the rotation log at path, the last of them on top, as Insert does. The file is made with mode 0600,
// or keeps its mode; it is replaced as a whole, so that a reader finds the log from before or from after. A symbolic link is followed.
// Writers of one directory take turns. Kinds: Invalid (an entry without marks, a path that is no file), NotFound (no such directory),
// Forbidden, Unavailable (another writer, or a full disk), Canceled (while it waited for its turn).
func WriteLog(ctx context.Context, path string, entries ...string) error {
	return rewrite(ctx, path, "write rotation log", func(log []byte) ([]byte, error) {
		for _, e := range entries {
			var err error
			if log, err = Insert(log, e); err != nil {
				return nil, err
			}
		}
		return log, nil
	})
}

// WriteCalendar replaces the calendar file at path, in the way of WriteLog.
func WriteCalendar(ctx context.Context, path, calendar string) error {
	return rewrite(ctx, path, "write calendar", func([]byte) ([]byte, error) { return []byte(calendar), nil })
}

// rewrite replaces the content of a file with what change makes of it.
func rewrite(ctx context.Context, path, what string, change func([]byte) ([]byte, error)) (err error) {
	defer func() {
		if err != nil {
			err = fault.In(classify(err), fmt.Sprintf("%s %q", what, path))
		}
	}()
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	unlock, err := lockDir(ctx, filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	before, info, err := readFile(path)
	if err != nil {
		return err
	}
	after, err := change(before)
	if err != nil || info != nil && bytes.Equal(before, after) {
		return err
	}
	return replace(path, after, info)
}

// classify gives errors of the file system a kind.
func classify(err error) error {
	switch {
	case fault.KindOf(err) != fault.Unknown:
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "there is no such directory", fault.Hint("make the directory, or name another file"))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fault.New(fault.Forbidden, "no right to write there", fault.Hint("give the user that runs Keywright the right to write in that directory"))
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.New(fault.Unavailable, "the disk is full")
	}
	return fault.Wrap(fault.Unavailable, err, "use file")
}

func readFile(path string) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fault.New(fault.Invalid, "it is not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxLog+1))
	if err == nil && len(b) > maxLog {
		err = fault.New(fault.Invalid, "it is larger than 64 MiB", fault.Hint("move the older entries to another file"))
	}
	return b, info, err
}

// lockDir makes the writers of a directory take turns. Where the file system knows no locks it does nothing.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	give := time.Now().Add(lockWait)
	turn := time.NewTicker(20 * time.Millisecond)
	defer turn.Stop()
	for {
		err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return func() { _ = d.Close() }, nil
		case time.Now().After(give):
			_ = d.Close()
			return nil, fault.New(fault.Unavailable, "another process is writing there")
		}
		select {
		case <-turn.C:
		case <-ctx.Done():
			_ = d.Close()
			return nil, fault.Wrap(fault.Canceled, context.Cause(ctx), "wait for another writer")
		}
	}
}

// replace puts content in place of a file. The sibling that holds it for a moment is private until it has the file's mode.
func replace(path string, content []byte, was fs.FileInfo) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if was != nil {
		if st, ok := was.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
			if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
		}
		if err := f.Chmod(was.Mode().Perm()); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil // it is in place; only its durability is not known
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}
