//go:build !unix

package keysource

import (
	"io/fs"
	"strconv"
)

// stamp gives what changes when a file is written or replaced.
func stamp(info fs.FileInfo) string {
	return strconv.FormatInt(info.Size(), 10) + "/" + strconv.FormatInt(info.ModTime().UnixNano(), 10)
}
