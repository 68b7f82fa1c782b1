package sqlfile

import (
	"os"
	"syscall"
)

// ErrLocked is the error of Lock when another process, or another call in this one, has the lock.
const ErrLocked = syscall.EWOULDBLOCK

// Lock opens the file at path, makes it with mode 0600 when it is not there, and locks it without waiting. The lock ends when the file is
// closed, or with the process. The error is that of the system: ErrLocked by errors.Is, any other when the file cannot be opened or locked.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
