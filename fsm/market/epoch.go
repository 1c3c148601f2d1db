package market

import (
	"fmt"
	"slices"
)

// Settlement is what an epoch did.
type Settlement struct {
	Epochs  int64 // that were due, and are settled by this one
	Tax     int64 // micro-credits collected by this step itself
	PaidOut int64 // micro-credits paid out to the holders in all
	Each    int64 // micro-credits that each holder received
	Lapsed  int64 // licences that were not reassessed in time, or no longer fit
	Revoked int64 // licences whose tax could not be paid
	Floor   int64 // declared value that holders below it were lifted to, micro-credits
	Lifted  int64 // how many were
	Cap     int64 // declared value that holders above it were lowered to, micro-credits; 0 if the Gini kept its limit
	Lowered int64 // how many were
	Before  Gini  // after lapses and revocations
	After   Gini
}

// Due reports whether an epoch has ended since the last settlement.
func (m *Market) Due(nowMillis int64) bool { return m.due(nowMillis) > m.head.Epoch }

func (m *Market) due(nowMillis int64) int64 { return (nowMillis - m.head.StartMillis) / EpochMillis }

// Epoch settles the epochs that have ended, all in one step, in O(n log n) for n holders: it collects the tax due,
// takes away licences that lapsed or whose tax cannot be paid, lifts who is below a quarter of the mean, lowers who is above
// the largest cap that keeps the Gini within its limit, and pays the tax received since the last epoch out to the holders, to
// each the same; what that leaves is paid out next time. Afterwards the Gini is at most the limit. The errors are
// [ErrEpoch] if none is due, [ErrTime], [ErrRecords] and the store's.
func (m *Market) Epoch(nowMillis int64) (Settlement, error) {
	s, err := m.begin(nowMillis)
	if err != nil {
		return Settlement{}, err
	}
	if !m.Due(nowMillis) {
		return Settlement{}, ErrEpoch
	}
	if err := s.takeAll(); err != nil {
		return Settlement{}, m.breaks(err)
	}
	result := Settlement{Epochs: m.due(nowMillis) - m.head.Epoch}
	s.head.Epoch = m.due(nowMillis)
	for _, a := range s.accounts {
		s.settle(a)
	}
	s.level(&result)
	s.payOut(&result)
	result.Tax = s.outcome.Tax
	result.Lapsed = int64(len(s.outcome.Lapsed))
	result.Revoked = int64(len(s.outcome.Revoked))
	if !s.conserves() {
		return Settlement{}, m.breaks(fmt.Errorf("%w: an epoch would create or destroy credits", ErrRecords))
	}
	m.values = orderOf(s.sorted())
	result.After = m.values.gini()
	return result, s.commit()
}

// sorted are the declared values of the holders, ascending.
func (s *step) sorted() []int64 {
	var values []int64
	for _, a := range s.accounts {
		if len(a.licences) > 0 {
			values = append(values, a.holder.Value)
		}
	}
	slices.Sort(values)
	return values
}

// level lifts and lowers declarations. Lifting comes first: it lowers the coefficient, so that less is cut off.
func (s *step) level(result *Settlement) {
	values := s.sorted()
	before := spreadOf(values)
	if len(values) == 0 {
		return
	}
	result.Before = before.capped(values[len(values)-1])
	result.Floor = before.floor()
	for i, v := range values {
		values[i] = max(v, result.Floor)
	}
	lifted := spreadOf(values)
	height, needed := lifted.cap()
	if needed {
		result.Cap = height
	}
	for _, a := range s.accounts {
		switch value := a.holder.Value; {
		case len(a.licences) == 0:
		case value < result.Floor:
			s.set(a, result.Floor)
			result.Lifted++
		case value > height:
			s.set(a, height)
			result.Lowered++
		}
	}
}

// set makes an account's prices sum to total. Licences that no longer fit lapse, the latest issued first; being set is
// no reassessment, so their day runs on.
func (s *step) set(a *account, total int64) {
	fit := min(len(a.licences), int(total/Credit))
	for i := len(a.licences) - 1; i >= fit; i-- {
		s.outcome.Lapsed = append(s.outcome.Lapsed, a.licences[i].Number)
		s.drop(&a.licences[i])
	}
	a.licences = a.licences[:fit]
	redeclare(a.licences, total)
	for _, l := range a.licences {
		s.writes = append(s.writes, write{licence: l})
	}
	a.count()
}

func (s *step) payOut(result *Settlement) {
	var holders int64
	for _, a := range s.accounts {
		if len(a.licences) > 0 {
			holders++
		}
	}
	if holders == 0 {
		return
	}
	result.Each = s.head.Pot / holders
	result.PaidOut = result.Each * holders
	s.head.Pot -= result.PaidOut
	for _, a := range s.accounts {
		if len(a.licences) > 0 {
			a.holder.Balance += result.Each
		}
	}
}
