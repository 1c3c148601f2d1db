package fsm

import (
	"errors"
	"fmt"
	"sync"

	"github.com/bizra/bizra/fsm/prefixtree"
	"github.com/bizra/bizra/fsm/session"
)

// sealed keeps a view on the state as it was at the last seal, so that proofs
// against the sealed state can be made while the state moves on. The mutex lets
// readers on other goroutines use the view until the next seal replaces it.
type sealed struct {
	mu   sync.Mutex
	view *View
	seal *Seal
}

func (s *sealed) replace(v *View, seal *Seal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.view
	s.view, s.seal = v, seal
	if old == nil {
		return nil
	}
	return old.Close()
}

// keepSealed opens a view on what was committed with a seal.
func (m *Machine) keepSealed(seal *Seal) error {
	v, err := m.View()
	if err != nil {
		return err
	}
	return m.sealed.replace(v, seal)
}

// StateProof is a proof against the state commitment of the last seal.
type StateProof struct {
	Seal  Seal
	Value []byte // nil where the state has no such key
	Proof prefixtree.Proof
}

// ErrNoSeal is returned by [Machine.ProveState] before the first seal since start.
var ErrNoSeal = errors.New("nothing was sealed since this node started; try again after the next seal")

// ProveState proves what the sealed state holds under a key ([SessionKey]), or
// that it holds nothing there. Any goroutine may call it.
func (m *Machine) ProveState(key []byte) (*StateProof, error) {
	m.sealed.mu.Lock()
	defer m.sealed.mu.Unlock()
	if m.sealed.view == nil {
		return nil, ErrNoSeal
	}
	p := &StateProof{Seal: *m.sealed.seal}
	value, err := m.sealed.view.snap.Get(key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("read state %q: %w", key, err)
	}
	p.Value = value
	if p.Proof, err = prefixtree.Prove(m.sealed.view.snap, prefixtree.KeyHash(key)); err != nil {
		return nil, fmt.Errorf("prove state %q: %w", key, err)
	}
	return p, nil
}

// Verify checks the proof against the state root of its own seal; that the seal is
// the region's, the caller has checked.
func (p *StateProof) Verify(key []byte) error {
	if p.Value == nil {
		return p.Proof.Verify(p.Seal.State, prefixtree.KeyHash(key), nil)
	}
	v := prefixtree.ValueHash(p.Value)
	return p.Proof.Verify(p.Seal.State, prefixtree.KeyHash(key), &v)
}

// Close lets go of the store, which it does not close. The machine must not be used afterwards.
func (m *Machine) Close() error {
	m.stopped = fmt.Errorf("%w: it was closed", ErrStop)
	return m.sealed.replace(nil, nil)
}

// SessionKey is the state key under which a session's record is committed.
func SessionKey(id string) []byte { return stateKeyOf(stateSession, id) }

// ParseSession reads the record that a state proof shows under a session's key.
func ParseSession(record []byte) (*session.Session, error) {
	enc, err := newEncoding()
	if err != nil {
		return nil, err
	}
	var r sessionRecord
	if err := enc.dec.Unmarshal(record, &r); err != nil {
		return nil, fmt.Errorf("decode a session's record: %w", err)
	}
	return &r.Session, nil
}
