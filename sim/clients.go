package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/linear"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

const (
	clientsOfRegion  = 3 // that contend for its sessions
	sessionsInUse    = 2 // of a region, at a time
	sessionSteps     = 25
	clientPause      = 150 * time.Millisecond // between operations, on average
	clientPatience   = 3 * time.Second        // of one operation
	sharedOperation  = "read_page"
	sharedOperations = "tool"
)

// contention is clients of one region that step and read the same sessions side by side, each on
// whatever node is at hand, so that the auditor can judge the sessions' histories.
type contention struct {
	world  *World
	region string
	agents []*testfed.Signer

	mu       sync.Mutex
	sessions [sessionsInUse]struct {
		id    string
		steps int
	}
	opened int
}

// Contend has clients contend for sessions of a region until the context ends; wait returns when they have stopped.
func (w *World) Contend(ctx context.Context, region string, rng *rand.Rand) (wait func()) {
	c := &contention{world: w, region: region}
	for i := range c.sessions {
		c.renew(i)
	}
	for i := range clientsOfRegion {
		a := w.Fed.Agent(fmt.Sprintf("client-%d-of-%s", i, region), 0)
		a.Key = testfed.Key(fmt.Sprintf("%d %s", rng.Uint64(), a.AgentID))
		c.agents = append(c.agents, a)
	}
	var all sync.WaitGroup
	for i := range c.agents {
		own := rand.New(rand.NewPCG(rng.Uint64(), uint64(i))) //nolint:gosec // draws a workload, guards no secret
		all.Go(func() { (&contender{contention: c, number: i, rng: own, known: map[string]tip{}}).run(ctx) })
	}
	return all.Wait
}

// renew takes a new session into use. Under mu, but at first.
func (c *contention) renew(slot int) {
	c.opened++
	c.sessions[slot].id, c.sessions[slot].steps = fmt.Sprintf("shared-%s-%d", c.region, c.opened), 0
}

func (c *contention) session(rng *rand.Rand) (slot int, id string) {
	slot = rng.IntN(sessionsInUse)
	c.mu.Lock()
	defer c.mu.Unlock()
	return slot, c.sessions[slot].id
}

func (c *contention) stepped(slot int, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := &c.sessions[slot]; s.id == id {
		if s.steps++; s.steps >= sessionSteps {
			c.renew(slot)
		}
	}
}

// contender is one client: it builds on what it last saw of a session, whoever was faster meanwhile.
type contender struct {
	*contention
	number     int
	rng        *rand.Rand
	registered bool
	known      map[string]tip
}

type tip struct{ head, state string }

func (c *contender) run(ctx context.Context) {
	for enrolled := false; ctx.Err() == nil; {
		pause := time.NewTimer(time.Duration((0.5 + c.rng.Float64()) * float64(clientPause)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		n := c.node()
		if n == nil {
			continue
		}
		if !enrolled {
			enrolled = c.enrol(ctx, n)
			continue
		}
		slot, id := c.session(c.rng)
		if t, ok := c.known[id]; ok && c.rng.IntN(10) < 7 {
			c.step(ctx, n, slot, id, t)
		} else {
			c.read(ctx, n, id)
		}
	}
}

// node is any of the region's that is up.
func (c *contender) node() *Node {
	nodes := c.world.Nodes(c.region)
	n := nodes[c.rng.IntN(len(nodes))]
	if n.Running() == nil {
		return nil
	}
	return n
}

// enrol registers the client's agent: a first proof does where agents register themselves.
func (c *contender) enrol(ctx context.Context, n *Node) bool {
	if !c.world.openly() && !c.registered {
		if _, err := c.hand(ctx, n, c.world.register(c.region, c.agents[c.number])); err != nil {
			return false
		}
		c.registered = true // by this proof, or by one before whose answer was lost
	}
	r, err := c.submit(ctx, n, "session.open", map[string]any{"region": c.region, "session": fmt.Sprintf("own-%s-%d", c.region, c.number)}, "", nil)
	return err == nil && (r.Accepted() || r.Repeated)
}

func (c *contender) submit(ctx context.Context, n *Node, action string, data map[string]any, head string, digest *[32]byte) (fsm.Receipt, error) {
	agent := c.agents[c.number]
	agent.NowMillis = c.world.wallMillis()
	proof := agent.Sign(action, data, head)
	if digest != nil {
		*digest = proof.Digest()
	}
	return c.hand(ctx, n, proof)
}

func (c *contender) hand(ctx context.Context, n *Node, proof *pci.Envelope) (fsm.Receipt, error) {
	up := n.Running()
	if up == nil {
		return fsm.Receipt{}, errDown
	}
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	outcomes, err := up.Submit(ctx, [][]byte{proof.Canonical()})
	switch {
	case err != nil:
		return fsm.Receipt{}, err
	case outcomes[0].Reject != nil:
		return fsm.Receipt{}, fmt.Errorf("%w: %w", errRejected, outcomes[0].Reject)
	}
	return outcomes[0].Receipt, nil
}

var errRejected = errors.New("sim: rejected before it came to Raft")

func (c *contender) now() int64 { return int64(c.world.Auditor.age()) }

func (c *contender) read(ctx context.Context, n *Node, id string) {
	op := linear.Operation{ClientId: c.number, Input: linear.Input{Read: true}, Call: c.now()}
	up := n.Running()
	if up == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	var t tip
	err := up.ReadCurrent(ctx, func(v *fsm.View) error {
		found, err := v.Session(id)
		switch {
		case errors.Is(err, fsm.ErrNotFound):
			return nil
		case err != nil:
			return err
		case len(found.Tips) != 1:
			return fmt.Errorf("session %s has %d tips", id, len(found.Tips))
		}
		t = tip{found.Tips[0].Hash.String(), found.Tips[0].State.String()}
		return nil
	})
	if err != nil {
		return // a read that failed has seen nothing
	}
	op.Output, op.Return = linear.Output{Head: t.head}, c.now()
	c.world.Auditor.sessions.seen(c.region, id, op)
	c.known[id] = t
}

func (c *contender) step(ctx context.Context, n *Node, slot int, id string, t tip) {
	action, data := "session.transition", testfed.Transition(id, linear.Next(t.state), "operation", sharedOperation, "operation_type", sharedOperations, "intent", "read page")
	if t.head == "" {
		others := []any{}
		for i, a := range c.agents {
			if i != c.number {
				others = append(others, a.AgentID)
			}
		}
		action, data = "session.open", map[string]any{"region": c.region, "session": id, "agents": others}
	}
	op := linear.Operation{ClientId: c.number, Input: linear.Input{Expect: t.head}, Call: c.now()}
	var digest [32]byte
	r, err := c.submit(ctx, n, action, data, t.head, &digest)
	delete(c.known, id)
	if err != nil {
		c.world.Auditor.sessions.unknown(c.region, id, op, digest)
		return
	}
	won, told := linear.OutcomeOf(&r)
	if !told {
		return // refused for what is not the session's
	}
	op.Output, op.Return = linear.Output{Won: won, Head: r.Head}, c.now()
	c.world.Auditor.sessions.seen(c.region, id, op)
	if won {
		c.known[id] = tip{r.Head, r.State}
		c.stepped(slot, id)
		if n.lies.Load() == nil {
			c.world.Auditor.accept(accepted{c.region, r.Index, r.Digest})
		}
	}
}
