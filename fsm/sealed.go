package fsm

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/bizra/bizra/fsm/prefixtree"
	"github.com/bizra/bizra/fsm/session"
)

// sealedViewsMax is how many sealed states are kept: the newest certified one, and those
// that wait for their certificates.
const sealedViewsMax = UncertifiedSealsMax + 1

// sealed keeps views on the state as it was at seals, so that proofs against it can be made
// while the state moves on. Which seal will be certified next is not known beforehand, so
// all that may be are kept. The mutex lets readers on other goroutines borrow a view.
type sealed struct {
	mu        sync.Mutex
	views     []*sealedView  // by seal, oldest first; at most sealedViewsMax
	certified int64          // the seals below this number are certified or covered
	lent      sync.WaitGroup // views that a reader has; closing waits for them
}

// sealedView is closed once it is neither kept nor lent.
type sealedView struct {
	seal *Seal
	view *View
	uses int // under the mutex of sealed: 1 while it is kept, and 1 for each reader
}

// keep takes a view on what was committed with a seal.
func (s *sealed) keep(v *View, seal *Seal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views = append(s.views, &sealedView{seal: seal, view: v, uses: 1})
	return s.drop()
}

// certify drops what no reader can ask for any more.
func (s *sealed) certify(next int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certified = next
	return s.drop()
}

// drop lets go of the views before the newest certified one and, where there are still too many,
// of the oldest that waits. It is called under the mutex.
func (s *sealed) drop() (err error) {
	s.views = slices.DeleteFunc(s.views, func(v *sealedView) bool {
		old := v.seal.Number < s.certified-1
		if old {
			err = errors.Join(err, s.release(v))
		}
		return old
	})
	for len(s.views) > sealedViewsMax {
		oldest := 0
		if s.views[0].seal.Number < s.certified {
			oldest = 1
		}
		err = errors.Join(err, s.release(s.views[oldest]))
		s.views = slices.Delete(s.views, oldest, oldest+1)
	}
	return err
}

// release gives up one use of a view. It is called under the mutex.
func (s *sealed) release(v *sealedView) error {
	if v.uses--; v.uses > 0 {
		return nil
	}
	return v.view.Close()
}

// borrow finds the newest view that passes, for a reader who gives it back.
func (s *sealed) borrow(pass func(*Seal) bool) (v *sealedView, giveBack func() error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range slices.Backward(s.views) {
		if pass(v.seal) {
			v.uses++
			s.lent.Add(1)
			return v, func() error {
				defer s.lent.Done()
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.release(v)
			}, nil
		}
	}
	return nil, nil, ErrNoSeal
}

// close lets go of every view and waits until readers have done so too.
func (s *sealed) close() error {
	s.mu.Lock()
	var err error
	for _, v := range s.views {
		err = errors.Join(err, s.release(v))
	}
	s.views = nil
	s.mu.Unlock()
	s.lent.Wait()
	return err
}

// keepSealed opens a view on what was committed with a seal.
func (m *Machine) keepSealed(seal *Seal) error {
	v, err := m.View()
	if err != nil {
		return err
	}
	return m.sealed.keep(v, seal)
}

// noteCertified lets go of the sealed states before the one whose certificate was committed.
func (m *Machine) noteCertified() error {
	if m.certified == 0 {
		return nil
	}
	next := m.certified
	m.certified = 0
	return m.sealed.certify(next)
}

// resumeSealed takes up what Open finds: the state stands as it was at the last seal only where
// nothing was appended since.
func (m *Machine) resumeSealed() error {
	var at attestRecord
	if _, err := loadVersioned(m.enc, m.st, []byte{keyAttest}, &at); err != nil {
		return err
	}
	m.sealed.certified = at.Next
	last, err := sealAt(m.enc, m.st, m.meta.Seals-1)
	if errors.Is(err, ErrNotFound) || err == nil && last.Size != m.log.Size() {
		return nil
	}
	if err != nil {
		return err
	}
	return m.keepSealed(last)
}

// StateProof is a proof against the state commitment of a seal.
type StateProof struct {
	Seal  Seal
	Value []byte // nil where the state has no such key
	Proof prefixtree.Proof
}

// ErrNoSeal is returned where the sealed state is not at hand: nothing was sealed, or certified,
// since this replica started. The next seal mends that.
var ErrNoSeal = errors.New("no state that was sealed, and certified where that is asked for, is at hand since this node started; try again after the next seal")

// ProveState proves what the state held under a key ([SessionKey]) at the last seal, or that it
// held nothing there. Any goroutine may call it.
func (m *Machine) ProveState(key []byte) (*StateProof, error) {
	return m.prove(key, func(*Seal) bool { return true })
}

// ProveCertified is [Machine.ProveState] at the newest certified seal. Its certificate is on
// record by then ([View.Certificate]).
func (m *Machine) ProveCertified(key []byte) (*StateProof, error) {
	// A certificate covers the seals before its own, but only its own seal's state is certified.
	return m.prove(key, func(s *Seal) bool { return s.Number == m.sealed.certified-1 })
}

// prove calls pass under the mutex of sealed.
func (m *Machine) prove(key []byte, pass func(*Seal) bool) (p *StateProof, err error) {
	at, giveBack, err := m.sealed.borrow(pass)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	p = &StateProof{Seal: *at.seal}
	value, err := at.view.snap.Get(key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("read state %q: %w", key, err)
	}
	p.Value = value
	if p.Proof, err = prefixtree.Prove(at.view.snap, prefixtree.KeyHash(key)); err != nil {
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
	return m.sealed.close()
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

// SealCertificate is a seal that has a certificate of its own.
type SealCertificate struct {
	Seal Seal
	Note []byte
}

// CertificatesFrom lists the certificates of the seals from a number on, in order, at most countMax.
func (v *View) CertificatesFrom(number int64, countMax int) (list []SealCertificate, err error) {
	it, err := v.snap.Iter(certificateKey(max(number, 0)), []byte{keyCertificate + 1})
	if err != nil {
		return nil, fmt.Errorf("list certificates: %w", err)
	}
	defer func() { err = errors.Join(err, it.Err(), it.Close()) }()
	for ok := it.First(); ok && len(list) < countMax; ok = it.Next() {
		number, signed, err := splitCertificate(it.Key(), it.Value())
		if err != nil {
			return nil, err
		}
		s, err := v.SealAt(number)
		if err != nil {
			return nil, err
		}
		list = append(list, SealCertificate{Seal: *s, Note: signed})
	}
	return list, nil
}
