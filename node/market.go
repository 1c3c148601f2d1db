package node

import (
	"errors"

	"github.com/bizra/bizra/client"
	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/market"
)

// What the interface shows of the region's market.

// ppm is a share in hundredths in millionths.
const ppm = 10_000

// Market implements [api.View].
func (v *apiView) Market() (*client.Market, error) {
	s, err := found(v.View.Market())
	if err != nil {
		return nil, err
	}
	h := &s.Head
	m := &client.Market{Region: v.region, Supply: h.Supply, Treasury: h.Treasury, Pot: h.Pot, Holders: s.Gini.Holders(), Declared: s.Gini.Total(),
		Gini: s.Gini.Millionths(), GiniLimit: market.GiniLimitPercent * ppm, GiniAlert: market.GiniAlertPercent * ppm, Epoch: h.Epoch,
		NextEpoch: timeText(h.StartMillis + (h.Epoch+1)*market.EpochMillis), Newcomer: client.NewcomerMay{Least: s.NewcomerLeast, Sure: s.NewcomerSure},
		Resources: []client.MarketResource{}, LogTime: timeText(v.LogTimeMillis())}
	for _, r := range market.ResourcesByName() {
		if s.Rules.Capacity[r] == 0 && h.Issued[r] == 0 {
			continue
		}
		m.Resources = append(m.Resources, client.MarketResource{Resource: r.String(), Capacity: s.Rules.Capacity[r], Issued: h.Issued[r], Price: s.Rules.UnitPrice[r]})
	}
	return m, nil
}

// Holder implements [api.View].
func (v *apiView) Holder(owner string) (*client.Holder, error) {
	h, err := found(v.View.Holder(owner))
	if err != nil {
		return nil, err
	}
	shown := holderOf(h)
	return &shown, nil
}

func holderOf(h *market.Holder) client.Holder {
	return client.Holder{Owner: h.Owner, Balance: h.Balance, Declared: h.Value, Taxed: timeText(h.TaxedMillis), Licences: append([]int64{}, h.Licences...)}
}

// Holders implements [api.View].
func (v *apiView) Holders(after string, limit int) ([]client.Holder, error) {
	return each(holderOf)(v.View.Holders(after, limit))
}

// Licence implements [api.View].
func (v *apiView) Licence(number int64) (*client.Licence, error) {
	l, err := found(v.View.Licence(number))
	if err != nil {
		return nil, err
	}
	shown := licenceOf(l)
	return &shown, nil
}

func licenceOf(l *market.Licence) client.Licence {
	return client.Licence{Number: l.Number, Owner: l.Owner, Resource: l.Resource.String(), Quantity: l.Quantity, Price: l.Price,
		Issued: timeText(l.IssuedMillis), Declared: timeText(l.DeclaredMillis), Lapses: timeText(l.LapsesMillis())}
}

// Licences implements [api.View].
func (v *apiView) Licences(from int64, limit int) ([]client.Licence, error) {
	return each(licenceOf)(v.View.Licences(from, limit))
}

// Epochs implements [api.View].
func (v *apiView) Epochs(before int64, limit int) ([]client.Epoch, error) {
	return each(func(e *fsm.SettledEpoch) client.Epoch {
		return client.Epoch{Number: e.Number, Epochs: e.Epochs, Tax: e.Tax, PaidOut: e.PaidOut, Each: e.Each, Lapsed: e.Lapsed, Revoked: e.Revoked,
			Floor: e.Floor, Lifted: e.Lifted, Cap: e.Cap, Lowered: e.Lowered, GiniBefore: e.GiniBefore, GiniAfter: e.GiniAfter, Holders: e.Holders,
			Declared: e.Declared, Treasury: e.Treasury, Pot: e.Pot, Index: e.Index, Time: timeText(e.TimeMillis)}
	})(v.View.Epochs(before, limit))
}

// each shows every item of a list.
func each[T, S any](show func(*T) S) func([]T, error) ([]S, error) {
	return func(list []T, err error) ([]S, error) {
		shown := make([]S, len(list))
		for i := range list {
			shown[i] = show(&list[i])
		}
		return shown, err
	}
}

// marketNow is how the market stands here, nil where there is none or no state to ask.
func (n *Node) marketNow() *fsm.MarketStanding {
	v, err := n.state.View()
	if err != nil {
		return nil
	}
	s, err := v.Market()
	if err := errors.Join(err, v.Close()); err != nil {
		return nil // the state says so where it is asked by a person
	}
	return s
}
