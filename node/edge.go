package node

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/pci"
)

// What a leader lets through to Raft of an agent whose breaker is not clear. The state machine refuses
// such proofs itself, and cheaply; but each would cost a place in a Raft log entry first.
const (
	heldPerSecond = 1
	heldBurst     = 10
)

// edge holds back proofs of agents that the region's breakers limit. It goes by public keys whose
// signatures were verified, so that nobody can use up what is left to another.
type edge struct {
	mu   sync.Mutex
	held map[federation.Key]*held // by public key
}

type held struct {
	breaker fsm.BreakerState
	limiter *rate.Limiter
}

// set makes these the agents that are held back, and keeps the buckets of those that were already.
func (e *edge) set(limited []fsm.Limited) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := make(map[federation.Key]*held, len(limited))
	for _, l := range limited {
		h := e.held[l.Agent.PublicKey]
		if h == nil {
			h = &held{limiter: rate.NewLimiter(heldPerSecond, heldBurst)}
		}
		h.breaker = l.Breaker
		now[l.Agent.PublicKey] = h
	}
	e.held = now
}

// admit splits a batch: the envelopes that may be proposed, and receipts for the others at their places.
func (e *edge) admit(region string, envelopes []*pci.Envelope, receipts []fsm.Receipt) (open []*pci.Envelope, places []int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for i, env := range envelopes {
		h := e.held[env.Sender.PublicKey]
		if h == nil || h.limiter.AllowN(now, 1) {
			open, places = append(open, env), append(places, i)
			continue
		}
		receipts[i] = fsm.Receipt{Digest: env.Digest(), EnvelopeID: env.EnvelopeID, Code: pci.RejectRateLimited, Region: region,
			Action: env.Payload.Action, AgentID: env.Sender.AgentID,
			Reason: fmt.Sprintf("agent %.80q is %v, and this node passes on %d of its proofs a second; `bizra agent show` tells until when", env.Sender.AgentID, h.breaker, heldPerSecond)}
	}
	return open, places
}

// refreshEdge takes up which agents the region limits now.
func (n *Node) refreshEdge() {
	limited, err := n.limitedAgents()
	if err != nil {
		n.log.Warn("the agents that the breaker limits could not be read; the state machine still refuses them", "error", err)
		return
	}
	n.edge.set(limited)
}
