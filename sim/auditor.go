package sim

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/consensus/certificate"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/node"
)

// Auditor holds what a world's nodes say against the promises: certificates, seals and alarms as
// they happen, and everything else in [Auditor.Audit]. It believes no region that lies, and needs
// none that does not to say which.
type Auditor struct {
	world *World

	mu     sync.Mutex
	broken []error
	// What was certified and what was sealed, by region, entries and number.
	certified map[string]map[int64]certified
	sealed    map[string]map[int64][]byte
	alarms    map[attest.AlarmKind]map[string]int // by whom they are about
	accepted  []accepted
	counts    Counts
	observe   observer

	// What the auditor has re-executed itself, of Audit alone.
	replicas map[string]*fsm.Machine
}

// observer is told what the nodes tell the auditor: a result, or else a certificate.
type observer func(n *Node, res *fsm.Result, l *attest.Learned)

type certified struct{ note, body []byte }

// accepted is a proof that a region has acknowledged.
type accepted struct {
	region string
	index  int64
	digest [32]byte
}

// Counts say how much was checked, since a check of nothing finds nothing.
type Counts struct {
	Certificates int // that nodes learned of, each time
	Seals        int // of which two nodes or more said the same
	Reexecuted   int // certified checkpoints whose entries were executed once more
	Kept         int // acknowledged proofs that were looked for
	Bundles      int // that were verified
}

func newAuditor(w *World) *Auditor {
	return &Auditor{world: w, certified: map[string]map[int64]certified{}, sealed: map[string]map[int64][]byte{},
		alarms: map[attest.AlarmKind]map[string]int{}, replicas: map[string]*fsm.Machine{}, observe: func(*Node, *fsm.Result, *attest.Learned) {}}
}

func (a *Auditor) watch(n *Node) node.Watch {
	return node.Watch{
		Applied: func(res *fsm.Result) {
			if res.Seal != nil {
				a.seal(n, res.Seal)
			}
			a.observed()(n, res, nil)
		},
		Learned: func(l attest.Learned) {
			a.certificate(n, l)
			a.observed()(n, nil, &l)
		},
		Alarm: func(alarm attest.Alarm) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.alarms[alarm.Kind] == nil {
				a.alarms[alarm.Kind] = map[string]int{}
			}
			a.alarms[alarm.Kind][alarm.Region]++
		},
	}
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

// Broken is what was found so far, nil if every promise holds.
func (a *Auditor) Broken() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(a.broken...)
}

// Counts say how much was checked so far.
func (a *Auditor) Counts() Counts {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counts
}

// Alarms is how often nodes raised an alarm about a region.
func (a *Auditor) Alarms(kind attest.AlarmKind, region string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.alarms[kind][region]
}

// accept remembers a proof that a region has acknowledged: it is never lost.
func (a *Auditor) accept(x accepted) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepted = append(a.accepted, x)
}

// Certified is how many entries of a region the newest certificate covers that any node has learned of.
func (a *Auditor) Certified(region string) (newest int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for size := range a.certified[region] {
		newest = max(newest, size)
	}
	return newest
}

func (a *Auditor) breaks(format string, args ...any) {
	a.broken = append(a.broken, fmt.Errorf("broken: "+format, args...))
}

// seal checks that the voters of a region are of one state wherever it seals.
func (a *Auditor) seal(n *Node, s *fsm.Seal) {
	if n.lies.Load() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sealed[n.Region] == nil {
		a.sealed[n.Region] = map[int64][]byte{}
	}
	was, ok := a.sealed[n.Region][s.Number]
	switch {
	case !ok:
		a.sealed[n.Region][s.Number] = s.Body()
	case !bytes.Equal(was, s.Body()):
		a.breaks("%s made %q of seal %d, another voter %q", n.Name(), s.Body(), s.Number, was)
	default:
		a.counts.Seals++
	}
}

// certificate checks a certificate by itself and against others of its size; those of other sizes
// are compared by re-execution.
func (a *Auditor) certificate(n *Node, l attest.Learned) {
	c, _, err := a.world.memo.certificate(l.Note, a.world.Fed.Document)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil || c.Region() != l.Origin || c.Size != l.Size {
		a.breaks("%s took for a certificate of %s what is none: %v", n.Name(), l.Origin, err)
		return
	}
	a.counts.Certificates++
	if a.certified[l.Origin] == nil {
		a.certified[l.Origin] = map[int64]certified{}
	}
	was, ok := a.certified[l.Origin][c.Size]
	if ok && !bytes.Equal(was.body, c.Body()) {
		a.breaks("two certificates of %s with %d entries contradict: %q and %q", l.Origin, c.Size, was.body, c.Body())
	}
	a.certified[l.Origin][c.Size] = certified{l.Note, c.Body()}
}

// Audit compares what all nodes hold: each certificate with the entries that it covers, executed
// once more and, where they are the region's own, in bundles; each acknowledged proof with the
// ledgers that reach it. Nodes that are down are passed over.
func (a *Auditor) Audit() error {
	for _, region := range a.world.names {
		if err := a.auditRegion(region); err != nil {
			return err
		}
	}
	a.mu.Lock()
	list := a.accepted
	a.mu.Unlock()
	for _, x := range list {
		if err := a.kept(x); err != nil {
			return err
		}
	}
	return a.Broken()
}

// auditRegion executes what was certified of a region since the last time.
func (a *Auditor) auditRegion(region string) error {
	newest := a.Certified(region)
	if newest == 0 {
		return nil
	}
	m := a.replicas[region]
	if m == nil {
		var err error
		doc := a.world.Fed.Document
		m, err = fsm.Open(store.NewMemory(), fsm.Config{Region: region, Document: func(digest [32]byte) ([]byte, bool) { return doc.Canonical(), digest == doc.Digest() }})
		if err != nil {
			return err
		}
		a.replicas[region] = m
	}
	if m.Size() >= newest {
		return nil
	}
	found := false
	err := a.holders(region, func(v *fsm.View) error {
		if found || !a.holds(v, region, newest) {
			return nil
		}
		found = true
		return a.reexecute(m, v, region, newest)
	})
	if err == nil && !found {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.breaks("%d entries of %s are certified, and no node that is up holds them", newest, region)
	}
	return err
}

// holders lends each ledger of a region that an honest node has, its own or a copy.
func (a *Auditor) holders(region string, fn func(*fsm.View) error) error {
	for _, n := range a.world.All() {
		var err error
		switch {
		case n.Running() == nil, n.lies.Load() != nil:
		case n.Region == region:
			err = n.read(fn)
		case n.Votes:
			err = n.Running().ReadCopy(region, fn)
		}
		if err != nil {
			return fmt.Errorf("sim: audit %s at %s: %w", region, n.Name(), err)
		}
	}
	return nil
}

// holds says whether a ledger is one under a certificate.
func (a *Auditor) holds(v *fsm.View, region string, size int64) bool {
	number, err := v.SealFrom(size)
	if err != nil {
		return false
	}
	s, err := v.SealAt(number)
	a.mu.Lock()
	defer a.mu.Unlock()
	return err == nil && s.Size == size && bytes.Equal(s.Body(), a.certified[region][size].body)
}

// reexecute brings the auditor's replica up to a certificate, and compares it with those on the way.
func (a *Auditor) reexecute(m *fsm.Machine, from *fsm.View, region string, to int64) error {
	for m.Size() < to {
		number, err := from.SealFrom(m.Size() + 1)
		if err != nil {
			return err
		}
		s, err := from.SealAt(number)
		if err != nil {
			return err
		}
		entries, err := from.Ledger().Entries(m.Size(), s.Size, 1<<30)
		if err != nil {
			return err
		}
		err = errors.Join(m.ApplyEntries(entries), m.ApplySeal(s))
		a.mu.Lock()
		if err != nil {
			a.breaks("%d entries of %s are certified that re-execution refuses: %w", to, region, err)
			a.mu.Unlock()
			return nil
		}
		cert, ok := a.certified[region][s.Size]
		if ok {
			a.counts.Reexecuted++
			if !bytes.Equal(cert.body, s.Body()) {
				a.breaks("a certificate of %s says %q, re-execution under a later one %q", region, cert.body, s.Body())
			}
		}
		a.mu.Unlock()
		if ok {
			if err := a.bundle(from, cert.note, s.Checkpoint()); err != nil {
				return err
			}
		}
	}
	return nil
}

// bundle makes the bundle of the last entry under a certificate and verifies it with the
// document alone.
func (a *Auditor) bundle(v *fsm.View, note []byte, c *checkpoint.Checkpoint) error {
	in, err := certificate.Include(v.Ledger(), c.Size-1, c.Size)
	if err != nil {
		return err
	}
	text, err := (&certificate.Bundle{Certificate: note, Entry: in}).Marshal()
	if err != nil {
		return err
	}
	err = certificate.VerifyBundle(text, a.world.Fed.Document).Err()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts.Bundles++
	if err != nil {
		a.breaks("a bundle of %s does not verify: %w", c.Origin, err)
	}
	return nil
}

// kept looks for an acknowledged proof in each ledger of its region that is long enough.
func (a *Auditor) kept(x accepted) error {
	found, up := 0, 0
	err := a.holders(x.region, func(v *fsm.View) error {
		up++
		size, err := v.Ledger().Size()
		if err != nil || size <= x.index {
			return err
		}
		found++
		index, err := v.Ledger().IndexByDigest(x.digest)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.counts.Kept++
		if err != nil || index != x.index {
			a.breaks("an acknowledged proof of %s, entry %d, is lost from a ledger of %d: %v", x.region, x.index, size, err)
		}
		return nil
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && up > 0 && found == 0 {
		a.breaks("an acknowledged proof of %s, entry %d, is in none of %d ledgers", x.region, x.index, up)
	}
	return err
}

func (a *Auditor) close() (errs error) {
	for _, m := range a.replicas {
		errs = errors.Join(errs, m.Close())
	}
	return errs
}
