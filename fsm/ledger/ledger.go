// Package ledger is a region's log of entries as an RFC 6962 Merkle tree, kept in a store: the entries, the hashes of all
// complete subtrees in the order of golang.org/x/mod/sumdb/tlog, an index by proof digest and one by envelope id. The tree
// arithmetic is tlog's.
//
// It promises: an entry's index never changes, a digest stands for at most one entry, and what Append wrote through one KV
// either becomes visible whole or, when the caller drops the KV and calls Reset, not at all. Proofs check with any RFC 6962
// verifier.
//
// It does not look into entries, and decides nothing about which may be appended. A Log has a single writer and no lock;
// a View has no state and may be used from any goroutine that its reader allows.
package ledger

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bizra/bizra/fsm/store"
)

const (
	// EntryBytesMax is the most one entry may hold: what a tile's length prefix carries (c2sp.org/tlog-tiles).
	EntryBytesMax = 65535
	// EnvelopeIDBytesMax bounds an envelope id; a UUID's text has 36 bytes.
	EnvelopeIDBytesMax = 64
	// SizeMax is the most entries that a log may hold. tlog's arithmetic does not end for sizes beyond 2⁶², so every size that
	// comes from outside must be compared with SizeMax before tlog sees it; the functions of this package do so.
	SizeMax     = int64(1) << sizeMaxLog2
	sizeMaxLog2 = 40
)

var (
	// ErrEntryTooLarge is returned by Append for an entry of more than EntryBytesMax bytes.
	ErrEntryTooLarge = errors.New("entry exceeds 65535 bytes")
	// ErrEnvelopeID is returned by Append for an id that is too long or contains a zero byte.
	ErrEnvelopeID = errors.New("malformed envelope id")
	// ErrFull is returned by Append at SizeMax entries.
	ErrFull = errors.New("ledger is full")
	// ErrOutOfRange is returned for an index or a size that the ledger does not have.
	ErrOutOfRange = errors.New("outside the ledger")
)

// Hash is a leaf, node or root hash of the tree.
type Hash = tlog.Hash

// KV is what Append writes through; *store.Txn is one.
type KV interface {
	Set(key, value []byte)
}

// Appended is one entry to append.
type Appended struct {
	Data       []byte    // the entry itself
	Digest     *[32]byte // of the proof that it records, or nil; the caller knows that no entry has it yet
	EnvelopeID string    // or "": several entries may carry the same
}

// Log appends to the ledger. It holds the size and the right edge of the tree in memory, so that an Append reads no hashes.
// One goroutine at a time.
type Log struct {
	edge edge
	key  []byte // scratch
}

// edge holds the hash of each complete subtree that the tree of that size is made of: level i is one of them when bit i of
// size is set, and it is then the subtree number size>>i − 1 of its level.
type edge struct {
	size int64
	hash [sizeMaxLog2 + 1]Hash
}

// ReadHashes implements tlog.HashReader for the hashes that tlog needs to append to the tree and to compute its root.
func (e *edge) ReadHashes(indexes []int64) ([]Hash, error) {
	hashes := make([]Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		if level > sizeMaxLog2 || e.size>>uint(level)&1 == 0 || n != e.size>>uint(level)-1 {
			return nil, fmt.Errorf("hash %d of level %d is not on the right edge of %d entries", n, level, e.size)
		}
		hashes[i] = e.hash[level]
	}
	return hashes, nil
}

// push takes in the stored hashes of one more entry: the last of them is the subtree that it completed.
func (e *edge) push(stored []Hash) {
	level := len(stored) - 1
	e.hash[level] = stored[level]
	e.size++
}

// Open reads the size and the right edge, and checks that they fit the last entry and that nothing follows it. What it finds
// wrong is a *Corruption.
func Open(r store.Reader) (*Log, error) {
	view := View{r}
	size, err := view.Size()
	if err != nil {
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	l := &Log{}
	if size > 0 {
		if err := l.load(view, size); err != nil {
			return nil, fmt.Errorf("opening the ledger: %w", err)
		}
	}
	for _, at := range []struct {
		part Part
		key  []byte
	}{
		{PartEntry, appendNumberKey(nil, prefixEntry, size)},
		{PartHash, appendNumberKey(nil, prefixHash, tlog.StoredHashCount(size))},
	} {
		switch _, err := r.Get(at.key); {
		case err == nil:
			return nil, fmt.Errorf("opening the ledger: %w", &Corruption{at.part, size, fmt.Sprintf("present, but the size is %d", size)})
		case !errors.Is(err, store.ErrNotFound):
			return nil, fmt.Errorf("opening the ledger: %w", err)
		}
	}
	return l, nil
}

// load builds the edge of all but the last entry from stored hashes, and appends the last one to it as Append would.
func (l *Log) load(view View, size int64) error {
	l.edge.size = size - 1
	for level := range sizeMaxLog2 + 1 {
		if l.edge.size>>uint(level)&1 == 0 {
			continue
		}
		h, err := view.storedHash(tlog.StoredHashIndex(level, l.edge.size>>uint(level)-1))
		if err != nil {
			return err
		}
		l.edge.hash[level] = h
	}
	last, err := view.Entry(size - 1)
	if err != nil {
		return err
	}
	stored, err := tlog.StoredHashes(size-1, last, &l.edge)
	if err != nil {
		return fmt.Errorf("hashing entry %d: %w", size-1, err)
	}
	first := tlog.StoredHashIndex(0, size-1)
	for i, want := range stored {
		got, err := view.storedHash(first + int64(i))
		if err != nil {
			return err
		}
		if got != want {
			return wrongHash(size-1, first+int64(i), got, want)
		}
	}
	l.edge.push(stored)
	return nil
}

// Size returns the number of entries.
func (l *Log) Size() int64 { return l.edge.size }

// Root returns the RFC 6962 root of all entries; that of none is the hash of the empty string.
func (l *Log) Root() (Hash, error) {
	root, err := tlog.TreeHash(l.edge.size, &l.edge)
	if err != nil {
		return Hash{}, fmt.Errorf("root of %d entries: %w", l.edge.size, err)
	}
	return root, nil
}

// Append writes the entry, its hashes and its index records into kv and returns its index. On an error nothing has been
// written. It returns ErrEntryTooLarge, ErrEnvelopeID or ErrFull.
func (l *Log) Append(kv KV, e Appended) (int64, error) {
	index := l.edge.size
	switch {
	case len(e.Data) > EntryBytesMax:
		return 0, fmt.Errorf("appending %d bytes: %w", len(e.Data), ErrEntryTooLarge)
	case len(e.EnvelopeID) > EnvelopeIDBytesMax || strings.IndexByte(e.EnvelopeID, 0) >= 0:
		return 0, fmt.Errorf("appending entry %d: %w of %d bytes", index, ErrEnvelopeID, len(e.EnvelopeID))
	case index >= SizeMax:
		return 0, fmt.Errorf("appending to %d entries: %w", index, ErrFull)
	}
	stored, err := tlog.StoredHashes(index, e.Data, &l.edge)
	if err != nil {
		return 0, fmt.Errorf("appending entry %d: %w", index, err)
	}
	l.write(kv, e, stored)
	l.edge.push(stored)
	return index, nil
}

func (l *Log) write(kv KV, e Appended, stored []Hash) {
	index := l.edge.size
	var number [numberBytes]byte
	appendNumber(number[:0], index)
	if e.Digest != nil {
		l.key = appendDigestKey(l.key[:0], e.Digest)
		kv.Set(l.key, number[:])
	}
	l.key = appendNumberKey(l.key[:0], prefixEntry, index)
	kv.Set(l.key, e.Data)
	first := tlog.StoredHashIndex(0, index)
	for i := range stored {
		l.key = appendNumberKey(l.key[:0], prefixHash, first+int64(i))
		kv.Set(l.key, stored[i][:])
	}
	if e.EnvelopeID != "" {
		l.key = append(appendEnvelopeIDKey(l.key[:0], e.EnvelopeID, 0), number[:]...)
		kv.Set(l.key, nil)
	}
	appendNumber(number[:0], index+1)
	l.key = append(l.key[:0], prefixSize)
	kv.Set(l.key, number[:])
}

// Mark is a moment of a Log to which Reset can return.
type Mark struct{ edge edge }

// Mark returns the present moment.
func (l *Log) Mark() Mark { return Mark{l.edge} }

// Reset returns to the moment of the mark. The caller does so when it drops the KV that later Appends wrote through.
func (l *Log) Reset(m Mark) { l.edge = m.edge }

// EmptyRoot returns the root of no entries, SHA-256 of the empty string (RFC 6962 §2.1).
func EmptyRoot() Hash {
	root, _ := tlog.TreeHash(0, nil) // reads nothing for size 0 and cannot fail
	return root
}

// LeafHash returns the hash of an entry as a leaf of the tree (RFC 6962 §2.1).
func LeafHash(entry []byte) Hash { return tlog.RecordHash(entry) }

// CheckInclusion returns nil if proof shows that the tree of size entries with that root has leaf at index. It takes any
// input.
func CheckInclusion(proof tlog.RecordProof, size int64, root Hash, index int64, leaf Hash) error {
	if size < 0 || size > SizeMax || index < 0 || index >= size {
		return fmt.Errorf("inclusion of entry %d in %d: %w", index, size, ErrOutOfRange)
	}
	if err := tlog.CheckRecord(proof, size, root, index, leaf); err != nil {
		return fmt.Errorf("inclusion of entry %d in %d: %w", index, size, err)
	}
	return nil
}

// CheckConsistency returns nil if proof shows that the tree of oldSize entries with oldRoot is a prefix of the one of size
// entries with root. The empty tree is a prefix of any, by the empty proof. It takes any input.
func CheckConsistency(proof tlog.TreeProof, size int64, root Hash, oldSize int64, oldRoot Hash) error {
	if size < 0 || size > SizeMax || oldSize < 0 || oldSize > size {
		return fmt.Errorf("consistency of %d with %d entries: %w", oldSize, size, ErrOutOfRange)
	}
	if oldSize == 0 {
		if len(proof) != 0 || oldRoot != EmptyRoot() || size == 0 && root != oldRoot {
			return fmt.Errorf("consistency of 0 with %d entries: wrong root or a proof that is not empty", size)
		}
		return nil
	}
	if err := tlog.CheckTree(proof, size, root, oldSize, oldRoot); err != nil {
		return fmt.Errorf("consistency of %d with %d entries: %w", oldSize, size, err)
	}
	return nil
}
