package store

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/tidwall/btree"
)

// memoryDegree is the fan-out of the tree: wide nodes read faster, but each one that is shared with a snapshot is copied
// whole at its first change.
const memoryDegree = 32

// Memory is the Store in memory, for tests and simulation: Sync does nothing, and a crash loses all. Its Checkpoint is a file
// that OpenMemory reads.
type Memory struct {
	mu     sync.RWMutex
	tree   *btree.BTreeG[memoryItem] // guarded by mu
	frozen *btree.BTreeG[memoryItem] // guarded by mu; a copy equal to tree that nobody changes, nil after a Commit
	open   int                       // guarded by mu; snapshots and iterators not yet closed
	closed bool                      // guarded by mu
}

// memoryItem's slices are never changed once they are in a tree.
type memoryItem struct{ key, value []byte }

func newMemoryTree() *btree.BTreeG[memoryItem] {
	less := func(a, b memoryItem) bool { return bytes.Compare(a.key, b.key) < 0 }
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true, Degree: memoryDegree})
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{tree: newMemoryTree()} }

// Get implements Store.
func (m *Memory) Get(key []byte) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, ErrClosed
	}
	return memoryGet(m.tree, key)
}

func memoryGet(tree *btree.BTreeG[memoryItem], key []byte) ([]byte, error) {
	item, ok := tree.Get(memoryItem{key: key})
	if !ok {
		return nil, ErrNotFound
	}
	return append(make([]byte, 0, len(item.value)), item.value...), nil
}

// Commit implements Store.
func (m *Memory) Commit(writes []Write) error {
	if err := CheckWrites(writes); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if len(writes) == 0 {
		return nil
	}
	m.frozen = nil
	for i := range writes {
		w := &writes[i]
		if w.Delete {
			m.tree.Delete(memoryItem{key: w.Key})
			continue
		}
		m.tree.Set(memoryItem{key: bytes.Clone(w.Key), value: bytes.Clone(w.Value)})
	}
	return nil
}

// Sync implements Store.
func (m *Memory) Sync() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return ErrClosed
	}
	return nil
}

// hold returns the present state, which stays as it is, and counts one more reader of it.
func (m *Memory) hold() (*btree.BTreeG[memoryItem], error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	if m.frozen == nil {
		m.frozen = m.tree.Copy()
	}
	m.open++
	return m.frozen, nil
}

func (m *Memory) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open--
}

// Iter implements Store.
func (m *Memory) Iter(lower, upper []byte) (Iterator, error) {
	tree, err := m.hold()
	if err != nil {
		return nil, err
	}
	return newMemoryIterator(m, tree, lower, upper), nil
}

// Snapshot implements Store.
func (m *Memory) Snapshot() (Snapshot, error) {
	tree, err := m.hold()
	if err != nil {
		return nil, err
	}
	return &memorySnapshot{store: m, tree: tree}, nil
}

// Clone returns a store of its own with the same content, at the cost of what is changed later.
func (m *Memory) Clone() (*Memory, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	return &Memory{tree: m.tree.Copy()}, nil
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if m.open > 0 {
		return fmt.Errorf("closing the store: %w (%d)", ErrInUse, m.open)
	}
	m.closed, m.tree, m.frozen = true, nil, nil
	return nil
}

type memorySnapshot struct {
	store *Memory
	mu    sync.RWMutex
	tree  *btree.BTreeG[memoryItem] // guarded by mu; nil once closed
}

func (s *memorySnapshot) Get(key []byte) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.tree == nil {
		return nil, ErrClosed
	}
	return memoryGet(s.tree, key)
}

func (s *memorySnapshot) Iter(lower, upper []byte) (Iterator, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.tree == nil {
		return nil, ErrClosed
	}
	s.store.mu.Lock()
	s.store.open++
	s.store.mu.Unlock()
	return newMemoryIterator(s.store, s.tree, lower, upper), nil
}

func (s *memorySnapshot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tree == nil {
		return ErrClosed
	}
	s.tree = nil
	s.store.release()
	return nil
}

type memoryIterator struct {
	store        *Memory
	iter         btree.IterG[memoryItem]
	lower, upper []byte
	on           bool
	closed       bool
}

func newMemoryIterator(m *Memory, tree *btree.BTreeG[memoryItem], lower, upper []byte) *memoryIterator {
	return &memoryIterator{store: m, iter: tree.Iter(), lower: bytes.Clone(lower), upper: bytes.Clone(upper)}
}

// settle records whether a move of the tree's iterator ended inside the bounds.
func (i *memoryIterator) settle(moved bool) bool {
	key := i.iter.Item().key
	i.on = moved && bytes.Compare(key, i.lower) >= 0 && (i.upper == nil || bytes.Compare(key, i.upper) < 0)
	return i.on
}

func (i *memoryIterator) First() bool { return i.SeekGE(i.lower) }

func (i *memoryIterator) Last() bool {
	switch {
	case i.closed:
		return false
	case i.upper != nil && i.iter.Seek(memoryItem{key: i.upper}):
		return i.settle(i.iter.Prev())
	}
	return i.settle(i.iter.Last())
}

func (i *memoryIterator) SeekGE(key []byte) bool {
	if i.closed {
		return false
	}
	if bytes.Compare(key, i.lower) < 0 {
		key = i.lower
	}
	return i.settle(i.iter.Seek(memoryItem{key: key}))
}

func (i *memoryIterator) Next() bool { return i.on && i.settle(i.iter.Next()) }
func (i *memoryIterator) Prev() bool { return i.on && i.settle(i.iter.Prev()) }

func (i *memoryIterator) Key() []byte {
	if !i.on {
		return nil
	}
	return i.iter.Item().key
}

func (i *memoryIterator) Value() []byte {
	if !i.on {
		return nil
	}
	return i.iter.Item().value
}

func (i *memoryIterator) Err() error {
	if i.closed {
		return ErrClosed
	}
	return nil
}

func (i *memoryIterator) Close() error {
	if i.closed {
		return ErrClosed
	}
	i.closed, i.on = true, false
	i.iter.Release()
	i.store.release()
	return nil
}
