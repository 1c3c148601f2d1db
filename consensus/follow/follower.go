package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/p2p"
)

// Errors with which [Follower.Run] ends; test with errors.Is.
var (
	// ErrDiverged is returned where most of the known peers send the same thing and this
	// replica refuses it: the replica is wrong, or too old for what the region does now.
	ErrDiverged = errors.New("this replica differs from its region")
	// ErrReplica is returned where the replica itself failed, as by its disk.
	ErrReplica = errors.New("this replica failed")
)

// Replica is what a follower feeds; a *fsm.Machine is one. Only the follower calls
// ApplyParsed, ApplySeal, OfferDocument and Size while it runs.
type Replica interface {
	ApplyParsed(parsed []*fsm.Entry, entries [][]byte) error
	ApplySeal(s *fsm.Seal) error
	OfferDocument(canonical []byte) error
	// Holds is the digest of the document that the replica has without its being offered.
	Holds() (digest [32]byte, ok bool)
	Size() int64
	View() (*fsm.View, error)
}

// Config configures a [Follower]. A zero value takes the default named at its field.
type Config struct {
	Host    host.Host
	Region  string // whose ledger is followed
	Replica Replica
	// Peers names whom to ask, the nearest first; this node itself is left out. It is called
	// often, from Run's goroutine, and must not block. Of these, more than half must agree
	// before the replica is taken to be wrong.
	Peers func() []peer.ID
	// Foreign says that the ledger is another region's, which may lie as a whole: signatures and
	// log times are checked, seals are taken as they come, and what most peers send and the
	// replica refuses is told to OnRefused instead of stopping the follower.
	Foreign bool
	// OnRefused is told of every entry and seal of a Foreign ledger that a peer sent and the
	// replica refuses, from Run's goroutine, once for each peer and as often as it is asked
	// again, a few times an hour. An error that it returns ends Run with it.
	OnRefused func(*Refused) error
	// OnExecuted is told each seal that the replica worked out for itself and found equal, in
	// order, from Run's goroutine. Number counts the replica's own seals.
	OnExecuted func(*fsm.Seal)
	// VerifySignatures has each envelope's signature checked before it is re-executed. Inside
	// one region the leader has done that; a Foreign ledger's always are.
	VerifySignatures bool
	// OpenEntries parses entries and checks their signatures; [ParseEntries].
	OpenEntries OpenEntries
	// OnAdvance is told how many entries there are, after each commit and each seal, from
	// Run's goroutine.
	OnAdvance func(size int64)
	// OnDiverged is called once, before Run returns, if the replica diverged.
	OnDiverged func(err error)

	Wall func() time.Time // reads the wall clock, against which log times are held; time.Now

	OpenTimeout time.Duration // to open a stream, dialling included; 5 s
	SilenceMax  time.Duration // without a whole frame; 15 s. Servers send one each 5 s
	StaleAfter  time.Duration // how old a peer may be that sends nothing, while there are others; 30 s
	RetryMin    time.Duration // before a failed peer is asked again; 200 ms, doubled for each failure
	RetryMax    time.Duration // 10 s
	AsideFor    time.Duration // that a peer is put aside which sent what may not be; 5 min

	Metrics prometheus.Registerer
	Logger  *slog.Logger

	open func(ctx context.Context, p peer.ID) (Stream, error) // over Host, but in tests in memory
	once bool                                                 // Run returns with nil when a peer has no more; it blames nobody
}

func (c Config) withDefaults() Config {
	setDuration(&c.OpenTimeout, 5*time.Second)
	setDuration(&c.SilenceMax, 15*time.Second)
	setDuration(&c.StaleAfter, 30*time.Second)
	setDuration(&c.RetryMin, 200*time.Millisecond)
	setDuration(&c.RetryMax, 10*time.Second)
	setDuration(&c.AsideFor, 5*time.Minute)
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.OnAdvance == nil {
		c.OnAdvance = func(int64) {}
	}
	if c.OnDiverged == nil {
		c.OnDiverged = func(error) {}
	}
	if c.OnRefused == nil {
		c.OnRefused = func(*Refused) error { return nil }
	}
	if c.OnExecuted == nil {
		c.OnExecuted = func(*fsm.Seal) {}
	}
	c.VerifySignatures = c.VerifySignatures || c.Foreign
	if c.OpenEntries == nil {
		c.OpenEntries = ParseEntries
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("region", c.Region)
	if c.open == nil {
		c.open = func(ctx context.Context, p peer.ID) (Stream, error) {
			// The backoff here is enough; libp2p's own would keep a peer away for minutes after it is back.
			return c.Host.NewStream(network.WithForceDirectDial(ctx, "follow"), p, p2p.ProtocolEntries)
		}
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Region == "" || len(c.Region) > regionBytesMax:
		return fmt.Errorf("follow: Region is %q: it must have 1 to %d bytes", c.Region, regionBytesMax)
	case c.Host == nil || c.Replica == nil || c.Peers == nil:
		return errors.New("follow: Host, Replica and Peers must be set")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"OpenTimeout", c.OpenTimeout}, {"SilenceMax", c.SilenceMax}, {"StaleAfter", c.StaleAfter}, {"RetryMin", c.RetryMin},
		{"RetryMax", c.RetryMax}, {"AsideFor", c.AsideFor}} {
		if d.value < 0 {
			return fmt.Errorf("follow: %s is %v: it must be positive", d.name, d.value)
		}
	}
	if c.RetryMax < c.RetryMin {
		return fmt.Errorf("follow: RetryMax %v is less than RetryMin %v", c.RetryMax, c.RetryMin)
	}
	return nil
}

// Follower keeps a replica up to a region's ledger. The goroutine of Run owns every
// field but those under mu, and lends them to what takes up a frame.
type Follower struct {
	cfg     Config
	metrics *followerMetrics
	book    *book
	at      standing

	document incoming // by the stream followed now

	mu      sync.Mutex // guards what follows
	ran     bool
	status  Status
	tipAt   time.Time     // when the replica last held all that its peer had
	tipAge  time.Duration // how old that peer was then
	everTip bool
}

// standing is where the replica is.
type standing struct {
	size       int64
	seals      int64 // the number of the next
	sealedSize int64 // size of the last seal, 0 before the first
	timeMillis int64 // log time
}

// New makes a follower; Run does the work.
func New(cfg Config) (*Follower, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	f := &Follower{cfg: cfg, book: newBook(cfg.RetryMin, cfg.RetryMax, cfg.AsideFor)}
	f.metrics = newFollowerMetrics(cfg.Region, f.Status)
	if err := f.locate(); err != nil {
		return nil, err
	}
	f.status.Size, f.status.Seals = f.at.size, f.at.seals
	return f, nil
}

// locate reads from the replica where it is.
func (f *Follower) locate() error {
	v, err := f.cfg.Replica.View()
	if err != nil {
		return fmt.Errorf("follow: %w: %w", ErrReplica, err)
	}
	at := standing{size: f.cfg.Replica.Size(), seals: v.Seals(), timeMillis: v.LogTimeMillis()}
	if at.seals > 0 {
		s, sealErr := v.SealAt(at.seals - 1)
		if sealErr == nil {
			at.sealedSize = s.Size
		}
		err = sealErr
	}
	if err := errors.Join(err, v.Close()); err != nil {
		return fmt.Errorf("follow: %w: %w", ErrReplica, err)
	}
	f.at = at
	return nil
}

// Run follows until ctx ends, and then returns its error; or until the replica fails
// ([ErrReplica]) or turns out to be wrong ([ErrDiverged], [ErrForked]). It runs once.
func (f *Follower) Run(ctx context.Context) error {
	f.mu.Lock()
	ran := f.ran
	f.ran = true
	f.mu.Unlock()
	if ran {
		return errNotIdle
	}
	if err := f.metrics.Register(f.cfg.Metrics); err != nil {
		return fmt.Errorf("follow: %w", err)
	}
	defer f.metrics.Unregister(f.cfg.Metrics)
	if f.cfg.once {
		return f.runOnce(ctx)
	}
	for {
		peers := f.peers()
		p, wait := f.book.choose(peers, time.Now())
		if wait > 0 {
			if err := sleep(ctx, wait); err != nil {
				return err
			}
			continue
		}
		err := f.follow(ctx, p)
		f.set(func(s *Status) { s.Peer, s.Following = "", false })
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrReplica):
			f.cfg.Logger.Error("following stopped: the replica failed", "error", err)
			return err
		}
		if err := f.leave(p, err); err != nil {
			return err
		}
	}
}

// peers lists whom to ask, each once and without this node.
func (f *Follower) peers() []peer.ID {
	seen := map[peer.ID]struct{}{f.cfg.Host.ID(): {}}
	var peers []peer.ID
	for _, p := range f.cfg.Peers() {
		if _, twice := seen[p]; !twice && len(peers) < peersMax {
			seen[p] = struct{}{}
			peers = append(peers, p)
		}
	}
	return peers
}

// leave notes why a peer was left, and returns an error if it is this replica that is wrong.
func (f *Follower) leave(p peer.ID, err error) error {
	var why *fault
	if !errors.As(err, &why) {
		why = &fault{reason: leftNetwork, err: err}
	}
	f.metrics.left.With(why.reason).Inc()
	f.set(func(s *Status) {
		s.LastError = fmt.Sprintf("%v: %s", p, cut(why.Error()))
		if why.lie() {
			s.Refused = s.LastError
		}
	})
	repeated := f.book.left(p, why, time.Now())
	switch {
	case why.lie():
		f.cfg.Logger.Warn("peer put aside: it sent what may not be", "peer", p, "reason", why.reason, "error", why.err, "size", f.at.size)
	case repeated:
		f.cfg.Logger.Debug("peer left", "peer", p, "reason", why.reason, "error", why.err)
	default:
		f.cfg.Logger.Info("peer left", "peer", p, "reason", why.reason, "error", why.err, "size", f.at.size)
	}
	if why.claim == nil {
		return nil
	}
	if f.cfg.Foreign {
		return f.foreignClaim(p, why)
	}
	peers := f.peers()
	agree := f.book.claimants(*why.claim, peers)
	if agree < len(peers)/2+1 {
		return nil
	}
	err = fmt.Errorf("%w: %d of %d peers agree on what it refuses at entry %d, seal %d: %w", ErrDiverged, agree, len(peers), f.at.size, f.at.seals, why.err)
	f.set(func(s *Status) { s.Diverged = err.Error() })
	f.cfg.Logger.Error("following stopped: the replica diverged; nothing was removed. Update this program if it is older than its peers', else build the replica anew from an empty home",
		"error", err)
	f.cfg.OnDiverged(err)
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// streamError says what a network's error means here.
func streamError(err error) error {
	var reset *network.StreamError
	if !errors.As(err, &reset) || !reset.Remote {
		return err
	}
	switch reset.ErrorCode {
	case network.StreamGated:
		return fmt.Errorf("%w: %w", p2p.ErrCallRefused, err)
	case network.StreamRateLimited:
		return fmt.Errorf("%w: %w", p2p.ErrBusy, err)
	default:
		return err
	}
}
