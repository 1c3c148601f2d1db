package region

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// AddNonvoter adds a server that receives the log and does not vote. It returns once the change is committed. A server that is
// in the configuration already stays as it is.
func (r *Region) AddNonvoter(ctx context.Context, id raft.ServerID) error {
	return r.change(ctx, "add a non-voter", func(rf *raft.Raft, limit time.Duration) raft.IndexFuture {
		return rf.AddNonvoter(id, raft.ServerAddress(id), 0, limit)
	})
}

// AddVoter lets a server vote, which was added as a non-voter and has caught up.
func (r *Region) AddVoter(ctx context.Context, id raft.ServerID) error {
	return r.change(ctx, "add a voter", func(rf *raft.Raft, limit time.Duration) raft.IndexFuture {
		return rf.AddVoter(id, raft.ServerAddress(id), 0, limit)
	})
}

// RemoveServer takes a server out of the configuration.
func (r *Region) RemoveServer(ctx context.Context, id raft.ServerID) error {
	return r.change(ctx, "remove a server", func(rf *raft.Raft, limit time.Duration) raft.IndexFuture {
		return rf.RemoveServer(id, 0, limit)
	})
}

// change makes one change of the configuration and waits until it is committed or the context ends; then it may yet be.
func (r *Region) change(ctx context.Context, what string, do func(*raft.Raft, time.Duration) raft.IndexFuture) error {
	if err := r.begin(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	done := make(chan error, 1)
	go func() {
		defer r.flights.Done()
		done <- do(r.raft.Load(), r.cfg.RPCTimeout).Error()
	}()
	select {
	case err := <-done:
		if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) {
			err = fmt.Errorf("%w (%w)", ErrNotLeader, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
}
