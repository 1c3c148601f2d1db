package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/p2p"
)

// A linearizable read on any node: ask the leader how many entries there are (it
// answers after a barrier in its term), wait until this node has applied as many,
// then read here.

const (
	readVersion  = 1
	readPatience = 5 * time.Second // for a leader to be found
	readPause    = 50 * time.Millisecond
	readTries    = 3 * time.Second // of one call
)

type readRequest struct {
	Version uint8 `cbor:"1,keyasint"`
}

type readResponse struct {
	Size   int64  `cbor:"1,keyasint"` // entries of the ledger, if this node leads
	Leads  bool   `cbor:"2,keyasint"`
	Leader string `cbor:"3,keyasint,omitempty"` // peer ID of who does, as far as it knows
}

func (n *Node) serveRead() error {
	srv, err := p2p.Serve(n.host, n.access, p2p.ProtocolRead, p2p.Limits{RequestBytesMax: 1 << 10, ResponseBytesMax: 1 << 10, Timeout: readTries, PerPeerMax: 64, PerPeerBurst: 64},
		func(ctx context.Context, _ peer.ID, req *readRequest) (*readResponse, error) {
			if req.Version != readVersion {
				return nil, &p2p.Fault{Code: "version", Detail: fmt.Sprintf("read version %d is not known here, %d is", req.Version, readVersion)}
			}
			r := n.region.Load()
			if r == nil {
				return &readResponse{}, nil
			}
			size, err := leaderSize(ctx, r)
			if err != nil {
				return &readResponse{Leader: string(r.LeaderID())}, nil //nolint:nilerr // that it does not lead is the answer
			}
			return &readResponse{Size: size, Leads: true}, nil
		})
	if err != nil {
		return err
	}
	n.onClose(srv.Close)
	return nil
}

// leaderSize is how many entries the ledger has, on the leader and in its term.
func leaderSize(ctx context.Context, r *region.Region) (size int64, err error) {
	err = r.Read(ctx, func(s region.StateMachine) error {
		o, ok := s.(*opened)
		if !ok {
			return errNoState
		}
		v, err := o.View()
		if err != nil {
			return err
		}
		size, err = v.Ledger().Size()
		return errors.Join(err, v.Close())
	})
	return size, err
}

// catchUp returns once this node has applied everything that was acknowledged before
// the call, by whichever leader: so many entries. A view opened afterwards may have fewer,
// if the state was replaced meanwhile, and then must not answer.
func (n *Node) catchUp(ctx context.Context) (size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	var last error
	hint := ""
	for try := 0; ; try++ {
		size, next, err := n.readIndex(ctx, hint, try)
		if err == nil {
			return size, n.awaitSize(ctx, size)
		}
		last, hint = err, next
		select {
		case <-time.After(readPause):
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", errNoLeader, last)
		}
	}
}

// readIndex asks this node's own region, or whoever is named or known to vote.
func (n *Node) readIndex(ctx context.Context, hint string, try int) (size int64, next string, err error) {
	if r := n.region.Load(); r != nil {
		if size, err = leaderSize(ctx, r); err == nil {
			return size, "", nil
		}
		if hint == "" {
			hint = string(r.LeaderID())
		}
	}
	to, err := n.readTarget(hint, try)
	if err != nil {
		return 0, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, readTries)
	defer cancel()
	var res readResponse
	if err := p2p.Call(ctx, n.host, to, p2p.ProtocolRead, &readRequest{Version: readVersion}, &res); err != nil {
		return 0, "", err
	}
	if !res.Leads {
		return 0, res.Leader, fmt.Errorf("%v does not lead", to)
	}
	return res.Size, "", nil
}

func (n *Node) readTarget(hint string, try int) (peer.ID, error) {
	if hint != "" && hint != n.host.ID().String() {
		if id, err := peer.Decode(hint); err == nil {
			return id, nil
		}
	}
	voters := n.voterPeers()
	if len(voters) == 0 {
		return "", errNoLeader
	}
	return voters[try%len(voters)], nil
}

// voterPeers are the region's voters but this node, as far as it knows.
func (n *Node) voterPeers() []peer.ID {
	var ids []peer.ID
	if p, ok := n.raftPeers(); ok {
		for id := range p.Voters {
			if id != n.host.ID() {
				ids = append(ids, id)
			}
		}
		return ids
	}
	if own, ok := n.Document().Region(n.home.Identity.Region); ok {
		for _, v := range own.Voters {
			if id, err := p2p.PeerID(v.NodeKey); err == nil && id != n.host.ID() {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// awaitSize waits until so many entries are applied here.
func (n *Node) awaitSize(ctx context.Context, size int64) error {
	for {
		changed := n.feed.Changed()
		if n.feed.Size() >= size {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("this node is behind: it has %d of %d entries: %w", n.feed.Size(), size, errNoLeader)
		}
	}
}

// isClient says whether a peer's key is a registered agent's or an operator's of the
// region, who may submit proofs over libp2p. Where registration is open, anybody may.
func (n *Node) isClient(p peer.ID) bool {
	doc := n.Document()
	if doc == nil {
		return false
	}
	key, err := p2p.NodeKey(p)
	own, ok := doc.Region(n.home.Identity.Region)
	if err != nil || !ok {
		return false
	}
	if own.IsOperator(key) || doc.Constitution.Limits.OpenRegistration {
		return true
	}
	v, err := n.state.View()
	if err != nil {
		return false
	}
	defer func() { _ = v.Close() }() // a view of memory; nothing can be lost
	a, err := v.AgentByKey(key)
	return err == nil && a.RevokedMillis == 0 && a.PublicKey == key
}
