package prefixtree

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/store"
)

// KeyPrefix is the first byte of every key under which the tree keeps a record.
const KeyPrefix = 'T'

// NodeBytesMax bounds a stored record: a format byte and two references of at most 66 bytes.
const NodeBytesMax = 1 + 2*(2+32+32)

// recordFormat is the first byte of every stored record.
const recordFormat = 1

// domain separates the tree's hashes from every other use of SHA-256 in the project. With it an inner node still fits
// two SHA-256 blocks.
const domain = "bizra-state-v1:"

const (
	tagEmpty byte = iota
	tagLeaf
	tagInner
)

// ErrCorrupt is returned, wrapped, when a stored record is missing, malformed, or does not hash to what its parent
// says. The store is damaged: nothing computed from it may be signed.
var ErrCorrupt = errors.New("prefix tree record is corrupt")

// Reader reads records. Get returns store.ErrNotFound for a key that is absent, and the tree does not modify what it
// returns.
type Reader interface {
	Get(key []byte) ([]byte, error)
}

// KV is what [Update] works on; *store.Txn is one. The tree never reuses a slice that it handed to Set or Delete.
type KV interface {
	Reader
	Set(key, value []byte)
	Delete(key []byte)
}

// KeyHash returns the key under which the tree holds a state key: its SHA-256.
func KeyHash(stateKey []byte) [32]byte { return sha256.Sum256(stateKey) }

// ValueHash returns what the tree holds for a state value: its SHA-256.
func ValueHash(v []byte) [32]byte { return sha256.Sum256(v) }

// EmptyRoot is the root of the empty set, SHA-256("bizra-state-v1:" 0x00).
func EmptyRoot() [32]byte {
	return sha256.Sum256(append([]byte(domain), tagEmpty))
}

func leafHash(key, value *[32]byte) [32]byte {
	var b [len(domain) + 1 + 32 + 32]byte
	n := copy(b[:], domain)
	b[n] = tagLeaf
	n++
	n += copy(b[n:], key[:])
	copy(b[n:], value[:])
	return sha256.Sum256(b[:])
}

func innerHash(l *label, left, right *[32]byte) [32]byte {
	var b [len(domain) + 1 + 2 + 32 + 32 + 32]byte
	n := copy(b[:], domain)
	b[n] = tagInner
	n++
	binary.BigEndian.PutUint16(b[n:], l.len)
	n += 2
	n += copy(b[n:], l.bits[:])
	n += copy(b[n:], left[:])
	copy(b[n:], right[:])
	return sha256.Sum256(b[:])
}

// ref points to a subtree: none (the zero ref), a leaf (label of 256 bits, sum is its value) or an inner node (shorter
// label, sum is its hash).
type ref struct {
	present bool
	label   label
	sum     [32]byte
}

func leafRef(key, value [32]byte) ref { return ref{true, keyLabel(key), value} }

func (r *ref) isLeaf() bool { return r.label.len == keyBits }

// hash returns the hash of the node that a present r points to.
func (r *ref) hash() [32]byte {
	if r.isLeaf() {
		return leafHash(&r.label.bits, &r.sum)
	}
	return r.sum
}

func (r *ref) root() [32]byte {
	if !r.present {
		return EmptyRoot()
	}
	return r.hash()
}

func (r *ref) append(dst []byte) []byte {
	return append(r.label.append(dst), r.sum[:]...)
}

// cut reads what append wrote and returns what follows.
func (r *ref) cut(b []byte) (rest []byte, ok bool) {
	b, ok = r.label.cut(b)
	if !ok || len(b) < 32 {
		return nil, false
	}
	r.present = true
	copy(r.sum[:], b)
	return b[32:], true
}

// topKey holds the reference to the top node.
func topKey() []byte { return []byte{KeyPrefix} }

// nodeKey is where the inner node of l is kept. The bits come before the length so that a subtree lies together on disk.
func nodeKey(l *label) []byte {
	size := int(l.len+7) / 8
	key := make([]byte, 0, 1+size+1)
	key = append(key, KeyPrefix)
	key = append(key, l.bits[:size]...)
	return append(key, byte(l.len)) // #nosec G115 -- an inner label has at most 255 bits
}

// readTop returns the reference to the top node, absent for the empty tree.
func readTop(r Reader) (ref, error) {
	b, err := r.Get(topKey())
	if errors.Is(err, store.ErrNotFound) {
		return ref{}, nil
	}
	if err != nil {
		return ref{}, fmt.Errorf("reading the top of the state tree: %w", err)
	}
	top, err := decodeTop(b)
	if err != nil {
		return ref{}, fmt.Errorf("reading the top of the state tree: %w", err)
	}
	return top, nil
}

func encodeTop(top *ref) []byte {
	return top.append([]byte{recordFormat})
}

func decodeTop(b []byte) (ref, error) {
	if len(b) == 0 || b[0] != recordFormat {
		return ref{}, fmt.Errorf("%w: unknown format", ErrCorrupt)
	}
	var top ref
	rest, ok := top.cut(b[1:])
	if !ok || len(rest) != 0 {
		return ref{}, fmt.Errorf("%w: malformed reference to the top", ErrCorrupt)
	}
	return top, nil
}

// inner is the content of a stored inner node, left then right.
type inner [2]ref

func (n *inner) hash(l *label) [32]byte {
	left, right := n[0].hash(), n[1].hash()
	return innerHash(l, &left, &right)
}

func (n *inner) encode() []byte {
	b := make([]byte, 1, NodeBytesMax)
	b[0] = recordFormat
	return n[1].append(n[0].append(b))
}

// decode reads the record of the inner node labelled l and checks that each child belongs below it.
func (n *inner) decode(l *label, b []byte) error {
	if len(b) == 0 || b[0] != recordFormat {
		return fmt.Errorf("%w: unknown format", ErrCorrupt)
	}
	b = b[1:]
	for side := range n {
		child := &n[side]
		var ok bool
		if b, ok = child.cut(b); !ok {
			return fmt.Errorf("%w: malformed child %d", ErrCorrupt, side)
		}
		if child.label.len <= l.len || !l.isPrefixOf(&child.label.bits) || int(bitAt(&child.label.bits, l.len)) != side {
			return fmt.Errorf("%w: child %d does not belong below its node", ErrCorrupt, side)
		}
	}
	if len(b) != 0 {
		return fmt.Errorf("%w: %d bytes too many", ErrCorrupt, len(b))
	}
	return nil
}

// load reads into n the inner node that at points to and checks it against the hash in at.
func load(r Reader, at *ref, n *inner) error {
	b, err := r.Get(nodeKey(&at.label))
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%w: missing", ErrCorrupt)
	}
	if err == nil {
		err = n.decode(&at.label, b)
	}
	if err == nil && n.hash(&at.label) != at.sum {
		err = fmt.Errorf("%w: its hash is not the one that its parent holds", ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("reading state tree node %v: %w", at.label, err)
	}
	return nil
}
