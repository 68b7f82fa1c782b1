package demo

import "syscall"

// attributes puts a child into its own process group, out of reach of the terminal's interrupt, and has the kernel kill it when the demo dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
