package sqlfile

import (
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/fault"
)

func TestMountType(t *testing.T) {
	const mounts = `22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:26 / /home rw - fuse.sshfs host:/home rw
31 30 0:27 / /home/me/with\040blank rw shared:1 - virtiofs share rw
32 22 0:28 / /homework rw - fuse.mergerfs pool rw
not a line
33 22 0:29 / /data rw - ext4 /dev/sdb rw
34 22 0:30 / /data rw - fuse.rclone bucket: rw
`
	for dir, want := range map[string]string{
		"/":                       "ext4",
		"/var/lib/keywright":      "ext4",
		"/home":                   "fuse.sshfs",
		"/home/me":                "fuse.sshfs",
		"/home/me/with blank":     "virtiofs",
		"/home/me/with blank/sub": "virtiofs",
		"/homework/x":             "fuse.mergerfs",
		"/data/x":                 "fuse.rclone", // the later mount hides the earlier
	} {
		if got := mountType(strings.NewReader(mounts), dir); got != want {
			t.Errorf("%s is on %q, want %q", dir, got, want)
		}
	}
	if got := mountType(strings.NewReader(""), "/"); localFUSE[got] {
		t.Errorf("an unknown mount counts as local: %q", got)
	}
}

func TestLocalDisk(t *testing.T) {
	if err := localDisk(t.TempDir()); err != nil {
		t.Errorf("%v", err)
	}
	if err := localDisk("/none/such"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a directory that is not there: %v", err)
	}
	err := networkFile("/mnt/x", "nfs")
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "nfs") || !strings.Contains(fault.HintOf(err), "PostgreSQL") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}
