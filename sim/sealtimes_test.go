package sim

import (
	"slices"
	"sync"
	"time"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
)

// A commit counts as a round trip to the nearest majority of the region's own voters.
const (
	commitTrip   = 2 * near
	latencyBound = 1.3
)

// sealTimes measures from each seal, when the first of its region's voters has applied it, to its certificate in that region.
type sealTimes struct {
	mu     sync.Mutex
	sealed map[string]map[int64]time.Time // by region and entries; zero once it is certified
	took   map[string][]time.Duration     // by region
}

func newSealTimes() *sealTimes {
	return &sealTimes{sealed: map[string]map[int64]time.Time{}, took: map[string][]time.Duration{}}
}

func (s *sealTimes) observe(n *Node, res *fsm.Result, l *attest.Learned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if res != nil && res.Seal != nil {
		if s.sealed[n.Region] == nil {
			s.sealed[n.Region] = map[int64]time.Time{}
		}
		if _, ok := s.sealed[n.Region][res.Seal.Size]; !ok {
			s.sealed[n.Region][res.Seal.Size] = time.Now()
		}
	}
	if l == nil || l.Origin != n.Region {
		return
	}
	if at, ok := s.sealed[n.Region][l.Size]; ok && !at.IsZero() {
		s.took[n.Region] = append(s.took[n.Region], time.Since(at)+commitTrip) // of the seal itself
		s.sealed[n.Region][l.Size] = time.Time{}
	}
}

// quorumFloor is the round trip from one of the places to that which completes the quorum, with two commits.
func quorumFloor(own string, places []string, oneWay func(from, to string) time.Duration) time.Duration {
	var trips []time.Duration
	for _, p := range places {
		if p != own {
			trips = append(trips, 2*oneWay(own, p))
		}
	}
	slices.Sort(trips)
	return trips[federation.Quorum(len(places))-2] + 2*commitTrip
}
