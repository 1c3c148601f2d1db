package proc

import "syscall"

// attributes has the kernel kill the process when the one that started it ends.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
