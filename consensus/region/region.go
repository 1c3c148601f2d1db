package region

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/fsm"
)

// Region is this node's part in its region's Raft: a voter, or a non-voter on its way to become one.
type Region struct {
	cfg       Config
	id        raft.ServerID
	disk      *disk
	snapshots *snapshots
	logs      *logStore
	replica   *replica
	intake    *intake
	room      *room
	reads     reads
	raft      atomic.Pointer[raft.Raft] // nil before Raft runs

	ctx      context.Context // of everything that Close or a failure ends
	cancel   context.CancelFunc
	closing  <-chan struct{} // ctx's
	workers  sync.WaitGroup
	flights  sync.WaitGroup // what Raft has been asked and has not answered; see begin
	tendCh   chan struct{}  // something for tend to do
	running  chan struct{}  // closed when Raft runs
	heldOnce sync.Once

	sealed     atomic.Int64  // size of the ledger at the last seal, -1 before one is seen
	withheld   atomic.Bool   // no seal is made until a certificate comes
	snapshot   atomic.Bool   // a snapshot is due
	snapshotAt atomic.Uint64 // bytes stored in the log when the last one was taken
	transfer   sync.Mutex    // held by the one leadership transfer at a time
	blockedAt  atomic.Int64  // since when Raft refuses writes for a transfer, Unix nanoseconds; 0 if it does not
	starting   atomic.Bool   // Start was called
	clockBase  atomic.Value  // time.Time: when the clock was last found right

	mu        sync.Mutex // guards what follows
	transport raft.Transport
	phase     Phase
	senders   []raft.ServerID    // of a node that was added, before it knows a configuration
	committed raft.Configuration // last one applied
	failure   error
	closed    bool
}

// New prepares a Region without touching the disk or the network.
func New(cfg Config) (*Region, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	r := &Region{cfg: cfg, disk: &disk{}, tendCh: make(chan struct{}, 1), running: make(chan struct{})}
	if cfg.Transport != nil {
		r.id = raft.ServerID(cfg.Transport.LocalAddr())
	} else {
		r.id = cfg.Network.Local()
	}
	if err := raft.ValidateConfig(cfg.raft(r.id)); err != nil {
		return nil, fmt.Errorf("region: %w", err)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.closing = r.ctx.Done()
	r.sealed.Store(-1)
	r.room = newRoom(cfg)
	r.intake = newIntake(cfg, r.submit)
	r.intake.refusal = r.room.refusal
	r.reads.barrier = r.barrier
	r.snapshots = &snapshots{dir: r.path(snapshotsName), stateDir: r.path(stateName), disk: r.disk, logger: cfg.Logger,
		verify: cfg.VerifyState, freeBytes: cfg.FreeBytes}
	r.replica = &replica{open: func() (StateMachine, error) { return cfg.OpenState(r.path(stateName)) }, snapshots: r.snapshots,
		align: r.aligned, limit: cfg.ApplyLimit, fail: r.fail, failed: r.Failed, configured: r.configured, applied: r.applied}
	r.snapshots.checkpoint = r.replica.checkpoint
	return r, nil
}

// Start opens what the home holds and starts Raft. In a founding home it waits for the other founding voters, until ctx ends;
// [Region.Phase] is answered meanwhile. When it fails, nothing runs, and the Region is of no further use.
func (r *Region) Start(ctx context.Context) (err error) {
	if r.starting.Swap(true) {
		return errors.New("start the region: it was started before")
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start the region: %w", err)
			r.abandon()
		}
	}()
	if err := r.openHome(); err != nil {
		return err
	}
	if err := r.decide(ctx); err != nil {
		return err
	}
	if p := r.snapshots.newest(); p != nil {
		if index := r.replica.index.Load(); index < p.Applied {
			return fmt.Errorf("%w: state at index %d, snapshot at %d. Restore the whole home, or replace this voter with `bizra voter replace`",
				ErrBehindSnapshot, index, p.Applied)
		}
		r.configured(p.Configuration, p.ConfigurationIndex)
		if err := r.logs.align(p); err != nil {
			return err
		}
	}
	if r.Phase() == PhaseUnknown {
		r.setPhase(PhaseStarted)
	}
	return r.startRaft()
}

func (r *Region) openHome() error {
	if err := os.MkdirAll(r.cfg.Home, dirMode); err != nil {
		return fmt.Errorf("make the home: %w", err)
	}
	if err := openSnapshots(r.snapshots); err != nil {
		return err
	}
	backing, err := r.cfg.OpenLog(r.path(raftName))
	if err != nil {
		return err
	}
	r.logs = newLogStore(&watched{backing: backing, limit: r.cfg.StoreLimit, report: r.fail}, r.IsLeader, r.held)
	r.logs.needed, r.logs.neededMax = r.snapshots.needed, neededFactor*r.cfg.TrailingEntries
	r.logs.may = r.mayOverlap
	r.logs.trailing, r.logs.trailingBytes = r.cfg.TrailingEntries, r.cfg.TrailingBytes
	r.replica.mu.Lock() // who reads stale may ask already
	defer r.replica.mu.Unlock()
	return r.replica.start()
}

// At most this many times TrailingEntries and TrailingBytes are kept in the log for voters that are being sent a snapshot.
const neededFactor = 8

// startRaft runs NewRaft on a goroutine of its own, since a log that cannot be read ends the goroutine that reads it.
func (r *Region) startRaft() error {
	transport := r.cfg.Transport
	if transport == nil {
		t, err := NewTransport(TransportConfig{Network: r.cfg.Network, Admit: r.admit, RPCTimeout: r.cfg.RPCTimeout,
			TransferTimeout: r.cfg.ElectionTimeout, Stored: r.logs.await, Logger: r.cfg.Logger, OnRefused: r.cfg.Hooks.RPCRefused})
		if err != nil {
			return err
		}
		transport = t
	}
	r.mu.Lock()
	r.transport = transport
	r.mu.Unlock()
	result := make(chan error, 1)
	go func() {
		err := errors.New("start Raft: its log cannot be read")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("start Raft: %v", p)
			}
			result <- err
		}()
		var rf *raft.Raft
		rf, err = raft.NewRaft(r.cfg.raft(r.id), r.replica, r.logs, r.logs, r.snapshots, transport)
		if err == nil {
			r.raft.Store(rf)
			close(r.running)
		}
	}()
	if err := <-result; err != nil {
		return errors.Join(err, r.Failed())
	}
	r.room.look()
	r.workers.Go(r.watchRoom)
	r.workers.Add(2)
	go func() {
		defer r.workers.Done()
		r.followLeadership()
	}()
	go func() {
		defer r.workers.Done()
		r.tend()
	}()
	return nil
}

// mayOverlap says whether this node may send entries before it has written them; see [overlap].
func (r *Region) mayOverlap() bool {
	if r.cfg.Transport != nil || !r.IsLeader() { // only our own transport holds answers back
		return false
	}
	if s, ok := r.logs.watched.backing.(WritesFirst); ok && s.WritesFirst() {
		return false
	}
	voters := 0
	for _, s := range r.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	return voters > 1
}

// aligned makes the log fit a received snapshot, and counts as holding something.
func (r *Region) aligned(p *pointer) error {
	if err := r.logs.installed(p); err != nil {
		return err
	}
	r.held(true)
	return nil
}

// admit says whether a peer may send this Raft RPC: voters of the configuration in force, or of the one before while the change
// is being committed.
func (r *Region) admit(from raft.ServerID, command any) error {
	// Between the transport's first stream and NewRaft's return.
	select {
	case <-r.running:
	case <-r.closing:
		return ErrClosed
	}
	latest := r.raft.Load().GetConfiguration().Configuration()
	r.mu.Lock()
	committed, senders := r.committed, r.senders
	r.mu.Unlock()
	if isVoter(latest, from) || isVoter(committed, from) {
		return nil
	}
	unknown := len(latest.Servers) == 0
	// Raft grants votes to anybody while it knows no configuration, so what follows may send no requests for votes.
	switch command.(type) {
	case nil, *raft.AppendEntriesRequest, *raft.InstallSnapshotRequest:
		if unknown && slices.Contains(senders, from) || r.cfg.Vouched(from) {
			return nil
		}
	}
	if unknown {
		return errors.New("this node does not know the region's voters yet")
	}
	return errors.New("not one of the region's voters")
}

func isVoter(c raft.Configuration, id raft.ServerID) bool {
	return slices.ContainsFunc(c.Servers, func(s raft.Server) bool { return s.ID == id && s.Suffrage == raft.Voter })
}

// configured is told each committed configuration.
func (r *Region) configured(c raft.Configuration, _ uint64) {
	r.mu.Lock()
	r.committed = c.Clone()
	r.mu.Unlock()
	r.wakeTend()
}

// applied is told each result, on the goroutine that applies.
func (r *Region) applied(index uint64, result *fsm.Result) {
	if result.Seal != nil {
		r.sealed.Store(result.Seal.Size)
	}
	if a := result.Attested; a != nil && a.Statement == fsm.StatedCertificate && a.Accepted() {
		r.withheld.Store(false)
	}
	// A region that nobody attests makes no seals, and its log must not grow for that.
	var last uint64 // that a snapshot covers
	if p := r.snapshots.newest(); p != nil {
		last = p.Index
	}
	if index >= last+r.cfg.SnapshotEntries || r.logs.weight.stored() >= r.snapshotAt.Load()+r.cfg.SnapshotBytes {
		r.snapshot.Store(true)
		r.wakeTend()
	}
	r.cfg.OnApplied(index, result)
}

// submit puts a command into Raft's hands; what it returns waits for the result. After ErrNotCommitted it is certain that the
// command is not in the log; after ErrUnknownOutcome it is not.
func (r *Region) submit(data []byte) (await func() (*fsm.Result, error)) {
	if err := r.begin(); err != nil {
		return func() (*fsm.Result, error) { return nil, notCommitted(err) }
	}
	future := r.raft.Load().Apply(data, r.cfg.RPCTimeout)
	return func() (*fsm.Result, error) {
		defer r.flights.Done()
		return r.outcome(future)
	}
}

// begin is called before Raft is asked something; unless it fails, flights.Done is called after the answer. Raft leaves what it
// has not answered unanswered when it is shut down, so a shutdown waits for it first.
func (r *Region) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.failure != nil:
		return r.failure
	case r.closed:
		return ErrClosed
	case r.raft.Load() == nil:
		return ErrNotLeader
	}
	r.flights.Add(1)
	return nil
}

// Attest commits a command of attestation (fsm.EncodeVote, fsm.EncodeCertify, fsm.EncodeEvidence) and returns what became of it
// once it is applied here. Errors are those of Propose; a context that ends leaves the outcome unknown.
func (r *Region) Attest(ctx context.Context, command []byte) (*fsm.Attested, error) {
	type outcome struct {
		res *fsm.Result
		err error
	}
	await, got := r.submit(command), make(chan outcome, 1)
	go func() { // one of the flights that a shutdown waits for
		res, err := await()
		got <- outcome{res, err}
	}()
	select {
	case o := <-got:
		if o.err != nil {
			return nil, o.err
		}
		if o.res.Attested == nil {
			return nil, fmt.Errorf("attest: a command of %d bytes is none of attestation", len(command))
		}
		return o.res.Attested, nil
	case <-ctx.Done():
		return nil, unknownOutcome(context.Cause(ctx))
	}
}

func (r *Region) commit(data []byte) (*fsm.Result, error) { return r.submit(data)() }

func (r *Region) outcome(future raft.ApplyFuture) (*fsm.Result, error) {
	switch err := future.Error(); {
	case err == nil:
		r.blockedAt.Store(0)
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		r.noteBlocked()
		return nil, notCommitted(fmt.Errorf("%w: it is handing over", ErrNotLeader))
	case errors.Is(err, raft.ErrNotLeader):
		return nil, notCommitted(ErrNotLeader)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return nil, notCommitted(&OverloadedError{RetryAfter: time.Second})
	default:
		return nil, unknownOutcome(err)
	}
	switch response := future.Response().(type) {
	case *fsm.Result:
		if response.Skipped {
			return nil, unknownOutcome(errors.New("the state already held that index"))
		}
		return response, nil
	case error:
		return nil, unknownOutcome(response)
	default:
		return nil, unknownOutcome(fmt.Errorf("unexpected response %T", response))
	}
}

// noteBlocked stops a replica whose leadership transfer never ends: Raft would refuse all writes for ever (hashicorp/raft #696).
func (r *Region) noteBlocked() {
	now := time.Now().UnixNano()
	if r.blockedAt.CompareAndSwap(0, now) {
		return
	}
	if since := time.Duration(now - r.blockedAt.Load()); since > transferStuckFactor*r.cfg.TransferTimeout {
		r.fail(fmt.Errorf("a leadership transfer has blocked all writes for %v: restart this node", since))
	}
}

// A transfer that blocks writes for this many times TransferTimeout is stuck.
const transferStuckFactor = 4

// tend does what is not the leader's alone: snapshots, and forgetting peers that left.
func (r *Region) tend() {
	for {
		select {
		case <-r.tendCh:
		case <-r.closing:
			return
		}
		r.keepPeers()
		if r.snapshot.Swap(false) {
			start, stored := time.Now(), r.logs.weight.stored()
			err := r.raft.Load().Snapshot().Error()
			r.cfg.Hooks.Snapshot(time.Since(start), err)
			if err == nil {
				r.snapshotAt.Store(stored)
			}
			if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
				r.cfg.Logger.Warn("no snapshot was taken; the next entry tries again", "error", err)
			}
		}
	}
}

func (r *Region) wakeTend() {
	select {
	case r.tendCh <- struct{}{}:
	default:
	}
}

func (r *Region) keepPeers() {
	rf := r.raft.Load()
	r.mu.Lock()
	t, _ := r.transport.(*Transport)
	servers := slices.Clone(r.committed.Servers)
	senders := r.senders
	r.mu.Unlock()
	if t == nil || rf == nil {
		return
	}
	servers = append(servers, rf.GetConfiguration().Configuration().Servers...)
	ids := slices.Clone(senders)
	for _, s := range servers {
		ids = append(ids, s.ID)
	}
	t.Keep(ids)
}

// Phase is how far this node's founding is, for its peers.
func (r *Region) Phase() Phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.phase
}

func (r *Region) setPhase(p Phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = max(r.phase, p)
}

// ID is this node's ID.
func (r *Region) ID() raft.ServerID { return r.id }

// LeaderID is who leads as far as this node knows, "" if nobody.
func (r *Region) LeaderID() raft.ServerID {
	rf := r.raft.Load()
	if rf == nil {
		return ""
	}
	_, id := rf.LeaderWithID()
	return id
}

// IsLeader says whether this node believes that it leads. It may be wrong: see [Region.Read].
func (r *Region) IsLeader() bool {
	rf := r.raft.Load()
	return rf != nil && rf.State() == raft.Leader
}

// Configuration is Raft's latest configuration, empty before it is known.
func (r *Region) Configuration() raft.Configuration {
	rf := r.raft.Load()
	if rf == nil {
		return raft.Configuration{}
	}
	return rf.GetConfiguration().Configuration()
}

// Status is what an operator asks first.
type Status struct {
	ID            raft.ServerID
	Leader        raft.ServerID // "" if unknown
	Role          string        // Follower, Candidate, Leader, Shutdown; "" before Raft runs
	Phase         Phase
	Term          uint64
	LastIndex     uint64 // of the log
	CommitIndex   uint64
	AppliedIndex  uint64 // of the state machine: below CommitIndex by what it never sees
	SnapshotIndex uint64
	Entries       int64 // of the ledger
	FreeBytes     int64 // on the home's disk at the last look, -1 before the first
	DiskFreeMin   int64 // below which it takes no proofs when it leads; negative: never
	DiskLow       bool  // it takes none now
	Servers       []raft.Server
	LastContact   time.Time // with the leader, zero for the leader itself
	Failure       error
}

// Status reports the present state.
func (r *Region) Status() Status {
	s := Status{ID: r.id, Phase: r.Phase(), AppliedIndex: r.replica.index.Load(), Entries: r.replica.size.Load(), Failure: r.Failed(),
		FreeBytes: r.room.free.Load(), DiskFreeMin: r.room.min, DiskLow: r.room.short.Load()}
	if p := r.snapshots.newest(); p != nil {
		s.SnapshotIndex = p.Index
	}
	rf := r.raft.Load()
	if rf == nil {
		return s
	}
	s.Leader, s.Role, s.Term = r.LeaderID(), rf.State().String(), rf.CurrentTerm()
	s.LastIndex, s.CommitIndex = rf.LastIndex(), rf.CommitIndex()
	s.Servers = rf.GetConfiguration().Configuration().Servers
	if rf.State() != raft.Leader {
		s.LastContact = rf.LastContact()
	}
	return s
}
