package region

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// Read lends fn the state as of now: it sees every proof that was acknowledged, by whichever leader, before Read was called. It
// must be called on the leader. What fn learned counts only if Read returns nil.
//
// By term, barrier, read, same term: the barrier is an entry of this term that is committed and applied after Read was called,
// so all that was committed before is applied; the second look at the term keeps a leader that was deposed meanwhile from
// answering. Reads that wait at the same time share a barrier. fn must not keep what it is lent.
func (r *Region) Read(ctx context.Context, fn func(StateMachine) error) error {
	if err := r.Failed(); err != nil {
		return err
	}
	rf := r.raft.Load()
	if rf == nil || rf.State() != raft.Leader {
		return ErrNotLeader
	}
	term := rf.CurrentTerm()
	if err := r.reads.wait(ctx, r.closing); err != nil {
		return errors.Join(err, r.Failed())
	}
	if err := r.replica.use(fn); err != nil {
		return err
	}
	if err := r.Failed(); err != nil {
		return err
	}
	if rf.State() != raft.Leader || rf.CurrentTerm() != term {
		return fmt.Errorf("%w any more", ErrNotLeader)
	}
	return nil
}

// ReadStale lends fn the state as this node has it, which may be behind. It works on every node, with or without a leader.
func (r *Region) ReadStale(fn func(StateMachine) error) error { return r.replica.use(fn) }

// barrier returns when everything committed before it is applied here.
func (r *Region) barrier() error {
	if err := r.begin(); err != nil {
		return err
	}
	defer r.flights.Done()
	switch err := r.raft.Load().Barrier(r.cfg.RPCTimeout).Error(); {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w (%w)", ErrNotLeader, err)
	default:
		return fmt.Errorf("wait for a barrier: %w", err)
	}
}

// reads lets reads share barriers. A read never joins a barrier that was sent before the read began: a leader elsewhere may have
// acknowledged something between the two.
type reads struct {
	barrier func() error

	mu      sync.Mutex // guards what follows
	next    []chan error
	running bool
}

func (b *reads) wait(ctx context.Context, closing <-chan struct{}) error {
	done := make(chan error, 1)
	b.mu.Lock()
	b.next = append(b.next, done)
	if !b.running {
		b.running = true
		go b.run()
	}
	b.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for a barrier: %w", context.Cause(ctx))
	case <-closing:
		return ErrClosed
	}
}

// run sends barriers while reads wait.
func (b *reads) run() {
	for {
		b.mu.Lock()
		waiting := b.next
		b.next = nil
		if len(waiting) == 0 {
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		err := b.barrier()
		for _, done := range waiting {
			done <- err
		}
	}
}
