package link

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Errors of a submission; test with errors.Is.
var (
	// ErrUnknownOutcome is returned when leadership, a connection or time was lost while
	// proofs were being committed. Sending the same envelopes again is safe and tells.
	ErrUnknownOutcome = errors.New("it is not known whether the proofs were committed: send the same envelopes again")
	// ErrUnavailable is returned when nothing was committed, because no leader was found
	// in time or it could not take proofs. The same envelopes may be sent again.
	ErrUnavailable = errors.New("the region cannot take proofs now: nothing was committed")
	// ErrOverloaded is in the chain of an [OverloadedError].
	ErrOverloaded = errors.New("more proofs than are taken now: nothing was committed")
	// ErrTooLarge is returned for a submission above [SubmitProofsMax] or [SubmitBytesMax].
	ErrTooLarge = errors.New("more than one submission may hold")
	// ErrClosed is returned after Close has begun.
	ErrClosed = errors.New("closed")
)

// OverloadedError says why nothing was taken and when to try again. errors.Is finds
// [ErrOverloaded] in it.
type OverloadedError struct {
	Reason     string
	RetryAfter time.Duration
	NoRoom     bool // it is the leader's disk that is full, not a queue
}

func (e *OverloadedError) Error() string {
	return fmt.Sprintf("%v: %s: try again in %v", ErrOverloaded, e.Reason, e.RetryAfter)
}

// Is makes the error match its kind.
func (e *OverloadedError) Is(target error) bool { return target == ErrOverloaded }

// notLeaderError is an attempt at a node that does not lead; nothing was committed.
type notLeaderError struct {
	hint string // peer ID of who leads as far as that node knows, or ""
}

func (e *notLeaderError) Error() string {
	if e.hint == "" {
		return "the node asked does not lead, and knows of nobody who does"
	}
	return "the node asked does not lead; it names " + strconv.Quote(e.hint)
}
