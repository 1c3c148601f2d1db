package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/fsm/store"
)

// What readers see of the region's market.

// MarketStanding is a market as of the last entry.
type MarketStanding struct {
	Head  market.Head
	Rules market.Rules
	Gini  market.Gini // of declared value per holder
	// NewcomerLeast and NewcomerSure are from where to where an owner without licences may declare so that it is let in
	// whatever the Gini, in micro-credits. More may be let in too.
	NewcomerLeast, NewcomerSure int64
}

// marketAt spares readers the time that adding up all holders takes.
type marketAt struct {
	size     int64 // of the ledger
	standing MarketStanding
}

func standingOf(mk *market.Market) MarketStanding {
	s := MarketStanding{Head: mk.Head(), Rules: mk.Rules(), Gini: mk.Gini()}
	s.NewcomerLeast, s.NewcomerSure = mk.Admission()
	return s
}

// showMarket lets views see the market that was committed, where it is open.
func (m *Machine) showMarket() {
	if m.market != nil {
		m.standing.Store(&marketAt{m.log.Size(), standingOf(m.market)})
	}
}

// openMarket is the market as this view sees it, or [ErrNotFound]. Nothing may be written through it.
func (v *View) openMarket() (*market.Market, error) {
	doc, err := v.Document()
	if err != nil {
		return nil, err
	}
	region, ok := doc.Region(v.region)
	if !ok || region.Market == nil {
		return nil, fmt.Errorf("market: region %q has none: %w", v.region, ErrNotFound)
	}
	return market.Open(marketRecords{v.enc, store.NewTxn(v.snap), v.snap}, *region.Market)
}

// Market is how the market stands, or [ErrNotFound] where the region has none.
func (v *View) Market() (*MarketStanding, error) {
	size, err := v.Ledger().Size()
	if err != nil {
		return nil, err
	}
	if v.market != nil && v.market.size == size {
		return &v.market.standing, nil
	}
	mk, err := v.openMarket()
	if err != nil {
		return nil, err
	}
	s := standingOf(mk)
	return &s, nil
}

// Holder is what an owner has in the market, or [ErrNotFound]. Tax that has come due since its last step is not taken off.
func (v *View) Holder(owner string) (*market.Holder, error) {
	var h market.Holder
	found, err := load(v.enc, v.snap, stateKeyOf(stateHolder, owner), &h)
	if err == nil && !found {
		err = fmt.Errorf("owner %.80q in the market: %w", owner, ErrNotFound)
	}
	return &h, err
}

// Holders lists what owners after the one given have in the market, sorted by name, at most countMax and [PageMax].
func (v *View) Holders(after string, countMax int) ([]market.Holder, error) {
	return list[market.Holder](v, stateHolder, after, countMax)
}

// Licence finds a licence by its number, or [ErrNotFound]. It may have lapsed since its holder's last step.
func (v *View) Licence(number int64) (*market.Licence, error) {
	var l market.Licence
	found, err := load(v.enc, v.snap, licenceKey(number), &l)
	if err == nil && !found {
		err = fmt.Errorf("licence %d: %w", number, ErrNotFound)
	}
	return &l, err
}

// Licences lists licences from a number on, in order, at most countMax and [PageMax].
func (v *View) Licences(from int64, countMax int) ([]market.Licence, error) {
	_, upper := stateRange(stateLicence)
	it, err := v.snap.Iter(licenceKey(max(from, 0)), upper)
	if err != nil {
		return nil, fmt.Errorf("list licences: %w", err)
	}
	return decodeAll[market.Licence](v.enc, it, countMax)
}

// decodeAll reads the records that an iterator visits, at most countMax and [PageMax], and closes it.
func decodeAll[T any](enc encoding, it store.Iterator, countMax int) ([]T, error) {
	var items []T
	for ok := it.First(); ok && len(items) < min(countMax, PageMax); ok = it.Next() {
		var item T
		if err := enc.dec.Unmarshal(it.Value(), &item); err != nil {
			return nil, errors.Join(fmt.Errorf("decode state %q: %w", it.Key(), err), it.Close())
		}
		items = append(items, item)
	}
	return items, errors.Join(it.Err(), it.Close())
}

// SettledEpoch is the entry of an epoch.
type SettledEpoch struct {
	Epoch
	Index      int64 // of the entry
	TimeMillis int64 // log time
}

// Epochs lists the settlements of the market before the one with a number, newest first, at most countMax and [PageMax].
func (v *View) Epochs(before int64, countMax int) ([]SettledEpoch, error) {
	it, err := v.snap.Iter([]byte{keyEpoch}, epochKey(before))
	if err != nil {
		return nil, fmt.Errorf("list epochs: %w", err)
	}
	var all []SettledEpoch
	for ok := it.Last(); ok && len(all) < min(countMax, PageMax); ok = it.Prev() {
		s, err := v.epochAt(it.Value())
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		all = append(all, *s)
	}
	return all, errors.Join(it.Err(), it.Close())
}

func (v *View) epochAt(record []byte) (*SettledEpoch, error) {
	if len(record) != 8 {
		return nil, fmt.Errorf("record of an epoch has %d bytes", len(record))
	}
	index := int64(binary.BigEndian.Uint64(record)) //nolint:gosec // written from an int64
	e, err := v.Entry(index)
	if err != nil {
		return nil, err
	}
	if e.Outcome.Epoch == nil {
		return nil, fmt.Errorf("%w: entry %d is on record as an epoch, and is of kind %s", ErrDiverged, index, e.Kind)
	}
	return &SettledEpoch{Epoch: *e.Outcome.Epoch, Index: index, TimeMillis: e.TimeMillis}, nil
}

// checkEpoch holds the record of an epoch against the entry that it names.
func (v *View) checkEpoch(key, record []byte) (number int64, err error) {
	s, err := v.epochAt(record)
	if err != nil {
		return 0, err
	}
	if string(epochKey(s.Number)) != string(key) {
		return 0, fmt.Errorf("%w: entry %d settles epoch %d and is on record as %x", ErrDiverged, s.Index, s.Number, key[1:])
	}
	return s.Number, nil
}
