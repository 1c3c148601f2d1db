package region

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/store"
)

// StateMachine is the state machine with its store, as this package needs it. [fsm.Machine] over a store is one.
type StateMachine interface {
	// Apply applies commands in order and skips what it holds already. An error means that this replica must stop.
	Apply(cmds []fsm.Command) ([]fsm.Result, error)
	// AppliedIndex is the index and term of the last command applied.
	AppliedIndex() (index, term uint64)
	// Size is the number of entries of the ledger.
	Size() int64
	// Sync makes everything applied durable.
	Sync() error
	// Checkpoint writes a durable copy of the state, a flat directory of files, into a new directory.
	Checkpoint(dir string) error
	Close() error
}

// StoredMachine makes a StateMachine of the real machine and its store; Close closes both.
func StoredMachine(m *fsm.Machine, st store.Store) StateMachine { return &storedMachine{m, st} }

type storedMachine struct {
	*fsm.Machine
	store store.Store
}

func (s *storedMachine) Sync() error                 { return s.store.Sync() }
func (s *storedMachine) Checkpoint(dir string) error { return s.store.Checkpoint(dir) }
func (s *storedMachine) Close() error                { return errors.Join(s.Machine.Close(), s.store.Close()) }

// errStopped is what Raft is given for an entry that was not applied because this replica has stopped.
var errStopped = fmt.Errorf("not applied: %w", ErrFailed)

// replica is Raft's view of the state machine.
//
// Raft calls ApplyBatch, Snapshot and Restore from one goroutine, which alone applies. Others use the state under mu held for
// reading; Restore, which replaces the machine by another, holds it for writing.
type replica struct {
	open      func() (StateMachine, error)
	snapshots *snapshots
	align     func(p *pointer) error
	limit     time.Duration // of one call of Apply
	fail      func(error)
	failed    func() error
	// configured is told each committed configuration.
	configured func(c raft.Configuration, index uint64)
	// applied is told each result, in order.
	applied func(index uint64, r *fsm.Result)

	mu    sync.RWMutex
	state StateMachine // nil while and after it is replaced or closed

	index atomic.Uint64 // last command applied
	size  atomic.Int64  // entries of the ledger
}

var _ raft.BatchingFSM = (*replica)(nil)

// start opens the state machine.
func (r *replica) start() error {
	state, err := r.open()
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	r.state = state
	r.note()
	return nil
}

func (r *replica) note() {
	index, _ := r.state.AppliedIndex()
	r.index.Store(index)
	r.size.Store(r.state.Size())
}

// ApplyBatch implements raft.BatchingFSM. Each response is a *fsm.Result, or an error where nothing was applied.
func (r *replica) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	commands := make([]fsm.Command, 0, len(logs))
	for _, log := range logs {
		if log.Type == raft.LogCommand {
			commands = append(commands, fsm.Command{Index: log.Index, Term: log.Term, Data: log.Data})
		}
	}
	results, err := r.apply(commands)
	if err != nil {
		for i := range responses {
			responses[i] = err
		}
		return responses
	}
	next := 0
	for i, log := range logs {
		if log.Type != raft.LogCommand {
			// Checked when it came (check.go), or our own.
			if c, err := decodeConfiguration(log.Data); err == nil {
				r.configured(c, log.Index)
			}
			continue
		}
		responses[i] = &results[next]
		r.applied(log.Index, &results[next])
		next++
	}
	return responses
}

func (r *replica) apply(commands []fsm.Command) ([]fsm.Result, error) {
	if r.failed() != nil {
		return nil, errStopped
	}
	if len(commands) == 0 {
		return nil, nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.state == nil {
		return nil, errStopped
	}
	results := make([]fsm.Result, 0, len(commands))
	for part := range slices.Chunk(commands, applyCommandsMax) {
		done, err := r.applyPart(part)
		if err != nil {
			// From here on nothing is acknowledged: what the store holds is no longer what the log says.
			r.fail(fmt.Errorf("apply entries %d to %d: %w", part[0].Index, part[len(part)-1].Index, err))
			return nil, errStopped
		}
		results = append(results, done...)
		r.note()
	}
	return results, nil
}

// applyCommandsMax is how many commands one call of Apply gets: enough to share a write of the store, and few enough that the most
// expensive proofs there can be stay far below ApplyLimit.
const applyCommandsMax = 8

// applyPart calls Apply under its time limit.
func (r *replica) applyPart(commands []fsm.Command) ([]fsm.Result, error) {
	timer := time.AfterFunc(r.limit, func() { r.fail(fmt.Errorf("apply: %w for %v", ErrStalled, r.limit)) })
	defer timer.Stop()
	results, err := r.state.Apply(commands)
	if err == nil && len(results) != len(commands) {
		err = fmt.Errorf("the state machine gave %d results for %d commands", len(results), len(commands))
	}
	return results, err
}

// Apply implements raft.FSM.
func (r *replica) Apply(log *raft.Log) any { return r.ApplyBatch([]*raft.Log{log})[0] }

// Snapshot implements raft.FSM. It only notes how far the state is.
func (r *replica) Snapshot() (raft.FSMSnapshot, error) {
	if r.failed() != nil {
		return nil, errStopped
	}
	index := r.index.Load()
	if index == 0 {
		return nil, raft.ErrNothingNewToSnapshot
	}
	return &replicaSnapshot{r, index}, nil
}

type replicaSnapshot struct {
	replica *replica
	applied uint64
}

// Persist implements raft.FSMSnapshot.
func (s *replicaSnapshot) Persist(to raft.SnapshotSink) error {
	sink, ok := to.(*sink)
	if !ok {
		return fmt.Errorf("persist into a %T", to)
	}
	return sink.persist(s.applied, func() error {
		return s.replica.use(func(state StateMachine) error { return state.Sync() })
	})
}

// Release implements raft.FSMSnapshot.
func (*replicaSnapshot) Release() {}

// use lends the state machine for reading.
func (r *replica) use(fn func(StateMachine) error) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.state == nil {
		return ErrClosed
	}
	return fn(r.state)
}

// checkpoint copies the state and tells the index that the copy holds at least.
func (r *replica) checkpoint(dir string) (applied uint64, err error) {
	err = r.use(func(state StateMachine) error {
		applied = r.index.Load()
		return state.Checkpoint(dir)
	})
	return applied, err
}

// Restore implements raft.FSM: it puts a received snapshot in place. If that fails in the middle, the replica stops, and the
// next start finishes or undoes it.
func (r *replica) Restore(source io.ReadCloser) error {
	if w, ok := source.(raft.ReadCloserWrapper); ok {
		source = w.WrappedReadCloser()
	}
	incoming, ok := source.(*incomingSnapshot)
	if !ok {
		return fmt.Errorf("restore from a %T: only a received snapshot can be", source)
	}
	if err := r.restore(incoming.id); err != nil {
		r.fail(fmt.Errorf("put snapshot %s in place: %w", incoming.id, err))
		return errors.Join(errStopped, err)
	}
	return nil
}

func (r *replica) restore(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == nil {
		return ErrClosed
	}
	if err := r.state.Close(); err != nil {
		return fmt.Errorf("close the state: %w", err)
	}
	r.state = nil
	if err := r.snapshots.swap(id); err != nil {
		return err
	}
	if err := r.start(); err != nil {
		return err
	}
	p := r.snapshots.newest()
	if index := r.index.Load(); index < p.Applied {
		return fmt.Errorf("%w: state at %d, snapshot at %d", ErrBehindSnapshot, index, p.Applied)
	}
	r.configured(p.Configuration, p.ConfigurationIndex)
	return r.align(p)
}

// close closes the state machine.
func (r *replica) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == nil {
		return nil
	}
	err := r.state.Close()
	r.state = nil
	if err != nil {
		return fmt.Errorf("close the state: %w", err)
	}
	return nil
}
