package region

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store/pebblestore"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

// realRegion is a region as it runs: libp2p on loopback, bolt, Pebble and the real state machine.
type realRegion struct {
	t     *testing.T
	fed   *testfed.Federation
	nodes []*realNode
	tune  []func(n *realNode, cfg *Config)

	mu      sync.Mutex
	refused []error
}

type realNode struct {
	id      raft.ServerID
	home    string
	host    host.Host
	access  *p2p.Access
	mu      sync.Mutex
	region  *Region
	opened  int
	failure error
}

func (n *realNode) current() *Region {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.region
}

func openReal(dir string) (StateMachine, error) {
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return nil, err
	}
	m, err := fsm.Open(st, fsm.Config{Region: "a"})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return StoredMachine(m, st), nil
}

func verifyReal(dir string) (uint64, error) {
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return 0, err
	}
	err = fsm.Check(context.Background(), st, fsm.Config{Region: "a"}, func(string, int64, int64) {})
	if err != nil {
		return 0, errors.Join(err, st.Close())
	}
	m, err := fsm.Open(st, fsm.Config{Region: "a"})
	if err != nil {
		return 0, errors.Join(err, st.Close())
	}
	index, _ := m.AppliedIndex()
	return index, errors.Join(m.Close(), st.Close())
}

func newReal(t *testing.T, tune ...func(n *realNode, cfg *Config)) *realRegion {
	t.Helper()
	c := &realRegion{t: t, fed: testfed.New(1, 3, testfed.Open), tune: tune}
	var hosts []host.Host
	for range 3 {
		hosts = append(hosts, newHost(t))
	}
	ids := introduce(hosts...)
	for i, h := range hosts {
		n := &realNode{id: raft.ServerID(ids[i].String()), home: t.TempDir(), host: h, access: accessFor(t, ids...)}
		if err := os.WriteFile(filepath.Join(n.home, FoundingName), nil, fileMode); err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, n)
	}
	var started sync.WaitGroup
	for _, n := range c.nodes {
		r := c.prepare(n)
		started.Add(1)
		go func() {
			defer started.Done()
			if err := r.Start(t.Context()); err != nil {
				t.Error(err)
			}
		}()
	}
	started.Wait()
	t.Cleanup(func() {
		for _, n := range c.nodes {
			if err := n.current().Close(); err != nil {
				t.Error(err)
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return c
}

func (c *realRegion) prepare(n *realNode) *Region {
	c.t.Helper()
	find := func(id raft.ServerID) (*Region, error) {
		for _, o := range c.nodes {
			if r := o.current(); o.id == id && r != nil {
				return r, nil
			}
		}
		return nil, errors.New("it is down")
	}
	var founders []raft.ServerID
	for _, o := range c.nodes {
		founders = append(founders, o.id)
	}
	cfg := Config{Home: n.home, Network: HostNetwork(n.host, n.access), Founders: founders, Document: c.fed.Document.Canonical(),
		OpenState: func(dir string) (StateMachine, error) {
			n.opened++
			return openReal(dir)
		}, VerifyState: verifyReal,
		PeerPhase: func(_ context.Context, id raft.ServerID) (Phase, error) {
			o, err := find(id)
			if err != nil {
				return PhaseUnknown, err
			}
			return o.Phase(), nil
		},
		PeerClock: func(_ context.Context, id raft.ServerID) (int64, error) {
			_, err := find(id)
			return time.Now().UnixMilli(), err
		},
		SnapshotEntries: 30, TrailingEntries: 5, SealInterval: 50 * time.Millisecond, PhaseInterval: 20 * time.Millisecond,
		OnFailure: func(err error) { n.mu.Lock(); n.failure = err; n.mu.Unlock() },
		Hooks:     Hooks{RPCRefused: func(_ raft.ServerID, err error) { c.mu.Lock(); c.refused = append(c.refused, err); c.mu.Unlock() }},
	}
	for _, tune := range c.tune {
		tune(n, &cfg)
	}
	r, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	n.mu.Lock()
	n.region = r
	n.mu.Unlock()
	return r
}

// leader waits for a leader that takes proofs.
func (c *realRegion) leader() *realNode {
	c.t.Helper()
	var found *realNode
	until(c.t, 20*time.Second, "a leader that takes proofs", func() bool {
		for _, n := range c.nodes {
			r := n.current()
			if r == nil || !r.IsLeader() {
				continue
			}
			r.intake.mu.Lock()
			takes := r.intake.refusing == nil && !r.intake.holding
			r.intake.mu.Unlock()
			if takes {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// submit commits one proof of its own session and returns its receipt.
func (c *realRegion) submit(n *realNode, agent *testfed.Signer, session string) fsm.Receipt {
	c.t.Helper()
	agent.NowMillis = time.Now().UnixMilli()
	env := agent.Sign("session.open", map[string]any{"region": "a", "session": session}, "")
	if err := env.Verify(); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	receipts, err := n.current().Propose(ctx, []*pci.Envelope{env})
	if err != nil {
		c.t.Fatal(err)
	}
	if !receipts[0].Accepted() {
		c.t.Fatalf("refused: %v %s", receipts[0].Code, receipts[0].Message())
	}
	return receipts[0]
}

func (n *realNode) view(t *testing.T, fn func(v *fsm.View)) {
	t.Helper()
	err := n.current().ReadStale(func(s StateMachine) error {
		v, err := s.(*storedMachine).View()
		if err != nil {
			return err
		}
		fn(v)
		return v.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// takeDown closes one voter that does not lead, and gives the last index of its log.
func (c *realRegion) takeDown(leader *realNode) (away *realNode, behind uint64) {
	c.t.Helper()
	for _, n := range c.nodes {
		if n != leader {
			away = n
		}
	}
	if err := away.current().Close(); err != nil {
		c.t.Fatal(err)
	}
	return away, away.current().Status().LastIndex
}

func TestRealRegion(t *testing.T) {
	c := newReal(t)
	agent := c.fed.Agent("agent-1", time.Now().UnixMilli())
	l := c.leader()
	receipts := []fsm.Receipt{c.submit(l, agent, "s-first")}

	// One voter is away for so long that it needs a snapshot.
	away, behind := c.takeDown(l)
	for i := 0; l.current().Status().SnapshotIndex <= behind+10; i++ {
		receipts = append(receipts, c.submit(l, agent, fmt.Sprintf("s-%d", i)))
		if i > 2000 {
			t.Fatal("no snapshot")
		}
	}
	before := away.opened
	if err := c.prepare(away).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	caughtUp := func(n *realNode) func() bool {
		return func() bool { return n.current().Status().Entries >= l.current().Status().Entries }
	}
	until(t, 20*time.Second, "the snapshot to be installed", caughtUp(away))
	if away.opened < before+2 {
		t.Error("no snapshot was installed: the test does not test")
	}

	// Leadership goes to the one that was away, and the proofs go on.
	if err := l.current().LeadershipTransfer(t.Context(), away.id); err != nil {
		t.Fatal(err)
	}
	if now := c.leader(); now != away {
		t.Errorf("%s leads, not the one asked for", now.id)
	}
	receipts = append(receipts, c.submit(away, agent, "s-last"))
	for _, n := range c.nodes {
		until(t, 20*time.Second, "all to hold the same", func() bool {
			return n.current().Status().Entries == away.current().Status().Entries
		})
		n.view(t, func(v *fsm.View) {
			for _, r := range receipts {
				again, err := v.Receipt(r.Digest)
				if err != nil || again.Index != r.Index {
					t.Errorf("%s: receipt of entry %d: %v, index %d", n.id, r.Index, err, again.Index)
				}
			}
		})
		if n.failure != nil {
			t.Errorf("%s stopped: %v", n.id, n.failure)
		}
	}
	if len(c.refused) > 0 {
		t.Errorf("RPCs of voters were refused: %v", c.refused)
	}
	seen := int64(0)
	err := away.current().Read(t.Context(), func(s StateMachine) error { seen = s.Size(); return nil })
	if err != nil || seen == 0 {
		t.Errorf("a linearizable read: %d entries, %v", seen, err)
	}
}

// What a region states about a seal goes through its Raft, by its leader alone.
func TestRealRegionAttests(t *testing.T) {
	c := newReal(t)
	l := c.leader()
	c.submit(l, c.fed.Agent("agent-1", time.Now().UnixMilli()), "s-first")
	var seal *fsm.Seal
	until(t, 20*time.Second, "a seal", func() bool {
		l.view(t, func(v *fsm.View) { seal, _ = v.SealAt(0) })
		return seal != nil
	})
	for _, n := range c.nodes {
		if n != l {
			if _, err := n.current().Attest(t.Context(), c.fed.Certify(seal)); !errors.Is(err, ErrNotLeader) {
				t.Errorf("%s, which does not lead: %v", n.id, err)
			}
		}
	}
	if _, err := l.current().Attest(t.Context(), fsm.EncodeSeal()); err == nil {
		t.Error("a seal was taken for an attestation")
	}
	for _, repeated := range []bool{false, true} {
		if res, err := l.current().Attest(t.Context(), c.fed.Certify(seal)); err != nil || !res.Accepted() || res.Repeated != repeated {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	for _, n := range c.nodes {
		until(t, 20*time.Second, "all to have the certificate", func() (ok bool) {
			n.view(t, func(v *fsm.View) {
				certified, err := v.Certified()
				ok = err == nil && certified == 1
			})
			return ok
		})
	}
}

// A statement that cannot be committed is waited for no longer than its context.
func TestRealRegionAttestsNoLongerThanAsked(t *testing.T) {
	cuts := newCuts()
	c := newReal(t, func(_ *realNode, cfg *Config) { cfg.Network = &cutNetwork{cfg.Network, cuts} })
	l := c.leader()
	for _, n := range c.nodes {
		if n != l {
			cuts.set(l.id, n.id, true)
			cuts.set(n.id, l.id, true)
		}
	}
	defer cuts.heal()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.current().Attest(ctx, fsm.EncodeVote("b", 1, nil, nil)); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("after the context ended: %v", err)
	}
}

// A stranger and a member are refused while the region goes on.
func TestRealRegionRefusesOthers(t *testing.T) {
	c := newReal(t)
	l := c.leader()
	stranger := newHost(t)
	var ids []peer.ID
	for _, n := range c.nodes {
		stranger.Peerstore().AddAddrs(n.host.ID(), n.host.Addrs(), time.Hour)
		ids = append(ids, n.host.ID())
	}
	trans, err := NewTransport(TransportConfig{Network: HostNetwork(stranger, accessFor(t, ids...)), Admit: func(raft.ServerID, any) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer trans.Close()
	term := l.current().Status().Term
	name := stranger.ID().String()
	for _, as := range []string{name, string(l.id)} {
		h := raft.RPCHeader{ProtocolVersion: 3, ID: []byte(as), Addr: []byte(as)}
		var resp raft.RequestVoteResponse
		for _, n := range c.nodes {
			if err := trans.RequestVote(n.id, raft.ServerAddress(n.id), &raft.RequestVoteRequest{RPCHeader: h, Term: term + 100, LastLogIndex: 1 << 40}, &resp); err == nil {
				t.Errorf("a stranger was answered as %s: %+v", as, resp)
			}
		}
	}
	if got := l.current().Status().Term; got != term {
		t.Errorf("a stranger has moved the term from %d to %d", term, got)
	}
	c.submit(l, c.fed.Agent("agent-1", time.Now().UnixMilli()), "s-1")
}
