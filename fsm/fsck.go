package fsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/prefixtree"
	"github.com/bizra/bizra/fsm/store"
)

// rederiveBytesMax bounds the entries that are re-executed in one commit.
const rederiveBytesMax = 1 << 20

// Rederived is what [Rederive] found.
type Rederived struct {
	Entries  int64
	Sessions int64
	Agents   int64
	Seals    int64
	Root     [32]byte // of the ledger
	State    [32]byte // commitment
}

// Rederive executes a ledger anew from its entries into an empty scratch store and
// compares everything: every outcome, every seal, and in the end every key that is
// a function of the entries. It changes nothing in st. Errors name the first difference.
func Rederive(ctx context.Context, st, scratch store.Store, cfg Config, progress Progress) (Rederived, error) {
	disk, err := Open(st, cfg)
	if err != nil {
		return Rederived{}, err
	}
	v, err := disk.View()
	if err != nil {
		return Rederived{}, err
	}
	cfg.Document = func(digest [32]byte) ([]byte, bool) {
		b, err := v.snap.Get(documentKey(digest))
		return b, err == nil
	}
	again, err := Open(scratch, cfg)
	if err != nil {
		return Rederived{}, errors.Join(err, v.Close())
	}
	r, err := rederive(ctx, v, again, progress)
	if err == nil {
		progress("compare", 0, 1)
		err = compare(ctx, v.snap, scratch)
		progress("compare", 1, 1)
	}
	if err == nil {
		var root [32]byte
		root, err = disk.fold()
		if err == nil {
			err = compareTree(ctx, v.snap, disk.txn, scratch)
		}
		err = errors.Join(err, disk.reload())
		if err == nil && root != r.State {
			err = fmt.Errorf("%w: the state commitment on disk is %x, the entries give %x", ErrDiverged, root, r.State)
		}
	}
	return r, errors.Join(err, v.Close(), again.Close(), disk.Close())
}

func rederive(ctx context.Context, v *View, again *Machine, progress Progress) (r Rederived, err error) {
	size, err := v.Ledger().Size()
	if err != nil {
		return r, err
	}
	for number := int64(0); number <= v.meta.Seals; number++ {
		to := size
		var s *Seal
		if number < v.meta.Seals {
			if s, err = v.SealAt(number); err != nil {
				return r, err
			}
			to = s.Size
		}
		if to < again.Size() || to > size {
			return r, fmt.Errorf("seal %d covers %d entries, which does not follow %d or exceeds %d", number, to, again.Size(), size)
		}
		if err := reexecuteTo(ctx, v.Ledger(), again, to, size, progress); err != nil {
			return r, err
		}
		if s != nil {
			if err := again.ApplySeal(s); err != nil {
				return r, err
			}
		}
	}
	r.Entries, r.Seals = size, v.meta.Seals
	if r.State, err = again.StateRoot(); err != nil {
		return r, err
	}
	root, err := again.log.Root()
	r.Root = root
	return r, errors.Join(err, r.countState(ctx, v))
}

func (r *Rederived) countState(ctx context.Context, v *View) error {
	return scan(ctx, v.snap, keyState, func(key, _ []byte) error {
		if bytes.HasPrefix(key, stateKeyOf(stateSession, "")) {
			r.Sessions++
		}
		if bytes.HasPrefix(key, stateKeyOf(stateAgent, "")) {
			r.Agents++
		}
		return nil
	})
}

func reexecuteTo(ctx context.Context, l ledger.View, m *Machine, to, total int64, progress Progress) error {
	for m.Size() < to {
		entries, err := l.Entries(m.Size(), to, rederiveBytesMax)
		if err == nil && len(entries) == 0 {
			err = fmt.Errorf("entry %d cannot be read", m.Size())
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if err := m.ApplyEntries(entries); err != nil {
			return err
		}
		progress("re-execute", m.Size(), total)
	}
	return nil
}

// compare holds all that is a function of the entries in one store against another.
func compare(ctx context.Context, disk, again store.Reader) error {
	for _, prefix := range []byte{keyState, keyNode, keyHistory, keyNonce, keyExpiry, keyDocument, keyInForce, keySeal, keyEpoch} {
		it, err := again.Iter([]byte{prefix}, []byte{prefix + 1})
		if err != nil {
			return err
		}
		ok := it.First()
		err = scan(ctx, disk, prefix, func(key, value []byte) error {
			if !ok || !bytes.Equal(it.Key(), key) || !bytes.Equal(it.Value(), value) {
				return fmt.Errorf("%w: the store holds %q, which the entries do not give as it stands there", ErrDiverged, key)
			}
			ok = it.Next()
			return nil
		})
		if err == nil && ok {
			err = fmt.Errorf("%w: the store lacks %q, which the entries give", ErrDiverged, it.Key())
		}
		if err := errors.Join(err, it.Err(), it.Close()); err != nil {
			return err
		}
	}
	return nil
}

// compareTree holds the nodes of the state commitment on disk, brought up to date by folded,
// against those that the entries give: a root alone says nothing of a node below it.
func compareTree(ctx context.Context, disk store.Reader, folded store.Getter, again store.Reader) error {
	same := func(key []byte) error {
		a, errA := folded.Get(key)
		b, errB := again.Get(key)
		if !bytes.Equal(a, b) || errors.Is(errA, ErrNotFound) != errors.Is(errB, ErrNotFound) {
			return fmt.Errorf("%w: node %x of the state commitment is not what the entries give", ErrDiverged, key)
		}
		if errors.Is(errA, ErrNotFound) {
			return nil
		}
		return errors.Join(errA, errB)
	}
	for _, r := range []store.Reader{disk, again} {
		if err := scan(ctx, r, prefixtree.KeyPrefix, func(key, _ []byte) error { return same(key) }); err != nil {
			return err
		}
	}
	return nil
}
