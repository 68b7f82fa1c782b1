//go:build unix

package keysource

import (
	"io/fs"
	"strconv"
	"syscall"
)

// stamp gives what changes when a file is written or replaced.
func stamp(info fs.FileInfo) string {
	s := strconv.FormatInt(info.Size(), 10) + "/" + strconv.FormatInt(info.ModTime().UnixNano(), 10)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s += "/" + strconv.FormatUint(uint64(st.Dev), 10) + "/" + strconv.FormatUint(st.Ino, 10) //nolint:unconvert // Dev has another type elsewhere.
	}
	return s
}
