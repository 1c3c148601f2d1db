package economy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/bizra/bizra/fsm/market"
)

// How honest owners behave.
const (
	valueSpread   = 0.6  // of the logarithm of what a unit is worth to an owner for an hour
	horizonHours  = 8.0  // for how many hours' worth an owner would sell, which costs 0.4 hours' worth of tax an hour
	reserveHours  = 12.0 // of tax that an owner keeps in credits
	renewMillis   = 18 * hourMillis
	cheaper       = 0.25 // of what it would ask, an owner asks for units that it does not need now
	triesPerHour  = 6
	unitsOfOffer  = 8   // an owner obtains so many at a time at most
	offersSeen    = 200 // of those whose units are cheapest
	offersTried   = 64
	tooLarge      = 4 // times what an owner wants
	exchangeTries = 8
)

// owner is one name in the market, and who is behind it.
type owner struct {
	name    string
	value   float64 // micro-credits that a unit is worth to it for an hour; 0 to an attacker
	demand  float64 // units that it wants on average
	wants   int64   // units that it wants this hour
	given   int64   // micro-credits granted
	bought  int64   // micro-credits obtained from others outside the market, less those sold
	attacks bool
	purse   bool // it brings an attacker's money
	act     func(w *world, o *owner) error

	unitHours int64 // units held at the ends of hours, added up
}

// draw makes the owners of a run.
func (w *world) draw() {
	for i := range w.cfg.Owners {
		o := &owner{name: fmt.Sprintf("owner-%06d", i), value: market.Credit * math.Exp(valueSpread*w.rng.NormFloat64()), act: honest}
		o.demand = 1 + 7*math.Pow(w.rng.Float64(), 2) // many want little
		w.owners = append(w.owners, o)
	}
	w.enlist()
}

// want draws what an owner wants in an hour.
func (o *owner) want(rng *rand.Rand, load float64) int64 {
	return int64(o.demand*load*(0.5+rng.Float64()) + 0.5)
}

// asks is what an owner declares for units that it uses.
func (o *owner) asks(units int64) int64 {
	return bounded(int64(o.value * horizonHours * float64(units)))
}

func bounded(price int64) int64 { return min(max(price, market.Credit), market.ValueMax) }

// honest is an owner that wants to compute: it holds what it wants, asks little for what it does not need, renews, and
// obtains what it lacks, at a price that it is worth, from the market or from who asks least.
func honest(w *world, o *owner) error {
	h, licences, units, err := w.held(o)
	if err != nil {
		return err
	}
	spare := units - o.wants
	for i := range licences {
		l := &licences[i]
		if !w.cfg.KeepLots && l.Quantity > unitsOfOffer && l.Quantity > tooLarge*o.wants { // it cannot be taken apart, but be had again in part
			if _, err := w.step(o, market.Release{Licence: l.Number}); err != nil {
				return err
			}
			h.Value -= l.Price
			spare -= l.Quantity
			units -= l.Quantity
			continue
		}
		price := o.asks(l.Quantity)
		if l.Quantity <= spare {
			price = bounded(int64(float64(price) * cheaper))
			spare -= l.Quantity
		}
		if price == l.Price && w.now-l.DeclaredMillis < renewMillis {
			continue
		}
		if err := w.declare(o, price, h.Value-l.Price, func(price int64) market.Action { return market.Reassess{Licence: l.Number, Price: price} }); err != nil {
			return err
		}
	}
	for range triesPerHour {
		if units >= o.wants {
			return nil
		}
		got, err := w.obtain(o, o.wants-units)
		if err != nil || got == 0 {
			return err
		}
		units += got
	}
	return nil
}

// spendable is what an owner may spend and still pay tax for a time.
func (w *world) spendable(o *owner) (h market.Holder, micro int64, err error) {
	h, err = w.holder(o)
	return h, h.Balance - int64(float64(h.Value)*reserveHours*market.TaxPercentPerHour/100), err
}

// obtain gets an owner some units at a price that they are worth to it; 0 if it finds none.
func (w *world) obtain(o *owner, units int64) (int64, error) {
	h, free, err := w.spendable(o)
	if err != nil || len(h.Licences) >= market.LicencesMax {
		return 0, err
	}
	units = min(units, unitsOfOffer)
	left := w.market.Rules().Capacity[resource] - w.market.Head().Issued[resource]
	if take := min(units, left, free/unitPrice); take > 0 && o.value*horizonHours >= unitPrice {
		return take, w.declare(o, o.asks(take), h.Value, func(price int64) market.Action {
			return market.Issue{Resource: resource, Quantity: take, Price: price}
		})
	}
	for _, at := range w.cheapest(o, units, free) {
		if w.dodges(w.named(at.owner), at) {
			continue
		}
		return at.quantity, w.declare(o, o.asks(min(at.quantity, units)), h.Value, func(price int64) market.Action {
			return market.Buy{Licence: at.number, Limit: at.price, Price: price}
		})
	}
	return 0, nil
}

// cheapest lists the offers that an owner would take, the cheapest use of a unit first. A licence cannot be taken apart, so of a large one it counts
// the units that it wants.
func (w *world) cheapest(o *owner, units, free int64) []offer {
	type use struct {
		offer
		perUse float64
	}
	var list []use
	seen := 0
	w.offers.tree.Scan(func(at offer) bool {
		seen++
		perUse := float64(at.price) / float64(min(at.quantity, units))
		if at.owner != o.name && at.price <= free && perUse <= o.value*horizonHours {
			list = append(list, use{at, perUse})
		}
		return at.perUnit <= o.value*horizonHours && seen < offersSeen
	})
	slices.SortStableFunc(list, func(a, b use) int { return compare(a.perUse, b.perUse) })
	best := make([]offer, min(len(list), offersTried))
	for i := range best {
		best[i] = list[i].offer
	}
	return best
}

func (w *world) named(name string) *owner {
	var i int
	if _, err := fmt.Sscanf(name, "owner-%d", &i); err == nil {
		return w.owners[i]
	}
	if _, err := fmt.Sscanf(name, "attacker-%d", &i); err != nil {
		panic("economy: an owner has a name that no owner was given")
	}
	return w.gang[i]
}

// declare takes a step that declares a price, beside others that the owner has declared. Where the market finds that too much or too
// little, the owner declares what every newcomer may, if that leaves anything for this licence.
func (w *world) declare(o *owner, price, others int64, step func(price int64) market.Action) error {
	did, err := w.step(o, step(price))
	if did || err != nil {
		return err
	}
	least, sure := w.market.Admission()
	second := bounded(sure - others)
	if price+others < least {
		second = bounded(least - others + least/20)
	}
	if second == price || second > price && price+others >= least {
		return nil
	}
	_, err = w.step(o, step(second))
	return err
}

// exchange has owners that are short of credits buy some from others, outside of the market.
func (w *world) exchange() error {
	for _, o := range w.owners[:w.cfg.Owners] {
		h, err := w.holder(o)
		if err != nil {
			return err
		}
		short := int64(startMicro/4) - h.Balance
		for i := 0; short > 0 && i < exchangeTries; i++ {
			from := w.owners[w.rng.IntN(w.cfg.Owners)]
			fh, err := w.holder(from)
			if err != nil {
				return err
			}
			amount := min(short, fh.Balance-startMicro)
			if from == o || amount < market.Credit {
				continue
			}
			did, err := w.step(from, market.Pay{To: o.name, Amount: amount})
			if err != nil {
				return err
			}
			if did {
				o.bought += amount
				from.bought -= amount
				short -= amount
			}
		}
	}
	return nil
}
