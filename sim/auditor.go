package sim

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/node"
)

// Auditor holds what a world's nodes say against the promises, one [Invariant] each: certificates,
// seals and alarms as they happen, and everything else in [Auditor.Audit]. It believes no region
// that lies, and needs none that does not to say which.
type Auditor struct {
	world *World
	began time.Time

	survival      *survival
	states        *states
	contradiction *contradiction
	reexecution   *reexecution
	bundles       *bundles
	sessions      *sessions
	bounds        *bounds
	progress      *progress
	equality      *equality
	conservation  *conservation

	mu         sync.Mutex
	violations []*Violation
	last       ring
	alarms     map[attest.AlarmKind]map[string]int // by whom they are about
	sizes      map[string]int64                    // of ledgers, as far as any voter has applied
	observe    observer
}

// observer is told what the nodes tell the auditor: a result, or else a certificate.
type observer func(n *Node, res *fsm.Result, l *attest.Learned)

func newAuditor(w *World) *Auditor {
	a := &Auditor{world: w, began: time.Now(), alarms: map[attest.AlarmKind]map[string]int{}, sizes: map[string]int64{},
		observe: func(*Node, *fsm.Result, *attest.Learned) {}}
	a.survival = &survival{accepted: map[string][]accepted{}}
	a.states = &states{sealed: map[string]map[int64][]byte{}}
	a.contradiction = &contradiction{certified: map[string]map[int64]certified{}, doubled: map[string]int{}, verified: map[string]*checkpoint.Checkpoint{}}
	a.reexecution = &reexecution{replicas: map[string]*fsm.Machine{}}
	a.bundles, a.sessions, a.bounds, a.progress = &bundles{}, &sessions{of: map[string]*sessionHistory{}}, &bounds{}, &progress{}
	a.bounds.look = a.bounds.measure
	a.equality, a.conservation = &equality{look: settled}, &conservation{look: holdings}
	for p, name := range map[*promise]string{&a.survival.promise: InvariantSurvival, &a.states.promise: InvariantStates,
		&a.contradiction.promise: InvariantContradiction, &a.reexecution.promise: InvariantReexecution, &a.bundles.promise: InvariantBundles,
		&a.sessions.promise: InvariantSessions, &a.bounds.promise: InvariantBounds, &a.progress.promise: InvariantProgress,
		&a.equality.promise: InvariantGini, &a.conservation.promise: InvariantCredits} {
		p.name, p.auditor = name, a
	}
	return a
}

// Invariants are what is held against the nodes, in the order of [Invariants]. Those of markets count where there is one.
func (a *Auditor) Invariants() []Invariant {
	all := []Invariant{a.survival, a.states, a.contradiction, a.reexecution, a.bundles, a.sessions, a.bounds, a.progress}
	if a.world.markets() {
		all = append(all, a.equality, a.conservation)
	}
	return all
}

func (a *Auditor) watch(n *Node) node.Watch {
	return node.Watch{
		Applied: func(res *fsm.Result) {
			if res.Seal != nil {
				a.states.seal(n, n.Region, res.Seal)
			}
			a.applied(n, res)
			a.observed()(n, res, nil)
		},
		Learned: func(l attest.Learned) {
			a.contradiction.learned(n, l)
			a.observed()(n, nil, &l)
		},
		Alarm: func(alarm attest.Alarm) {
			a.mu.Lock()
			if a.alarms[alarm.Kind] == nil {
				a.alarms[alarm.Kind] = map[string]int{}
			}
			a.alarms[alarm.Kind][alarm.Region]++
			first := a.alarms[alarm.Kind][alarm.Region] == 1
			a.mu.Unlock()
			if first {
				a.Note("%s raises an alarm about %s: %s", n.Name(), alarm.Region, alarm.Kind)
			}
		},
	}
}

func (a *Auditor) applied(n *Node, res *fsm.Result) {
	if res.Seal == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sizes[n.Region] = max(a.sizes[n.Region], res.Seal.Size)
}

// ledgerSize is how many entries of a region any of its voters has sealed.
func (a *Auditor) ledgerSize(region string) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sizes[region]
}

// watchAll has an observer be told from now on.
func (a *Auditor) watchAll(o observer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.observe = o
}

func (a *Auditor) observed() observer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.observe
}

func (a *Auditor) age() time.Duration { return time.Since(a.began) }

// Note remembers what has happened, to be told if a promise breaks soon after.
func (a *Auditor) Note(format string, args ...any) {
	h := Happening{a.age(), fmt.Sprintf(format, args...)}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last.add(h)
}

// breaks remembers that a promise was found broken.
func (a *Auditor) breaks(invariant string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.violations) < violationsMax {
		a.violations = append(a.violations, &Violation{Invariant: invariant, At: a.age(), Seed: a.world.cfg.Seed, Err: err, Last: a.last.all()})
	}
}

// Violations are what was found broken so far; the first [violationsMax] of them.
func (a *Auditor) Violations() []*Violation {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.violations[:len(a.violations):len(a.violations)]
}

// Broken is the first that was found broken, as a [Violation], nil if every promise holds.
func (a *Auditor) Broken() error {
	if v := a.Violations(); len(v) > 0 {
		return v[0]
	}
	return nil
}

// Alarms is how often nodes raised an alarm about a region.
func (a *Auditor) Alarms(kind attest.AlarmKind, region string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.alarms[kind][region]
}

// accept remembers a proof that a region has acknowledged: it is never lost.
func (a *Auditor) accept(x accepted) {
	a.survival.acknowledged(x)
}

// Certified is how many entries of a region the newest certificate covers that any node has learned of.
func (a *Auditor) Certified(region string) (newest int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for size := range a.contradiction.certified[region] {
		newest = max(newest, size)
	}
	return newest
}

// Audit compares what all nodes hold: each certificate with the entries that it covers, executed
// once more and, where they are the region's own, in bundles; each acknowledged proof with the
// ledgers that reach it; what clients saw with an order that explains it. Nodes that are down are
// passed over.
func (a *Auditor) Audit() error {
	for _, i := range a.Invariants() {
		if err := i.audit(); err != nil {
			return errors.Join(err, a.Broken())
		}
	}
	return a.Broken()
}

func (a *Auditor) close() error { return a.reexecution.close() }
