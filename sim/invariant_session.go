package sim

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/linear"
)

// sessionCheckMax is how long, in real time, an explanation of one session is looked for.
const sessionCheckMax = time.Minute

// sessions: what clients saw of a session that they step and read side by side, on whatever nodes,
// has an order that explains it and respects real time.
type sessions struct {
	promise
	mu sync.Mutex
	of map[string]*sessionHistory
}

type sessionHistory struct {
	region  string
	known   []linear.Operation
	pending []pendingStep
	changed bool // since it was explained
}

// pendingStep is a step whose outcome its client never learned.
type pendingStep struct {
	op     linear.Operation
	digest [32]byte
}

func (s *sessions) note(region, session string, add func(*sessionHistory)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[session] == nil {
		s.of[session] = &sessionHistory{region: region}
	}
	add(s.of[session])
	s.of[session].changed = true
}

// seen remembers an operation with its outcome.
func (s *sessions) seen(region, session string, op linear.Operation) {
	s.note(region, session, func(h *sessionHistory) { h.known = append(h.known, op) })
}

// unknown remembers a step without one.
func (s *sessions) unknown(region, session string, op linear.Operation, digest [32]byte) {
	s.note(region, session, func(h *sessionHistory) { h.pending = append(h.pending, pendingStep{op, digest}) })
}

// audit explains each session that has gone on. What became of steps of unknown outcome is asked of
// the region's leader; without one the session waits for the next audit.
func (s *sessions) audit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, h := range s.of {
		if !h.changed || s.auditor.world.lies(h.region) {
			continue
		}
		history, ok, err := s.settle(h)
		if err != nil {
			return fmt.Errorf("sim: settle session %s: %w", id, err)
		}
		if !ok {
			continue
		}
		h.changed = len(h.pending) > 0
		s.checks.Add(int64(len(history)))
		switch linear.Explained(history, sessionCheckMax) {
		case porcupine.Illegal:
			s.breaks("session %s of %s: no order explains the %d operations that its clients saw", id, h.region, len(history))
		case porcupine.Unknown:
			return fmt.Errorf("sim: session %s: no explanation within %v, none excluded", id, sessionCheckMax)
		}
	}
	return nil
}

// settle adds to a history the steps of unknown outcome that the leader's ledger has: they may have
// taken effect at any time after they were called. What is not there has not been seen by anybody.
func (s *sessions) settle(h *sessionHistory) (history []linear.Operation, ok bool, err error) {
	history = append(history, h.known...)
	if len(h.pending) == 0 {
		return history, true, nil
	}
	leader := s.auditor.world.settled(h.region)
	if leader == nil {
		return nil, false, nil
	}
	err = leader.read(func(v *fsm.View) error {
		ok = true
		for _, p := range h.pending {
			r, err := v.Receipt(p.digest)
			if errors.Is(err, fsm.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if won, told := linear.OutcomeOf(&r); told {
				p.op.Output, p.op.Return = linear.Output{Won: won, Head: r.Head}, math.MaxInt64
				history = append(history, p.op)
			}
		}
		return nil
	})
	return history, ok, err
}
