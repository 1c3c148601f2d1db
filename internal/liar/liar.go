// Package liar plays a region that lies, for the demo and for tests with real processes.
// A region's keys lie with its voters, so one voter's home is enough to speak for its
// region: with the home of a voter that does not run, this package signs what the region
// never sealed, and hands it to voters of other regions over libp2p, as that voter would.
//
// It speaks the protocol that nodes speak and needs nothing of theirs changed. It cannot
// do what a thief of a voter's home could not do.
package liar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/bizra/bizra/consensus/attest"
	"github.com/bizra/bizra/fsm/checkpoint"
	"github.com/bizra/bizra/node"
	"github.com/bizra/bizra/p2p"
)

const exchangeVersion = 1

// responseBytesMax is what is read of an answer: the messages, and the names around them.
const responseBytesMax = attest.ExchangeBytesMax + 32<<10

// Fork signs, with the log key in a voter's home, a second checkpoint of the size that a
// checkpoint of the voter's region has, or a certificate of one: the same but for the root.
func Fork(home string, signed []byte) (note []byte, err error) {
	h, err := node.OpenHome(home)
	if err != nil {
		return nil, err
	}
	if h.LogKey == nil {
		return nil, fmt.Errorf("the home %s holds no log key: a voter's does", home)
	}
	body, _, found := bytes.Cut(signed, []byte("\n\n"))
	if !found {
		return nil, errors.New("what is to be forked is no signed checkpoint")
	}
	c, err := checkpoint.ParseBody(append(slices.Clip(body), '\n'))
	if err != nil {
		return nil, err
	}
	if c.Region() != h.Identity.Region {
		return nil, fmt.Errorf("the checkpoint is of %s, and the home %s of region %s", c.Origin, home, h.Identity.Region)
	}
	c.Root = sha256.Sum256(c.Root[:])
	return checkpoint.Sign(c, h.LogKey)
}

// Tell hands a signed checkpoint to the nodes at some multiaddrs, which are voters of
// other regions, under the identity of a voter's home. It gives the regions against which
// each node then has evidence, by its own word.
func Tell(ctx context.Context, home string, note []byte, addresses ...string) (evidence [][]string, err error) {
	h, err := node.OpenHome(home)
	if err != nil {
		return nil, err
	}
	host, err := p2p.NewHost(p2p.Config{Key: h.NodeKey, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	m := attest.Message{Kind: attest.KindCheckpoint, Document: h.Document.Version, Payload: note}
	for _, a := range addresses {
		to, err := p2p.ParseAddress(a)
		if err != nil {
			return nil, err
		}
		if err := host.Connect(ctx, to); err != nil {
			return nil, fmt.Errorf("connect to %s: %w", a, err)
		}
		request := &attest.Exchange{Version: exchangeVersion, Document: h.Document.Version, Messages: [][]byte{m.Encode()}}
		var response attest.Exchange
		if err := p2p.CallLimit(ctx, host, to.ID, p2p.ProtocolAttest, responseBytesMax, request, &response); err != nil {
			return nil, err
		}
		evidence = append(evidence, response.Evidence)
	}
	return evidence, nil
}
