package memnet

import (
	"context"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

// swarm is a host's network.Network.
type swarm struct{ host *Host }

var _ network.Network = (*swarm)(nil)

func (s *swarm) Peerstore() peerstore.Peerstore { return s.host.store }
func (s *swarm) LocalPeer() peer.ID             { return s.host.id }

func (s *swarm) DialPeer(ctx context.Context, p peer.ID) (network.Conn, error) {
	return s.host.dial(ctx, p)
}

func (s *swarm) ClosePeer(p peer.ID) error {
	if c := s.host.connTo(p); c != nil {
		return c.Close()
	}
	return nil
}

func (s *swarm) Connectedness(p peer.ID) network.Connectedness {
	if s.host.connTo(p) != nil {
		return network.Connected
	}
	return network.NotConnected
}

func (s *swarm) Peers() []peer.ID {
	conns := s.host.connections()
	list := make([]peer.ID, len(conns))
	for i, c := range conns {
		list[i] = c.far.host.id
	}
	return list
}

func (s *swarm) Conns() []network.Conn {
	conns := s.host.connections()
	list := make([]network.Conn, len(conns))
	for i, c := range conns {
		list[i] = c
	}
	return list
}

func (s *swarm) ConnsToPeer(p peer.ID) []network.Conn {
	if c := s.host.connTo(p); c != nil {
		return []network.Conn{c}
	}
	return nil
}

func (s *swarm) Notify(f network.Notifiee) {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	s.host.notified = append(slices.Clone(s.host.notified), f)
}

func (s *swarm) StopNotify(f network.Notifiee) {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	s.host.notified = slices.DeleteFunc(slices.Clone(s.host.notified), func(x network.Notifiee) bool { return x == f })
}

func (s *swarm) CanDial(p peer.ID, _ ma.Multiaddr) bool { return s.host.net.Host(p) != nil }

// SetStreamHandler does nothing: streams always name a protocol.
func (s *swarm) SetStreamHandler(network.StreamHandler) {}

func (s *swarm) NewStream(context.Context, peer.ID) (network.Stream, error) {
	return nil, ErrNoProtocol
}

func (s *swarm) Listen(...ma.Multiaddr) error { return nil }

func (s *swarm) ListenAddresses() []ma.Multiaddr { return s.host.Addrs() }

func (s *swarm) InterfaceListenAddresses() ([]ma.Multiaddr, error) { return s.host.Addrs(), nil }

func (s *swarm) ResourceManager() network.ResourceManager { return &network.NullResourceManager{} }

func (s *swarm) Close() error { return s.host.Close() }
