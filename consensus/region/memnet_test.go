package region

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// memNet is a network in memory: streams with latency, one-way cuts, and no loss while both ends live, like TCP's. It runs in
// virtual time inside a synctest bubble.
type memNet struct {
	latency time.Duration
	resets  bool // a cut ends the streams that it meets and refuses new ones at once, instead of holding back

	mu      sync.Mutex
	serving map[raft.ServerID]func(raft.ServerID, net.Conn)
	cut     map[[2]raft.ServerID]bool
	pipes   map[*memPipe]bool
	changed chan struct{} // closed and replaced with every change of the cuts
	held    int           // writes that a cut held back
}

func newMemNet(latency time.Duration) *memNet {
	return &memNet{latency: latency, serving: make(map[raft.ServerID]func(raft.ServerID, net.Conn)), cut: make(map[[2]raft.ServerID]bool),
		pipes: make(map[*memPipe]bool), changed: make(chan struct{})}
}

func (n *memNet) isCut(from, to raft.ServerID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[[2]raft.ServerID{from, to}]
}

// reachable says whether both ways are open.
func (n *memNet) reachable(a, b raft.ServerID) bool { return !n.isCut(a, b) && !n.isCut(b, a) }

// setCut cuts or heals one way.
func (n *memNet) setCut(from, to raft.ServerID, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cut {
		n.cut[[2]raft.ServerID{from, to}] = true
		for p := range n.pipes {
			if n.resets && (p.from == from && p.to == to || p.from == to && p.to == from) {
				p.kill()
			}
		}
	} else {
		delete(n.cut, [2]raft.ServerID{from, to})
	}
	n.notify()
}

func (n *memNet) notify() {
	close(n.changed)
	n.changed = make(chan struct{})
	for p := range n.pipes {
		p.wake()
	}
}

// isolate cuts or heals both ways between one node and the others.
func (n *memNet) isolate(id raft.ServerID, others []raft.ServerID, cut bool) {
	for _, o := range others {
		if o != id {
			n.setCut(id, o, cut)
			n.setCut(o, id, cut)
		}
	}
}

// heal ends all cuts.
func (n *memNet) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	n.notify()
}

type memNode struct {
	net *memNet
	id  raft.ServerID
}

func (m *memNode) Local() raft.ServerID { return m.id }

func (m *memNode) Open(ctx context.Context, to raft.ServerID) (net.Conn, error) {
	for {
		m.net.mu.Lock()
		handle, changed, resets := m.net.serving[to], m.net.changed, m.net.resets
		open := !m.net.cut[[2]raft.ServerID{m.id, to}] && !m.net.cut[[2]raft.ServerID{to, m.id}]
		m.net.mu.Unlock()
		if open {
			if handle == nil {
				return nil, errors.New("nobody listens there")
			}
			there, back := m.net.pipe(m.id, to), m.net.pipe(to, m.id)
			far := &memConn{read: there, write: back}
			near := &memConn{read: back, write: there}
			go handle(m.id, far)
			return near, nil
		}
		if resets {
			return nil, errors.New("no route")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (m *memNode) Serve(handle func(raft.ServerID, net.Conn)) (func(), error) {
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	m.net.serving[m.id] = handle
	return func() {
		m.net.mu.Lock()
		defer m.net.mu.Unlock()
		delete(m.net.serving, m.id)
	}, nil
}

// memPipe is one direction of a stream.
type memPipe struct {
	net      *memNet
	from, to raft.ServerID
	woken    chan struct{}

	mu       sync.Mutex
	segments []segment
	closed   bool // by the writer: what was written still arrives
	dead     bool // by the reader or an abort
	deadline time.Time
}

type segment struct {
	data []byte
	at   time.Time
}

func (n *memNet) pipe(from, to raft.ServerID) *memPipe {
	p := &memPipe{net: n, from: from, to: to, woken: make(chan struct{}, 1)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pipes[p] = true
	return p
}

func (p *memPipe) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

func (p *memPipe) kill() {
	p.mu.Lock()
	p.closed, p.dead = true, true
	p.mu.Unlock()
	p.wake()
}

func (p *memPipe) write(b []byte) (int, error) {
	cut := p.net.isCut(p.from, p.to)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.dead {
		return 0, io.ErrClosedPipe
	}
	if cut {
		p.net.mu.Lock()
		p.net.held++
		p.net.mu.Unlock()
	}
	p.segments = append(p.segments, segment{append([]byte(nil), b...), time.Now().Add(p.net.latency)})
	p.wake()
	return len(b), nil
}

func (p *memPipe) read(b []byte) (int, error) {
	for {
		n, wait, err := p.tryRead(b)
		if n > 0 || err != nil {
			return n, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-p.woken:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (p *memPipe) tryRead(b []byte) (n int, wait time.Duration, err error) {
	cut := p.net.isCut(p.from, p.to)
	p.mu.Lock()
	defer p.mu.Unlock()
	wait = time.Hour
	now := time.Now()
	if p.dead {
		return 0, 0, io.ErrClosedPipe
	}
	if !p.deadline.IsZero() {
		if !now.Before(p.deadline) {
			return 0, 0, os.ErrDeadlineExceeded
		}
		wait = p.deadline.Sub(now)
	}
	switch {
	case cut:
	case len(p.segments) == 0 && p.closed:
		return 0, 0, io.EOF
	case len(p.segments) > 0 && !now.Before(p.segments[0].at):
		n = copy(b, p.segments[0].data)
		if p.segments[0].data = p.segments[0].data[n:]; len(p.segments[0].data) == 0 {
			p.segments = p.segments[1:]
		}
		return n, 0, nil
	case len(p.segments) > 0:
		wait = min(wait, p.segments[0].at.Sub(now))
	}
	return 0, wait, nil
}

func (p *memPipe) end(dead bool) {
	p.mu.Lock()
	p.closed, p.dead = true, p.dead || dead
	p.mu.Unlock()
	p.net.mu.Lock()
	delete(p.net.pipes, p)
	if !dead {
		p.net.pipes[p] = true // what was written may still have to wait for a cut to heal
	}
	p.net.mu.Unlock()
	p.wake()
}

type memConn struct{ read, write *memPipe }

func (c *memConn) Read(b []byte) (int, error)  { return c.read.read(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.write.write(b) }

func (c *memConn) Close() error {
	c.write.end(false)
	c.read.end(true)
	return nil
}

func (c *memConn) abort() {
	c.write.end(true)
	c.read.end(true)
}

func (c *memConn) LocalAddr() net.Addr  { return peerAddr(c.write.from) }
func (c *memConn) RemoteAddr() net.Addr { return peerAddr(c.write.to) }

func (c *memConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	c.read.deadline = t
	c.read.wake()
	return nil
}

func (c *memConn) SetWriteDeadline(time.Time) error { return nil } // a write never waits
