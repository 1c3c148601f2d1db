package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Codes of faults that this package itself sends. A protocol may have more of its own.
const (
	FaultInternal   = "internal"   // the peer failed; its log says why
	FaultTimeout    = "timeout"    // the peer's handler ran out of time
	FaultInvitation = "invitation" // the invitation was not accepted; the detail says why
)

const (
	faultCodeBytesMax   = 64
	faultDetailBytesMax = 512
	replyBytesMax       = 1 << 10 // what a reply is longer than its body
	// CallTimeout bounds a [Call] whose context has no earlier end.
	CallTimeout = 15 * time.Second
	// CallResponseBytesMax is the longest response that [Call] takes; see [CallLimit].
	CallResponseBytesMax = 1 << 20
)

// Errors of calls; test with errors.Is.
var (
	// ErrCallRefused is returned where the peer does not let this node speak the protocol.
	ErrCallRefused = errors.New("the peer refused: this node may not speak the protocol with it")
	// ErrBusy is returned where the peer has no place for the call now; try later, or another.
	ErrBusy = errors.New("the peer is busy")
)

// Fault is an error that a handler wants its caller to learn. It arrives as a *Fault.
type Fault struct {
	Code   string // short, for programs
	Detail string // for people; never trusted
}

// Error is the fault as the caller sees it.
func (f *Fault) Error() string {
	if f.Detail == "" {
		return "peer: " + f.Code
	}
	return "peer: " + f.Code + ": " + f.Detail
}

// reply is what comes back: a body, or a fault.
type reply struct {
	Body   cbor.RawMessage `cbor:"1,keyasint,omitempty"`
	Code   string          `cbor:"2,keyasint,omitempty"`
	Detail string          `cbor:"3,keyasint,omitempty"`
}

func replyOf(err error) reply {
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		return reply{Code: cut(fault.Code, faultCodeBytesMax), Detail: cut(fault.Detail, faultDetailBytesMax)}
	case errors.Is(err, context.DeadlineExceeded):
		return reply{Code: FaultTimeout}
	default:
		return reply{Code: FaultInternal}
	}
}

// cut shortens to whole code points and makes the text valid UTF-8.
func cut(text string, bytesMax int) string {
	out := make([]rune, 0, min(len(text), bytesMax))
	n := 0
	for _, r := range text {
		if n += len(string(r)); n > bytesMax {
			break
		}
		out = append(out, r)
	}
	return string(out)
}

// Call sends one request to a peer and reads its response, dialling if there is no
// connection and an address is known. It ends with ctx or after [CallTimeout]. Errors:
// [ErrCallRefused], [ErrBusy], a [*Fault] of the peer's handler, the frames' errors,
// or those of the network.
func Call(ctx context.Context, h host.Host, p peer.ID, proto protocol.ID, request, response any) error {
	return CallLimit(ctx, h, p, proto, CallResponseBytesMax, request, response)
}

// CallLimit is [Call] with another limit for the response frame.
func CallLimit(ctx context.Context, h host.Host, p peer.ID, proto protocol.ID, responseBytesMax int, request, response any) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	s, err := h.NewStream(ctx, p, proto)
	if err != nil {
		return fmt.Errorf("open %s to %v: %w", proto, p, streamError(ctx, err))
	}
	// A stream's reads do not end with a context.
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if err := exchange(ctx, s, responseBytesMax, request, response); err != nil {
		_ = s.Reset()
		return fmt.Errorf("call %s of %v: %w", proto, p, streamError(ctx, err))
	}
	_ = s.Close()
	return nil
}

func exchange(ctx context.Context, s network.Stream, responseBytesMax int, request, response any) error {
	if deadline, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(deadline)
	}
	sent := WriteMessage(s, messageBytesMax, request)
	if errors.Is(sent, ErrFrameTooLong) || errors.Is(sent, errEncode) {
		return sent
	}
	if sent == nil {
		sent = s.CloseWrite()
	}
	// A request that was cut short goes on here too: only reading tells why the peer
	// reset the stream.
	var answer reply
	if err := ReadMessage(s, responseBytesMax+replyBytesMax, &answer); err != nil {
		if sent != nil {
			return fmt.Errorf("send request: %w: %w", sent, err)
		}
		return err
	}
	if answer.Code != "" {
		return &Fault{Code: cut(answer.Code, faultCodeBytesMax), Detail: cut(answer.Detail, faultDetailBytesMax)}
	}
	return Unmarshal(answer.Body, response)
}

// messageBytesMax bounds what a caller may send; the server's own limit is lower.
const messageBytesMax = 16 << 20

// streamError gives the reset codes of this package their names.
func streamError(ctx context.Context, err error) error {
	var reset *network.StreamError
	switch {
	case errors.As(err, &reset) && reset.Remote && reset.ErrorCode == network.StreamGated:
		return fmt.Errorf("%w: %w", ErrCallRefused, err)
	case errors.As(err, &reset) && reset.Remote && reset.ErrorCode == network.StreamRateLimited:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	default:
		return err
	}
}
