package region

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// remote is one peer: a NetworkTransport over streams of that peer only.
type remote struct {
	id    raft.ServerID
	layer *streamLayer
	trans *raft.NetworkTransport
	done  chan struct{} // closed by close
	once  sync.Once
}

func newRemote(t *Transport, id raft.ServerID) *remote {
	layer := &streamLayer{ctx: t.ctx, network: t.cfg.Network, peer: id, timeout: t.cfg.RPCTimeout,
		offered: make(chan *conn), closed: make(chan struct{}), conns: make(map[*conn]struct{})}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: connPoolMax, Timeout: t.cfg.RPCTimeout, Logger: newRaftLogger(t.cfg.Logger.With("peer", string(id)))})
	trans.TimeoutScale = snapshotBytesPerTimeout
	return &remote{id: id, layer: layer, trans: trans, done: make(chan struct{})}
}

// close ends the peer's streams and waits for what handles the incoming ones.
func (r *remote) close() {
	r.once.Do(func() {
		close(r.done)
		r.trans.CloseStreams()
		_ = r.trans.Close() // closes the layer; never fails
	})
	r.layer.handlers.Wait()
}

// streamLayer is raft's listener and dialler for one peer.
type streamLayer struct {
	ctx       context.Context
	network   Network
	peer      raft.ServerID
	timeout   time.Duration
	offered   chan *conn
	closed    chan struct{}
	receiving atomic.Int32 // snapshots whose bodies are being read

	handlers sync.WaitGroup // of incoming streams, from Accept to their Close

	mu      sync.Mutex // guards what follows
	conns   map[*conn]struct{}
	inbound int
	ended   bool
}

// offer hands an incoming stream to Accept, or says why not.
func (l *streamLayer) offer(c net.Conn) error {
	wrapped, err := l.track(c, true)
	if err != nil {
		return err
	}
	select {
	case l.offered <- wrapped:
		return nil
	case <-l.closed:
		_ = wrapped.Close()
		return net.ErrClosed
	}
}

func (l *streamLayer) track(c net.Conn, inbound bool) (*conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil, net.ErrClosed
	}
	if inbound && l.inbound >= inboundStreamsMax {
		return nil, fmt.Errorf("more than %d streams at once", inboundStreamsMax)
	}
	wrapped := &conn{Conn: c, layer: l, inbound: inbound}
	l.conns[wrapped] = struct{}{}
	if inbound {
		l.inbound++
		l.handlers.Add(1)
	}
	return wrapped, nil
}

// Accept implements net.Listener.
func (l *streamLayer) Accept() (net.Conn, error) {
	select {
	case c := <-l.offered:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer. The address is the peer's ID, as everywhere here.
func (l *streamLayer) Dial(_ raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	c, err := l.network.Open(ctx, l.peer)
	if err != nil {
		return nil, err
	}
	wrapped, err := l.track(c, false)
	if err != nil {
		abort(c)
		return nil, err
	}
	return wrapped, nil
}

// Close implements net.Listener and ends every stream of the peer.
func (l *streamLayer) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		close(l.closed)
	}
	for c := range l.conns {
		abort(c.Conn)
	}
	return nil
}

// dropInbound ends the streams that the peer opened.
func (l *streamLayer) dropInbound() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if c.inbound {
			abort(c.Conn)
		}
	}
}

// Addr implements net.Listener.
func (l *streamLayer) Addr() net.Addr { return peerAddr(l.network.Local()) }

// errUnanswered ends a stream whose peer sends without waiting for answers.
var errUnanswered = errors.New("too many bytes of unanswered Raft requests")

// conn bounds what a peer may send before it is answered, and how long a snapshot's body may stall: Raft reads it on its main
// thread and sets no deadline.
type conn struct {
	net.Conn
	layer      *streamLayer
	inbound    bool
	unanswered atomic.Int64
	bounded    atomic.Bool // a read deadline is set
	once       sync.Once
}

func (c *conn) Read(b []byte) (int, error) {
	if !c.inbound {
		return c.Conn.Read(b)
	}
	switch receiving := c.layer.receiving.Load() > 0; {
	case receiving:
		c.bounded.Store(true)
		if err := c.SetReadDeadline(time.Now().Add(c.layer.timeout)); err != nil {
			return 0, err
		}
	case c.bounded.Swap(false):
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			return 0, err
		}
		fallthrough
	default:
		if c.unanswered.Load() > rpcBytesMax {
			return 0, errUnanswered
		}
	}
	n, err := c.Conn.Read(b)
	c.unanswered.Add(int64(n))
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	c.unanswered.Store(0)
	return c.Conn.Write(b)
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.layer.mu.Lock()
		delete(c.layer.conns, c)
		if c.inbound {
			c.layer.inbound--
		}
		c.layer.mu.Unlock()
		if c.inbound {
			c.layer.handlers.Done()
		}
	})
	return err
}
