// Package store is the ordered key-value storage under the state machine: the interfaces, the scratch overlay [Txn] and an
// in-memory implementation. fsm/store/pebblestore is the implementation on disk; fsm/store/storetest checks both alike.
//
// It promises: one Commit is atomic and, once it returned, seen by every later read; commits survive a crash as a prefix in
// their order; everything committed before a Sync survives. A Snapshot and an Iterator see the moment they were made and
// nothing later.
//
// It does not promise that a Commit is durable when it returns: the Raft log is the truth, and replay starts at the applied
// index that travels in the same Commit. It holds no locks for its callers: two writers that need an order agree on it
// themselves.
package store

import (
	"errors"
	"fmt"
)

// Limits of every Store. A Commit beyond them is refused whole, with ErrTooLarge.
const (
	KeyBytesMax    = 1 << 10   // one key
	ValueBytesMax  = 16 << 20  // one value
	CommitBytesMax = 512 << 20 // keys and values of one Commit
)

var (
	// ErrNotFound is returned by Get when the key has no value.
	ErrNotFound = errors.New("key not found")
	// ErrClosed is returned by every method of a store after its Close, and of a snapshot or an iterator after its own.
	ErrClosed = errors.New("store is closed")
	// ErrInUse is returned by Close while snapshots or iterators are open; the store then stays open.
	ErrInUse = errors.New("store has open snapshots or iterators")
	// ErrTooLarge is returned by Commit for a key, a value or a whole beyond the limits of this package.
	ErrTooLarge = errors.New("write exceeds a limit of the store")
	// ErrEmptyKey is returned by Commit for a key of no bytes.
	ErrEmptyKey = errors.New("empty key")
)

// Getter is the part of a Reader that point reads need.
type Getter interface {
	// Get returns a copy of the value, which the caller may keep and change, or ErrNotFound.
	Get(key []byte) ([]byte, error)
}

// Reader reads one state of a store.
type Reader interface {
	Getter
	// Iter iterates over lower ≤ key < upper in the order of bytes.Compare; a nil bound is open. It sees the state at the
	// moment of the call. The caller closes it.
	Iter(lower, upper []byte) (Iterator, error)
}

// Iterator walks over a range of keys. It starts outside: First, Last or SeekGE comes first. Each move reports whether the
// iterator stands on a key; after a move that reported false, Next and Prev do nothing until it is positioned again, and Key
// and Value are nil. What Key and Value return is valid, and must not be changed, until the next move. One goroutine at a time.
type Iterator interface {
	First() bool
	Last() bool
	// SeekGE moves to the first key ≥ key inside the bounds.
	SeekGE(key []byte) bool
	Next() bool
	Prev() bool
	Key() []byte
	Value() []byte
	// Err says why a move reported false, if not because the range ended.
	Err() error
	Close() error
}

// Write is one change of a Commit. Delete of an absent key is no error.
type Write struct {
	Key, Value []byte
	Delete     bool
}

// Store is an ordered key-value store. All methods may be called from several goroutines.
type Store interface {
	Reader
	// Commit applies all writes or none, in order (a later write of the same key wins). It is not synced; when it returns,
	// readers see it. The slices are the caller's again afterwards.
	Commit(writes []Write) error
	// Sync returns when all commits that returned before it are durable.
	Sync() error
	Snapshot() (Snapshot, error)
	// Checkpoint writes a durable copy of the store, with all commits so far, into dir, which must not exist while its
	// parent must. Where the file system allows, it shares files with the store (hard links).
	Checkpoint(dir string) error
	// Close ends the store. It returns ErrInUse, and changes nothing, while snapshots or iterators are open.
	Close() error
}

// Snapshot reads the state of its store at the moment it was made. The caller closes it.
type Snapshot interface {
	Reader
	Close() error
}

// CheckWrites returns the error that Commit must give for writes beyond the limits, or nil.
func CheckWrites(writes []Write) error {
	total := 0
	for i := range writes {
		w := &writes[i]
		switch {
		case len(w.Key) == 0:
			return fmt.Errorf("write %d of %d: %w", i, len(writes), ErrEmptyKey)
		case len(w.Key) > KeyBytesMax:
			return fmt.Errorf("write %d of %d: key of %d bytes, at most %d: %w", i, len(writes), len(w.Key), KeyBytesMax, ErrTooLarge)
		case len(w.Value) > ValueBytesMax:
			return fmt.Errorf("write %d of %d: value of %d bytes, at most %d: %w", i, len(writes), len(w.Value), ValueBytesMax, ErrTooLarge)
		}
		total += len(w.Key) + len(w.Value)
		if total > CommitBytesMax {
			return fmt.Errorf("%d writes of more than %d bytes together: %w", len(writes), CommitBytesMax, ErrTooLarge)
		}
	}
	return nil
}
