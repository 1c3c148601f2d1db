package follow

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
)

// FutureMax is how far an entry's log time may be ahead of this node's clock before a copy
// of another region's ledger takes it up: docs/protocol.md has what a copy checks.
const FutureMax = 10 * time.Second

const (
	// earlyHereMax is how long an early entry is waited for with the stream open: less than a
	// server waits for a frame to be taken.
	earlyHereMax = 4 * time.Second
	// earlyMax is after how long an early entry is looked at again, since the peer may have
	// another by then, and this node's clock may have been set.
	earlyMax = 30 * time.Second
)

// Codes of [Refused].
const (
	RefusedSignature = "signature" // of an envelope does not hold
	RefusedTime      = "time"      // log time goes back
	RefusedOutcome   = "outcome"   // the entry is not what re-execution gives
	RefusedGenesis   = "genesis"   // founded on another document, or by rules that this program does not know
	RefusedForm      = "form"      // no entry that this program can read
	RefusedSeal      = "seal"      // the ledger or the state sealed is not what re-execution gives
	RefusedRewritten = "rewritten" // the region goes by another ledger than it did, of which this copy has what was voted for
)

// Refused is what a copy of another region's ledger does not take from that region.
type Refused struct {
	Origin string // the region
	Index  int64  // of the entry; for a seal, the entries that it covers
	Code   string // a constant Refused…
	Detail string // at most 512 bytes
	Err    error
	Peer   peer.ID // that sent it
	// Of so many peers of the origin so many have sent the same since the copy last moved. What
	// one sent may be that one's lie or its damaged disk; what most send, the origin says.
	Agreeing, Peers int
}

// Most reports whether most of the origin's peers agree.
func (r *Refused) Most() bool { return r.Agreeing > r.Peers/2 }

// ErrForked is returned by [Follower.Run] for a ledger of another region where most of its
// known peers have another ledger than this copy: their entries lead on from a past that
// the copy does not have. It must be built anew to follow them.
var ErrForked = errors.New("this copy holds a ledger that its region does not go by")

// forked is an [ErrForked] with who says so.
type forked struct {
	agreeing, peers int
	at              int64
	err             error
}

func (e *forked) Error() string {
	return fmt.Sprintf("%v: %d of %d peers, at entry %d: %v", ErrForked, e.agreeing, e.peers, e.at, e.err)
}

func (e *forked) Unwrap() []error { return []error{ErrForked, e.err} }

// early is an entry that is too far ahead of this node's clock.
type early struct {
	index int64
	until time.Time // when it will not be
}

func (e *early) Error() string {
	return fmt.Sprintf("entry %d is ahead of this node's clock by more than %v, until %s: this clock is slow or the region's fast",
		e.index, FutureMax, e.until.UTC().Format(time.RFC3339Nano))
}

// errTimeBack is a log time that goes back.
var errTimeBack = errors.New("log time goes back")

// times gives how many entries may be taken up as to their log time, and what is the
// matter with the next.
func (f *Follower) times(parsed []*fsm.Entry) (int, error) {
	last, latest := f.at.timeMillis, f.cfg.Wall().Add(FutureMax).UnixMilli()
	for i, e := range parsed {
		switch {
		case e.TimeMillis < last:
			return i, fmt.Errorf("%w from %d to %d", errTimeBack, last, e.TimeMillis)
		case e.TimeMillis > latest:
			return i, &early{f.at.size + int64(i), time.UnixMilli(e.TimeMillis).Add(-FutureMax)}
		}
		last = e.TimeMillis
	}
	return len(parsed), nil
}

// waitEarly notes that a peer's next entry is early, and for how long.
func (f *Follower) waitEarly(e *early) time.Duration {
	f.metrics.early.Inc()
	f.set(func(s *Status) { s.EarlyUntil = e.until })
	return min(max(e.until.Sub(f.cfg.Wall()), 0), earlyMax)
}

// checkRoot holds what a peer says that its ledger was at the size reached here against
// what it was here.
func (f *Follower) checkRoot(fr *frame) error {
	if fr.Kind == frameRefusal {
		return nil
	}
	v, err := f.cfg.Replica.View()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReplica, err)
	}
	root, err := v.Ledger().Root(f.at.size)
	if err := errors.Join(err, v.Close()); err != nil {
		return fmt.Errorf("%w: %w", ErrReplica, err)
	}
	if !bytes.Equal(root[:], fr.Root) {
		return &fault{reason: leftFork, err: fmt.Errorf("its first %d entries have root %x, here it is %x", f.at.size, fr.Root, root), claim: newClaim(leftFork, nil)}
	}
	return nil
}

// foreignClaim tells of a peer's claim, which with a foreign ledger is about the region and
// not about the replica. The error is for Run to end with.
func (f *Follower) foreignClaim(p peer.ID, why *fault) error {
	peers := f.peers()
	agree := f.book.claimants(*why.claim, peers)
	if why.reason != leftFork {
		r := &Refused{Origin: f.cfg.Region, Index: f.at.size, Code: why.code, Detail: cut(why.Error()), Err: why.err, Peer: p, Agreeing: agree, Peers: len(peers)}
		f.metrics.refused.With(r.Code).Inc()
		if r.Most() {
			f.cfg.Logger.Error("most of a region's nodes send what re-execution refuses: it gets no vote; others of it are asked again later",
				"code", r.Code, "index", r.Index, "agreeing", agree, "peers", len(peers), "error", why.err)
		}
		return f.cfg.OnRefused(r)
	}
	if agree <= len(peers)/2 {
		return nil
	}
	return &forked{agree, len(peers), f.at.size, why.err}
}

func cut(text string) string { return text[:min(len(text), statusErrorMax)] }

// codeOf says how an entry is refused.
func codeOf(err error, parsed *fsm.Entry) string {
	switch {
	case parsed == nil:
		return RefusedForm
	case errors.Is(err, errSignature):
		return RefusedSignature
	case errors.Is(err, errTimeBack):
		return RefusedTime
	case parsed.Kind == fsm.EntryGenesis && !errors.Is(err, fsm.ErrDiverged):
		return RefusedGenesis
	default:
		return RefusedOutcome
	}
}
