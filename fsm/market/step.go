package market

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
)

// step is what one action or epoch is about to change. Nothing reaches the records before commit, so a refused step is
// dropped as it is.
type step struct {
	m        *Market
	now      int64
	head     Head
	accounts []*account
	writes   []write // of licences, in order; a later one counts
	outcome  Outcome
	all      []Licence // ascending by number, in a step that takes every account: one pass costs far less than looking each up
}

type write struct {
	licence Licence
	gone    bool
}

// nobody stands for the value of who holds no licence, and so does not count.
const nobody = -1

type account struct {
	holder   Holder
	licences []Licence // ascending by number
	was      Holder    // as stored
	existed  bool
	value    int64 // what the order of values has for it now, or nobody
}

func (m *Market) begin(now int64) (*step, error) {
	if err := m.at(now); err != nil {
		return nil, err
	}
	s := &step{m: m, now: now, head: m.head.clone()}
	s.head.TimeMillis = now
	return s, nil
}

// load takes an owner's account into the step; it is empty for an owner that has none.
func (s *step) load(owner string) (*account, error) {
	for _, a := range s.accounts {
		if a.holder.Owner == owner {
			return a, nil
		}
	}
	h, found, err := s.m.store.Holder(owner)
	if err != nil {
		return nil, fmt.Errorf("market: read holder %q: %w", owner, err)
	}
	if !found {
		h = Holder{Owner: owner}
	}
	return s.take(h, found)
}

func (s *step) take(h Holder, existed bool) (*account, error) {
	if h.TaxedMillis < 0 || h.TaxedMillis > timeMillisMax || h.Balance < 0 || h.Balance > SupplyMax || len(h.Licences) > LicencesMax {
		return nil, fmt.Errorf("%w: holder %q is %+v", ErrRecords, h.Owner, h)
	}
	a := &account{holder: h, was: h, existed: existed, value: nobody}
	if len(h.Licences) > 0 {
		a.value = h.Value
		a.licences = make([]Licence, len(h.Licences), len(h.Licences)+1)
	}
	for i, number := range h.Licences {
		l, found, err := s.licence(number)
		if err != nil {
			return nil, fmt.Errorf("market: read licence %d: %w", number, err)
		}
		if !found || !l.sound() {
			return nil, fmt.Errorf("%w: holder %q has licence %d, which is %+v", ErrRecords, h.Owner, number, l)
		}
		a.licences[i] = l
	}
	s.accounts = append(s.accounts, a)
	return a, nil
}

func (s *step) licence(number int64) (Licence, bool, error) {
	if s.all == nil {
		return s.m.store.Licence(number)
	}
	at, found := slices.BinarySearchFunc(s.all, number, func(l Licence, number int64) int { return cmp.Compare(l.Number, number) })
	if !found {
		return Licence{}, false, nil
	}
	return s.all[at], true, nil
}

// takeAll takes the accounts of all holders into the step.
func (s *step) takeAll() error {
	s.all = make([]Licence, 0, max(0, min(s.head.Licences, LicencesTotalMax))) // a record may be damaged
	err := s.m.store.Licences(func(l Licence) error {
		s.all = append(s.all, l)
		return nil
	})
	if err != nil {
		return fmt.Errorf("market: read the licences: %w", err)
	}
	err = s.m.store.Holders(func(h Holder) error {
		if len(h.Licences) == 0 {
			return nil
		}
		_, err := s.take(h, true)
		return err
	})
	if err != nil {
		return fmt.Errorf("market: read the holders: %w", err)
	}
	return nil
}

// tax is what a price costs for a time of at most LapseMillis, rounded up to the micro-credit.
func tax(price, millis int64) int64 {
	if price <= 0 || millis <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(unsigned(price), unsigned(millis))
	lo, carry := bits.Add64(lo, taxDivisor-1, 0)
	quotient, _ := bits.Div64(hi+carry, lo, taxDivisor)
	return int64(quotient) //nolint:gosec // at most ValueMax times a day's tax
}

// settle brings an account up to now: it collects the tax, oldest licence first, and takes away what has lapsed and what
// the tax cannot be paid for. Every step settles each account that it touches, so that no credits are spent that are due.
func (s *step) settle(a *account) {
	kept := make([]Licence, 0, len(a.licences)+1)
	for _, l := range a.licences {
		due := tax(l.Price, min(s.now, l.LapsesMillis())-a.holder.TaxedMillis)
		paid := min(due, a.holder.Balance)
		a.holder.Balance -= paid
		s.head.Pot += paid
		s.outcome.Tax += paid
		switch {
		case paid < due:
			s.outcome.Revoked = append(s.outcome.Revoked, l.Number)
			s.drop(&l)
		case s.now >= l.LapsesMillis():
			s.outcome.Lapsed = append(s.outcome.Lapsed, l.Number)
			s.drop(&l)
		default:
			kept = append(kept, l)
		}
	}
	a.licences = kept
	a.holder.TaxedMillis = s.now
	a.count()
}

// count brings the holder's record in line with its licences.
func (a *account) count() {
	a.holder.Value = 0
	a.holder.Licences = make([]int64, len(a.licences))
	for i := range a.licences {
		a.holder.Value += a.licences[i].Price
		a.holder.Licences[i] = a.licences[i].Number
	}
}

// find is where a licence is among the account's, or -1.
func (a *account) find(number int64) int {
	return slices.IndexFunc(a.licences, func(l Licence) bool { return l.Number == number })
}

// drop gives a licence back to the market.
func (s *step) drop(l *Licence) {
	s.head.Issued[l.Resource] -= l.Quantity
	s.head.Licences--
	s.writes = append(s.writes, write{*l, true})
}

// give puts a licence into an account, or puts one there back as it is now.
func (s *step) give(a *account, l Licence) {
	l.Owner = a.holder.Owner
	s.writes = append(s.writes, write{licence: l})
	if i := a.find(l.Number); i >= 0 {
		a.licences[i] = l
	} else {
		at, _ := slices.BinarySearchFunc(a.licences, l.Number, func(have Licence, number int64) int { return cmp.Compare(have.Number, number) })
		a.licences = slices.Insert(a.licences, at, l)
	}
	a.count()
}

// index brings the order of values in line with the accounts.
func (s *step) index() error {
	for _, a := range s.accounts {
		value := a.holder.Value
		if len(a.licences) == 0 {
			value = nobody
		}
		if err := s.m.move(a.value, value); err != nil {
			return err
		}
		a.value = value
	}
	return nil
}

// forget undoes index.
func (s *step) forget() error {
	for _, a := range s.accounts {
		value := a.was.Value
		if len(a.was.Licences) == 0 {
			value = nobody
		}
		if err := s.m.move(a.value, value); err != nil {
			return err
		}
		a.value = value
	}
	return nil
}

func (m *Market) move(from, to int64) error {
	if from == to {
		return nil
	}
	if from != nobody && !m.values.remove(from) {
		return m.breaks(fmt.Errorf("%w: no holder declares %d", ErrRecords, from))
	}
	if to != nobody {
		m.values.insert(to)
	}
	return nil
}

// conserves reports whether the step only moves credits.
func (s *step) conserves() bool {
	moved := s.head.Treasury - s.m.head.Treasury + s.head.Pot - s.m.head.Pot
	for _, a := range s.accounts {
		if a.holder.Balance < 0 {
			return false
		}
		moved += a.holder.Balance - a.was.Balance
	}
	return moved == 0 && s.head.Treasury >= 0 && s.head.Pot >= 0
}

// commit writes the step's records.
func (s *step) commit() error {
	for _, w := range s.writes {
		if err := s.m.write(w); err != nil {
			return s.m.breaks(fmt.Errorf("market: write licence %d: %w", w.licence.Number, err))
		}
	}
	for _, a := range s.accounts {
		if err := s.m.keep(a); err != nil {
			return s.m.breaks(fmt.Errorf("market: write holder %q: %w", a.holder.Owner, err))
		}
	}
	s.m.head = s.head
	return s.m.putHead()
}

func (m *Market) write(w write) error {
	if w.gone {
		return m.store.DeleteLicence(w.licence.Number)
	}
	return m.store.PutLicence(w.licence)
}

func (m *Market) keep(a *account) error {
	switch {
	case a.holder.Balance > 0 || len(a.licences) > 0:
		return m.store.PutHolder(a.holder)
	case a.existed:
		return m.store.DeleteHolder(a.holder.Owner)
	default:
		return nil
	}
}
