package region

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestRandomFaults drives a region of five through crashes, cuts (one-way ones too), leadership transfers and resets while clients
// propose and read. Nothing acknowledged may be lost or applied twice, all replicas must end with the same ledger, and a read must
// see what was acknowledged before it began.
//
// BIZRA_SEED repeats a run; virtual time makes most of it, not all, repeatable.
func TestRandomFaults(t *testing.T) {
	seeds := []uint64{rand.Uint64(), rand.Uint64()}
	if text := os.Getenv("BIZRA_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{seed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("BIZRA_SEED=%d", seed)
			synctest.Test(t, func(t *testing.T) { randomFaults(t, seed) })
		})
	}
}

type tally struct {
	mu                                         sync.Mutex
	acked                                      map[string]bool
	recent                                     []string // the last of them
	certain                                    []string // refused for certain
	doubtful, reads, readsRefused, transferred int
	crashes, cuts                              int
	stop                                       bool
}

func (y *tally) stopped() bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.stop
}

func randomFaults(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	c := newCluster(t, 5, func(id raft.ServerID, cfg *Config) {
		smallSnapshots(id, cfg)
		cfg.SnapshotEntries = 60
		cfg.TrailingEntries = 20
	})
	for _, n := range c.nodes {
		n.log.slow = 4 * time.Millisecond
	}
	c.start()
	c.leader(10 * time.Second)
	y := &tally{acked: make(map[string]bool)}
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Add(1)
		go func() { defer clients.Done(); c.client(i, y) }()
	}
	for round := range 30 {
		<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond)
		switch round % 10 { // whatever the dice say
		case 4:
			c.recover()
			c.net.isolate(c.leader(15*time.Second).id, c.ids, true)
			y.cuts++
		case 9:
			c.recover()
			c.crash(c.leader(15 * time.Second))
			y.crashes++
		default:
			c.fault(rng, y)
		}
	}
	c.recover()
	c.leader(15 * time.Second)
	y.mu.Lock()
	y.stop = true
	y.mu.Unlock()
	clients.Wait()
	c.leader(15 * time.Second)
	entries := c.agree(30 * time.Second)
	has := make(map[string]bool, len(entries))
	for _, e := range entries {
		has[e] = true
	}
	for a := range y.acked {
		if !has[a] {
			t.Errorf("acknowledged and lost: %q", a)
		}
	}
	for _, r := range y.certain {
		if has[r] {
			t.Errorf("refused for certain and yet committed: %q", r)
		}
	}
	terms, lost := 0, 0
	for _, n := range c.nodes {
		lost += n.log.lost
		terms += n.terms()
		if n.current().Failed() != nil {
			t.Errorf("%s stopped: %v", n.id, n.current().Failed())
		}
	}
	t.Logf("%d acknowledged, %d refused, %d unknown, %d reads, %d refused; %d crashes that lost %d writes, %d cuts, %d transfers, %d terms of leaders",
		len(y.acked), len(y.certain), y.doubtful, y.reads, y.readsRefused, y.crashes, lost, y.cuts, y.transferred, terms)
	if len(y.acked) < 500 || y.reads < 300 || terms < 4 || y.crashes < 3 || y.cuts < 3 {
		t.Error("that was too little: the test does not test")
	}
	c.stop()
}

// recover brings everything back.
func (c *cluster) recover() {
	c.net.heal()
	for _, id := range c.ids {
		if c.nodes[id].current() == nil {
			c.restart(c.nodes[id])
		}
	}
}

// fault does one thing to the cluster, keeping at most two of five nodes down.
func (c *cluster) fault(rng *rand.Rand, y *tally) {
	n := c.nodes[c.ids[rng.IntN(len(c.ids))]]
	other := c.nodes[c.ids[rng.IntN(len(c.ids))]]
	down := 0
	for _, id := range c.ids {
		if c.nodes[id].current() == nil {
			down++
		}
	}
	c.net.mu.Lock()
	c.net.resets = rng.IntN(2) == 0
	c.net.mu.Unlock()
	switch rng.IntN(8) {
	case 0, 1:
		if n.current() == nil {
			c.restart(n)
		} else if down < 2 {
			c.crash(n)
			y.crashes++
		}
	case 2:
		if l := c.believedLeader(); l != nil && down < 2 {
			c.crash(l)
			y.crashes++
		}
	case 3:
		if n.current() != nil {
			c.net.isolate(n.id, c.ids, true)
			y.cuts++
		}
	case 4, 5:
		if n != other {
			c.net.setCut(n.id, other.id, true)
			y.cuts++
		}
	case 6:
		if l := c.believedLeader(); l != nil && l.current().LeadershipTransfer(c.t.Context(), "") == nil {
			y.transferred++
		}
	default:
		c.net.heal()
		for _, id := range c.ids {
			if c.nodes[id].current() == nil {
				c.net.isolate(id, c.ids, true)
			}
		}
	}
}

func (c *cluster) believedLeader() *node {
	for _, id := range c.ids {
		if r := c.nodes[id].current(); r != nil && r.IsLeader() {
			return c.nodes[id]
		}
	}
	return nil
}

// client proposes and reads until told to stop, through whoever says that it leads.
func (c *cluster) client(number int, y *tally) {
	for i := 0; !y.stopped(); i++ {
		<-time.After(20 * time.Millisecond)
		for _, id := range c.ids {
			n := c.nodes[id]
			r := n.current()
			if r == nil || !r.IsLeader() {
				continue
			}
			proof := fmt.Sprintf("client %d proof %d at %s", number, i, id)
			err := n.proposeTo(r, 2*time.Second, proof)
			y.mu.Lock()
			switch {
			case err == nil:
				y.acked[proof] = true
				y.recent = append(y.recent[max(0, len(y.recent)-200):], proof)
			case errors.Is(err, ErrNotCommitted):
				y.certain = append(y.certain, proof)
			case errors.Is(err, ErrUnknownOutcome):
				y.doubtful++
			default:
				c.t.Errorf("an error of neither kind: %v", err)
			}
			y.mu.Unlock()
			c.readBack(r, y)
		}
	}
}

// readBack checks that a read sees everything acknowledged before it.
func (c *cluster) readBack(r *Region, y *tally) {
	y.mu.Lock()
	before := slices.Clone(y.recent)
	y.mu.Unlock()
	var missed []string
	err := r.Read(c.t.Context(), func(s StateMachine) error {
		missed = s.(*fakeState).misses(before)
		return nil
	})
	y.mu.Lock()
	defer y.mu.Unlock()
	if err != nil {
		y.readsRefused++
		return
	}
	y.reads++
	if len(missed) > 0 {
		c.t.Errorf("a read at %s misses %q", r.ID(), missed)
	}
}
