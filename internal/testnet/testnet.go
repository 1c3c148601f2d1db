// Package testnet puts a federation's nodes on a network in memory, for tests in virtual
// time: hosts and access rules of voters and members of every region, and their links.
// It is imported by tests alone.
package testnet

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
	"github.com/bizra/bizra/sim/memnet"
)

// Latencies of links inside a region and between regions.
const (
	Near = time.Millisecond
	Far  = 50 * time.Millisecond
)

// Net is a federation on a network.
type Net struct {
	Fed   *testfed.Federation
	Net   *memnet.Network
	Nodes map[string][]*Node // by region, voters first
	// Tap, if set, is shown what is written.
	Tap func(from, to peer.ID, proto protocol.ID, data []byte)

	regions map[peer.ID]string
}

// Node is one node.
type Node struct {
	Region string
	Index  int // among its region's nodes
	Voter  bool
	Host   *memnet.Host
	Access *p2p.Access
}

// New makes a federation of the regions a, b, c, … with so many voters and members each.
// It panics where a test asks for what cannot be.
func New(regions, voters, members int) *Net {
	n := &Net{Fed: testfed.New(regions, voters), Nodes: make(map[string][]*Node), regions: make(map[peer.ID]string)}
	var err error
	n.Net, err = memnet.New(memnet.Config{Latency: n.latency, Tap: func(from, to peer.ID, proto protocol.ID, data []byte) {
		if n.Tap != nil {
			n.Tap(from, to, proto, data)
		}
	}})
	must(err)
	for _, r := range n.Fed.Document.Regions {
		keys := append([]*pci.PrivateKey(nil), n.Fed.Nodes[r.Name]...)
		for i := range members {
			keys = append(keys, testfed.Key(fmt.Sprintf("%s-member-%d", r.Name, i)))
		}
		for i, k := range keys {
			n.Nodes[r.Name] = append(n.Nodes[r.Name], &Node{Region: r.Name, Index: i, Voter: i < voters, Host: n.NewHost(r.Name, k)})
		}
		ids := IDs(n.Nodes[r.Name])
		n.SetRaft(r.Name, func() p2p.RaftPeers { return p2p.NewRaftPeers(ids[:voters], ids[voters:]) })
	}
	return n
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("testnet: %v", err))
	}
}

// IDs are the peers that nodes are.
func IDs(nodes []*Node) []peer.ID {
	ids := make([]peer.ID, len(nodes))
	for i, n := range nodes {
		ids[i] = n.Host.ID()
	}
	return ids
}

// NewHost adds a host; latencies count it to the region.
func (n *Net) NewHost(region string, key *pci.PrivateKey) *memnet.Host {
	seed := key.Seed()
	private, _, err := crypto.GenerateEd25519Key(strings.NewReader(string(seed[:])))
	must(err)
	h, err := n.Net.NewHost(private)
	must(err)
	n.regions[h.ID()] = region
	return h
}

// SetRaft gives a region's nodes access rules that go by this Raft configuration.
func (n *Net) SetRaft(region string, raft func() p2p.RaftPeers) {
	for _, x := range n.Nodes[region] {
		access, err := p2p.NewAccess(p2p.AccessConfig{Region: region, Logger: Quiet(), Raft: func() (p2p.RaftPeers, bool) { return raft(), true }})
		must(err)
		must(access.SetDocument(n.Fed.Document))
		x.Access = access
	}
}

// RegionOf is the region of a host.
func (n *Net) RegionOf(id peer.ID) string { return n.regions[id] }

func (n *Net) latency(a, b peer.ID) time.Duration {
	if n.regions[a] == n.regions[b] {
		return Near
	}
	return Far
}

// Connect connects two nodes.
func (n *Net) Connect(a, b *Node) {
	must(a.Host.Connect(context.Background(), peer.AddrInfo{ID: b.Host.ID()}))
}

// ConnectAll connects each region's nodes with each other, and each region's first voter
// with two nodes of each other region. Nodes in leaveOut stay alone.
func (n *Net) ConnectAll(leaveOut ...*Node) {
	out := make(map[*Node]bool)
	for _, x := range leaveOut {
		out[x] = true
	}
	connect := func(a, b *Node) {
		if !out[a] && !out[b] {
			n.Connect(a, b)
		}
	}
	for _, nodes := range n.Nodes {
		for i, a := range nodes {
			for _, b := range nodes[:i] {
				connect(a, b)
			}
		}
		for region, others := range n.Nodes {
			if region != nodes[0].Region {
				connect(nodes[0], others[1])
				connect(nodes[0], others[2])
			}
		}
	}
}

// CutOff cuts or heals all links between a region and the others; hangUp ends their connections too.
func (n *Net) CutOff(region string, cut, hangUp bool) {
	for _, a := range n.Nodes[region] {
		for other, nodes := range n.Nodes {
			if other == region {
				continue
			}
			for _, b := range nodes {
				n.Net.Cut(a.Host.ID(), b.Host.ID(), cut)
				n.Net.Cut(b.Host.ID(), a.Host.ID(), cut)
				if hangUp {
					n.Net.Disconnect(a.Host.ID(), b.Host.ID())
				}
			}
		}
	}
}

// Close closes all hosts.
func (n *Net) Close() {
	for _, nodes := range n.Nodes {
		for _, x := range nodes {
			_ = x.Host.Close()
		}
	}
}

// Quiet is a logger that says nothing.
func Quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Pass lets virtual time pass, and then what is due by then happen.
func Pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
