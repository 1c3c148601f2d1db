package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/bizra/bizra/sim/report"
)

// stallAfter is how long nothing may be certified, though proofs were committed before, until a
// federation is said to stall: many times what a certificate takes.
const stallAfter = 10 * time.Second

// errWanted ends a run that has found what it was to find.
var errWanted = errors.New("sim: what was to be found is found")

// found takes up what the auditor has found, and says whether that is anything that was not to be.
func (r *run) found() bool {
	list := r.world.Auditor.Violations()
	for _, v := range list[r.taken:] {
		if v.Invariant == r.plan.Expect.Broken {
			r.finding("broken, as it must be: %s: %v", v.Invariant, v.Err)
			continue
		}
		x := report.Violation{Invariant: v.Invariant, At: v.At.Seconds(), What: v.Err.Error()}
		for _, h := range v.Last {
			x.Last = append(x.Last, report.Event{At: h.At.Seconds(), What: h.What})
		}
		r.broken = append(r.broken, x)
		r.event("broken: " + v.Invariant)
	}
	r.taken = len(list)
	return len(r.broken) > 0
}

// finding notes, once, what a run was to find.
func (r *run) finding(format string, args ...any) {
	if len(r.findings) == 0 {
		r.findings = append(r.findings, fmt.Sprintf(format, args...))
		r.event(r.findings[0])
	}
}

// wanted says whether the promise that must be found broken is.
func (r *run) wanted() bool {
	if r.plan.Expect.Broken == "" {
		return false
	}
	r.found()
	return len(r.findings) > 0
}

// stalled looks, while the faults still last, whether anything is certified at all.
func (r *run) stalled() {
	if !r.plan.Expect.Stall || r.work == nil {
		return
	}
	since := r.world.Auditor.age() - r.world.Auditor.contradiction.newest()
	p := r.work.counts()
	if waiting := p.Committed - p.Attested; since > stallAfter && waiting > 0 {
		r.finding("a stall, as it must be: nothing was certified for %v, while %d proofs of %d wait", since, waiting, p.Committed)
	}
}

// judge holds what was found against what was to be found.
func (r *run) judge() {
	r.found()
	var want string
	switch {
	case len(r.findings) > 0 || len(r.broken) > 0:
		return
	case r.plan.Expect.Broken != "":
		want = "that this breaks: " + r.plan.Expect.Broken
	case r.plan.Expect.Stall:
		want = "that nothing is attested while the faults last"
	default:
		return
	}
	r.broken = append(r.broken, report.Violation{Invariant: "the run finds what it must", At: r.world.Auditor.age().Seconds(), What: "it was to find " + want + ", and did not"})
}

// contendedMax is in how many regions clients contend for sessions.
const contendedMax = 3

// contend has clients contend for sessions of the first regions while those have work: in a calm
// run during their turn, since they are to seal once it is over.
func (r *run) contend(ctx context.Context) (end func()) {
	var ends []func()
	for i := range min(contendedMax, r.plan.workers()) {
		if len(r.plan.Faults) == 0 && i > 0 {
			break // the others' turn comes later
		}
		lasts := r.plan.Work.Duration
		if len(r.plan.Faults) == 0 {
			lasts = r.plan.turn()
		}
		ctx, cancel := context.WithTimeout(ctx, lasts)
		wait := r.world.Contend(ctx, r.world.names[i], rand.New(rand.NewPCG(r.plan.Config.Seed, uint64(2+i)))) //nolint:gosec // draws a workload, guards no secret
		ends = append(ends, func() { cancel(); wait() })
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}
}
