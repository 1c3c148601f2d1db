package region

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/internal/linear"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// What a run must have done at least, or it has shown nothing.
const (
	linearOperations    = 10_000 // BIZRA_OPERATIONS asks for more
	linearClients       = 16
	linearLeaderChanges = 5
	linearOneWayCuts    = 4
	linearConflicts     = 0.20 // share of the compare-and-swaps that lost
	linearSessions      = 6    // in use at a time
	linearSessionSteps  = 40   // of a session before another takes its place
	linearCheckLimit    = 2 * time.Minute
)

// linearRun is a region under load and faults, with the history of what its clients saw.
type linearRun struct {
	c      *realRegion
	cuts   *cuts
	target int
	stale  bool // read from whatever node is at hand: what must be found out

	began   time.Time
	stop    atomic.Bool
	decided atomic.Int64 // operations with an outcome
	leads   atomic.Int64 // times that a node began to lead
	oneWay  int
	faults  map[string]int

	mu       sync.Mutex
	sessions [linearSessions]linearSession
	opened   int
	history  map[string][]porcupine.Operation // by session
	pending  []pendingStep
	wins     int
	losses   int
	reads    int
}

type linearSession struct {
	id    string
	steps int
}

// pendingStep is a step whose outcome its client never learned.
type pendingStep struct {
	session string
	client  int
	call    int64
	input   linear.Input
	digest  [32]byte
}

func newLinearRun(t *testing.T, target int) *linearRun {
	l := &linearRun{cuts: newCuts(), target: target, began: time.Now(), history: map[string][]porcupine.Operation{}, faults: map[string]int{}}
	for i := range l.sessions {
		l.renew(i)
	}
	l.c = newReal(t, func(n *realNode, cfg *Config) {
		if n.id == cfg.Founders[0] {
			cfg.LogKind = LogInBolt // the others have theirs in a write-ahead log
		}
		cfg.Network = &cutNetwork{cfg.Network, l.cuts}
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 400*time.Millisecond
		cfg.RPCTimeout, cfg.TransferTimeout = 2*time.Second, 2*time.Second
		cfg.SnapshotEntries, cfg.TrailingEntries = 400, 100
		cfg.Hooks.Leading = func(leading bool) {
			if leading {
				l.leads.Add(1)
			}
		}
	})
	return l
}

func (l *linearRun) renew(slot int) {
	l.opened++
	l.sessions[slot] = linearSession{id: fmt.Sprintf("s-%d", l.opened)}
}

// session draws one of the sessions in use.
func (l *linearRun) session(rng *rand.Rand) (slot int, id string) {
	slot = rng.IntN(linearSessions)
	l.mu.Lock()
	defer l.mu.Unlock()
	return slot, l.sessions[slot].id
}

func (l *linearRun) now() int64 { return time.Since(l.began).Nanoseconds() }

func (l *linearRun) record(session string, op porcupine.Operation) {
	l.decided.Add(1)
	op.Return = l.now()
	in, out := op.Input.(linear.Input), op.Output.(linear.Output)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history[session] = append(l.history[session], op)
	switch {
	case in.Read:
		l.reads++
	case out.Won:
		l.wins++
		for slot := range l.sessions {
			if s := &l.sessions[slot]; s.id == session {
				if s.steps++; s.steps == linearSessionSteps {
					l.renew(slot)
				}
			}
		}
	default:
		l.losses++
	}
}

// caller is one client: it knows what it last saw of each session and builds on that, whoever was faster meanwhile.
type caller struct {
	l      *linearRun
	number int
	rng    *rand.Rand
	agent  *testfed.Signer
	others []any
	known  map[string]knownTip
}

type knownTip struct{ head, state string }

func (l *linearRun) caller(number int, seed uint64) *caller {
	c := &caller{l: l, number: number, rng: rand.New(rand.NewPCG(seed, uint64(number))), known: map[string]knownTip{},
		agent: l.c.fed.Agent(fmt.Sprintf("client-%d", number), 0)}
	for i := range linearClients {
		if i != number {
			c.others = append(c.others, fmt.Sprintf("client-%d", i))
		}
	}
	return c
}

// node is mostly who says that it leads, at times another, which must refuse.
func (c *caller) node() *Region {
	nodes := c.l.c.nodes
	for range 50 {
		r := nodes[c.rng.IntN(len(nodes))].current()
		if r != nil && (r.IsLeader() || c.rng.IntN(40) == 0) {
			return r
		}
		<-time.After(time.Millisecond)
	}
	return nodes[c.rng.IntN(len(nodes))].current()
}

func (c *caller) run() {
	for !c.l.stop.Load() {
		_, id := c.l.session(c.rng)
		if tip, ok := c.known[id]; ok && c.rng.IntN(10) < 7 {
			c.step(id, tip)
		} else {
			c.read(id)
		}
	}
}

func (c *caller) read(id string) {
	op := porcupine.Operation{ClientId: c.number, Input: linear.Input{Read: true}, Call: c.l.now()}
	var tip knownTip
	look := func(s StateMachine) error {
		v, err := s.(*storedMachine).View()
		if err != nil {
			return err
		}
		found, err := v.Session(id)
		switch {
		case errors.Is(err, fsm.ErrNotFound):
			err = nil
		case err == nil && len(found.Tips) == 1:
			tip = knownTip{found.Tips[0].Hash.String(), found.Tips[0].State.String()}
		case err == nil:
			err = fmt.Errorf("session %s has %d tips", id, len(found.Tips))
		}
		return errors.Join(err, v.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var err error
	if c.l.stale {
		nodes := c.l.c.nodes
		err = nodes[c.rng.IntN(len(nodes))].current().ReadStale(look)
	} else {
		err = c.node().Read(ctx, look)
	}
	if err != nil {
		return // a read that failed has seen nothing
	}
	op.Output = linear.Output{Head: tip.head}
	c.l.record(id, op)
	c.known[id] = tip
}

func (c *caller) step(id string, tip knownTip) {
	c.agent.NowMillis = time.Now().UnixMilli()
	var env *pci.Envelope
	if tip.head == "" {
		env = c.agent.Sign("session.open", map[string]any{"region": "a", "session": id, "agents": c.others}, "")
	} else {
		env = c.agent.Sign("session.transition", map[string]any{"session": id, "to": linear.Next(tip.state), "operation": "read_page",
			"operation_type": "tool", "intent": "read page", "input": "x", "meta": map[string]any{"description": "reads a page"}}, tip.head)
	}
	op := porcupine.Operation{ClientId: c.number, Input: linear.Input{Expect: tip.head}, Call: c.l.now()}
	unknown := false
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		receipts, err := c.node().Propose(ctx, []*pci.Envelope{env})
		cancel()
		switch {
		case err == nil:
			c.decided(id, op, &receipts[0])
			return
		case errors.Is(err, ErrNotCommitted) && !unknown:
			return // it never happened
		case errors.Is(err, ErrNotCommitted), errors.Is(err, ErrUnknownOutcome):
			unknown = true
			if c.rng.IntN(3) > 0 && !c.l.stop.Load() {
				continue // the same envelope again
			}
			c.l.mu.Lock()
			c.l.pending = append(c.l.pending, pendingStep{id, c.number, op.Call, op.Input.(linear.Input), env.Digest()})
			c.l.mu.Unlock()
			delete(c.known, id)
			return
		default:
			c.l.c.t.Errorf("an error of neither kind: %v", err)
			return
		}
	}
}

func (c *caller) decided(id string, op porcupine.Operation, r *fsm.Receipt) {
	won, ok := linear.OutcomeOf(r)
	if !ok {
		c.l.c.t.Errorf("a step was refused for another reason: %v %s", r.Code, r.Message())
		c.l.stop.Store(true)
		return
	}
	op.Output = linear.Output{Won: won, Head: r.Head}
	c.l.record(id, op)
	if won {
		c.known[id] = knownTip{r.Head, r.State}
	} else {
		delete(c.known, id)
	}
}

// enrol registers every client's agent with a first proof.
func (l *linearRun) enrol(callers []*caller) {
	leader := l.c.leader()
	for _, c := range callers {
		l.c.submit(leader, c.agent, fmt.Sprintf("warm-%d", c.number))
	}
}

// settle asks the ledger what became of steps whose clients never learned it. A step that is not there never took effect; one that
// is may have taken effect at any time after it was called.
func (l *linearRun) settle() (settled int) {
	leader := l.c.leader()
	err := leader.current().Read(l.c.t.Context(), func(s StateMachine) error {
		v, err := s.(*storedMachine).View()
		if err != nil {
			return err
		}
		for _, p := range l.pending {
			r, err := v.Receipt(p.digest)
			if errors.Is(err, fsm.ErrNotFound) {
				continue
			}
			won, ok := linear.OutcomeOf(&r)
			if err != nil || !ok {
				return fmt.Errorf("a step of unknown outcome became %v: %w", r.Code, err)
			}
			settled++
			l.history[p.session] = append(l.history[p.session], porcupine.Operation{ClientId: p.client, Input: p.input, Call: p.call,
				Output: linear.Output{Won: won, Head: r.Head}, Return: math.MaxInt64})
		}
		return v.Close()
	})
	if err != nil {
		l.c.t.Fatal(err)
	}
	return settled
}

// check asks porcupine about every session and returns the first that is not linearizable.
func (l *linearRun) check() (session string, result porcupine.CheckResult) {
	for id, ops := range l.history {
		if result := linear.Explained(ops, linearCheckLimit); result != porcupine.Ok {
			return id, result
		}
	}
	return "", porcupine.Ok
}

// show keeps a picture of a history that is not linearizable.
func (l *linearRun) show(session string) {
	_, info := porcupine.CheckOperationsVerbose(linear.Model(), l.history[session], linearCheckLimit)
	f, err := os.CreateTemp("", "bizra-history-*.html")
	if err != nil {
		l.c.t.Fatal(err)
	}
	if err := errors.Join(porcupine.Visualize(linear.Model(), info, f), f.Close()); err != nil {
		l.c.t.Fatal(err)
	}
	l.c.t.Logf("open %s in a browser", f.Name())
}

// TestLinearizable drives a region as it runs (libp2p, bolt or raft-wal, Pebble) through lost leaders and partitions, one-way ones too, while
// 16 clients step and read the same sessions, and has porcupine look for an order that explains what they saw.
//
// BIZRA_SEED repeats the draws, BIZRA_OPERATIONS asks for more operations (`make soak`: 200,000).
func TestLinearizable(t *testing.T) {
	target := linearOperations
	if text := os.Getenv("BIZRA_OPERATIONS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < linearOperations {
			t.Fatalf("BIZRA_OPERATIONS=%q: a number of at least %d", text, linearOperations)
		}
		target = n
	}
	seed := seedFrom(t)
	l := newLinearRun(t, target)
	callers := make([]*caller, linearClients)
	for i := range callers {
		callers[i] = l.caller(i, seed)
	}
	l.enrol(callers)
	var clients sync.WaitGroup
	for _, c := range callers {
		clients.Go(c.run)
	}
	l.faulty(rand.New(rand.NewPCG(seed, math.MaxUint64)))
	l.stop.Store(true)
	clients.Wait()
	unknown := len(l.pending)
	settled := l.settle()
	took := time.Since(l.began)
	session, result := l.check()
	if result != porcupine.Ok {
		t.Errorf("session %s: %v: no order explains what its clients saw", session, result)
		l.show(session)
	}
	conflicts := float64(l.losses) / float64(l.wins+l.losses)
	t.Logf("%d operations of %d clients in %v, checked in %v: %d reads, %d steps, %.0f %% of them lost; %d of unknown outcome, %d of them took effect or were refused; %d changes of the leader, faults %v, %d reads held back by cuts; %d sessions",
		l.decided.Load(), linearClients, took, time.Since(l.began)-took, l.reads, l.wins+l.losses, 100*conflicts, unknown, settled, l.leads.Load()-1, l.faults, l.cuts.held, len(l.history))
	if l.decided.Load() < int64(target) || l.leads.Load()-1 < linearLeaderChanges || l.oneWay < linearOneWayCuts || conflicts < linearConflicts || l.cuts.held == 0 {
		t.Error("that was too little: the test does not test")
	}
	l.agree()
}

func seedFrom(t *testing.T) uint64 {
	seed := rand.Uint64()
	if text := os.Getenv("BIZRA_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("BIZRA_SEED=%d", seed)
	return seed
}

// agree waits until all replicas hold the same ledger and none has stopped.
func (l *linearRun) agree() {
	root := func(n *realNode) (size int64, root string) {
		n.view(l.c.t, func(v *fsm.View) {
			var err error
			if size, err = v.Ledger().Size(); err == nil {
				var h [32]byte
				h, err = v.Ledger().Root(size)
				root = fmt.Sprintf("%x", h)
			}
			if err != nil {
				l.c.t.Error(err)
			}
		})
		return size, root
	}
	until(l.c.t, 30*time.Second, "all replicas to hold the same", func() bool {
		size, first := root(l.c.nodes[0])
		for _, n := range l.c.nodes[1:] {
			if s, r := root(n); s != size || r != first {
				return false
			}
		}
		return true
	})
	for _, n := range l.c.nodes {
		if err := n.current().Failed(); err != nil {
			l.c.t.Errorf("%s stopped: %v", n.id, err)
		}
	}
}

// faulty does one fault after another, all kinds in turn, until enough has happened.
func (l *linearRun) faulty(rng *rand.Rand) {
	kinds := []string{"transfer", "leader speaks, hears nothing", "leader hears, speaks to nobody", "leader is alone", "one way to one follower", "leader crashes"}
	limit := time.Now().Add(2*time.Minute + time.Duration(l.target)*3*time.Millisecond)
	for !l.stop.Load() {
		rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		for _, kind := range kinds {
			<-time.After(time.Duration(200+rng.IntN(400)) * time.Millisecond)
			l.fault(rng, kind)
			l.faults[kind]++
		}
		if l.decided.Load() >= int64(l.target) && l.leads.Load() > linearLeaderChanges && l.oneWay >= linearOneWayCuts {
			return
		}
		if time.Now().After(limit) {
			l.c.t.Errorf("%d operations and %d changes of the leader so far, and the time is up", l.decided.Load(), l.leads.Load()-1)
			return
		}
	}
}

func (l *linearRun) fault(rng *rand.Rand, kind string) {
	leader := l.c.leader()
	var others []*realNode
	for _, n := range l.c.nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	between := func(from, to *realNode) { l.cuts.set(from.id, to.id, true) }
	lasts := time.Duration(600+rng.IntN(900)) * time.Millisecond
	switch kind {
	case "transfer":
		_ = leader.current().LeadershipTransfer(l.c.t.Context(), "") // it may fail, under load
		return
	case "leader crashes":
		leader.current().fail(errors.New("crashed by the test"))
		if err := leader.current().Close(); err != nil {
			l.c.t.Errorf("crash %s: %v", leader.id, err)
		}
		if err := l.c.prepare(leader).Start(l.c.t.Context()); err != nil {
			l.c.t.Fatal(err)
		}
		return
	case "one way to one follower":
		l.oneWay++
		between(leader, others[rng.IntN(len(others))])
	case "leader speaks, hears nothing":
		l.oneWay++
		for _, o := range others {
			between(o, leader)
		}
	case "leader hears, speaks to nobody":
		l.oneWay++
		for _, o := range others {
			between(leader, o)
		}
	default:
		for _, o := range others {
			between(o, leader)
			between(leader, o)
		}
	}
	<-time.After(lasts)
	l.cuts.heal()
}

// The check finds out a region that answers reads from whatever node is at hand.
func TestStaleReadsAreFoundOut(t *testing.T) {
	seed := seedFrom(t)
	l := newLinearRun(t, 0)
	l.stale = true
	callers := make([]*caller, 4)
	for i := range callers {
		callers[i] = l.caller(i, seed)
	}
	l.enrol(callers)
	for round := range 20 {
		var clients sync.WaitGroup
		l.stop.Store(false)
		for _, c := range callers {
			clients.Go(c.run)
		}
		until(t, 20*time.Second, "some operations", func() bool { return l.decided.Load() > int64(300*(round+1)) })
		l.stop.Store(true)
		clients.Wait()
		if session, result := l.check(); result == porcupine.Illegal {
			t.Logf("found out at session %s after %d operations", session, l.decided.Load())
			return
		}
	}
	t.Errorf("%d operations, %d of them stale reads, and nothing was found", l.decided.Load(), l.reads)
}
