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
	cfg Config
	ids atomic.Uint64 // of connections and streams

	mu      sync.RWMutex
	hosts   map[peer.ID]*Host
	cuts    map[way]bool
	anyCuts atomic.Bool // of cuts, so that a network that is whole need not lock
}

type way struct{ from, to peer.ID }

// New makes a network without hosts.
func New(cfg Config) (*Network, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Network{cfg: cfg, hosts: make(map[peer.ID]*Host), cuts: make(map[way]bool)}, nil
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

func (n *Network) isCut(from, to peer.ID) bool {
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
