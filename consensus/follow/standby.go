package follow

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Copies stand by on a voter that does not lead: nobody waits for what they say, and one stream
// from each region's ledger to each region is enough for that region to vote. They are brought up to what is
// certified, one after the other, from a fellow voter whose copy is, so that who comes to lead has little to catch up with.

// Attend says whether this node's copies follow their regions, as they do on a voter that leads, or
// stand by. It does not wait.
func (s *Copies) Attend(attend bool) {
	if s.attend.Swap(attend) == attend {
		return
	}
	select {
	case s.turned <- struct{}{}:
	default:
	}
}

// run has the copies follow or stand by, until ctx ends.
func (s *Copies) run(ctx context.Context) {
	for ctx.Err() == nil {
		phase, end := context.WithCancel(ctx)
		var wg sync.WaitGroup
		if s.attend.Load() {
			for _, c := range s.copies {
				wg.Go(func() { c.run(phase) })
			}
		} else {
			wg.Go(func() { s.standBy(phase) })
		}
		select {
		case <-ctx.Done():
		case <-s.turned:
		}
		end()
		wg.Wait()
	}
}

// standBy brings up one copy after the other.
func (s *Copies) standBy(ctx context.Context) {
	defer func() {
		for _, c := range s.copies {
			c.rest()
		}
	}()
	tick := time.NewTicker(s.cfg.StandbyPace)
	defer tick.Stop()
	for next := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for range s.cfg.Regions {
			c := s.copies[s.cfg.Regions[next]]
			next = (next + 1) % len(s.cfg.Regions)
			if c.takeDoubt() {
				c.rest()
				c.suspect = true
			}
			if c.lags(time.Now()) {
				c.catchUp(ctx)
				break
			}
		}
	}
}

// lags says whether a copy that stands by should be brought up now.
func (c *Copy) lags(now time.Time) bool {
	if c.standbySince.IsZero() {
		c.standbySince = now
	}
	behind := c.set.cfg.Certified(c.region) > c.size.Load() || now.Sub(c.standbySince) >= c.set.cfg.StandbyEvery
	return behind && !now.Before(c.standbyFrom)
}

// takeDoubt says whether reading the copy failed since it was asked.
func (c *Copy) takeDoubt() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.doubted
	c.doubted = false
	return was
}

// catchUp brings a copy that stands by to what one peer has. Whoever fails at it is not blamed, and
// a copy that was misled is not built anew: that is for one which follows its region, and hears all of its voters.
func (c *Copy) catchUp(ctx context.Context) {
	log := c.set.cfg.Logger.With("copy_of", c.region)
	err := c.ready(ctx)
	if err == nil {
		err = c.takeFromOne(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		c.failures, c.standbySince = 0, time.Now()
		return
	}
	c.failed(err)
	if errors.Is(err, ErrCopyUnusable) || errors.Is(err, ErrReplica) {
		c.rest()
	}
	wait := min(c.set.cfg.RetryMax, c.set.cfg.RetryMin<<min(c.failures, 16))
	if c.discarding != nil {
		wait = max(wait, time.Until(c.notBefore))
	}
	c.failures++
	c.standbyFrom = time.Now().Add(wait)
	log.Debug("a copy that stands by was not brought up", "wait", wait, "error", err)
}

// ready opens a copy that stands by, unless it is open.
func (c *Copy) ready(ctx context.Context) error {
	if c.resting != nil {
		return nil
	}
	replica, err := c.open(ctx)
	if err != nil {
		return err
	}
	c.resting = replica
	c.attach(replica, nil, nil)
	return nil
}

// rest closes a copy that stands by.
func (c *Copy) rest() {
	if c.resting != nil {
		if err := c.detach(c.resting); err != nil {
			c.failed(err)
		}
		c.resting = nil
	}
}

// takeFromOne takes up what the first of the peers has that serves.
func (c *Copy) takeFromOne(ctx context.Context) error {
	cfg := c.followerConfig(c.resting)
	cfg.once = true
	cfg.Peers = func() []peer.ID {
		peers := c.set.cfg.Fellows()
		if own := c.set.cfg.Peers(c.region); len(own) > 0 {
			peers = append(peers[:len(peers):len(peers)], own[0])
		}
		return peers
	}
	f, err := New(cfg)
	if err != nil {
		return err
	}
	c.setFollower(f)
	defer c.setFollower(nil)
	return f.Run(ctx)
}

// setFollower sets who brings up a copy that stands by; what the last one knew stays.
func (c *Copy) setFollower(f *Follower) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.follower != nil {
		c.status.Status = c.follower.Status()
	}
	c.follower = f
}

// errCaughtUp ends a stream that has brought all that its peer has.
var errCaughtUp = errors.New("the peer has no more")

// runOnce takes what the first peer has that serves.
func (f *Follower) runOnce(ctx context.Context) error {
	err := error(&fault{reason: leftNetwork, err: errors.New("there is no peer to be asked")})
	for _, p := range f.peers() {
		if err = f.follow(ctx, p); errors.Is(err, errCaughtUp) {
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrReplica) {
			return err
		}
	}
	return err
}
