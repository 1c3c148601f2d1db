package sim

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/bizra/bizra/fsm"
)

// Names of the invariants, as reports and scenario files call them.
const (
	InvariantSurvival      = "committed proofs survive"
	InvariantStates        = "equal states at equal index"
	InvariantContradiction = "no contradicting certificates"
	InvariantReexecution   = "nothing certified that re-execution refuses"
	InvariantBundles       = "bundles verify with the document alone"
	InvariantSessions      = "a session's history is one line per head"
	InvariantBounds        = "memory and queues bounded"
	InvariantProgress      = "progress once healed"

	// Of worlds in which a region has a market.
	InvariantGini    = "Gini within its limit after each epoch"
	InvariantCredits = "credits conserved"
)

// Invariants lists them all.
func Invariants() []string {
	return []string{InvariantSurvival, InvariantStates, InvariantContradiction, InvariantReexecution, InvariantBundles, InvariantSessions,
		InvariantBounds, InvariantProgress, InvariantGini, InvariantCredits}
}

// Invariant is a promise that an [Auditor] holds the nodes of a world to.
type Invariant interface {
	Name() string
	// Checks is how often it was checked so far, since a check of nothing finds nothing.
	Checks() int
	// audit looks at what all nodes hold. What is found broken is told to the auditor; an error
	// means that it could not be looked at.
	audit() error
}

// promise is what the invariants have in common.
type promise struct {
	name    string
	auditor *Auditor
	checks  atomic.Int64
}

// Name implements [Invariant].
func (p *promise) Name() string { return p.name }

// Checks implements [Invariant].
func (p *promise) Checks() int { return int(p.checks.Load()) }

func (p *promise) audit() error { return nil }

func (p *promise) breaks(format string, args ...any) {
	p.auditor.breaks(p.name, fmt.Errorf(format, args...))
}

// Violation is a promise that was found broken.
type Violation struct {
	Invariant string
	At        time.Duration // virtual, since the world began
	Seed      uint64
	Err       error
	Last      []Happening // before it was found
}

// Error tells what is needed to see it again: the seed, the virtual time and the last that happened.
func (v *Violation) Error() string {
	text := fmt.Sprintf("broken: %s: %v\n  seed %d, virtual time %v; before that:", v.Invariant, v.Err, v.Seed, v.At)
	for _, h := range v.Last {
		text += fmt.Sprintf("\n  %12v %s", h.At, h.What)
	}
	return text
}

// Unwrap gives what was found.
func (v *Violation) Unwrap() error { return v.Err }

// Happening is something worth knowing when a promise breaks.
type Happening struct {
	At   time.Duration // virtual, since the world began
	What string
}

const (
	lastMax       = 64  // happenings that are remembered
	violationsMax = 100 // that are kept; a broken promise breaks again and again
)

// ring remembers the last happenings.
type ring struct {
	list [lastMax]Happening
	next int
}

func (r *ring) add(h Happening) {
	r.list[r.next%lastMax] = h
	r.next++
}

// all gives what is remembered, the oldest first.
func (r *ring) all() (list []Happening) {
	for i := max(0, r.next-lastMax); i < r.next; i++ {
		list = append(list, r.list[i%lastMax])
	}
	return list
}

// holders lends each ledger of a region that an honest node has, its own or a copy. An error of fn
// makes the node doubt its copy, so it must be the ledger's.
func (a *Auditor) holders(region string, fn func(n *Node, v *fsm.View) error) error {
	for _, n := range a.world.All() {
		up := n.Running()
		lend := func(v *fsm.View) error { return fn(n, v) }
		var err error
		switch {
		case up == nil, up.Failure() != nil, n.lies.Load() != nil:
		case n.Region == region:
			err = n.read(lend)
		case n.Votes:
			err = up.ReadCopy(region, lend)
		}
		if err != nil && n.Running() == up && up.Failure() == nil { // else it went down meanwhile
			return fmt.Errorf("sim: audit %s at %s: %w", region, n.Name(), err)
		}
	}
	return nil
}

// each calls fn for every region that does not lie.
func (a *Auditor) each(fn func(region string) error) error {
	for _, region := range a.world.names {
		if err := fn(region); err != nil {
			return err
		}
	}
	return nil
}
