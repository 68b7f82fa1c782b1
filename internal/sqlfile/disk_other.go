//go:build !linux && !darwin

package sqlfile

// localDisk cannot tell here; the documentation asks for a local disk.
func localDisk(string) error { return nil }
