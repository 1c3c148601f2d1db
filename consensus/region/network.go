package region

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/p2p"
)

// Network gives the transport authenticated streams: the ID of the other side is known for certain.
type Network interface {
	// Local is this node's ID.
	Local() raft.ServerID
	// Open opens a stream to a peer.
	Open(ctx context.Context, to raft.ServerID) (net.Conn, error)
	// Serve hands each stream that a peer opens to the function, whose it then is, until the function returned is called. That
	// one returns when every stream handed over is closed; the caller ends them first.
	Serve(handle func(from raft.ServerID, conn net.Conn)) (stop func(), err error)
}

// HostNetwork is the Network of a libp2p host: streams of [p2p.ProtocolRaft], opened to those only whom access lets speak it.
// IDs are peer IDs in their text form.
func HostNetwork(h host.Host, access *p2p.Access) Network { return &hostNetwork{h, access} }

type hostNetwork struct {
	host   host.Host
	access *p2p.Access
}

func (n *hostNetwork) Local() raft.ServerID { return raft.ServerID(n.host.ID().String()) }

func (n *hostNetwork) Open(ctx context.Context, to raft.ServerID) (net.Conn, error) {
	id, err := peer.Decode(string(to))
	if err != nil {
		return nil, fmt.Errorf("read peer ID %q: %w", to, err)
	}
	s, err := n.host.NewStream(ctx, id, p2p.ProtocolRaft)
	if err != nil {
		return nil, fmt.Errorf("open a Raft stream to %s: %w", to, err)
	}
	return newStreamConn(s), nil
}

func (n *hostNetwork) Serve(handle func(raft.ServerID, net.Conn)) (stop func(), err error) {
	server, err := p2p.ServeStream(n.host, n.access, p2p.ProtocolRaft,
		p2p.Limits{ConcurrentMax: remotesMax * inboundStreamsMax, PerPeerMax: inboundStreamsMax},
		func(ctx context.Context, from peer.ID, s network.Stream) error {
			c := newStreamConn(s)
			handle(raft.ServerID(from.String()), c)
			select {
			case <-ctx.Done(): // the peer may no longer speak the protocol
				c.abort()
				return ctx.Err()
			case <-c.done:
				return nil
			}
		})
	if err != nil {
		return nil, err
	}
	return func() { _ = server.Close() }, nil // never fails
}

// streamConn makes a net.Conn of a stream.
type streamConn struct {
	network.Stream
	done chan struct{} // closed with the stream
	once sync.Once
}

func newStreamConn(s network.Stream) *streamConn {
	return &streamConn{Stream: s, done: make(chan struct{})}
}

func (c *streamConn) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Stream.Close()
}

// abort ends the stream at once, without waiting for the other side.
func (c *streamConn) abort() {
	c.once.Do(func() { close(c.done) })
	_ = c.ResetWithError(network.StreamShutdown)
}

func (c *streamConn) LocalAddr() net.Addr  { return peerAddr(c.Conn().LocalPeer().String()) }
func (c *streamConn) RemoteAddr() net.Addr { return peerAddr(c.Conn().RemotePeer().String()) }

// peerAddr is a peer ID where package net wants an address.
type peerAddr string

func (peerAddr) Network() string  { return "libp2p" }
func (a peerAddr) String() string { return string(a) }

// abort ends a stream at once.
func abort(c net.Conn) {
	if a, ok := c.(interface{ abort() }); ok {
		a.abort()
		return
	}
	_ = c.Close()
}
