package market

import (
	"cmp"

	"github.com/tidwall/btree"
)

// InMemory is a [Store] that forgets, for tests and simulations. The zero InMemory is not ready; see [NewInMemory].
type InMemory struct {
	head     Head
	founded  bool
	holders  *btree.BTreeG[Holder]
	licences *btree.BTreeG[Licence]
}

// NewInMemory makes an empty store.
func NewInMemory() *InMemory {
	// Whoever uses a Market does so from one goroutine, and so the trees need no locks.
	options := btree.Options{NoLocks: true}
	return &InMemory{
		holders:  btree.NewBTreeGOptions(func(a, b Holder) bool { return cmp.Less(a.Owner, b.Owner) }, options),
		licences: btree.NewBTreeGOptions(func(a, b Licence) bool { return cmp.Less(a.Number, b.Number) }, options),
	}
}

// Head implements [Store]. It never fails, like all methods here.
func (s *InMemory) Head() (Head, bool, error) { return s.head, s.founded, nil }

// PutHead implements [Store].
func (s *InMemory) PutHead(h Head) error {
	s.head, s.founded = h, true
	return nil
}

// Holder implements [Store].
func (s *InMemory) Holder(owner string) (Holder, bool, error) {
	h, found := s.holders.Get(Holder{Owner: owner})
	return h, found, nil
}

// PutHolder implements [Store].
func (s *InMemory) PutHolder(h Holder) error {
	s.holders.Set(h)
	return nil
}

// DeleteHolder implements [Store].
func (s *InMemory) DeleteHolder(owner string) error {
	s.holders.Delete(Holder{Owner: owner})
	return nil
}

// Holders implements [Store].
func (s *InMemory) Holders(visit func(Holder) error) error {
	var err error
	s.holders.Scan(func(h Holder) bool {
		err = visit(h)
		return err == nil
	})
	return err
}

// Licence implements [Store].
func (s *InMemory) Licence(number int64) (Licence, bool, error) {
	l, found := s.licences.Get(Licence{Number: number})
	return l, found, nil
}

// Licences implements [Store].
func (s *InMemory) Licences(visit func(Licence) error) error {
	var err error
	s.licences.Scan(func(l Licence) bool {
		err = visit(l)
		return err == nil
	})
	return err
}

// PutLicence implements [Store].
func (s *InMemory) PutLicence(l Licence) error {
	s.licences.Set(l)
	return nil
}

// DeleteLicence implements [Store].
func (s *InMemory) DeleteLicence(number int64) error {
	s.licences.Delete(Licence{Number: number})
	return nil
}
