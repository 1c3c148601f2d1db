package link

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/fate"
	"github.com/bizra/bizra/fsm/ntu"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// Limits of the messages of [p2p.ProtocolSubmit].
const (
	submitRequestBytesMax  = SubmitBytesMax + SubmitProofsMax*8 + 1<<10
	submitResponseBytesMax = 4 << 20 // some 8 KiB a receipt
	detailBytesMax         = 1 << 10 // of a refusal
	handleTimeout          = 12 * time.Second
	hopsMax                = 1
)

// What a node answers instead of outcomes.
const (
	failNotLeader   = "not-leader"
	failUnknown     = "unknown"
	failOverloaded  = "overloaded"
	failNoRoom      = "no-room"
	failUnavailable = "unavailable"
	failTooLarge    = "too-large"
)

// submitRequest carries proofs. A node that gets it with no hop left must not forward
// it, so that no request runs in circles while nobody leads.
type submitRequest struct {
	Proofs        [][]byte `cbor:"1,keyasint"`
	Hops          uint8    `cbor:"2,keyasint,omitempty"` // taken so far: 0 from a client, 1 from a node
	TimeoutMillis int64    `cbor:"3,keyasint,omitempty"` // the sender stops waiting then; 0: it did not say
	Document      []byte   `cbor:"4,keyasint,omitempty"` // canonical form, of the one proof that adopts it
}

type submitResponse struct {
	Outcomes []wireOutcome `cbor:"1,keyasint,omitempty"`
	Failure  *wireFailure  `cbor:"2,keyasint,omitempty"`
}

type wireFailure struct {
	Code             string `cbor:"1,keyasint"`
	Detail           string `cbor:"2,keyasint,omitempty"`
	Leader           string `cbor:"3,keyasint,omitempty"` // peer ID
	RetryAfterMillis int64  `cbor:"4,keyasint,omitempty"`
}

// wireOutcome is an [Outcome]; RejectCode 0 says that there is a receipt.
type wireOutcome struct {
	RejectCode uint16       `cbor:"1,keyasint,omitempty"`
	Detail     string       `cbor:"2,keyasint,omitempty"`
	Receipt    *wireReceipt `cbor:"3,keyasint,omitempty"`
}

// wireReceipt is an [fsm.Receipt] under numbers that stay.
type wireReceipt struct {
	Digest     [32]byte `cbor:"1,keyasint"`
	EnvelopeID string   `cbor:"2,keyasint,omitempty"`
	Code       pci.Code `cbor:"3,keyasint,omitempty"`
	Reason     string   `cbor:"4,keyasint,omitempty"`
	Region     string   `cbor:"5,keyasint,omitempty"`
	HasEntry   bool     `cbor:"6,keyasint,omitempty"`
	Index      int64    `cbor:"7,keyasint,omitempty"`
	TimeMillis int64    `cbor:"8,keyasint,omitempty"`
	Action     string   `cbor:"9,keyasint,omitempty"`
	AgentID    string   `cbor:"10,keyasint,omitempty"`
	Session    string   `cbor:"11,keyasint,omitempty"`
	Head       string   `cbor:"12,keyasint,omitempty"`
	State      string   `cbor:"13,keyasint,omitempty"`

	NTU    *ntu.State    `cbor:"15,keyasint,omitempty"`
	Fate   *fate.Verdict `cbor:"16,keyasint,omitempty"`
	Budget *fsm.Budget   `cbor:"17,keyasint,omitempty"`
	Agent  *fsm.Standing `cbor:"18,keyasint,omitempty"`

	Market     *fsm.Trade      `cbor:"22,keyasint,omitempty"`
	Unlicensed *fsm.Unlicensed `cbor:"23,keyasint,omitempty"`

	RuleMessage string  `cbor:"19,keyasint,omitempty"`
	ClaimMin    float64 `cbor:"21,keyasint,omitempty"`

	Repeated bool `cbor:"14,keyasint,omitempty"`

	PolicyHash string `cbor:"20,keyasint,omitempty"`
}

func toWire(outcomes []Outcome) []wireOutcome {
	wire := make([]wireOutcome, len(outcomes))
	for i := range outcomes {
		if r := outcomes[i].Reject; r != nil {
			wire[i] = wireOutcome{RejectCode: uint16(r.Code), Detail: clip(r.Detail)}
			continue
		}
		receipt := wireReceipt(outcomes[i].Receipt)
		wire[i].Receipt = &receipt
	}
	return wire
}

// clip shortens foreign text to what a message may hold of it.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), detailBytesMax)], "")
}

func fromWire(wire []wireOutcome) ([]Outcome, error) {
	outcomes := make([]Outcome, len(wire))
	for i, w := range wire {
		switch {
		case w.RejectCode != 0 && w.Receipt == nil:
			outcomes[i].Reject = &pci.Reject{Code: pci.Code(w.RejectCode), Detail: clip(w.Detail)}
		case w.RejectCode == 0 && w.Receipt != nil:
			outcomes[i].Receipt = fsm.Receipt(*w.Receipt)
		default:
			return nil, fmt.Errorf("outcome %d is neither a receipt nor a refusal", i)
		}
	}
	return outcomes, nil
}

// answered reads what a leader said of a submission.
func (in *Intake) answered(s *submission, response *submitResponse) ([]Outcome, error) {
	if f := response.Failure; f != nil {
		return nil, in.failure(s, f)
	}
	if len(response.Outcomes) != len(s.raw) {
		return nil, fmt.Errorf("%w: the leader gave %d outcomes for %d proofs", ErrUnknownOutcome, len(response.Outcomes), len(s.raw))
	}
	outcomes, err := fromWire(response.Outcomes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	bad := 0
	for _, o := range outcomes {
		if o.Reject != nil && o.Reject.Code == pci.RejectSignature {
			bad++
		}
	}
	in.verifier.charge(s.source, bad)
	return outcomes, nil
}

func (in *Intake) failure(s *submission, f *wireFailure) error {
	if f.Code == failNotLeader {
		// A hint is followed only to somebody who may lead.
		if id, err := peer.Decode(f.Leader); err == nil && id != in.self && in.cfg.Access.Role(id) == p2p.Voter {
			s.hint = id
		}
	}
	return f.err()
}

// err is the failure as an error of a submission.
func (f *wireFailure) err() error {
	detail := clip(f.Detail)
	switch f.Code {
	case failNotLeader:
		return &notLeaderError{hint: clip(f.Leader)}
	case failOverloaded, failNoRoom:
		after := min(time.Duration(max(f.RetryAfterMillis, 1))*time.Millisecond, time.Minute)
		return &OverloadedError{Reason: detail, RetryAfter: after, NoRoom: f.Code == failNoRoom}
	case failTooLarge:
		return fmt.Errorf("%w: the node asked says: %s", ErrTooLarge, detail)
	case failUnavailable:
		return fmt.Errorf("%w: the node asked says: %s", ErrUnavailable, detail)
	default:
		return fmt.Errorf("%w: the node asked says: %s", ErrUnknownOutcome, detail)
	}
}

// serve answers other nodes' submissions.
func (in *Intake) serve() (err error) {
	in.server, err = p2p.Serve(in.cfg.Host, in.cfg.Access, p2p.ProtocolSubmit,
		p2p.Limits{RequestBytesMax: submitRequestBytesMax, ResponseBytesMax: submitResponseBytesMax, ConcurrentMax: 256, PerPeerMax: 64, Timeout: handleTimeout},
		in.handle)
	if err != nil {
		return fmt.Errorf("intake: %w", err)
	}
	return nil
}

func (in *Intake) handle(ctx context.Context, from peer.ID, request *submitRequest) (*submitResponse, error) {
	if t := request.TimeoutMillis; t > 0 && t < in.cfg.AttemptTimeout.Milliseconds() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(t)*time.Millisecond)
		defer cancel()
	}
	name := sourceName{name: "peer " + from.String()}
	outcomes, err := in.take(ctx, name, request)
	if err != nil {
		return &submitResponse{Failure: in.failureOf(err)}, nil
	}
	return &submitResponse{Outcomes: toWire(outcomes)}, nil
}

// take decides a submission that came by stream: with a hop left like any other, else
// only if this node leads.
func (in *Intake) take(ctx context.Context, name sourceName, request *submitRequest) ([]Outcome, error) {
	switch {
	case request.Hops > hopsMax:
		return nil, fmt.Errorf("%w: a submission after %d hops, at most %d", ErrTooLarge, request.Hops, hopsMax)
	case request.Hops < hopsMax:
		return in.submit(ctx, name, request.Proofs, request.Document)
	case !in.leading():
		return nil, &notLeaderError{hint: in.hint()}
	}
	if len(request.Proofs) == 0 {
		return nil, fmt.Errorf("%w: no proof: 1 to %d", ErrTooLarge, SubmitProofsMax)
	}
	if err := fits(request.Proofs, request.Document); err != nil {
		return nil, err
	}
	source, release, err := in.verifier.admit(name, weighed(request.Proofs, request.Document))
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := in.untilClosed(ctx)
	defer cancel()
	return in.lead(ctx, &submission{raw: request.Proofs, document: request.Document, source: source})
}

// hint is whom this node tells others to ask.
func (in *Intake) hint() string {
	if id := in.raftLeader(); id != "" && id != in.self {
		return id.String()
	}
	return ""
}

func (in *Intake) failureOf(err error) *wireFailure {
	f := &wireFailure{Code: failUnknown, Detail: clip(err.Error())}
	var notLeader *notLeaderError
	var overloaded *OverloadedError
	switch {
	case errors.As(err, &notLeader):
		f.Code, f.Leader = failNotLeader, in.hint()
	case errors.As(err, &overloaded):
		f.Code, f.Detail, f.RetryAfterMillis = failOverloaded, clip(overloaded.Reason), overloaded.RetryAfter.Milliseconds()
		if overloaded.NoRoom {
			f.Code = failNoRoom
		}
	case errors.Is(err, ErrUnknownOutcome):
	case errors.Is(err, ErrTooLarge):
		f.Code = failTooLarge
	case errors.Is(err, ErrUnavailable):
		f.Code = failUnavailable
	}
	return f
}
