package sim

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/sim/report"
)

const (
	// progressEvery is how often, in real time, whoever watches a run is told.
	progressEvery = 200 * time.Millisecond
	// connect is how long nodes have at least, once all are founded, to connect.
	connect = 5 * time.Second
)

// Progress is how far a run is.
type Progress struct {
	Phase string
	// Virtual is how long the world has been, Planned how long it will be if nothing takes longer.
	Virtual, Planned time.Duration
	Nodes, NodesUp   int
	Submitted        int
	Committed        int
	Attested         int
	Certificates     int
	Goroutines       int
}

// Phases of a run.
const (
	PhaseFound  = "founding"    // nodes start, regions are founded
	PhaseSettle = "settling"    // nodes connect
	PhaseSafety = "working"     // agents work, and what the plan says goes wrong
	PhaseLive   = "catching up" // all is healed; what was committed is to be attested, and known to all
	PhaseAudit  = "auditing"
	PhaseClose  = "closing"
)

// Simulate runs a plan in a bubble of its own, so it must not be called from within one, and
// tells what it found. Promises that broke are in the report. An error means that the run could
// not be carried out; the report then tells of what there is, if it is not nil. So it does when
// the context ends, which ends the run.
//
// progress, if not nil, is called some times a second on a goroutine that lives outside of virtual time.
func Simulate(ctx context.Context, plan Plan, progress func(Progress)) (*report.Report, error) {
	plan, err := plan.placed()
	if err != nil {
		return nil, err
	}
	plan = plan.withDefaults()
	if err := plan.validate(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bizra-sim-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	plan.Config.Dir = dir
	r := newRun(plan, ctx.Err)
	stop := watchRun(r, progress)
	err = Run(func() error { return r.all() })
	used := stop()
	rep := r.report()
	used.into(rep)
	if err == nil {
		err = ctx.Err()
	}
	if rep.Interrupted = ctx.Err() != nil; !rep.Interrupted && err != nil {
		rep.Failure = err.Error()
	}
	return rep, err
}

// run is a plan under way.
type run struct {
	plan     Plan
	ended    func() error // why the run is to end, nil while it may go on
	measure  *measures
	work     *work
	world    *World
	started  time.Time     // virtual
	lasted   time.Duration // until all was caught up
	now      atomic.Pointer[Progress]
	moments  []report.Moment
	events   []report.Event
	faults   []report.Fault // as the plan's
	standing []phase        // of each
	broken   []report.Violation
	taken    int      // of the auditor's violations
	findings []string // that the plan asks for
	routers  int
	memo     map[string]MemoCount
}

func newRun(plan Plan, ended func() error) *run {
	r := &run{plan: plan, ended: ended, measure: newMeasures(), standing: make([]phase, len(plan.Faults))}
	for _, f := range plan.Faults {
		r.faults = append(r.faults, report.Fault{Name: f.Fault.Name()})
	}
	r.now.Store(&Progress{Phase: PhaseFound, Nodes: plan.Config.nodes()})
	return r
}

// all is the run, inside of the bubble.
func (r *run) all() (err error) {
	// A channel made outside of the bubble would stop time for whoever waits on it: the end of the
	// caller's context is looked for.
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	r.started = time.Now()
	done := make(chan struct{})
	ticking := make(chan struct{})
	go func() {
		defer close(ticking)
		r.beat(cancel, done)
	}()
	defer func() { close(done); <-ticking }()
	cfg := r.plan.Config
	tap := cfg.Tap
	cfg.Tap = func(from, to peer.ID, proto protocol.ID, data []byte) {
		r.measure.traffic.tap(from, to, proto, data)
		tap(from, to, proto, data)
	}
	if r.plan.Work.Markets {
		cfg.Change = Markets
	}
	cfg.SealEvery, cfg.said = r.plan.sealEvery, r.measure.heard
	cfg.started = func() {
		if err := r.ended(); err != nil {
			cancel(err)
		}
		r.tell(func(p *Progress) { p.NodesUp++ })
	}
	if r.world, err = New(ctx, cfg); err != nil {
		return err
	}
	defer func() {
		r.tell(func(p *Progress) { p.Phase = PhaseClose })
		err = errors.Join(err, r.world.Close())
	}()
	err = r.phases(ctx)
	r.judge()
	if errors.Is(err, errBroken) || errors.Is(err, errWanted) {
		return nil // it is in the report
	}
	return err
}

// beat tells that time moves, and looks whether the run is to end.
func (r *run) beat(cancel context.CancelCauseFunc, done <-chan struct{}) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := r.ended(); err != nil {
				cancel(err)
			}
			r.tell(func(p *Progress) { p.Virtual = time.Since(r.started) })
		case <-done:
			return
		}
	}
}

// errBroken ends a run in which a promise broke.
var errBroken = errors.New("sim: a promise broke")

func (r *run) tell(change func(*Progress)) {
	for {
		was := r.now.Load()
		is := *was
		change(&is)
		if r.now.CompareAndSwap(was, &is) {
			return
		}
	}
}

func (r *run) phases(ctx context.Context) error {
	settle := max(connect, r.plan.Settle-time.Since(r.started))
	r.tell(func(p *Progress) {
		p.Phase, p.Planned = PhaseSettle, time.Since(r.started)+settle+r.plan.Work.Duration
	})
	if err := pause(ctx, settle); err != nil {
		return err
	}
	r.measure.begin(r.world)
	r.work = newWork(r.world, r.plan)
	r.event("the workload begins")
	r.moment()
	r.tell(func(p *Progress) { p.Phase = PhaseSafety })
	err := r.world.Auditor.bounds.audit() // what memory is held against
	if err == nil {
		contending := r.contend(ctx)
		err = r.safety(ctx)
		contending()
	}
	r.stalled()
	r.routers = r.world.routers()
	r.tell(func(p *Progress) { p.Phase = PhaseLive })
	err = errors.Join(err, r.heal())
	if err == nil {
		err = r.liveness(ctx)
	}
	r.lasted = time.Since(r.started)
	r.measure.end()
	r.moment()
	r.work.wait()
	if err == nil && !r.found() {
		r.tell(func(p *Progress) { p.Phase = PhaseAudit })
		if err = r.world.Auditor.Audit(); r.found() || r.wanted() {
			err = nil // it is in the report
		}
	}
	r.memo = r.world.Memo()
	return err
}

// safety runs the workload and the faults.
func (r *run) safety(ctx context.Context) error {
	tick := time.NewTicker(time.Second / time.Duration(r.plan.Work.Rate))
	defer tick.Stop()
	for next := time.Second; ; {
		at := r.at()
		if at >= r.plan.Work.Duration {
			return nil
		}
		if err := r.faultsAt(at); err != nil {
			return err
		}
		r.work.submit(ctx, at)
		if at >= next {
			next += time.Second
			r.moment()
		}
		if r.found() {
			return errBroken
		}
		if r.wanted() {
			return errWanted
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// faultsAt begins and ends the faults of which the time has come.
func (r *run) faultsAt(at time.Duration) error {
	for i, f := range r.plan.Faults {
		switch {
		case r.standing[i] == waits && f.From <= at:
			r.standing[i] = lasts
			r.faults[i].From = at.Seconds()
			r.event("begins: " + f.Fault.Name())
			switch err := f.Fault.Begin(r.world); {
			case errors.Is(err, errNobody):
				r.standing[i] = over
				r.event(err.Error())
			case err != nil && !r.wanted():
				return err
			}
		case r.standing[i] == lasts && f.Until != 0 && f.Until <= at:
			if err := r.end(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// heal ends every fault that lasts.
func (r *run) heal() (err error) {
	for i := range r.plan.Faults {
		if r.standing[i] == lasts {
			err = errors.Join(err, r.end(i))
		}
	}
	r.event("all is healed")
	return err
}

func (r *run) end(i int) error {
	f := r.plan.Faults[i].Fault
	r.standing[i] = over
	r.event("ends: " + f.Name())
	err := f.End(r.world)
	r.faults[i].Until, r.faults[i].Count, r.faults[i].TookEffect = r.at().Seconds(), f.TookEffect(), f.TookEffect() > 0
	return err
}

// phase is how a planned fault stands.
type phase int

const (
	waits phase = iota
	lasts
	over
)

// liveness waits until everything committed is attested, and known to every node.
func (r *run) liveness(ctx context.Context) error {
	next := r.at() + time.Second
	err := r.world.Auditor.progress.within(ctx, r.plan.Liveness, "everything committed to be attested, and known to every node", func() (bool, error) {
		if r.at() >= next {
			next += time.Second
			r.moment()
		}
		if !r.work.idle() {
			return false, nil
		}
		if p := r.work.counts(); p.Attested < p.Committed || !r.measure.everywhere() {
			return false, nil
		}
		return r.world.caughtUp()
	})
	switch {
	case err == nil:
		return nil
	case r.found():
		return errBroken
	case r.wanted():
		return errWanted
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

func (r *run) at() time.Duration { return time.Since(r.measure.began) }

func (r *run) event(what string) {
	r.events = append(r.events, report.Event{At: r.at().Seconds(), What: what})
	r.world.Auditor.Note("%s", what)
}

// moment looks at how things stand.
func (r *run) moment() {
	up := 0
	for _, n := range r.world.All() {
		if n.Running() != nil {
			up++
		}
	}
	proofs := r.work.counts()
	r.moments = append(r.moments, report.Moment{At: r.at().Seconds(), NodesUp: up, Submitted: proofs.Submitted, Committed: proofs.Committed,
		Attested: proofs.Attested, Messages: r.measure.traffic.messages()})
	certificates := r.measure.certificates()
	r.tell(func(p *Progress) {
		p.NodesUp, p.Submitted, p.Committed, p.Attested, p.Certificates = up, proofs.Submitted, proofs.Committed, proofs.Attested, certificates
	})
}

// pause waits in virtual time.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// upOf are the nodes of a region that are up.
func (w *World) upOf(region string) []*Node {
	return slices.DeleteFunc(slices.Clone(w.regions[region]), func(n *Node) bool { return n.Running() == nil })
}

// caughtUp says whether the nodes that were down and are up again can serve.
func (w *World) caughtUp() (bool, error) {
	for _, n := range w.All() {
		if n.Running() == nil || n.starts < 2 {
			continue
		}
		if !n.Running().Ready() {
			return false, n.Running().Failure()
		}
	}
	return true, nil
}

func (c Config) nodes() int {
	if c.Nodes != 0 {
		return c.Nodes
	}
	return c.Regions * (c.Voters + c.Members)
}
