package p2p

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

// reach is how a keeper touches the network; a test in virtual time has its own.
type reach interface {
	self() peer.ID
	addresses() []string // of this node, for others
	connect(ctx context.Context, target peer.AddrInfo) error
	connected(p peer.ID) bool
	reachedAt(p peer.ID) []ma.Multiaddr // where this node dialled it, and where it says that it listens
	protect(p peer.ID, on bool)
	exchange(ctx context.Context, p peer.ID, request *joinRequest) (*joinResponse, error)
	ping(ctx context.Context, p peer.ID) error
	drop(p peer.ID)
}

// hostReach is a real host.
type hostReach struct{ host host.Host }

func (r hostReach) self() peer.ID { return r.host.ID() }

func (r hostReach) addresses() []string { return ownAddresses(r.host) }

func (r hostReach) reachedAt(p peer.ID) []ma.Multiaddr {
	var addrs []ma.Multiaddr
	for _, c := range r.host.Network().ConnsToPeer(p) {
		if c.Stat().Direction == network.DirOutbound {
			addrs = append(addrs, c.RemoteMultiaddr())
		}
	}
	return append(addrs, r.host.Peerstore().Addrs(p)...)
}

func (r hostReach) protect(p peer.ID, on bool) {
	if on {
		r.host.ConnManager().Protect(p, protectTag)
	} else {
		r.host.ConnManager().Unprotect(p, protectTag)
	}
}

func (r hostReach) connect(ctx context.Context, target peer.AddrInfo) error {
	clearDialBackoff(r.host, target.ID)
	if len(target.Addrs) == 0 && len(r.host.Peerstore().Addrs(target.ID)) == 0 {
		return errors.New("no address of it is known; it must dial this node, or be named with --join")
	}
	return r.host.Connect(ctx, target)
}

func (r hostReach) connected(p peer.ID) bool {
	return r.host.Network().Connectedness(p) == network.Connected
}

func (r hostReach) exchange(ctx context.Context, p peer.ID, request *joinRequest) (*joinResponse, error) {
	var response joinResponse
	if err := CallLimit(ctx, r.host, p, ProtocolJoin, JoinResponseBytesMax, request, &response); err != nil {
		return nil, err
	}
	return &response, nil
}

func (r hostReach) ping(ctx context.Context, p peer.ID) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := ping.Ping(ctx, r.host, p)
	first, ok := <-results
	if !ok {
		return ctx.Err()
	}
	cancel()
	for range results {
		continue // until the pinger has ended
	}
	return first.Error
}

func (r hostReach) drop(p peer.ID) { _ = r.host.Network().ClosePeer(p) }
