package sqlfile

import (
	"golang.org/x/sys/unix"

	"github.com/keywright/keywright/internal/fault"
)

// localDisk refuses a directory on a network file system.
func localDisk(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fault.Wrap(fault.Unavailable, err, "check directory of database")
	}
	if st.Flags&unix.MNT_LOCAL == 0 {
		return networkFile(dir, unix.ByteSliceToString(st.Fstypename[:]))
	}
	return nil
}
