package sim

import (
	"fmt"
	"math"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/market"
)

// equality: after each epoch of a region's market the Gini coefficient of declared value is within its limit, and
// what a replica keeps in memory of it is what its records give.
type equality struct {
	promise
	look func(*fsm.View) ([]fsm.SettledEpoch, error)
}

func settled(v *fsm.View) ([]fsm.SettledEpoch, error) { return v.Epochs(math.MaxInt64, fsm.PageMax) }

func (e *equality) audit() error {
	return e.auditor.eachMarket(func(n *Node, region string, v *fsm.View) error {
		epochs, err := e.look(v)
		if err != nil {
			return err
		}
		for i := range epochs {
			e.checks.Add(1)
			if after := epochs[i].GiniAfter; after > market.GiniLimitPercent*1e4 {
				e.breaks("%s has epoch %d of %s leave a Gini of %.6f", n.Name(), epochs[i].Number, region, float64(after)/1e6)
			}
		}
		held, err := holdings(v)
		if err != nil {
			return err
		}
		s, err := v.Market()
		if err != nil {
			return err
		}
		if gini, err := market.GiniOf(held.values); err != nil || gini != s.Gini {
			e.breaks("%s says that the Gini of %s is %v, its records give %v: %v", n.Name(), region, s.Gini.Float64(), gini.Float64(), err)
		}
		return nil
	})
}

// held is what the records of a market's owners say in all.
type held struct {
	balances int64
	values   []int64 // declared, of those with a licence
}

func holdings(v *fsm.View) (held, error) {
	var h held
	for after := ""; ; {
		page, err := v.Holders(after, fsm.PageMax)
		if err != nil {
			return h, fmt.Errorf("read the holders: %w", err)
		}
		for i := range page {
			h.balances += page[i].Balance
			if len(page[i].Licences) > 0 {
				h.values = append(h.values, page[i].Value)
			}
		}
		if len(page) < fsm.PageMax {
			return h, nil
		}
		after = page[len(page)-1].Owner
	}
}

// eachMarket lends each ledger of a region with a market that an honest node has.
func (a *Auditor) eachMarket(fn func(n *Node, region string, v *fsm.View) error) error {
	return a.each(func(region string) error {
		if r, ok := a.world.Fed.Document.Region(region); !ok || r.Market == nil || a.world.lies(region) {
			return nil
		}
		return a.holders(region, func(n *Node, v *fsm.View) error {
			if size, err := v.Ledger().Size(); err != nil || size == 0 {
				return err // a copy that has nothing yet
			}
			return fn(n, region, v)
		})
	})
}
