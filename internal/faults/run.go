package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bizra/bizra/consensus/region"
)

// Limits of one run.
const (
	runLimit   = 60 * time.Second // of the node whose call fails; it must have ended by then
	checkLimit = 90 * time.Second
	tailBytes  = 4 << 10 // of the output of a run that failed, shown
)

// Runner runs nodes with faults. Its fields are set once.
type Runner struct {
	Self    string // the program that [Main] is in, started again for each node
	Dir     string // for homes; a run that shows a fault leaves its home there
	Workers int    // runs at a time
	Out     io.Writer
}

// scenario is one kind of run.
type scenario struct {
	name  string
	base  string   // home that each run gets a copy of
	args  []string // of Self, without the home
	acked []Acked  // by the base
}

// Tally counts what happened.
type Tally struct {
	Runs, Hits  int // runs in which the fault took place
	Ended       int // runs that ended with an error, or killed
	WentOn      int // runs that the fault did not stop
	Acked       int // proofs acknowledged in runs with a fault, all found again
	Failed      []string
	PointsInAll int
}

// scenarios makes the homes that runs start from.
func (r *Runner) scenarios(ctx context.Context) ([]*scenario, error) {
	var list []*scenario
	for _, kind := range []region.LogKind{region.LogInBolt, region.LogInWAL} {
		other := map[region.LogKind]region.LogKind{region.LogInBolt: region.LogInWAL, region.LogInWAL: region.LogInBolt}[kind]
		fresh, used := filepath.Join(r.Dir, "fresh-"+string(kind)), filepath.Join(r.Dir, "used-"+string(kind))
		if err := errors.Join(Prepare(fresh), Prepare(used)); err != nil {
			return nil, err
		}
		victim := []string{"victim", "--kind", string(kind)}
		acked, err := r.unharmed(ctx, used, victim)
		if err != nil {
			return nil, fmt.Errorf("a run without a fault: %w", err)
		}
		if _, err := os.Stat(filepath.Join(used, "snapshots", "pointer")); err != nil || len(acked) != victimProofs {
			return nil, fmt.Errorf("a run without a fault has %d proofs acknowledged and took no snapshot: %w", len(acked), err)
		}
		list = append(list, &scenario{"found, log in " + string(kind), fresh, victim, nil},
			&scenario{"start again, log in " + string(kind), used, victim, acked},
			&scenario{"move the log to " + string(other), used, []string{"migrate", "--kind", string(other)}, acked})
	}
	return list, nil
}

func (r *Runner) unharmed(ctx context.Context, home string, args []string) ([]Acked, error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, r.Self, append(args, "--home", home)...) //nolint:gosec // this program
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, tail(errs.Bytes()))
	}
	return readAcked(&out)
}

// readAcked reads the lines of a victim; a killed one may have left half a line.
func readAcked(out io.Reader) (list []Acked, err error) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var a Acked
		if json.Unmarshal(lines.Bytes(), &a) == nil && a.Proof != "" {
			list = append(list, a)
		}
	}
	return list, lines.Err()
}

// Run runs every scenario with every point of it, or with count of them all told, drawn from rng, if count is not 0.
func (r *Runner) Run(ctx context.Context, count int, rng *rand.Rand) (*Tally, error) {
	scenarios, err := r.scenarios(ctx)
	if err != nil {
		return nil, err
	}
	type job struct {
		s *scenario
		p Point
	}
	var jobs []job
	tally := &Tally{}
	for i, s := range scenarios {
		points, err := r.list(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(r.Out, "faults: %s: %d points\n", s.name, len(points))
		tally.PointsInAll += len(points)
		if count > 0 {
			points = Sample(points, (count+i)/len(scenarios), rng)
		}
		for _, p := range points {
			jobs = append(jobs, job{s, p})
		}
	}
	rng.Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
	queue := make(chan job)
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range r.Workers {
		workers.Go(func() {
			for j := range queue {
				o := r.one(ctx, j.s, j.p)
				mu.Lock()
				tally.add(r.Out, j.s, j.p, o)
				mu.Unlock()
			}
		})
	}
	for i, j := range jobs {
		if ctx.Err() != nil {
			break
		}
		if i > 0 && i%200 == 0 {
			fmt.Fprintf(r.Out, "faults: %d of %d runs\n", i, len(jobs))
		}
		queue <- j
	}
	close(queue)
	workers.Wait()
	return tally, context.Cause(ctx)
}

func (t *Tally) add(out io.Writer, s *scenario, p Point, o outcome) {
	t.Runs++
	if o.hit {
		t.Hits++
	}
	if o.ended {
		t.Ended++
	} else {
		t.WentOn++
	}
	t.Acked += o.acked
	if o.err != nil {
		t.Failed = append(t.Failed, fmt.Sprintf("%s: %v: %v", s.name, p, o.err))
		fmt.Fprintf(out, "faults: FAILED: %s\n", t.Failed[len(t.Failed)-1])
	}
}

// list traces a run without a fault.
func (r *Runner) list(ctx context.Context, s *scenario) ([]Point, error) {
	run, err := r.begin(s)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(run.dir)
	if err := r.strace(ctx, run, s, nil); err != nil {
		return nil, err
	}
	f, err := os.Open(run.trace)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Points(f)
}

// run is the folder of one run.
type run struct{ dir, home, trace, out, errs, acked string }

func (r *Runner) begin(s *scenario) (*run, error) {
	dir, err := os.MkdirTemp(r.Dir, "run-")
	if err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	u := &run{dir, in("home"), in("trace"), in("out"), in("err"), in("acked")}
	// cp keeps what is sparse sparse.
	if text, err := exec.Command("cp", "-a", s.base, u.home).CombinedOutput(); err != nil { //nolint:gosec // folders of our own
		return nil, fmt.Errorf("copy a home: %w: %s", err, text)
	}
	return u, nil
}

// strace runs a scenario under strace, with a fault unless p is nil. The error is the process's own end.
func (r *Runner) strace(ctx context.Context, u *run, s *scenario, p *Point) error {
	ctx, cancel := context.WithTimeoutCause(ctx, runLimit, errHung)
	defer cancel()
	args := []string{"-f", "-qq", "-s", "0", "-o", u.trace, "-e", traced(), "-e", "signal=none"}
	if p == nil || p.Fault != Kill { // stops at these calls alone, which is much faster; strace 6.1 then injects no signals
		args = append(args, "--seccomp-bpf")
	}
	if p != nil {
		args = append(args, "-e", p.Inject())
	}
	args = append(append(append(args, "--", r.Self), s.args...), "--home", u.home)
	out, err1 := os.Create(u.out)
	errs, err2 := os.Create(u.errs)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "strace", args...) //nolint:gosec // this program under strace
	c.Stdout, c.Stderr = out, errs
	// strace alone, killed, would let its child go.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	err := c.Run()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return errors.Join(err, out.Close(), errs.Close())
}

var errHung = fmt.Errorf("it has not ended within %v", runLimit)

type outcome struct {
	hit, ended bool
	acked      int
	err        error
}

// one does one run with a fault, and checks what it leaves.
func (r *Runner) one(ctx context.Context, s *scenario, p Point) (o outcome) {
	u, err := r.begin(s)
	if err != nil {
		return outcome{err: err}
	}
	defer func() {
		if o.err == nil {
			o.err = os.RemoveAll(u.dir)
		} else {
			o.err = fmt.Errorf("%w (left in %s)", o.err, u.dir)
		}
	}()
	switch err := r.strace(ctx, u, s, &p); {
	case errors.Is(err, errHung):
		return outcome{err: fmt.Errorf("%w: %s", err, tailOf(u.errs))}
	case err != nil:
		o.ended = true
	}
	o.hit = o.ended && p.Fault == Kill || contains(u.trace, "(INJECTED)")
	f, err := os.Open(u.out)
	if err != nil {
		return outcome{err: err}
	}
	acked, err := readAcked(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return outcome{err: err}
	}
	o.acked = len(acked)
	o.err = r.check(ctx, u, append(append([]Acked(nil), s.acked...), acked...))
	return o
}

// check runs [Check] in a process of its own.
func (r *Runner) check(ctx context.Context, u *run, acked []Acked) error {
	b, err := json.Marshal(acked)
	if err != nil {
		return err
	}
	if err := os.WriteFile(u.acked, b, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	text, err := exec.CommandContext(ctx, r.Self, "check", "--home", u.home, "--acked", u.acked, "--scratch", u.dir).CombinedOutput() //nolint:gosec // this program
	if err != nil {
		return fmt.Errorf("after it: %w: %s; the run said: %s", err, tail(text), tailOf(u.errs))
	}
	return nil
}

func contains(path, text string) bool {
	b, err := os.ReadFile(path) //nolint:gosec // of our own
	return err == nil && bytes.Contains(b, []byte(text))
}

func tailOf(path string) string {
	b, err := os.ReadFile(path) //nolint:gosec // of our own
	if err != nil {
		return err.Error()
	}
	return tail(b)
}

func tail(b []byte) string { return strings.TrimSpace(string(b[max(0, len(b)-tailBytes):])) }
