//go:build !linux

package proc

import "syscall"

// attributes has nothing to ask for: only Linux ends a process with the one that started it.
func attributes() *syscall.SysProcAttr { return nil }
