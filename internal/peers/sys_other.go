//go:build !linux

package peers

import "syscall"

// attributes puts a child into its own process group, out of reach of a terminal's interrupt.
func attributes(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// unprivileged leaves the user of a child as it is: the peers run as root on Linux only.
func unprivileged(string) (*syscall.SysProcAttr, error) {
	return &syscall.SysProcAttr{Setpgid: true}, nil
}

func release(string) error { return nil }
