package tree

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// What stands before the name in an entry as the kernel writes it: inode and offset of 8 bytes, the entry's length of 2, the sort of 1.
const (
	lengthAt = 16
	sortAt   = 18
	nameAt   = 19
)

// entries gives what is in the folder, but for itself and the one above. Where the file system does not say what an entry is, it is asked. An error
// comes with what was read before it.
func (f *folder) entries() ([]entry, error) {
	var all []entry
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(f.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return all, err
		}
		for b := buf[:n]; len(b) > nameAt; {
			size := int(binary.NativeEndian.Uint16(b[lengthAt:]))
			if size <= nameAt || size > len(b) {
				return all, unix.EIO
			}
			raw := b[nameAt:size]
			if i := bytes.IndexByte(raw, 0); i >= 0 {
				raw = raw[:i]
			}
			name, kind := string(raw), b[sortAt]
			b = b[size:]
			if name == "." || name == ".." || name == "" {
				continue
			}
			e := entry{name: name}
			switch kind {
			case unix.DT_REG:
				e.sort = isFile
			case unix.DT_DIR:
				e.sort = isFolder
			case unix.DT_LNK:
				e.sort = isLink
			case unix.DT_UNKNOWN:
				e.sort = f.look(name)
			default:
				e.sort = isSpecial
			}
			all = append(all, e)
		}
	}
}
