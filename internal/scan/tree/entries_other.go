//go:build unix && !linux

package tree

import "golang.org/x/sys/unix"

// entries gives what is in the folder, but for itself and the one above. An error comes with what was read before it.
func (f *folder) entries() ([]entry, error) {
	var all []entry
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(f.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return all, err
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			all = append(all, entry{name: name, sort: f.look(name)})
		}
	}
}
