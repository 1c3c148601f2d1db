package region

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// cluster is some regions in one process, over memNet.
type cluster struct {
	t     *testing.T
	net   *memNet
	ids   []raft.ServerID
	nodes map[raft.ServerID]*node
	tune  func(id raft.ServerID, cfg *Config)
}

type node struct {
	id      raft.ServerID
	home    string
	log     *fakeLog
	skew    atomic.Int64 // of its clock, as others see it, nanoseconds
	mu      sync.Mutex
	region  *Region
	state   *fakeState
	snaps   int // snapshots received and opened
	leading int // times it began to lead
}

func newCluster(t *testing.T, size int, tune func(id raft.ServerID, cfg *Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, net: newMemNet(2 * time.Millisecond), nodes: make(map[raft.ServerID]*node), tune: tune}
	for i := range size {
		id := raft.ServerID(fmt.Sprintf("node-%d", i+1))
		c.ids = append(c.ids, id)
		c.nodes[id] = c.newNode(id)
		if err := os.WriteFile(filepath.Join(c.nodes[id].home, FoundingName), nil, fileMode); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *cluster) newNode(id raft.ServerID) *node {
	return &node{id: id, home: c.t.TempDir(), log: newFakeLog()}
}

func (c *cluster) config(n *node) Config {
	cfg := Config{
		Home: n.home, Network: &memNode{c.net, n.id}, Founders: c.ids, Document: []byte("document"),
		OpenState: func(dir string) (StateMachine, error) {
			f, err := openFake(dir)
			if err != nil {
				return nil, err
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			n.state = f
			n.snaps++
			return f, nil
		},
		VerifyState: verifyFake,
		OpenLog: func(dir string) (LogBacking, error) {
			return n.log, os.MkdirAll(dir, dirMode)
		},
		PeerPhase: func(ctx context.Context, id raft.ServerID) (Phase, error) {
			peer, err := c.ask(ctx, n.id, id)
			if err != nil {
				return PhaseUnknown, err
			}
			return peer.current().Phase(), nil
		},
		PeerClock: func(ctx context.Context, id raft.ServerID) (int64, error) {
			peer, err := c.ask(ctx, n.id, id)
			if err != nil {
				return 0, err
			}
			return time.Now().Add(time.Duration(peer.skew.Load() - n.skew.Load())).UnixMilli(), nil
		},
		Hooks: Hooks{Leading: func(leading bool) {
			if leading {
				n.mu.Lock()
				n.leading++
				n.mu.Unlock()
			}
		}},
	}
	if os.Getenv("REGION_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", string(n.id))
	}
	if c.tune != nil {
		c.tune(n.id, &cfg)
	}
	return cfg
}

// ask waits for the network's latency and fails while the way is cut.
func (c *cluster) ask(ctx context.Context, from, to raft.ServerID) (*node, error) {
	select {
	case <-time.After(2 * c.net.latency):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	peer := c.nodes[to]
	if peer == nil || peer.current() == nil || !c.net.reachable(from, to) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return peer, nil
}

func (n *node) current() *Region {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.region
}

// fake is the node's present state machine.
func (n *node) fake() *fakeState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// opens is how often a state was opened: at each start, and for each snapshot received.
func (n *node) opens() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.snaps
}

// terms is how often it began to lead.
func (n *node) terms() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leading
}

// prepare makes the node's Region without starting it.
func (c *cluster) prepare(n *node) *Region {
	c.t.Helper()
	n.log.power(true)
	r, err := New(c.config(n))
	if err != nil {
		c.t.Fatal(err)
	}
	n.mu.Lock()
	n.region = r
	n.mu.Unlock()
	return r
}

// start starts all nodes at once and waits for them.
func (c *cluster) start() {
	c.t.Helper()
	var wg sync.WaitGroup
	for _, id := range c.ids {
		r := c.prepare(c.nodes[id])
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := r.Start(context.Background()); err != nil {
				c.t.Errorf("start %s: %v", id, err)
			}
		}()
	}
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// stop closes every node.
func (c *cluster) stop() {
	c.net.heal()
	for _, n := range c.nodes {
		if r := n.current(); r != nil {
			if err := r.Close(); err != nil {
				c.t.Errorf("close %s: %v", n.id, err)
			}
		}
	}
}

// crash ends a node as a power cut would: what it did not sync is gone.
func (c *cluster) crash(n *node) {
	c.net.isolate(n.id, c.ids, true)
	n.log.power(false)
	r := n.current()
	r.fail(errors.New("crashed by the test"))
	if err := r.Close(); err != nil {
		c.t.Errorf("crash %s: %v", n.id, err)
	}
	n.mu.Lock()
	n.region = nil
	n.mu.Unlock()
}

func (c *cluster) restart(n *node) {
	c.t.Helper()
	c.net.isolate(n.id, c.ids, false)
	if err := c.prepare(n).Start(context.Background()); err != nil {
		c.t.Fatalf("restart %s: %v", n.id, err)
	}
}

// until polls, in virtual time inside a bubble.
func until(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", limit, what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// leader waits for a leader that takes proofs.
func (c *cluster) leader(limit time.Duration) *node {
	c.t.Helper()
	var found *node
	until(c.t, limit, "a leader that takes proofs", func() bool {
		for _, n := range c.nodes {
			r := n.current()
			if r == nil || !r.IsLeader() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err := r.intake.propose(ctx, [][]byte{fmt.Appendf(nil, "probe of %s", n.id)}, nil)
			cancel()
			if err == nil {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

func (c *cluster) others(n *node) []*node {
	var others []*node
	for _, id := range c.ids {
		if id != n.id {
			others = append(others, c.nodes[id])
		}
	}
	return others
}

// propose commits one proof through a node.
func (n *node) propose(limit time.Duration, proof string) error {
	return n.proposeTo(n.current(), limit, proof)
}

func (n *node) proposeTo(r *Region, limit time.Duration, proof string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := r.intake.propose(ctx, [][]byte{[]byte(proof)}, nil)
	return err
}

// agree waits until all nodes hold the same entries, and returns them.
func (c *cluster) agree(limit time.Duration) []string {
	c.t.Helper()
	var first []string
	until(c.t, limit, "all replicas to hold the same", func() bool {
		first = c.nodes[c.ids[0]].fake().entries()
		for _, id := range c.ids[1:] {
			if !slices.Equal(first, c.nodes[id].fake().entries()) {
				return false
			}
		}
		return true
	})
	seen := make(map[string]bool)
	for _, e := range first {
		if seen[e] {
			c.t.Fatalf("entry %q was applied twice", e)
		}
		seen[e] = true
	}
	return first
}
