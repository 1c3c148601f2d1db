package region

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Limits of the leader's clock.
const (
	clockOffMax   = 2 * time.Second // from the median of the voters' clocks
	clockCallMax  = time.Second     // of one question; a slower answer says nothing
	clockPatience = 200 * time.Millisecond
	clockJumpMax  = clockOffMax // between wall clock and monotonic clock since the last look
	clockHandover = 10 * time.Second
)

// clockOffset is how far the median of the voters' clocks, this node's among them, is ahead of this node's. Of an even number of
// clocks it takes the middle one that agrees better: a single other clock proves nothing.
func clockOffset(others []time.Duration) time.Duration {
	offsets := append(slices.Clone(others), 0)
	slices.Sort(offsets)
	low, high := offsets[(len(offsets)-1)/2], offsets[len(offsets)/2]
	if low.Abs() < high.Abs() {
		return low
	}
	return high
}

// clockLook is when the clock was last found right, by both clocks of this machine.
type clockLook struct{ monotonic, wall time.Time }

func (r *Region) lookAtClock() clockLook { return clockLook{time.Now(), r.cfg.Wall().Round(0)} }

// jumped says how far the wall clock has moved beside the monotonic one since.
func (l clockLook) jumped(now clockLook) time.Duration {
	return now.wall.Sub(l.wall) - now.monotonic.Sub(l.monotonic)
}

// askClocks measures the other voters' clocks, all at once. It returns when all have answered, or when clockPatience has passed and
// a majority of the voters, this one included, is known; who has not answered by then or by clockCallMax is left out.
func (r *Region) askClocks(ctx context.Context) []time.Duration {
	ctx, cancel := context.WithTimeout(ctx, clockCallMax)
	defer cancel()
	var voters []raft.ServerID
	for _, s := range r.Configuration().Servers {
		if s.ID != r.id && s.Suffrage == raft.Voter {
			voters = append(voters, s.ID)
		}
	}
	answers := make(chan *time.Duration, len(voters))
	for _, id := range voters {
		go func() { answers <- r.askClock(ctx, id) }()
	}
	patience := time.NewTimer(clockPatience)
	defer patience.Stop()
	var offsets []time.Duration
	patient := true
	for answered := 0; answered < len(voters); {
		if !patient && 2*(len(offsets)+1) > len(voters)+1 {
			break
		}
		select {
		case offset := <-answers:
			answered++
			if offset != nil {
				offsets = append(offsets, *offset)
			}
		case <-patience.C:
			patient = false
		}
	}
	return offsets
}

// askClock measures one clock, nil if it is not known.
func (r *Region) askClock(ctx context.Context, id raft.ServerID) *time.Duration {
	start, wall := time.Now(), r.cfg.Wall()
	theirs, err := r.cfg.PeerClock(ctx, id)
	took := time.Since(start)
	if err != nil || took > clockCallMax {
		r.cfg.Logger.Debug("a voter's clock is not known", "peer", string(id), "error", err)
		return nil
	}
	offset := time.UnixMilli(theirs).Sub(wall.Add(took / 2).Round(0))
	return &offset
}

// checkClock compares this leader's clock with its voters'.
func (r *Region) checkClock(ctx context.Context) error {
	offset := clockOffset(r.askClocks(ctx))
	if offset.Abs() <= clockOffMax {
		r.clockBase.Store(r.lookAtClock())
		return nil
	}
	r.cfg.Hooks.ClockOff(-offset)
	return fmt.Errorf("%w: by %v, at most %v: set this node's clock (chrony, ntpd)", ErrClockOff, -offset.Round(time.Millisecond), clockOffMax)
}

// clockSteady says whether the wall clock has not been set since it was last found right.
func (r *Region) clockSteady() bool {
	look, ok := r.clockBase.Load().(clockLook)
	return ok && look.jumped(r.lookAtClock()).Abs() <= clockJumpMax
}
