package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/consensus/region"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
)

// liveNode is a node with a real Raft, a real state machine and all of this package.
type liveNode struct {
	*netNode
	t        *testing.T
	fed      *testfed.Federation
	home     string
	region   *region.Region
	asker    *Asker
	intake   *Intake
	seals    *Seals
	voters   *Voters
	started  atomic.Bool // Raft starts
	ready    atomic.Bool // and has started
	diverged atomic.Pointer[Divergence]
	closers  []func() error
}

func newLiveNode(t *testing.T, net *network, n *netNode) *liveNode {
	t.Helper()
	l := &liveNode{netNode: n, t: t, fed: net.fed, home: t.TempDir()}
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	l.asker, err = NewAsker(AskerConfig{Host: n.host, Region: "a"})
	fail(err)
	var founders []raft.ServerID
	for _, v := range net.fed.Document.Regions[0].Voters {
		id, err := p2p.PeerID(v.NodeKey)
		fail(err)
		founders = append(founders, raft.ServerID(id.String()))
	}
	l.region, err = region.New(region.Config{Home: l.home, Network: region.HostNetwork(n.host, n.access), Founders: founders,
		Document: net.fed.Document.Canonical(), OpenState: l.openState, VerifyState: func(string) (uint64, error) { return 0, nil },
		PeerPhase: l.asker.FoundingOf, PeerClock: l.asker.Clock, OnApplied: l.applied,
		HeartbeatTimeout: 400 * time.Millisecond, ElectionTimeout: 400 * time.Millisecond, LeaseTimeout: 300 * time.Millisecond,
		CommitTimeout: 20 * time.Millisecond, SealInterval: 100 * time.Millisecond, PhaseInterval: 50 * time.Millisecond})
	fail(err)
	n.live.Store(l.region)
	status, err := ServeStatus(n.host, n.access, StatusConfig{Region: "a", Raft: l.region.Status, Read: l.stale})
	fail(err)
	l.seals, err = NewSeals(SealsConfig{Self: n.id(), Voters: func() []peer.ID { return RaftVoters(l.region.Configuration()) },
		Read: l.stale, Ask: l.asker.Seals, OnDiverged: func(d *Divergence) { l.diverged.Store(d) }})
	fail(err)
	keys, err := NewKeySender(KeySenderConfig{Host: n.host, Region: "a", Read: LinearizableReader(l.region),
		Keys: RegionKeys{net.fed.LogKeys["a"], net.fed.Cosign["a"]}, Configuration: l.region.Configuration})
	fail(err)
	l.voters, err = NewVoters(VotersConfig{Region: l.region, Read: LinearizableReader(l.region), Stale: l.stale, Ask: l.asker.Status,
		HandOver: keys.HandOver, Every: 100 * time.Millisecond, RetryBase: 200 * time.Millisecond})
	fail(err)
	l.intake, err = NewIntake(IntakeConfig{Host: n.host, Access: n.access, Region: l.region, Voters: net.voterIDs, Patience: 15 * time.Second})
	fail(err)
	l.closers = []func() error{l.intake.Close, l.voters.Close, l.region.Close, l.seals.Close, status.Close, n.host.Close}
	t.Cleanup(l.close)
	return l
}

func (l *liveNode) close() {
	for _, c := range l.closers {
		if err := c(); err != nil {
			l.t.Errorf("close: %v", err)
		}
	}
	l.closers = nil
}

func (*liveNode) openState(string) (region.StateMachine, error) {
	st := store.NewMemory()
	m, err := fsm.Open(st, fsm.Config{Region: "a"})
	if err != nil {
		return nil, err
	}
	return region.StoredMachine(m, st), nil
}

func (l *liveNode) start(raft func() error) error {
	l.started.Store(true)
	err := raft()
	l.ready.Store(err == nil)
	return err
}

func (l *liveNode) stale(ctx context.Context, fn func(StateView) error) error {
	if !l.ready.Load() {
		return errors.New("there is no state yet")
	}
	return StaleReader(l.region)(ctx, fn)
}

// applied wires Raft's results to this package, as a node does.
func (l *liveNode) applied(_ uint64, r *fsm.Result) {
	if !l.started.Load() {
		return
	}
	if r.Seal != nil {
		l.seals.Sealed()
	}
	if r.VotersChanged {
		l.voters.Changed()
	}
	if r.Transfer != nil {
		l.voters.Transfer(*r.Transfer)
	}
}

// serveKeys makes the node one that can be added.
func (l *liveNode) serveKeys() {
	l.t.Helper()
	home := RaftNone
	s, err := ServeKeys(l.host, l.access, KeysConfig{Region: "a", Home: func() (RaftHome, error) { return home, nil },
		Store: func(RegionKeys) error { return nil },
		StartAsAdded: func(ctx context.Context, senders []raft.ServerID) error {
			home = RaftAdded
			return l.start(func() error { return l.region.StartAsAdded(ctx, senders) })
		}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.closers = append([]func() error{s.Close}, l.closers...)
}

func (l *liveNode) submit(what string, raw ...[]byte) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	outcomes, err := l.intake.Submit(ctx, raw)
	if err != nil {
		l.t.Fatalf("%s: %v", what, err)
	}
	for i, o := range outcomes {
		if o.Reject != nil || !o.Receipt.Accepted() || !o.Receipt.HasEntry {
			l.t.Fatalf("%s: proof %d: %+v", what, i, o)
		}
	}
}

// A real region of three takes proofs on any node and agrees on its seals; one voter
// dies and is replaced by a node that gets the region's keys over the network; leadership
// goes where an operator wants it.
func TestRegionWithEverything(t *testing.T) {
	net := newNetwork(t, 3, 1)
	var nodes []*liveNode
	for _, n := range net.nodes {
		nodes = append(nodes, newLiveNode(t, net, n))
	}
	nodes[3].serveKeys()
	results := make(chan error, 3)
	for _, l := range nodes[:3] {
		if err := os.WriteFile(filepath.Join(l.home, region.FoundingName), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		go func() { results <- l.start(func() error { return l.region.Start(t.Context()) }) }()
	}
	for range 3 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now().UnixMilli()
	agent, operator := net.fed.Agent("agent-1", now), net.fed.Operator("a", now)
	session := 0
	open := func() []byte {
		session++
		return agent.Sign(fsm.ActionSessionOpen, map[string]any{"region": "a", "session": fmt.Sprintf("s-%d", session)}, "").Canonical()
	}
	for i, l := range nodes {
		var batch [][]byte
		for range 20 {
			batch = append(batch, open())
		}
		l.submit(fmt.Sprintf("through node %d", i), batch...)
	}
	agree := func(what string, nodes ...*liveNode) {
		t.Helper()
		until(t, what, 20*time.Second, func() bool {
			for _, l := range nodes {
				var last int64
				if err := StaleReader(l.region)(t.Context(), func(v StateView) error {
					last = v.Seals() - 1
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if n, ok := l.seals.Agreed(); !ok || n != last {
					return false
				}
			}
			return true
		})
		for i, l := range nodes {
			if d := l.diverged.Load(); d != nil {
				t.Fatalf("node %d: %v", i, d)
			}
		}
	}
	agree("all agree on the newest seal", nodes[:3]...)

	nodes[2].close() // for ever
	operator.NowMillis = time.Now().UnixMilli()
	nodes[0].submit("replace", operator.Sign(fsm.ActionRegionVoter,
		voterChange(fsm.VoterReplace, nodes[3].key.Public(), "a-4", "replaces", fmt.Sprintf("%x", nodes[2].key.Public())), "").Canonical())
	voting := func() string {
		var names []string
		for _, id := range RaftVoters(nodes[0].region.Configuration()) {
			for i, l := range nodes {
				if l.id() == id {
					names = append(names, fmt.Sprint(i))
				}
			}
		}
		return strings.Join(names, " ")
	}
	until(t, "the new node votes", 30*time.Second, func() bool { return voting() == "0 1 3" })
	agree("the new one agrees as well", nodes[0], nodes[1], nodes[3])

	agent.NowMillis = time.Now().UnixMilli()
	nodes[3].submit("through the new voter", open())
	operator.NowMillis = time.Now().UnixMilli()
	target := nodes[3].key.Public()
	nodes[1].submit("transfer", operator.Sign(fsm.ActionRegionVoter, voterChange(fsm.VoterTransfer, target, ""), "").Canonical())
	until(t, "the new voter leads", 20*time.Second, nodes[3].region.IsLeader)
	nodes[1].submit("after the transfer", open())
	if p, err := nodes[3].voters.Progress(t.Context()); err != nil || !p.Settled || len(p.Nodes) != 3 {
		t.Errorf("%+v, %v", p, err)
	}
}
