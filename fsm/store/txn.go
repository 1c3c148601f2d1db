package store

import (
	"bytes"
	"errors"
	"slices"
)

const (
	// arenaChunkBytes is how much a Txn takes from the heap at a time for the values it holds.
	arenaChunkBytes = 32 << 10
	// txnKeepWrites is the size up to which Reset keeps a Txn's map for reuse: clearing a map costs what it once held.
	txnKeepWrites = 16 << 10
)

// Txn is a scratch copy of a state: an overlay of writes over a Getter, which may be another Txn. Reads see the overlay's own
// writes first. Nothing reaches a store before someone commits Writes. One goroutine at a time, and a parent is not written
// while a child holds writes that read it.
//
// A Txn is made to be reused: Merge and Reset leave it empty and ready.
type Txn struct {
	base    Getter
	parent  *Txn // set for a child; then base == parent
	overlay map[string]pending
	arena   *arena
}

// pending is the last write of a key. Its bytes are never changed, so a parent can take them over as they are.
type pending struct {
	value  []byte
	delete bool
}

// NewTxn returns an empty overlay over base.
func NewTxn(base Getter) *Txn {
	return &Txn{base: base, overlay: make(map[string]pending), arena: new(arena)}
}

// Child returns an empty overlay over t. Its writes are invisible to t until Merge.
func (t *Txn) Child() *Txn {
	return &Txn{base: t, parent: t, overlay: make(map[string]pending), arena: t.arena}
}

// Get returns a copy of the value as t sees it, or ErrNotFound.
func (t *Txn) Get(key []byte) ([]byte, error) {
	for at := t; ; at = at.parent {
		if p, ok := at.overlay[string(key)]; ok {
			if p.delete {
				return nil, ErrNotFound
			}
			return append(make([]byte, 0, len(p.value)), p.value...), nil
		}
		if at.parent == nil {
			return at.base.Get(key)
		}
	}
}

// Set writes a copy of value.
func (t *Txn) Set(key, value []byte) {
	t.overlay[string(key)] = pending{value: t.arena.copy(value)}
}

// Delete removes key; an absent key is no error.
func (t *Txn) Delete(key []byte) {
	t.overlay[string(key)] = pending{delete: true}
}

// Len returns the number of keys that t itself has written.
func (t *Txn) Len() int { return len(t.overlay) }

// Merge moves the writes of a child into its parent and leaves the child empty. It panics on a Txn that is no child: that
// is a mistake in the program, and silence would lose the writes.
func (t *Txn) Merge() {
	if t.parent == nil {
		panic("store: Merge of a Txn that has no parent")
	}
	if len(t.parent.overlay) == 0 {
		t.parent.overlay, t.overlay = t.overlay, t.parent.overlay
		t.Reset()
		return
	}
	for key, p := range t.overlay { //detlint:ordered each key is set once, so any order gives the same map
		t.parent.overlay[key] = p
	}
	t.Reset()
}

// Writes returns what t itself has written, sorted by key: the same set of last writes gives the same list, whatever the
// order they were made in. The slices must not be changed; they stay valid.
func (t *Txn) Writes() []Write {
	writes := make([]Write, 0, len(t.overlay))
	for key, p := range t.overlay { //detlint:ordered sorted below
		writes = append(writes, Write{Key: []byte(key), Value: p.value, Delete: p.delete})
	}
	slices.SortFunc(writes, func(a, b Write) int { return bytes.Compare(a.Key, b.Key) })
	return writes
}

// Reset forgets all writes of t.
func (t *Txn) Reset() {
	if len(t.overlay) > txnKeepWrites {
		t.overlay = make(map[string]pending)
		return
	}
	clear(t.overlay)
}

// arena hands out small copies from larger pieces, to spare the heap. Nothing handed out is ever used again, so its slices
// outlive any Reset.
type arena struct{ free []byte }

func (a *arena) copy(value []byte) []byte {
	if len(value) > arenaChunkBytes/8 {
		return append(make([]byte, 0, len(value)), value...)
	}
	if len(value) > len(a.free) {
		a.free = make([]byte, arenaChunkBytes)
	}
	n := copy(a.free, value)
	out := a.free[:n:n]
	a.free = a.free[n:]
	return out
}

// Scan visits the keys lower ≤ key < upper in order, as t sees them; base is the reader under the outermost Txn. It ends with
// the first error of visit, which must not write in that range nor keep what it is given.
func (t *Txn) Scan(base Reader, lower, upper []byte, visit func(key, value []byte) error) error {
	it, err := base.Iter(lower, upper)
	if err != nil {
		return err
	}
	under := it.First()
	for _, w := range t.within(lower, upper) {
		for ; under && bytes.Compare(it.Key(), w.Key) < 0; under = it.Next() {
			if err := visit(it.Key(), it.Value()); err != nil {
				return errors.Join(err, it.Close())
			}
		}
		if under && bytes.Equal(it.Key(), w.Key) {
			under = it.Next()
		}
		if w.Delete {
			continue
		}
		if err := visit(w.Key, w.Value); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	for ; under; under = it.Next() {
		if err := visit(it.Key(), it.Value()); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Err(), it.Close())
}

// within lists the last writes of t and its parents in a range, sorted by key.
func (t *Txn) within(lower, upper []byte) []Write {
	var writes []Write
	seen := map[string]struct{}{}
	for at := t; at != nil; at = at.parent {
		for key, p := range at.overlay { //detlint:ordered sorted below
			if key < string(lower) || upper != nil && key >= string(upper) {
				continue
			}
			if _, later := seen[key]; later {
				continue
			}
			seen[key] = struct{}{}
			writes = append(writes, Write{Key: []byte(key), Value: p.value, Delete: p.delete})
		}
	}
	slices.SortFunc(writes, func(a, b Write) int { return bytes.Compare(a.Key, b.Key) })
	return writes
}
