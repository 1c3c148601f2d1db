package sim

import (
	"fmt"
	"math/rand/v2"

	"github.com/bizra/bizra/fsm"
	"github.com/bizra/bizra/fsm/federation"
	"github.com/bizra/bizra/fsm/market"
	"github.com/bizra/bizra/internal/testfed"
	"github.com/bizra/bizra/pci"
)

// Markets is a [Config.Change] that gives every region a market, and so has operators register the agents.
func Markets(d *federation.Document) {
	d.Constitution.Limits.OpenRegistration = false
	testfed.Market(d)
}

// markets says whether a region of the world has one.
func (w *World) markets() bool {
	for i := range w.Fed.Document.Regions {
		if w.Fed.Document.Regions[i].Market != nil {
			return true
		}
	}
	return false
}

// traders is how many owners a region's market has, each with an agent. Each is given richer times
// the credits of the one before, and names prices that are higher by as much: what the market is to even out.
const (
	traders       = 4
	richer        = 2
	leastGrant    = 1000 * market.Credit
	leastPriceMax = 8 * market.Credit
	quantityMax   = 3 // units of one licence
)

// trade is what owners do in the regions' markets: operators register and pay them, and then they obtain
// licences, buy those of others, declare anew and give back, as is drawn. What a market does not
// allow it refuses, and that is an entry too.
type trade struct {
	world   *World
	draw    *rand.Rand
	regions map[string]*place
}

// place is the market of a region, as the workload knows it.
type place struct {
	owners []*testfed.Signer
	steps  int
}

func newTrade(w *World, draw *rand.Rand) *trade {
	return &trade{world: w, draw: draw, regions: map[string]*place{}}
}

// next signs what the owners of a region do next.
func (t *trade) next(region string) (proof *pci.Envelope) {
	p := t.regions[region]
	if p == nil {
		p = &place{}
		t.regions[region] = p
	}
	step := p.steps
	p.steps++
	switch {
	case step < traders:
		owner := t.world.Fed.Agent(fmt.Sprintf("trader-%d-of-%s", step, region), 0)
		owner.Key = testfed.Key(t.world.cfg.draw(owner.AgentID))
		p.owners = append(p.owners, owner)
		return t.world.register(region, owner)
	case step < 2*traders:
		to := step - traders
		t.world.byOperator(region, func(operator *testfed.Signer) {
			proof = operator.Sign(fsm.ActionMarketPay, map[string]any{"region": region, "to": "owner-of-" + p.owners[to].AgentID, "amount_micro": wealth(to, leastGrant)}, "")
		})
		return proof
	}
	who := t.draw.IntN(traders)
	action, data := t.step(step, market.Credit+t.draw.Int64N(wealth(who, leastPriceMax)))
	data["region"] = region
	owner := p.owners[who]
	owner.NowMillis = t.world.wallMillis()
	return owner.Sign(action, data, "")
}

// step draws what an owner does that is ready to name a price. Licences are numbered as they are
// issued, which about one step in four comes to.
func (t *trade) step(steps int, price int64) (action string, data map[string]any) {
	licence := t.draw.IntN(1 + steps/4)
	switch t.draw.IntN(8) {
	case 0, 1, 2, 3:
		r := []market.Resource{market.CPU, market.GPU}[t.draw.IntN(2)]
		return fsm.ActionMarketIssue, map[string]any{"resource": r.String(), "quantity": 1 + t.draw.IntN(quantityMax), "price_micro": price}
	case 4, 5:
		return fsm.ActionMarketBuy, map[string]any{"licence": licence, "limit_micro": price, "price_micro": price}
	case 6:
		return fsm.ActionMarketReassess, map[string]any{"licence": licence, "price_micro": price}
	default:
		return fsm.ActionMarketRelease, map[string]any{"licence": licence}
	}
}

// wealth is what an owner has more of than the first one.
func wealth(owner int, of int64) int64 {
	for range owner {
		of *= richer
	}
	return of
}
