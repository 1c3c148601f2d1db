package sim

import (
	"context"
	"errors"
	"slices"
	"sync"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/internal/rpcwire"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/sim/memnet"
)

var errSilent = errors.New("sim: the region says nothing")

// tongue is the host of a node that may come to lie, or to attack its peers.
type tongue struct {
	*memnet.Host
	node *Node
}

// SetStreamHandler implements host.Host.
func (h *tongue) SetStreamHandler(proto protocol.ID, handle network.StreamHandler) {
	switch proto {
	case p2p.ProtocolEntries:
		h.Host.SetStreamHandler(proto, func(s network.Stream) { handle(&rewritten{s, h.node}) })
	case p2p.ProtocolAttest:
		h.Host.SetStreamHandler(proto, func(s network.Stream) {
			if l := h.node.lies.Load(); l != nil && l.silent.Load() {
				l.told.Add(1)
				_ = s.Reset()
				return
			}
			handle(s)
		})
	default:
		h.Host.SetStreamHandler(proto, handle)
	}
}

// NewStream implements host.Host.
func (h *tongue) NewStream(ctx context.Context, p peer.ID, protos ...protocol.ID) (network.Stream, error) {
	if l := h.node.lies.Load(); l != nil && l.silent.Load() && slices.Contains(protos, p2p.ProtocolAttest) {
		l.told.Add(1)
		return nil, errSilent
	}
	s, err := h.Host.NewStream(ctx, p, protos...)
	if err != nil || !slices.Contains(protos, p2p.ProtocolGossip) {
		return s, err
	}
	v := &voice{Stream: s, node: h.node}
	h.node.voices.add(v)
	return v, nil
}

// voice is a stream on which a node gossips to a peer. Each write is an RPC.
type voice struct {
	network.Stream
	node *Node
	mu   sync.Mutex
}

// Write implements network.Stream.
func (v *voice) Write(b []byte) (int, error) {
	if l := v.node.lies.Load(); l != nil && l.silent.Load() {
		return v.filtered(b, l.told.Add, func(*pb.Message) bool { return true })
	}
	if r := v.node.rogue.Load(); r != nil && r.keeps != nil {
		return v.filtered(b, r.kept.Add, r.keeps)
	}
	return v.say(b)
}

func (v *voice) say(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.Stream.Write(b)
}

// filtered keeps back some of the messages in an RPC.
func (v *voice) filtered(b []byte, kept func(int64) int64, keeps func(*pb.Message) bool) (int, error) {
	rpc := rpcwire.Decode(b)
	if rpc == nil || len(rpc.Publish) == 0 {
		return v.say(b)
	}
	before := len(rpc.Publish)
	rpc.Publish = slices.DeleteFunc(rpc.Publish, keeps)
	if before == len(rpc.Publish) {
		return v.say(b)
	}
	kept(int64(before - len(rpc.Publish)))
	if rpcwire.Empty(rpc) {
		return len(b), nil
	}
	left, err := rpcwire.Encode(rpc)
	if err != nil {
		return 0, err
	}
	if _, err = v.say(left); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close implements network.Stream.
func (v *voice) Close() error {
	v.node.voices.remove(v)
	return v.Stream.Close()
}

// Reset implements network.Stream.
func (v *voice) Reset() error {
	v.node.voices.remove(v)
	return v.Stream.Reset()
}

// voices are those of a node that are open.
type voices struct {
	mu   sync.Mutex
	list []*voice
}

func (x *voices) add(v *voice) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list = append(x.list, v)
}

func (x *voices) remove(v *voice) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.list = slices.DeleteFunc(x.list, func(o *voice) bool { return o == v })
}

func (x *voices) all() []*voice {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.list)
}

// rewritten is a stream on which a node serves its ledger.
type rewritten struct {
	network.Stream
	node *Node
}

// Write implements network.Stream.
func (s *rewritten) Write(b []byte) (int, error) {
	l := s.node.lies.Load()
	if l == nil {
		return s.Stream.Write(b)
	}
	return s.Stream.Write(l.rewritten(b))
}
