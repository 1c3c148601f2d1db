package tour

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Limits of a tour.
const (
	stepTimeout   = 2 * time.Minute
	stopTimeout   = 30 * time.Second
	outputMax     = 4 << 20 // bytes of one command
	matchEvery    = 20 * time.Millisecond
	statusUnknown = -1
)

// Config says where a tour is run.
type Config struct {
	Dir string   // working directory of the shell
	Env []string // added to this program's
	Log io.Writer
}

// Run runs blocks in order. It ends with the first command that fails or prints
// something else, and in any case ends what it left in the background.
func Run(ctx context.Context, blocks []Block, cfg Config) (err error) {
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	sh, err := newShell(cfg)
	if err != nil {
		return err
	}
	var running []*background
	defer func() {
		for i := len(running) - 1; i >= 0; i-- {
			err = errors.Join(err, running[i].stop())
		}
		err = errors.Join(err, sh.close())
	}()
	for _, b := range blocks {
		if b.Background {
			bg, berr := startBackground(ctx, sh, b.Steps[0], cfg)
			if bg != nil {
				running = append(running, bg)
			}
			if berr != nil {
				return fmt.Errorf("line %d: %w", b.Steps[0].Line, berr)
			}
			continue
		}
		for i, s := range b.Steps {
			forgiven := i+1 < len(b.Steps) && b.Steps[i+1].Command == "echo $?"
			if err := sh.step(ctx, s, forgiven); err != nil {
				return fmt.Errorf("line %d: $ %s: %w", s.Line, s.Command, err)
			}
		}
	}
	return nil
}

// shell is a bash that stays between commands.
type shell struct {
	cfg     Config
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	mark    string
	status  int // of the last command
}

func newShell(cfg Config) (*shell, error) {
	s := &shell{cfg: cfg, mark: "tour-" + rand.Text(), command: exec.Command("bash", "--noprofile", "--norc")}
	s.command.Dir, s.command.Env = cfg.Dir, append(os.Environ(), cfg.Env...)
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := s.command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a shell: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a shell: %w", err)
	}
	defer w.Close() // the shell has its own descriptor
	s.command.Stdout, s.command.Stderr, s.in, s.out = w, w, in, bufio.NewReader(r)
	if err := s.command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start a shell: %w", err), r.Close())
	}
	return s, nil
}

// step runs one command and compares.
func (s *shell) step(ctx context.Context, step Step, forgiven bool) error {
	fmt.Fprintf(s.cfg.Log, "$ %s\n", step.Command)
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-s.command.Process.Pid, syscall.SIGKILL) })
	defer stop()
	output, status, err := s.run(step.Command)
	fmt.Fprint(s.cfg.Log, output)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	if status != 0 && !forgiven {
		return fmt.Errorf("exit code %d:\n%s", status, output)
	}
	return Match(step.Want, output)
}

// run has the shell run a command; "$?" is the exit code of the one before.
func (s *shell) run(command string) (output string, status int, err error) {
	script := fmt.Sprintf("(exit %d)\n{ %s\n} </dev/null\nprintf '\\n%s %%d\\n' $?\n", s.status, command, s.mark)
	if _, err := io.WriteString(s.in, script); err != nil {
		return "", statusUnknown, fmt.Errorf("hand a command to the shell: %w", err)
	}
	var b strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			return b.String() + line, statusUnknown, fmt.Errorf("the shell has ended: %w", err)
		}
		if code, ok := strings.CutPrefix(line, s.mark+" "); ok {
			s.status, err = strconv.Atoi(strings.TrimSpace(code))
			// The line end before the mark is ours.
			return strings.TrimSuffix(b.String(), "\n"), s.status, err
		}
		if b.WriteString(line); b.Len() > outputMax {
			return b.String(), statusUnknown, fmt.Errorf("the command prints more than %d bytes", outputMax)
		}
	}
}

func (s *shell) close() error {
	err := s.in.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.command.Wait() // its exit code is that of the last command
	}()
	select {
	case <-done:
	case <-time.After(stopTimeout):
		_ = syscall.Kill(-s.command.Process.Pid, syscall.SIGKILL)
		<-done
		err = errors.Join(err, fmt.Errorf("the shell did not end within %v", stopTimeout))
	}
	return err
}

// background is a command that goes on.
type background struct {
	step    Step
	command *exec.Cmd
	exited  chan error

	mu  sync.Mutex
	out strings.Builder // under mu
}

// startBackground starts a command where the shell stands, and waits until its output begins as expected.
func startBackground(ctx context.Context, sh *shell, step Step, cfg Config) (*background, error) {
	fmt.Fprintf(cfg.Log, "$ %s &\n", step.Command)
	env, _, err := sh.run("pwd; export -p")
	if err != nil {
		return nil, err
	}
	dir, exports, _ := strings.Cut(env, "\n")
	b := &background{step: step, exited: make(chan error, 1)}
	// exec: the signal must reach the program itself.
	b.command = exec.Command("bash", "--noprofile", "--norc", "-c", exports+"\nexec "+step.Command) //nolint:gosec // a document's commands are what this is for
	b.command.Dir, b.command.Stdout, b.command.Stderr = dir, b, b
	b.command.SysProcAttr, b.command.WaitDelay = &syscall.SysProcAttr{Setpgid: true}, stopTimeout
	if err := b.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", step.Command, err)
	}
	go func() { b.exited <- b.command.Wait() }()
	err = b.await(ctx)
	return b, err
}

// Write takes the command's output.
func (b *background) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out.Len() < outputMax {
		b.out.Write(p)
	}
	return len(p), nil
}

func (b *background) output() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

func (b *background) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	tick := time.NewTicker(matchEvery)
	defer tick.Stop()
	for {
		err := Match(append(append([]string(nil), b.step.Want...), anyText), b.output())
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case wait := <-b.exited:
			b.exited <- wait
			return fmt.Errorf("$ %s: it has ended: %w\n%s", b.step.Command, errors.Join(wait, err), b.output())
		case <-ctx.Done():
			return fmt.Errorf("$ %s: %w: %w", b.step.Command, context.Cause(ctx), err)
		}
	}
}

func (b *background) stop() error {
	_ = syscall.Kill(-b.command.Process.Pid, syscall.SIGINT) // an error says that it has ended
	select {
	case err := <-b.exited:
		if err != nil {
			return fmt.Errorf("line %d: $ %s: after Ctrl-C: %w\n%s", b.step.Line, b.step.Command, err, b.output())
		}
		return nil
	case <-time.After(stopTimeout):
		_ = syscall.Kill(-b.command.Process.Pid, syscall.SIGKILL)
		return fmt.Errorf("line %d: $ %s: it did not end within %v of Ctrl-C: %w", b.step.Line, b.step.Command, stopTimeout, <-b.exited)
	}
}
