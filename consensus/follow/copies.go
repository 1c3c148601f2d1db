package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/p2p"
)

// opensMax is how many copies are opened or checked at once.
const opensMax = 4

// ErrCopyUnusable is returned by [CopiesConfig.Open], and wrapped by its errors, where what is
// there cannot be used: it is damaged, or another program's. It is then discarded and built
// anew from its region. Any other error is taken to pass, and opening is tried again.
var ErrCopyUnusable = errors.New("this copy cannot be used")

// CopyReplica is the replica of a copy.
type CopyReplica interface {
	Replica
	// Check tests that what the replica holds fits together. It reads all of it, and is called
	// before a whole region is blamed. The replica is at rest meanwhile.
	Check(ctx context.Context) error
	Close() error
}

// OpenCopy opens a copy in a store, which the copy's Close closes, as an error does. The error
// wraps [ErrCopyUnusable] where the state machine does not go on from what is there.
func OpenCopy(st store.Store, cfg fsm.Config) (CopyReplica, error) {
	m, err := fsm.Open(st, cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrCopyUnusable, err), st.Close())
	}
	return &storedCopy{m, st, cfg}, nil
}

type storedCopy struct {
	*fsm.Machine
	st  store.Store
	cfg fsm.Config
}

func (c *storedCopy) Check(ctx context.Context) error {
	return fsm.Check(ctx, c.st, c.cfg, func(string, int64, int64) {})
}

func (c *storedCopy) Close() error { return errors.Join(c.Machine.Close(), c.st.Close()) }

// CopiesConfig configures [Copies]. A zero value takes the default named at its field.
type CopiesConfig struct {
	Host    host.Host
	Regions []string // whose ledgers are copied
	// Open opens the copy of a region where it was left, or an empty one. It is called from
	// several goroutines, for one region by one at a time.
	Open func(region string) (CopyReplica, error)
	// Discard removes what Open opened, which is closed by then.
	Discard func(region string) error
	// Keep says of a copy that its region does not go by any more whether it must be kept all
	// the same, because what it holds was voted for or certified: it may be the last of that. May be nil.
	Keep func(region string, v *fsm.View) (bool, error)
	// Peers names whom to ask for a region's ledger, as [Config.Peers] does.
	Peers func(region string) []peer.ID
	// OnExecuted and OnRefused are those of [Config], for all copies, from several
	// goroutines, for one region from one at a time. A copy that is built anew tells its seals again.
	OnExecuted func(region string, seal *fsm.Seal)
	OnRefused  func(*Refused)
	// OnOpened is told when a copy can be read that holds a seal from before. May be nil.
	OnOpened func(region string)
	// Standby has the copies stand by until [Copies.Attend] says otherwise, and needs Fellows and Certified.
	Standby bool
	// Fellows names the voters of this node's own region, the leader first: whom a copy that stands
	// by asks, before it asks one of its region.
	Fellows func() []peer.ID
	// Certified is how many entries of a region are certified, as far as this node has heard. A
	// copy that stands by and has fewer is brought so far. It must not block.
	Certified func(region string) int64

	// Follow has the followers' times, wall clock and OpenEntries; nothing else of it is read.
	Follow Config

	RetryMin   time.Duration // before a copy that failed is opened again; 1 s, doubled for each failure
	RetryMax   time.Duration // 1 min
	RebuildMin time.Duration // from one discarding of a copy to the next; 1 min, doubled for each
	RebuildMax time.Duration // 1 h

	StandbyPace  time.Duration // from bringing up one copy that stands by to the next; 500 ms
	StandbyEvery time.Duration // after which a copy that stands by is brought up whatever is certified; 2 min

	Metrics prometheus.Registerer
	Logger  *slog.Logger
}

func (c CopiesConfig) withDefaults() CopiesConfig {
	setDuration(&c.RetryMin, time.Second)
	setDuration(&c.RetryMax, time.Minute)
	setDuration(&c.RebuildMin, time.Minute)
	setDuration(&c.RebuildMax, time.Hour)
	setDuration(&c.StandbyPace, 500*time.Millisecond)
	setDuration(&c.StandbyEvery, 2*time.Minute)
	if c.OnExecuted == nil {
		c.OnExecuted = func(string, *fsm.Seal) {}
	}
	if c.Keep == nil {
		c.Keep = func(string, *fsm.View) (bool, error) { return false, nil }
	}
	if c.OnRefused == nil {
		c.OnRefused = func(*Refused) {}
	}
	if c.OnOpened == nil {
		c.OnOpened = func(string) {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c CopiesConfig) validate() error {
	if c.Host == nil || c.Open == nil || c.Discard == nil || c.Peers == nil {
		return errors.New("copies: Host, Open, Discard and Peers must be set")
	}
	if c.Standby && (c.Fellows == nil || c.Certified == nil) {
		return errors.New("copies: Standby needs Fellows and Certified")
	}
	seen := map[string]struct{}{}
	for _, r := range c.Regions {
		if _, twice := seen[r]; twice || r == "" || len(r) > regionBytesMax {
			return fmt.Errorf("copies: Regions has %.80q: each must be named once, with 1 to %d bytes", r, regionBytesMax)
		}
		seen[r] = struct{}{}
	}
	if c.StandbyPace < 0 || c.StandbyEvery < 0 || c.RetryMin < 0 || c.RetryMax < c.RetryMin || c.RebuildMin < 0 || c.RebuildMax < c.RebuildMin {
		return fmt.Errorf("copies: RetryMin %v, RetryMax %v, RebuildMin %v, RebuildMax %v, StandbyPace %v, StandbyEvery %v: each most must be at least the least, and none negative",
			c.RetryMin, c.RetryMax, c.RebuildMin, c.RebuildMax, c.StandbyPace, c.StandbyEvery)
	}
	return nil
}

// Copies keeps a copy of the ledger and the state of each other region, by re-executing
// every entry. What fails for one region holds up no other, and none of it this node:
// a copy that is damaged or that turns out to be of a fork is discarded and built anew.
type Copies struct {
	cfg    CopiesConfig
	copies map[string]*Copy
	voters atomic.Pointer[map[peer.ID]p2p.ForeignVoter]
	opens  chan struct{} // a place for each copy that is opened or checked
	cancel context.CancelFunc
	wg     sync.WaitGroup
	attend atomic.Bool
	turned chan struct{} // attend has changed; holds at most one

	mu     sync.Mutex
	byCopy map[string]map[peer.ID]p2p.ForeignVoter // under mu: the voters that each copy's ledger names
}

// NewCopies begins to follow. It returns at once; copies are opened meanwhile.
func NewCopies(cfg CopiesConfig) (*Copies, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Copies{cfg: cfg, copies: make(map[string]*Copy), opens: make(chan struct{}, opensMax), cancel: cancel, turned: make(chan struct{}, 1),
		byCopy: make(map[string]map[peer.ID]p2p.ForeignVoter)}
	s.attend.Store(!cfg.Standby)
	s.voters.Store(&map[peer.ID]p2p.ForeignVoter{})
	for _, r := range cfg.Regions {
		c := newCopy(s, r)
		if err := c.metrics.Register(cfg.Metrics); err != nil {
			cancel()
			return nil, errors.Join(fmt.Errorf("copies: %w", err), s.Close())
		}
		s.copies[r] = c
	}
	s.wg.Go(func() { s.run(ctx) })
	return s, nil
}

// Of is the copy of a region, nil for one that is not copied.
func (s *Copies) Of(region string) *Copy { return s.copies[region] }

// Status says how each copy is doing, in the order of Regions.
func (s *Copies) Status() []CopyStatus {
	list := make([]CopyStatus, 0, len(s.copies))
	for _, r := range s.cfg.Regions {
		list = append(list, s.copies[r].Status())
	}
	return list
}

// Voters are the voters that the copied ledgers name, for [p2p.AccessConfig.Foreign]. The
// map is not changed any more.
func (s *Copies) Voters() map[peer.ID]p2p.ForeignVoter { return *s.voters.Load() }

// Close ends following and closes every copy.
func (s *Copies) Close() error {
	s.cancel()
	s.wg.Wait()
	var errs []error
	for _, c := range s.copies {
		c.metrics.Unregister(s.cfg.Metrics)
		errs = append(errs, c.closeErr)
	}
	return errors.Join(errs...)
}

// setVoters takes in whom a region's ledger names now.
func (s *Copies) setVoters(region string, voters []fsm.Voter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	named := make(map[peer.ID]p2p.ForeignVoter, len(voters))
	for _, v := range voters {
		if id, err := p2p.PeerID(v.NodeKey); err == nil { // its region checked it
			named[id] = p2p.ForeignVoter{Region: region, Addresses: v.Addresses}
		}
	}
	s.byCopy[region] = named
	all := make(map[peer.ID]p2p.ForeignVoter)
	for _, r := range s.cfg.Regions {
		for id, v := range s.byCopy[r] {
			// A key that another region names already stays that one's: nobody takes a voter away by naming it too.
			if was, known := (*s.voters.Load())[id]; known && was.Region != r {
				if _, still := s.byCopy[was.Region][id]; still {
					continue
				}
			}
			all[id] = v
		}
	}
	s.voters.Store(&all)
}

// Source lends the copy of a region to a [Server], so that fellow voters can be brought up from it.
func (s *Copies) Source(region string) (Source, bool) {
	c := s.copies[region]
	if c == nil {
		return Source{}, false
	}
	return Source{Lend: c.Read, Feed: c.feed, Age: func() time.Duration { return c.Status().Age }}, true
}
