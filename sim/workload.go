package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bizra/bizra/consensus/link"
	"github.com/bizra/bizra/sim/report"
)

// submitWithin is how long an agent waits for its receipt, in virtual time.
const submitWithin = 10 * time.Second

// work is the workload of a run.
type work struct {
	world *World
	plan  Plan
	draw  *rand.Rand
	trade *trade         // nil where regions have no market
	wg    sync.WaitGroup // of submissions under way
	count int            // proofs signed

	mu     sync.Mutex
	proofs report.Proofs
	took   []time.Duration    // from handing a proof over to its receipt
	given  []time.Time        // when the committed ones were handed over
	acked  []accepted         // those
	under  map[string][]int64 // their indices, by region
	open   int                // submissions under way
}

func newWork(w *World, p Plan) *work {
	k := &work{world: w, plan: p, draw: rand.New(rand.NewPCG(p.Config.Seed, 1)), under: map[string][]int64{}} //nolint:gosec // draws a workload, guards no secret
	if w.markets() {
		k.trade = newTrade(w, k.draw)
	}
	return k
}

// sessionIn is in how many proofs one opens a session, where regions have markets.
const sessionIn = 8

// next signs the region's next proof.
func (k *work) next(region string) []byte {
	if k.trade != nil && k.count%sessionIn != 0 {
		return k.trade.next(region).Canonical()
	}
	return k.world.opening(region, fmt.Sprintf("w%d", k.count))
}

// submit signs one proof for the region of which the turn is, and hands it to one of its nodes that are up.
func (k *work) submit(ctx context.Context, at time.Duration) {
	turn := int(at / k.plan.turn())
	region := k.world.names[turn%k.plan.workers()]
	up := k.world.upOf(region)
	if len(up) == 0 {
		return
	}
	n := up[k.draw.IntN(len(up))]
	k.count++
	proof := k.next(region)
	running, given := n.Running(), time.Now()
	k.mu.Lock()
	k.proofs.Submitted++
	k.open++
	k.mu.Unlock()
	k.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, submitWithin)
		defer cancel()
		outcomes, err := running.Submit(ctx, [][]byte{proof})
		k.note(n, given, outcomes, err)
	})
}

// note takes the answer to a proof.
func (k *work) note(n *Node, given time.Time, outcomes []link.Outcome, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open--
	switch {
	case err != nil || n.lies.Load() != nil: // a liar acknowledges what it likes
		k.proofs.Failed++
	case outcomes[0].Reject != nil, !outcomes[0].Receipt.Accepted():
		k.proofs.Refused++
	default:
		k.proofs.Committed++
		x := accepted{n.Region, outcomes[0].Receipt.Index, outcomes[0].Receipt.Digest}
		k.took, k.given, k.acked = append(k.took, time.Since(given)), append(k.given, given), append(k.acked, x)
		k.under[x.region] = append(k.under[x.region], x.index)
		k.world.Auditor.accept(x)
	}
}

// wait returns when every submission has its answer.
func (k *work) wait() { k.wg.Wait() }

func (k *work) idle() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.open == 0
}

// counts are the proofs so far; attested are those of which the region's newest certificate covers the entry.
func (k *work) counts() report.Proofs {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.proofs
	for region, indices := range k.under {
		if k.world.lies(region) { // what it once acknowledged, nobody counts on any more
			p.Committed -= len(indices)
			p.Failed += len(indices)
			continue
		}
		certified := k.world.Auditor.Certified(region)
		for _, index := range indices {
			if index < certified {
				p.Attested++
			}
		}
	}
	return p
}
