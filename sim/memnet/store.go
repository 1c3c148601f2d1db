package memnet

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	pstore "github.com/libp2p/go-libp2p/p2p/host/peerstore"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	ma "github.com/multiformats/go-multiaddr"
)

// store is libp2p's own peerstore in memory, but for the books of addresses and protocols:
// the one runs a goroutine to let addresses expire, the other takes 20 KiB while it is
// empty, and the network knows both.
type store struct {
	peerstore.KeyBook
	peerstore.PeerMetadata
	peerstore.Metrics
	addresses
	protocols
}

var _ peerstore.Peerstore = (*store)(nil)

func newStore(n *Network, self peer.ID, key crypto.PrivKey) (*store, error) {
	s := &store{pstoremem.NewKeyBook(), pstoremem.NewPeerMetadata(), pstore.NewMetrics(), addresses{n}, protocols{n}}
	return s, s.AddPrivKey(self, key)
}

func (s *store) Close() error { return nil }

func (s *store) PeerInfo(p peer.ID) peer.AddrInfo { return peer.AddrInfo{ID: p, Addrs: s.Addrs(p)} }

func (s *store) Peers() peer.IDSlice { return s.PeersWithAddrs() }

func (s *store) RemovePeer(p peer.ID) {
	s.KeyBook.RemovePeer(p)
	s.PeerMetadata.RemovePeer(p)
	s.Metrics.RemovePeer(p)
}

// addresses is an address book that knows where every host of the network is.
type addresses struct{ net *Network }

func (a addresses) Addrs(p peer.ID) []ma.Multiaddr {
	if h := a.net.Host(p); h != nil {
		return h.Addrs()
	}
	return nil
}

func (a addresses) AddrStream(_ context.Context, p peer.ID) <-chan ma.Multiaddr {
	list := a.Addrs(p)
	ch := make(chan ma.Multiaddr, len(list))
	for _, m := range list {
		ch <- m
	}
	close(ch)
	return ch
}

func (a addresses) PeersWithAddrs() peer.IDSlice {
	a.net.mu.RLock()
	defer a.net.mu.RUnlock()
	list := make(peer.IDSlice, 0, len(a.net.hosts))
	for id := range a.net.hosts {
		list = append(list, id)
	}
	return list
}

// What others say of addresses is not needed.
func (addresses) AddAddr(peer.ID, ma.Multiaddr, time.Duration)      {}
func (addresses) AddAddrs(peer.ID, []ma.Multiaddr, time.Duration)   {}
func (addresses) SetAddr(peer.ID, ma.Multiaddr, time.Duration)      {}
func (addresses) SetAddrs(peer.ID, []ma.Multiaddr, time.Duration)   {}
func (addresses) UpdateAddrs(peer.ID, time.Duration, time.Duration) {}
func (addresses) ClearAddrs(peer.ID)                                {}

// protocols is a protocol book that knows what every host of the network serves now.
type protocols struct{ net *Network }

func (b protocols) GetProtocols(p peer.ID) ([]protocol.ID, error) {
	if h := b.net.Host(p); h != nil {
		return h.Protocols(), nil
	}
	return nil, nil
}

func (b protocols) SupportsProtocols(p peer.ID, wanted ...protocol.ID) ([]protocol.ID, error) {
	served, err := b.GetProtocols(p)
	return slices.DeleteFunc(slices.Clone(wanted), func(w protocol.ID) bool { return !slices.Contains(served, w) }), err
}

func (b protocols) FirstSupportedProtocol(p peer.ID, wanted ...protocol.ID) (protocol.ID, error) {
	supported, err := b.SupportsProtocols(p, wanted...)
	if err != nil || len(supported) == 0 {
		return "", err
	}
	return supported[0], nil
}

// What others say of protocols is not needed either.
func (protocols) AddProtocols(peer.ID, ...protocol.ID) error    { return nil }
func (protocols) SetProtocols(peer.ID, ...protocol.ID) error    { return nil }
func (protocols) RemoveProtocols(peer.ID, ...protocol.ID) error { return nil }
