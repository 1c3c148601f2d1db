package memnet

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// conn is one end of a connection.
type conn struct {
	host    *Host
	far     *conn
	latency time.Duration // from here to the other end
	dir     network.Direction
	opened  time.Time
	id      string

	mu      sync.Mutex
	closed  bool
	streams []*stream
}

var _ network.Conn = (*conn)(nil)

// join makes a connection, or finds the one that was made meanwhile.
func join(dialer, listener *Host, there, back time.Duration) (c *conn, made bool, err error) {
	first, second := dialer, listener
	if first.id > second.id {
		first, second = second, first
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	second.mu.Lock()
	defer second.mu.Unlock()
	if c := dialer.conns[listener.id]; c != nil {
		return c, false, nil
	}
	if dialer.closed || listener.closed {
		return nil, false, ErrClosed
	}
	id, now := strconv.FormatUint(dialer.net.ids.Add(1), 10), time.Now()
	near := &conn{host: dialer, latency: there, dir: network.DirOutbound, opened: now, id: id}
	far := &conn{host: listener, latency: back, dir: network.DirInbound, opened: now, id: id}
	near.far, far.far = far, near
	dialer.conns[listener.id], listener.conns[dialer.id] = near, far
	return near, true, nil
}

// announce tells this end's host of the connection.
func (c *conn) announce() {
	remote := c.far.host
	c.notify(func(f network.Notifiee) { f.Connected(&c.host.swarm, c) })
	_ = c.host.emitters.connectedness.Emit(event.EvtPeerConnectednessChanged{Peer: remote.id, Connectedness: network.Connected})
	_ = c.host.emitters.identified.Emit(event.EvtPeerIdentificationCompleted{Peer: remote.id, Conn: c, ListenAddrs: remote.Addrs(), Protocols: remote.Protocols()})
}

func (c *conn) notify(tell func(network.Notifiee)) {
	c.host.mu.RLock()
	list := c.host.notified
	c.host.mu.RUnlock()
	for _, f := range list {
		tell(f)
	}
}

// open opens a stream of the first protocol that the other end serves. Its handler
// starts when the news of the stream has arrived.
func (c *conn) open(protos []protocol.ID) (network.Stream, error) {
	for _, p := range protos {
		handle := c.far.host.handlerOf(p)
		if handle == nil {
			continue
		}
		near, far := newStreams(c, p)
		if !c.add(near) || !c.far.add(far) {
			near.end(network.ErrReset)
			return nil, network.ErrReset
		}
		c.host.net.post.call(c.latency, func() { handle(far) })
		return near, nil
	}
	return nil, ErrNoProtocol
}

func (c *conn) add(s *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.streams = append(c.streams, s)
	}
	return !c.closed
}

func (c *conn) remove(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams = slices.DeleteFunc(c.streams, func(x *stream) bool { return x == s })
}

// stirAll wakes whoever reads from this end's streams.
func (c *conn) stirAll() {
	c.mu.Lock()
	streams := slices.Clone(c.streams)
	c.mu.Unlock()
	for _, s := range streams {
		s.in.stir()
	}
}

func (c *conn) Close() error {
	if c.closeEnd() {
		c.far.closeEnd()
	}
	return nil
}

func (c *conn) CloseWithError(network.ConnErrorCode) error { return c.Close() }

// closeEnd says whether this call closed the end.
func (c *conn) closeEnd() bool {
	c.mu.Lock()
	was, streams := c.closed, slices.Clone(c.streams)
	c.closed = true
	c.mu.Unlock()
	if was {
		return false
	}
	remote := c.far.host.id
	c.host.mu.Lock()
	if c.host.conns[remote] == c {
		delete(c.host.conns, remote)
	}
	c.host.mu.Unlock()
	for _, s := range streams {
		s.end(network.ErrReset)
	}
	c.notify(func(f network.Notifiee) { f.Disconnected(&c.host.swarm, c) })
	_ = c.host.emitters.connectedness.Emit(event.EvtPeerConnectednessChanged{Peer: remote, Connectedness: network.NotConnected})
	return true
}

func (c *conn) ID() string                     { return c.id }
func (c *conn) LocalPeer() peer.ID             { return c.host.id }
func (c *conn) RemotePeer() peer.ID            { return c.far.host.id }
func (c *conn) RemotePublicKey() crypto.PubKey { return c.host.store.PubKey(c.far.host.id) }
func (c *conn) LocalMultiaddr() ma.Multiaddr   { return c.host.address }
func (c *conn) RemoteMultiaddr() ma.Multiaddr  { return c.far.host.address }
func (c *conn) Scope() network.ConnScope       { return &network.NullScope{} }
func (c *conn) As(any) bool                    { return false }

func (c *conn) ConnState() network.ConnectionState {
	return network.ConnectionState{Transport: "memnet"}
}

func (c *conn) NewStream(context.Context) (network.Stream, error) { return nil, ErrNoProtocol }

func (c *conn) IsClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *conn) Stat() network.ConnStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return network.ConnStats{Stats: network.Stats{Direction: c.dir, Opened: c.opened}, NumStreams: len(c.streams)}
}

func (c *conn) GetStreams() []network.Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]network.Stream, len(c.streams))
	for i, s := range c.streams {
		list[i] = s
	}
	return list
}
