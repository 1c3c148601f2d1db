//go:build unix

package proc

import (
	"fmt"
	"syscall"
)

// Pause stops the process where it is, with SIGSTOP, as a machine that hangs.
func (n *Node) Pause() error { return n.signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (n *Node) Resume() error { return n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) error {
	if err := n.command.Process.Signal(s); err != nil {
		return fmt.Errorf("send %v to the node of %s: %w", s, n.cfg.Home, err)
	}
	return nil
}
