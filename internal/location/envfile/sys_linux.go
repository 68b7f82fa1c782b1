package envfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/keywright/keywright/internal/fault"
)

// synthetic reports whether the kernel makes the file up, as in /proc and /sys: such a file cannot be replaced.
func synthetic(f *os.File) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false
	}
	switch int64(st.Type) { //nolint:unconvert // It is narrower on some machines.
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC:
		return true
	}
	return false
}

// copyAttributes gives to the extended attributes of the file, such as access lists and security labels.
func (p *place) copyAttributes(to *os.File) error {
	from, err := p.dir.Open(p.base)
	if err != nil {
		return named(err, "read file", p.path)
	}
	defer from.Close()
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(from.Fd()), names)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return named(err, "read the attributes of", p.path)
	}
	for name := range bytes.SplitSeq(names[:n], []byte{0}) {
		if len(name) == 0 {
			continue
		}
		want, err := attribute(from, string(name))
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return named(err, "read the attributes of", p.path)
		}
		if has, err := attribute(to, string(name)); err == nil && bytes.Equal(has, want) {
			continue
		}
		if err := unix.Fsetxattr(int(to.Fd()), string(name), want, 0); err != nil {
			return fault.New(fault.Forbidden, fmt.Sprintf("write %q: its attribute %q could not be given to the replacement", p.path, name), fault.Hint("run Keywright as a user who may set it, or as root"))
		}
	}
	return nil
}

func attribute(f *os.File, name string) ([]byte, error) {
	b := make([]byte, 64<<10)
	n, err := unix.Fgetxattr(int(f.Fd()), name, b)
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}
