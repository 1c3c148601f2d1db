package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/p2p"
)

const (
	// CaughtUpEntries is how far a new voter's state may be behind the leader's, in Raft
	// entries, when it is promoted.
	CaughtUpEntries  = 1000
	transferTriesMax = 3
)

// ErrNotSafe is why a change of the voters waits: after it, Raft could not commit.
var ErrNotSafe = errors.New("too few voters answer: after this change the region could not commit")

// ErrNotCaughtUp is why a new voter is not promoted yet.
var ErrNotCaughtUp = errors.New("the new voter has not caught up yet")

// Membership is what [Voters] needs of this node's region. The changes return when they
// are committed, or with an error, after which they may be or not.
type Membership interface {
	ID() raft.ServerID
	IsLeader() bool
	Configuration() raft.Configuration
	Status() region.Status
	AddNonvoter(ctx context.Context, id raft.ServerID) error
	AddVoter(ctx context.Context, id raft.ServerID) error
	RemoveServer(ctx context.Context, id raft.ServerID) error
	LeadershipTransfer(ctx context.Context, to raft.ServerID) error
}

// VotersConfig configures [Voters]. A zero field takes the default named at it.
type VotersConfig struct {
	Region Membership
	// Read reads the state linearizably, Stale as this node has it.
	Read, Stale Reader
	// Ask asks a node for its status; [Asker.Status] does.
	Ask func(ctx context.Context, p peer.ID, seals ...int64) (*Status, error)
	// HandOver gives a node the region's keys and tells it to start; [KeySender.HandOver] does.
	HandOver func(ctx context.Context, node federation.Key) error
	// Learn is told where a wanted voter is to be found, as the entry that names it says.
	// It is called again and again and must be quick. May be nil.
	Learn func(p peer.ID, addresses []string)

	Every         time.Duration // between looks at what is to be done; 1 s
	ChangeTimeout time.Duration // of one step; 20 s
	AskTimeout    time.Duration // of one question to a voter; 2 s
	RetryBase     time.Duration // until a step that failed is tried again, doubled each time; 1 s
	RetryMax      time.Duration // 30 s
	Logger        *slog.Logger  // default: nowhere
}

func (c VotersConfig) withDefaults() VotersConfig {
	set(&c.Every, time.Second)
	set(&c.ChangeTimeout, 20*time.Second)
	set(&c.AskTimeout, 2*time.Second)
	set(&c.RetryBase, time.Second)
	set(&c.RetryMax, 30*time.Second)
	if c.Learn == nil {
		c.Learn = func(peer.ID, []string) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c VotersConfig) validate() error {
	if c.Region == nil || c.Read == nil || c.Stale == nil || c.Ask == nil || c.HandOver == nil {
		return errors.New("voters: Region, Read, Stale, Ask or HandOver is missing")
	}
	return positive("voters", duration{"Every", c.Every}, duration{"ChangeTimeout", c.ChangeTimeout}, duration{"AskTimeout", c.AskTimeout},
		duration{"RetryBase", c.RetryBase}, duration{"RetryMax", c.RetryMax})
}

// Voters makes Raft's configuration follow the voters that the replicated state wishes.
// It runs on every node and acts on the leader, one step at a time. It remembers
// nothing that matters: what is left to do follows from the wish and the configuration
// alone, so the next leader, or the next start, goes on where this one stopped.
type Voters struct {
	cfg    VotersConfig
	self   raft.ServerID
	wake   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // the loop

	mu       sync.Mutex // guards what follows
	notes    map[raft.ServerID]*note
	handOver *handOver // of leadership, as an operator asked; nil if none is due
	transfer string    // how the last one ended
}

// note is where the work on one node stands.
type note struct {
	op       operation
	failures int
	next     time.Time // not tried again before
	detail   string
	applied  uint64 // Raft index, of a node that catches up
}

type handOver struct {
	to    raft.ServerID
	tries int
	next  time.Time
}

// NewVoters starts the loop. Close ends it.
func NewVoters(cfg VotersConfig) (*Voters, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	v := &Voters{cfg: cfg, self: cfg.Region.ID(), wake: make(chan struct{}, 1), notes: make(map[raft.ServerID]*note)}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	v.wg.Go(v.run)
	return v, nil
}

// Close ends the loop, a step under way included, and waits for it.
func (v *Voters) Close() error {
	v.cancel()
	v.wg.Wait()
	return nil
}

// Changed says that the wish may have changed, or the leader. It does not wait.
func (v *Voters) Changed() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// Transfer notes that an operator wants this node to lead ([fsm.Result.Transfer]). Only
// the leader heeds it, and it gives up after a few tries: the operator sees who leads.
// It does not wait.
func (v *Voters) Transfer(node [32]byte) {
	id, err := p2p.PeerID(node)
	if err != nil || !v.cfg.Region.IsLeader() {
		return
	}
	v.mu.Lock()
	v.handOver = &handOver{to: raft.ServerID(id.String())}
	v.mu.Unlock()
	v.Changed()
}

func (v *Voters) run() {
	tick := time.NewTicker(v.cfg.Every)
	defer tick.Stop()
	for {
		for v.ctx.Err() == nil && v.step() {
			// A step that was taken may make room for the next.
		}
		select {
		case <-v.ctx.Done():
			return
		case <-v.wake:
		case <-tick.C:
		}
	}
}

// step does at most one thing and says whether it moved something.
func (v *Voters) step() bool {
	ws, err := v.read(v.cfg.Stale)
	if err != nil {
		v.cfg.Logger.Debug("the wished voters cannot be read", "error", err)
		return false
	}
	for _, w := range ws {
		if w.id != v.self && len(w.Addresses) > 0 {
			v.cfg.Learn(w.peer, w.Addresses)
		}
	}
	if !v.cfg.Region.IsLeader() {
		v.resign()
		return false
	}
	if v.handOverDue() {
		return false
	}
	changes := plan(ws, v.cfg.Region.Configuration().Servers, v.self)
	v.forgetDone(changes)
	if len(changes) == 0 {
		return false
	}
	// What this node has applied may be older than a configuration that an earlier leader
	// made of a newer wish, and would undo it.
	if ws, err = v.read(v.cfg.Read); err != nil {
		v.cfg.Logger.Debug("the wished voters cannot be read as of now", "error", err)
		return false
	}
	config := v.cfg.Region.Configuration().Servers
	for _, c := range plan(ws, config, v.self) {
		if v.try(c, ws, config) {
			return true
		}
		if v.ctx.Err() != nil {
			return false
		}
	}
	return false
}

func (v *Voters) read(read Reader) (ws []wanted, err error) {
	ctx, cancel := context.WithTimeout(v.ctx, v.cfg.ChangeTimeout)
	defer cancel()
	err = read(ctx, func(s StateView) error {
		voters, err := s.Voters()
		if err != nil {
			return err
		}
		ws, err = wish(voters)
		return err
	})
	return ws, err
}

// try takes one step unless it failed just before, and says whether it was taken.
func (v *Voters) try(c change, ws []wanted, config []raft.Server) bool {
	n := v.noteOf(c)
	v.mu.Lock()
	due := !time.Now().Before(n.next)
	v.mu.Unlock()
	if !due {
		return false
	}
	ctx, cancel := context.WithTimeout(v.ctx, v.cfg.ChangeTimeout)
	defer cancel()
	err := v.do(ctx, c, ws, config, n)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil {
		delete(v.notes, c.id)
		v.cfg.Logger.Info("voters changed", "step", c.op.String(), "node", string(c.id))
		return true
	}
	n.detail = clip(err.Error())
	if errors.Is(err, ErrNotCaughtUp) {
		n.failures = 0
		n.next = time.Now().Add(v.cfg.Every / 2)
		return false
	}
	pause := v.cfg.RetryBase << min(n.failures, 16)
	n.failures++
	n.next = time.Now().Add(min(pause, v.cfg.RetryMax))
	v.cfg.Logger.Warn("voters not changed yet", "step", c.op.String(), "node", string(c.id), "failures", n.failures, "error", err)
	return false
}

func (v *Voters) do(ctx context.Context, c change, ws []wanted, config []raft.Server, n *note) error {
	switch c.op {
	case opRemove:
		if err := v.safe(ctx, votersAfter(config, c.id, "")); err != nil {
			return err
		}
		return v.cfg.Region.RemoveServer(ctx, c.id)
	case opHandOver:
		return v.stepDown(ctx, successors(ws, config, v.self))
	case opPromote:
		if err := v.caughtUp(ctx, c.wanted, n); err != nil {
			return err
		}
		if err := v.safe(ctx, votersAfter(config, "", c.id)); err != nil {
			return err
		}
		return v.cfg.Region.AddVoter(ctx, c.id)
	case opAdd:
		if err := v.cfg.HandOver(ctx, c.wanted.NodeKey); err != nil {
			return err
		}
		return v.cfg.Region.AddNonvoter(ctx, c.id)
	default:
		return fmt.Errorf("%v is not known", c.op)
	}
}

// stepDown hands leadership to one of those who stay; that one then removes this node.
func (v *Voters) stepDown(ctx context.Context, to []raft.ServerID) error {
	errs := []error{errors.New("nobody who stays can lead yet")}
	for _, id := range to {
		if len(errs) == 1 {
			errs = nil
		}
		err := v.cfg.Region.LeadershipTransfer(ctx, id)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// caughtUp asks a new voter how far it is. One whose Raft does not run, having lost
// what it was told or failed to start, is told again.
func (v *Voters) caughtUp(ctx context.Context, w wanted, n *note) error {
	s, err := v.ask(ctx, w.peer)
	if err != nil {
		return err
	}
	if s.Role == "" {
		if err := v.cfg.HandOver(ctx, w.NodeKey); err != nil {
			return err
		}
		return fmt.Errorf("%w: its Raft starts", ErrNotCaughtUp)
	}
	own := v.cfg.Region.Status().AppliedIndex
	v.mu.Lock()
	n.applied = s.AppliedIndex
	v.mu.Unlock()
	if s.AppliedIndex+CaughtUpEntries < own || s.AppliedIndex == 0 {
		return fmt.Errorf("%w: it is at Raft index %d of %d", ErrNotCaughtUp, s.AppliedIndex, own)
	}
	return nil
}

func (v *Voters) ask(ctx context.Context, p peer.ID) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.AskTimeout)
	defer cancel()
	return v.cfg.Ask(ctx, p)
}

// safe says whether a majority of those who would vote answer now. Raft itself would
// take a change that it then cannot commit, and would take nothing more.
func (v *Voters) safe(ctx context.Context, ids []raft.ServerID) error {
	answers := make(chan bool, len(ids))
	for _, id := range ids {
		go func() { answers <- v.alive(ctx, id) }()
	}
	alive := 0
	for range ids {
		if <-answers {
			alive++
		}
	}
	if alive <= len(ids)/2 {
		return fmt.Errorf("%w: %d of %d", ErrNotSafe, alive, len(ids))
	}
	return nil
}

// alive says whether a voter's Raft runs; the answer comes within AskTimeout.
func (v *Voters) alive(ctx context.Context, id raft.ServerID) bool {
	if id == v.self {
		return true
	}
	p, err := peer.Decode(string(id))
	if err != nil {
		return false
	}
	s, err := v.ask(ctx, p)
	return err == nil && s.Role != "" && s.Role != raft.Shutdown.String()
}

func (v *Voters) noteOf(c change) *note {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.notes[c.id]
	if n == nil || n.op != c.op {
		n = &note{op: c.op}
		v.notes[c.id] = n
	}
	return n
}

// forgetDone drops the notes of nodes that nothing is to be done with any more.
func (v *Voters) forgetDone(changes []change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id := range v.notes {
		due := false
		for _, c := range changes {
			due = due || c.id == id
		}
		if !due {
			delete(v.notes, id)
		}
	}
}

// resign forgets what only a leader keeps.
func (v *Voters) resign() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.notes)
	v.handOver = nil
}

// handOverDue tries to hand leadership to the node that an operator named, and says
// whether that is still to be done.
func (v *Voters) handOverDue() bool {
	v.mu.Lock()
	h := v.handOver
	v.mu.Unlock()
	switch {
	case h == nil:
		return false
	case h.to == v.self:
		v.endHandOver(h, "this node leads already")
		return false
	case time.Now().Before(h.next):
		return true
	}
	ctx, cancel := context.WithTimeout(v.ctx, v.cfg.ChangeTimeout)
	defer cancel()
	err := v.cfg.Region.LeadershipTransfer(ctx, h.to)
	if err == nil {
		v.endHandOver(h, "leadership was handed to "+string(h.to))
		return false
	}
	if h.tries++; h.tries >= transferTriesMax {
		v.endHandOver(h, clip(err.Error()))
		v.cfg.Logger.Warn("leadership was not handed over as the operator asked", "to", string(h.to), "error", err)
		return false
	}
	h.next = time.Now().Add(v.cfg.RetryBase)
	return true
}

func (v *Voters) endHandOver(h *handOver, how string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.transfer = how
	if v.handOver == h {
		v.handOver = nil
	}
}
