package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
)

// Witness keeps checkpoints where the owner of the host cannot take them back, as far as that place allows it.
type Witness interface {
	// Append adds c for good. It may be called again with the same checkpoint.
	Append(ctx context.Context, c Checkpoint) error
	// Read gives all that were appended, in that order. Nothing appended yet gives none and no error.
	Read(ctx context.Context) ([]Checkpoint, error)
}

// FileWitness is a file of JSON lines that is only ever appended to. It should lie on another machine or on a medium that
// takes no deletions; Keywright cannot tell. It is safe for concurrent use, also by several processes on one host.
type FileWitness struct {
	path string
}

var _ Witness = (*FileWitness)(nil)

// NewFileWitness gives the witness at path. The file is made, with mode 0600, by the first Append; its directory must be there.
func NewFileWitness(path string) *FileWitness { return &FileWitness{path: path} }

// Append implements Witness. The line is on disk when it returns nil.
func (w *FileWitness) Append(ctx context.Context, c Checkpoint) error {
	if err := ctx.Err(); err != nil {
		return fault.In(err, "append to witness")
	}
	return appendLine(w.path, c.Line(), "append to witness")
}

// appendLine adds a line to the file under an exclusive lock and syncs it. What a crash left of an earlier line is ended
// first. An error means that the line may or may not be there.
func appendLine(path string, line []byte, what string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, what)
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = fault.Wrap(fault.Unavailable, e, what)
		}
	}()
	fails := func(err error) error { return fault.Wrap(fault.Unavailable, err, what) }
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return fails(err)
	}
	info, err := f.Stat()
	if err != nil {
		return fails(err)
	}
	if !info.Mode().IsRegular() {
		return fault.Newf(fault.Invalid, "%s: %q is not a regular file", what, path)
	}
	fresh := info.Size() == 0
	if !fresh {
		tail := make([]byte, 1)
		if _, err := f.ReadAt(tail, info.Size()-1); err != nil {
			return fails(err)
		}
		if tail[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if _, err := f.Write(append(bytes.Clone(line), '\n')); err != nil {
		return fails(err)
	}
	if err := f.Sync(); err != nil {
		return fails(err)
	}
	if fresh {
		return keyfile.SyncDir(filepath.Dir(path))
	}
	return nil
}

// Read implements Witness.
func (w *FileWitness) Read(ctx context.Context) ([]Checkpoint, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.In(err, "read witness")
	}
	f, err := os.OpenFile(w.path, os.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fault.Wrap(fault.Forbidden, err, "read witness")
	}
	defer f.Close()
	out, err := ReadCheckpoints(f)
	if err != nil {
		return out, fault.In(err, "read witness")
	}
	return out, nil
}

func wholeObject(line []byte) bool { return json.Valid(line) && bytes.HasPrefix(line, []byte("{")) }
