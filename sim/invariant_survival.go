package sim

import (
	"fmt"

	"github.com/bizra/bizra/fsm"
)

// survival: a proof that a region has acknowledged is in every ledger of it that is long enough,
// at its place, and in one that its leader has.
type survival struct {
	promise
	accepted map[string][]accepted // by region; under the auditor's mu
}

// accepted is a proof that a region has acknowledged.
type accepted struct {
	region string
	index  int64
	digest [32]byte
}

func (s *survival) acknowledged(x accepted) {
	s.auditor.mu.Lock()
	defer s.auditor.mu.Unlock()
	s.accepted[x.region] = append(s.accepted[x.region], x)
}

func (s *survival) audit() error {
	return s.auditor.each(func(region string) error {
		s.auditor.mu.Lock()
		list := s.accepted[region]
		s.auditor.mu.Unlock()
		if len(list) == 0 {
			return nil
		}
		leader := s.auditor.world.settled(region)
		return s.auditor.holders(region, func(n *Node, v *fsm.View) error {
			size, err := v.Ledger().Size()
			if err != nil {
				return err
			}
			for _, x := range list {
				if x.index >= size {
					if n == leader {
						s.breaks("an acknowledged proof of %s, entry %d, is not in the %d entries of its leader %s", region, x.index, size, n.Name())
					}
					continue
				}
				s.checks.Add(1)
				if index, err := v.Ledger().IndexByDigest(x.digest); err != nil || index != x.index {
					s.breaks("an acknowledged proof of %s, entry %d, is lost from a ledger of %d at %s: %w", region, x.index, size, n.Name(), orElse(err, index))
				}
			}
			return nil
		})
	})
}

func orElse(err error, index int64) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("it is entry %d", index)
}

// settled is the leader of a region that has applied all that it knows to be in its log, nil if there is none.
func (w *World) settled(region string) *Node {
	n := w.Leader(region)
	if n == nil {
		return nil
	}
	if x := n.Running(); x != nil {
		if st := x.RaftStatus(); st.Role == "Leader" && st.AppliedIndex == st.LastIndex {
			return n
		}
	}
	return nil
}
