package link

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

const startMillis = 1_700_000_000_000

// network is a federation of one region with a real host for each node, on loopback.
type network struct {
	fed   *testfed.Federation
	nodes []*netNode // voters of region a, then one member
}

type netNode struct {
	host   host.Host
	access *p2p.Access
	key    *pci.PrivateKey
	raft   atomic.Pointer[p2p.RaftPeers]
	live   atomic.Pointer[region.Region] // a real one, whose configuration counts instead once it has one
}

func (n *netNode) raftPeers() (p2p.RaftPeers, bool) {
	if r := n.live.Load(); r != nil {
		if c := r.Configuration(); len(c.Servers) > 0 {
			// The members of newNetwork are members all the time, as if they were invited.
			nonVoters := slices.Collect(maps.Keys(n.raft.Load().NonVoters))
			return p2p.NewRaftPeers(RaftVoters(c), nonVoters), true
		}
	}
	if r := n.raft.Load(); r != nil {
		return *r, true
	}
	return p2p.RaftPeers{}, false
}

func (n *netNode) id() peer.ID           { return n.host.ID() }
func (n *netNode) raftID() raft.ServerID { return raft.ServerID(n.host.ID().String()) }

// newNetwork makes voters that the document lists, and members that Raft knows as non-voters.
func newNetwork(t testing.TB, voters, members int) *network {
	t.Helper()
	net := &network{fed: testfed.New(1, max(voters, 1), testfed.Open)}
	keys := net.fed.Nodes["a"][:voters]
	for i := range members {
		keys = append(keys, testfed.Key(fmt.Sprintf("member-%d", i)))
	}
	var voterIDs, memberIDs []peer.ID
	for i, key := range keys {
		n := &netNode{key: key}
		h, err := p2p.NewHost(p2p.Config{Key: key, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		n.host = h
		if n.access, err = p2p.NewAccess(p2p.AccessConfig{Region: "a", Raft: n.raftPeers}); err != nil {
			t.Fatal(err)
		}
		if err := n.access.SetDocument(net.fed.Document); err != nil {
			t.Fatal(err)
		}
		net.nodes = append(net.nodes, n)
		if i < voters {
			voterIDs = append(voterIDs, n.id())
		} else {
			memberIDs = append(memberIDs, n.id())
		}
	}
	peers := p2p.NewRaftPeers(voterIDs, memberIDs)
	for _, n := range net.nodes {
		n.raft.Store(&peers)
		for _, other := range net.nodes {
			n.host.Peerstore().AddAddrs(other.id(), other.host.Addrs(), peerstore.PermanentAddrTTL)
		}
	}
	return net
}

func (net *network) voterIDs() []peer.ID {
	var ids []peer.ID
	for id := range net.nodes[0].raft.Load().Voters {
		ids = append(ids, id)
	}
	return ids
}

// fakeRegion is one node's Raft as an intake sees it. Who leads is common to all.
type fakeRegion struct {
	self    raft.ServerID
	servers []raft.Server
	leader  *atomic.Pointer[raft.ServerID]
	knows   atomic.Pointer[raft.ServerID] // whom LeaderID names instead, if set

	mu        sync.Mutex
	proposed  [][]*pci.Envelope
	documents [][]byte                                  // that were adopted
	propose   func(ctx context.Context, call int) error // before the receipts, if set
}

func (r *fakeRegion) IsLeader() bool { return *r.leader.Load() == r.self }

func (r *fakeRegion) LeaderID() raft.ServerID {
	if id := r.knows.Load(); id != nil {
		return *id
	}
	return *r.leader.Load()
}

func (r *fakeRegion) Configuration() raft.Configuration {
	return raft.Configuration{Servers: r.servers}
}

func (r *fakeRegion) Propose(ctx context.Context, envelopes []*pci.Envelope) ([]fsm.Receipt, error) {
	r.mu.Lock()
	r.proposed = append(r.proposed, envelopes)
	call, hook := len(r.proposed), r.propose
	r.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, call); err != nil {
			return nil, err
		}
	}
	receipts := make([]fsm.Receipt, len(envelopes))
	for i, e := range envelopes {
		receipts[i] = fsm.Receipt{Digest: e.Digest(), EnvelopeID: e.EnvelopeID, Region: "a", HasEntry: true, Index: int64(i)}
	}
	return receipts, nil
}

func (r *fakeRegion) Adopt(ctx context.Context, envelope *pci.Envelope, document []byte) (fsm.Receipt, error) {
	r.mu.Lock()
	r.documents = append(r.documents, document)
	r.mu.Unlock()
	receipts, err := r.Propose(ctx, []*pci.Envelope{envelope})
	if err != nil {
		return fsm.Receipt{}, err
	}
	return receipts[0], nil
}

func (r *fakeRegion) calls() [][]*pci.Envelope {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proposed
}

func (r *fakeRegion) on(hook func(ctx context.Context, call int) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.propose = hook
}

// cast is a network whose voters have an intake over a fake region each.
type cast struct {
	*network
	leader  atomic.Pointer[raft.ServerID]
	regions []*fakeRegion
	intakes []*Intake
	agent   *testfed.Signer
}

func newCast(t testing.TB, voters, members int, tune func(*IntakeConfig)) *cast {
	t.Helper()
	c := &cast{network: newNetwork(t, voters, members)}
	c.agent = c.fed.Agent("agent-1", startMillis)
	none := raft.ServerID("")
	c.leader.Store(&none)
	var servers []raft.Server
	for _, n := range c.nodes[:voters] {
		servers = append(servers, raft.Server{Suffrage: raft.Voter, ID: n.raftID()})
	}
	for i, n := range c.nodes {
		cfg := IntakeConfig{Host: n.host, Access: n.access, Patience: 2 * time.Second, AttemptTimeout: 3 * time.Second, RetryBase: 5 * time.Millisecond,
			Voters: c.voterIDs}
		if i < voters {
			r := &fakeRegion{self: n.raftID(), servers: servers, leader: &c.leader}
			c.regions = append(c.regions, r)
			cfg.Region = r
		}
		if tune != nil {
			tune(&cfg)
		}
		in, err := NewIntake(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close() })
		c.intakes = append(c.intakes, in)
	}
	return c
}

func (c *cast) lead(i int) {
	id := raft.ServerID("")
	if i >= 0 {
		id = c.nodes[i].raftID()
	}
	c.leader.Store(&id)
}

// proofs makes signed envelopes, as they come over the wire.
func (c *cast) proofs(n int) [][]byte {
	raw := make([][]byte, n)
	for i := range raw {
		raw[i] = proof(c.agent)
	}
	return raw
}

func proof(agent *testfed.Signer) []byte {
	return agent.Sign(fsm.ActionSessionOpen, map[string]any{"region": "a", "session": "s"}, "").Canonical()
}

// forged changes a proof so that its signature no longer fits.
func forged(raw []byte) []byte {
	return replaced(raw, `"ihsan_score":0.99`, `"ihsan_score":0.98`)
}

func replaced(raw []byte, old, with string) []byte {
	text := string(raw)
	for i := 0; i+len(old) <= len(text); i++ {
		if text[i:i+len(old)] == old {
			return []byte(text[:i] + with + text[i+len(old):])
		}
	}
	panic(fmt.Sprintf("%q is not in %s", old, text))
}

// until polls until the condition holds.
func until(t *testing.T, what string, limit time.Duration, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, limit)
		}
		<-tick.C
	}
}

func mustBe(t *testing.T, err error, kinds ...error) {
	t.Helper()
	for _, k := range kinds {
		if !errors.Is(err, k) {
			t.Fatalf("error %v is not %v", err, k)
		}
	}
}

func mustNotBe(t *testing.T, err error, kinds ...error) {
	t.Helper()
	for _, k := range kinds {
		if errors.Is(err, k) {
			t.Fatalf("error %v is %v", err, k)
		}
	}
}

func digestOf(t *testing.T, raw []byte) [32]byte {
	t.Helper()
	e, err := pci.Inspect(raw)
	if err != nil {
		t.Fatal(err)
	}
	return e.Digest()
}

func sumFor(number int64, what string) SealSum {
	return SealSum{Number: number, Size: 10 * (number + 1), Body: sha256.Sum256([]byte(what))}
}
