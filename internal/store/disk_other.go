//go:build !linux && !darwin

package store

// localDisk cannot tell here; the documentation asks for a local disk.
func localDisk(string) error { return nil }
