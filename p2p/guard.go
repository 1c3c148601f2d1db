package p2p

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/bizra/bizra/internal/rounds"
)

// GuardConfig configures a [Guard].
type GuardConfig struct {
	StrangersMax int           // connections of strangers at once; 64
	AdmitWithin  time.Duration // how long a stranger may stay one; 30 s
}

func (c GuardConfig) withDefaults() GuardConfig {
	if c.StrangersMax == 0 {
		c.StrangersMax = 64
	}
	if c.AdmitWithin == 0 {
		c.AdmitWithin = 30 * time.Second
	}
	return c
}

func (c GuardConfig) validate() error {
	if c.StrangersMax < 0 || c.AdmitWithin < 0 {
		return fmt.Errorf("guard: StrangersMax %d and AdmitWithin %v must not be negative", c.StrangersMax, c.AdmitWithin)
	}
	return nil
}

// Guard keeps strangers from holding a node's connections: of those that dialled in
// only so many are kept, and each only until it must have been admitted. Connections
// that this node dialled are its own business.
type Guard struct {
	host   host.Host
	access *Access
	cfg    GuardConfig
	sweeps rounds.Rounds
	wg     sync.WaitGroup // timers of connections, and those being closed
	turned atomic.Uint64
	notify *network.NotifyBundle

	mu      sync.Mutex
	closed  bool
	waiting map[network.Conn]*time.Timer // connections of strangers; each timer holds a place in wg
}

// NewGuard begins to watch the host's connections, those that are open among them.
func NewGuard(h host.Host, a *Access, cfg GuardConfig) (*Guard, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	g := &Guard{host: h, access: a, cfg: cfg, waiting: make(map[network.Conn]*time.Timer)}
	g.notify = &network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { g.consider(c) },
		DisconnectedF: func(_ network.Network, c network.Conn) { g.gone(c) },
	}
	h.Network().Notify(g.notify)
	g.sweeps.Start(0, g.sweep)
	return g, nil
}

// Closed is how many connections of strangers were closed so far.
func (g *Guard) Closed() uint64 { return g.turned.Load() }

// Strangers is how many connections of strangers are open now.
func (g *Guard) Strangers() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.release()
	return len(g.waiting)
}

// Close stops watching; open connections stay.
func (g *Guard) Close() error {
	g.host.Network().StopNotify(g.notify)
	g.sweeps.Stop()
	g.mu.Lock()
	g.closed = true
	for c, t := range g.waiting {
		g.forget(c, t)
	}
	g.mu.Unlock()
	g.wg.Wait()
	return nil
}

// forget is called under mu.
func (g *Guard) forget(c network.Conn, t *time.Timer) {
	delete(g.waiting, c)
	if t.Stop() {
		g.wg.Done()
	}
}

// sweep finds those who became strangers while they were connected.
func (g *Guard) sweep() time.Duration {
	for _, c := range g.host.Network().Conns() {
		g.consider(c)
	}
	return g.cfg.AdmitWithin
}

func (g *Guard) consider(c network.Conn) {
	if c.Stat().Direction != network.DirInbound || g.access.Role(c.RemotePeer()) != Stranger {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.waiting[c]; known || g.closed || c.IsClosed() {
		return
	}
	if len(g.waiting) >= g.cfg.StrangersMax {
		g.release()
	}
	if len(g.waiting) >= g.cfg.StrangersMax {
		g.wg.Go(func() { g.turnAway(c) }) // not here: the swarm calls this while it adds the connection
		return
	}
	g.wg.Add(1)
	g.waiting[c] = time.AfterFunc(g.cfg.AdmitWithin, func() {
		defer g.wg.Done()
		g.mu.Lock()
		delete(g.waiting, c)
		g.mu.Unlock()
		if g.access.Role(c.RemotePeer()) == Stranger {
			g.turnAway(c)
		}
	})
}

// release gives back the places of those who were admitted since; under mu.
func (g *Guard) release() {
	for c, t := range g.waiting {
		if g.access.Role(c.RemotePeer()) != Stranger {
			g.forget(c, t)
		}
	}
}

func (g *Guard) turnAway(c network.Conn) {
	g.turned.Add(1)
	_ = c.CloseWithError(network.ConnGated)
}

func (g *Guard) gone(c network.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t, ok := g.waiting[c]; ok {
		g.forget(c, t)
	}
}
