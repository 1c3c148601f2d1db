package economy

import (
	"fmt"

	"github.com/bizra/bizra/fsm/market"
)

// How attackers behave.
const (
	timersOf       = 5 // of so many honest owners
	timers         = 3 // so many time their declarations
	raised         = 4 // times what they ask at other times
	dodgersOf      = 20
	splitUnits     = 1
	hoardTries     = 64
	searchSteps    = 12 // of the search for what the gate lets a hoarder declare
	attackerFormat = "attacker-%06d"
)

// enlist adds who attacks.
func (w *world) enlist() {
	add := func(n int, purse bool, act func(*world, *owner) error) {
		for i := range n {
			o := &owner{name: fmt.Sprintf(attackerFormat, i), attacks: true, purse: purse, act: act}
			w.owners, w.gang = append(w.owners, o), append(w.gang, o)
		}
	}
	names := max(1, int(w.cfg.Names*float64(w.cfg.Owners)))
	switch w.cfg.Attack {
	case Hoard:
		add(1, true, hoard)
	case Split:
		add(names, true, split)
	case Collude:
		add(names, true, collude)
	case Time:
		w.turn(func(i int) bool { return i%timersOf < timers })
	case Dodge:
		w.turn(func(i int) bool { return i%dodgersOf == 0 })
	case Calm:
	}
}

// turn makes attackers of some of the honest: they want to compute like others, and game the tax.
func (w *world) turn(which func(i int) bool) {
	for i, o := range w.owners {
		if which(i) {
			o.attacks = true
			w.gang = append(w.gang, o)
			if w.cfg.Attack == Dodge {
				o.act = dodge
			}
		}
	}
}

// hoard obtains all that it can pay, the cheapest first, declares it as high as the gate allows, and so on.
func hoard(w *world, o *owner) error {
	for range hoardTries {
		h, free, err := w.spendable(o)
		if err != nil {
			return err
		}
		if len(h.Licences) >= market.LicencesMax {
			break
		}
		got, err := w.grab(o, free, market.QuantityMax)
		if err != nil || !got {
			return err
		}
	}
	_, licences, _, err := w.held(o)
	if err != nil {
		return err
	}
	for i := range licences {
		if err := w.boast(o, &licences[i]); err != nil {
			return err
		}
	}
	return nil
}

// grab obtains units that nobody holds, else the licence whose unit is cheapest, and declares what it paid or what it may.
func (w *world) grab(o *owner, free, most int64) (bool, error) {
	left := w.market.Rules().Capacity[resource] - w.market.Head().Issued[resource]
	if take := min(left, free/unitPrice, most); take > 0 {
		for _, price := range w.prices(o, take*unitPrice) {
			did, err := w.step(o, market.Issue{Resource: resource, Quantity: take, Price: price})
			if did || err != nil {
				return did, err
			}
		}
		return false, nil
	}
	var best offer
	found := false
	w.offers.tree.Scan(func(at offer) bool {
		if w.named(at.owner).attacks || at.price > free || at.quantity > most {
			return true
		}
		best, found = at, true
		return false
	})
	if !found {
		return false, nil
	}
	for _, price := range w.prices(o, best.price) {
		did, err := w.step(o, market.Buy{Licence: best.number, Limit: best.price, Price: price})
		if did || err != nil {
			return did, err
		}
	}
	return false, nil
}

// prices are those to try for one more licence: what it is worth, then what leads to the mean, then the least.
func (w *world) prices(o *owner, worth int64) []int64 {
	h, err := w.holder(o)
	if err != nil {
		return nil
	}
	least, sure := w.market.Admission()
	return []int64{bounded(worth), bounded(sure - h.Value), bounded(least + least/20 - h.Value)}
}

// boast raises the price of a licence as far as the gate and the purse allow.
func (w *world) boast(o *owner, l *market.Licence) error {
	h, free, err := w.spendable(o)
	if err != nil {
		return err
	}
	low, high := l.Price, bounded(min(market.ValueMax-(h.Value-l.Price), l.Price+max(0, free)))
	for range searchSteps {
		middle := low + (high-low)/2
		if middle <= low {
			break
		}
		did, err := w.step(o, market.Reassess{Licence: l.Number, Price: middle})
		if err != nil {
			return err
		}
		if did {
			low = middle
		} else {
			high = middle
		}
	}
	if low > l.Price || w.now-l.DeclaredMillis < renewMillis {
		return nil
	}
	_, err = w.step(o, market.Reassess{Licence: l.Number, Price: l.Price})
	return err
}

// split holds one licence under each name, at the least that it may declare, for the payout.
func split(w *world, o *owner) error {
	h, licences, _, err := w.held(o)
	if err != nil {
		return err
	}
	least, _ := w.market.Admission()
	if len(licences) == 0 {
		_, err := w.grab(o, h.Balance/2, splitUnits)
		return err
	}
	l := &licences[0]
	if price := bounded(least + least/20); l.Price != price {
		_, err = w.step(o, market.Reassess{Licence: l.Number, Price: price})
	}
	return err
}

// collude hoards, each of the ring up to the mean, and shares what is left of the purse with who has least.
func collude(w *world, o *owner) error {
	for range triesPerHour {
		h, free, err := w.spendable(o)
		if err != nil {
			return err
		}
		_, sure := w.market.Admission()
		if len(h.Licences) >= market.LicencesMax || h.Value >= sure && len(h.Licences) > 0 {
			break
		}
		got, err := w.grab(o, free, max(1, w.report.Capacity/int64(len(w.gang))))
		if err != nil || !got {
			return err
		}
	}
	_, licences, _, err := w.held(o)
	if err != nil {
		return err
	}
	for i := range licences {
		if l := &licences[i]; w.now-l.DeclaredMillis >= renewMillis {
			if _, err := w.step(o, market.Reassess{Licence: l.Number, Price: l.Price}); err != nil {
				return err
			}
		}
	}
	return nil
}

// dodge wants to compute like the honest, and declares no more than it must.
func dodge(w *world, o *owner) error {
	if err := honest(w, o); err != nil {
		return err
	}
	h, licences, _, err := w.held(o)
	if err != nil {
		return err
	}
	least, _ := w.market.Admission()
	for i := range licences {
		l := &licences[i]
		others := h.Value - l.Price
		if price := bounded(least + least/20 - others); price < l.Price {
			did, err := w.step(o, market.Reassess{Licence: l.Number, Price: price})
			if err != nil {
				return err
			}
			if did {
				h.Value = others + price
			}
		}
	}
	return nil
}

// dodges says whether a holder that sees a buyer coming asks more in time, and takes it back at once.
func (w *world) dodges(seller *owner, of offer) bool {
	if w.cfg.Attack != Dodge || !seller.attacks {
		return false
	}
	did, err := w.step(seller, market.Reassess{Licence: of.number, Price: bounded(2 * of.price)})
	if err != nil || !did {
		return false
	}
	if _, err := w.step(seller, market.Reassess{Licence: of.number, Price: of.price}); err != nil {
		return false
	}
	w.tally.dodged++
	return true
}

// around is what attackers do just before the epoch.
func (w *world) around() error {
	if w.cfg.Attack != Time {
		return nil
	}
	w.now = int64(w.hour+1)*hourMillis - 1
	return w.scale(func(price int64) int64 { return bounded(price * raised) })
}

// after is what they do just after it.
func (w *world) after() error {
	if w.cfg.Attack != Time {
		return nil
	}
	return w.scale(func(price int64) int64 { return bounded(price / raised) })
}

// scale changes all prices of the attackers, in rounds, since each may go only as far as the others have come.
func (w *world) scale(to func(int64) int64) error {
	for _, o := range w.gang {
		_, licences, _, err := w.held(o)
		if err != nil {
			return err
		}
		for i := range licences {
			if _, err := w.step(o, market.Reassess{Licence: licences[i].Number, Price: to(licences[i].Price)}); err != nil {
				return err
			}
		}
	}
	return nil
}
