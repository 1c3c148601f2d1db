package sim

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
)

// reexecution: whatever is certified, the auditor can execute itself, with a machine of its own,
// from a ledger that an honest node holds, and comes to the same.
type reexecution struct {
	promise
	replicas map[string]*fsm.Machine // by region
}

func (r *reexecution) audit() error { return r.auditor.each(r.auditRegion) }

// auditRegion executes what was certified of a region since the last time.
func (r *reexecution) auditRegion(region string) error {
	newest := r.auditor.Certified(region)
	if newest == 0 {
		return nil
	}
	m := r.replicas[region]
	if m == nil {
		var err error
		doc := r.auditor.world.Fed.Document
		m, err = fsm.Open(store.NewMemory(), fsm.Config{Region: region, Document: func(digest [32]byte) ([]byte, bool) { return doc.Canonical(), digest == doc.Digest() }})
		if err != nil {
			return err
		}
		r.replicas[region] = m
	}
	if m.Size() >= newest {
		return r.prefixes(m, region)
	}
	up, found := 0, false
	err := r.auditor.holders(region, func(_ *Node, v *fsm.View) error {
		up++
		if found || !r.holds(v, region, newest) {
			return nil
		}
		found = true
		if err := r.auditor.contradiction.prefixes(region, newest, v.Ledger().Root); err != nil || r.forked(m, v) {
			return err // of another ledger than what was executed, which is told already
		}
		return r.execute(m, v, region, newest)
	})
	if err == nil && up > 0 && !found {
		r.breaks("%d entries of %s are certified, and no node that is up holds them", newest, region)
	}
	return err
}

// prefixes holds certificates that were learned late against what was executed.
func (r *reexecution) prefixes(m *fsm.Machine, region string) error {
	v, err := m.View()
	if err != nil {
		return err
	}
	return errors.Join(r.auditor.contradiction.prefixes(region, m.Size(), v.Ledger().Root), v.Close())
}

// forked says whether a ledger is not that of which the beginning was executed.
func (r *reexecution) forked(m *fsm.Machine, from *fsm.View) bool {
	v, err := m.View()
	if err != nil {
		return false
	}
	defer func() { _ = v.Close() }()
	own, err := v.Ledger().Root(m.Size())
	if err != nil {
		return false
	}
	other, err := from.Ledger().Root(m.Size())
	return err == nil && own != other
}

// holds says whether a ledger is one under a certificate.
func (r *reexecution) holds(v *fsm.View, region string, size int64) bool {
	number, err := v.SealFrom(size)
	if err != nil {
		return false
	}
	s, err := v.SealAt(number)
	if err != nil {
		return false
	}
	c, ok := r.auditor.contradiction.of(region, size)
	return ok && s.Size == size && bytes.Equal(s.Body(), c.body)
}

// execute brings the auditor's replica up to a certificate, and compares it with those on the way.
func (r *reexecution) execute(m *fsm.Machine, from *fsm.View, region string, to int64) error {
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
		if err := errors.Join(m.ApplyEntries(entries), m.ApplySeal(s)); err != nil {
			r.breaks("%d entries of %s are certified that re-execution refuses: %w", to, region, err)
			return nil
		}
		c, ok := r.auditor.contradiction.of(region, s.Size)
		if !ok {
			continue
		}
		r.checks.Add(1)
		if !bytes.Equal(c.body, s.Body()) {
			r.auditor.contradiction.breaks("a certificate of %s says %q, re-execution under a later one %q", region, c.body, s.Body())
		}
		if err := r.auditor.bundles.check(from, c.note, s.Checkpoint()); err != nil {
			return fmt.Errorf("make a bundle of %s: %w", region, err)
		}
	}
	return nil
}

func (r *reexecution) close() (errs error) {
	for _, m := range r.replicas {
		errs = errors.Join(errs, m.Close())
	}
	return errs
}
