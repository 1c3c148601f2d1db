package market_test

import (
	"errors"
	"fmt"

	"github.com/bizra/bizra/fsm/market"
)

// Two owners get licences, one buys the other's, an hour passes and the tax is paid out.
func Example() {
	rules := market.Rules{Supply: 1_000_000 * market.Credit}
	rules.UnitPrice[market.GPU] = 2 * market.Credit // for what nobody holds
	rules.Capacity[market.GPU] = 10
	m, err := market.Found(market.NewInMemory(), rules, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	lab, shop := market.Actor{Owner: "lab", Ihsan: 0.97}, market.Actor{Owner: "shop", Ihsan: 0.96}
	for _, step := range []struct {
		by     market.Actor
		action market.Action
	}{
		{market.Actor{}, market.Grant{To: "lab", Amount: 100 * market.Credit}},
		{market.Actor{}, market.Grant{To: "shop", Amount: 100 * market.Credit}},
		{lab, market.Issue{Resource: market.GPU, Quantity: 4, Price: 20 * market.Credit}},
		{lab, market.Issue{Resource: market.GPU, Quantity: 2, Price: 10 * market.Credit}},
		{shop, market.Buy{Licence: 0, Limit: 20 * market.Credit, Price: 24 * market.Credit}},
		{lab, market.Reassess{Licence: 1, Price: 500 * market.Credit}}, // too much for one of two
	} {
		_, err := m.Apply(0, step.by, step.action)
		var refusal *market.Refusal
		if errors.As(err, &refusal) {
			fmt.Println("refused:", refusal.Reason)
		} else if err != nil {
			fmt.Println(err)
			return
		}
	}
	settled, err := m.Epoch(market.EpochMillis)
	if err != nil {
		fmt.Println(err)
		return
	}
	units, err := m.Units(market.EpochMillis, "shop", market.GPU)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("tax %d micro-credits, %d to each of %d holders; Gini %.4f; the shop may use %d gpu\n",
		settled.Tax, settled.Each, settled.After.Holders(), settled.After.Float64(), units)
	// Output:
	// refused: gini-exceeded
	// tax 1700000 micro-credits, 850000 to each of 2 holders; Gini 0.2059; the shop may use 4 gpu
}

// A Gini coefficient is exact: it is a ratio of integers, and is compared as one.
func ExampleGiniOf() {
	g, err := market.GiniOf([]int64{1 * market.Credit, 1 * market.Credit, 4 * market.Credit})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(g.Millionths(), g.Exceeds(market.GiniLimitPercent))
	// Output: 333333 false
}
