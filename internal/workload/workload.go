// Package workload submits proofs to a region as agents do, remembers what was
// acknowledged, and asks nodes afterwards to prove it. The demo and the tests with real
// processes share it.
//
// It promises that a proof that the region did not decide is submitted again, the same
// bytes, until it does or the context ends, so that what it remembers as acknowledged is
// exactly what a client would rely on. It believes no node: an inclusion counts only if
// the leaf is the hash of the very entry that the receipt and the signed envelope make.
package workload

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/pci"
)

// Acked is one proof that a region acknowledged.
type Acked struct {
	Envelope *pci.Envelope
	Receipt  client.Receipt
	Sent     time.Time // for the first time
	At       time.Time // when the receipt came
}

// Record is what was acknowledged so far. Safe for concurrent use.
type Record struct {
	mu     sync.Mutex
	acked  []Acked // in the order in which the receipts came
	around int     // proofs sent and not decided yet
}

func (r *Record) sending(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.around += n
}

// Add takes what was acknowledged elsewhere.
func (r *Record) Add(acked ...Acked) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acked = append(r.acked, acked...)
}

// Acked lists all of them.
func (r *Record) Acked() []Acked {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.acked)
}

// Len is how many there are.
func (r *Record) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.acked)
}

// UnderWay is how many proofs were sent and are not decided yet.
func (r *Record) UnderWay() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.around
}

// FirstSentAfter finds the first acknowledgement of a proof that was not sent before a time.
func (r *Record) FirstSentAfter(t time.Time) (Acked, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.acked, func(a Acked) bool { return !a.Sent.Before(t) })
	if i < 0 {
		return Acked{}, false
	}
	return r.acked[i], true
}

// Agent signs and submits. Several may share a Record.
type Agent struct {
	Client *client.Client
	Signer client.Signer
	Known  client.Context // PolicyHash and Region
	Record *Record
}

// Step is one proof to be: an action, its data, and the head that it builds on, if any.
type Step struct {
	Action string
	Data   map[string]any
	Head   string
}

// Sign makes the step's envelope.
func (a *Agent) Sign(s Step) (*pci.Envelope, error) {
	data, err := pci.FromGo(s.Data)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", s.Action, err)
	}
	known := a.Known
	known.StateHash = s.Head
	return client.Complete(&client.Payload{Action: s.Action, Data: data}, a.Signer, known)
}

// Submit signs a step and submits it until it is decided. The error of a refusal is a
// [*pci.Reject], beside its receipt where it has one; a refusal is not remembered.
func (a *Agent) Submit(ctx context.Context, s Step) (Acked, error) {
	env, err := a.Sign(s)
	if err != nil {
		return Acked{}, err
	}
	sent := time.Now()
	a.Record.sending(1)
	defer a.Record.sending(-1)
	for {
		r, err := a.Client.Submit(ctx, env.Canonical())
		if err == nil {
			acked := Acked{Envelope: env, Receipt: *r, Sent: sent, At: time.Now()}
			if err = r.Err(); err == nil {
				a.Record.Add(acked)
			}
			return acked, err
		}
		if final(ctx, err) {
			return Acked{}, err
		}
	}
}

// final says whether submitting the same again is of no use.
func final(ctx context.Context, err error) bool {
	var reject *pci.Reject
	if ctx.Err() != nil || errors.As(err, &reject) {
		return true
	}
	var problem *client.Problem
	return errors.As(err, &problem) && !problem.Temporary()
}

// SubmitAll submits steps in one request, again until every one is decided. All must
// be accepted.
func (a *Agent) SubmitAll(ctx context.Context, steps []Step) ([]Acked, error) {
	acked := make([]Acked, len(steps))
	wire := make([][]byte, len(steps))
	sent := time.Now()
	for i, s := range steps {
		env, err := a.Sign(s)
		if err != nil {
			return nil, err
		}
		acked[i].Envelope, acked[i].Sent, wire[i] = env, sent, env.Canonical()
	}
	a.Record.sending(len(steps))
	defer a.Record.sending(-len(steps))
	for {
		outcomes, err := a.Client.SubmitAll(ctx, wire)
		if err == nil {
			for i, o := range outcomes {
				if err := o.Err(); err != nil {
					return nil, fmt.Errorf("proof %d of %d: %w", i+1, len(steps), err)
				}
				acked[i].Receipt, acked[i].At = *o.Receipt, time.Now()
			}
			a.Record.Add(acked...)
			return acked, nil
		}
		if final(ctx, err) {
			return nil, err
		}
	}
}

// Walk is a session that an agent leads round and round.
type Walk struct {
	ID    string
	agent *Agent
	head  string
	steps int
}

// round is what a session can go through any number of times.
func round() []string { return []string{"active", "computing", "validated", "committed"} }

// Open opens a session.
func (a *Agent) Open(ctx context.Context, id string) (*Walk, error) {
	acked, err := a.Submit(ctx, OpenStep(a.Known.Region, id))
	if err != nil {
		return nil, fmt.Errorf("open session %s: %w", id, err)
	}
	return &Walk{ID: id, agent: a, head: acked.Receipt.Head}, nil
}

// OpenStep opens a session in a region.
func OpenStep(region, id string) Step {
	return Step{Action: "session.open", Data: map[string]any{"region": region, "session": id}}
}

// Step takes the session one step on.
func (w *Walk) Step(ctx context.Context) (Acked, error) {
	acked, err := w.agent.Submit(ctx, w.next())
	if err != nil {
		return acked, fmt.Errorf("step %d of session %s: %w", w.steps+1, w.ID, err)
	}
	w.took(acked)
	return acked, nil
}

func (w *Walk) next() Step {
	to := round()[w.steps%len(round())]
	return TransitionStep(w.ID, to, w.head, fmt.Sprintf("step %d", w.steps+1))
}

// TransitionStep takes a session from a head to a state. It says what is done, on what and what
// for, so that it passes FATE.
func TransitionStep(id, to, head, reason string) Step {
	return Step{Action: "session.transition", Head: head, Data: map[string]any{"session": id, "to": to, "reason": reason,
		"operation": "load_step", "operation_type": "control", "intent": "load step", "input": map[string]any{"to": to},
		"meta": map[string]any{"description": "one step of a session under load"}}}
}

func (w *Walk) took(a Acked) {
	w.head = a.Receipt.Head
	w.steps++
}

// Nodes is how many nodes the session has.
func (w *Walk) Nodes() int64 { return int64(w.steps) + 1 }

// OpenAll opens sessions in one request.
func (a *Agent) OpenAll(ctx context.Context, ids []string) ([]*Walk, error) {
	steps := make([]Step, len(ids))
	for i, id := range ids {
		steps[i] = OpenStep(a.Known.Region, id)
	}
	acked, err := a.SubmitAll(ctx, steps)
	if err != nil {
		return nil, fmt.Errorf("open %d sessions: %w", len(ids), err)
	}
	walks := make([]*Walk, len(ids))
	for i, id := range ids {
		walks[i] = &Walk{ID: id, agent: a, head: acked[i].Receipt.Head}
	}
	return walks, nil
}

// StepAll takes every session one step on, in one request of the first one's agent.
func StepAll(ctx context.Context, walks []*Walk) error {
	steps := make([]Step, len(walks))
	for i, w := range walks {
		steps[i] = w.next()
	}
	acked, err := walks[0].agent.SubmitAll(ctx, steps)
	if err != nil {
		return fmt.Errorf("take %d sessions a step on: %w", len(walks), err)
	}
	for i, w := range walks {
		w.took(acked[i])
	}
	return nil
}

// RegisterStep registers an agent of type PAT, for an operator to sign.
func RegisterStep(region, id string, key [32]byte) Step {
	return Step{Action: "agent.register", Data: map[string]any{"region": region, "agent_id": id, "agent_type": pci.AgentPAT,
		"public_key": hex.EncodeToString(key[:]), "owner": "owner of " + id}}
}
