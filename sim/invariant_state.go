package sim

import (
	"bytes"
	"errors"

	"github.com/bizra/bizra/fsm"
)

// states: wherever a region seals, all who hold its ledger are of one state: its voters as they
// apply the seal, its members and the copies at the other regions in audits.
type states struct {
	promise
	sealed map[string]map[int64][]byte // note bodies, by region and number; under the auditor's mu
}

// seal holds what a voter made of a seal against the others.
func (s *states) seal(n *Node, region string, seal *fsm.Seal) {
	if n.lies.Load() != nil {
		return
	}
	s.auditor.mu.Lock()
	if s.sealed[region] == nil {
		s.sealed[region] = map[int64][]byte{}
	}
	body := seal.Body()
	was, ok := s.sealed[region][seal.Number]
	if !ok {
		s.sealed[region][seal.Number] = body
	}
	s.auditor.mu.Unlock()
	if !ok {
		return
	}
	s.checks.Add(1)
	if !bytes.Equal(was, body) {
		s.breaks("%s made %q of seal %d of %s, another %q", n.Name(), body, seal.Number, region, was)
	}
}

// audit compares the newest seal of everybody.
func (s *states) audit() error {
	return s.auditor.each(func(region string) error {
		if s.auditor.world.lies(region) {
			return nil
		}
		return s.auditor.holders(region, func(n *Node, v *fsm.View) error {
			if n.Region != region && v.Seals() == 0 || v.Seals() == 0 {
				return nil
			}
			seal, err := v.SealAt(v.Seals() - 1)
			if errors.Is(err, fsm.ErrNotFound) {
				return nil
			}
			if err == nil {
				s.seal(n, region, seal)
			}
			return err
		})
	})
}

// lies says whether a region does.
func (w *World) lies(region string) bool { return w.regions[region][0].lies.Load() != nil }
