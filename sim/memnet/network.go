package memnet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// windowBytesDefault is what yamux grows a stream's window to.
const windowBytesDefault = 16 << 20

var (
	// ErrNoPeer is returned when a peer is dialled that has no host here.
	ErrNoPeer = errors.New("memnet: no such host")
	// ErrUnreachable is returned when a peer is dialled across a cut.
	ErrUnreachable = errors.New("memnet: the peer cannot be reached")
	// ErrNoProtocol is returned when the other side serves none of the protocols asked for.
	ErrNoProtocol = errors.New("memnet: the peer serves none of these protocols")
	// ErrClosed is returned by a host that was closed.
	ErrClosed = errors.New("memnet: host is closed")
)

// Config configures a [Network].
type Config struct {
	// Latency is the time that bytes take one way; it is asked once for each end of a connection.
	Latency func(from, to peer.ID) time.Duration
	// WindowBytes is how much a stream holds unread before its writer waits; 16 MiB.
	WindowBytes int
	// Tap, if set, is shown every write before it is under way. It must not keep or change data.
	Tap func(from, to peer.ID, proto protocol.ID, data []byte)
}

func (c Config) withDefaults() Config {
	if c.WindowBytes == 0 {
		c.WindowBytes = windowBytesDefault
	}
	if c.Tap == nil {
		c.Tap = func(peer.ID, peer.ID, protocol.ID, []byte) {}
	}
	return c
}

func (c Config) validate() error {
	if c.Latency == nil {
		return errors.New("memnet: Latency is nil: it must give the one-way latency between two hosts")
	}
	if c.WindowBytes < 1 {
		return fmt.Errorf("memnet: WindowBytes is %d, want 1 or more", c.WindowBytes)
	}
	return nil
}

// Network connects the hosts made by it. Safe for concurrent use.
type Network struct {
	cfg  Config
	ids  atomic.Uint64 // of connections and streams
	post *post

	mu      sync.RWMutex
	hosts   map[peer.ID]*Host
	cuts    map[way]bool
	anyCuts atomic.Bool // of cuts, so that a network that is whole need not lock

	parted  atomic.Pointer[func(from, to peer.ID) bool]
	weather atomic.Pointer[func(from, to peer.ID, proto protocol.ID, latency time.Duration) Fate]
}

// Fate is what becomes of one write on its way.
type Fate struct {
	Late  time.Duration // beside the latency; what follows on the stream waits behind it
	Twice bool          // it arrives a second time
	Swap  bool          // it overtakes the write before it, if that is still under way
}

type way struct{ from, to peer.ID }

// New makes a network without hosts.
func New(cfg Config) (*Network, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Network{cfg: cfg, post: newPost(), hosts: make(map[peer.ID]*Host), cuts: make(map[way]bool)}, nil
}

// NewHost adds the host of a key.
func (n *Network) NewHost(key crypto.PrivKey) (*Host, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("memnet: new host: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[id] != nil {
		return nil, fmt.Errorf("memnet: new host: %v is there already", id)
	}
	h, err := newHost(n, id, key, len(n.hosts))
	if err != nil {
		return nil, fmt.Errorf("memnet: new host: %w", err)
	}
	n.hosts[id] = h
	return h, nil
}

// Host gives the host of a peer, nil if there is none.
func (n *Network) Host(id peer.ID) *Host {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.hosts[id]
}

func (n *Network) forget(id peer.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.hosts, id)
}

// Cut cuts or heals one way between two hosts. Across a cut nobody can dial, and bytes
// that were or are written wait until it heals, as those of a connection that retransmits.
func (n *Network) Cut(from, to peer.ID, cut bool) {
	n.mu.Lock()
	if cut {
		n.cuts[way{from, to}] = true
	} else {
		delete(n.cuts, way{from, to})
	}
	n.anyCuts.Store(len(n.cuts) > 0)
	receiver := n.hosts[to]
	n.mu.Unlock()
	if receiver == nil {
		return
	}
	if c := receiver.connTo(from); c != nil {
		c.stirAll()
	}
}

// Part cuts every way of which a function says so, beside those that [Network.Cut] has cut, and heals
// those that the function before it did; nil: none. It is asked often, from many goroutines.
func (n *Network) Part(parted func(from, to peer.ID) bool) {
	was := n.parted.Load()
	if parted == nil {
		n.parted.Store(nil)
		parted = func(peer.ID, peer.ID) bool { return false }
	} else {
		n.parted.Store(&parted)
	}
	if was == nil {
		return
	}
	n.mu.RLock()
	hosts := slices.Collect(maps.Values(n.hosts))
	n.mu.RUnlock()
	for _, h := range hosts {
		for _, c := range h.connections() {
			if from := c.far.host.id; (*was)(from, h.id) && !parted(from, h.id) {
				c.stirAll()
			}
		}
	}
}

// Weather asks a function what becomes of each write; nil: nothing befalls any. Writes are what
// programs wrote at once, so where they write whole messages, Twice and Swap are of messages.
func (n *Network) Weather(fate func(from, to peer.ID, proto protocol.ID, latency time.Duration) Fate) {
	if fate == nil {
		n.weather.Store(nil)
		return
	}
	n.weather.Store(&fate)
}

func (n *Network) fate(p *pipe) Fate {
	if f := n.weather.Load(); f != nil {
		return (*f)(p.conn.host.id, p.conn.far.host.id, p.proto, p.conn.latency)
	}
	return Fate{}
}

func (n *Network) isCut(from, to peer.ID) bool {
	if f := n.parted.Load(); f != nil && (*f)(from, to) {
		return true
	}
	if !n.anyCuts.Load() {
		return false
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.cuts[way{from, to}]
}

func (n *Network) reachable(a, b peer.ID) bool { return !n.isCut(a, b) && !n.isCut(b, a) }

// Disconnect ends the connection between two hosts at both ends at once, if there is one.
func (n *Network) Disconnect(a, b peer.ID) {
	if h := n.Host(a); h != nil {
		if c := h.connTo(b); c != nil {
			_ = c.Close()
		}
	}
}

// QueueBytes is how much the fullest stream holds that was not read yet.
func (n *Network) QueueBytes() (most int) {
	n.mu.RLock()
	hosts := slices.Collect(maps.Values(n.hosts))
	n.mu.RUnlock()
	for _, h := range hosts {
		for _, c := range h.connections() {
			c.mu.Lock()
			streams := slices.Clone(c.streams)
			c.mu.Unlock()
			for _, s := range streams {
				most = max(most, s.in.held())
			}
		}
	}
	return most
}

// QueueBytesMax is what a stream holds at most.
func (n *Network) QueueBytesMax() int { return n.cfg.WindowBytes }
