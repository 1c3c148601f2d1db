package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// Limits of one submission.
const (
	SubmitProofsMax = 512
	SubmitBytesMax  = 8 << 20 // of all its proofs, as they came
)

// Outcome is what became of one proof: a refusal before it reached the state machine
// (SCHEMA, SIGNATURE), which leaves no trace in the ledger, or else a receipt.
type Outcome struct {
	Receipt fsm.Receipt // if Reject is nil
	Reject  *pci.Reject
}

// Proposer is what an [Intake] needs of this node's region. [region.Region] is one.
type Proposer interface {
	Propose(ctx context.Context, envelopes []*pci.Envelope) ([]fsm.Receipt, error)
	Adopt(ctx context.Context, envelope *pci.Envelope, document []byte) (fsm.Receipt, error)
	IsLeader() bool
	LeaderID() raft.ServerID
	Configuration() raft.Configuration
}

// IntakeConfig configures an [Intake]. A zero field takes the default named at it.
type IntakeConfig struct {
	Host   host.Host
	Access *p2p.Access
	// Region is this node's Raft; nil on a node that is not in Raft's configuration.
	Region Proposer
	// Voters gives the region's voters, as far as known. A node whose Raft cannot know the
	// leader asks them. Default: none.
	Voters func() []peer.ID

	Patience       time.Duration // until nothing is tried again; 5 s
	AttemptTimeout time.Duration // of one try, forwarded or not; 10 s
	RetryBase      time.Duration // the pause after the first try, doubled each time; 25 ms
	RetryMax       time.Duration // 250 ms
	Workers        int           // proofs are verified on at most so many cores; GOMAXPROCS
	ForwardsMax    int           // calls to the leader at once, which carry what waits together; 8
	Logger         *slog.Logger  // default: nowhere
}

func (c IntakeConfig) withDefaults() IntakeConfig {
	set(&c.Patience, 5*time.Second)
	set(&c.AttemptTimeout, 10*time.Second)
	set(&c.RetryBase, 25*time.Millisecond)
	set(&c.RetryMax, 250*time.Millisecond)
	set(&c.Workers, runtime.GOMAXPROCS(0))
	set(&c.ForwardsMax, 8)
	if c.Voters == nil {
		c.Voters = func() []peer.ID { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c IntakeConfig) validate() error {
	if c.Host == nil || c.Access == nil {
		return errors.New("intake: Host or Access is missing")
	}
	if err := positive("intake", duration{"Patience", c.Patience}, duration{"AttemptTimeout", c.AttemptTimeout},
		duration{"RetryBase", c.RetryBase}, duration{"RetryMax", c.RetryMax}); err != nil {
		return err
	}
	if c.Workers < 1 || c.ForwardsMax < 1 {
		return fmt.Errorf("intake: Workers is %d and ForwardsMax %d: both must be at least 1", c.Workers, c.ForwardsMax)
	}
	return nil
}

// Intake takes proofs in. Safe for concurrent use.
type Intake struct {
	cfg      IntakeConfig
	self     peer.ID
	verifier *verifier
	courier  *courier
	leads    atomic.Pointer[peer.ID] // who led, as far as others told; nil if nobody did
	asked    atomic.Uint64           // counts who of the voters is asked next
	server   *p2p.Server
	stats    intakeCounters
	ctx      context.Context // ends with Close, and with it every submission's
	cancel   context.CancelFunc
}

type intakeCounters struct {
	forwarded, retried, unknown atomic.Uint64
}

// IntakeStats counts since the start.
type IntakeStats struct {
	Verified      uint64 // proofs decoded and, where that went well, verified here
	Batches       uint64 // in which they were
	BadSignatures uint64 // found here
	Waiting       int    // proofs to be verified, now
	InFlight      int    // proofs on their way through this node, now
	TurnedAway    uint64 // submissions, for overload or too many bad signatures
	Forwarded     uint64 // calls to a leader
	Retried       uint64 // tries after the first
	Unknown       uint64 // submissions that ended in ErrUnknownOutcome
	Served        p2p.Stats
}

// NewIntake starts an Intake, which also serves [p2p.ProtocolSubmit] until Close.
func NewIntake(cfg IntakeConfig) (*Intake, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	in := &Intake{cfg: cfg, self: cfg.Host.ID(), verifier: newVerifier(cfg.Workers)}
	in.courier = newCourier(cfg.ForwardsMax, in.call)
	in.ctx, in.cancel = context.WithCancel(context.Background())
	if err := in.serve(); err != nil {
		in.cancel()
		return nil, err
	}
	return in, nil
}

// Close takes nothing more in, ends what is on its way and waits for it.
func (in *Intake) Close() error {
	in.cancel()
	err := in.server.Close()
	in.verifier.close()
	in.courier.close()
	return err
}

// Stats reports what was done so far.
func (in *Intake) Stats() IntakeStats {
	v := in.verifier
	v.mu.Lock()
	defer v.mu.Unlock()
	return IntakeStats{Verified: v.verified, Batches: v.batches, BadSignatures: v.bad, Waiting: v.waiting, InFlight: v.proofs,
		TurnedAway: v.turnedAway, Forwarded: in.stats.forwarded.Load(), Retried: in.stats.retried.Load(),
		Unknown: in.stats.unknown.Load(), Served: in.server.Stats()}
}

// Submit puts envelopes, as they came, through the gates, and returns an outcome for
// each in order. It looks for the leader and tries again, with the same bytes, until
// it has one answer for all, the context ends, or nothing can be hoped for within
// Patience. An error stands for all of them: [ErrUnknownOutcome], [ErrUnavailable],
// [ErrOverloaded] (an [*OverloadedError]) or [ErrTooLarge]; where the context ended
// its cause is in the chain too.
func (in *Intake) Submit(ctx context.Context, raw [][]byte) ([]Outcome, error) {
	return in.submit(ctx, sourceOf(ctx), raw, nil)
}

// Adopt is [Intake.Submit] for the one proof by which an operator of the region adopts a
// federation document, which travels with it, in canonical form. Of whoever is no operator
// the proof alone is committed, and refused.
func (in *Intake) Adopt(ctx context.Context, raw, document []byte) (Outcome, error) {
	outcomes, err := in.submit(ctx, sourceOf(ctx), [][]byte{raw}, document)
	if err != nil {
		return Outcome{}, err
	}
	return outcomes[0], nil
}

// submission is what one call of Submit has found out so far.
type submission struct {
	raw      [][]byte
	document []byte // that the one proof of it adopts
	source   *source
	verdicts []verdict // nil until verified here
	hint     peer.ID   // whom the last node asked named as the leader
	doubt    bool      // an earlier try may have committed something
}

func (in *Intake) submit(ctx context.Context, name sourceName, raw [][]byte, document []byte) ([]Outcome, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if err := fits(raw, document); err != nil {
		return nil, err
	}
	source, release, err := in.verifier.admit(name, weighed(raw, document))
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := in.untilClosed(ctx)
	defer cancel()
	return in.persist(ctx, &submission{raw: raw, document: document, source: source})
}

// weighed is what counts against the limits of what is on its way.
func weighed(raw [][]byte, document []byte) [][]byte {
	if document == nil {
		return raw
	}
	return append(slices.Clip(raw), document)
}

// fits refuses more than one submission may hold.
func fits(raw [][]byte, document []byte) error {
	switch n := sizeOf(raw); {
	case len(raw) > SubmitProofsMax || n > SubmitBytesMax:
		return fmt.Errorf("%w: %d proofs of %d bytes, at most %d and %d", ErrTooLarge, len(raw), n, SubmitProofsMax, SubmitBytesMax)
	case len(document) > federation.DocumentBytesMax:
		return fmt.Errorf("%w: a federation document of %d bytes, at most %d", ErrTooLarge, len(document), federation.DocumentBytesMax)
	case document != nil && len(raw) != 1:
		return fmt.Errorf("%w: %d proofs with a federation document: one adopts it", ErrTooLarge, len(raw))
	}
	return nil
}

// untilClosed ends a caller's context with the intake.
func (in *Intake) untilClosed(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(in.ctx, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}

// persist tries until one try decides.
func (in *Intake) persist(ctx context.Context, s *submission) ([]Outcome, error) {
	until := time.Now().Add(in.cfg.Patience)
	pause := in.cfg.RetryBase
	for {
		outcomes, err := in.attempt(ctx, s)
		if err == nil {
			return outcomes, nil
		}
		s.doubt = s.doubt || errors.Is(err, ErrUnknownOutcome)
		last := errors.Is(err, ErrOverloaded) || errors.Is(err, ErrTooLarge)
		if last || time.Now().Add(pause).After(until) || !sleep(ctx, pause) {
			return nil, in.giveUp(ctx, s, err)
		}
		in.stats.retried.Add(1)
		pause = min(2*pause, in.cfg.RetryMax)
	}
}

// giveUp says of the whole submission what its last try and the earlier ones leave.
func (in *Intake) giveUp(ctx context.Context, s *submission, err error) error {
	switch {
	case s.doubt:
		in.stats.unknown.Add(1)
		// The last try may certainly have failed, and the first one not.
		err = fmt.Errorf("%w (at last: %v)", ErrUnknownOutcome, err) //nolint:errorlint // not to be taken for ErrUnavailable
	case errors.Is(err, ErrOverloaded), errors.Is(err, ErrTooLarge), errors.Is(err, ErrUnavailable):
	default:
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// attempt tries once: here if this node leads, else at whoever does.
func (in *Intake) attempt(ctx context.Context, s *submission) ([]Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, in.cfg.AttemptTimeout)
	defer cancel()
	if in.leading() {
		return in.lead(ctx, s)
	}
	to := in.target(s)
	if to == "" {
		return nil, fmt.Errorf("%w: no leader is known", ErrUnavailable)
	}
	outcomes, err := in.forward(ctx, to, s)
	if err != nil {
		in.leads.Store(nil)
		return nil, err
	}
	in.leads.Store(&to)
	return outcomes, nil
}

func (in *Intake) leading() bool { return in.cfg.Region != nil && in.cfg.Region.IsLeader() }

// target says who is to be asked: whom a node just named, whom our Raft names, or, if
// it cannot know, who led before or any voter, each in turn.
func (in *Intake) target(s *submission) peer.ID {
	if hint := s.hint; hint != "" {
		s.hint = ""
		return hint
	}
	if in.cfg.Region != nil {
		if id := in.raftLeader(); id != "" && id != in.self {
			return id
		}
		if in.configured() {
			return "" // our Raft will know
		}
	}
	if p := in.leads.Load(); p != nil {
		return *p
	}
	voters := in.cfg.Voters()
	for range voters {
		if p := voters[in.asked.Add(1)%uint64(len(voters))]; p != in.self {
			return p
		}
	}
	return ""
}

// raftLeader is the leader as this node's Raft knows it, "" if it does not.
func (in *Intake) raftLeader() peer.ID {
	if in.cfg.Region == nil {
		return ""
	}
	id, err := peer.Decode(string(in.cfg.Region.LeaderID()))
	if err != nil {
		return "" // not known
	}
	return id
}

func (in *Intake) configured() bool {
	for _, s := range in.cfg.Region.Configuration().Servers {
		if string(s.ID) == in.self.String() {
			return true
		}
	}
	return false
}

// lead decodes, verifies and proposes.
func (in *Intake) lead(ctx context.Context, s *submission) ([]Outcome, error) {
	if s.verdicts == nil {
		verdicts, err := in.verifier.verify(ctx, s.source, s.raw)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		s.verdicts = verdicts
	}
	outcomes := make([]Outcome, len(s.raw))
	sound := make([]*pci.Envelope, 0, len(s.raw))
	places := make([]int, 0, len(s.raw))
	for i, v := range s.verdicts {
		if outcomes[i].Reject = v.reject; v.reject == nil {
			sound, places = append(sound, v.envelope), append(places, i)
		}
	}
	if len(sound) == 0 {
		return outcomes, nil
	}
	receipts, err := in.propose(ctx, sound, s.document)
	if err == nil && len(receipts) != len(sound) {
		err = fmt.Errorf("%w: %d receipts for %d proofs", region.ErrUnknownOutcome, len(receipts), len(sound))
	}
	if err != nil {
		return nil, in.proposed(err)
	}
	for k, i := range places {
		outcomes[i].Receipt = receipts[k]
	}
	return outcomes, nil
}

// propose commits envelopes. A document goes into the log only for who may adopt one.
func (in *Intake) propose(ctx context.Context, sound []*pci.Envelope, document []byte) ([]fsm.Receipt, error) {
	if document == nil || !in.isOperator(sound[0].Sender.PublicKey) {
		return in.cfg.Region.Propose(ctx, sound)
	}
	receipt, err := in.cfg.Region.Adopt(ctx, sound[0], document)
	return []fsm.Receipt{receipt}, err
}

func (in *Intake) isOperator(key federation.Key) bool {
	doc := in.cfg.Access.Document()
	if doc == nil {
		return false
	}
	r, ok := doc.Region(in.cfg.Access.Region())
	return ok && r.IsOperator(key)
}

// proposed says in this package's errors what a failed proposal leaves.
func (in *Intake) proposed(err error) error {
	var overloaded *region.OverloadedError
	switch {
	case errors.As(err, &overloaded):
		return &OverloadedError{Reason: overloaded.Reason(), RetryAfter: overloaded.RetryAfter, NoRoom: errors.Is(err, region.ErrDiskLow)}
	case errors.Is(err, region.ErrNotCommitted) && errors.Is(err, region.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, region.ErrNotCommitted) && errors.Is(err, region.ErrNotLeader):
		return &notLeaderError{hint: in.hint()}
	case errors.Is(err, region.ErrNotCommitted):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}
