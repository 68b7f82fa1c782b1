package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/sqlfile"
)

// DriverLock takes the role of driver for the store in dir, its data directory: one process has it at a time, and loses it when
// it ends, however it ends. It guards the role alone; every process may read the store and write signals. release may be
// called once. Kinds: Conflict when another process has the role; its message names that process when it can.
func DriverLock(dir string) (release func() error, err error) {
	const what = "take driver role"
	path := filepath.Join(dir, "driver.lock")
	f, err := sqlfile.Lock(path)
	if err != nil {
		if !errors.Is(err, sqlfile.ErrLocked) {
			return nil, fault.Wrap(fault.Forbidden, err, what)
		}
		by := "another process"
		if b, err := os.ReadFile(path); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				by = fmt.Sprintf("process %d", pid)
			}
		}
		return nil, fault.New(fault.Conflict, what+": "+by+" has it", fault.Hint("keywright rotation follow shows what it does"))
	}
	// The number is for people; the lock is what counts.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f.Close, nil
}

// waitLock takes the lock of a file that others hold for seconds.
func waitLock(ctx context.Context, path string) (release func() error, err error) {
	const what = "wait for migration"
	for {
		var f io.Closer
		f, err = sqlfile.Lock(path)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, sqlfile.ErrLocked) {
			return nil, fault.Wrap(fault.Forbidden, err, what)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, fault.In(ctx.Err(), what)
		}
	}
}
