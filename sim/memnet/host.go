package memnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
)

// Host is one peer of a [Network].
type Host struct {
	net      *Network
	id       peer.ID
	address  ma.Multiaddr
	store    *store
	bus      event.Bus
	emitters emitters
	swarm    swarm

	mu       sync.RWMutex
	closed   bool
	conns    map[peer.ID]*conn
	handlers []handler // in the order of being set; few
	notified []network.Notifiee
}

var _ host.Host = (*Host)(nil)

type handler struct {
	proto  protocol.ID
	match  func(protocol.ID) bool // nil: proto alone
	handle network.StreamHandler
}

type emitters struct{ connectedness, identified, protocols event.Emitter }

// Address is that of the host which a network makes after so many others.
func Address(index int) string {
	return fmt.Sprintf("/ip4/10.%d.%d.%d/udp/4001/quic-v1", index>>16&255, index>>8&255, index&255)
}

func newHost(n *Network, id peer.ID, key crypto.PrivKey, index int) (*Host, error) {
	address, err := ma.NewMultiaddr(Address(index))
	if err != nil {
		return nil, err
	}
	s, err := newStore(n, id, key)
	if err != nil {
		return nil, err
	}
	h := &Host{net: n, id: id, address: address, store: s, bus: eventbus.NewBus(), conns: make(map[peer.ID]*conn)}
	h.swarm = swarm{h}
	for _, e := range []struct {
		emitter *event.Emitter
		typ     any
	}{{&h.emitters.connectedness, new(event.EvtPeerConnectednessChanged)}, {&h.emitters.identified, new(event.EvtPeerIdentificationCompleted)},
		{&h.emitters.protocols, new(event.EvtPeerProtocolsUpdated)}} {
		if *e.emitter, err = h.bus.Emitter(e.typ); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// ID is the peer that the host is.
func (h *Host) ID() peer.ID { return h.id }

// Peerstore holds the keys and latencies of peers; addresses and protocols are the network's.
func (h *Host) Peerstore() peerstore.Peerstore { return h.store }

// Addrs is the one address of the host.
func (h *Host) Addrs() []ma.Multiaddr { return []ma.Multiaddr{h.address} }

// Network is the host's side of the network.
func (h *Host) Network() network.Network { return &h.swarm }

// Mux is nil: streams name their protocol when they are opened, nothing is negotiated.
func (h *Host) Mux() protocol.Switch { return nil }

// ConnManager closes nothing.
func (h *Host) ConnManager() connmgr.ConnManager { return connmgr.NullConnMgr{} }

// EventBus tells of peers that connect, were identified, serve other protocols.
func (h *Host) EventBus() event.Bus { return h.bus }

// SetStreamHandler serves a protocol; connected peers learn of it one latency later.
func (h *Host) SetStreamHandler(p protocol.ID, f network.StreamHandler) {
	h.setHandler(handler{proto: p, handle: f})
}

// SetStreamHandlerMatch serves the protocols that match accepts.
func (h *Host) SetStreamHandlerMatch(p protocol.ID, match func(protocol.ID) bool, f network.StreamHandler) {
	h.setHandler(handler{proto: p, match: match, handle: f})
}

func (h *Host) setHandler(set handler) {
	h.mu.Lock()
	h.handlers = slices.DeleteFunc(slices.Clone(h.handlers), func(x handler) bool { return x.proto == set.proto })
	h.handlers = append(h.handlers, set)
	h.mu.Unlock()
	h.tellProtocols(event.EvtPeerProtocolsUpdated{Peer: h.id, Added: []protocol.ID{set.proto}})
}

// RemoveStreamHandler stops serving a protocol.
func (h *Host) RemoveStreamHandler(p protocol.ID) {
	h.mu.Lock()
	h.handlers = slices.DeleteFunc(slices.Clone(h.handlers), func(x handler) bool { return x.proto == p })
	h.mu.Unlock()
	h.tellProtocols(event.EvtPeerProtocolsUpdated{Peer: h.id, Removed: []protocol.ID{p}})
}

func (h *Host) tellProtocols(e event.EvtPeerProtocolsUpdated) {
	for _, c := range h.connections() {
		h.net.post.call(c.latency, func() {
			if c.far.host.connTo(h.id) != nil {
				_ = c.far.host.emitters.protocols.Emit(e)
			}
		})
	}
}

func (h *Host) handlerOf(p protocol.ID) network.StreamHandler {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, x := range h.handlers {
		if x.match == nil && x.proto == p || x.match != nil && x.match(p) {
			return x.handle
		}
	}
	return nil
}

// Protocols are those that the host serves.
func (h *Host) Protocols() []protocol.ID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	list := make([]protocol.ID, len(h.handlers))
	for i, x := range h.handlers {
		list[i] = x.proto
	}
	return list
}

func (h *Host) connTo(p peer.ID) *conn {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.conns[p]
}

func (h *Host) connections() []*conn {
	h.mu.RLock()
	defer h.mu.RUnlock()
	list := make([]*conn, 0, len(h.conns))
	for _, c := range h.conns {
		list = append(list, c)
	}
	return list
}

// Connect connects to a peer unless that is done already; it takes one round trip.
func (h *Host) Connect(ctx context.Context, to peer.AddrInfo) error {
	_, err := h.dial(ctx, to.ID)
	return err
}

func (h *Host) dial(ctx context.Context, to peer.ID) (*conn, error) {
	if c := h.connTo(to); c != nil {
		return c, nil
	}
	if to == h.id {
		return nil, errors.New("memnet: dial to self attempted")
	}
	far := h.net.Host(to)
	if far == nil {
		return nil, fmt.Errorf("%w: %v", ErrNoPeer, to)
	}
	there, back := h.net.cfg.Latency(h.id, to), h.net.cfg.Latency(to, h.id)
	trip := time.NewTimer(there + back)
	defer trip.Stop()
	select {
	case <-trip.C:
	case <-ctx.Done():
		return nil, fmt.Errorf("memnet: dial %v: %w", to, ctx.Err())
	}
	if !h.net.reachable(h.id, to) {
		return nil, fmt.Errorf("%w: %v", ErrUnreachable, to)
	}
	c, made, err := join(h, far, there, back)
	if err != nil || !made {
		return c, err
	}
	h.store.RecordLatency(to, there+back)
	far.store.RecordLatency(h.id, there+back)
	c.announce()
	c.far.announce()
	return c, nil
}

// NewStream opens a stream of the first protocol that the peer serves, and connects first if need be.
func (h *Host) NewStream(ctx context.Context, p peer.ID, protos ...protocol.ID) (network.Stream, error) {
	c := h.connTo(p)
	if c == nil {
		if no, _ := network.GetNoDial(ctx); no {
			return nil, network.ErrNoConn
		}
		var err error
		if c, err = h.dial(ctx, p); err != nil {
			return nil, err
		}
	}
	return c.open(protos)
}

// Close ends the host's connections and takes it off the network.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.net.forget(h.id)
	for _, c := range h.connections() {
		_ = c.Close()
	}
	return nil
}
