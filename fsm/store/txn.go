package store

import (
	"bytes"
	"errors"
	"slices"
)

// txnScanMax is up to how many writes are looked through for a key, which then costs less than an index.
const txnScanMax = 12

// Txn is a scratch copy of a state: an overlay of writes over a Getter, which may be another Txn. Reads see the overlay's own
// writes first. Nothing reaches a store before someone commits Writes. One goroutine at a time, and a parent is not written
// while a child holds writes that read it.
//
// A Txn is made to be reused: Merge and Reset leave it empty and ready.
type Txn struct {
	base   Getter
	parent *Txn    // set for a child; then base == parent
	writes []Write // the last of each key. Their bytes are never changed, so a parent can take them over as they are.
	index  index   // of writes by key, once there are more than txnScanMax
	arena  *arena
	order  order
}

// NewTxn returns an empty overlay over base.
func NewTxn(base Getter) *Txn { return &Txn{base: base, arena: new(arena)} }

// Child returns an empty overlay over t. Its writes are invisible to t until Merge.
func (t *Txn) Child() *Txn { return &Txn{base: t, parent: t, arena: t.arena} }

// Get returns a copy of the value as t sees it, or ErrNotFound.
func (t *Txn) Get(key []byte) ([]byte, error) {
	for at := t; ; at = at.parent {
		if i := at.find(key); i >= 0 {
			w := &at.writes[i]
			if w.Delete {
				return nil, ErrNotFound
			}
			return append(make([]byte, 0, len(w.Value)), w.Value...), nil
		}
		if at.parent == nil {
			return at.base.Get(key)
		}
	}
}

// find is where t's own write of a key is, -1 if there is none.
func (t *Txn) find(key []byte) int {
	if len(t.writes) > txnScanMax {
		return t.index.find(t.writes, key)
	}
	for i := range t.writes {
		if bytes.Equal(t.writes[i].Key, key) {
			return i
		}
	}
	return -1
}

// Set writes a copy of value.
func (t *Txn) Set(key, value []byte) { t.write(key, t.arena.copy(value), false) }

// Delete removes key; an absent key is no error.
func (t *Txn) Delete(key []byte) { t.write(key, nil, true) }

func (t *Txn) write(key, value []byte, isDelete bool) {
	if i := t.find(key); i >= 0 {
		t.writes[i].Value, t.writes[i].Delete = value, isDelete
		return
	}
	t.add(Write{Key: t.arena.copy(key), Value: value, Delete: isDelete})
}

// add takes a write of a key that t has not written.
func (t *Txn) add(w Write) {
	t.writes = append(t.writes, w)
	switch n := len(t.writes); {
	case n > txnScanMax+1:
		t.index.add(t.writes)
	case n == txnScanMax+1:
		t.index.reset()
		for i := range t.writes {
			t.index.add(t.writes[:i+1])
		}
	}
}

// Each visits what t itself has written, in the order in which its keys were first written. visit must not write.
func (t *Txn) Each(visit func(*Write)) {
	for i := range t.writes {
		visit(&t.writes[i])
	}
}

// Len returns the number of keys that t itself has written.
func (t *Txn) Len() int { return len(t.writes) }

// Merge moves the writes of a child into its parent and leaves the child empty. It panics on a Txn that is no child: that
// is a mistake in the program, and silence would lose the writes.
func (t *Txn) Merge() {
	if t.parent == nil {
		panic("store: Merge of a Txn that has no parent")
	}
	for _, w := range t.writes {
		if i := t.parent.find(w.Key); i >= 0 {
			t.parent.writes[i] = w
			continue
		}
		t.parent.add(w)
	}
	t.Reset()
}

// Writes returns what t itself has written, sorted by key: the same set of last writes gives the same list, whatever the
// order they were made in. It must not be changed, but may be appended to, and is valid until the next Writes of t and
// until the outermost Txn is reset.
func (t *Txn) Writes() []Write { return t.order.sorted(t.writes) }

// Reset forgets all writes of t. Where t is the outermost Txn, its children must be empty, and what Writes and Each gave is used again.
func (t *Txn) Reset() {
	used := len(t.writes)
	clear(t.writes)
	if t.writes = t.writes[:0]; cap(t.writes) > keep(used) {
		t.writes = nil
	}
	if t.parent == nil {
		t.arena.reset()
		t.order.reset(used)
	}
}

// keep is how much of what held so much is kept for the next time: a Txn that was large once gives back what it no longer needs,
// and one that is large each time keeps what it has.
func keep(used int) int { return max(txnKeepMin, 8*used) }

const txnKeepMin = 64

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
		for _, w := range at.writes {
			if bytes.Compare(w.Key, lower) < 0 || upper != nil && bytes.Compare(w.Key, upper) >= 0 {
				continue
			}
			if _, later := seen[string(w.Key)]; later {
				continue
			}
			seen[string(w.Key)] = struct{}{}
			writes = append(writes, w)
		}
	}
	slices.SortFunc(writes, func(a, b Write) int { return bytes.Compare(a.Key, b.Key) })
	return writes
}
