package harden

import (
	"golang.org/x/sys/unix"

	"github.com/keywright/keywright/internal/fault"
)

// Process hardens the calling process. Kinds: Unknown when the system refuses.
func Process() error {
	unix.Umask(0o077)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fault.Wrap(fault.Unknown, err, "forbid dumps")
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fault.Wrap(fault.Unknown, err, "forbid core files")
	}
	return nil
}
