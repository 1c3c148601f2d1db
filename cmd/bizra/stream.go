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
	"github.com/bizra/bizra/consensus/link"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// Patience of submissions by stream, as that of client by HTTP.
const (
	streamRetriesMax     = 12
	streamBackoffFirst   = 100 * time.Millisecond
	streamBackoffLast    = 5 * time.Second
	streamBatchBytesMax  = client.BatchBytesMax / 2
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
		if attempt > streamRetriesMax || errors.Is(err, link.ErrTooLarge) {
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

func (s *streamSubmitter) attempt(ctx context.Context, envelopes [][]byte) ([]client.Outcome, time.Duration, error) {
	decided, err := link.Submit(ctx, s.host, s.to, envelopes)
	if over, ok := errors.AsType[*link.OverloadedError](err); ok {
		return nil, over.RetryAfter, err
	}
	if err != nil {
		return nil, 0, err
	}
	outcomes := make([]client.Outcome, len(decided))
	for i := range decided {
		if outcomes[i], err = shown(&decided[i]); err != nil {
			return nil, 0, fmt.Errorf("outcome %d: %w", i+1, err)
		}
	}
	return outcomes, 0, nil
}

// shown is an outcome in the form that HTTP gives it.
func shown(o *link.Outcome) (client.Outcome, error) {
	if rej := o.Reject; rej != nil {
		code := rej.Code
		problem := &client.Problem{Type: "about:blank", Title: code.Sentence(), Status: code.HTTPStatus(), Detail: rej.Detail, Code: &code, Name: code.String()}
		return client.Outcome{Problem: problem}, nil //nolint:nilerr // a refusal is an outcome, not a failure
	}
	text, err := json.Marshal(o.Receipt)
	if err != nil {
		return client.Outcome{}, err
	}
	var r client.Receipt
	if err := json.Unmarshal(text, &r); err != nil {
		return client.Outcome{}, err
	}
	return client.Outcome{Receipt: &r}, nil
}
