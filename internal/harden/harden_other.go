//go:build !linux

package harden

import "syscall"

// Process hardens the calling process as far as this system allows: new files are private to the user.
func Process() error {
	syscall.Umask(0o077)
	return nil
}
