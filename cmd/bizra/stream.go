package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// Patience of submissions by stream, as that of client by HTTP.
const (
	streamRetriesMax     = 12
	streamBackoffFirst   = 100 * time.Millisecond
	streamBackoffLast    = 5 * time.Second
	streamBatchBytesMax  = client.BatchBytesMax / 2
	streamAnswerBytesMax = 2 << 20
	streamConnectTimeout = 10 * time.Second
)

// streamSubmitter submits over libp2p.
type streamSubmitter struct {
	host host.Host
	to   peer.ID
}

// dialStream connects to a node at a multiaddr, under the given key or one made for
// this run.
func dialStream(ctx context.Context, multiaddr string, key *pci.PrivateKey) (*streamSubmitter, error) {
	to, err := p2p.ParseAddress(multiaddr)
	if err != nil {
		return nil, &usageError{err}
	}
	if key == nil {
		if key, err = pci.GenerateKey(); err != nil {
			return nil, err
		}
	}
	h, err := p2p.NewHost(p2p.Config{Key: key, Version: programVersion()})
	if err != nil {
		return nil, fmt.Errorf("start libp2p: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, streamConnectTimeout)
	defer cancel()
	if err := h.Connect(ctx, to); err != nil {
		return nil, errors.Join(fmt.Errorf("no node answers at %s: is one running there, under this peer ID? (%w)", multiaddr, err), h.Close())
	}
	return &streamSubmitter{h, to.ID}, nil
}

func (s *streamSubmitter) close() { _ = s.host.Close() } // the process is about to end

// SubmitAll is as that of [client.Client].
func (s *streamSubmitter) SubmitAll(ctx context.Context, envelopes [][]byte) ([]client.Outcome, error) {
	var outcomes []client.Outcome
	for len(envelopes) > 0 {
		n, size := 0, 0
		for n < len(envelopes) && n < client.BatchLinesMax && (n == 0 || size+len(envelopes[n]) < streamBatchBytesMax) {
			size += len(envelopes[n])
			n++
		}
		part, err := s.submit(ctx, envelopes[:n])
		if err != nil {
			return outcomes, err
		}
		outcomes = append(outcomes, part...)
		envelopes = envelopes[n:]
	}
	return outcomes, nil
}

func (s *streamSubmitter) submit(ctx context.Context, envelopes [][]byte) ([]client.Outcome, error) {
	backoff := streamBackoffFirst
	for attempt := 1; ; attempt++ {
		outcomes, pause, err := s.attempt(ctx, envelopes)
		if err == nil {
			return outcomes, nil
		}
		if errors.Is(err, p2p.ErrCallRefused) {
			return nil, fmt.Errorf("the node does not take proofs over libp2p from this key: give its http:// URL as --node, or the key of a registered agent as --key (%w)", err)
		}
		if attempt > streamRetriesMax || errors.Is(err, errTooLarge) {
			return nil, fmt.Errorf("no decision after %d attempts: %w", attempt, err)
		}
		t := time.NewTimer(max(backoff, min(pause, streamBackoffLast)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("%w (last answer: %w)", context.Cause(ctx), err)
		}
		backoff = min(2*backoff, streamBackoffLast)
	}
}

// The messages of [p2p.ProtocolSubmit], version 1.0.0, as a client needs them.
type (
	streamRequest struct {
		Proofs [][]byte `cbor:"1,keyasint"`
	}
	streamAnswer struct {
		Outcomes []streamOutcome `cbor:"1,keyasint,omitempty"`
		Failure  *streamFailure  `cbor:"2,keyasint,omitempty"`
	}
	streamFailure struct {
		Code             string `cbor:"1,keyasint"`
		Detail           string `cbor:"2,keyasint,omitempty"`
		Leader           string `cbor:"3,keyasint,omitempty"`
		RetryAfterMillis int64  `cbor:"4,keyasint,omitempty"`
	}
	streamOutcome struct {
		RejectCode uint16         `cbor:"1,keyasint,omitempty"`
		Detail     string         `cbor:"2,keyasint,omitempty"`
		Receipt    *streamReceipt `cbor:"3,keyasint,omitempty"`
	}
	streamReceipt struct {
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
		Repeated   bool     `cbor:"14,keyasint,omitempty"`
	}
)

const failureTooLarge = "too-large"

var errTooLarge = errors.New("too large for one submission")

func (s *streamSubmitter) attempt(ctx context.Context, envelopes [][]byte) ([]client.Outcome, time.Duration, error) {
	var a streamAnswer
	if err := p2p.CallLimit(ctx, s.host, s.to, p2p.ProtocolSubmit, streamAnswerBytesMax, &streamRequest{Proofs: envelopes}, &a); err != nil {
		return nil, 0, err
	}
	if f := a.Failure; f != nil {
		err := fmt.Errorf("the node says %s: %s", f.Code, f.Detail)
		if f.Code == failureTooLarge {
			err = fmt.Errorf("%w: %s", errTooLarge, f.Detail)
		}
		return nil, time.Duration(f.RetryAfterMillis) * time.Millisecond, err
	}
	if len(a.Outcomes) != len(envelopes) {
		return nil, 0, fmt.Errorf("the node gave %d outcomes for %d proofs", len(a.Outcomes), len(envelopes))
	}
	outcomes := make([]client.Outcome, len(a.Outcomes))
	for i, o := range a.Outcomes {
		var err error
		if outcomes[i], err = o.shown(); err != nil {
			return nil, 0, fmt.Errorf("outcome %d: %w", i+1, err)
		}
	}
	return outcomes, 0, nil
}

// shown is the outcome in the form that HTTP gives it.
func (o *streamOutcome) shown() (client.Outcome, error) {
	if o.Receipt == nil {
		code := pci.Code(o.RejectCode)
		return client.Outcome{Problem: &client.Problem{Type: "about:blank", Title: code.Sentence(), Status: code.HTTPStatus(),
			Detail: o.Detail, Code: &code, Name: code.String()}}, nil
	}
	text, err := json.Marshal(fsm.Receipt(*o.Receipt))
	if err != nil {
		return client.Outcome{}, err
	}
	var r client.Receipt
	if err := json.Unmarshal(text, &r); err != nil {
		return client.Outcome{}, err
	}
	return client.Outcome{Receipt: &r}, nil
}
