package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/bizra/bizra/consensus/link"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/p2p"
	"github.com/bizra/bizra/pci"
)

const invitedFor = 100 * 365 * 24 * time.Hour

// invite is the invitation by which a member may join.
func (w *World) invite(n *Node) ([]byte, error) {
	inv, err := p2p.SignInvitation(p2p.Invitation{Federation: w.Fed.Document.Name, Region: n.Region, Node: federation.Key(n.key.Public()),
		ExpiresMillis: time.Now().Add(invitedFor).UnixMilli()}, w.Fed.Operators[n.Region])
	return inv.Canonical(), err
}

// Submit signs a proof that opens a session in a region, and hands it to one of its nodes, which
// must acknowledge it. It is remembered: acknowledged proofs are never lost.
func (w *World) Submit(ctx context.Context, n *Node) (fsm.Receipt, error) {
	if n.Running() == nil {
		return fsm.Receipt{}, errDown
	}
	w.proofs++
	o, err := w.open(ctx, n, fmt.Sprintf("s%d", w.proofs))
	switch {
	case err != nil:
		return fsm.Receipt{}, fmt.Errorf("sim: submit at %s: %w", n.Name(), err)
	case o.Reject != nil:
		return o.Receipt, fmt.Errorf("sim: submit at %s: %w", n.Name(), o.Reject)
	case !o.Receipt.Accepted():
		return o.Receipt, fmt.Errorf("sim: submit at %s: refused: %v %s", n.Name(), o.Receipt.Code, o.Receipt.Reason)
	}
	if n.lies.Load() != nil {
		return o.Receipt, nil // a liar acknowledges what it likes
	}
	w.Auditor.accept(accepted{n.Region, o.Receipt.Index, o.Receipt.Digest})
	return o.Receipt, nil
}

// open signs and hands over the proof that opens a session.
func (w *World) open(ctx context.Context, n *Node, session string, change ...func(*pci.Draft)) (link.Outcome, error) {
	outcomes, err := n.Running().Submit(ctx, [][]byte{w.opening(n.Region, session, change...)})
	if err != nil {
		return link.Outcome{}, err
	}
	return outcomes[0], nil
}

// agent is who signs for a region.
func (w *World) agent(region string) *testfed.Signer {
	agent := w.agents[region]
	if agent == nil {
		agent = w.Fed.Agent("agent-of-"+region, 0)
		agent.Key = testfed.Key(w.cfg.draw("agent-of-" + region))
		w.agents[region] = agent
	}
	return agent
}

// enrol has operators register the regions' agents where agents do not register themselves.
func (w *World) enrol(ctx context.Context) error {
	if w.openly() {
		return nil
	}
	for _, region := range w.names {
		if err := w.hand(ctx, region, w.register(region, w.agent(region))); err != nil {
			return err
		}
	}
	return nil
}

// openly says whether agents register themselves.
func (w *World) openly() bool { return w.Fed.Document.Constitution.Limits.OpenRegistration }

// register is the operator's proof that registers an agent.
func (w *World) register(region string, agent *testfed.Signer) (proof *pci.Envelope) {
	w.byOperator(region, func(operator *testfed.Signer) { proof = operator.Register(region, agent) })
	return proof
}

// byOperator has the region's operator sign, one proof after the other: no two may have one nonce.
func (w *World) byOperator(region string, sign func(*testfed.Signer)) {
	w.operating.Lock()
	defer w.operating.Unlock()
	operator := w.operators[region]
	if operator == nil {
		operator = w.Fed.Operator(region, 0)
		w.operators[region] = operator
	}
	operator.NowMillis = w.wallMillis()
	sign(operator)
}

// wallMillis is what a clock on an agent's wall shows, in ms since 1970.
func (w *World) wallMillis() int64 { return time.Now().Add(time.Duration(w.ahead.Load())).UnixMilli() }

// hand gives a proof to a region's first voter, and takes no refusal.
func (w *World) hand(ctx context.Context, region string, proof *pci.Envelope) error {
	outcomes, err := w.Voters(region)[0].Running().Submit(ctx, [][]byte{proof.Canonical()})
	switch {
	case err != nil:
		return fmt.Errorf("sim: submit %s to %s: %w", proof.Payload.Action, region, err)
	case outcomes[0].Reject != nil:
		return fmt.Errorf("sim: submit %s to %s: %w", proof.Payload.Action, region, outcomes[0].Reject)
	case !outcomes[0].Receipt.Accepted():
		return fmt.Errorf("sim: submit %s to %s: refused: %v: %s", proof.Payload.Action, region, outcomes[0].Receipt.Code, outcomes[0].Receipt.Message())
	}
	return nil
}

// opening signs the proof that opens a session.
func (w *World) opening(region, session string, change ...func(*pci.Draft)) []byte {
	agent := w.agent(region)
	agent.NowMillis = w.wallMillis()
	return agent.Sign("session.open", map[string]any{"region": region, "session": session}, "", change...).Canonical()
}

// Attested says whether an entry of a region is covered by a certificate that so many of the
// federation's nodes hold, each in its state or as the newest that it heard of.
func (w *World) Attested(region string, index int64) bool { return w.Auditor.Certified(region) > index }
