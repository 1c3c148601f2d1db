package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/p2p"
)

// Submit has a node of a region decide proofs, for a client that is no node itself: an
// agent or an operator, under whose key the host runs. It tries once. Errors are those
// of [Intake.Submit], with [p2p.ErrCallRefused] in the chain where the node does not
// take proofs from this key.
func Submit(ctx context.Context, h host.Host, to peer.ID, raw [][]byte) ([]Outcome, error) {
	if n := sizeOf(raw); len(raw) > SubmitProofsMax || n > SubmitBytesMax {
		return nil, fmt.Errorf("%w: %d proofs of %d bytes, at most %d and %d", ErrTooLarge, len(raw), n, SubmitProofsMax, SubmitBytesMax)
	}
	request := submitRequest{Proofs: raw}
	if deadline, ok := ctx.Deadline(); ok {
		request.TimeoutMillis = max(1, time.Until(deadline).Milliseconds())
	}
	var response submitResponse
	err := p2p.CallLimit(ctx, h, to, p2p.ProtocolSubmit, submitResponseBytesMax, &request, &response)
	switch {
	case errors.Is(err, p2p.ErrBusy), errors.Is(err, p2p.ErrCallRefused):
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	case response.Failure != nil:
		return nil, response.Failure.err()
	case len(response.Outcomes) != len(raw):
		return nil, fmt.Errorf("%w: the node gave %d outcomes for %d proofs", ErrUnknownOutcome, len(response.Outcomes), len(raw))
	}
	outcomes, err := fromWire(response.Outcomes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return outcomes, nil
}
