package fsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/ledger"
	"github.com/bizra/bizra/fsm/prefixtree"
	"github.com/bizra/bizra/fsm/session"
	"github.com/bizra/bizra/fsm/store"
)

// Progress is told how far a check has come.
type Progress func(stage string, done, total int64)

// Check tests that what a store holds fits together, without executing anything:
// the ledger's hashes and indexes, the state commitment, the replay window, the
// sessions' nodes and the last seal. It is how a received snapshot is judged.
// Errors name the first thing that is wrong.
func Check(ctx context.Context, st store.Store, cfg Config, progress Progress) error {
	m, err := Open(st, cfg)
	if err != nil {
		return err
	}
	v, err := m.View()
	if err != nil {
		return err
	}
	err = m.check(ctx, v, progress)
	return errors.Join(err, v.Close(), m.Close())
}

func (m *Machine) check(ctx context.Context, v *View, progress Progress) error {
	if err := v.Ledger().Verify(ctx, describe, func(done, total int64) { progress("ledger", done, total) }); err != nil {
		return fmt.Errorf("check the ledger: %w", err)
	}
	for _, c := range []struct {
		what string
		run  func(context.Context, *View) error
	}{{"state commitment", m.checkCommitment}, {"replay window", m.checkWindow}, {"session nodes", m.checkNodes}, {"seals", m.checkSeals}, {"records of attestation", m.checkAttest}, {"documents", m.checkDocuments}, {"market", m.checkMarket}} {
		progress(c.what, 0, 1)
		if err := c.run(ctx, v); err != nil {
			return fmt.Errorf("check the %s: %w", c.what, err)
		}
		progress(c.what, 1, 1)
	}
	return nil
}

// describe tells the ledger under which names an entry must be found.
func describe(_ int64, data []byte) (ledger.Appended, error) {
	e, err := ParseEntry(data)
	if err != nil {
		return ledger.Appended{}, err
	}
	return e.leaf(data), nil
}

// scan visits all keys with a prefix, in order.
func scan(ctx context.Context, r store.Reader, prefix byte, visit func(key, value []byte) error) error {
	it, err := r.Iter([]byte{prefix}, []byte{prefix + 1})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := errors.Join(ctx.Err(), visit(it.Key(), it.Value())); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Err(), it.Close())
}

func (m *Machine) checkCommitment(ctx context.Context, v *View) error {
	var failed error
	built := prefixtree.Build(func(yield func(key, value [32]byte) bool) {
		stop := errors.New("stop")
		err := scan(ctx, v.snap, keyState, func(key, value []byte) error {
			if !yield(prefixtree.KeyHash(key), prefixtree.ValueHash(value)) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			failed = err
		}
	})
	if failed != nil {
		return failed
	}
	root, err := m.fold()
	if err := errors.Join(err, m.reload()); err != nil {
		return err
	}
	if root != built {
		return fmt.Errorf("%w: the tree's root is %x, the state gives %x", ErrDiverged, root, built)
	}
	return nil
}

func (m *Machine) checkWindow(ctx context.Context, v *View) error {
	windows := map[string]window{}
	next, remembered := v.head.NonceFirst, 0
	err := scan(ctx, v.snap, keyExpiry, func(key, value []byte) error {
		if !bytes.Equal(key, numbered(keyExpiry, next)) || len(value) != expiryBytes {
			return fmt.Errorf("nonce number %d is missing or malformed", next)
		}
		nonce, t := splitExpiry(value)
		at, err := v.snap.Get(nonceKey(nonce))
		if err != nil || len(at) != nonceBytes || binary.BigEndian.Uint64(at) < next {
			return fmt.Errorf("nonce number %d is not remembered: %w", next, err)
		}
		if binary.BigEndian.Uint64(at) == next { // else it was used again after it had expired
			if !bytes.Equal(at[8:], value[32:]) {
				return fmt.Errorf("nonce number %d is remembered at another log time", next)
			}
			remembered++
		}
		w := windows[string(windowKey(t/secondMillis))]
		w.add(next, t, nonce)
		windows[string(windowKey(t/secondMillis))] = w
		next++
		return nil
	})
	if err == nil && next != v.head.NonceNext {
		err = fmt.Errorf("the nonces end at number %d of %d", next, v.head.NonceNext)
	}
	if err == nil {
		err = scan(ctx, v.snap, keyNonce, func([]byte, []byte) error { remembered--; return nil })
	}
	if err == nil && remembered != 0 {
		err = fmt.Errorf("%d nonces are remembered that are not in the window", -remembered)
	}
	if err != nil {
		return err
	}
	return m.checkWindowRecords(ctx, v, windows)
}

// checkWindowRecords holds the records of the seconds against what their nonces give. A
// second that is being forgotten has none any more.
func (m *Machine) checkWindowRecords(ctx context.Context, v *View, windows map[string]window) error {
	recorded := 0
	err := scan(ctx, v.snap, keyState, func(key, value []byte) error {
		if !bytes.HasPrefix(key, stateKeyOf(stateWindow, "")) {
			return nil
		}
		recorded++
		var w window
		if err := m.enc.dec.Unmarshal(value, &w); err != nil {
			return err
		}
		if w != windows[string(key)] {
			return fmt.Errorf("record %q does not cover the nonces of its second", key)
		}
		return nil
	})
	if err == nil && recorded < len(windows) {
		err = m.checkForgetting(v)
		recorded++
	}
	if err == nil && recorded != len(windows) {
		err = fmt.Errorf("%d seconds are recorded, the nonces fall into %d", recorded, len(windows))
	}
	return err
}

// checkForgetting refuses a first second without a record, unless it has expired.
func (m *Machine) checkForgetting(v *View) error {
	first, err := v.snap.Get(numbered(keyExpiry, v.head.NonceFirst))
	if err != nil {
		return fmt.Errorf("read nonce number %d: %w", v.head.NonceFirst, err)
	}
	_, t := splitExpiry(first)
	recorded, err := has(v.snap, windowKey(t/secondMillis))
	if err == nil && (recorded || !expired(t, v.head.TimeMillis-m.law.Thresholds.NonceWindowMillis)) {
		err = fmt.Errorf("nonces from number %d on lack the record of their second", v.head.NonceFirst)
	}
	return err
}

func (m *Machine) checkNodes(ctx context.Context, v *View) error {
	if err := scan(ctx, v.snap, keyNode, func(key, value []byte) error {
		if len(value) < 8 || !bytes.Equal(nodeKey(session.HashCanonical(value[8:])), key) {
			return fmt.Errorf("node %x is not what its hash says", key[1:])
		}
		return nil
	}); err != nil {
		return err
	}
	return scan(ctx, v.snap, keyState, func(key, value []byte) error {
		id, ok := bytes.CutPrefix(key, stateKeyOf(stateSession, ""))
		if !ok {
			return nil
		}
		var rec sessionRecord
		if err := m.enc.dec.Unmarshal(value, &rec); err != nil {
			return err
		}
		s := &rec.Session
		for _, t := range append(s.Tips, s.Last) {
			node, err := (nodes{v.snap}).Node(t.Hash)
			if err != nil {
				return fmt.Errorf("session %q: tip: %w", id, err)
			}
			if node.Session != s.ID || node.State != t.State || node.Clock != t.Clock {
				return fmt.Errorf("session %q: tip %v is not what its node says", id, t.Hash)
			}
		}
		h, err := v.snap.Get(historyKey(s.ID, s.Nodes-1))
		if err != nil || !bytes.Equal(h, s.Last.Hash[:]) {
			return fmt.Errorf("session %q: its history does not end with its last node: %w", id, err)
		}
		return nil
	})
}

func (m *Machine) checkSeals(_ context.Context, v *View) error {
	if v.meta.Seals == 0 {
		return nil
	}
	s, err := v.SealAt(v.meta.Seals - 1)
	if err != nil {
		return err
	}
	root, err := v.Ledger().Root(s.Size)
	if err != nil {
		return err
	}
	if root != ledger.Hash(s.Root) {
		return fmt.Errorf("%w: seal %d says root %x at size %d, the ledger gives %v", ErrDiverged, s.Number, s.Root, s.Size, root)
	}
	return nil
}
