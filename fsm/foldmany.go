package fsm

import (
	"bytes"
	"errors"

	"github.com/bizra/bizra/fsm/prefixtree"
	"github.com/bizra/bizra/fsm/store"
)

// treeSeekMin is how many changes of the commitment are made by seeking through its records rather than by getting each.
// Few changes touch the same upper nodes again and again, which are kept in memory; an epoch of the market touches nearly every node once.
const treeSeekMin = 4 << 10

// updateTree makes changes to the commitment's tree. Nothing of the tree was written in txn before.
func (m *Machine) updateTree(changes []prefixtree.Change) (root [32]byte, err error) {
	if len(changes) < treeSeekMin {
		return prefixtree.Update(m.txn, changes)
	}
	it, err := m.st.Iter([]byte{prefixtree.KeyPrefix}, []byte{prefixtree.KeyPrefix + 1})
	if err != nil {
		return root, err
	}
	m.hot.st = seeker{it}
	root, err = prefixtree.Update(m.txn, changes)
	m.hot.st = m.st
	return root, errors.Join(err, it.Close())
}

// seeker gets by moving one iterator. Where the keys asked for lie near each other, as those of a subtree do, that costs a fraction
// of what as many calls of Get do, each of which begins with nothing.
type seeker struct{ it store.Iterator }

// Get implements [store.Getter].
func (s seeker) Get(key []byte) ([]byte, error) {
	switch found := s.it.SeekGE(key); {
	case !found && s.it.Err() != nil:
		return nil, s.it.Err()
	case !found || !bytes.Equal(s.it.Key(), key):
		return nil, store.ErrNotFound
	default:
		return bytes.Clone(s.it.Value()), nil
	}
}
