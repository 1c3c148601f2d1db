package prefixtree

import (
	"bytes"
	"iter"
	"slices"
	"sort"
)

// changesPerPassMax bounds the working memory of [Update]: more changes than this are applied in several passes, which
// gives the same tree.
const changesPerPassMax = 1 << 16

// Change sets one key, or removes it.
type Change struct {
	Key   [32]byte
	Value *[32]byte // nil deletes; deleting what is absent is no change
}

// Root returns the root of the tree in r, EmptyRoot where there is none.
func Root(r Reader) ([32]byte, error) {
	top, err := readTop(r)
	if err != nil {
		return [32]byte{}, err
	}
	return top.root(), nil
}

// Update applies changes to the tree in kv and returns the new root. Of several changes to one key the last one wins.
// Each stored node on the changed paths is read and written at most once (a pass); nodes whose content stays are not
// written. After an error kv holds part of the changes and must be thrown away.
func Update(kv KV, changes []Change) (root [32]byte, err error) {
	top, err := readTop(kv)
	if err != nil {
		return [32]byte{}, err
	}
	before := top
	for pass := range slices.Chunk(changes, changesPerPassMax) {
		if top, err = apply(kv, top, inKeyOrder(pass)); err != nil {
			return [32]byte{}, err
		}
	}
	switch {
	case top == before:
	case top.present:
		kv.Set(topKey(), encodeTop(&top))
	default:
		kv.Delete(topKey())
	}
	return top.root(), nil
}

// inKeyOrder returns the changes sorted by key, one a key, the last one given.
func inKeyOrder(changes []Change) []*Change {
	order := make([]*Change, len(changes))
	for i := range changes {
		order[i] = &changes[i]
	}
	slices.SortStableFunc(order, func(a, b *Change) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	kept := order[:0]
	for i, c := range order {
		if i+1 < len(order) && order[i+1].Key == c.Key {
			continue
		}
		kept = append(kept, c)
	}
	return kept
}

// apply returns the subtree that at becomes with changes, which are in key order. Each level of recursion fixes at
// least one more bit of the changes' keys, so it is at most 256 deep.
func apply(kv KV, at ref, changes []*Change) (ref, error) {
	switch {
	case len(changes) == 0:
		return at, nil
	case !at.present:
		return plant(kv, onlySets(changes)), nil
	case at.isLeaf():
		return plant(kv, onlySets(withLeaf(changes, &at))), nil
	}
	// The node is read even if every change turns out to part above it: a parent's hash covers its children's hashes
	// but not the labels stored beside them, so a label may be relied on only once its node has been read and checked.
	var n inner
	if err := load(kv, &at, &n); err != nil {
		return ref{}, err
	}
	return applyInner(kv, at, &n, changes)
}

// applyInner is apply for an inner node that has been read.
func applyInner(kv KV, at ref, old *inner, changes []*Change) (ref, error) {
	if len(changes) == 0 {
		return at, nil
	}
	first, last := changes[0], changes[len(changes)-1]
	depth := min(sharedBits(&at.label.bits, &first.Key), sharedBits(&at.label.bits, &last.Key))
	var now inner
	var err error
	if depth < at.label.len { // some change leaves the edge above the node
		parts := split(changes, depth)
		side := bitAt(&at.label.bits, depth)
		if now[side], err = applyInner(kv, at, old, parts[side]); err != nil {
			return ref{}, err
		}
		now[1-side] = plant(kv, onlySets(parts[1-side]))
		l := prefixOf(at.label.bits, depth)
		return join(kv, &l, &now), nil
	}

	for side, below := range split(changes, at.label.len) {
		if now[side], err = apply(kv, old[side], below); err != nil {
			return ref{}, err
		}
	}
	if now == *old {
		return at, nil
	}
	if !now[0].present || !now[1].present {
		kv.Delete(nodeKey(&at.label))
	}
	return join(kv, &at.label, &now), nil
}

// plant builds the subtree of sets, which are in key order and delete nothing, where nothing was before.
func plant(kv KV, sets []*Change) ref {
	switch len(sets) {
	case 0:
		return ref{}
	case 1:
		return leafRef(sets[0].Key, *sets[0].Value)
	}
	depth := sharedBits(&sets[0].Key, &sets[len(sets)-1].Key)
	parts := split(sets, depth)
	now := inner{plant(kv, parts[0]), plant(kv, parts[1])}
	l := prefixOf(sets[0].Key, depth)
	return join(kv, &l, &now)
}

// join returns the node labelled l over two subtrees, and stores it; or the only subtree that is there.
func join(kv KV, l *label, n *inner) ref {
	switch {
	case !n[0].present:
		return n[1]
	case !n[1].present:
		return n[0]
	}
	kv.Set(nodeKey(l), n.encode())
	return ref{true, *l, n.hash(l)}
}

// split cuts changes, which are in key order and agree in the bits before depth, where bit depth turns to 1.
func split(changes []*Change, depth uint16) [2][]*Change {
	at := sort.Search(len(changes), func(i int) bool { return bitAt(&changes[i].Key, depth) == 1 })
	return [2][]*Change{changes[:at], changes[at:]}
}

func onlySets(changes []*Change) []*Change {
	isDelete := func(c *Change) bool { return c.Value == nil }
	if !slices.ContainsFunc(changes, isDelete) {
		return changes
	}
	return slices.DeleteFunc(slices.Clone(changes), isDelete)
}

// withLeaf returns changes as they would be if they also set the leaf that is there, unless they change it.
func withLeaf(changes []*Change, leaf *ref) []*Change {
	at, found := slices.BinarySearchFunc(changes, leaf.label.bits, func(c *Change, key [32]byte) int {
		return bytes.Compare(c.Key[:], key[:])
	})
	if found {
		return changes
	}
	value := leaf.sum
	return slices.Insert(slices.Clone(changes), at, &Change{leaf.label.bits, &value})
}

// Build returns the root of a set from scratch, without storing anything. Of several pairs with one key the last one
// counts. It holds the whole set in memory, 64 bytes a pair and as much again while sorting.
func Build(leaves iter.Seq2[[32]byte, [32]byte]) [32]byte {
	var sets []Change
	for key, value := range leaves {
		sets = append(sets, Change{key, &value})
	}
	top := plant(discard{}, inKeyOrder(sets))
	return top.root()
}

// discard is the KV of a tree that nobody reads again.
type discard struct{}

func (discard) Get([]byte) ([]byte, error) { return nil, ErrCorrupt }
func (discard) Set([]byte, []byte)         {}
func (discard) Delete([]byte)              {}

// Walk calls visit for every pair in key order and checks every node on the way. It returns the first error, of the
// tree or of visit. A tree of n pairs occupies n records; a caller who counts them finds records that do not belong.
func Walk(r Reader, visit func(key, value [32]byte) error) error {
	top, err := readTop(r)
	if err != nil || !top.present {
		return err
	}
	return walk(r, &top, visit)
}

func walk(r Reader, at *ref, visit func(key, value [32]byte) error) error {
	if at.isLeaf() {
		return visit(at.label.bits, at.sum)
	}
	var n inner
	if err := load(r, at, &n); err != nil {
		return err
	}
	for side := range n {
		if err := walk(r, &n[side], visit); err != nil {
			return err
		}
	}
	return nil
}
