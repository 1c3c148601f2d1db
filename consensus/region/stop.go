package region

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// How long a stop waits for each of its steps before it goes on without it.
const (
	drainTimeout    = 5 * time.Second
	shutdownTimeout = 15 * time.Second
)

// Failed says why this replica has stopped, nil while it has not.
func (r *Region) Failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// fail stops the replica for good. It may be called from any goroutine, Raft's included, and does not wait.
func (r *Region) fail(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil || r.closed {
		return
	}
	r.failure = fmt.Errorf("%w: %w", ErrFailed, cause)
	r.cfg.Logger.Error("this replica stops", "error", cause)
	failure := r.failure
	r.workers.Add(1)
	go func() {
		defer r.workers.Done()
		r.bringDown(failure)
	}()
}

// bringDown ends all contact with the other voters, so that they elect another leader if we were it, and then Raft. What was
// being committed is answered by Raft when it notices; a disk that hangs may keep it from that.
func (r *Region) bringDown(failure error) {
	r.intake.refuse(failure)
	r.closeTransport()
	r.cancel()
	if r.cfg.OnFailure != nil {
		r.cfg.OnFailure(failure)
	}
	within(drainTimeout, r.flights.Wait)
	if rf := r.raft.Load(); rf != nil {
		rf.Shutdown()
	}
}

func (r *Region) closeTransport() {
	r.mu.Lock()
	t := r.transport
	r.mu.Unlock()
	if c, ok := t.(raft.WithClose); ok {
		_ = c.Close() // ours never fails
	}
}

// Close ends the replica: no more proofs are taken, those under way are finished, leadership is handed over, then Raft, the state
// machine and the stores are closed. Each step is bounded; an error says which could not be finished.
func (r *Region) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	failed := r.failure != nil
	r.mu.Unlock()
	r.intake.refuse(ErrClosed)
	if r.IsLeader() && !failed && len(r.Configuration().Servers) > 1 {
		r.flights.Add(1)
		if err := r.transferLeadership(context.Background(), ""); err != nil {
			r.cfg.Logger.Warn("leadership was not handed over", "error", err)
		}
	}
	r.cancel()
	if !within(drainTimeout, r.flights.Wait) || !within(drainTimeout, r.workers.Wait) {
		r.cfg.Logger.Warn("closing while something still waits for Raft")
	}
	if rf := r.raft.Load(); rf != nil {
		future := rf.Shutdown()
		r.closeTransport()
		if !within(shutdownTimeout, func() { _ = future.Error() }) {
			// Raft is inside a call of the log store; closing that would block as well.
			return fmt.Errorf("close the region: Raft did not end within %v: %w", shutdownTimeout, ErrStalled)
		}
	}
	r.closeTransport()
	return r.closeStores()
}

// abandon undoes a Start that failed.
func (r *Region) abandon() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.closeTransport()
	r.workers.Wait()
	if err := r.closeStores(); err != nil {
		r.cfg.Logger.Warn("after a start that failed", "error", err)
	}
}

func (r *Region) closeStores() error {
	err := r.replica.close()
	if r.logs != nil {
		err = errors.Join(err, r.logs.close(shutdownTimeout))
	}
	return err
}

func closeNamed(what string, c io.Closer) error {
	if err := c.Close(); err != nil {
		return fmt.Errorf("close %s: %w", what, err)
	}
	return nil
}

// within says whether fn returned in time; if not, it is left behind.
func within(limit time.Duration, fn func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// LeadershipTransfer hands leadership to a voter, or with "" to the one that is furthest. It is bounded by ctx and by the
// configuration's TransferTimeout; one runs at a time.
func (r *Region) LeadershipTransfer(ctx context.Context, to raft.ServerID) error {
	if to != "" && !isVoter(r.Configuration(), to) {
		return fmt.Errorf("hand over leadership: %s is not one of the region's voters", to)
	}
	if err := r.begin(); err != nil {
		return fmt.Errorf("hand over leadership: %w", err)
	}
	return r.transferLeadership(ctx, to)
}

// transferLeadership ends a flight that its caller has begun.
func (r *Region) transferLeadership(ctx context.Context, to raft.ServerID) error {
	rf := r.raft.Load()
	if rf.State() != raft.Leader {
		r.flights.Done()
		return fmt.Errorf("hand over leadership: %w", ErrNotLeader)
	}
	if !r.transfer.TryLock() {
		r.flights.Done()
		return errors.New("hand over leadership: that is under way already")
	}
	done := make(chan error, 1)
	go func() {
		defer r.flights.Done()
		defer r.transfer.Unlock()
		if to == "" {
			done <- rf.LeadershipTransfer().Error()
			return
		}
		done <- rf.LeadershipTransferToServer(to, raft.ServerAddress(to)).Error()
	}()
	ctx, cancel := context.WithTimeout(ctx, r.cfg.TransferTimeout)
	defer cancel()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("hand over leadership: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hand over leadership: %w", context.Cause(ctx))
	}
}
