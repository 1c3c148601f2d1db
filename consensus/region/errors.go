package region

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotLeader is returned for what only the leader can do; [Region.LeaderID] says who may.
	ErrNotLeader = errors.New("this node is not the region's leader")
	// ErrNotCommitted is in the chain of every error of Propose after which the proofs are certainly not in the log.
	ErrNotCommitted = errors.New("the proof was not committed")
	// ErrUnknownOutcome is returned when leadership, time or this replica was lost while proofs were being committed: they may
	// yet be. Sending the same envelopes again is safe and tells.
	ErrUnknownOutcome = errors.New("it is not known whether the proof was committed: send the same envelope again")
	// ErrOverloaded is in the chain of an [OverloadedError].
	ErrOverloaded = errors.New("the region has more proofs waiting than it takes")
	// ErrDiskLow is the cause in an OverloadedError while the leader's disk is nearly full; see Config.DiskFreeMin.
	ErrDiskLow = errors.New("the leader's disk is nearly full")
	// ErrTooLarge is returned for more proofs, or a larger one, than one call of Propose takes.
	ErrTooLarge = errors.New("more than one submission may hold")
	// ErrClockOff is returned while this leader's clock is too far from those of the voters to stamp anything.
	ErrClockOff = errors.New("the leader's clock differs too much from its voters' clocks")
	// ErrNotFounded is returned before the ledger's first entry is committed.
	ErrNotFounded = errors.New("the region is not founded yet: not all of its founding voters have started")
	// ErrClosed is returned after Close has begun.
	ErrClosed = errors.New("the region is closed")
	// ErrFailed is in the chain of every error of a replica that has stopped; [Region.Failed] says why.
	ErrFailed = errors.New("this replica has stopped")
	// ErrNoStore is returned by Start for a home without its Raft store.
	ErrNoStore = errors.New("this home has no Raft store")
	// ErrPastFounding is returned by Start when another voter's log is past the founding.
	ErrPastFounding = errors.New("the region is already past its founding")
	// ErrStalled is the cause when a call of the log store exceeded its time limit.
	ErrStalled = errors.New("the disk does not answer")
	// ErrBehindSnapshot is returned by Start when the state on disk is older than the log needs.
	ErrBehindSnapshot = errors.New("the state is older than the snapshot that the Raft log begins at")
	// ErrSnapshotStream is in the chain of every error about the bytes of a snapshot that is being received.
	ErrSnapshotStream = errors.New("bad snapshot stream")
)

// OverloadedError says when to try again. errors.Is finds ErrOverloaded, ErrNotCommitted and what Cause holds in it.
type OverloadedError struct {
	RetryAfter time.Duration
	Cause      error // nil: too much waits
}

func (e *OverloadedError) Error() string {
	return fmt.Sprintf("%v: try again in %v", e.Reason(), e.RetryAfter)
}

// Reason says in words why nothing was taken.
func (e *OverloadedError) Reason() string {
	if e.Cause != nil {
		return e.Cause.Error()
	}
	return ErrOverloaded.Error()
}

// Unwrap gives the cause.
func (e *OverloadedError) Unwrap() error { return e.Cause }

// Is makes the error match its two kinds.
func (e *OverloadedError) Is(target error) bool {
	return target == ErrOverloaded || target == ErrNotCommitted
}

func notCommitted(cause error) error { return fmt.Errorf("%w: %w", ErrNotCommitted, cause) }

func unknownOutcome(cause error) error { return fmt.Errorf("%w (%w)", ErrUnknownOutcome, cause) }
