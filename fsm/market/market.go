package market

import (
	"errors"
	"fmt"
	"slices"
)

// Errors of the market. After one that is not a [Refusal], [ErrTime] or [ErrEpoch] the Market must be opened again, over
// a store that is as it was before.
var (
	// ErrFounded is returned by [Found] where there is a market.
	ErrFounded = errors.New("market: it is founded already")
	// ErrUnfounded is returned by [Open] where there is none.
	ErrUnfounded = errors.New("market: it has not been founded")
	// ErrTime is returned when log time goes back, or is none.
	ErrTime = errors.New("market: log time goes back or is out of range")
	// ErrEpoch is returned by [Market.Apply] when an epoch is due, which comes first, and by [Market.Epoch] when none is.
	ErrEpoch = errors.New("market: an epoch is due before a step, and only then")
	// ErrRecords is returned when the records contradict each other.
	ErrRecords = errors.New("market: the records contradict each other")
)

// Market is one region's market.
type Market struct {
	store  Store
	rules  Rules
	head   Head
	values order // the declared value of each holder; follows from the records
	broken error // why it must be opened again
}

// Found makes the records of a new market in which all credits lie in the treasury. Epochs are counted from the log
// time given. The errors are [ErrRules], [ErrTime], [ErrFounded] and the store's.
func Found(store Store, rules Rules, nowMillis int64) (*Market, error) {
	if err := rules.Check(); err != nil {
		return nil, err
	}
	if nowMillis < 0 || nowMillis > timeMillisMax {
		return nil, fmt.Errorf("%w: %d", ErrTime, nowMillis)
	}
	if _, found, err := store.Head(); err != nil {
		return nil, fmt.Errorf("market: read the head: %w", err)
	} else if found {
		return nil, ErrFounded
	}
	head := Head{Supply: rules.Supply, Treasury: rules.Supply, StartMillis: nowMillis, TimeMillis: nowMillis, Issued: make([]int64, ResourceCount)}
	if err := store.PutHead(head); err != nil {
		return nil, fmt.Errorf("market: write the head: %w", err)
	}
	return Open(store, rules)
}

// Open goes on with the market whose records are in the store, in O(n log n) for n holders. The rules are those in
// force; if their supply is another than the records', see [Market.Adopt]. The errors are [ErrRules], [ErrUnfounded],
// [ErrRecords] and the store's.
func Open(store Store, rules Rules) (*Market, error) {
	if err := rules.Check(); err != nil {
		return nil, err
	}
	head, found, err := store.Head()
	if err != nil {
		return nil, fmt.Errorf("market: read the head: %w", err)
	}
	if !found {
		return nil, ErrUnfounded
	}
	if len(head.Issued) != int(ResourceCount) {
		return nil, fmt.Errorf("%w: the head counts %d resources", ErrRecords, len(head.Issued))
	}
	m := &Market{store: store, rules: rules, head: head.clone()}
	var values []int64
	err = store.Holders(func(h Holder) error {
		if len(h.Licences) > 0 {
			values = append(values, h.Value)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("market: read the holders: %w", err)
	}
	slices.Sort(values)
	if n := len(values); n > HoldersMax || n > 0 && (values[0] < Credit || values[n-1] > ValueMax) {
		return nil, fmt.Errorf("%w: %d holders with %d to %d micro-credits declared", ErrRecords, n, values[0], values[n-1])
	}
	m.values = orderOf(values)
	return m, nil
}

// Adopt puts new rules in force. Prices and capacities count for what is issued from then on; units beyond a smaller
// capacity stay issued until their licences end. The difference in supply comes into or goes out of the treasury, in
// which it must be. The errors are [ErrRules], [ErrTime] and the store's.
func (m *Market) Adopt(nowMillis int64, rules Rules) error {
	if err := m.at(nowMillis); err != nil {
		return err
	}
	if err := rules.Check(); err != nil {
		return err
	}
	more := rules.Supply - m.head.Supply
	if m.head.Treasury+more < 0 {
		return fmt.Errorf("%w: Supply is %d, %d less than before, of which the treasury has %d", ErrRules, rules.Supply, -more, m.head.Treasury)
	}
	m.rules = rules
	m.head.Supply += more
	m.head.Treasury += more
	m.head.TimeMillis = nowMillis
	return m.putHead()
}

func (m *Market) putHead() error {
	if err := m.store.PutHead(m.head.clone()); err != nil {
		return m.breaks(fmt.Errorf("market: write the head: %w", err))
	}
	return nil
}

// at refuses a log time that goes back, and a market that must be opened again.
func (m *Market) at(nowMillis int64) error {
	if m.broken != nil {
		return m.broken
	}
	if nowMillis < m.head.TimeMillis || nowMillis > timeMillisMax {
		return fmt.Errorf("%w: from %d to %d", ErrTime, m.head.TimeMillis, nowMillis)
	}
	return nil
}

func (m *Market) breaks(err error) error {
	m.broken = fmt.Errorf("market: open it again: %w", err)
	return err
}

// Head is the market's head record.
func (m *Market) Head() Head { return m.head.clone() }

// Rules are the rules in force.
func (m *Market) Rules() Rules { return m.rules }

// Gini is the Gini coefficient of declared value per holder now.
func (m *Market) Gini() Gini { return m.values.gini() }

// Admission says what an owner without licences may declare in all, in micro-credits, so that it is let in whatever
// the Gini: from least, below which it would be dust, to sure, where it is not above the mean. More than that may be let
// in too; that depends on the Gini. A licence of its own price is bought or issued under [Rules]; both cost credits.
func (m *Market) Admission() (least, sure int64) {
	g := m.values.gini()
	if g.holders == 0 {
		return Credit, ValueMax
	}
	// With the newcomer: FloorDivisor·v·(n+1) ≥ total+v.
	share := FloorDivisor*(g.holders+1) - 1
	return max(Credit, (g.total+share-1)/share), g.total / g.holders
}

// Holder returns the record of an owner as of the last step, and false if there is none.
func (m *Market) Holder(owner string) (Holder, bool, error) {
	h, found, err := m.store.Holder(owner)
	if err != nil {
		return h, false, fmt.Errorf("market: read holder %q: %w", owner, err)
	}
	h.Licences = slices.Clone(h.Licences)
	return h, found, nil
}

// Licence returns a licence by its number as of the last step, and false if there is none. It may have lapsed since.
func (m *Market) Licence(number int64) (Licence, bool, error) {
	l, found, err := m.store.Licence(number)
	if err != nil {
		return l, false, fmt.Errorf("market: read licence %d: %w", number, err)
	}
	return l, found, nil
}

// Units is how many units of a resource an owner may use at a log time: of its licences that have not lapsed by then
// and whose tax up to then it can pay. The errors are [ErrTime] and the store's.
func (m *Market) Units(nowMillis int64, owner string, resource Resource) (int64, error) {
	s, err := m.begin(nowMillis)
	if err != nil {
		return 0, err
	}
	a, err := s.load(owner)
	if err != nil {
		return 0, err
	}
	s.settle(a)
	var units int64
	for _, l := range a.licences {
		if l.Resource == resource {
			units += l.Quantity
		}
	}
	return units, nil
}

// Audit reads all records and reports the first contradiction between them, and between them and what is held in
// memory. The errors are [ErrRecords] and the store's.
func (m *Market) Audit() error {
	if m.broken != nil {
		return m.broken
	}
	credits := m.head.Treasury + m.head.Pot
	issued, licences := make([]int64, ResourceCount), int64(0)
	var values []int64
	err := m.store.Holders(func(h Holder) error {
		if h.TaxedMillis < 0 || h.TaxedMillis > m.head.TimeMillis || h.Balance < 0 || h.Balance == 0 && len(h.Licences) == 0 || len(h.Licences) > LicencesMax || !slices.IsSorted(h.Licences) {
			return fmt.Errorf("%w: holder %q has %d micro-credits and licences %v", ErrRecords, h.Owner, h.Balance, h.Licences)
		}
		credits += h.Balance
		var value int64
		for _, number := range h.Licences {
			l, found, err := m.store.Licence(number)
			if err != nil {
				return fmt.Errorf("market: read licence %d: %w", number, err)
			}
			if !found || !l.sound() || l.Owner != h.Owner || l.Number != number || number >= m.head.Next {
				return fmt.Errorf("%w: holder %q has licence %d, which is %+v", ErrRecords, h.Owner, number, l)
			}
			value += l.Price
			issued[l.Resource] += l.Quantity
			licences++
		}
		if value != h.Value {
			return fmt.Errorf("%w: the prices of holder %q sum to %d, its record says %d", ErrRecords, h.Owner, value, h.Value)
		}
		if len(h.Licences) > 0 {
			values = append(values, value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if credits != m.head.Supply {
		return fmt.Errorf("%w: %d micro-credits where %d were founded", ErrRecords, credits, m.head.Supply)
	}
	if !slices.Equal(issued, m.head.Issued) || licences != m.head.Licences {
		return fmt.Errorf("%w: units issued are %v by %d licences, the head says %v by %d", ErrRecords, issued, licences, m.head.Issued, m.head.Licences)
	}
	if g, err := GiniOf(values); err != nil || g != m.values.gini() {
		return fmt.Errorf("%w: the Gini is %+v, and was followed to %+v", ErrRecords, g, m.values.gini())
	}
	return nil
}
