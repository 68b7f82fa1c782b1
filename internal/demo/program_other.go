//go:build !linux

package demo

import "syscall"

// attributes puts a child into its own process group, out of reach of the terminal's interrupt.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
