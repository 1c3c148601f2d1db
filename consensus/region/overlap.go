package region

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// overlap lets a leader send entries to the other voters while its own disk still writes them, so that a proof waits for the slower
// of two disks and not for one after the other (Ongaro's thesis, 10.2.1). Raft writes first and sends afterwards, and counts its own
// copy as soon as the write returns; here it returns at once. Nothing counts too early for that, by two rules:
//
//   - no answer of another voter that vouches for entries reaches Raft before they are on this disk too (Transport, pipeline), so
//     nothing is committed that is not: a leader needs at least one such answer, unless it is the only voter, and then it does not overlap;
//   - what is not on this disk yet is not shown to a Raft that no longer leads (logStore.GetLog), so this node vouches for nothing
//     that it may lose.
//
// One write is under way at a time, so under load entries share writes as before.
type overlap struct {
	*watched
	may   func() bool // this node leads, and at least one more voter must answer before anything is committed
	under atomic.Pointer[write]
}

// WritesFirst is a [LogBacking] that says whether entries must be in it before they are sent.
type WritesFirst interface{ WritesFirst() bool }

// write is one that goes on while Raft does. One that failed stays: nothing gets on the disk after it.
type write struct {
	from uint64        // first index
	done chan struct{} // closed when it ended
	err  error         // once done
}

// await returns when all entries up to index are on the disk, or with an error if they will never be.
func (o *overlap) await(index uint64, stop <-chan struct{}) error {
	w := o.under.Load()
	if w == nil || index < w.from {
		return nil
	}
	select {
	case <-w.done:
		return w.err
	case <-stop:
		return ErrClosed
	}
}

// settle returns when no write is under way.
func (o *overlap) settle() error { return o.await(^uint64(0), nil) }

// StoreLogs implements raft.LogStore. Raft calls it from one goroutine.
func (o *overlap) StoreLogs(logs []*raft.Log) error {
	if err := o.settle(); err != nil {
		return err
	}
	// With a configuration may come the right to commit alone.
	if len(logs) == 0 || !o.may() || slices.ContainsFunc(logs, func(l *raft.Log) bool { return l.Type == raft.LogConfiguration }) {
		return o.watched.StoreLogs(logs)
	}
	w := &write{from: logs[0].Index, done: make(chan struct{})}
	o.under.Store(w)
	go func() {
		if w.err = o.watched.StoreLogs(logs); w.err == nil {
			o.under.Store(nil)
		}
		close(w.done)
	}()
	return nil
}

// StoreLog implements raft.LogStore.
func (o *overlap) StoreLog(log *raft.Log) error { return o.StoreLogs([]*raft.Log{log}) }

// GetLog implements raft.LogStore.
func (o *overlap) GetLog(index uint64, log *raft.Log) error {
	if err := o.await(index, nil); err != nil {
		return err
	}
	return o.watched.GetLog(index, log)
}

// FirstIndex implements raft.LogStore.
func (o *overlap) FirstIndex() (uint64, error) {
	if err := o.settle(); err != nil {
		return 0, err
	}
	return o.watched.FirstIndex()
}

// LastIndex implements raft.LogStore.
func (o *overlap) LastIndex() (uint64, error) {
	if err := o.settle(); err != nil {
		return 0, err
	}
	return o.watched.LastIndex()
}

// DeleteRange implements raft.LogStore.
func (o *overlap) DeleteRange(first, last uint64) error {
	if err := o.settle(); err != nil {
		return err
	}
	return o.watched.DeleteRange(first, last)
}

// close closes the store when the write under way has ended.
func (o *overlap) close(limit time.Duration) error {
	if !within(limit, func() { _ = o.settle() }) { // it was reported
		return fmt.Errorf("close the Raft log: a write did not end within %v: %w", limit, ErrStalled)
	}
	return closeNamed("the Raft log", o.backing)
}
