// Package proc runs nodes as processes of their own, for the demo and for tests that
// need real ones: it starts `bizra node`, reads the line that says where the node
// listens, kills, pauses and stops it, and keeps what it logs in a file.
//
// It promises that a process that it started is waited for, and that on Linux none
// outlives the program that started it, however that ends. It does not know what a
// node does: whether one can serve, its HTTP interface says.
package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Where a node listens if nothing else is said: on ports that are free.
const (
	ListenAny = "/ip4/127.0.0.1/tcp/0"
	HTTPAny   = "127.0.0.1:0"
)

const readyLineBytesMax = 4 << 10

// Config says how a node is run.
type Config struct {
	Binary string   // path of bizra
	Dir    string   // working directory; "": this program's
	Home   string   // of the node
	Listen string   // multiaddr; "": ListenAny
	HTTP   string   // host:port; "": HTTPAny
	Join   []string // multiaddrs with /p2p/ID
	Flags  []string // further flags of `bizra node`
	Log    string   // file that the node's standard error is appended to
}

// Args is the command line without the program, as a person would type it.
func (c Config) Args() []string {
	args := []string{"node", "--home", c.Home, "--listen", orElse(c.Listen, ListenAny), "--http", orElse(c.HTTP, HTTPAny)}
	for _, a := range c.Join {
		args = append(args, "--join", a)
	}
	return append(args, c.Flags...)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Ready is what a node says once it listens.
type Ready struct {
	Name    string // of the node
	Address string // multiaddr with /p2p/ID
	HTTP    string // URL
}

// ParseReady reads the line that a node prints when it listens.
func ParseReady(line string) (Ready, error) {
	f := strings.Fields(line)
	if len(f) != 4 || f[0] != "ready" {
		return Ready{}, fmt.Errorf("the node printed %q, not: ready NAME MULTIADDR HTTP-URL", line)
	}
	return Ready{Name: f[1], Address: f[2], HTTP: f[3]}, nil
}

// Node is one run of a node.
type Node struct {
	cfg     Config
	command *exec.Cmd
	ready   chan struct{} // closed once first is set
	first   string        // first line of standard output, "" if there was none
	exited  chan struct{} // closed once wait is set
	wait    error         // of the process
}

// Start starts the process and returns at once.
func Start(cfg Config) (*Node, error) {
	log, err := os.OpenFile(cfg.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the node's log: %w", err)
	}
	defer log.Close()                                                                                                               // the process has its own descriptor
	n := &Node{cfg: cfg, command: exec.Command(cfg.Binary, cfg.Args()...), ready: make(chan struct{}), exited: make(chan struct{})} //nolint:gosec // the program that the caller built
	n.command.Dir, n.command.Stderr = cfg.Dir, log
	n.command.SysProcAttr = attributes()
	out, err := n.command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	if err := n.command.Start(); err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	go n.watch(out)
	return n, nil
}

// watch reads standard output to its end, then waits for the process.
func (n *Node) watch(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, readyLineBytesMax)
	if lines.Scan() {
		n.first = lines.Text()
	}
	close(n.ready)
	_, _ = io.Copy(io.Discard, out) // ends with the process
	n.wait = n.command.Wait()
	close(n.exited)
}

// Ready waits until the node listens. It fails if the process ends before.
func (n *Node) Ready(ctx context.Context) (Ready, error) {
	select {
	case <-n.ready:
	case <-ctx.Done():
		return Ready{}, fmt.Errorf("wait for the node of %s to listen: %w", n.cfg.Home, context.Cause(ctx))
	}
	if n.first != "" {
		return ParseReady(n.first)
	}
	select {
	case <-n.exited:
		return Ready{}, fmt.Errorf("the node of %s ended before it listened (%v); its log says:\n%s", n.cfg.Home, n.command.ProcessState, n.LogTail(20))
	case <-ctx.Done():
		return Ready{}, fmt.Errorf("the node of %s closed its output: %w", n.cfg.Home, context.Cause(ctx))
	}
}

// PID is the process's number.
func (n *Node) PID() int { return n.command.Process.Pid }

// Exited is closed when the process has ended.
func (n *Node) Exited() <-chan struct{} { return n.exited }

// ExitCode is the process's, -1 while it runs and where a signal ended it.
func (n *Node) ExitCode() int {
	select {
	case <-n.exited:
		return n.command.ProcessState.ExitCode()
	default:
		return -1
	}
}

// Kill ends the process with SIGKILL, which it cannot notice, and waits until it is
// gone. It fails if the process had ended before.
func (n *Node) Kill() error {
	select {
	case <-n.exited:
		return fmt.Errorf("kill the node of %s: it had ended before: %v", n.cfg.Home, n.command.ProcessState)
	default:
	}
	if err := n.command.Process.Kill(); err != nil {
		return fmt.Errorf("kill the node of %s: %w", n.cfg.Home, err)
	}
	<-n.exited
	if status, ok := n.command.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("kill the node of %s: it ended by itself: %v", n.cfg.Home, n.command.ProcessState)
	}
	return nil
}

// Stop asks the process to end with SIGTERM and waits for it. It fails unless the exit
// code is 0; if ctx ends first, the process is killed.
func (n *Node) Stop(ctx context.Context) error {
	if err := n.command.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the node of %s: %w", n.cfg.Home, err)
	}
	select {
	case <-n.exited:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("stop the node of %s: %w", n.cfg.Home, context.Cause(ctx)), n.Kill())
	}
	if n.wait != nil {
		return fmt.Errorf("the node of %s did not end well (%w); its log says:\n%s", n.cfg.Home, n.wait, n.LogTail(20))
	}
	return nil
}

// End kills the process if it runs, whatever became of it before.
func (n *Node) End() {
	_ = n.command.Process.Kill() // an error says that it has ended
	<-n.exited
}

const logBytesMax = 16 << 20

// Log is what the node logged so far, in this run and those before it.
func (n *Node) Log() string {
	f, err := os.Open(n.cfg.Log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, logBytesMax))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// LogTail is the last lines of the log.
func (n *Node) LogTail(lines int) string {
	all := strings.Split(strings.TrimRight(n.Log(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Poll calls try every few milliseconds until it returns nil; it fails with try's last
// error when ctx ends.
func Poll(ctx context.Context, what string, try func(ctx context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

const pollEvery = 20 * time.Millisecond
