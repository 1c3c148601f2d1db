package sim

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/bizra/bizra/fsm/store"
)

// errCrashed is what the programs of a crashed node get of their disk.
var errCrashed = errors.New("sim: the node has crashed")

// disk is a node's, over its crashes: Raft's log, of which every write is durable, and the states
// as of their last sync. Small files are the operating system's.
type disk struct {
	log *raft.InmemStore

	mu      sync.Mutex
	states  map[string]*store.Memory // durable, by identity; never changed
	copies  map[string]standing      // of other regions' ledgers, durable, by directory
	arrived int                      // states that came as files
}

func newDisk() *disk {
	return &disk{log: raft.NewInmemStore(), states: make(map[string]*store.Memory), copies: make(map[string]standing)}
}

// mount is a disk as one start of a node has it, until it crashes.
type mount struct {
	disk *disk
	dead atomic.Bool
}

func (m *mount) check() error {
	if m.dead.Load() {
		return errCrashed
	}
	return nil
}

const (
	arrivedFile  = "memory.cbor" // what [store.Memory] writes as its checkpoint
	identityFile = "identity"    // of a state that arrived so, since Raft renames its folder
)

// identity names the state in a directory. One that another voter sent is a file at first.
func (d *disk) identity(dir string) (string, error) {
	if _, err := os.Lstat(filepath.Join(dir, arrivedFile)); errors.Is(err, os.ErrNotExist) {
		return dir, nil
	}
	path := filepath.Join(dir, identityFile)
	b, err := os.ReadFile(path) //nolint:gosec // below the simulator's own folder
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return string(b), err
	}
	st, err := store.OpenMemory(dir)
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrived++
	id := "arrived " + strconv.Itoa(d.arrived)
	d.states[id] = st
	return id, os.WriteFile(path, []byte(id), 0o600)
}

func (m *mount) open(dir string) (store.Store, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	id, err := m.disk.identity(dir)
	if err != nil {
		return nil, err
	}
	m.disk.mu.Lock()
	durable := m.disk.states[id]
	m.disk.mu.Unlock()
	if durable == nil {
		return &mounted{store.NewMemory(), m, id}, nil
	}
	live, err := durable.Clone()
	return &mounted{live, m, id}, err
}

func (m *mount) remove(dir string) error {
	if err := m.check(); err != nil {
		return err
	}
	id, err := m.disk.identity(dir)
	if err != nil {
		return err
	}
	m.disk.mu.Lock()
	delete(m.disk.states, id)
	copied, shared := m.disk.copies[dir]
	delete(m.disk.copies, dir)
	m.disk.mu.Unlock()
	if shared {
		copied.history.leave(copied.at)
	}
	return os.RemoveAll(dir)
}

// mounted is a state that is open.
type mounted struct {
	*store.Memory
	mount *mount
	id    string
}

// Sync implements [store.Store].
func (s *mounted) Sync() error {
	durable, err := s.Clone()
	if err != nil {
		return err
	}
	s.mount.disk.mu.Lock()
	defer s.mount.disk.mu.Unlock()
	if err := s.mount.check(); err != nil {
		return err
	}
	s.mount.disk.states[s.id] = durable
	return nil
}

// Close implements [store.Store]. What was committed is written in the end, unless the node has crashed.
func (s *mounted) Close() error {
	if err := s.Sync(); err != nil && !errors.Is(err, errCrashed) {
		return err
	}
	return s.Memory.Close()
}

// raftLog is Raft's log and votes as one start of a node has them.
type raftLog struct {
	*raft.InmemStore
	mount *mount
	node  *Node
}

// StoreLog implements [raft.LogStore].
func (l *raftLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements [raft.LogStore].
func (l *raftLog) StoreLogs(logs []*raft.Log) error {
	if err := l.mount.check(); err != nil {
		return err
	}
	if liar := l.node.lies.Load(); liar != nil {
		if err := liar.alter(logs); err != nil {
			return err
		}
	}
	if l.node.trouble.tears() {
		return errors.Join(errCrashed, l.tear(logs))
	}
	if err := l.node.trouble.write(); err != nil {
		return err
	}
	return l.InmemStore.StoreLogs(logs)
}

// WritesFirst implements [region.WritesFirst]: a liar alters what it appends before it is sent.
func (l *raftLog) WritesFirst() bool { return l.node.lies.Load() != nil }

// DeleteRange implements [raft.LogStore].
func (l *raftLog) DeleteRange(first, last uint64) error {
	if err := l.mount.check(); err != nil {
		return err
	}
	return l.InmemStore.DeleteRange(first, last)
}

// Set implements [raft.StableStore].
func (l *raftLog) Set(key, value []byte) error {
	if err := l.mount.check(); err != nil {
		return err
	}
	if err := l.node.trouble.write(); err != nil {
		return err
	}
	return l.InmemStore.Set(key, value)
}

// SetUint64 implements [raft.StableStore].
func (l *raftLog) SetUint64(key []byte, value uint64) error {
	if err := l.mount.check(); err != nil {
		return err
	}
	if err := l.node.trouble.write(); err != nil {
		return err
	}
	return l.InmemStore.SetUint64(key, value)
}

// Close implements region.LogBacking.
func (l *raftLog) Close() error { return nil }
