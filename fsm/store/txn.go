package store

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
)

const (
	// A Txn takes from the heap arenaFirstBytes for the keys and values it holds, and then twice as much each
	// time, up to arenaChunkBytes. A store in memory keeps what was taken.
	arenaFirstBytes = 2 << 10
	arenaChunkBytes = 32 << 10
	// txnKeepWrites is the size up to which Reset keeps what a Txn holds its writes in: clearing it costs what it once held.
	txnKeepWrites = 16 << 10
	// txnScanMax is up to how many writes are looked through for a key, which then costs less than an index.
	txnScanMax = 12
)

// Txn is a scratch copy of a state: an overlay of writes over a Getter, which may be another Txn. Reads see the overlay's own
// writes first. Nothing reaches a store before someone commits Writes. One goroutine at a time, and a parent is not written
// while a child holds writes that read it.
//
// A Txn is made to be reused: Merge and Reset leave it empty and ready.
type Txn struct {
	base   Getter
	parent *Txn           // set for a child; then base == parent
	writes []Write        // the last of each key. Their bytes are never changed, so a parent can take them over as they are.
	index  map[string]int // of writes by key, once there are more than txnScanMax
	arena  *arena
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
		if i, ok := t.index[string(key)]; ok {
			return i
		}
		return -1
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
		t.index[string(w.Key)] = n - 1
	case n == txnScanMax+1:
		if t.index == nil {
			t.index = make(map[string]int)
		}
		for i := range t.writes {
			t.index[string(t.writes[i].Key)] = i
		}
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
// order they were made in. The slices must not be changed; they stay valid.
func (t *Txn) Writes() []Write {
	// Numbers are quicker to compare and to move than keys are; few keys share their first eight bytes with many others.
	type ranked struct {
		head uint64
		at   int
	}
	order := make([]ranked, len(t.writes))
	for i := range t.writes {
		order[i] = ranked{headOf(t.writes[i].Key), i}
	}
	slices.SortFunc(order, func(a, b ranked) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		return bytes.Compare(t.writes[a.at].Key, t.writes[b.at].Key)
	})
	writes := make([]Write, len(order))
	for i, r := range order {
		writes[i] = t.writes[r.at]
	}
	return writes
}

// headOf is the first eight bytes of a key as a number that orders as the key does, as far as they go.
func headOf(key []byte) (head uint64) {
	for i := range min(len(key), 8) {
		head |= uint64(key[i]) << (56 - 8*i)
	}
	return head
}

// Reset forgets all writes of t.
func (t *Txn) Reset() {
	if len(t.writes) > txnKeepWrites {
		t.writes, t.index = nil, nil
		return
	}
	if len(t.writes) > txnScanMax {
		clear(t.index)
	}
	clear(t.writes)
	t.writes = t.writes[:0]
}

// arena hands out small copies from larger pieces, to spare the heap. Nothing handed out is ever used again, so its slices
// outlive any Reset.
type arena struct {
	free []byte
	last int // bytes taken at the last time
}

func (a *arena) copy(value []byte) []byte {
	if len(value) > arenaChunkBytes/8 {
		return append(make([]byte, 0, len(value)), value...)
	}
	if len(value) > len(a.free) {
		a.last = max(min(2*a.last, arenaChunkBytes), arenaFirstBytes, len(value))
		a.free = make([]byte, a.last)
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
