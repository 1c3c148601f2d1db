package link

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/bizra/bizra/p2p"
)

const leaderWatchEvery = 100 * time.Millisecond

// courier carries submissions to the leader. While few calls are under way each goes at
// once; while as many are as may be, what waits goes together in the next: a call costs
// more than the proof in it.
type courier struct {
	callsMax int
	send     func(to peer.ID, raw [][]byte, document []byte) (*submitResponse, error)

	wg sync.WaitGroup // of the calls

	mu      sync.Mutex // guards what follows
	waiting []*parcel
	calls   int
}

// parcel is one submission on its way. Its fields are guarded by courier.mu until done
// is closed.
type parcel struct {
	to       peer.ID
	raw      [][]byte
	document []byte // of the one proof that adopts it
	bytes    int
	response *submitResponse
	err      error
	done     chan struct{}
}

func newCourier(callsMax int, send func(peer.ID, [][]byte, []byte) (*submitResponse, error)) *courier {
	return &courier{callsMax: callsMax, send: send}
}

// close waits for the calls under way, which the caller has ended.
func (c *courier) close() { c.wg.Wait() }

// carry sends proofs to a node and waits for its answer. If the context ends while they
// still wait for a call, they are taken back.
func (c *courier) carry(ctx context.Context, to peer.ID, raw [][]byte, document []byte) (*submitResponse, error) {
	p := &parcel{to: to, raw: raw, document: document, bytes: sizeOf(raw), done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, p)
	if c.calls < c.callsMax {
		c.calls++
		c.wg.Go(c.run)
	}
	c.mu.Unlock()
	select {
	case <-p.done:
		return p.response, p.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, p); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		return nil, fmt.Errorf("%w: wait for a turn to forward: %w", ErrUnavailable, context.Cause(ctx))
	}
	select {
	case <-p.done:
		return p.response, p.err
	default:
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
	}
}

// run makes calls while anything waits.
func (c *courier) run() {
	for {
		c.mu.Lock()
		load := c.load()
		if len(load) == 0 {
			c.calls--
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		var raw [][]byte
		for _, p := range load {
			raw = append(raw, p.raw...)
		}
		response, err := c.send(load[0].to, raw, load[0].document)
		c.deliver(load, len(raw), response, err)
	}
}

// load takes what goes in the next call: the first that waits and others to the same
// node, in their order, as far as they fit; a document's proof alone. Under mu.
func (c *courier) load() []*parcel {
	var load []*parcel
	proofs, size := 0, 0
	c.waiting = slices.DeleteFunc(c.waiting, func(p *parcel) bool {
		fits := len(load) == 0 || p.document == nil && load[0].document == nil && p.to == load[0].to && proofs+len(p.raw) <= SubmitProofsMax && size+p.bytes <= SubmitBytesMax
		if fits {
			load = append(load, p)
			proofs, size = proofs+len(p.raw), size+p.bytes
		}
		return fits
	})
	return load
}

// deliver hands each submission of a call its part of the answer.
func (c *courier) deliver(load []*parcel, proofs int, response *submitResponse, err error) {
	if err == nil && response.Failure == nil && len(response.Outcomes) != proofs {
		err = fmt.Errorf("%w: the leader gave %d outcomes for %d proofs", ErrUnknownOutcome, len(response.Outcomes), proofs)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	from := 0
	for _, p := range load {
		switch {
		case err != nil:
			p.err = err
		case response.Failure != nil:
			p.response = response
		default:
			p.response = &submitResponse{Outcomes: response.Outcomes[from : from+len(p.raw)]}
		}
		from += len(p.raw)
		close(p.done)
	}
}

// forward has a submission carried to another node and reads what became of it.
func (in *Intake) forward(ctx context.Context, to peer.ID, s *submission) ([]Outcome, error) {
	response, err := in.courier.carry(ctx, to, s.raw, s.document)
	if err != nil {
		return nil, err
	}
	return in.answered(s, response)
}

// call asks another node to decide proofs. It ends with the intake, after
// AttemptTimeout, or when this node's Raft knows of another leader.
func (in *Intake) call(to peer.ID, raw [][]byte, document []byte) (*submitResponse, error) {
	ctx, cancel := context.WithTimeout(in.ctx, in.cfg.AttemptTimeout)
	defer cancel()
	if err := in.cfg.Host.Connect(ctx, peer.AddrInfo{ID: to}); err != nil {
		return nil, fmt.Errorf("%w: connect to %v: %w", ErrUnavailable, to, err)
	}
	in.stats.forwarded.Add(1)
	stop := in.watch(to, cancel)
	defer stop()
	request := submitRequest{Proofs: raw, Document: document, Hops: 1, TimeoutMillis: max(1, in.cfg.AttemptTimeout.Milliseconds())}
	var response submitResponse
	if err := p2p.CallLimit(ctx, in.cfg.Host, to, p2p.ProtocolSubmit, submitResponseBytesMax, &request, &response); err != nil {
		if errors.Is(err, p2p.ErrBusy) || errors.Is(err, p2p.ErrCallRefused) {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return &response, nil
}

// watch ends a call to a leader once this node's Raft knows another: the one called
// may be cut off, and would leave us waiting.
func (in *Intake) watch(to peer.ID, cancel func()) (stop func()) {
	if in.raftLeader() != to {
		return func() {} // our Raft does not know better
	}
	ended := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(leaderWatchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				if id := in.raftLeader(); id != "" && id != to {
					cancel()
					return
				}
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}
