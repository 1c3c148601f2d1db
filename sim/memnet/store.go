package memnet

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	pstore "github.com/libp2p/go-libp2p/p2p/host/peerstore"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	ma "github.com/multiformats/go-multiaddr"
)

// store is libp2p's own peerstore in memory, but for its book of addresses: that one
// runs a goroutine to let addresses expire, and here an address never changes.
type store struct {
	peerstore.KeyBook
	peerstore.PeerMetadata
	peerstore.ProtoBook
	peerstore.Metrics
	addresses
}

var _ peerstore.Peerstore = (*store)(nil)

func newStore(n *Network, self peer.ID, key crypto.PrivKey) (*store, error) {
	protos, err := pstoremem.NewProtoBook()
	if err != nil {
		return nil, err
	}
	s := &store{pstoremem.NewKeyBook(), pstoremem.NewPeerMetadata(), protos, pstore.NewMetrics(), addresses{n}}
	return s, s.AddPrivKey(self, key)
}

func (s *store) Close() error { return nil }

func (s *store) PeerInfo(p peer.ID) peer.AddrInfo { return peer.AddrInfo{ID: p, Addrs: s.Addrs(p)} }

func (s *store) Peers() peer.IDSlice { return s.PeersWithAddrs() }

func (s *store) RemovePeer(p peer.ID) {
	s.KeyBook.RemovePeer(p)
	s.PeerMetadata.RemovePeer(p)
	s.ProtoBook.RemovePeer(p)
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
