package sqlfile

import (
	"bufio"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keywright/keywright/internal/fault"
)

// networkMagic names the file systems whose files live on another machine, by the number that statfs gives.
var networkMagic = map[uint32]string{
	0x6969:     "nfs",
	0xff534d42: "cifs",
	0xfe534d42: "smb2",
	0x517b:     "smb",
	0x01021997: "9p",
	0x5346414f: "afs",
	0x6b414653: "afs",
	0x00c36400: "ceph",
	0x0bd00bd0: "lustre",
	0x7461636f: "ocfs2",
	0x01161970: "gfs2",
	0x73757245: "coda",
	0x564c:     "ncp",
	0x19830326: "beegfs",
	0x47504653: "gpfs",
}

const fuseMagic = 0x65735546

// localFUSE are the file systems in user space that keep their files on this machine.
var localFUSE = map[string]bool{
	"fuseblk": true, "virtiofs": true, "fuse.fuse-overlayfs": true, "fuse.mergerfs": true, "fuse.bindfs": true,
	"fuse.gocryptfs": true, "fuse.encfs": true, "fuse.cryfs": true, "fuse.securefs": true, "fuse.ext4": true, "fuse.ntfs-3g": true,
	"fuse.zfs": true, "fuse.lxcfs": true,
}

// localDisk refuses a directory on a network file system.
func localDisk(dir string) error {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == nil {
			break
		}
		if err != syscall.EINTR { //nolint:errorlint // A plain errno.
			return fault.Wrap(fault.Unavailable, err, "check directory of database")
		}
	}
	magic := uint32(st.Type) //nolint:gosec // G115: the field's width differs by architecture; the numbers have 32 bits.
	if name := networkMagic[magic]; name != "" {
		return networkFile(dir, name)
	}
	if magic != fuseMagic {
		return nil
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return networkFile(dir, "fuse of an unknown sort")
	}
	defer f.Close()
	if name := mountType(f, dir); !localFUSE[name] {
		return networkFile(dir, name)
	}
	return nil
}

// mountType finds the type of the file system that dir is on, in the form of /proc/self/mountinfo; the last and longest mount
// point that leads to dir counts.
func mountType(mountinfo io.Reader, dir string) string {
	best, name := -1, "unknown"
	for lines := bufio.NewScanner(mountinfo); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, types := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(types) < 1 {
			continue
		}
		point := mountEscapes.Replace(fields[4])
		if dir == point || point == "/" || strings.HasPrefix(dir, point+"/") {
			if len(point) >= best {
				best, name = len(point), types[0]
			}
		}
	}
	return name
}

var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
