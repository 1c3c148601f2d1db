package region

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// cuts are the ways between real hosts that are cut, each direction on its own. What is sent over a way that is cut arrives when
// it is healed, as over TCP; no stream is opened while either direction is cut.
type cuts struct {
	mu      sync.Mutex
	cut     map[[2]raft.ServerID]bool
	changed chan struct{} // closed and replaced with every change
	held    int           // reads that a cut held back
}

func newCuts() *cuts {
	return &cuts{cut: make(map[[2]raft.ServerID]bool), changed: make(chan struct{})}
}

func (c *cuts) set(from, to raft.ServerID, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[[2]raft.ServerID{from, to}] = cut
	c.wake()
}

func (c *cuts) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.cut)
	c.wake()
}

// wake is called with the lock held.
func (c *cuts) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cuts) look(from, to raft.ServerID) (cut bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut[[2]raft.ServerID{from, to}], c.changed
}

// cutNetwork is a Network, such as a libp2p host's, with cuts.
type cutNetwork struct {
	Network
	cuts *cuts
}

func (n *cutNetwork) Open(ctx context.Context, to raft.ServerID) (net.Conn, error) {
	for _, way := range [][2]raft.ServerID{{n.Local(), to}, {to, n.Local()}} {
		for {
			cut, changed := n.cuts.look(way[0], way[1])
			if !cut {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	c, err := n.Network.Open(ctx, to)
	if err != nil {
		return nil, err
	}
	return n.gate(to, c), nil
}

func (n *cutNetwork) Serve(handle func(raft.ServerID, net.Conn)) (func(), error) {
	return n.Network.Serve(func(from raft.ServerID, c net.Conn) { handle(from, n.gate(from, c)) })
}

func (n *cutNetwork) gate(from raft.ServerID, c net.Conn) net.Conn {
	return &gated{Conn: c, cuts: n.cuts, from: from, to: n.Local(), closed: make(chan struct{})}
}

// gated holds back what comes in while its way is cut.
type gated struct {
	net.Conn
	cuts     *cuts
	from, to raft.ServerID
	closed   chan struct{}
	once     sync.Once
	stash    []byte // read just before the cut, or during it; of the one goroutine that reads

	mu       sync.Mutex
	deadline time.Time
}

func (g *gated) Read(b []byte) (int, error) {
	for {
		if err := g.await(); err != nil {
			return 0, err
		}
		if len(g.stash) > 0 {
			n := copy(b, g.stash)
			g.stash = g.stash[n:]
			return n, nil
		}
		n, err := g.Conn.Read(b)
		if cut, _ := g.cuts.look(g.from, g.to); cut && n > 0 && err == nil {
			g.stash = append(g.stash, b[:n]...)
			continue
		}
		return n, err
	}
}

// await returns when the way is open.
func (g *gated) await() error {
	counted := false
	for {
		cut, changed := g.cuts.look(g.from, g.to)
		if !cut {
			return nil
		}
		if !counted {
			counted = true
			g.cuts.mu.Lock()
			g.cuts.held++
			g.cuts.mu.Unlock()
		}
		g.mu.Lock()
		deadline := g.deadline
		g.mu.Unlock()
		var late <-chan time.Time
		if !deadline.IsZero() {
			late = time.After(time.Until(deadline))
		}
		select {
		case <-changed:
		case <-g.closed:
			return net.ErrClosed
		case <-late:
			return os.ErrDeadlineExceeded
		}
	}
}

func (g *gated) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Conn.Close()
}

func (g *gated) abort() {
	g.once.Do(func() { close(g.closed) })
	abort(g.Conn)
}

func (g *gated) SetReadDeadline(t time.Time) error {
	g.mu.Lock()
	g.deadline = t
	g.mu.Unlock()
	g.cuts.mu.Lock()
	g.cuts.wake()
	g.cuts.mu.Unlock()
	return g.Conn.SetReadDeadline(t)
}

func (g *gated) SetDeadline(t time.Time) error {
	return errors.Join(g.SetReadDeadline(t), g.SetWriteDeadline(t))
}
