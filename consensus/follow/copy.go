package follow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/tally"
)

// Errors of reading a [Copy]; test with errors.Is.
var (
	// ErrNoCopy is returned while the copy is not open.
	ErrNoCopy = errors.New("the copy of that region's ledger is not open")
	// ErrBehind is returned where the copy has not come so far yet.
	ErrBehind = errors.New("the copy of that region's ledger is behind")
	// ErrUnsealed is returned by [Copy.BodyAt] for a size that the copy has passed and of
	// which it was sent no seal: what the state was there is not known any more. A later
	// seal covers it.
	ErrUnsealed = errors.New("the copy of that region's ledger was sent no seal at that size")
)

// Copy is a re-executed copy of another region's ledger and state. Its methods may be
// called from any goroutine.
type Copy struct {
	region  string
	set     *Copies
	feed    *Feed
	metrics *tally.Figures
	rebuilt tally.Counter

	size      atomic.Int64 // entries, as far as known: a copy that was not opened yet has none
	replicaMu sync.RWMutex // held for reading while the replica is read, and for writing while it comes and goes
	replica   CopyReplica  // nil while there is none

	mu       sync.Mutex // guards what follows
	status   CopyStatus // but for the follower's part
	follower *Follower
	stop     context.CancelCauseFunc // ends following; nil while the copy does not follow
	doubted  bool                    // while it stood by
	closeErr error

	// What follows is the goroutine's of run, and of [Copies.standBy] while the copy stands by.
	resting      CopyReplica // open, while the copy stands by
	standbySince time.Time   // last brought up; zero: when it began to stand by
	standbyFrom  time.Time   // not brought up before
	voters       []fsm.Voter
	failures     int           // in a row
	suspect      bool          // the replica failed: what it holds is checked before it is used again
	soundAt      int64         // size at which the replica was found sound; -1: none
	notBefore    time.Time     // of the next discarding
	rebuildIn    time.Duration // from one discarding to the next
	discarding   error         // why the copy must be discarded before it is opened
}

// CopyStatus is how a copy is doing.
type CopyStatus struct {
	Status
	Region  string
	Open    bool
	Standby bool      // it is brought up now and then, since this node does not lead
	Error   string    // why it is not open, or was closed last; "" if it never was
	Rebuilt int       // how often it was discarded and begun anew since start
	Seal    *fsm.Seal // the newest that it has executed; nil before the first
	Blame   *Refused  // what most of the region's peers sent and re-execution refuses, nil unless that is so
}

func newCopy(s *Copies, region string) *Copy {
	c := &Copy{region: region, set: s, feed: NewFeed(0), soundAt: -1}
	c.status.Region = region
	c.metrics = tally.New(copyPrefix, of(region), func(sheet *tally.Sheet) {
		sheet.Counter("rebuilt_total", "Times that the copy of another region's ledger was discarded and begun anew.", &c.rebuilt)
		sheet.Gauge("open", "1 while the copy of another region's ledger is open.", func() float64 { return truth(c.Status().Open) })
		sheet.Gauge("blamed", "1 while most of a region's nodes send what re-execution refuses.", func() float64 { return truth(c.Status().Blame != nil) })
	})
	return c
}

// Status says how the copy is doing.
func (c *Copy) Status() CopyStatus {
	c.mu.Lock()
	st, f := c.status, c.follower
	c.mu.Unlock()
	st.Standby = !c.set.attend.Load()
	if f != nil {
		st.Status = f.Status()
	}
	return st
}

// Read lends a view on the copy as it is now.
func (c *Copy) Read(fn func(*fsm.View) error) error {
	c.replicaMu.RLock()
	defer c.replicaMu.RUnlock()
	if c.replica == nil {
		return fmt.Errorf("region %q: %w", c.region, ErrNoCopy)
	}
	v, err := c.replica.View()
	if err != nil {
		return err
	}
	return errors.Join(fn(v), v.Close())
}

// Suspect says that reading the copy failed. It is closed, and what it holds is checked before
// it is used again; what is damaged is built anew from the region.
func (c *Copy) Suspect(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop(fmt.Errorf("%w: it cannot be read: %w", ErrReplica, err))
		return
	}
	c.doubted = c.status.Open
}

// BodyAt is the body of the checkpoint at a size, as the copy has worked it out; or
// [ErrBehind], [ErrUnsealed], [ErrNoCopy].
func (c *Copy) BodyAt(size int64) (body []byte, err error) {
	err = c.Read(func(v *fsm.View) error {
		n, err := v.SealFrom(size)
		if err != nil {
			return err
		}
		if n < v.Seals() {
			s, err := v.SealAt(n)
			if err == nil && s.Size == size {
				body = s.Body()
			}
			if err != nil || body != nil {
				return err
			}
		}
		has, err := v.Ledger().Size()
		switch {
		case err != nil:
			return err
		case has <= size: // a seal comes after the last entry that it covers
			return fmt.Errorf("%d of %d entries of region %q: %w", has, size, c.region, ErrBehind)
		default:
			return fmt.Errorf("%d entries of region %q: %w", size, c.region, ErrUnsealed)
		}
	})
	return body, err
}

// AwaitBody is [Copy.BodyAt] once the copy has come so far.
func (c *Copy) AwaitBody(ctx context.Context, size int64) ([]byte, error) {
	for {
		changed := c.feed.Changed()
		body, err := c.BodyAt(size)
		if !errors.Is(err, ErrBehind) && !errors.Is(err, ErrNoCopy) {
			return body, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-changed:
		}
	}
}

// ConsistencyProof is the RFC 6962 proof that the first oldSize entries of the ledger are a
// prefix of the first size, or [ErrBehind] or [ErrNoCopy].
func (c *Copy) ConsistencyProof(oldSize, size int64) (proof tlog.TreeProof, err error) {
	err = c.Read(func(v *fsm.View) error {
		has, err := v.Ledger().Size()
		if err == nil && has < size {
			err = fmt.Errorf("%d of %d entries of region %q: %w", has, size, c.region, ErrBehind)
		}
		if err == nil {
			proof, err = v.Ledger().ConsistencyProof(oldSize, size)
		}
		return err
	})
	return proof, err
}

// run keeps the copy open and following until ctx ends.
func (c *Copy) run(ctx context.Context) {
	log := c.set.cfg.Logger.With("copy_of", c.region)
	for {
		moved, err := c.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		c.failed(err)
		if moved {
			c.failures = 0
		}
		wait := min(c.set.cfg.RetryMax, c.set.cfg.RetryMin<<min(c.failures, 16))
		c.failures++
		if c.discarding != nil {
			wait = max(0, time.Until(c.notBefore))
			log.Error("the copy of another region's ledger is discarded and built anew from its region", "wait", wait, "error", err)
		} else {
			log.Error("the copy of another region's ledger is opened again", "wait", wait, "error", err)
		}
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// follow opens the copy and follows until that fails. It says whether the copy moved.
func (c *Copy) follow(ctx context.Context) (moved bool, err error) {
	replica, err := c.open(ctx)
	if err != nil {
		return false, err
	}
	from := replica.Size()
	cfg := c.followerConfig(replica)
	cfg.OnRefused = func(r *Refused) error { return c.refused(ctx, replica, r) }
	f, err := New(cfg)
	if err != nil {
		return false, errors.Join(err, replica.Close())
	}
	following, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c.attach(replica, f, stop)
	if err = f.Run(following); ctx.Err() == nil && following.Err() != nil {
		err = context.Cause(following)
	}
	var fork *forked
	if errors.As(err, &fork) {
		err = c.rewritten(fork)
	}
	moved = replica.Size() > from
	return moved, errors.Join(err, c.detach(replica))
}

func (c *Copy) followerConfig(replica CopyReplica) Config {
	cfg := c.set.cfg.Follow
	return Config{Host: c.set.cfg.Host, Region: c.region, Replica: replica, Foreign: true,
		Peers:       func() []peer.ID { return c.set.cfg.Peers(c.region) },
		OnAdvance:   func(size int64) { c.advanced(replica, size) },
		OnExecuted:  func(s *fsm.Seal) { c.executed(s) },
		OpenTimeout: cfg.OpenTimeout, SilenceMax: cfg.SilenceMax, StaleAfter: cfg.StaleAfter, RetryMin: cfg.RetryMin, RetryMax: cfg.RetryMax,
		AsideFor: cfg.AsideFor, Wall: cfg.Wall, OpenEntries: cfg.OpenEntries, Metrics: c.set.cfg.Metrics, Logger: c.set.cfg.Logger, open: cfg.open}
}

// failed notes why the copy was left, and what has to be done before it is used again.
func (c *Copy) failed(err error) {
	c.note(func(st *CopyStatus) { st.Error = cut(err.Error()) })
	if errors.Is(err, ErrCopyUnusable) || errors.Is(err, ErrForked) {
		c.discarding = err
	} else {
		c.suspect = c.suspect || errors.Is(err, ErrReplica)
	}
}

// rewritten says what becomes of a copy that its region does not go by: one that must be kept is,
// and the region is blamed.
func (c *Copy) rewritten(fork *forked) error {
	keep := false
	err := c.Read(func(v *fsm.View) (err error) {
		keep, err = c.set.cfg.Keep(c.region, v)
		return err
	})
	if err != nil {
		return fmt.Errorf("whether the copy must be kept: %w", err)
	}
	if !keep {
		return fork
	}
	r := &Refused{Origin: c.region, Index: fork.at, Code: RefusedRewritten, Detail: cut(fork.Error()), Err: fork, Agreeing: fork.agreeing, Peers: fork.peers}
	c.note(func(st *CopyStatus) { st.Blame = r })
	c.set.cfg.OnRefused(r)
	return fmt.Errorf("the region has rewritten its ledger, and what this copy has was voted for: it is kept: %w", fork.err)
}

// open opens the replica, after discarding it or checking it where that is due.
func (c *Copy) open(ctx context.Context) (CopyReplica, error) {
	select {
	case c.set.opens <- struct{}{}:
		defer func() { <-c.set.opens }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.discarding != nil {
		if err := c.set.cfg.Discard(c.region); err != nil {
			return nil, fmt.Errorf("discard the copy of region %q: %w", c.region, err)
		}
		c.discarding, c.suspect, c.soundAt = nil, false, -1
		c.size.Store(0)
		c.rebuildIn = min(max(2*c.rebuildIn, c.set.cfg.RebuildMin), c.set.cfg.RebuildMax)
		c.notBefore = time.Now().Add(c.rebuildIn)
		c.rebuilt.Inc()
		c.note(func(st *CopyStatus) { st.Rebuilt++; st.Seal, st.Blame = nil, nil })
	}
	replica, err := c.set.cfg.Open(c.region)
	if err != nil {
		return nil, fmt.Errorf("open the copy of region %q: %w", c.region, err)
	}
	if c.suspect {
		if err := c.check(ctx, replica); err != nil {
			return nil, errors.Join(err, replica.Close())
		}
		c.suspect = false
	}
	return replica, nil
}

// check looks through what the replica holds.
func (c *Copy) check(ctx context.Context, replica CopyReplica) error {
	err := replica.Check(ctx)
	switch {
	case err == nil:
		c.soundAt = replica.Size()
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return fmt.Errorf("%w: %w", ErrCopyUnusable, err)
	}
}

// attach makes the replica readable.
func (c *Copy) attach(replica CopyReplica, f *Follower, stop context.CancelCauseFunc) {
	c.replicaMu.Lock()
	c.replica = replica
	c.replicaMu.Unlock()
	var last *fsm.Seal
	err := c.Read(func(v *fsm.View) (err error) {
		if v.Seals() > 0 {
			last, err = v.SealAt(v.Seals() - 1)
		}
		return err
	})
	if err != nil {
		last = nil // following will find out
	}
	c.mu.Lock()
	c.follower, c.stop, c.status.Open, c.status.Seal, c.doubted = f, stop, true, last, false
	c.status.Size = replica.Size()
	c.mu.Unlock()
	c.advanced(replica, replica.Size())
	if last != nil {
		c.set.cfg.OnOpened(c.region)
	}
}

// detach closes the replica once nobody reads it.
func (c *Copy) detach(replica CopyReplica) error {
	c.replicaMu.Lock()
	c.replica = nil
	c.replicaMu.Unlock()
	err := replica.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.follower != nil {
		c.status.Status = c.follower.Status()
	}
	c.follower, c.stop, c.status.Open, c.closeErr = nil, nil, false, err
	return err
}

// advanced is told after each commit and each seal.
func (c *Copy) advanced(replica CopyReplica, size int64) {
	c.size.Store(size)
	var voters []fsm.Voter
	v, err := replica.View()
	if err == nil {
		voters, err = v.Voters()
		err = errors.Join(err, v.Close())
	}
	same := func(a, b fsm.Voter) bool { return a.NodeKey == b.NodeKey && slices.Equal(a.Addresses, b.Addresses) }
	if err == nil && size > 0 && !slices.EqualFunc(voters, c.voters, same) { // where reading fails, following will find out
		c.voters = voters
		c.set.setVoters(c.region, voters)
	}
	c.note(func(st *CopyStatus) { st.Blame = nil })
	c.feed.Advance(size)
}

func (c *Copy) executed(s *fsm.Seal) {
	c.note(func(st *CopyStatus) { st.Seal = s })
	c.set.cfg.OnExecuted(c.region, s)
}

// refused passes on what the region sends and re-execution refuses. Before the whole
// region is blamed, the copy looks for the fault in itself.
func (c *Copy) refused(ctx context.Context, replica CopyReplica, r *Refused) error {
	if r.Most() && c.soundAt != replica.Size() {
		if err := c.check(ctx, replica); err != nil {
			return err
		}
	}
	if r.Most() {
		c.note(func(st *CopyStatus) { st.Blame = r })
	}
	c.set.cfg.OnRefused(r)
	return nil
}

func (c *Copy) note(change func(*CopyStatus)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.status)
}
