package fsm

import (
	"encoding/binary"
	"fmt"

	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/fsm/store"
)

// marketRecords are the records of the region's market as state records, so that the commitment covers them. They are
// read and written through txn, over base.
type marketRecords struct {
	enc  encoding
	txn  *store.Txn
	base store.Reader
}

func (m *Machine) marketRecords() marketRecords { return marketRecords{m.enc, m.scratch, m.st} }

func licenceKey(number int64) []byte {
	key := make([]byte, 0, 1+len(stateLicence)+8)
	return binary.BigEndian.AppendUint64(append(append(key, keyState), stateLicence...), uint64(number)) //nolint:gosec // never negative
}

// Head implements [market.Store].
func (r marketRecords) Head() (h market.Head, found bool, err error) {
	found, err = load(r.enc, r.txn, stateKeyOf(stateMarket, ""), &h)
	return h, found, err
}

// PutHead implements [market.Store].
func (r marketRecords) PutHead(h market.Head) error {
	return save(r.enc, r.txn, stateKeyOf(stateMarket, ""), &h)
}

// Holder implements [market.Store].
func (r marketRecords) Holder(owner string) (h market.Holder, found bool, err error) {
	found, err = load(r.enc, r.txn, stateKeyOf(stateHolder, owner), &h)
	return h, found, err
}

// PutHolder implements [market.Store].
func (r marketRecords) PutHolder(h market.Holder) error {
	return save(r.enc, r.txn, stateKeyOf(stateHolder, h.Owner), &h)
}

// DeleteHolder implements [market.Store].
func (r marketRecords) DeleteHolder(owner string) error {
	r.txn.Delete(stateKeyOf(stateHolder, owner))
	return nil
}

// Holders implements [market.Store].
func (r marketRecords) Holders(visit func(market.Holder) error) error {
	lower, upper := stateRange(stateHolder)
	return r.txn.Scan(r.base, lower, upper, func(key, value []byte) error {
		var h market.Holder
		if err := r.enc.dec.Unmarshal(value, &h); err != nil {
			return fmt.Errorf("decode state %q: %w", key, err)
		}
		return visit(h)
	})
}

// Licence implements [market.Store].
func (r marketRecords) Licence(number int64) (l market.Licence, found bool, err error) {
	found, err = load(r.enc, r.txn, licenceKey(number), &l)
	return l, found, err
}

// Licences implements [market.Store].
func (r marketRecords) Licences(visit func(market.Licence) error) error {
	lower, upper := stateRange(stateLicence)
	return r.txn.Scan(r.base, lower, upper, func(key, value []byte) error {
		var l market.Licence
		if err := r.enc.dec.Unmarshal(value, &l); err != nil {
			return fmt.Errorf("decode state %q: %w", key, err)
		}
		return visit(l)
	})
}

// PutLicence implements [market.Store].
func (r marketRecords) PutLicence(l market.Licence) error {
	return save(r.enc, r.txn, licenceKey(l.Number), &l)
}

// DeleteLicence implements [market.Store].
func (r marketRecords) DeleteLicence(number int64) error {
	r.txn.Delete(licenceKey(number))
	return nil
}

// stateRange is where the state records lie whose names begin with name, which is not empty.
func stateRange(name string) (lower, upper []byte) {
	lower, upper = stateKeyOf(name, ""), stateKeyOf(name, "")
	upper[len(upper)-1]++
	return lower, upper
}
